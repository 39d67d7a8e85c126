"""The REST API as applications use it (rest-api.md)."""

import datetime
import json
import socket
import ssl
import threading
import time
import uuid

import httpx
import pytest

from api import DELETED, DONE, READY, Api, is_problem

UNKNOWN = "01901f2e-3d4c-7b5a-8877-665544332211"


class Answering(threading.Thread):
    """Runs each announced task of a device at once, or after a delay."""

    def __init__(self, device, delay: float = 0.0, status_code: int = 200):
        super().__init__(daemon=True)
        self.device, self.delay, self.status_code = device, delay, status_code
        self.start()

    def run(self) -> None:
        while True:
            try:
                task_id = self.device.expect("tsk", seconds=30).task_id
                taken = self.device.take(task_id)
                time.sleep(self.delay)
                self.device.finish(task_id, self.status_code, taken.body)
            except AssertionError:
                return  # the test has ended, and with it the connection


# Waiting.


def test_one_call_brings_the_answer_of_the_device(api, device):
    Answering(device)
    answer = api.request_task(device, wait=20, payload={"cl": 5})
    assert answer.status_code == 200
    task = answer.json()
    assert task["status"] == DONE and task["results"][0]["result"] == {"cl": 5}
    assert task == api.task(task["id"]), "as GET would give it"


def test_a_failure_ends_the_wait_too(api, device):
    Answering(device, status_code=500)
    answer = api.request_task(device, wait=20)
    assert answer.status_code == 200 and answer.json()["status_name"] == "FAILED"


def test_when_the_wait_ends_before_the_task_202_says_where_to_ask(api, identity):
    began = time.monotonic()
    answer = api.request_task(identity, wait=1)
    assert 0.9 <= time.monotonic() - began < 4
    assert answer.status_code == 202 and answer.json()["status"] == READY
    task_id = answer.json()["id"]
    location = httpx.URL(api.root).join(answer.headers["location"])
    assert location.path.rstrip("/") == f"/api/v1/device-tasks/{task_id}"
    assert api.get(location).json()["id"] == task_id


def test_a_task_can_be_waited_for_later_and_by_many(api, server, new_api, device):
    task_id = api.create(device)
    answers = []
    callers = [new_api(server) for _ in range(8)]
    waits = [
        threading.Thread(target=lambda caller=caller: answers.append(caller.task(task_id, wait=20)))
        for caller in callers
    ]
    for wait in waits:
        wait.start()
    time.sleep(0.3)
    device.take(task_id)
    device.finish(task_id, 206, '{"part":1}', ext_id=1)
    time.sleep(0.3)
    assert not answers, "a partial result ends no wait"
    device.finish(task_id, 200, '{"all":1}', ext_id=2)
    for wait in waits:
        wait.join(10)
    assert [answer["status"] for answer in answers] == [DONE] * 8
    assert {len(answer["results"]) for answer in answers} == {2}


def test_waiting_for_what_is_final_takes_no_time(api, device):
    task_id = api.create(device)
    device.take(task_id)
    device.finish(task_id)
    began = time.monotonic()
    assert api.task(task_id, wait=30)["status"] == DONE
    assert time.monotonic() - began < 2


def test_a_deletion_ends_the_wait(api, server, new_api, identity):
    task_id = api.create(identity)
    threading.Timer(0.5, lambda: new_api(server).delete(f"/device-tasks/{task_id}")).start()
    assert api.task(task_id, wait=20)["status"] == DELETED


def test_a_wait_of_0_answers_at_once(api, identity):
    assert api.request_task(identity, wait=0).status_code == 202
    assert api.get(f"/device-tasks/{api.create(identity)}", params={"wait": 0}).status_code == 202


@pytest.mark.parametrize("wait", ["61", "-1", "x", "1e99", ""])
def test_a_wait_out_of_its_range_makes_no_task(api, identity, wait):
    body = {"ext_task_id": "w", "device_id": identity.device_id}
    assert is_problem(api.post("/device-tasks", json=body, params={"wait": wait}), 422)
    assert api.get("/device-tasks", params={"device_id": identity.device_id}).json()["total"] == 0


def test_who_hangs_up_while_waiting_still_made_the_task(api, identity):
    with pytest.raises(httpx.ReadTimeout):
        body = {"ext_task_id": "hung-up", "device_id": identity.device_id, "ttl": 5}
        api.post("/device-tasks", json=body, params={"wait": 30}, timeout=0.5)
    listed = api.get("/device-tasks", params={"device_id": identity.device_id}).json()
    assert [(row["ext_task_id"], row["status"]) for row in listed["items"]] == [("hung-up", READY)]


# Idempotency.


def test_the_same_key_and_body_make_one_task(api, identity):
    key = uuid.uuid4().hex
    first = api.request_task(identity, key=key, payload={"a": 1})
    assert "idempotent-replayed" not in first.headers
    for _ in range(3):
        again = api.request_task(identity, key=key, payload={"a": 1})
        assert again.status_code == 200 and again.json() == first.json()
        assert again.headers["idempotent-replayed"] == "true"
    assert api.get("/device-tasks", params={"device_id": identity.device_id}).json()["total"] == 1


def test_the_same_key_with_another_body_is_refused(api, identity):
    key = uuid.uuid4().hex
    api.request_task(identity, key=key, payload={"a": 1})
    assert is_problem(api.request_task(identity, key=key, payload={"a": 2}), 422)
    assert api.get("/device-tasks", params={"device_id": identity.device_id}).json()["total"] == 1


def test_many_at_once_with_one_key_make_one_task(api, server, new_api, identity):
    key, answers = uuid.uuid4().hex, []
    callers = [new_api(server) for _ in range(8)]
    calls = [
        threading.Thread(target=lambda caller=caller: answers.append(caller.request_task(identity, key=key)))
        for caller in callers
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join(20)
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 7


def test_a_repeat_that_waits_gets_the_answer_of_the_first(api, device):
    Answering(device, delay=0.5)
    key = uuid.uuid4().hex
    first = api.request_task(device, key=key).json()
    again = api.request_task(device, key=key, wait=20)
    assert (again.json()["id"], again.json()["status"]) == (first["id"], DONE)
    assert again.headers["idempotent-replayed"] == "true"


def test_keys_of_two_organisations_do_not_meet(api, server, other_api, identity, tmp_path):
    key, theirs = uuid.uuid4().hex, other_api.register(tmp_path)
    ours = api.request_task(identity, key=key).json()["id"]
    answer = other_api.request_task(theirs, key=key)
    assert answer.status_code == 200 and answer.json()["id"] != ours


@pytest.mark.parametrize("key", ["x" * 300, ""])
def test_an_idempotency_key_out_of_its_range_is_refused(api, identity, key):
    body = {"ext_task_id": "k", "device_id": identity.device_id}
    answer = api.post("/device-tasks", json=body, headers={"Idempotency-Key": key})
    assert is_problem(answer, 422)


# What a task looks like.


def test_a_task_has_the_fields_of_the_contract(api, identity):
    task_id = api.create(identity, ext_task_id="order-7", method_code=51, priority=3, ttl=10, payload={"a": 1})
    task = api.task(task_id)
    now = int(time.time())
    assert task["id"] == task_id and now - 5 <= task["created_at"] <= now
    assert task["header"] == {
        "ext_task_id": "order-7",
        "device_id": identity.device_id,
        "method_code": 51,
        "priority": 3,
        "ttl": 10,
    }
    assert (task["status"], task["status_name"], task["results"]) == (READY, "READY", [])
    assert task["pending_at"] is None and task["locked_at"] is None
    assert [change["status_name"] for change in task["timeline"]] == ["READY"]


def test_the_answer_to_a_creation_is_id_and_time(api, identity):
    answer = api.request_task(identity).json()
    assert set(answer) == {"id", "created_at"}
    assert isinstance(answer["created_at"], int) and str(uuid.UUID(answer["id"])) == answer["id"]


def test_defaults_are_those_of_the_contract(api, identity):
    body = {"ext_task_id": "d", "device_id": identity.device_id}
    task = api.task(api.post("/device-tasks", json=body).json()["id"])
    assert task["header"] == {**body, "method_code": 20, "priority": 0, "ttl": 1}


def test_a_device_may_be_named_by_its_serial_number(api, identity):
    answer = api.post("/device-tasks", json={"ext_task_id": "s", "device_sn": identity.sn})
    assert answer.status_code == 200
    assert api.task(answer.json()["id"])["header"]["device_id"] == identity.device_id


def test_a_ttl_of_0_is_push_only_and_lives_a_minute(api, device):
    task_id = api.create(device, ttl=0)
    message = device.expect("tsk")
    assert message.task_id == task_id and 55 <= message.expiry <= 60
    assert api.task(task_id)["header"]["ttl"] == 1, "what is left, rounded up"


def test_unknown_fields_are_ignored(api, identity):
    assert api.request_task(identity, colour="red").status_code == 200


# Deleting.


def test_a_deletion_answers_with_id_and_time_and_shows(api, identity):
    task_id = api.create(identity)
    answer = api.delete(f"/device-tasks/{task_id}")
    assert answer.status_code == 200 and answer.json()["id"] == task_id
    assert abs(answer.json()["deleted_at"] - time.time()) < 5
    assert api.status(task_id) == DELETED and api.steps(task_id) == ["READY", "DELETED"]
    again = api.delete(f"/device-tasks/{task_id}")
    assert again.status_code == 200 and again.json() == answer.json()


def test_a_finished_task_can_be_deleted(api, device):
    task_id = api.create(device)
    device.take(task_id)
    device.finish(task_id)
    assert api.delete(f"/device-tasks/{task_id}").status_code == 200
    assert api.steps(task_id) == ["READY", "LOCK", "DONE", "DELETED"]


# Lists.


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


# Devices.


def wait_until_online(api, device, seconds: float = 5.0) -> None:
    """That a device connected is stored a moment after it did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        (row,) = api.get("/devices", params={"device_id": device.device_id}).json()
        if row["connection"] and row["connection"]["last_checked_result"]:
            return
        time.sleep(0.02)
    raise AssertionError(f"{device.sn} does not show as online")


def test_a_device_has_the_fields_of_the_contract(api, device):
    wait_until_online(api, device)
    assert "tag_id" in api.put(f"/devices/{device.device_id}", json={"tag": "site", "value": "Riga"}).json()
    (row,) = api.get("/devices", params={"device_id": device.device_id}).json()
    assert (row["device_id"], row["sn"], row["device_gauges"]) == (device.device_id, device.sn, [])
    assert row["device_tags"] == [{"tag": "site", "value": "Riga"}] and "id" in row
    connection = row["connection"]
    assert (connection["device_id"], connection["client_id"]) == (device.device_id, device.sn)
    assert connection["last_checked_result"] is True
    for name in ("connected_at", "checked_at"):
        datetime.datetime.fromisoformat(connection[name])


def test_devices_are_found_by_serial_number_tag_and_presence(api, server, connect, identity, tmp_path):
    tag = uuid.uuid4().hex
    tagged = [api.register(tmp_path, tags=[{"tag": tag, "value": str(index)}]) for index in range(3)]
    connect(server, tagged[1])

    def found(**params) -> list[int]:
        return sorted(row["device_id"] for row in api.get("/devices", params=params).json())

    everyone = sorted(one.device_id for one in tagged)
    assert found(sn=identity.sn) == [identity.device_id]
    assert found(tag=tag) == everyone
    wait_until_online(api, tagged[1])
    assert found(tag=tag, online="true") == [tagged[1].device_id]
    assert found(tag=tag, online="false") == sorted([tagged[0].device_id, tagged[2].device_id])
    assert len(found(tag=tag, page=1, size=2)) == 2 and len(found(tag=tag, page=2, size=2)) == 1


def test_a_second_registration_of_a_serial_number_is_a_conflict(api, other_api, identity):
    assert is_problem(api.post("/devices", json={"sn": identity.sn}), 409)
    assert is_problem(other_api.post("/devices", json={"sn": identity.sn}), 409)
    assert is_problem(api.post("/devices", json={"device_id": identity.device_id}), 409)


def test_serial_number_and_number_are_made_where_none_is_given(api):
    first, second = api.post("/devices", json={}).json(), api.post("/devices", json={}).json()
    for made in (first, second):
        assert made["device"]["sn"] and made["device"]["device_id"] >= 1
        assert "PRIVATE KEY" in made["private_key_pem"]
        assert made["certificate_pem"].count("BEGIN CERTIFICATE") == 2 and "BEGIN CERTIFICATE" in made["ca_pem"]
    assert first["device"]["device_id"] != second["device"]["device_id"]
    assert "private_key_pem" not in json.dumps(api.get("/devices", params={"sn": first["device"]["sn"]}).json())


@pytest.mark.parametrize("sn", ["", "a/b", "a.b", "a b", "+", "#", "ü", "x" * 65])
def test_a_serial_number_outside_its_alphabet_is_refused(api, sn):
    assert is_problem(api.post("/devices", json={"sn": sn}), 422)


def test_a_retired_device_is_gone_with_its_tasks_for_callers(api, identity):
    assert api.delete(f"/devices/{identity.device_id}").status_code in (200, 204)
    assert api.get("/devices", params={"device_id": identity.device_id}).json() == []
    assert is_problem(api.request_task(identity), 404)
    assert is_problem(api.delete(f"/devices/{identity.device_id}"), 404)


# Who calls.


@pytest.fixture
def other_api(api, server, new_api):
    """A caller of another organisation, with all rights there but those over keys."""
    rights = ["tasks:read", "tasks:write", "devices:read", "devices:write"]
    return with_rights(api, server, new_api, f"org-{uuid.uuid4().hex[:8]}", rights)


def with_rights(api, server, new_api, org: str, rights: list[str]) -> Api:
    answer = api.post("/api-keys", json={"org": org, "name": "conformance", "rights": rights})
    assert answer.status_code in (200, 201), answer.text
    return new_api(server, answer.json()["key"])


def every_call(identity, task_id: str) -> list[tuple[str, str, dict | None, str]]:
    """Method, path, body and the right that it needs."""
    device = f"/devices/{identity.device_id}"
    body = {"ext_task_id": "x", "device_id": identity.device_id}
    return [
        ("POST", "/device-tasks", body, "tasks:write"),
        ("GET", f"/device-tasks/{task_id}", None, "tasks:read"),
        ("GET", f"/device-tasks/{task_id}?wait=1", None, "tasks:read"),
        ("GET", "/device-tasks", None, "tasks:read"),
        ("DELETE", f"/device-tasks/{task_id}", None, "tasks:write"),
        ("GET", "/devices", None, "devices:read"),
        ("PUT", device, {"tag": "a", "value": "b"}, "devices:write"),
        ("POST", "/devices", {}, "devices:write"),
        ("DELETE", device, None, "devices:write"),
        ("POST", "/api-keys", {"org": "x", "name": "x", "rights": []}, "keys:write"),
    ]


def test_without_a_valid_key_everything_is_401(api, server, identity):
    task_id = api.create(identity)
    refused = server.refusals("credential")
    credentials = [{}, {"x-api-key": "wrong"}, {"x-api-key": ""}, {"authorization": "Bearer wrong"}]
    credentials += [{"x-api-key": server.key[:-1]}, {"authorization": "Basic Og=="}]
    with httpx.Client(base_url=f"{server.http}/api/v1") as stranger:
        for method, path, body, _ in every_call(identity, task_id):
            for headers in credentials:
                assert is_problem(stranger.request(method, path, json=body, headers=headers), 401), path
    assert api.status(task_id) == READY
    assert server.refusals("credential") > refused


def test_both_spellings_of_the_key_are_good(server, identity):
    for value in (server.key, f"ApiKey {server.key}"):
        answer = httpx.get(f"{server.http}/api/v1/devices", headers={"x-api-key": value})
        assert answer.status_code == 200


def test_a_missing_right_is_403(api, server, new_api, identity):
    task_id = api.create(identity)
    rights = ["tasks:read", "tasks:write", "devices:read", "devices:write"]
    for right in rights:
        poor = with_rights(api, server, new_api, "default", [one for one in rights if one != right])
        for method, path, body, needed in every_call(identity, task_id):
            if needed in (right, "keys:write"):
                assert is_problem(poor.request(method, path, json=body), 403), f"{method} {path}"
    assert api.status(task_id) == READY
    reader = with_rights(api, server, new_api, "default", ["tasks:read"])
    assert reader.task(task_id)["id"] == task_id, "a right that is there suffices"


def test_what_another_organisation_owns_is_404(api, other_api, identity):
    task_id = api.create(identity)
    for method, path, body, _ in every_call(identity, task_id):
        if any(text in path for text in (task_id, f"/{identity.device_id}")) or "device_id" in (body or {}):
            for headers in ({}, {"orgId": "default"}, {"orgId": "1"}):
                assert is_problem(other_api.request(method, path, json=body, headers=headers), 404), path
    sn = {"ext_task_id": "x", "device_sn": identity.sn}
    assert is_problem(other_api.post("/device-tasks", json=sn), 404)
    assert other_api.get("/devices", params={"sn": identity.sn}).json() == []
    assert other_api.get("/device-tasks").json()["total"] == 0
    assert api.status(task_id) == READY


def test_a_revoked_key_is_dead(api, server, new_api):
    made = api.post("/api-keys", json={"org": "default", "name": "short", "rights": ["devices:read"]}).json()
    short = new_api(server, made["key"])
    assert short.get("/devices").status_code == 200
    assert api.delete(f"/api-keys/{made['id']}").status_code in (200, 204)
    assert is_problem(short.get("/devices"), 401)


# What is refused.


def test_a_refusal_leaves_the_connection_usable_or_says_that_it_ends(server):
    """A client that keeps its connections must not lose its next call to an earlier refusal (RFC 9112 §9.6)."""
    port = int(server.http.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        stream.sendall(b"POST /api/v1/device-tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        answer = stream.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 401")
        if b"connection: close" in answer.lower():
            return
        stream.sendall(b"0123456789GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stream.recv(65_536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "change",
    [
        {"method_code": -1},
        {"method_code": 65535},
        {"method_code": "20"},
        {"method_code": 20.5},
        {"priority": -1},
        {"priority": 10},
        {"ttl": -1},
        {"ttl": 44640},
        {"ttl": 10**30},
        {"ttl": True},
        {"payload": []},
        {"payload": "text"},
        {"payload": 5},
        {"ext_task_id": 5},
        {"ext_task_id": "x" * 5000},
        {"device_id": "1"},
        {"device_id": 0},
        {"device_id": -1},
        {"device_id": 10**19},
        {"device_id": None},
        {"method": ""},
        {"method": "x" * 5000},
        {"method": 5},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_field_out_of_its_range_is_422_and_named(api, identity, change):
    answer = api.request_task(identity, **change)
    assert is_problem(answer, 422)
    assert next(iter(change)) in answer.text
    assert api.get("/device-tasks", params={"device_id": identity.device_id}).json()["total"] == 0


def test_a_missing_field_is_422(api, identity):
    for body in ({}, {"ext_task_id": "x"}, {"device_id": identity.device_id}):
        assert is_problem(api.post("/device-tasks", json=body), 422), body


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b'{"a":}', b"\xff\xfe", b'{"ext_task_id":"x"} x'])
def test_what_is_not_json_is_400(api, body):
    for path in ("/device-tasks", "/devices"):
        answer = api.post(path, content=body, headers={"content-type": "application/json"})
        assert is_problem(answer, 400), path


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"x"'])
def test_json_that_is_no_object_is_422(api, body):
    answer = api.post("/device-tasks", content=body, headers={"content-type": "application/json"})
    assert is_problem(answer, 422)


def test_a_body_too_large_is_413_and_the_connection_survives(api, identity):
    for size in (300_000, 3_000_000):
        answer = api.request_task(identity, payload={"text": "x" * size})
        assert is_problem(answer, 413)
    assert api.request_task(identity, payload={"text": "x" * 200_000}).status_code == 200


def test_a_large_body_of_unknown_length_is_413(api):
    def chunks():
        for _ in range(64):
            yield b" " * 16_384

    answer = api.post("/device-tasks", content=chunks(), headers={"content-type": "application/json"})
    assert is_problem(answer, 413)


def test_what_is_not_there_is_404_and_what_is_not_allowed_405(api, identity):
    for path in (f"/device-tasks/{UNKNOWN}", f"/device-tasks/{UNKNOWN}?wait=5", "/nothing-here"):
        assert is_problem(api.get(path), 404), path
    assert is_problem(api.delete(f"/device-tasks/{UNKNOWN}"), 404)
    unknown = {"ext_task_id": "x", "device_id": 987654321}
    assert is_problem(api.post("/device-tasks", json=unknown), 404)
    assert is_problem(api.request("PATCH", "/device-tasks"), 405)


def test_an_id_that_is_no_uuid_is_refused(api):
    for text in ("x", "1", UNKNOWN[:-1], "%00", "..%2f..%2fetc%2fpasswd"):
        assert api.get(f"/device-tasks/{text}").status_code in (404, 422), text


def test_problems_carry_type_title_status_and_detail(api):
    answer = api.get(f"/device-tasks/{UNKNOWN}")
    assert is_problem(answer, 404)
    document = answer.json()
    assert document["type"] and document["title"] and document["status"] == 404
    assert UNKNOWN not in document["type"]


def test_health_readiness_and_metrics_need_no_key(server):
    for path in ("/healthz", "/readyz", "/metrics"):
        assert httpx.get(f"{server.http}{path}").status_code == 200, path


def test_https_serves_the_same_api(server, identity):
    trusted = ssl.create_default_context(cafile=str(server.ca))
    with Api(server.https, server.key, verify=trusted) as secure:
        assert secure.request_task(identity).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.https}/healthz")
