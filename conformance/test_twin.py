"""Twins: what a device says, what applications want, and the task in between."""

import json
import time

import pytest

from testbed.api import DELETED, DONE, READY

pytestmark = pytest.mark.every_shape


def twin(api, device) -> dict:
    answer = api.get(f"/devices/{device.device_id}/twin")
    assert answer.status_code == 200, answer.text
    return answer.json()


def patch(api, device, *, if_match: str | None = None, **body):
    headers = {"If-Match": if_match} if if_match else {}
    return api.patch(f"/devices/{device.device_id}/twin", json=body, headers=headers)


def values(side: dict) -> dict:
    return {name: entry["value"] for name, entry in side["resources"].items()}


def report(device, **reported) -> None:
    number = time.monotonic_ns() % 2**32
    body = json.dumps({"reported": reported})
    assert device.publish(f"dev/{device.sn}/evt", body, properties={"dev_event_id": number}) == 0


def wait_for(check, seconds: float = 5.0):
    deadline = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_a_device_without_a_twin_has_an_empty_one(api, identity):
    answer = api.get(f"/devices/{identity.device_id}/twin")
    assert answer.headers["etag"] == '"r0-d0"'
    assert answer.json() == {
        "device_id": identity.device_id,
        "sn": identity.sn,
        "reported": {"version": 0, "resources": {}},
        "desired": {"version": 0, "resources": {}},
    }


def test_a_wish_becomes_a_task_and_what_the_device_then_says_is_the_value(api, device):
    made = patch(api, device, desired={"led": {"on": True}}).json()
    assert values(made["desired"]) == {"led": {"on": True}} and made["desired"]["version"] == 1
    task = made["desired"]["resources"]["led"]["task_id"]
    announced = device.expect("tsk")
    assert (announced.task_id, announced["method"], announced["method_code"]) == (task, "twin.set", "65000")
    taken = device.take(task)
    assert json.loads(taken.body) == {"resource": "led", "value": {"on": True}, "version": 1}
    report(device, led={"on": True})
    device.finish(task)
    assert api.settled(task, DONE)
    assert wait_for(lambda: values(twin(api, device)["reported"]) == {"led": {"on": True}})


def test_a_newer_wish_takes_the_place_of_one_that_was_not_taken(api, identity):
    first = patch(api, identity, desired={"led": 1}).json()["desired"]["resources"]["led"]["task_id"]
    second = patch(api, identity, desired={"led": 2}).json()["desired"]["resources"]["led"]["task_id"]
    assert api.status(first) == DELETED and api.status(second) == READY
    assert api.task(first)["timeline"][-1]["cause"] == "superseded"
    patch(api, identity, desired={"led": None})
    assert api.status(second) == DELETED
    assert values(twin(api, identity)["desired"]) == {}


def test_a_wish_that_was_taken_is_not_taken_back(api, device):
    first = patch(api, device, desired={"led": 1}).json()["desired"]["resources"]["led"]["task_id"]
    device.expect("tsk")
    device.take(first)
    patch(api, device, desired={"led": 2})
    device.finish(first)
    assert api.settled(first, DONE)


def test_a_write_on_condition_is_made_only_on_the_version_that_was_read(api, identity):
    assert patch(api, identity, reported={"name": "lamp"}).json()["reported"]["version"] == 1
    assert patch(api, identity, if_match='"r0-d0"', desired={"led": 1}).status_code == 412
    assert patch(api, identity, if_match='"d0"', desired={"led": 1}).status_code == 200
    assert patch(api, identity, if_match='"d0"', desired={"led": 2}).status_code == 412
    assert patch(api, identity, if_match='"r1-d1"', desired={"led": 2}).headers["etag"] == '"r1-d2"'
    assert values(twin(api, identity)["desired"]) == {"led": 2}


def test_reported_values_have_a_history(api, device):
    for value in (20, 21.5, "warm"):
        patch(api, device, reported={"temperature": value})
    patch(api, device, reported={"temperature": None})
    path = f"/devices/{device.device_id}/twin/history"
    history = api.get(path, params={"resource": "temperature"}).json()
    assert [entry["value"] for entry in history] == [None, "warm", 21.5, 20]
    assert [entry["version"] for entry in history] == [4, 3, 2, 1]
    older = api.get(path, params={"resource": "temperature", "before": 3, "limit": 1}).json()
    assert [entry["value"] for entry in older] == [21.5]
    assert values(twin(api, device)["reported"]) == {}


@pytest.mark.parametrize(
    "body",
    [
        {"desired": {"": 1}},
        {"desired": {"a b": 1}},
        {"desired": {"x" * 129: 1}},
        {"reported": {'a"b': 1}},
        {"desired": {"led": "x" * 17_000}},
        {"desired": {"led": 1}, "ttl": 0},
        {"desired": {"led": 1}, "priority": 10},
        {"desired": [1]},
        {"desired": {f"r{n}": n for n in range(257)}},
    ],
)
def test_what_is_out_of_range_changes_nothing(api, identity, body):
    assert patch(api, identity, **body).status_code == 422
    assert twin(api, identity)["desired"] == {"version": 0, "resources": {}}


def test_a_twin_needs_the_rights_and_the_organisation(api, other_api, server, new_api, identity):
    assert other_api.get(f"/devices/{identity.device_id}/twin").status_code == 404
    assert patch(other_api, identity, desired={"led": 1}).status_code == 404
    reader = new_api(server, api.key_with(["devices:read"]))
    assert patch(reader, identity, desired={"led": 1}).status_code == 403
    assert patch(reader, identity, reported={"led": 1}).status_code == 403
