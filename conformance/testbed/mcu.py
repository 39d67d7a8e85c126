"""Microcontrollers as in the field: a device over MQTT 3.1.1 (paho), and a client program over HTTPS (http.client).

`python -m testbed.mcu HOST PORT NAME` runs the client program: eleven calls, in the order of those in the field. It ends with
0 only if every answer had the shape that it needs.
"""

import http.client
import json
import ssl
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt

PIN = 12


class Unanswered(Exception):
    """An answer that a client in the field cannot read."""


class Client:
    """One connection for the whole run. It verifies no certificate, sends no credential, and a body with every request."""

    def __init__(self, url: str, **headers: str):
        host, port = url.removeprefix("https://").rsplit(":", 1)
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        self.connection = http.client.HTTPSConnection(host, int(port), context=trusting, timeout=60)
        self.headers = {"Content-type": "application/json", "Accept": "text/plain", **headers}

    def ask(self, method: str, path: str, body, headers: dict | None = None) -> tuple[int, bytes]:
        """The status and the body, which must have a length."""
        sent = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
        self.connection.request(method, path, sent, self.headers if headers is None else headers)
        answer = self.connection.getresponse()
        # The field's client reads an answer only if its length is known and not zero.
        if answer.length is None or answer.length == 0:
            raise Unanswered(f"{method} {path}: length {answer.length}")
        return answer.status, answer.read()

    def call(self, name: str, device: str, **parameters) -> tuple[int, bytes]:
        method = "GET" if name.startswith("get_") else "POST"
        return self.ask(method, f"/{name}", {"device_name": device, **parameters})

    def told(self, name: str, device: str, **parameters) -> dict:
        """What a device says, which must be an object."""
        status, body = self.call(name, device, **parameters)
        assert status == 200, body
        return json.loads(body)

    def register(self, device: str) -> dict:
        status, body = self.call("register_device", device)
        assert status == 200, body
        return json.loads(body)

    def close(self) -> None:
        self.connection.close()


def run(url: str, device: str) -> None:
    """What the client program of the field does, one call after the other."""
    client = Client(url)
    keys = client.register(device)
    assert all(isinstance(keys[name], str) for name in ("cert", "pkey", "ca"))
    for wanted in (None, 0, 1):
        if wanted is not None:
            client.call("set_gpio", device, number=PIN, value=wanted)
        began = time.perf_counter()
        value = int(client.told("get_gpio", device, number=PIN)["value"])
        print(f"pin {PIN} is {value}, after {time.perf_counter() - began:.4f} s")
        assert wanted is None or value == wanted
    print("the time is", time.ctime(int(client.told("get_rtc", device)["value"])))
    client.call("set_rtc", device, value=int(time.time()))
    print("the time is", time.ctime(int(client.told("get_rtc", device)["value"])))
    print("the state is", client.told("get_status", device)["status"])
    print("the state is", client.told("set_status", device, status="restart")["status"])
    client.close()


class Device:
    """A microcontroller that answers the six calls. `keys` are what registering it has answered."""

    def __init__(self, mqtts: tuple[str, int], folder: Path, name: str, keys: dict, prefix: str = "", **more):
        self.name, self.own = name, f"{prefix}/{name}" if prefix else name
        self.is_numbered, self.is_mute = not prefix, False
        self.pins: dict[int, int] = {}
        self.offset_s = 0
        self.heard: list[tuple[str, bytes]] = []
        # What is answered in place of what a call says, by the topic that it has come on.
        self.answers: dict[str, bytes] = {}
        self.listens, self.closed = threading.Event(), threading.Event()
        self.granted: list = []
        folder.mkdir(exist_ok=True)
        for kind, text in keys.items():
            (folder / f"{name}.{kind}").write_text(text)
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311, **more)
        self.client.username_pw_set("guest", "guest")
        files = [str(folder / f"{name}.{kind}") for kind in ("ca", "cert", "pkey")]
        self.client.tls_set(*files, tls_version=ssl.PROTOCOL_TLSv1_2)
        self.client.on_connect = self._connected
        self.client.on_subscribe = self._subscribed
        self.client.on_message = self._message
        self.client.on_disconnect = lambda *_: self.closed.set()
        self.client.reconnect_delay_set(1, 2)
        # On a busy machine a handshake takes more than paho's five seconds.
        self.client.connect_timeout = 30.0
        self.client.connect(*mqtts, keepalive=30)
        self.client.loop_start()

    def _connected(self, client, _, __, reason, ___):
        if reason.is_failure:
            self.closed.set()
        else:
            client.subscribe(f"{self.own}/#", 0)

    def _subscribed(self, _, __, ___, codes, ____):
        self.granted.append(codes[0])
        self.listens.set()

    def ready(self) -> "Device":
        assert self.listens.wait(30), "it does not listen"
        return self

    def subscribe(self, topic: str):
        """The code of the SUBACK."""
        before = len(self.granted)
        self.client.subscribe(topic, 1)
        deadline = time.monotonic() + 30
        while len(self.granted) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.granted[before]

    def topic_of(self, api: str, parameters: dict) -> str:
        number = f"/{parameters['number']}" if self.is_numbered and "number" in parameters else ""
        return f"server/{self.own}/{api}{number}"

    def answer(self, api: str, parameters: dict) -> dict:
        now = int(time.time()) + self.offset_s
        match api:
            case "get_gpio":
                return {"value": self.pins.get(parameters["number"], 0)}
            case "set_gpio":
                self.pins[parameters["number"]] = parameters["value"]
                return {"value": parameters["value"]}
            case "get_rtc":
                return {"value": now}
            case "set_rtc":
                self.offset_s += parameters["value"] - now
                return {"value": parameters["value"]}
            case "get_status":
                return {"status": "running"}
            case "set_status":
                return {"status": parameters["status"]}
        raise AssertionError(api)

    def _message(self, client, _, message):
        self.heard.append((message.topic, message.payload))
        if self.is_mute:
            return
        api, parameters = message.topic.removeprefix(f"{self.own}/"), json.loads(message.payload)
        said = self.answers.get(message.topic, json.dumps(self.answer(api, parameters)))
        answered = client.publish(self.topic_of(api, parameters), said, 0)
        if api == "set_status" and parameters["status"] == "restart":
            # A new connection, as after a restart.
            self.listens.clear()
            threading.Thread(target=self._restart, args=(answered,), daemon=True).start()

    def _restart(self, answered) -> None:
        answered.wait_for_publish(30)
        self.client.reconnect()

    def say(self, topic: str, body: bytes | str, qos: int = 0):
        return self.client.publish(topic, body, qos)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


if __name__ == "__main__":
    run(f"https://{sys.argv[1]}:{sys.argv[2]}", sys.argv[3])
