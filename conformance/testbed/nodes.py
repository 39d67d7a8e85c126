"""Nodes that know nothing of Covey, with libraries that others wrote."""

import contextlib
import json
import queue
import socket
import threading
import time

import paho.mqtt.client as mqtt
from websockets.sync.client import connect


def wait_for(check, seconds: float = 5.0):
    """Looks until there is something to see; answers what was seen last."""
    deadline = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def values(api, device_id: int) -> dict:
    """What a node says, by resource."""
    answer = api.get(f"/devices/{device_id}/twin")
    assert answer.status_code == 200, answer.text
    return {name: one["value"] for name, one in answer.json()["reported"]["resources"].items()}


def device_of(api, sn: str, online: bool | None = None) -> dict | None:
    """The device that a node is, if there is one."""
    found = api.get("/devices", params={"sn": sn}).json()
    if not found or online is not None and is_online(found[0]) != online:
        return None
    return found[0]


def is_online(device: dict) -> bool:
    return bool((device["connection"] or {}).get("last_checked_result"))


def nodes(api, **params) -> list[dict]:
    """The list of nodes."""
    answer = api.get("/nodes", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


class MqttNode:
    """A node as in the field: an empty client id, a clean session, values as strings, a check of its own."""

    def __init__(
        self, url: str, uid: str, resources: dict[str, str], protocol=mqtt.MQTTv311, qos: int = 1, listens=True, **more
    ):
        self.uid, self.resources, self.qos, self.listens = uid, resources, qos, listens
        self.is_mute = False
        self.asked: list[str] = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=protocol, **more)
        self.client.on_connect = self._connected
        self.client.on_message = self._message
        host, port = url.removeprefix("mqtt://").rsplit(":", 1)
        self.client.connect(host.strip("[]"), int(port), keepalive=9)
        self.client.loop_start()

    def _connected(self, *_):
        if self.listens:
            self.listen()
        self.check()

    def listen(self):
        for topic in ("gateway/check", f"gateway/{self.uid}/discover", f"gateway/{self.uid}/+/set"):
            self.client.subscribe(topic, 1)

    def check(self):
        self.client.publish("node/check", json.dumps({"id": self.uid}), self.qos)

    def say(self, resource: str, value) -> mqtt.MQTTMessageInfo:
        return self.client.publish(f"node/{self.uid}/{resource}", json.dumps({"value": value}), self.qos)

    def _message(self, _, __, message):
        body = message.payload.decode()
        self.asked.append(f"{message.topic} {body}")
        if message.topic == "gateway/check":
            self.check()
        elif message.topic.endswith("/discover") and body == "resources":
            self.client.publish(f"node/{self.uid}/resources", json.dumps(list(self.resources)), self.qos)
        elif message.topic.endswith("/discover"):
            for resource, value in self.resources.items():
                self.say(resource, value)
        elif message.topic.endswith("/set") and not self.is_mute:
            resource = message.topic.split("/")[2]
            self.resources[resource] = body
            self.say(resource, body)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class WebSocketNode:
    """A node in a browser or a script: it compares what it is asked letter by letter."""

    def __init__(self, url: str, resources: dict, path: str = "/node", **more):
        self.resources, self.heard = resources, queue.Queue()
        self.socket = connect(f"{url}{path}", **more)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            for text in self.socket:
                self.heard.put(text)
                if text == '{"request": "discover"}':
                    self.say(self.resources)
                    continue
                message = json.loads(text)
                if "endpoint" in message:
                    self.resources[message["endpoint"]] = message["payload"]
                    self.say({message["endpoint"]: message["payload"]})
        except Exception:
            pass

    def say(self, values: dict):
        self.socket.send(json.dumps({"type": "update", "data": values}))

    def close(self):
        self.socket.close()
        self.thread.join(5)


class SnNode:
    """A node as RIOT's MQTT firmware is: MQTT-SN over UDP, QoS 1, a topic registered before it is used."""

    CONNECT, CONNACK, REGISTER, REGACK, PUBLISH, PUBACK = 0x04, 0x05, 0x0A, 0x0B, 0x0C, 0x0D
    SUBSCRIBE, SUBACK, DISCONNECT = 0x12, 0x13, 0x18

    def __init__(self, url: str, uid: str, resources: dict[str, str], listens: bool = False, patience: float = 5.0):
        self.uid, self.resources, self.patience = uid, resources, patience
        host, port = url.removeprefix("mqtt-sn://").rsplit(":", 1)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((host.strip("[]"), int(port)))
        self.socket.settimeout(5)
        self.number, self.topics, self.names = 0, {}, {}
        self.lock = threading.Lock()
        self.answers: queue.Queue = queue.Queue()
        self.is_open = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self._ask(self.CONNECT, b"\x04\x01\x00\x3c" + uid.encode(), self.CONNACK)[0] == 0
        if listens:
            self.listen()

    def listen(self) -> None:
        for topic in (f"gateway/{self.uid}/discover", f"gateway/{self.uid}/+/set"):
            with self.lock:
                answer = self._ask(self.SUBSCRIBE, b"\x20" + self._next() + topic.encode(), self.SUBACK)
            self.names[answer[1:3]] = topic

    def say(self, resource: str, value: str) -> int:
        """Says a value; answers the return code of the acknowledgement."""
        return self.publish(f"node/{self.uid}/{resource}", json.dumps({"value": value}))

    def check(self) -> int:
        return self.publish("node/check", json.dumps({"id": self.uid}))

    def tell_all(self) -> None:
        self.check()
        self.publish(f"node/{self.uid}/resources", json.dumps(list(self.resources)))
        for resource, value in self.resources.items():
            self.say(resource, value)

    def publish(self, topic: str, body: str) -> int:
        with self.lock:
            if topic not in self.topics:
                answer = self._ask(self.REGISTER, b"\x00\x00" + self._next() + topic.encode(), self.REGACK)
                assert answer[4] == 0, answer
                self.topics[topic] = answer[:2]
            return self._ask(self.PUBLISH, b"\x20" + self.topics[topic] + self._next() + body.encode(), self.PUBACK)[4]

    def _next(self) -> bytes:
        self.number += 1
        return self.number.to_bytes(2, "big")

    def _send(self, kind: int, body: bytes) -> None:
        length = len(body) + 2
        head = bytes([length]) if length < 256 else b"\x01" + (length + 2).to_bytes(2, "big")
        self.socket.send(head + bytes([kind]) + body)

    def _ask(self, kind: int, body: bytes, answer: int) -> bytes:
        self._send(kind, body)
        while True:
            found, said = self.answers.get(timeout=self.patience)
            if found == answer:
                return said

    def _run(self) -> None:
        while self.is_open:
            try:
                datagram = self.socket.recv(65536)
            except OSError:
                continue
            kind, body = (datagram[3], datagram[4:]) if datagram[0] == 1 else (datagram[1], datagram[2:])
            if kind == self.REGISTER:
                self.names[body[:2]] = body[4:].decode()
                self._send(self.REGACK, body[:4] + b"\x00")
            elif kind == self.PUBLISH:
                topic, text = self.names[body[1:3]], body[5:].decode()
                if body[0] & 0x60:
                    self._send(self.PUBACK, body[1:5] + b"\x00")
                threading.Thread(target=self._heard, args=(topic, text), daemon=True).start()
            else:
                self.answers.put((kind, body))

    def _heard(self, topic: str, text: str) -> None:
        if topic.endswith("/set"):
            resource = topic.split("/")[2]
            self.resources[resource] = text
            self.say(resource, text)
        elif text == "resources":
            self.publish(f"node/{self.uid}/resources", json.dumps(list(self.resources)))
        elif text == "values":
            for resource, value in self.resources.items():
                self.say(resource, value)

    def close(self) -> None:
        self.is_open = False
        with contextlib.suppress(OSError):
            self._send(self.DISCONNECT, b"")
        self.socket.close()


def is_closed(connection: socket.socket) -> bool:
    """Whether the other end has closed it, or this one has."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class Unit:
    """A TCP unit: one connection at a time. With `lines` it says them as soon as one is open, else it takes a line."""

    def __init__(self, lines: list[bytes] = (), port: int = 0):
        self.lines, self.taken, self.connections, self.busy = list(lines), [], 0, 0
        self.most_at_once = 0
        # How many connections were open at a time, however little was said.
        self.open_at_most = 0
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open = [one for one in self.open if not is_closed(one)] + [connection]
            self.open_at_most = max(self.open_at_most, len(self.open))
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection) -> None:
        self.busy += 1
        self.most_at_once = max(self.most_at_once, self.busy)
        try:
            if self.lines:
                for line in self.lines:
                    connection.sendall(line)
                    time.sleep(0.02)
                return
            text = b""
            while not text.endswith(b"\r"):
                byte = connection.recv(1)
                if not byte:
                    return
                text += byte
            time.sleep(0.02)
            self.taken.append(text[:-1].decode())
        except OSError:
            # The other end is gone, or the test has cut it off.
            pass
        finally:
            self.busy -= 1
            if not self.lines:
                connection.close()

    def say(self, line: bytes) -> None:
        self.open[-1].sendall(line)

    def is_left(self) -> bool:
        """Whether nobody is connected."""
        return all(is_closed(one) for one in self.open)

    def cut(self) -> None:
        for connection in self.open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()
        self.open.clear()

    def close(self) -> None:
        self.cut()
        self.listener.close()
