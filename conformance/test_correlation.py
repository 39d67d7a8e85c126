"""The forms in which a device names a task (device-rpc "Correlation")."""

import json
import uuid

import pytest

from testbed.api import DONE, LOCK, PENDING, READY
from testbed.broker import LINK

NATIVE = {
    "36 characters": lambda task_id: task_id.encode(),
    "36 characters in capitals": lambda task_id: task_id.upper().encode(),
    "32 hex digits": lambda task_id: uuid.UUID(task_id).hex.encode(),
    "urn": lambda task_id: uuid.UUID(task_id).urn.encode(),
    "16 raw bytes": lambda task_id: uuid.UUID(task_id).bytes,
}
PROPERTY = {name: form for name, form in NATIVE.items() if name != "16 raw bytes"}
FORMS = [pytest.param(form, False, id=f"native {name}") for name, form in NATIVE.items()]
FORMS += [pytest.param(form, True, id=f"property {name}") for name, form in PROPERTY.items()]


def correlated(form, is_property: bool, task_id: str) -> dict:
    """How `publish` is told."""
    if is_property:
        return {"properties": {"correlationData": form(task_id).decode()}}
    return {"correlation": form(task_id)}


@pytest.mark.parametrize(("form", "is_property"), FORMS)
def test_every_form_names_the_task_in_every_step(api, device, form, is_property):
    task_id, topic = api.create(device), f"dev/{device.sn}"
    device.expect("tsk")
    how = correlated(form, is_property, task_id)

    assert device.publish(f"{topic}/ack", **how) == 0
    api.settled(task_id, PENDING)
    assert device.publish(f"{topic}/req", **how) == 0
    assert device.expect("rsp").task_id == task_id
    how["properties"] = {**how.get("properties", {}), "status_code": "200"}
    assert device.publish(f"{topic}/res", "{}", **how) == 0
    assert device.expect("cmt").task_id == task_id
    assert api.status(task_id) == DONE


KEYS = ["correlationData", "CorrelationData", "correlation_data", "corr_data", "corr_id"]


@pytest.mark.parametrize("key", KEYS)
def test_a_client_that_loses_its_properties_names_the_task_in_its_bodies(api, device, key):
    first, second = api.create(device, payload={"n": 1}), api.create(device, payload={"n": 2})
    topic = f"dev/{device.sn}"
    assert device.publish(f"{topic}/ack", json.dumps({key: second})) == 0
    api.settled(second, PENDING)
    assert device.publish(f"{topic}/req", json.dumps({key: second})) == 0
    assert device.expect("rsp").task_id == second
    assert device.publish(f"{topic}/res", f'{{"{key}": "{second}", "result": {{"cl": 1.50}}}}') == 0
    assert device.expect("cmt").task_id == second
    (result,) = api.task(second)["results"]
    assert (result["status_code"], result["ext_id"], result["result"]) == (200, 0, {"cl": 1.5})
    assert (api.status(first), api.status(second)) == (READY, DONE)


@pytest.mark.parametrize(
    ("rest", "status_code", "stored"),
    [
        ({"result": {"a": 1}}, 200, {"a": 1}),
        ({"result": "text"}, 200, {"value": "text"}),
        ({"result": {}, "corr_id": 5}, 200, {}),
        ({"a": 1, "b": [2]}, 200, {"a": 1, "b": [2]}),
        ({"result": 1, "b": [2]}, 200, {"result": 1, "b": [2]}),
        ({"status_code": 404, "result": {}}, 404, {"status_code": 404, "result": {}}),
        ({}, 200, {}),
    ],
    ids=str,
)
def test_a_result_is_what_is_left_of_a_body_that_names_the_task(api, device, rest, status_code, stored):
    task_id = api.create(device)
    device.expect("tsk")
    for _ in range(2):
        assert device.publish(f"dev/{device.sn}/res", json.dumps({"corr_data": task_id, **rest})) == 0
        device.expect("cmt")
    (result,) = api.task(task_id)["results"]
    assert (result["status_code"], result["result"]) == (status_code, stored)


def test_a_body_decides_nothing_beside_another_correlation(api, device):
    named, other = api.create(device), api.create(device)
    body = json.dumps({"correlationData": other, "result": {"a": 1}})
    for how in ({"correlation": named}, {"properties": {"correlationData": named}}, {"properties": {"CorrelationData": named}}):
        device.publish(f"dev/{device.sn}/req", body, **how)
        assert device.expect("rsp").task_id == named
    assert LINK.is_refusal(device.res(named, None, body)), "and there is no status code by default"
    device.finish(named, 200, body)
    assert api.task(named)["results"][0]["result"] == json.loads(body), "as it was sent"
    assert api.status(other) == READY


@pytest.mark.parametrize("body", ["{}", '{"corr_data":"x"}', '{"corr_id":7}', '["corr_id"]', "corr_id", '{"corr_data":null}'])
def test_a_req_whose_body_names_no_task_is_a_poll(api, device, body):
    task_id = api.create(device)
    device.expect("tsk")
    assert device.publish(f"dev/{device.sn}/req", body) == 0
    assert device.expect("rsp").task_id == task_id
    for level in ("ack", "res"):
        assert LINK.is_refusal(device.publish(f"dev/{device.sn}/{level}", body)), level
    assert device.is_quiet("cmt", seconds=0.3)
    assert api.status(task_id) == LOCK and api.task(task_id)["results"] == []


@pytest.mark.parametrize("code", ['"200"', "null", "2.5", "99999999999"])
def test_a_status_code_beside_a_task_in_the_body_is_an_integer(api, server, device, code):
    task_id = api.create(device)
    refused = server.refusals("status_code")
    body = f'{{"corr_data":"{task_id}","status_code":{code},"result":{{}}}}'
    assert LINK.is_refusal(device.publish(f"dev/{device.sn}/res", body))
    assert device.is_quiet("cmt", seconds=0.3)
    assert api.task(task_id)["results"] == []
    assert LINK.counts(server, "status_code", refused + 1)


def test_native_correlation_goes_before_the_property(api, device):
    first, second = api.create(device), api.create(device)
    device.publish(f"dev/{device.sn}/req", correlation=second, properties={"correlationData": first})
    assert device.expect("rsp").task_id == second
    assert (api.status(first), api.status(second)) == (READY, LOCK)


MALFORMED = [
    b"x",
    b"01901f2e-3d4c-7b5a-8877-66554433221",
    b"01901f2e-3d4c-7b5a-8877-6655443322110",
    b"01901f2e-3d4c-7b5a-8877-66554433221g",
    b"01901f2e3d4c7b5a887766554433221",
    b"{01901f2e-3d4c-7b5a-8877-665544332211}",
    b"urn:uuid:01901f2e",
    b"uuid:01901f2e-3d4c-7b5a-8877-665544332211",
    b"\x01" * 15,
    b"\x01" * 17,
    b"\xff" * 36,
    b"x" * 5000,
]


@pytest.mark.parametrize("correlation", MALFORMED, ids=lambda bytes: repr(bytes[:40]))
def test_a_malformed_correlation_is_refused_in_every_step(api, server, device, correlation):
    task_id = api.create(device)
    device.expect("tsk")
    refused = server.refusals("correlation")
    for level in ("ack", "req", "res"):
        code = device.publish(
            f"dev/{device.sn}/{level}", "{}", correlation=correlation, properties={"status_code": "200"}
        )
        assert LINK.is_refusal(code), level
    assert device.is_quiet("rsp", "cmt", seconds=0.3)
    assert api.status(task_id) == READY
    assert LINK.counts(server, "correlation", refused + 3)


@pytest.mark.parametrize("text", ["x", "{01901f2e-3d4c-7b5a-8877-665544332211}", "0" * 31])
def test_a_malformed_property_is_refused(device, text):
    assert LINK.is_refusal(device.publish(f"dev/{device.sn}/req", properties={"correlationData": text}))
    assert device.is_quiet("rsp", seconds=0.3)


@pytest.mark.parametrize("correlation", [None, bytes(16), b"00000000-0000-0000-0000-000000000000"])
def test_a_result_needs_a_task(api, device, correlation):
    task_id = api.create(device)
    device.expect("tsk")
    assert LINK.is_refusal(device.res(correlation, 200, "{}"))
    assert device.is_quiet("cmt", seconds=0.3)
    assert api.task(task_id)["results"] == []
