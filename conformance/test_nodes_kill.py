"""Killed at random instants beside nodes of every kind, the server keeps each value that it acknowledged and loses no write
that it accepted (docs/gateways.md, "What is promised"). COVEY_KILLS sets the number of kills, COVEY_SEED the course of
events."""

import json
import os
import random
import threading
import time

import httpx
import pytest

from testbed.api import DELETED, DONE, EXPIRED, FAILED, Api
from testbed.coap_nodes import CoapNode
from testbed.mcu import PIN, Client, Device
from testbed.node_broker import FieldGateway, Keys
from testbed.nodes import MqttNode, SnNode, Unit, WebSocketNode, device_of, values, wait_for
from testbed.server import kept_ports

pytestmark = pytest.mark.embedded
KILLS = int(os.environ.get("COVEY_KILLS", "4"))
SEED = int(os.environ.get("COVEY_SEED", random.randrange(1 << 32)))
LIVES_SECONDS = (0.5, 2.0)
# Open, or waiting: not so long that a write is over before the nodes are back.
WRITE_TTL, SETTLE_SECONDS = 240, 120
# The pin that applications set over REST; the client program has another one.
APP_PIN = 13


class Telling(threading.Thread):
    """A node that counts: it says the next number until that was acknowledged, and comes back when it is cut off."""

    acknowledges = True
    resource = "led"

    def __init__(self, name: str):
        super().__init__(daemon=True, name=name)
        self.acknowledged = 0
        self.taken: list[str] = []
        self.stopping = threading.Event()
        self.problem: BaseException | None = None

    def run(self) -> None:
        number = 0
        try:
            while not self.stopping.is_set():
                if self.say(number + 1):
                    number += 1
                    self.acknowledged = number
                self.stopping.wait(0.05)
        except BaseException as problem:
            self.problem = problem

    def say(self, number: int) -> bool:
        """Whether this was acknowledged."""
        raise NotImplementedError

    def end(self) -> None:
        self.stopping.set()
        self.join(60)
        assert not self.is_alive()
        if self.problem:
            raise self.problem


class Taking(dict):
    """Resources of a node, which notes in its order what its led was set to."""

    def __init__(self, taken: list[str]):
        super().__init__(led="0", n="0")
        self.taken = taken

    def __setitem__(self, name, value):
        if name == "led":
            self.taken.append(value)
        super().__setitem__(name, value)


class Plain(Telling):
    sn = "mqtt-counting"

    def __init__(self, server):
        super().__init__(self.sn)
        self.resources = Taking(self.taken)
        self.node = MqttNode(server.addresses["mqtt_nodes"], "counting", self.resources)
        self.node.client.reconnect_delay_set(1, 1)

    def say(self, number):
        self.resources["n"] = str(number)
        if not self.node.client.is_connected():
            return False
        said = self.node.say("n", str(number))
        try:
            said.wait_for_publish(2)
        except (RuntimeError, ValueError):
            return False
        return said.is_published()

    def close(self):
        self.node.close()


class Sn(Telling):
    sn = "mqttsn-counting"

    def __init__(self, server):
        super().__init__(self.sn)
        self.url, self.resources, self.node = server.addresses["mqtt_sn"], Taking(self.taken), None

    def say(self, number):
        self.resources["n"] = str(number)
        try:
            if self.node is None:
                self.node = SnNode(self.url, "counting", self.resources, listens=True, patience=1.0)
                self.node.tell_all()
            return self.node.say("n", str(number)) == 0
        except Exception:  # noqa: BLE001: cut off, in whatever way
            if self.node:
                self.node.close()
            self.node = None
            return False

    def close(self):
        if self.node:
            self.node.close()


class Coap(Telling):
    sn = "coap-counting"

    def __init__(self, server):
        super().__init__(self.sn)
        self.node = CoapNode(server.addresses["coap"], "counting", Taking(self.taken))
        self.alive_at = 0.0

    def say(self, number):
        self.node.resources["n"] = str(number)
        try:
            if time.monotonic() > self.alive_at:
                assert self.node.alive(seconds=3) == "2.04 Changed"
                self.alive_at = time.monotonic() + 1
            return str(self.node.say("n", str(number), seconds=3).code) == "2.04 Changed"
        except Exception:  # noqa: BLE001: nobody there, in whatever way
            self.alive_at = 0.0
            return False

    def close(self):
        self.node.close()


class Web(Telling):
    """Nothing is acknowledged over a WebSocket; whoever comes back says all."""

    sn, acknowledges = "websocket-counting", False

    def __init__(self, server):
        super().__init__(self.sn)
        self.url, self.node = server.addresses["websocket_nodes"], None
        self.resources = Taking(self.taken)
        dict.__setitem__(self.resources, "id", "counting")

    def say(self, number):
        self.resources["n"] = str(number)
        try:
            if self.node is None or not self.node.thread.is_alive():
                self.node = WebSocketNode(self.url, self.resources)
            self.node.say({"n": str(number)})
            return True
        except Exception:  # noqa: BLE001: cut off, in whatever way
            self.node = None
            return False

    def close(self):
        if self.node:
            self.node.close()


class Lamp(Telling):
    """A unit that takes lines and says nothing."""

    sn, acknowledges = "unit-counting", False

    def __init__(self, unit: Unit):
        super().__init__(self.sn)
        self.unit, self.taken = unit, unit.taken

    def say(self, number):
        return False

    def close(self):
        self.unit.close()


class OfOthers(Telling):
    """A gateway of somebody else with a node behind it. Nothing is acknowledged at `/gw`; whoever comes back says all."""

    sn, acknowledges, uid = "remote-counting", False, "7c1d0b5e-8d4c-4b0e-9a55-0f1c5d3a9e21"

    def __init__(self, server, keys: Keys):
        super().__init__(self.sn)
        self.url, self.keys, self.gateway = server.addresses["node_broker"], keys, None
        self.resources = Taking(self.taken)
        self.resources.update(id="counting", protocol="MQTT")

    def say(self, number):
        self.resources["n"] = str(number)
        try:
            if self.gateway is None or self.gateway.closed:
                self.gateway = FieldGateway(self.url, self.keys, {self.uid: self.resources})
            self.gateway.say(self.uid, "n", str(number))
            return True
        except Exception:  # noqa: BLE001: cut off, in whatever way
            self.gateway = None
            return False

    def close(self):
        if self.gateway:
            self.gateway.close()


class Board(Telling):
    """A microcontroller, and the client program that calls it over HTTPS: what it was answered is a call that is stored."""

    sn = "board-counting"

    def __init__(self, server, folder):
        super().__init__(self.sn)
        self.url = server.addresses["mcu_http"]
        self.client: Client | None = Client(self.url)
        keys = self.client.register(self.sn)
        self.device = Device(server.mqtts, folder, self.sn, keys).ready()

    @property
    def heard(self) -> list[int]:
        """What applications have set over REST, as the board was told."""
        calls = (json.loads(body) for topic, body in list(self.device.heard) if topic.endswith("/set_gpio"))
        return [call["value"] for call in calls if call["number"] == APP_PIN]

    def say(self, number):
        try:
            self.client = self.client or Client(self.url)
            status, body = self.client.call("set_gpio", self.sn, number=PIN, value=number)
            return status == 200 and json.loads(body) == {"value": number}
        except Exception:  # noqa: BLE001: nobody there, in whatever way
            self.client = None
            return False

    def close(self):
        self.device.close()


class Writer(threading.Thread):
    """Sets the led of each node to the next number, again and again, and notes what was accepted."""

    def __init__(self, server, devices: dict[str, int]):
        super().__init__(daemon=True)
        self.server, self.devices = server, devices
        self.accepted: dict[str, list[tuple[int, str]]] = {sn: [] for sn in devices}
        self.stopping = threading.Event()
        self.problem: BaseException | None = None

    def run(self) -> None:
        number = 0
        try:
            with Api(self.server.http, self.server.key) as api:
                while not self.stopping.is_set():
                    number += 1
                    for sn in self.devices:
                        self._set(api, sn, number)
        except BaseException as problem:
            self.problem = problem

    def _set(self, api: Api, sn: str, number: int) -> None:
        body = {"ext_task_id": f"{sn}-{number}", "device_id": self.devices[sn], "ttl": WRITE_TTL}
        if sn == Board.sn:
            body |= {"method": "set_gpio", "payload": {"number": APP_PIN, "value": number}}
        else:
            body |= {"method": "set", "payload": {"led": str(number)}}
        headers = {"Idempotency-Key": f"{sn}-{number}"}
        while True:
            try:
                answer = api.post("/device-tasks", json=body, headers=headers)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code in (200, 201, 202):
                self.accepted[sn].append((number, answer.json()["id"]))
                return
            assert answer.status_code == 503, answer.text
            time.sleep(0.05)


@pytest.mark.timeout(420 + 10 * KILLS)
def test_nodes_of_every_kind_lose_no_value_that_was_acknowledged_and_no_write(new_server, new_api, new_node, tmp_path):
    print(f"COVEY_SEED={SEED} COVEY_KILLS={KILLS}")
    chance = random.Random(SEED)
    lamp = new_node(Unit)
    units = tmp_path / "units.json"
    units.write_text(
        f'{{"units": [{{"address": "127.0.0.1", "port": {lamp.port}, "kind": "update", "name": "counting", "resource": "led"}}]}}'
    )
    keys = Keys.make(tmp_path / "node-keys")
    ports = kept_ports(9)
    options = ["--units", str(units), "--units-allow", "127.0.0.1", "--nodes", "open", "--lease-seconds", "2"]
    options += ["--node-keys", str(keys.path)]
    listeners = ("--mqtt-nodes", "--mqtt-sn", "--coap", "--websocket-nodes", "--node-broker", "--mcu-http")
    for name, port in zip(listeners, ports[3:], strict=True):
        options += [name, f"127.0.0.1:{port}"]
    server = new_server(*options, ports=ports[:3], log="warn")
    telling = [new_node(kind, server) for kind in (Plain, Sn, Coap, Web)]
    telling.append(new_node(OfOthers, server, keys))
    board = new_node(Board, server, tmp_path / "board")
    telling.append(board)
    all_nodes = [*telling, Lamp(lamp)]
    for node in telling:
        node.start()
    api = new_api(server)
    devices = {one.sn: wait_for(lambda: device_of(api, one.sn, online=True), 60)["device_id"] for one in all_nodes}  # noqa: B023
    writer = Writer(server, devices)
    writer.start()

    for _ in range(KILLS):
        time.sleep(chance.uniform(*LIVES_SECONDS))
        server.kill()
        server.start()
    time.sleep(2)
    writer.stopping.set()
    writer.join(60)
    assert not writer.is_alive() and not writer.problem, writer.problem

    api = new_api(server)
    for node in all_nodes:
        last, task_id = writer.accepted[node.sn][-1]
        ended = wait_for(lambda: api.task(task_id)["status"] in (DONE, EXPIRED, DELETED, FAILED), SETTLE_SECONDS)  # noqa: B023
        assert ended, (node.sn, api.task(task_id), node.taken[-5:])
    for node in telling:
        node.end()
    check_calls(api, board, devices[board.sn], writer.accepted[board.sn])
    for node in all_nodes:
        if node is board:
            continue
        check_writes(api, node, writer.accepted[node.sn])
        if node.acknowledges:
            assert node.acknowledged > KILLS, f"{node.sn} was heard"
            stored = values(api, devices[node.sn])["n"]
            assert int(stored) >= node.acknowledged, f"{node.sn}: {node.acknowledged} was acknowledged, {stored} is stored"


def check_calls(api: Api, board: Board, device_id: int, accepted: list[tuple[int, str]]) -> None:
    """What the client program was answered is stored; each call over REST has its end, and the board was told of it once at
    most, in their order, and of those that are done."""
    assert board.acknowledged > KILLS and len(accepted) > KILLS, "there was load"
    of_apps, stored, page = {task_id for _, task_id in accepted}, set(), 1
    while True:
        params = {"device_id": device_id, "status": DONE, "size": 100, "page": page}
        found = api.get("/device-tasks", params=params).json()["items"]
        results = (api.task(one["id"])["results"] for one in found if one["id"] not in of_apps)
        stored |= {result["result"]["value"] for [result] in results}
        page += 1
        if len(found) < 100:
            break
    missing = set(range(1, board.acknowledged + 1)) - stored
    assert not missing, f"acknowledged and not stored: {sorted(missing)}"
    assert board.heard == sorted(set(board.heard)), f"told again, or in another order: {board.heard}"
    for number, task_id in accepted:
        task = api.task(task_id)
        if task["status"] == DONE:
            assert number in board.heard, f"{number} is done, and the board was never told"
        else:
            # It was under way when the server was killed, or the board was away.
            assert task["status"] == FAILED and task["results"][0]["status_code"] == 504, task


def check_writes(api: Api, node: Telling, accepted: list[tuple[int, str]]) -> None:
    """Each write is over, as it was accepted once; the node had them in their order, and those that are done."""
    assert len(accepted) > KILLS, f"{node.sn}: there was load"
    assert len({task_id for _, task_id in accepted}) == len(accepted), f"{node.sn}: one request made two tasks"
    taken = [int(value) for value in node.taken]
    assert taken == sorted(taken), f"{node.sn}: a write came after a later one: {taken}"
    # What was under way when the server was killed may be done once more, and nothing else.
    repeated = len(taken) - len(set(taken))
    assert repeated <= KILLS, f"{node.sn}: {repeated} writes came again after {KILLS} kills: {taken}"
    for number, task_id in accepted:
        task = api.task(task_id)
        if task["status"] == DONE:
            assert number in taken, f"{node.sn}: {number} is done, and the node never had it"
        else:
            assert task["timeline"][-1]["cause"] == "superseded", f"{node.sn}: {number} has an end of its own: {task}"
    assert taken[-1] == accepted[-1][0], f"{node.sn}: the last write was {accepted[-1][0]}, the node has {taken[-1]}"
