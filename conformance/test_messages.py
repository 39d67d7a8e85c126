"""Every property, quality, expiry and body of what a device is sent (device-rpc "Messages")."""

import json
import time

from testbed.api import LOCK, PENDING
from testbed.broker import LINK
from testbed.device import POLL


def names(message) -> list[str]:
    return sorted(name for name, _ in message.properties)


def test_tsk_announces_with_all_properties_and_the_header(api, device):
    task_id = api.create(
        device, ext_task_id="order-7", method_code=51, method="open", priority=3, ttl=10, payload={"a": 1}
    )
    created_at = api.task(task_id)["created_at"]
    message = device.expect("tsk")

    assert message.topic == f"srv/{device.sn}/tsk"
    assert (message.qos, message.retain) == (1, False)
    assert message.correlation == task_id.encode()
    assert LINK.is_told(message.expiry, 590, 600)
    assert names(message) == ["correlationData", "expires_at", "method", "method_code"]
    assert message["correlationData"] == task_id
    assert (message["method_code"], message["method"]) == ("51", "open")
    assert 0 <= int(message["expires_at"]) - (created_at + 600) <= 1
    body = json.loads(message.body)
    assert body == {
        "id": task_id,
        "created_at": created_at,
        "header": {
            "ext_task_id": "order-7",
            "device_id": device.device_id,
            "method_code": 51,
            "priority": 3,
            "ttl": 10,
        },
    }


def test_rsp_carries_the_payload_verbatim_and_all_properties(api, device):
    task_id = api.create(device, method_code=51, method="open", ttl=10, payload={"dt": [{"cl": 5}]})
    created_at = api.task(task_id)["created_at"]
    device.expect("tsk")
    message = device.take(task_id)

    assert message.topic == f"srv/{device.sn}/rsp"
    assert (message.qos, message.retain) == (1, False)
    assert message.correlation == task_id.encode()
    assert LINK.is_told(message.expiry, 590, 600)
    assert names(message) == ["correlationData", "expires_at", "method", "method_code"]
    assert message["correlationData"] == task_id
    assert (message["method_code"], message["method"]) == ("51", "open")
    assert 0 <= int(message["expires_at"]) - (created_at + 600) <= 1
    assert message.body == b'{"dt":[{"cl":5}]}'


def test_rsp_is_an_envelope_where_a_deployment_wants_it(new_server, new_api, connect, tmp_path):
    server = new_server("--rsp", "envelope")
    api = new_api(server)
    device = connect(server, api.register(tmp_path))
    task_id = api.create(device, ext_task_id="order-7", method_code=51, priority=3, ttl=10, payload={"dt": [{"cl": 5}]})
    device.expect("tsk")
    assert device.ack(task_id) == 0
    api.settled(task_id, PENDING)
    message = device.take(task_id)
    assert names(message) == ["correlationData", "expires_at", "method_code"], "the properties stay"
    assert message.task_id == task_id
    task = api.task(task_id)
    body = json.loads(message.body)
    assert list(body) == ["id", "created_at", "header", "status", "pending_at", "locked_at", "payload"]
    assert body["payload"] == {"dt": [{"cl": 5}]}
    assert body["header"] == task["header"]
    assert body["status"] == LOCK
    assert (body["id"], body["created_at"]) == (task_id, task["created_at"])
    assert (body["pending_at"], body["locked_at"]) == (task["pending_at"], task["locked_at"])
    assert device.take(task_id).body == message.body, "asked for again it is the same"
    device.finish(task_id)
    bare = api.create(device)
    device.expect("tsk")
    body = json.loads(device.take().body)
    assert (body["id"], body["pending_at"], body["payload"]) == (bare, None, {})
    assert device.take().body == b'{"method_code":0}'


def test_a_payload_reaches_the_device_byte_for_byte(api, device):
    payload = '{ "z": 1.0, "a" : 1e2,\n "long":12345678901234567890123, "u":"\\u00fc\u00fc", "z2":[ ] }'
    body = f'{{"ext_task_id":"x","device_id":{device.device_id},"ttl":5,"payload":{payload}}}'
    answer = api.post("/device-tasks", content=body.encode(), headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    device.expect("tsk")
    assert device.take(answer.json()["id"]).body == payload.encode()


def test_a_task_without_a_name_and_payload_has_no_method_and_an_empty_object(api, device):
    task_id = api.create(device)
    announced, taken = device.expect("tsk"), device.take(task_id)
    for message in (announced, taken):
        assert names(message) == ["correlationData", "expires_at", "method_code"]
        assert message["method_code"] == "20", "the default"
    assert taken.body == b"{}"


def test_rsp_with_nothing_to_do(device):
    message = device.take(POLL)
    assert message.topic == f"srv/{device.sn}/rsp"
    assert (message.qos, message.retain) == (0, False)
    # A server takes off what the message waited in it (MQTT 5 §3.3.2.3.3).
    assert LINK.is_told(message.expiry, 175, 180)
    assert message.correlation == POLL.encode()
    assert sorted(message.properties) == [("correlationData", POLL), ("method_code", "0")]
    assert message.body == b'{"method_code":0}'


def test_cmt_names_the_stored_result(api, device):
    task_id = api.create(device)
    device.expect("tsk")
    device.take(task_id)
    message = device.finish(task_id, 200, '{"a":1}', ext_id=7)

    assert message.topic == f"srv/{device.sn}/cmt"
    assert (message.qos, message.retain) == (1, False)
    assert message.correlation == task_id.encode()
    assert LINK.is_told(message.expiry, 3 * 3600 - 5, 3 * 3600)
    assert names(message) == ["correlationData", "ext_id", "result_id"]
    assert (message["correlationData"], message["ext_id"]) == (task_id, "7")
    assert int(message["result_id"]) == api.task(task_id)["results"][0]["id"]
    assert message.body == b'{"message":"committed"}'


def test_what_is_left_of_the_life_counts_down(api, server, identity, connect):
    """The expiry of an announcement is that of the task, not of the message."""
    task_id = api.create(identity, ttl=1)
    time.sleep(3)
    message = connect(server, identity).expect("tsk")
    assert message.task_id == task_id
    assert LINK.is_told(message.expiry, 50, 58)
    assert 50 <= int(message["expires_at"]) - time.time() <= 58
    assert json.loads(message.body)["header"]["ttl"] == 1, "what is left, in minutes, rounded up"


def test_the_largest_header_values_arrive(api, device):
    task_id = api.create(device, method_code=65534, priority=9, ttl=44639, ext_task_id="ü" * 40)
    message = device.expect("tsk")
    header = json.loads(message.body)["header"]
    assert (header["method_code"], header["priority"], header["ttl"]) == (65534, 9, 44639)
    assert header["ext_task_id"] == "ü" * 40
    assert message["method_code"] == "65534"
    for heard in (message, device.take(task_id)):
        assert LINK.is_told(heard.expiry, 44638 * 60, 44639 * 60)
        assert int(heard["expires_at"]) - time.time() > 44638 * 60


def test_method_code_0_is_a_task_like_any_other(api, device):
    """Only the zero correlation says "nothing to do"."""
    task_id = api.create(device, method_code=0, payload={"a": 1})
    device.expect("tsk")
    taken = device.take(task_id)
    assert (taken.task_id, taken["method_code"], taken.body) == (task_id, "0", b'{"a":1}')
