"""Tasks over REST: their fields, their ranges, and what is refused (rest-api.md)."""

import http.client
import socket
import ssl
import time
import uuid

import httpx
import pytest

from testbed.api import DELETED, READY, Api, is_problem
from testbed.broker import LINK

UNKNOWN = "01901f2e-3d4c-7b5a-8877-665544332211"


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
    assert message.task_id == task_id and LINK.is_told(message.expiry, 55, 60)
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


# What is refused.


def test_a_refusal_leaves_the_connection_usable_or_says_that_it_ends(server):
    """A client that keeps its connections must not lose its next call to an earlier refusal (RFC 9112 §9.6)."""
    port = int(server.http.rsplit(":", 1)[1])
    # The server waits up to 10 s for the announced body before it refuses.
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stream:
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


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("POST", "/device-tasks", "nobody", 401),
        ("POST", "/device-tasks?wait=61", None, 422),
        ("POST", "/nothing-here", None, 404),
        ("PUT", "/device-tasks", None, 405),
    ],
)
def test_after_a_refusal_that_needed_no_body_the_connection_goes_on(api, server, method, path, key, status):
    """A client sends its next request behind a body that came after the server had made up its mind."""
    wire = http.client.HTTPConnection(server.http.removeprefix("http://"), timeout=10)
    own = api.headers["x-api-key"]
    for _ in range(3):
        wire.putrequest(method, f"/api/v1{path}")
        wire.putheader("x-api-key", key or own)
        wire.putheader("content-length", "20")
        wire.endheaders()
        time.sleep(0.1)
        wire.send(b" " * 20)
        answer = wire.getresponse()
        answer.read()
        assert answer.status == status and answer.getheader("connection") != "close"
        port = wire.sock.getsockname()
        wire.request("GET", "/api/v1/whoami", headers={"x-api-key": own})
        answer = wire.getresponse()
        answer.read()
        assert answer.status == 200 and wire.sock.getsockname() == port, "on the same connection"
    wire.close()


def test_a_refusal_before_a_body_that_is_too_long_or_was_not_asked_for_ends_the_connection(api, server):
    for more in ({"content-length": str(1 << 33)}, {"content-length": "20", "expect": "100-continue"}):
        with socket.create_connection(server.http.removeprefix("http://").split(":"), timeout=10) as wire:
            headers = {"host": "x", "x-api-key": "nobody", **more}
            lines = ["POST /api/v1/device-tasks HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
            wire.sendall("\r\n".join([*lines, "", ""]).encode())
            said = b""
            while piece := wire.recv(4096):
                said += piece
        head = said.partition(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"http/1.1 401") and b"connection: close" in head, said


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
