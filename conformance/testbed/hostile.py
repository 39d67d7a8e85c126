"""Hostile neighbours, each a program of its own: `python -m testbed.hostile NAME PLACE.json` does what its name says, as fast
as it can, until it is killed. They have a key and devices of an organisation that is not the victim's.

A neighbour whose table says so finds the organisation filled with events of 60 kB, or with many small ones, or a task with
large results.
"""

import contextlib
import dataclasses
import http.client
import hashlib
import hmac
import itertools
import json
import select
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from testbed.api import Api
from testbed.device import Device, Identity
from testbed.http2_client import Http2
from testbed.mcu import Client, Unanswered
from testbed.mcu import Device as Microcontroller
from testbed.neighbour import Reader
from testbed.packet import packet
from testbed.raw_device import RawDevice

STREAMS_OF_A_CONNECTION = 256


@dataclasses.dataclass
class Place:
    """A server as a neighbour finds it."""

    http: str
    https: str
    mqtts: tuple[str, int]
    ca: Path
    key: str
    devices: list[Identity]
    # A task of the first device that is under way.
    task: str
    # What a neighbour reads: how many events there are, and the number of the device that has sent the last of them.
    events: int = 0
    reported_by: int = 0
    # Where nodes without a certificate are heard.
    nodes: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: str) -> "Place":
        said = json.loads(Path(path).read_text())
        devices = [
            Identity(one["sn"], one["device_id"], Path(one["certificate"]), Path(one["key"])) for one in said["devices"]
        ]
        return cls(
            **{**said, "devices": devices, "mqtts": (said["mqtts"][0], said["mqtts"][1]), "ca": Path(said["ca"])}
        )

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(dataclasses.asdict(self), default=str))
        return path

    def api(self) -> Api:
        return Api(self.http, self.key)

    def listener(self, name: str) -> tuple[str, int]:
        """Host and port at which nodes are heard."""
        host, port = self.nodes[name].rsplit("/", 1)[1].rsplit(":", 1)
        return host, int(port)

    def device(self, number: int = 0, **more) -> Device:
        return Device(self.devices[number], self.mqtts, self.ca, **more).connect("-")


def for_ever() -> None:
    while True:
        time.sleep(60)


def together(act, count: int) -> None:
    """So many at once, each again and again, whatever the server answers."""

    def again() -> None:
        while True:
            try:
                act()
            except (httpx.HTTPError, http.client.HTTPException, OSError, AssertionError):
                time.sleep(0.05)

    for _ in range(count):
        threading.Thread(target=again, daemon=True).start()
    for_ever()


def deaf_streams(place: Place) -> None:
    """200 requests for the whole stream on one HTTP/2 connection that takes nothing."""
    connection = Http2(place.https, place.ca, takes=False)
    for _ in range(200):
        connection.ask("/api/v1/stream?cursor=0", key=place.key)
    for_ever()


def dashboards(place: Place) -> None:
    """50 honest readers with an old cursor."""
    readers = [Reader(place.http, place.key, place.events) for _ in range(50)]
    for reader in readers:
        reader.join(600)
    for_ever()


def deaf_metrics(place: Place) -> None:
    """60 HTTP/2 connections with 250 requests for /metrics each, of which nothing is taken."""
    connections = []
    while True:
        with contextlib.suppress(OSError):
            connection = Http2(place.https, place.ca, takes=False)
            for _ in range(250):
                connection.ask("/metrics", key=place.key)
            connections.append(connection)
        if len(connections) >= 60:
            connections[:30] = []
            time.sleep(1)


def idle_connections(place: Place) -> None:
    """As many HTTP/2 connections as it can open, which answer PINGs and ask for nothing."""
    connections: list[Http2] = []
    while True:
        with contextlib.suppress(OSError):
            connections.append(Http2(place.https, place.ca))
        ready, _, _ = select.select([one.socket for one in connections[-900:]], [], [], 0)
        for one in connections:
            if one.socket in ready:
                one.listen(0)
        connections = [one for one in connections if not one.is_closed][-900:]


def series(place: Place) -> None:
    """Two readers of a series over all events."""
    params = {"device_id": place.reported_by, "tag": "310"}

    def read() -> None:
        with place.api() as api:
            while True:
                api.get("/device-events/series", params=params)

    together(read, 2)


def large_results(place: Place) -> None:
    """A device that sends results of 900 kB, again and again."""
    send_results(place, 900_000)


def many_results(place: Place) -> None:
    """A device that sends results of 200 kB, again and again."""
    send_results(place, 200_000)


def send_results(place: Place, size: int) -> None:
    body = json.dumps({"pad": "x" * size})

    def run() -> None:
        device = place.device()
        for number in range(1, 1 << 31):
            device.res(place.task, 206, body, ext_id=number)

    together(run, 1)


def read_results(place: Place) -> None:
    """Four at once ask for a task with many large results."""

    def act() -> None:
        with place.api() as api:
            while True:
                api.get(f"/device-tasks/{place.task}")

    together(act, 4)


def create_and_delete(place: Place) -> None:
    """Tasks with parameters of 200 kB, which are deleted at once."""
    device = place.devices[1]

    def act() -> None:
        with place.api() as api:
            while True:
                answer = api.request_task(device, payload={"pad": "x" * 200_000})
                if answer.status_code == 200:
                    api.delete(f"/device-tasks/{answer.json()['id']}")
                else:
                    time.sleep(0.05)

    together(act, 2)


def tasks(place: Place) -> None:
    """Eight callers that make small tasks as fast as they can."""
    device = place.devices[1]

    def act() -> None:
        with place.api() as api:
            while True:
                api.request_task(device, ttl=1)

    together(act, 8)


def waiters(place: Place) -> None:
    """41 HTTP/2 connections with 256 callers each that wait for the end of a task."""
    connections = []
    for _ in range(41):
        connection = Http2(place.https, place.ca)
        for _ in range(STREAMS_OF_A_CONNECTION):
            connection.ask(f"/api/v1/device-tasks/{place.task}?wait=60", key=place.key)
        connections.append(connection)
    while True:
        for connection in connections:
            connection.listen(0.01)


def foreign_topics(place: Place) -> None:
    """A device that publishes 60 kB to topics of others, and comes again when it is put out."""
    body = "x" * 60_000

    def run() -> None:
        device = place.device()
        while device.ended is None:
            device.publish("dev/somebody-else/evt", body)

    together(run, 1)


def many_values(place: Place) -> None:
    """A device whose events report 250 values each."""
    body = json.dumps({"reported": {f"r{number}": number for number in range(250)}})
    send_events(place, lambda _: body)


def large_events(place: Place) -> None:
    """A device whose events have 64 kB."""
    send_events(place, lambda number: json.dumps({"n": number, "pad": "x" * 65_000}))


def send_events(place: Place, body) -> None:
    def run() -> None:
        device = place.device()
        for number in range(1, 1 << 31):
            properties = {"event_type_code": 13, "dev_event_id": number}
            device.send(f"dev/{device.sn}/evt", body(number), properties=properties)
            while number - len(device.acks) > 64 and device.ended is None:
                time.sleep(0.005)
            if device.ended is not None:
                return

    together(run, 1)


def half_open(place: Place) -> None:
    """Connections to the devices' port that say nothing."""
    held: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(place.mqtts, timeout=1))
        if len(held) > 3_000:
            held.pop(0).close()
        if len(held) % 40 == 0:
            time.sleep(0.02)


def half_packets(place: Place) -> None:
    """Connections of nodes over plain MQTT that have sent 60 kB of a packet, and wait."""
    begun = packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
    begun += packet(0x30, text("node/half/led") + b"x" * 60_100)[:60_000]
    held_open(place.listener("mqtt_nodes"), begun)


def half_heads(place: Place) -> None:
    """Connections over HTTP that have sent 60 kB of a head, and wait."""
    host, port = place.http.rsplit("/", 1)[1].rsplit(":", 1)
    held_open((host, int(port)), b"GET /healthz HTTP/1.1\r\nHost: covey\r\nX-Long: " + b"x" * 60_000)


def held_open(address: tuple[str, int], said: bytes) -> None:
    """Many connections that have said something; those that are ended are made anew."""
    held: list[socket.socket] = []
    while True:
        try:
            one = socket.create_connection(address, timeout=5)
            one.sendall(said)
            held.append(one)
        except OSError:
            time.sleep(0.01)
        if len(held) > 9_000:
            held.pop(0).close()
        if len(held) % 40 == 0:
            time.sleep(0.02)
        if len(held) % 500 == 0:
            held = [one for one in held if not has_ended(one)]


def has_ended(one: socket.socket) -> bool:
    """Whether the other side has closed a connection; what it has said is thrown away."""
    one.setblocking(False)
    try:
        return one.recv(65_536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def wrong_keys(place: Place) -> None:
    """Requests with keys that are none."""
    counter = iter(range(1 << 60))

    def act() -> None:
        with httpx.Client(base_url=f"{place.http}/api/v1", timeout=30) as client:
            while True:
                client.get("/devices", headers={"x-api-key": f"covey_{next(counter):040}"})

    together(act, 8)


def logins(place: Place) -> None:
    """A device that comes and goes."""

    def run() -> None:
        place.device().close()

    together(run, 2)


def pings(place: Place) -> None:
    """A device that sends PINGREQ as fast as it can."""

    def run() -> None:
        with RawDevice(place, place.devices[0]) as device:
            device.connect()
            while device.send(packet(0xC0, b"") * 200):
                device.stream.tls.settimeout(0.0)
                with contextlib.suppress(OSError):
                    while device.stream.tls.recv(65_536):
                        pass
                device.stream.tls.settimeout(5.0)

    together(run, 1)


def subscriptions(place: Place) -> None:
    """A device that changes what it has subscribed to, again and again."""

    def run() -> None:
        device = place.device()
        while device.ended is None:
            device.subscribe(f"srv/{device.sn}/tsk")
            device.unsubscribe(f"srv/{device.sn}/tsk")

    together(run, 1)


def mqtt_node(place: Place) -> None:
    """A node over plain MQTT that says values as fast as they are taken."""

    def run() -> None:
        with socket.create_connection(place.listener("mqtt_nodes"), timeout=30) as node:
            node.sendall(packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00"))
            for number in range(1 << 40):
                said = b"".join(
                    packet(0x32, text(f"node/hostile/r{one}") + (one + 1).to_bytes(2) + f'{{"value": "{number}"}}'.encode())
                    for one in range(50)
                )
                node.sendall(said)
                left = 4 * 50
                while left > 0 and (heard := node.recv(left)):
                    left -= len(heard)

    together(run, 2)


def many_nodes(place: Place) -> None:
    """Nodes over plain MQTT that nobody has heard of, one after the other."""

    def run() -> None:
        with socket.create_connection(place.listener("mqtt_nodes"), timeout=30) as node:
            node.sendall(packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00"))
            for number in range(1 << 40):
                node.sendall(packet(0x32, text("node/check") + b"\x00\x01" + f'{{"id": "n{number}"}}'.encode()))
                if number % 100 == 0:
                    node.recv(65_536)
                    time.sleep(0.01)

    together(run, 1)


def talkative_nodes(place: Place) -> None:
    """20,000 nodes over plain MQTT that nobody has heard of, and while these are asked about further ones that say 60 kB
    each, and one that says the same resource again and again."""

    def run() -> None:
        with socket.create_connection(place.listener("mqtt_nodes"), timeout=30) as node:
            node.sendall(packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00"))
            for number in range(20_000):
                node.sendall(packet(0x30, text("node/check") + f'{{"id": "first-{number}"}}'.encode()))
            large, small = b'{"value": "' + b"x" * 60_000 + b'"}', b'{"value": 1}'
            for number in range(1 << 40):
                node.sendall(packet(0x30, text(f"node/talk-{number}/led") + large))
                node.sendall(packet(0x30, text("node/talk-0/led") + small) * 500)

    together(run, 1)


def websocket_node(place: Place) -> None:
    """A node over WebSocket that says 200 values at a time."""
    from websockets.sync.client import connect

    def run() -> None:
        with connect(place.nodes["websocket_nodes"]) as node:
            for number in range(1 << 40):
                node.send(json.dumps({"type": "update", "data": {f"r{one}": str(number) for one in range(200)}}))

    together(run, 2)


def pusher_clients(place: Place) -> None:
    """Clients of a Pusher app: one that hears nothing of what it is sent, some that say as much as they can and then what
    nobody may, keys that are none, and a library that publishes."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    from testbed.pusher import SECRET, app, published

    url = place.http.replace("http", "ws", 1)

    def subscribed(socket, channel: str) -> None:
        mine = json.loads(json.loads(socket.recv(30))["data"])["socket_id"]
        auth = hmac.new(SECRET.encode(), f"{mine}:{channel}".encode(), hashlib.sha256).hexdigest()
        data = {"channel": channel, "auth": f"key-1:{auth}"}
        socket.send(json.dumps({"event": "pusher:subscribe", "data": data}))

    def run() -> None:
        with contextlib.suppress(ConnectionClosed, TimeoutError), connect(f"{url}/app/key-1?protocol=7") as socket:
            subscribed(socket, "private-a")
            for number in range(1 << 40):
                said = {"event": "client-x", "channel": "private-a", "data": "x" * 9_000}
                wrong = {"event": "pusher:subscribe", "data": {"channel": f"private-{number}", "auth": "key-1:00"}}
                for one in (json.dumps(said), json.dumps(wrong), "x" * 20_000):
                    socket.send(one)

    def stranger() -> None:
        with contextlib.suppress(ConnectionClosed, TimeoutError), connect(f"{url}/app/none?protocol=7") as socket:
            socket.recv(30)

    def publish() -> None:
        published(place.http, app(), "private-a", "e", "x" * 10_000)

    deaf = socket.create_connection(tuple(place.http.rsplit("/", 1)[1].rsplit(":", 1)), timeout=30)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    deaf.sendall(
        b"GET /app/key-1?protocol=7 HTTP/1.1\r\nHost: covey\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for act in (stranger, publish):
        threading.Thread(target=together, args=(act, 2), daemon=True).start()
    together(run, 4)


def datagrams(place: Place) -> None:
    """Strangers who send datagrams over CoAP and MQTT-SN: newcomers, and what is no message."""

    def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for number in range(1 << 40):
                alive = b"\x50\x02" + (number % 65_536).to_bytes(2) + b"\xb5alive\xffalive:" + str(number).encode()
                stranger.sendto(alive, place.listener("coap"))
                stranger.sendto(b"\xff" * 40, place.listener("coap"))
                connect = b"\x04\x04\x01\x00\x3c" + str(number).encode()
                stranger.sendto(bytes([len(connect) + 1]) + connect, place.listener("mqtt_sn"))
                stranger.sendto(b"\x01\x00", place.listener("mqtt_sn"))
                if number % 50 == 0:
                    time.sleep(0.001)

    together(run, 2)


def dtls_strangers(place: Place) -> None:
    """Strangers at the listener of CoAP over DTLS: handshakes that are begun and left, with a cookie and without, wrong
    cookies, sealed records of nobody, and what is no record."""

    def hello(random: bytes, number: int, cookie: bytes = b"") -> bytes:
        body = b"\xfe\xfd" + random + b"\x00" + bytes([len(cookie)]) + cookie
        body += b"\x00\x02\xc0\xa8\x01\x00\x00\x04\x00\x17\x00\x00"
        message = b"\x01" + len(body).to_bytes(3) + number.to_bytes(2) + bytes(3) + len(body).to_bytes(3) + body
        return b"\x16\xfe\xfd" + number.to_bytes(8) + len(message).to_bytes(2) + message

    def begin() -> None:
        """Brings each cookie back, from port after port and address after address, and goes no further."""
        for number in itertools.count():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind((f"127.9.{number // 250 % 250}.{1 + number % 250}", 0))
                stranger.settimeout(1)
                random = number.to_bytes(32)
                stranger.sendto(hello(random, 0), place.listener("coaps"))
                cookie = stranger.recv(2048)[28:60]
                stranger.sendto(hello(random, 1, cookie), place.listener("coaps"))

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for number in itertools.count():
                random = number.to_bytes(32)
                stranger.sendto(hello(random, 0), place.listener("coaps"))
                stranger.sendto(hello(random, 1, random), place.listener("coaps"))
                stranger.sendto(b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x40" + bytes(64), place.listener("coaps"))
                stranger.sendto(b"\xff" * 40, place.listener("coaps"))
                if number % 50 == 0:
                    time.sleep(0.001)

    threading.Thread(target=together, args=(begin, 2), daemon=True).start()
    together(flood, 1)


def mcu_clients(place: Place) -> None:
    """Strangers at the listener of microcontrollers: they register names, call devices that are away, and are no clients."""

    def run() -> None:
        client = Client(place.nodes["mcu_http"])
        for number in range(1 << 40):
            client.call("register_device", f"hostile-{number}")
            client.call("get_gpio", f"hostile-{number}", number="twelve")
            client.ask("POST", "/register_device", {"device_name": "x"}, {"Content-Type": "text/plain"})
            client.ask("GET", "/get_status", b"x" * 60_000)

    def wait() -> None:
        client = Client(place.nodes["mcu_http"])
        client.call("register_device", "hostile-0")
        for _ in range(1 << 40):
            client.call("get_status", "hostile-0")

    for _ in range(100):
        threading.Thread(target=lambda: again(wait), daemon=True).start()
    together(run, 4)


def mcu_device(place: Place) -> None:
    """A microcontroller that answers what nobody asked, as fast as that is taken."""
    keys = Client(place.nodes["mcu_http"]).register("hostile-device")
    with tempfile.TemporaryDirectory() as folder:
        device = Microcontroller(place.mqtts, Path(folder), "hostile-device", keys).ready()
        answers = [f"server/hostile-device/get_gpio/{pin}" for pin in range(100)]
        while True:
            for topic in answers:
                try:
                    device.say(topic, b'{"value": 1}', 1).wait_for_publish(5)
                except (RuntimeError, ValueError):
                    # It is cut off, and comes back by itself.
                    time.sleep(0.05)


def again(act) -> None:
    """Again and again, whatever the server answers."""
    while True:
        try:
            act()
        except (OSError, http.client.HTTPException, Unanswered, AssertionError):
            time.sleep(0.05)


def text(said: str) -> bytes:
    """A string of MQTT."""
    return len(said).to_bytes(2) + said.encode()


NEIGHBOURS = {
    one.__name__: one
    for one in (
        deaf_streams,
        dashboards,
        deaf_metrics,
        idle_connections,
        series,
        large_results,
        many_results,
        read_results,
        create_and_delete,
        tasks,
        waiters,
        foreign_topics,
        many_values,
        large_events,
        half_open,
        half_packets,
        half_heads,
        wrong_keys,
        logins,
        pings,
        subscriptions,
        mqtt_node,
        many_nodes,
        talkative_nodes,
        websocket_node,
        pusher_clients,
        datagrams,
        dtls_strangers,
        mcu_clients,
        mcu_device,
    )
}
# What they find: how many events, and how long each is.
EVENTS = {"deaf_streams": (600, 60_000), "dashboards": (600, 60_000), "series": (18_000, 0)}
# Stands for a file that the server's folder gets.
PUSHER_FILE = "pusher.json"
PSK_FILE = "coap-psk"
# What the server is started with for one of them: a device that may send so many events at once.
NODES = ("--mqtt-nodes", "--mqtt-sn", "--websocket-nodes", "--coap")
OF_NODES = tuple(word for option in NODES for word in (option, "127.0.0.1:0"))
OPTIONS = {
    "series": ("--events-per-second-max", "0"),
    "mcu_clients": ("--mcu-http", "127.0.0.1:0"),
    # On a server of its own: where the clients were, nobody registers for a minute.
    "mcu_device": ("--mcu-http", "127.0.0.1:0", "--lease-seconds", "60"),
    "pusher_clients": ("--pusher", PUSHER_FILE),
    "dtls_strangers": ("--coaps", "127.0.0.1:0", "--coap-psk", PSK_FILE),
    **{name: OF_NODES for name in ("mqtt_node", "many_nodes", "talkative_nodes", "half_packets", "websocket_node", "datagrams")},
}
# How many results the task has, of 200 kB.
RESULTS = {"read_results": 35}

if __name__ == "__main__":
    NEIGHBOURS[sys.argv[1]](Place.read(sys.argv[2]))
