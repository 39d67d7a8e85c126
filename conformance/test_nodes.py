"""Nodes that know nothing of Covey are devices: listed, called, with values and a presence."""

import json
import subprocess
import time
import uuid

import httpx
import paho.mqtt.client as mqtt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from testbed.api import DONE, LOCK
from testbed.nodes import MqttNode, SnNode, WebSocketNode, device_of, nodes, values, wait_for
from testbed.server import BINARY, NotStarted, Server, kept_ports, serving

pytestmark = pytest.mark.embedded
LISTENERS = ("--mqtt-nodes", "127.0.0.1:0", "--mqtt-sn", "127.0.0.1:0", "--websocket-nodes", "127.0.0.1:0")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A server that lets every node in."""
    with serving(tmp_path_factory.mktemp("nodes") / "data", *LISTENERS) as running:
        yield running


@pytest.fixture
def app(gateway, new_api):
    return new_api(gateway)


def joined(app, sn: str) -> dict:
    device = wait_for(lambda: device_of(app, sn, online=True))
    assert device, f"{sn} is not there"
    return device


def call(app, device: dict, **fields):
    body = {"ext_task_id": "nodes", "device_id": device["device_id"], "method": "set", "ttl": 5, **fields}
    return app.post("/device-tasks", params={"wait": 20}, json=body)


@pytest.mark.parametrize("protocol", [mqtt.MQTTv311, mqtt.MQTTv5])
def test_an_mqtt_node_is_a_device_and_its_values_are_as_it_said_them(gateway, app, new_node, protocol):
    uid = f"n-{uuid.uuid4().hex[:8]}"
    said = {"led": "0", "temperature": "23°C", "imu": '[{"type": "acc", "values": [0, 1]}]', "count": 7}
    node = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, said, protocol)
    device = joined(app, f"mqtt-{uid}")
    expected = {"protocol": "MQTT", "id": uid, **said}
    assert wait_for(lambda: values(app, device["device_id"]) == expected), values(app, device["device_id"])
    asked = [one for one in node.asked if "discover" in one]
    assert asked == [f"gateway/{uid}/discover resources", f"gateway/{uid}/discover values"]


def test_a_call_of_an_mqtt_node_is_a_write_and_what_it_then_says_is_the_result(gateway, app, new_node):
    uid = f"n-{uuid.uuid4().hex[:8]}"
    node = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0"})
    device = joined(app, f"mqtt-{uid}")
    answer = call(app, device, payload={"led": "1"})
    assert answer.status_code == 200, answer.text
    task = answer.json()
    assert task["status"] == DONE and task["results"][0]["status_code"] == 200, task
    assert task["results"][0]["result"] == {"led": "1"}
    assert node.resources["led"] == "1" and values(app, device["device_id"])["led"] == "1"


def test_the_command_line_lists_a_node_and_sets_a_value_of_it(gateway, app, new_node):
    uid = f"n-{uuid.uuid4().hex[:8]}"
    node = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0"})
    joined(app, f"mqtt-{uid}")

    def covey(*arguments: str) -> str:
        command = [str(BINARY), "node", *arguments, "--data", str(gateway.data)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"mqtt/{uid}" in covey("list")
    assert json.loads(covey("set", f"mqtt/{uid}", "led", "1")) == {"led": "1"}
    assert node.resources["led"] == "1"


def test_a_node_that_does_not_say_what_became_of_a_write_leaves_it_as_sent(gateway, app, new_node):
    uid = f"n-{uuid.uuid4().hex[:8]}"
    node = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0"})
    device = joined(app, f"mqtt-{uid}")
    wait_for(lambda: "led" in values(app, device["device_id"]))
    node.is_mute = True
    result = call(app, device, payload={"led": "1"}).json()["results"][0]
    assert (result["status_code"], result["result"]) == (202, {"sent": {"led": "1"}})


def test_a_node_may_hear_by_one_connection_and_speak_by_others(gateway, app):
    uid = f"sh-{uuid.uuid4().hex[:8]}"
    host, port = gateway.addresses["mqtt_nodes"].removeprefix("mqtt://").rsplit(":", 1)
    at = ["-h", host, "-p", port, "-q", "1"]

    def say(topic: str, body: str) -> None:
        subprocess.run(["mosquitto_pub", *at, "-t", topic, "-m", body], check=True, timeout=10)

    hearing = ["mosquitto_sub", *at, "-t", f"gateway/{uid}/+/set", "-C", "1", "-v"]
    with subprocess.Popen(hearing, stdout=subprocess.PIPE, text=True) as listener:
        say("node/check", json.dumps({"id": uid}))
        say(f"node/{uid}/led", '{"value": "0"}')
        device = joined(app, f"mqtt-{uid}")
        body = {"ext_task_id": "n", "device_id": device["device_id"], "method": "set", "ttl": 5, "payload": {"led": "1"}}
        task = app.post("/device-tasks", json=body).json()["id"]
        heard, _ = listener.communicate(timeout=10)
    assert heard.strip() == f"gateway/{uid}/led/set 1"
    say(f"node/{uid}/led", '{"value": "1"}')
    assert wait_for(lambda: app.status(task) == DONE)
    assert app.task(task)["results"][0]["result"] == {"led": "1"}


def test_a_method_that_no_node_has_is_refused(gateway, app, new_node):
    uid = f"n-{uuid.uuid4().hex[:8]}"
    new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0"})
    device = joined(app, f"mqtt-{uid}")
    result = call(app, device, method="reboot", payload={"led": "1"}).json()["results"][0]
    assert result["status_code"] == 501, result
    result = call(app, device, payload={"a b": 1}).json()["results"][0]
    assert result["status_code"] == 400, result


def test_values_that_come_before_the_check_and_unasked_are_kept(gateway, app, new_node):
    uid = f"n-{uuid.uuid4().hex[:8]}"
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    host, port = gateway.addresses["mqtt_nodes"].removeprefix("mqtt://").rsplit(":", 1)
    client.connect(host, int(port), keepalive=0)
    client.loop_start()
    try:
        client.publish(f"node/{uid}/temperature", '{"value": "21°C"}', 1).wait_for_publish(5)
        device = joined(app, f"mqtt-{uid}")
        assert wait_for(lambda: values(app, device["device_id"]).get("temperature") == "21°C")
    finally:
        client.disconnect()
        client.loop_stop()


def test_what_is_no_message_of_a_node_is_refused_and_disturbs_nobody(gateway, app, new_node):
    uid = f"n-{uuid.uuid4().hex[:8]}"
    node = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0"}, mqtt.MQTTv5)
    device = joined(app, f"mqtt-{uid}")
    rubbish = [
        ("node/check", b"{}"),
        ("node/check", b"\xff\xfe"),
        ("node/check", b'{"id": "a/b"}'),
        ("node/check", b'{"id": ""}'),
        (f"node/{uid}/led", b"1"),
        (f"node/{uid}/led", b'{"value"'),
        (f"node/{uid}/resources", b'{"led": 1}'),
        ("dev/lamp/evt", b"{}"),
        ("gateway/x/led/set", b"1"),
        ("node//led", b'{"value": 1}'),
    ]
    refused = []
    node.client.on_publish = lambda _, __, mid, reason, ___: reason.is_failure and refused.append(reason.value)
    for topic, body in rubbish:
        node.client.publish(topic, body, 1)
    assert wait_for(lambda: len(refused) == len(rubbish)), refused
    node.say("led", "5")
    assert wait_for(lambda: values(app, device["device_id"])["led"] == "5")
    assert not [node for node in nodes(app, gateway="mqtt") if node["uid"] in ("", "a/b")]


def test_two_connections_do_not_speak_for_one_node(gateway, app, new_node):
    uid = f"n-{uuid.uuid4().hex[:8]}"
    new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0"})
    device = joined(app, f"mqtt-{uid}")
    wait_for(lambda: "led" in values(app, device["device_id"]))
    liar = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "66"}, mqtt.MQTTv5)
    refused = []
    liar.client.on_publish = lambda _, __, mid, reason, ___: refused.append(reason.value)
    liar.say("led", "66")
    assert wait_for(lambda: 0x87 in refused), refused
    assert values(app, device["device_id"])["led"] == "0"


def test_an_mqtt_node_that_is_silent_is_out(new_server, new_api, new_node):
    server = new_server(*LISTENERS, "--nodes-out-after", "mqtt=2")
    app = new_api(server)
    node = new_node(MqttNode, server.addresses["mqtt_nodes"], "sleepy", {"led": "0"})
    joined(app, "mqtt-sleepy")
    node.client.on_message = None
    device = wait_for(lambda: device_of(app, "mqtt-sleepy", online=False), seconds=10)
    assert device["connection"]["details"]["reason"] == "not heard of for a while", device


def test_an_mqtt_sn_node_that_subscribes_to_nothing_tells_its_values_and_takes_no_writes(gateway, app, new_node):
    uid = f"sn-{uuid.uuid4().hex[:8]}"
    node = new_node(SnNode, gateway.addresses["mqtt_sn"], uid, {"led": "0", "temperature": "23°C"})
    node.tell_all()
    device = joined(app, f"mqttsn-{uid}")
    expected = {"protocol": "MQTT", "id": uid, "led": "0", "temperature": "23°C"}
    assert wait_for(lambda: values(app, device["device_id"]) == expected), values(app, device["device_id"])
    result = call(app, device, payload={"led": "1"}).json()["results"][0]
    assert result["status_code"] == 409, result


def test_an_mqtt_sn_node_that_subscribes_is_asked_and_takes_writes(gateway, app, new_node):
    uid = f"sn-{uuid.uuid4().hex[:8]}"
    node = new_node(SnNode, gateway.addresses["mqtt_sn"], uid, {"led": "0"}, listens=True)
    assert node.check() == 0
    device = joined(app, f"mqttsn-{uid}")
    assert wait_for(lambda: values(app, device["device_id"]).get("led") == "0")
    result = call(app, device, payload={"led": "1"}).json()["results"][0]
    assert (result["status_code"], result["result"]) == (200, {"led": "1"})
    assert node.resources["led"] == "1"
    # What is no message of a node is refused (0x03), and disturbs nobody.
    assert node.publish(f"node/{uid}/led", "no json") == 3
    assert node.say("a b", "1") == 3
    assert node.say("led", "2") == 0
    assert values(app, device["device_id"])["led"] == "2"


@pytest.mark.parametrize("kind", ["mqtt", "mqttsn"])
def test_a_write_waits_for_a_node_that_speaks_before_it_subscribes(gateway, app, new_node, kind):
    uid = f"late-{uuid.uuid4().hex[:8]}"
    device = app.post("/devices", json={"sn": f"{kind}-{uid}", "certificate": "none"}).json()["device"]
    body = {"ext_task_id": "n", "device_id": device["device_id"], "method": "set", "ttl": 5, "payload": {"led": "1"}}
    task = app.post("/device-tasks", json=body).json()["id"]
    if kind == "mqtt":
        node = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0"}, listens=False)
    else:
        node = new_node(SnNode, gateway.addresses["mqtt_sn"], uid, {"led": "0"})
    node.check()
    joined(app, f"{kind}-{uid}")
    # It is under way.
    assert wait_for(lambda: app.status(task) == LOCK), app.task(task)
    for value in range(10):
        said = node.say("temperature", str(value))
        if kind == "mqtt":
            said.wait_for_publish(5)
    assert wait_for(lambda: values(app, device["device_id"]).get("temperature") == "9")
    assert app.status(task) == LOCK, app.task(task)
    node.listen()
    assert wait_for(lambda: app.status(task) == DONE), app.task(task)
    assert app.task(task)["results"][0]["result"] == {"led": "1"}


def test_an_mqtt_node_that_subscribes_to_nothing_takes_no_writes(gateway, app, new_node):
    uid = f"deaf-{uuid.uuid4().hex[:8]}"
    node = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0"}, listens=False)
    device = joined(app, f"mqtt-{uid}")
    node.say("led", "0").wait_for_publish(5)
    for _ in range(2):
        result = call(app, device, payload={"led": "1"}).json()["results"][0]
        assert result["status_code"] == 409, result


def test_what_gateways_count_is_on_the_page_of_measurements(gateway, app, new_node):
    new_node(SnNode, gateway.addresses["mqtt_sn"], f"sn-{uuid.uuid4().hex[:8]}", {}).check()
    assert gateway.metric("covey_link_messages_total", link="mqttsn", what="received") > 0
    for link in ("mqtt", "mqttsn", "websocket"):
        assert gateway.metric("covey_link_messages_total", link=link, what="not_heard") == 0


def test_a_websocket_node_that_says_its_name_is_a_device_that_stays(gateway, app, new_node):
    name = f"w-{uuid.uuid4().hex[:8]}"
    node = new_node(WebSocketNode, gateway.addresses["websocket_nodes"], {"id": name, "led": "0", "n": 1})
    device = joined(app, f"websocket-{name}")
    expected = {"protocol": "WebSocket", "id": name, "led": "0", "n": 1}
    assert wait_for(lambda: values(app, device["device_id"]) == expected), values(app, device["device_id"])
    result = call(app, device, payload={"led": "1"}).json()["results"][0]
    assert (result["status_code"], result["result"]) == (200, {"led": "1"})
    assert node.heard.get(timeout=1) == '{"request": "discover"}'
    node.close()
    device = wait_for(lambda: device_of(app, f"websocket-{name}", online=False))
    assert device["connection"]["details"]["reason"] == "connection lost"
    assert values(app, device["device_id"])["led"] == "1"


def test_a_websocket_node_without_a_name_is_gone_with_its_socket(gateway, app, new_node):
    def passing():
        return [one for one in app.get("/devices", params={"size": 1000}).json() if is_passing(one)]

    def is_passing(device):
        sn = device["sn"]
        return sn.startswith("websocket-") and len(sn) == len("websocket-") + 36

    node = new_node(WebSocketNode, gateway.addresses["websocket_nodes"], {"led": "0"}, path="/any/path")
    [device] = wait_for(passing, seconds=10)
    result = call(app, device, payload={"led": "1"}).json()["results"][0]
    assert result["result"] == {"led": "1"}
    node.close()
    assert wait_for(lambda: not passing())


def test_a_node_that_says_its_name_late_is_known_by_it_from_then_on(gateway, app, new_node):
    name = f"late-{uuid.uuid4().hex[:8]}"
    node = new_node(WebSocketNode, gateway.addresses["websocket_nodes"], {"led": "0"})
    time.sleep(0.1)
    node.resources["name"] = name
    node.say({"name": name})
    device = joined(app, f"websocket-{name}")
    assert wait_for(lambda: values(app, device["device_id"]).get("led") == "0")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no json", 1003),
        ("[]", 1003),
        ('{"data": {}}', 1003),
        ('{"type": "hello"}', 1003),
        ('{"type": "update", "data": 1}', 1003),
        (b"\x00", 1003),
        (json.dumps({"type": "update", "data": {"x": "y" * 70_000}}), 1009),
        (json.dumps({"type": "update", "data": {str(i): 1 for i in range(257)}}), 1008),
    ],
)
def test_rubbish_over_websocket_closes_the_socket_with_a_reason(gateway, text, code):
    with connect(f"{gateway.addresses['websocket_nodes']}/node") as socket:
        assert socket.recv() == '{"request": "discover"}'
        for ignored in ("new", "out", "reset"):
            socket.send(json.dumps({"type": ignored}))
        socket.send(text)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=5)
        assert socket.close_code == code and socket.close_reason


def test_a_websocket_node_that_says_rubbish_is_lost_and_not_revoked(gateway, app, new_node):
    name = f"w-{uuid.uuid4().hex[:8]}"
    node = new_node(WebSocketNode, gateway.addresses["websocket_nodes"], {"name": name})
    joined(app, f"websocket-{name}")
    node.socket.send("no json")
    device = wait_for(lambda: device_of(app, f"websocket-{name}", online=False))
    assert device["connection"]["details"]["reason"] == "connection lost", device


def test_only_pages_of_the_own_host_or_of_the_list_may_connect(new_server):
    server = new_server(*LISTENERS, "--node-origins", "https://dashboard.example")
    url = f"{server.addresses['websocket_nodes']}/node"
    for origin in ("http://127.0.0.1:9", "https://dashboard.example"):
        with connect(url, origin=origin) as socket:
            socket.recv()
    for origin in ("https://elsewhere.example", "null"):
        with pytest.raises(InvalidStatus) as refused, connect(url, origin=origin):
            pass
        assert refused.value.response.status_code == 403


def test_a_newcomer_waits_until_somebody_approves_it(new_server, new_api, new_node):
    server = new_server(*LISTENERS, "--nodes", "approve")
    app = new_api(server)
    new_node(MqttNode, server.addresses["mqtt_nodes"], "shy", {"led": "0"})
    [waiting] = wait_for(lambda: nodes(app, state="waiting"))
    assert (waiting["gateway"], waiting["uid"], waiting["state"]) == ("mqtt", "shy", "waiting")
    assert device_of(app, "mqtt-shy") is None
    answer = app.post(f"/nodes/{waiting['id']}/approve")
    assert answer.status_code == 200, answer.text
    device = joined(app, "mqtt-shy")
    assert wait_for(lambda: values(app, device["device_id"]).get("led") == "0")
    # And out again, for good.
    assert app.post(f"/nodes/{waiting['id']}/block").status_code == 200
    assert wait_for(lambda: device_of(app, "mqtt-shy", online=True) is None)
    time.sleep(0.5)
    assert device_of(app, "mqtt-shy", online=True) is None


def test_where_nodes_must_be_known_a_stranger_is_nobody(new_server, new_api, new_node):
    server = new_server(*LISTENERS, "--nodes", "known")
    app = new_api(server)
    new_node(MqttNode, server.addresses["mqtt_nodes"], "stranger", {"led": "0"})
    assert app.post("/nodes", json={"gateway": "mqtt", "uid": "friend"}).status_code == 201
    new_node(MqttNode, server.addresses["mqtt_nodes"], "friend", {"led": "1"})
    joined(app, "mqtt-friend")
    assert device_of(app, "mqtt-stranger") is None


def test_writes_wait_for_a_node_that_is_away_and_the_newest_of_a_resource_is_done(gateway, app, new_node):
    uid = f"n-{uuid.uuid4().hex[:8]}"
    registered = app.post("/devices", json={"sn": f"mqtt-{uid}", "certificate": "none"})
    assert registered.status_code == 201, registered.text
    device = registered.json()["device"]
    made = [
        app.post(
            "/device-tasks",
            json={"ext_task_id": "x", "device_id": device["device_id"], "method": "set", "ttl": 5, "payload": payload},
        ).json()["id"]
        for payload in ({"led": "1"}, {"led": "2"}, {"dim": "9"}, {"led": "3"})
    ]
    node = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0", "dim": "0"})
    assert wait_for(lambda: app.status(made[-1]) == DONE, seconds=10)
    assert wait_for(lambda: app.status(made[2]) == DONE, seconds=10)
    assert (node.resources["led"], node.resources["dim"]) == ("3", "9")
    sets = [one for one in node.asked if one.endswith(("set 1", "set 2"))]
    assert not sets, node.asked


def test_after_a_kill_a_node_is_there_again_and_a_write_is_done(new_server, new_api, new_node):
    server = new_server("--mqtt-nodes", f"127.0.0.1:{kept_ports(1)[0]}")
    app = new_api(server)
    node = new_node(MqttNode, server.addresses["mqtt_nodes"], "steady", {"led": "0"})
    device = joined(app, "mqtt-steady")
    server.kill()
    server.start()
    app = new_api(server)
    assert call(app, device, payload={"led": "1"}).json()["status"] == DONE
    assert node.resources["led"] == "1"


def test_open_admission_off_loopback_must_be_insisted_on(tmp_path):
    listener = ("--mqtt-nodes", "0.0.0.0:0", "--nodes", "open")
    server = Server(tmp_path / "data", *listener)
    with pytest.raises(NotStarted) as refused:
        server.start()
    assert "--nodes-insist" in str(refused.value)
    server = Server(tmp_path / "data", *listener, "--nodes-insist")
    try:
        server.start()
        assert "any node that reaches this server joins" in server.log_text()
    finally:
        server.drop()


@pytest.mark.parametrize("protocol", [mqtt.MQTTv311, mqtt.MQTTv5])
def test_a_value_of_64_kib_is_refused_and_the_node_is_heard_on(gateway, app, new_node, protocol):
    uid = f"n-{uuid.uuid4().hex[:8]}"
    node = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0"}, protocol)
    device = joined(app, f"mqtt-{uid}")
    assert wait_for(lambda: "led" in values(app, device["device_id"]))
    for size in (20_000, 64 * 1024 - 200, 64 * 1024):
        node.say("led", "9" * size)
    # The last one is more than a packet may have: the connection is closed, and the node comes again by itself.
    assert wait_for(lambda: node.say("led", "1") and values(app, device["device_id"])["led"] == "1", 30)
    history = app.get(f"/devices/{device['device_id']}/twin/history", params={"resource": "led"}).text
    assert "9999" not in history, len(history)


def test_an_answer_that_comes_late_or_twice_changes_the_value_and_no_task(gateway, app, new_node):
    uid = f"n-{uuid.uuid4().hex[:8]}"
    node = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0"})
    device = joined(app, f"mqtt-{uid}")
    assert wait_for(lambda: "led" in values(app, device["device_id"]))
    node.is_mute = True
    task = call(app, device, payload={"led": "1"}).json()
    assert [result["status_code"] for result in task["results"]] == [202]
    node.say("led", "1")
    node.say("led", "1")
    assert wait_for(lambda: values(app, device["device_id"])["led"] == "1")
    after = app.get(f"/device-tasks/{task['id']}").json()
    assert (after["status"], after["results"]) == (task["status"], task["results"])
    # The next write has an answer of its own.
    node.is_mute = False
    result = call(app, device, payload={"led": "2"}).json()["results"]
    assert [(one["status_code"], one["result"]) for one in result] == [(200, {"led": "2"})]


def test_a_flood_of_uids_and_values_from_one_connection_leaves_others_served(gateway, app, new_node):
    uid, flood = f"n-{uuid.uuid4().hex[:8]}", f"f-{uuid.uuid4().hex[:8]}"
    node = new_node(MqttNode, gateway.addresses["mqtt_nodes"], uid, {"led": "0"})
    device = joined(app, f"mqtt-{uid}")
    noisy = new_node(MqttNode, gateway.addresses["mqtt_nodes"], flood, {"led": "0"}, qos=0)
    for number in range(2_000):
        noisy.client.publish("node/check", json.dumps({"id": f"{flood}-{number % 200}"}), 0)
        noisy.client.publish(f"node/{flood}/r{number % 400}", json.dumps({"value": "x" * 200}), 0)
    for number in range(5):
        result = call(app, device, payload={"led": f"{number}"}).json()["results"][0]
        assert (result["status_code"], node.resources["led"]) == (200, f"{number}"), result
    assert joined(app, f"mqtt-{flood}")
    ready = httpx.get(f"{gateway.http}/readyz")
    assert ready.status_code == 200, ready.text
