"""Nodes, web clients and gateways that are programs with libraries of the field: MQTT.js, ws, libcoap, mqttsn, and
chumicro-mqtt and umqtt.simple on MicroPython."""

import itertools
import json
import os
import shutil
import subprocess
import uuid

import pytest

from testbed.api import DONE, FAILED
from testbed.field_programs import Program
from testbed.node_broker import Keys
from testbed.nodes import device_of, values
from testbed.nodes import wait_for as look_for
from testbed.server import serving

pytestmark = pytest.mark.embedded
LISTENERS = ("--mqtt-nodes", "127.0.0.1:0", "--mqtt-sn", "127.0.0.1:0", "--websocket-nodes", "127.0.0.1:0", "--coap", "127.0.0.1:0")
VALUES = {"led": "0", "temperature": "23°C", "imu": '[{"type": "acc", "values": [0, 1]}]'}
SECONDS = 60.0
LIBCOAP = ("coap-client-notls", "coap-server-notls")
# Of libcoap's nodes; those of aiocoap are elsewhere.
ADDRESSES = (f"127.{128 + os.getpid() % 60}.{a}.{b}" for a, b in itertools.product(range(1, 250), range(1, 250)))


def wait_for(check):
    return look_for(check, SECONDS)


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Keys:
    return Keys.make(tmp_path_factory.mktemp("keys") / "a" / "keys")


@pytest.fixture(scope="module")
def site(tmp_path_factory, keys):
    options = (*LISTENERS, "--nodes", "open", "--node-broker", "127.0.0.1:0", "--node-keys", str(keys.path))
    with serving(tmp_path_factory.mktemp("field") / "data", *options) as running:
        yield running


@pytest.fixture
def app(site, new_api):
    return new_api(site)


def fresh(prefix: str) -> str:
    return f"{prefix}{uuid.uuid4().hex[:8]}"


def joined(app, sn: str) -> dict:
    device = wait_for(lambda: device_of(app, sn, online=True))
    assert device, f"{sn} is not there"
    return device


def has(app, device: dict, expected: dict) -> None:
    seen = lambda: values(app, device["device_id"])  # noqa: E731
    assert wait_for(lambda: expected.items() <= seen().items()), seen()


def set_led(app, device: dict, resource: str = "led", value: str = "1", status: int = DONE) -> dict:
    body = {"ext_task_id": "f", "device_id": device["device_id"], "method": "set", "ttl": 5, "payload": {resource: value}}
    task = app.post("/device-tasks", params={"wait": 60}, json=body).json()
    assert task["status"] == status, json.dumps(task)
    return task["results"][0]


@pytest.mark.parametrize("level", ["4", "5"])
def test_a_node_of_mqtt_js(site, app, new_node, tmp_path, level):
    uid = fresh("js")
    node = new_node(Program.node, tmp_path, "mqtt_node.js", site.addresses["mqtt_nodes"], level, uid, json.dumps(VALUES))
    device = joined(app, f"mqtt-{uid}")
    has(app, device, {**VALUES, "protocol": "MQTT", "id": uid})
    result = set_led(app, device)
    assert (result["status_code"], result["result"]) == (200, {"led": "1"})
    assert f"gateway/{uid}/led/set 1" in node.heard()
    assert node.heard().count(f"gateway/{uid}/discover values") == 1
    has(app, device, {"led": "1"})


@pytest.mark.parametrize("file", ["chumicro_node.py", "umqtt_node.py"])
def test_a_node_of_micropython(site, app, new_node, tmp_path, file):
    uid, said = fresh("mpy"), {"led": "0", "temperature": "23°C"}
    host, port = site.addresses["mqtt_nodes"].removeprefix("mqtt://").rsplit(":", 1)
    node = new_node(Program.micropython, tmp_path, file, host, port, uid, json.dumps(said))
    device = wait_for(lambda: device_of(app, f"mqtt-{uid}", online=True))
    assert device, node.heard()
    has(app, device, {**said, "protocol": "MQTT", "id": uid})
    result = set_led(app, device)
    assert (result["status_code"], result["result"]) == (200, {"led": "1"}), node.heard()


def test_a_node_of_ws(site, app, new_node, tmp_path):
    name = fresh("ws")
    said = {"name": name, **VALUES}
    node = new_node(Program.node, tmp_path, "ws_node.js", f"{site.addresses['websocket_nodes']}/node", json.dumps(said))
    device = joined(app, f"websocket-{name}")
    has(app, device, {**said, "protocol": "WebSocket"})
    result = set_led(app, device)
    assert (result["status_code"], result["result"]) == (200, {"led": "1"})
    assert '{"request": "discover"}' in node.heard()
    node.close()
    assert wait_for(lambda: device_of(app, f"websocket-{name}", online=False))


def test_a_web_client_and_a_gateway_of_ws(site, app, keys, new_node, tmp_path):
    broker, uid = site.addresses["node_broker"], fresh("gw")
    client = new_node(Program.node, tmp_path, "ws_client.js", f"{broker}/ws")
    arguments = (f"{broker}/gw", keys.token(), uid, json.dumps(VALUES))
    gateway = new_node(Program.node, tmp_path, "ws_gateway.js", *arguments)
    device = joined(app, f"remote-{uid}")
    has(app, device, VALUES)

    def told(**fields):
        messages = [json.loads(line) for line in client.heard() if line.startswith("{")]
        return [one for one in messages if fields.items() <= one.items()]

    assert wait_for(lambda: told(type="new", uid=uid))
    for endpoint, data in VALUES.items():
        assert wait_for(lambda: told(type="update", uid=uid, endpoint=endpoint, data=data)), endpoint  # noqa: B023
    client.say(json.dumps({"type": "update", "data": {"uid": uid, "endpoint": "led", "payload": "1"}}))
    assert wait_for(lambda: told(type="update", uid=uid, endpoint="led", data="1")), client.heard()
    has(app, device, {"led": "1"})
    gateway.close()
    assert wait_for(lambda: told(type="out", uid=uid))
    refused = new_node(Program.node, tmp_path, "ws_gateway.js", f"{broker}/gw", "no-token", uid, "{}")
    assert wait_for(lambda: any("401" in line for line in refused.heard())), refused.heard()


def test_a_node_of_mqttsn(site, app, new_node, tmp_path):
    pytest.importorskip("mqttsn", reason="mqttsn is not installed")
    uid = fresh("sn")
    host, port = site.addresses["mqtt_sn"].removeprefix("mqtt-sn://").rsplit(":", 1)
    node = new_node(Program.python, tmp_path, "mqttsn_node.py", host, port, uid, json.dumps(VALUES))
    device = wait_for(lambda: device_of(app, f"mqttsn-{uid}", online=True))
    assert device, node.heard()
    has(app, device, VALUES)


@pytest.mark.skipif(not all(map(shutil.which, LIBCOAP)), reason="libcoap3-bin is not installed")
def test_a_node_of_libcoap(site, app, new_node, tmp_path):
    uid, address = fresh("lib"), next(ADDRESSES)
    new_node(Program, tmp_path, LIBCOAP[1], "-A", address, "-p", "5683", "-d", "4")
    gateway = site.addresses["coap"]

    def post(path: str, text: str) -> str:
        command = [LIBCOAP[0], "-a", address, "-B", "10", "-m", "post", "-e", text, f"{gateway}/{path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        return done.stdout + done.stderr

    # It says so from a port that is closed at once, each time another; so the second time proves its address.
    post("alive", f"alive:{uid}")
    post("alive", f"alive:{uid}")
    device = joined(app, f"coap-{uid}")
    # What libcoap's server has by itself.
    assert wait_for(lambda: "time" in values(app, device["device_id"])), values(app, device["device_id"])
    has(app, device, {"protocol": "CoAP", "ip": f"::ffff:{address}"})
    assert "Received 'temperature:23°C'" in post("server", "temperature:23°C")
    assert values(app, device["device_id"])["temperature"] == "23°C"
    # It answers 2.01 to the first PUT, which is no success, and 2.04 from then on.
    result = set_led(app, device, "example_data", "on", FAILED)
    assert (result["status_code"], result["result"]) == (502, {"error": "the node answered 2.01"})
    result = set_led(app, device, "example_data", "on")
    assert (result["status_code"], result["result"]) == (200, {"example_data": "on"})
