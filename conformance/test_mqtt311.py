"""MQTT 3.1.1, which has no properties: the same steps with a JSON envelope (docs/mqtt-3.1.1.md)."""

import json

import pytest

from testbed.api import DONE, FAILED, LOCK, PENDING, READY
from testbed.broker import LINK
from testbed.device import CLIENT_ID_NOT_VALID, NOT_AUTHORIZED, POLL, MQTTv5, MQTTv311, Refused


@pytest.fixture
def device(server, identity, connect):
    return connect(server, identity, protocol=MQTTv311)


def say(device, level: str, **envelope) -> int:
    """Publishes an envelope."""
    return device.publish(f"dev/{device.sn}/{level}", json.dumps(envelope))


def hear(device, level: str) -> dict:
    """The next envelope on a topic."""
    message = device.expect(level)
    assert message.correlation is None and message.properties == []
    return json.loads(message.body)


def finish(device, task_id, status_code, payload, **more) -> dict:
    assert say(device, "res", correlationData=task_id, status_code=status_code, payload=payload, **more) == 0
    return hear(device, "cmt")


def test_push_with_envelopes_both_ways(api, device):
    task_id = api.create(device, method_code=51, method="open", ttl=10, payload={"dt": [{"cl": 5}]})
    created_at = api.task(task_id)["created_at"]
    announced = hear(device, "tsk")
    expires_at = announced.pop("expires_at")
    assert 0 <= expires_at - (created_at + 600) <= 1
    assert announced == {"correlationData": task_id, "method_code": 51}

    say(device, "ack", correlationData=task_id)
    api.settled(task_id, PENDING)

    say(device, "req", correlationData=task_id)
    assert hear(device, "rsp") == {
        "correlationData": task_id,
        "method_code": 51,
        "method": "open",
        "expires_at": expires_at,
        "payload": {"dt": [{"cl": 5}]},
    }
    assert api.status(task_id) == LOCK

    committed = finish(device, task_id, 200, {"cl": 5, "result": "ok"}, ext_id=7)
    (stored,) = api.task(task_id)["results"]
    assert committed == {
        "correlationData": task_id,
        "result_id": stored["id"],
        "ext_id": 7,
        "payload": {"message": "committed"},
    }
    assert (stored["ext_id"], stored["status_code"], stored["result"]) == (7, 200, {"cl": 5, "result": "ok"})
    assert api.steps(task_id) == ["READY", "PENDING", "LOCK", "DONE"]


@pytest.mark.parametrize("body", [b"", b"{}", f'{{"correlationData":"{POLL}"}}'.encode()])
def test_poll(api, device, body):
    task_id = api.create(device, payload={"a": 1})
    device.publish(f"dev/{device.sn}/req", body)
    taken = hear(device, "rsp")
    assert (taken["correlationData"], taken["payload"]) == (task_id, {"a": 1})
    device.publish(f"dev/{device.sn}/req", body)
    assert hear(device, "rsp") == {"correlationData": POLL, "method_code": 0, "payload": {"method_code": 0}}


def test_a_repeated_result_gets_the_same_id_and_is_stored_once(api, device):
    task_id = api.create(device)
    first = finish(device, task_id, 200, {"a": 1})
    assert finish(device, task_id, 200, {"a": 1}) == first
    assert len(api.task(task_id)["results"]) == 1
    assert finish(device, task_id, 200, {"a": 2})["result_id"] != first["result_id"]


def test_partial_and_failed(api, device):
    task_id = api.create(device)
    finish(device, task_id, 206, {"chunk": 1}, ext_id=1)
    assert api.status(task_id) == LOCK
    finish(device, task_id, 500, {"why": "jam"}, ext_id=2)
    assert api.status(task_id) == FAILED


@pytest.mark.parametrize(
    ("payload", "stored"), [("text", {"value": "text"}), ([1], {"value": [1]}), (5, {"value": 5}), ({}, {})]
)
def test_any_json_is_a_result(api, device, payload, stored):
    task_id = api.create(device)
    finish(device, task_id, 200, payload)
    assert api.task(task_id)["results"][0]["result"] == stored


def test_numbers_may_come_in_quotes(api, device):
    task_id = api.create(device)
    finish(device, task_id, "200", {}, ext_id="7")
    assert api.task(task_id)["results"][0]["ext_id"] == 7


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ('{"correlationData":"TASK","payload":{"status_code":404}}', {"status_code": 404}),
        ('{"correlationData":"TASK","result":{"a":1}}', {"a": 1}),
        ('{"corr_data":"TASK","result":{"a":1}}', {"a": 1}),
        ('{"corr_id":"TASK","a":1}', {"a": 1}),
        ('{"corr_id":"TASK","status_code":200,"payload":{"a":1}}', {"a": 1}),
    ],
)
def test_a_result_may_have_no_status_code_and_be_no_envelope(api, device, body, stored):
    task_id = api.create(device)
    device.publish(f"dev/{device.sn}/res", body.replace("TASK", task_id))
    hear(device, "cmt")
    (result,) = api.task(task_id)["results"]
    assert (result["status_code"], result["result"]) == (200, stored)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b'["TASK",200,0,{}]',
        b'"TASK"',
        b"\xff\xfe",
        b'{"correlationData":"TASK","status_code":"ok"}',
        b'{"correlationData":"TASK","status_code":null,"payload":{}}',
        b'{"correlationData":"x","status_code":200}',
        b'{"correlationData":7,"status_code":200}',
        b'{"status_code":200,"payload":{}}',
        b'{"correlationData":"TASK","status_code":200,"ext_id":"x"}',
        b'{"correlationData":"TASK","status_code":200',
    ],
)
def test_what_cannot_be_understood_changes_nothing(api, device, body):
    task_id = api.create(device)
    device.publish(f"dev/{device.sn}/res", body.replace(b"TASK", task_id.encode()))
    assert device.is_quiet("cmt", seconds=0.3)
    task = api.task(task_id)
    assert task["status"] == READY and task["results"] == []
    finish(device, task_id, 200, {})
    assert api.status(task_id) == DONE, "the connection goes on"


@pytest.mark.embedded
def test_refusals_have_the_codes_of_3_1_1(api, server, connect, identity):
    with pytest.raises(Refused) as refusal:
        connect(server, identity, protocol=MQTTv311, client_id="another")
    assert refusal.value.code == CLIENT_ID_NOT_VALID, "return code 2"
    device = connect(server, identity, protocol=MQTTv311)
    assert device.subscribe("srv/another/tsk") == 0x80
    api.delete(f"/devices/{identity.device_id}")
    device.expect_disconnect(2)
    with pytest.raises(Refused) as refusal:
        connect(server, identity, protocol=MQTTv311)
    assert refusal.value.code == NOT_AUTHORIZED, "return code 5"


def test_a_device_may_change_its_protocol(api, server, connect, identity):
    """Each connection is spoken to as it speaks, whatever the one before it spoke."""
    for protocol in (MQTTv311, MQTTv5, MQTTv311, MQTTv5):
        device = connect(server, identity, protocol=protocol)
        task_id = api.create(device, payload={"a": 1})
        if protocol == MQTTv5:
            assert device.expect("tsk").task_id == task_id
            assert device.take(task_id).body == b'{"a":1}'
            device.finish(task_id)
        else:
            assert hear(device, "tsk")["correlationData"] == task_id
            say(device, "req", correlationData=task_id)
            assert hear(device, "rsp")["payload"] == {"a": 1}
            finish(device, task_id, 200, {})
        assert api.status(task_id) == DONE
        device.close()


def test_another_devices_task_stays_out_of_reach(api, device, victim_identity):
    task_id = api.create(victim_identity, payload={"secret": "4711"})
    say(device, "req", correlationData=task_id)
    assert hear(device, "rsp")["payload"] == {"method_code": 0}
    say(device, "res", correlationData=task_id, status_code=200, payload={})
    assert device.is_quiet("cmt", seconds=0.3)
    assert api.status(task_id) == READY and api.task(task_id)["results"] == []
