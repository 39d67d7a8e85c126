"""Results: partial, final, repeated, late, and those that cannot be taken (device-rpc "res")."""

import json

import pytest

from testbed.api import DELETED, DONE, FAILED, LOCK
from testbed.broker import LINK
from testbed.device import MQTTv311

BYTES_MAX = 256 * 1024
LATE_MAX = 16


@pytest.fixture
def task_id(api, device):
    """A task that the device has taken."""
    task_id = api.create(device)
    device.expect("tsk")
    device.take(task_id)
    return task_id


def results(api, task_id) -> list[tuple]:
    """The stored results, oldest first."""
    stored = api.task(task_id)["results"]
    return [(one["ext_id"], one["status_code"], one["result"]) for one in reversed(stored)]


def test_206_is_a_partial_result_and_the_task_goes_on(api, device, task_id):
    for number in (1, 2, 3):
        device.finish(task_id, 206, f'{{"chunk":{number}}}', ext_id=number)
        assert api.status(task_id) == LOCK
    device.finish(task_id, 200, '{"chunks":3}', ext_id=4)
    assert api.status(task_id) == DONE
    partial = [(number, 206, {"chunk": number}) for number in (1, 2, 3)]
    assert results(api, task_id) == [*partial, (4, 200, {"chunks": 3})]
    ids = [result["id"] for result in api.task(task_id)["results"]]
    assert ids == sorted(ids, reverse=True), "newest first"


def test_a_repeated_result_is_stored_once_and_gets_the_same_id(api, server, device, task_id):
    duplicates = server.metric("covey_duplicate_results_total")
    first = device.finish(task_id, 200, '{"a":1}', ext_id=5)
    for _ in range(3):
        again = device.finish(task_id, 200, '{"a":1}', ext_id=5)
        assert (again["result_id"], again["ext_id"]) == (first["result_id"], "5")
    assert results(api, task_id) == [(5, 200, {"a": 1})]
    assert api.steps(task_id)[-1] == "DONE"
    assert server.metric("covey_duplicate_results_total") == duplicates + 3


def test_a_repeated_partial_result_is_stored_once(api, device, task_id):
    first = device.finish(task_id, 206, '{"a":1}')
    assert device.finish(task_id, 206, '{"a":1}')["result_id"] == first["result_id"]
    assert results(api, task_id) == [(0, 206, {"a": 1})]


@pytest.mark.parametrize(
    "change",
    [{"ext_id": 6}, {"status_code": 500}, {"body": '{"a":2}'}, {"body": ""}, {"body": "text"}],
    ids=str,
)
def test_a_different_late_result_is_stored_and_moves_nothing(api, device, task_id, change):
    sent = {"ext_id": 5, "status_code": 200, "body": '{"a":1}'}
    first = device.finish(task_id, **sent)
    late = device.finish(task_id, **{**sent, **change})
    assert late["result_id"] != first["result_id"]
    task = api.task(task_id)
    assert task["status"] == DONE and len(task["results"]) == 2
    assert api.steps(task_id) == ["READY", "LOCK", "DONE"]


def test_a_late_partial_result_does_not_reopen_the_task(api, device, task_id):
    device.finish(task_id, 200)
    device.finish(task_id, 206, '{"late":1}')
    assert api.status(task_id) == DONE


def test_a_result_of_a_deleted_task_is_stored_and_moves_nothing(api, device, task_id):
    api.delete(f"/device-tasks/{task_id}")
    assert device.finish(task_id, 200, '{"a":1}')["result_id"]
    task = api.task(task_id)
    assert task["status"] == DELETED and len(task["results"]) == 1


@pytest.mark.parametrize("code", [100, 200, 201, 204, 299, 302, 399])
def test_codes_below_400_are_done(api, device, task_id, code):
    device.finish(task_id, code)
    assert api.status(task_id) == DONE


@pytest.mark.parametrize("code", [400, 404, 500, 599, 1000])
def test_codes_from_400_are_failed(api, device, task_id, code):
    device.finish(task_id, code, '{"why":"jam"}')
    task = api.task(task_id)
    assert (task["status"], task["status_name"]) == (FAILED, "FAILED")
    assert results(api, task_id) == [(0, code, {"why": "jam"})]


def test_the_status_code_may_be_in_the_body(api, device, task_id):
    assert device.res(task_id, None, '{"status_code":206,"a":1}') == 0
    device.expect("cmt")
    assert api.status(task_id) == LOCK
    assert device.res(task_id, None, '{"status_code":404,"a":2}') == 0
    device.expect("cmt")
    assert api.status(task_id) == FAILED
    assert [code for _, code, _ in results(api, task_id)] == [206, 404]


def test_the_property_goes_before_the_body(api, device, task_id):
    device.finish(task_id, 200, '{"status_code":500}')
    assert api.status(task_id) == DONE


@pytest.mark.parametrize(
    ("status_code", "body"),
    [
        (None, ""),
        (None, "{}"),
        (None, "done"),
        (None, "[200]"),
        (None, "200"),
        (None, '{"status_code":"200"}'),
        (None, '{"status_code":200.5}'),
        (None, '{"status_code":null}'),
        (None, '{"status_code":true}'),
        (None, '{"result":{"status_code":200}}'),
        ("", "{}"),
        ("ok", "{}"),
        ("200.0", "{}"),
        ("2e2", "{}"),
        ("0x200", "{}"),
        ("200 OK", "{}"),
        ("99999999999999999999", "{}"),
    ],
)
def test_without_an_integer_status_code_nothing_is_stored_and_counted(
    api, server, device, task_id, status_code, body
):
    refused = server.refusals("status_code")
    device.res(task_id, status_code, body)
    assert device.is_quiet("cmt", seconds=0.3)
    assert api.status(task_id) == LOCK and results(api, task_id) == []
    assert LINK.counts(server, "status_code", refused + 1)
    device.finish(task_id)
    assert api.status(task_id) == DONE, "the connection goes on"


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ('{"a":{"b":[1,null]}}', {"a": {"b": [1, None]}}),
        ("17", {"value": 17}),
        ("[1,2]", {"value": [1, 2]}),
        ('"text"', {"value": "text"}),
        ("true", {"value": True}),
        ("door is open", {"value": "door is open"}),
        ('{"a": ', {"value": '{"a": '}),
        ("grün ✓", {"value": "grün ✓"}),
    ],
)
def test_a_body_is_json_or_else_kept_as_a_string(api, device, task_id, body, stored):
    device.finish(task_id, 200, body)
    assert results(api, task_id) == [(0, 200, stored)]


def test_an_empty_body_is_a_result_without_one(api, device, task_id):
    device.finish(task_id, 200, "")
    ((ext_id, code, stored),) = results(api, task_id)
    assert (ext_id, code) == (0, 200)
    assert not stored or stored == {"value": None}


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"a":"\xc3"}', b"\x80abc"])
def test_a_body_that_is_no_utf_8_is_refused(api, device, task_id, body):
    assert LINK.is_refusal(device.res(task_id, 200, body))
    assert device.is_quiet("cmt", seconds=0.3)
    assert api.status(task_id) == LOCK and results(api, task_id) == []


@pytest.mark.parametrize("ext_id", ["x", "1.5"])
def test_an_ext_id_that_is_no_integer_is_refused(api, device, task_id, ext_id):
    assert LINK.is_refusal(device.res(task_id, 200, "{}", ext_id=ext_id))
    assert device.is_quiet("cmt", seconds=0.3)
    assert results(api, task_id) == []


def test_a_result_without_a_req_finishes_the_task(api, device):
    """The device may know its parameters already; its result counts all the same."""
    task_id = api.create(device)
    device.expect("tsk")
    device.finish(task_id, 200, '{"a":1}')
    assert api.status(task_id) == DONE


def test_a_result_of_256_kib_comes_back_whole(api, device, task_id):
    text = "x" * (256 * 1024 - len('{"text":""}'))
    device.finish(task_id, 200, f'{{"text":"{text}"}}')
    assert results(api, task_id) == [(0, 200, {"text": text})]


@pytest.mark.parametrize("qos", range(LINK.qos_max + 1))
def test_a_result_of_any_qos_is_stored_once(api, device, task_id, qos):
    device.finish(task_id, 200, '{"a":1}', qos=qos)
    assert results(api, task_id) == [(0, 200, {"a": 1})]


def not_taken() -> int:
    """How the PUBACK of a result is that is not stored: a broker between has acknowledged it before."""
    return 0x97 if LINK.acknowledges_after_commit else 0


@pytest.mark.every_shape
def test_a_result_that_is_too_large_ends_its_task_and_is_not_stored(api, server, device, task_id):
    refused = server.refusals("result_too_large")
    for number in (1, 2):
        assert device.res(task_id, 200, json.dumps("x" * BYTES_MAX), ext_id=number) == not_taken()
        commit = device.expect("cmt")
        assert (commit.task_id, commit["result_id"], commit["ext_id"]) == (task_id, "0", str(number))
        assert json.loads(commit.body) == {"message": "not stored"}
    task = api.settled(task_id, FAILED)
    assert (task["timeline"][-1]["cause"], task["results"]) == ("result_too_large", [])
    assert server.refusals("result_too_large") == refused + 2
    # The largest that may be, quotes included.
    largest = api.create(device)
    device.expect("tsk")
    device.finish(largest, 200, json.dumps("x" * (BYTES_MAX - 2)))
    assert len(api.settled(largest, DONE)["results"]) == 1


@pytest.mark.embedded
def test_a_result_that_is_too_large_over_3_1_1_is_acknowledged_and_not_stored(api, server, identity, connect):
    """Without reason codes a missing PUBACK would bring it again and again."""
    device = connect(server, identity, protocol=MQTTv311)
    task_id = api.create(device)
    body = {"correlationData": task_id, "status_code": 200, "ext_id": 3, "payload": "x" * BYTES_MAX}
    assert device.publish(f"dev/{device.sn}/res", json.dumps(body)) == 0
    commit = json.loads(device.expect("cmt").body)
    assert (commit["correlationData"], str(commit["result_id"])) == (task_id, "0")
    assert api.task(task_id)["timeline"][-1]["cause"] == "result_too_large"


def test_a_final_task_takes_few_more_results(api, device, task_id):
    first = device.finish(task_id)
    for number in range(1, LATE_MAX + 1):
        assert device.finish(task_id, 200, f'{{"late":{number}}}', ext_id=number)["result_id"] != "0"
    for number in range(100, 105):
        assert device.res(task_id, 200, f'{{"late":{number}}}', ext_id=number) == not_taken()
        assert device.expect("cmt")["result_id"] == "0"
    assert device.finish(task_id)["result_id"] == first["result_id"], "what is stored is known again"
    assert len(api.task(task_id)["results"]) == 1 + LATE_MAX
