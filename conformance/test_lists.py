"""Lists of tasks: pages, filters, rows (rest-api.md "Tasks")."""

import datetime
import time

import pytest

from testbed.api import DONE, PENDING, READY, is_problem


def test_pages_hold_every_task_once_newest_first(api, identity):
    created = [api.create(identity, ext_task_id=f"p-{index}") for index in range(25)]
    seen = []
    for page, length in ((1, 10), (2, 10), (3, 5), (4, 0)):
        params = {"device_id": identity.device_id, "page": page, "size": 10}
        answer = api.get("/device-tasks", params=params).json()
        assert {name: answer[name] for name in ("total", "page", "size", "pages")} == {
            "total": 25,
            "page": page,
            "size": 10,
            "pages": 3,
        }
        assert len(answer["items"]) == length
        seen += [row["id"] for row in answer["items"]]
    assert seen == created[::-1]


def test_a_row_has_the_fields_of_the_contract(api, device):
    task_id = api.create(device, ext_task_id="row", method_code=7, priority=2, ttl=9)
    device.ack(task_id)
    api.settled(task_id, PENDING)
    device.take(task_id)
    (row,) = api.get("/device-tasks", params={"device_id": device.device_id}).json()["items"]
    expected = {
        "id": task_id,
        "ext_task_id": "row",
        "device_id": device.device_id,
        "method_code": 7,
        "priority": 2,
        "ttl": 9,
        "status": 2,
    }
    assert {name: row[name] for name in expected} == expected
    assert "org_id" in row
    for name in ("created_at", "pending_at", "locked_at"):
        assert abs(datetime.datetime.fromisoformat(row[name]).timestamp() - time.time()) < 10


def test_the_default_page_is_the_first_of_50(api, identity):
    for _ in range(51):
        api.create(identity)
    answer = api.get("/device-tasks", params={"device_id": identity.device_id}).json()
    assert (answer["page"], answer["size"], len(answer["items"]), answer["pages"]) == (1, 50, 50, 2)


def test_filters_narrow_the_list(api, device):
    first = api.create(device, ext_task_id="one")
    time.sleep(1.1)
    second = api.create(device, ext_task_id="two")
    device.take(second)
    device.finish(second)
    boundary = api.task(second)["created_at"]

    def listed(**params) -> list[str]:
        answer = api.get("/device-tasks", params={"device_id": device.device_id, **params})
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["items"]]

    assert listed(status=DONE) == [second] and listed(status=READY) == [first]
    assert listed(ext_task_id="one") == [first] and listed(ext_task_id="none") == []
    assert listed(created_after=boundary) == [second]
    assert listed(created_before=boundary) == [first]
    as_time = datetime.datetime.fromtimestamp(boundary, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert listed(created_after=as_time) == [second]


@pytest.mark.parametrize(
    "params",
    [{"page": 0}, {"page": "x"}, {"size": 0}, {"size": 100_000}, {"status": 8}, {"device_id": "x"}],
    ids=str,
)
def test_list_parameters_out_of_their_range_are_refused(api, params):
    assert is_problem(api.get("/device-tasks", params=params), 422)


def test_a_slash_at_the_end_makes_no_difference(api, identity):
    body = {"ext_task_id": "slash", "device_id": identity.device_id}
    task_id = api.post("/device-tasks/", json=body).json()["id"]
    for path in ("/device-tasks", f"/device-tasks/{task_id}", "/devices"):
        plain = api.get(path, params={"device_id": identity.device_id})
        slash = api.get(f"{path}/", params={"device_id": identity.device_id})
        assert (plain.status_code, slash.status_code) == (200, 200), path
        assert plain.json() == slash.json()
    assert api.delete(f"/device-tasks/{task_id}/").status_code == 200
    answer = api.put(f"/devices/{identity.device_id}/", json={"tag": "a", "value": "b"})
    assert answer.status_code == 200, answer.text
