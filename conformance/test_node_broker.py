"""The node broker, with web clients and gateways as in the field."""

import json
import os
import re
import socket
import stat
import time
import uuid

import pytest
import websocket

from testbed.api import DONE
from testbed.coap_nodes import CoapNode
from testbed.front_door import free_ports
from testbed.node_broker import SECONDS, FieldGateway, Keys, OwnGateway, WebClient, certificates, device_of
from testbed.nodes import MqttNode, SnNode, Unit, WebSocketNode, values
from testbed.nodes import wait_for as look_for
from testbed.server import NotStarted, serving

pytestmark = pytest.mark.embedded
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
NODES = ("--mqtt-nodes", "127.0.0.1:0", "--websocket-nodes", "127.0.0.1:0", "--nodes", "open")


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Keys:
    return Keys.make(tmp_path_factory.mktemp("keys") / "a" / "keys")


@pytest.fixture(scope="module")
def site(tmp_path_factory, keys):
    """A server with a node broker that lets every node in."""
    options = (*NODES, "--node-broker", "127.0.0.1:0", "--node-keys", str(keys.path))
    with serving(tmp_path_factory.mktemp("broker") / "data", *options) as running:
        yield running


@pytest.fixture
def broker(site) -> str:
    return site.addresses["node_broker"]


@pytest.fixture
def app(site, new_api):
    return new_api(site)


@pytest.fixture
def new():
    """Makes clients, gateways and nodes; they end with the test."""
    made = []

    def make(kind, *arguments, **more):
        made.append(kind(*arguments, **more))
        return made[-1]

    yield make
    for one in reversed(made):
        if hasattr(one, "kill"):
            one.kill()
        else:
            one.close()


def wait_for(check, seconds: float = SECONDS):
    return look_for(check, seconds)


def name() -> str:
    return f"n-{uuid.uuid4().hex[:8]}"


def of(uid: str):
    return lambda message: message.get("uid") == uid


def is_update(uid: str, endpoint: str, data):
    return lambda message: (
        message["type"] == "update" and (message["uid"], message["endpoint"], message["data"]) == (uid, endpoint, data)
    )


def is_out(uid: str):
    return lambda message: message == {"type": "out", "uid": uid}


def told(client, uid: str, last, seconds: float = SECONDS) -> list[dict]:
    """What a client hears of a node up to a message."""
    return [message for message in client.until(last, seconds) if message["uid"] == uid]


def test_a_key_file_is_made_for_its_owner_alone_and_others_read_it(keys):
    mode = stat.S_IMODE(os.stat(keys.path).st_mode), stat.S_IMODE(os.stat(keys.path.parent).st_mode)
    assert mode == (0o600, 0o700)
    assert re.fullmatch("[A-Za-z0-9]{32}", keys.secret)
    again = os.spawnv(os.P_WAIT, os.environ["COVEY_BIN"], ["covey", "key", "fernet", "--out", str(keys.path)])
    assert again == 2 and Keys(keys.path).secret == keys.secret, "a file that is there stays"


def all_of(client, uid: str, said: dict, seconds: float = SECONDS) -> list[dict]:
    """What a client hears of a node up to the last of these values."""
    known: dict = {}

    def is_last(message):
        if message.get("uid") == uid and message["type"] == "update":
            known[message["endpoint"]] = message["data"]
        return said.items() <= known.items()

    return told(client, uid, is_last, seconds)


def test_a_client_hears_all_after_its_new_in_order_and_then_what_changes(broker, keys, new):
    uid = name()
    said = {"protocol": "CoAP", "ip": "::ffff:192.0.2.7", "led": "0", "temperature": "23°C", "imu": '[{"type": "acc"}]'}
    gateway = new(FieldGateway, broker, keys)
    mute = new(WebClient, broker, is_new=False)
    client = new(WebClient, broker)
    client.send({"type": "new"})
    gateway.nodes[uid] = said
    gateway.tell("all")
    heard = all_of(client, uid, said)
    assert heard[0] == {"type": "new", "uid": uid, "dst": "all"}, "a new node is told to all"
    late = new(WebClient, broker)
    heard = all_of(late, uid, said)
    dst = heard[0]["dst"]
    assert UUID4.fullmatch(dst) and {message["dst"] for message in heard} == {dst}, "to one who comes alone"
    assert heard[0] == {"type": "new", "uid": uid, "dst": dst} and len(heard) == 6
    assert heard[1] == {"type": "update", "uid": uid, "endpoint": "ip", "data": said["ip"], "dst": dst}
    assert heard[2]["endpoint"] == "protocol"
    gateway.say(uid, "led", "1")
    for one in (client, late):
        told(one, uid, lambda m: m == {"type": "update", "uid": uid, "endpoint": "led", "data": "1", "dst": "all"})
    gateway.send({"type": "reset", "uid": uid})
    assert told(client, uid, lambda message: message["type"] == "reset")[-1] == {"type": "reset", "uid": uid}
    gateway.send({"type": "out", "uid": uid})
    del gateway.nodes[uid]
    told(client, uid, is_out(uid))
    assert mute.quiet(), mute.last


def test_values_are_passed_on_as_they_came(broker, keys, new, app):
    uid = name()
    gateway = new(FieldGateway, broker, keys, {uid: {"ip": "::1", "protocol": "CoAP"}})
    client = new(WebClient, broker)
    told(client, uid, is_update(uid, "protocol", "CoAP"))
    for value in ["1", 1, 1.5, True, None, "", [1, "2"], {"a": {"b": "ü"}}, "23°C", "\u0000\"\\", "1e400"]:
        gateway.say(uid, "v", value)
        assert told(client, uid, of(uid))[-1]["data"] == value
    device = device_of(app, f"remote-{uid}")
    assert values(app, device["device_id"])["v"] == "1e400"


def test_what_a_client_sets_is_a_task_and_all_clients_hear_the_answer(broker, keys, new, app):
    uid = name()
    gateway = new(FieldGateway, broker, keys, {uid: {"ip": "::1", "protocol": "CoAP", "led": "0"}})
    client, other = new(WebClient, broker), new(WebClient, broker)
    for one in (client, other):
        told(one, uid, is_update(uid, "led", "0"))
    client.set(uid, "led", "1")
    message = gateway.sets.get(timeout=SECONDS)
    assert set(message) == {"type", "data", "src"} and UUID4.fullmatch(message["src"])
    assert message["data"] == {"uid": uid, "endpoint": "led", "payload": "1"}
    for one in (client, other):
        told(one, uid, is_update(uid, "led", "1"))
    device = device_of(app, f"remote-{uid}")
    tasks = lambda: app.get("/device-tasks", params={"device_id": device["device_id"]}).json()["items"]
    assert wait_for(lambda: tasks()[0]["status"] == DONE), tasks()
    assert tasks()[0]["method"] == "set" and tasks()[0]["created_by"] == "node-broker"
    answer = app.post(
        "/device-tasks",
        params={"wait": 20},
        json={"ext_task_id": "x", "device_id": device["device_id"], "method": "set", "ttl": 5, "payload": {"led": 7}},
    )
    assert answer.json()["results"][-1]["status_code"] == 200, answer.text
    assert gateway.sets.get(timeout=SECONDS)["data"]["payload"] == 7
    told(client, uid, is_update(uid, "led", 7))


def test_what_is_set_while_the_gateway_is_away_is_done_when_it_is_back(broker, keys, new, app):
    uid = name()
    gateway = FieldGateway(broker, keys, {uid: {"ip": "::1", "protocol": "CoAP", "led": "0"}})
    client = new(WebClient, broker)
    told(client, uid, is_update(uid, "led", "0"))
    gateway.answers = False
    client.set(uid, "led", "5")
    gateway.sets.get(timeout=SECONDS)
    gateway.cut()
    assert told(client, uid, of(uid))[-1] == {"type": "out", "uid": uid}
    client.set(uid, "led", "6")
    assert client.quiet(), client.last
    device = device_of(app, f"remote-{uid}")
    body = {"ext_task_id": "x", "device_id": device["device_id"], "method": "set", "ttl": 5, "payload": {"led": "7"}}
    assert app.post("/device-tasks", json=body).status_code in (200, 201, 202)
    back = new(FieldGateway, broker, keys, {uid: {"ip": "::1", "protocol": "CoAP", "led": "0"}})
    assert wait_for(lambda: back.nodes[uid]["led"] == "7")
    told(client, uid, is_update(uid, "led", "7"))


@pytest.mark.parametrize(
    "message",
    ["", "x", "1", "null", "[]", '["new"]', "{}", '{"type": "old"}', '{"type": null}', '{"data": "client"}', b"\x01"],
)
def test_what_is_no_message_closes_a_client_with_1003(broker, new, message):
    client = new(WebClient, broker, is_new=False)
    if isinstance(message, bytes):
        client.socket.send_binary(message)
    else:
        client.socket.send(message)
    assert client.close_code() == 1003


def test_what_a_client_says_else_is_ignored(broker, keys, new):
    uid = name()
    gateway = new(FieldGateway, broker, keys, {uid: {"ip": "::1", "protocol": "CoAP", "led": "0"}})
    client = new(WebClient, broker)
    told(client, uid, is_update(uid, "led", "0"))
    data = {"uid": uid, "endpoint": "led", "payload": "1"}
    for message in (
        {"type": "out", "uid": uid},
        {"type": "reset", "uid": uid},
        {"type": "update"},
        {"type": "update", "data": {**data, "more": 1}},
        {"type": "update", "data": {"uid": uid, "endpoint": "led"}},
        {"type": "update", "data": [1]},
        {"type": "update", "data": {**data, "uid": "nobody"}},
        {"type": "update", "data": {**data, "endpoint": "not a name"}},
    ):
        client.send(message)
    assert client.quiet() and gateway.sets.empty()
    client.set(uid, "led", "2")
    told(client, uid, is_update(uid, "led", "2"))
    client.socket.send("x" * 70_000)
    assert client.close_code() == 1009


def test_a_gateway_needs_the_token_of_the_key_file(broker, keys, tmp_path):
    other = Keys.make(tmp_path / "keys")
    for offered in (
        None,
        ["token"],
        ["token", "abc"],
        ["token", other.token()],
        ["token", keys.token("0" * 32)],
        [keys.token(), "token"],
        ["mqtt", keys.token()],
        ["token", keys.token(), "more"],
    ):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            websocket.create_connection(f"{broker}/gw", subprotocols=offered)
        assert refused.value.status_code == 401, offered
    for at in (0, int(time.time()) + 10**6):
        accepted = websocket.create_connection(f"{broker}/gw", subprotocols=["token", keys.token(at=at)])
        assert accepted.subprotocol == "token"
        accepted.close()
    for path in ("", "/", "/node", "/gw/x"):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            websocket.create_connection(broker + path)
        assert refused.value.status_code == 404


@pytest.mark.parametrize("path", ["ws", "gw"])
def test_pages_of_other_origins_may_not_connect(broker, keys, path):
    connect = lambda origin: websocket.create_connection(
        f"{broker}/{path}", origin=origin, subprotocols=["token", keys.token()] if path == "gw" else None
    )
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connect("https://elsewhere.example")
    assert refused.value.status_code == 403
    connect("http://127.0.0.1:8080").close()


def test_an_update_of_a_node_that_was_not_announced_is_dropped(broker, keys, new):
    uid, other = name(), name()
    gateway = new(FieldGateway, broker, keys)
    client = new(WebClient, broker)
    gateway.send({"type": "update", "uid": uid, "endpoint": "led", "data": "1", "dst": "all"})
    gateway.send({"type": "update", "uid": "alive"})
    gateway.send({"type": "new", "uid": other, "dst": "all"})
    gateway.say(other, "led", "1")
    heard = client.until(is_update(other, "led", "1"))
    assert uid not in {message["uid"] for message in heard}


def test_rubbish_of_a_gateway_is_dropped_and_its_nodes_stay(site, broker, keys, new):
    uid = name()
    gateway = new(FieldGateway, broker, keys, {uid: {"ip": "::1", "protocol": "CoAP"}})
    client = new(WebClient, broker)
    told(client, uid, is_update(uid, "protocol", "CoAP"))
    for rubbish in ("", "x", "[]", "{}", '{"type": "new"}', '{"type": "new", "uid": ""}', '{"type": "old", "uid": "x"}',
                    '{"type": "update", "uid": "%s", "endpoint": "t", "data": NaN}' % uid,
                    '{"type": "update", "uid": "%s", "endpoint": "not a name", "data": 1}' % uid,
                    '{"type": "new", "uid": "%s"}' % ("x" * 200)):
        gateway.socket.send(rubbish)
    gateway.say(uid, "led", "1")
    told(client, uid, is_update(uid, "led", "1"))
    gateway.socket.send_binary(b"\x00")
    assert gateway.close_code() == 1003
    told(client, uid, is_out(uid))
    assert "a message of a gateway is dropped" in site.log_text()


def test_a_question_goes_to_every_gateway_and_its_answer_to_the_client_alone(broker, keys, new):
    one, two = name(), name()
    gateways = [new(FieldGateway, broker, keys, {uid: {"ip": "::1", "protocol": "CoAP", "led": "0"}}) for uid in (one, two)]
    client, other = new(WebClient, broker), new(WebClient, broker)
    for web in (client, other):
        told(web, one, is_update(one, "led", "0"))
    clients = [{gateway.asked.get(timeout=SECONDS) for _ in range(2)} for gateway in gateways]
    assert clients[0] == clients[1] and all(UUID4.fullmatch(src) for src in clients[0])
    client.send({"type": "new"})
    src = gateways[0].asked.get(timeout=SECONDS)
    answer = {"type": "update", "uid": one, "endpoint": "led", "data": "only for one", "dst": src}
    gateways[0].send(answer)
    assert client.until(is_update(one, "led", "only for one"))[-1] == answer
    gateways[0].say(one, "led", "for all")
    heard = other.until(is_update(one, "led", "for all"))
    assert "only for one" not in {message.get("data") for message in heard}


def test_a_uid_belongs_to_the_connection_that_announced_it_first(broker, keys, new):
    uid, other = name(), name()
    first = new(FieldGateway, broker, keys, {uid: {"ip": "::1", "protocol": "CoAP", "led": "0"}})
    client = new(WebClient, broker)
    told(client, uid, is_update(uid, "led", "0"))
    second = new(FieldGateway, broker, keys, {uid: {"led": "stolen"}, other: {"ip": "::1", "protocol": "CoAP", "led": "0"}})
    second.send({"type": "out", "uid": uid})
    heard = client.until(is_update(other, "led", "0"))
    assert not [message for message in heard if message["uid"] == uid]
    client.set(uid, "led", "1")
    told(client, uid, is_update(uid, "led", "1"))
    assert second.sets.empty()
    second.close()
    assert told(client, other, of(other))[-1] == {"type": "out", "uid": other}
    first.say(uid, "led", "2")
    told(client, uid, is_update(uid, "led", "2"))


def test_an_mqtt_node_of_another_gateway_is_one_device_under_each_of_its_uids(broker, keys, new, app):
    node = name()
    client = new(WebClient, broker)
    devices = set()
    for _ in range(2):
        uid = str(uuid.uuid4())
        gateway = FieldGateway(broker, keys, {uid: {"id": node, "protocol": "MQTT", "led": "0"}})
        heard = told(client, uid, is_update(uid, "led", "0"))
        assert [message.get("endpoint") for message in heard] == [None, "id", "protocol", "led"], heard
        devices.add(wait_for(lambda: device_of(app, f"remote-{node}", online=True))["device_id"])
        client.set(uid, "led", "1")
        assert gateway.sets.get(timeout=SECONDS)["data"] == {"uid": uid, "endpoint": "led", "payload": "1"}
        told(client, uid, is_update(uid, "led", "1"))
        gateway.close()
        told(client, uid, is_out(uid))
        # What was said in the last 50 ms before a node comes counts as said since: two clocks are read.
        time.sleep(0.2)
    assert len(devices) == 1


def test_nodes_of_the_server_itself_have_a_new_uid_each_time(site, broker, new, app):
    client, node_id = new(WebClient, broker), name()
    uids = set()
    for _ in range(2):
        node = WebSocketNode(site.addresses["websocket_nodes"], {"mark": node_id, "led": "0"})
        uid = client.node(("mark", node_id))
        uids.add(uid)
        late = new(WebClient, broker)
        heard = told(late, uid, is_update(uid, "led", "0"))
        assert [message.get("endpoint") for message in heard[:2]] == [None, "protocol"]
        client.set(uid, "led", {"on": [1]})
        told(client, uid, is_update(uid, "led", {"on": [1]}))
        node.close()
        told(client, uid, is_out(uid))
    assert len(uids) == 2 and all(UUID4.fullmatch(uid) for uid in uids)


def test_an_mqtt_node_of_the_server_itself(site, broker, new):
    client, node_id = new(WebClient, broker), name()
    node = new(MqttNode, site.addresses["mqtt_nodes"], node_id, {"led": "0"})
    uid = client.node(("id", node_id))
    assert UUID4.fullmatch(uid)
    client.node(("led", "0"))
    late = new(WebClient, broker)
    heard = told(late, uid, is_update(uid, "led", "0"))
    assert [message.get("endpoint") for message in heard] == [None, "id", "protocol", "led"]
    client.set(uid, "led", "1")
    told(client, uid, is_update(uid, "led", "1"))
    assert node.resources["led"] == "1"


def test_a_slow_client_is_cut_off_and_others_hear_all(new_server, keys, new):
    free = ("--events-per-second-max", "100000", "--device-bytes-per-day-max", "0", "--organisation-bytes-per-second-max", "0")
    site = new_server("--nodes", "open", "--node-broker", "127.0.0.1:0", "--node-keys", str(keys.path), *free)
    broker, uid = site.addresses["node_broker"], name()
    gateway = new(FieldGateway, broker, keys, {uid: {"ip": "::1", "protocol": "CoAP"}})
    client = new(WebClient, broker)
    told(client, uid, is_update(uid, "protocol", "CoAP"))
    slow = socket.create_connection(broker.removeprefix("ws://").rsplit(":", 1))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.sendall(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert slow.recv(4096).startswith(b"HTTP/1.1 101")
    slow.sendall(b"\x81\x8e\0\0\0\0" + b'{"type":"new"}')
    large = "x" * 15_000
    deadline = time.monotonic() + 60
    number = 0
    while "did not take what it was sent" not in site.log_text():
        assert time.monotonic() < deadline
        number += 1
        gateway.say(uid, "large", f"{number} {large}")
        if number % 20 == 0:
            told(client, uid, is_update(uid, "large", f"{number} {large}"))
    slow.close()
    gateway.say(uid, "led", "1")
    told(client, uid, is_update(uid, "led", "1"))


def test_a_server_that_was_killed_shows_what_is_there_again(keys, new, new_server, tmp_path):
    options = (*NODES, "--node-broker", "127.0.0.1:0", "--node-keys", f"attic={keys.path}")
    server = new_server(*options)
    uid = name()
    FieldGateway(server.addresses["node_broker"], keys, {uid: {"ip": "::1", "protocol": "CoAP", "led": "0"}})
    client = WebClient(server.addresses["node_broker"])
    told(client, uid, is_update(uid, "led", "0"))
    server.kill()
    server.start()
    broker = server.addresses["node_broker"]
    client = new(WebClient, broker)
    assert client.quiet(1.0), f"its gateway is not there: {client.last}"
    new(FieldGateway, broker, keys, {uid: {"ip": "::1", "protocol": "CoAP", "led": "9"}})
    heard = told(client, uid, is_update(uid, "led", "9"))
    assert [message.get("endpoint") for message in heard] == [None, "ip", "protocol", "led"]
    assert server.stop() == 0


def test_a_client_that_comes_late_is_told_of_many_nodes(broker, keys, new):
    nodes = {f"{name()}-{number}": {"ip": "::1", "protocol": "CoAP", "led": str(number)} for number in range(300)}
    new(FieldGateway, broker, keys, nodes)
    last = list(nodes)[-1]
    client = new(WebClient, broker)
    client.until(is_update(last, "led", "299"), 30)
    late = new(WebClient, broker)
    seen: dict[str, dict] = {}

    def is_last(message):
        if message["uid"] in nodes and message["type"] == "new":
            seen.setdefault(message["uid"], {})
        elif message["uid"] in nodes:
            seen[message["uid"]][message["endpoint"]] = message["data"]
        return seen == nodes

    late.until(is_last, 30)


@pytest.fixture
def own_gateway(keys, tmp_path, new):
    """Starts `covey gateway`."""

    def start(protocol: str, broker: str, *options: str, port: int = 0, key_file=None) -> OwnGateway:
        log = tmp_path / f"gateway-{uuid.uuid4().hex[:6]}.log"
        return new(OwnGateway, protocol, broker, key_file or keys.path, log, *options, port=port).start()

    return start


def test_an_own_gateway_of_websocket_nodes(broker, own_gateway, new, app):
    gateway = own_gateway("websocket", f"{broker}/gw")
    node_id = name()
    client = new(WebClient, broker)
    node = new(WebSocketNode, gateway.nodes, {"id": node_id, "led": "0", "temperature": "23°C"})
    uid = client.node(("id", node_id))
    assert UUID4.fullmatch(uid)
    late = new(WebClient, broker)
    heard = all_of(late, uid, {"id": node_id, "protocol": "WebSocket", "led": "0", "temperature": "23°C"})
    assert [message.get("endpoint") for message in heard[:3]] == [None, "id", "protocol"]
    client.set(uid, "led", "1")
    told(client, uid, is_update(uid, "led", "1"))
    assert node.resources["led"] == "1"
    device = wait_for(lambda: device_of(app, f"remote-{node_id}", online=True))
    assert values(app, device["device_id"])["led"] == "1"
    node.close()
    told(client, uid, is_out(uid))
    assert gateway.stop() == 0


def test_an_own_gateway_of_mqtt_nodes(broker, own_gateway, new, app):
    gateway = own_gateway("mqtt", broker)
    node_id = name()
    client = new(WebClient, broker)
    node = new(MqttNode, gateway.nodes, node_id, {"led": "0"})
    uid = client.node(("id", node_id))
    all_of(client, uid, {"led": "0"})
    client.set(uid, "led", "1")
    told(client, uid, is_update(uid, "led", "1"))
    assert node.resources["led"] == "1"
    device = wait_for(lambda: device_of(app, f"remote-{node_id}", online=True))
    answer = app.post(
        "/device-tasks",
        params={"wait": 20},
        json={"ext_task_id": "x", "device_id": device["device_id"], "method": "set", "ttl": 5, "payload": {"led": "7"}},
    )
    assert answer.json()["results"][-1]["status_code"] == 200, answer.text
    gateway.kill()
    told(client, uid, is_out(uid))


def test_an_own_gateway_of_mqtt_sn_nodes(broker, own_gateway, new, app):
    gateway = own_gateway("mqtt-sn", broker)
    node_id = name()
    client = new(WebClient, broker)
    node = new(SnNode, gateway.nodes, node_id, {"led": "0"}, listens=True)
    node.check()
    uid = client.node(("id", node_id))
    assert UUID4.fullmatch(uid)
    all_of(client, uid, {"led": "0"})
    client.set(uid, "led", "1")
    told(client, uid, is_update(uid, "led", "1"))
    assert node.resources["led"] == "1"
    assert wait_for(lambda: device_of(app, f"remote-{node_id}", online=True))
    gateway.kill()
    told(client, uid, is_out(uid))


def test_an_own_gateway_of_units(broker, own_gateway, new, app, tmp_path):
    scale, lamp = new(Unit, [b"512\n"]), new(Unit)
    scale_id, lamp_id = name(), name()
    file = tmp_path / "units.json"
    at = {"address": "127.0.0.1"}
    units = [
        at | {"port": scale.port, "kind": "read", "name": scale_id, "resource": "weight"},
        at | {"port": lamp.port, "kind": "update", "name": lamp_id, "resource": "color"},
    ]
    file.write_text(json.dumps({"units": units}))
    client = new(WebClient, broker)
    gateway = own_gateway("units", broker, "--units", str(file), "--units-allow", "loopback")
    all_of(client, scale_id, {"protocol": "TCP", "ip": "127.0.0.1", "weight": "512"})
    client.set(lamp_id, "color", "red")
    told(client, lamp_id, is_update(lamp_id, "color", "red"))
    assert lamp.taken == ["red"] and scale.connections == 1
    device = wait_for(lambda: device_of(app, f"remote-{scale_id}", online=True))
    assert values(app, device["device_id"])["weight"] == "512"
    assert gateway.stop() == 0
    told(client, scale_id, is_out(scale_id))


def test_an_own_gateway_takes_the_file_of_a_base_unit_and_no_other(broker, keys, own_gateway, tmp_path):
    base, ours = tmp_path / "config.json", tmp_path / "units.json"
    base.write_text('{"clients": ["127.63.0.1"], "api": {"url": "https://a.example", "token": "t"}}')
    ours.write_text('{"units": [{"address": "127.63.0.1", "kind": "read"}]}')
    loopback = "--units-allow", "loopback"
    assert own_gateway("units", broker, "--import", str(base), *loopback).stop() == 0
    for options, said in (
        (("--import", str(ours)), "clients"),
        (("--import", str(base), "--units", str(ours)), "--units"),
        (("--import", str(base), "--units-allow", "10.0.0.0/8"), "--units-allow 127.63.0.1"),
        ((), "--import"),
    ):
        with pytest.raises(NotStarted) as refused:
            own_gateway("units", broker, *options)
        assert said in str(refused.value)


def test_an_own_gateway_of_coap_nodes(broker, own_gateway, new, app):
    gateway = own_gateway("coap", broker)
    uid = name()
    client = new(WebClient, broker)
    node = new(CoapNode, gateway.nodes, uid, {"led": "0"})
    node.alive()
    heard = all_of(client, uid, {"protocol": "CoAP", "led": "0"})
    assert [message.get("endpoint") for message in heard[:3]] == [None, "ip", "protocol"], "its uid is what it says"
    client.set(uid, "led", "1")
    told(client, uid, is_update(uid, "led", "1"))
    node.alive("reset")
    assert told(client, uid, lambda message: message["type"] == "reset")[-1] == {"type": "reset", "uid": uid}
    told(client, uid, is_update(uid, "led", "1"))
    assert wait_for(lambda: device_of(app, f"remote-{uid}", online=True))


def test_an_own_gateway_serves_on_while_the_broker_is_away_and_tells_the_newest(keys, own_gateway, new, new_server):
    (port,) = free_ports(1)
    server = new_server("--nodes", "open", "--node-broker", f"127.0.0.1:{port}", "--node-keys", str(keys.path))
    broker = server.addresses["node_broker"]
    gateway = own_gateway("websocket", broker)
    node = new(WebSocketNode, gateway.nodes, {"id": "lamp", "led": "0"})
    client = WebClient(broker)
    client.node(("led", "0"))
    server.kill()
    for number in range(1, 50):
        node.say({"led": str(number)})
    other = new(WebSocketNode, gateway.nodes, {"id": "later", "led": "x"})
    server.start()
    client = new(WebClient, broker)
    heard = client.until(is_update_of(("led", "49")), 40)
    seen = {message["data"] for message in heard if message.get("endpoint") == "led"}
    assert seen <= {"49", "x"}, "the newest alone"
    if "x" not in seen:
        client.node(("led", "x"))
    client.set(heard[-1]["uid"], "led", "50")
    client.until(is_update_of(("led", "50")))
    assert node.resources["led"] == "50" and other.resources["led"] == "x"
    assert "lost the node broker" in gateway.log()


def test_an_own_gateway_speaks_tls_and_trusts_its_ca_alone(keys, own_gateway, new, tmp_path):
    import ssl
    import threading

    from websockets.sync.server import serve

    ca, server_certificate = certificates(tmp_path, "localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(server_certificate)
    heard = []

    def handle(connection):
        for text in connection:
            heard.append(json.loads(text))

    with serve(handle, "127.0.0.1", 0, ssl=tls, select_subprotocol=lambda *_: "token") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"wss://localhost:{server.socket.getsockname()[1]}"
        gateway = own_gateway("mqtt", url, "--ca", str(ca))
        new(MqttNode, gateway.nodes, "lamp", {"led": "0"})
        assert wait_for(lambda: any(message.get("endpoint") == "led" for message in heard)), gateway.log()
        stranger = own_gateway("mqtt", url)
        assert wait_for(lambda: "no node broker: cannot reach it: invalid peer certificate" in stranger.log()), stranger.log()


def is_update_of(wanted):
    return lambda message: message["type"] == "update" and (message["endpoint"], message["data"]) == wanted


def test_an_own_gateway_with_a_broker_of_others(keys, own_gateway, new):
    """A broker in a few lines, which selects no subprotocol."""
    import threading

    from websockets.sync.server import serve

    heard, sockets = [], []

    def handle(connection):
        sockets.append(connection)
        for text in connection:
            heard.append(json.loads(text))

    def check(connection, request):
        offered = [part.strip() for part in request.headers["Sec-WebSocket-Protocol"].split(",")]
        is_known = offered[0] == "token" and keys.fernet.decrypt(offered[1].encode()).decode() == keys.secret
        return None if is_known else connection.respond(401, "no\n")

    with serve(handle, "127.0.0.1", 0, process_request=check, select_subprotocol=lambda *_: None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        gateway = own_gateway("mqtt", f"ws://127.0.0.1:{port}/gw")
        node = new(MqttNode, gateway.nodes, "lamp", {"led": "0"})
        assert wait_for(lambda: any(message.get("endpoint") == "led" for message in heard)), heard
        uid = heard[0]["uid"]
        assert heard[0] == {"type": "new", "uid": uid, "dst": "all"} and UUID4.fullmatch(uid)
        assert [message["endpoint"] for message in heard[1:4]] == ["id", "protocol", "led"]
        src = str(uuid.uuid4())
        heard.clear()
        sockets[0].send(json.dumps({"type": "new", "src": src}))
        assert wait_for(lambda: len(heard) >= 4)
        assert [message.get("endpoint") for message in heard] == [None, "id", "protocol", "led"]
        assert {message["dst"] for message in heard} == {src}
        set_led = {"type": "update", "data": {"uid": uid, "endpoint": "led", "payload": "1"}, "src": src}
        sockets[0].send(json.dumps(set_led))
        assert wait_for(lambda: node.resources["led"] == "1")
        assert wait_for(lambda: heard[-1]["data"] == "1"), heard
        heard.clear()
        sockets[0].close()
        assert wait_for(lambda: len(heard) >= 4), "it comes back and tells all"
        assert heard[0] == {"type": "new", "uid": uid, "dst": "all"}
        assert gateway.stop() == 0


def test_what_is_wrong_with_an_own_gateway_is_said(broker, keys, own_gateway, tmp_path):
    import subprocess

    def run(*options):
        command = [os.environ["COVEY_BIN"], "gateway", "mqtt", "--mqtt-nodes", "127.0.0.1:0", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=10)

    missing = run("--broker", broker, "--key-file", str(tmp_path / "none"))
    assert missing.returncode == 2 and "covey key fernet" in missing.stderr
    wrong = run("--broker", "http://127.0.0.1:1", "--key-file", str(keys.path))
    assert wrong.returncode == 2 and "must be like ws://" in wrong.stderr
    other = Keys.make(tmp_path / "keys")
    gateway = own_gateway("mqtt", broker, key_file=other.path)
    assert wait_for(lambda: "it refuses the key file (401)" in gateway.log()), gateway.log()
    assert other.secret not in gateway.log()
    assert gateway.stop() == 0
