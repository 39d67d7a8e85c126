#!/usr/bin/env python3
"""Measures nodes, with clients that others wrote, on a server of its own.

    target/conformance-venv/bin/python bench/nodes.py latency    # from one web client over a node to another one
    target/conformance-venv/bin/python bench/nodes.py rate       # values a second into twins, acknowledged after the commit
    target/conformance-venv/bin/python bench/nodes.py coap       # what 10,000 CoAP nodes cost
    target/conformance-venv/bin/python bench/nodes.py units      # what 1,000 read units cost
    target/conformance-venv/bin/python bench/nodes.py mcu        # get_gpio over HTTPS, to a microcontroller and back

`latency`: an `update` is sent at one `/ws`, becomes a write of a node, which answers, and is received at another `/ws` after
the commit; one after the other, over each protocol. `rate`: plain MQTT nodes say values with QoS 1, 50 at a time on each of
several connections, with no budgets. `mcu`: one client on one connection, one call after the other (docs/mcu-http.md). Prints a line of JSON for each. COVEY_BIN names the binary (target/release/covey
unless told).
"""

import argparse
import ipaddress
import json
import multiprocessing
import os
import select
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
os.environ.setdefault("COVEY_BIN", str(PROJECT / "target" / "release" / "covey"))
sys.path.insert(0, str(PROJECT / "conformance"))

from websockets.sync.client import connect  # noqa: E402

from testbed.api import Api  # noqa: E402
from testbed.coap_nodes import CoapNode  # noqa: E402
from testbed.mcu import Client  # noqa: E402
from testbed.mcu import Device as Microcontroller  # noqa: E402
from testbed.neighbour import resident_mib  # noqa: E402
from testbed.nodes import MqttNode, WebSocketNode, wait_for  # noqa: E402
from testbed.packet import packet  # noqa: E402
from testbed.server import Server  # noqa: E402

ANY = "127.0.0.1:0"
NO_BUDGETS = ("--events-per-second-max", "0", "--device-bytes-per-day-max", "0", "--organisation-bytes-per-second-max", "0")
VALUES_OF_A_NODE = 2


class LibcoapNode:
    """libcoap's example server, which has `example_data`; its client says that it is alive, from the same address."""

    RESOURCE, ADDRESS = "example_data", "127.65.0.1"

    def __init__(self, gateway: str, uid: str):
        server, client = (shutil.which(f"coap-{name}-notls") for name in ("server", "client"))
        self.process = subprocess.Popen([server, "-A", self.ADDRESS, "-p", "5683", "-d", "4"], stdout=subprocess.DEVNULL)
        alive = [client, "-a", self.ADDRESS, "-B", "5", "-m", "post", "-e", f"alive:{uid}", f"{gateway}/alive"]
        # It says so from another port each time: the second time proves the address.
        for _ in range(2):
            subprocess.run(alive, check=True, stdout=subprocess.DEVNULL)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


class WebClient:
    """A page at `/ws` that keeps what it hears of."""

    def __init__(self, url: str):
        self.socket = connect(f"{url}/ws")
        self.socket.send('{"type": "new"}')
        self.uids: dict[str, str] = {}

    def hear(self, seconds: float) -> dict:
        message = json.loads(self.socket.recv(timeout=seconds))
        if message.get("endpoint") == "protocol":
            self.uids[message["uid"]] = message["data"]
        return message

    def hear_all(self) -> None:
        """Until nothing has come for a while."""
        try:
            while True:
                self.hear(0.5)
        except TimeoutError:
            pass


def play(make, stop) -> None:
    """A node in a process of its own, as a real one is: it shares no interpreter with the web clients."""
    node = make()
    if isinstance(node, CoapNode):
        node.alive()
    stop.wait()
    node.close()


def latency(folder: Path, rounds: int) -> None:
    listeners = ("--websocket-nodes", ANY, "--mqtt-nodes", ANY, "--coap", ANY, "--node-broker", ANY)
    server = Server(folder / "data", *listeners, log="warn").start()
    stop, nodes = multiprocessing.Event(), []
    try:
        at = server.addresses
        makes = [
            partial(WebSocketNode, at["websocket_nodes"], {"id": "web", "led": "0"}),
            partial(MqttNode, at["mqtt_nodes"], "plain", {"led": "0"}),
            partial(CoapNode, at["coap"], "aiocoap", {"led": "0"}),
        ]
        if shutil.which("coap-server-notls"):
            makes.append(partial(LibcoapNode, at["coap"], "libcoap"))
        nodes = [multiprocessing.Process(target=play, args=(make, stop)) for make in makes]
        for node in nodes:
            node.start()
        one, other = WebClient(at["node_broker"]), WebClient(at["node_broker"])

        def are_there() -> bool:
            one.hear_all()
            other.hear_all()
            return len(other.uids) == len(nodes)

        assert wait_for(are_there, 20), other.uids
        for uid, protocol in sorted(other.uids.items(), key=lambda node: node[::-1]):
            took, endpoint = [], LibcoapNode.RESOURCE if uid == "libcoap" else "led"
            if uid == "libcoap":
                # It makes the resource, which is no success, and has it from then on.
                first = {"uid": uid, "endpoint": endpoint, "payload": "0"}
                one.socket.send(json.dumps({"type": "update", "data": first}))
                one.hear_all()
                other.hear_all()
            for number in range(1, rounds + 1):
                update = {"uid": uid, "endpoint": endpoint, "payload": str(number)}
                began = time.perf_counter()
                one.socket.send(json.dumps({"type": "update", "data": update}))
                wanted = {"uid": uid, "endpoint": endpoint, "data": str(number)}
                while not wanted.items() <= other.hear(10).items():
                    pass
                took.append((time.perf_counter() - began) * 1_000)
            one.hear_all()
            took.sort()
            found = {"p50_ms": round(statistics.median(took), 2), "p99_ms": round(took[int(rounds * 0.99) - 1], 2)}
            node = uid if protocol == "CoAP" else None
            print(json.dumps({"measured": "latency", "protocol": protocol, "node": node, "rounds": rounds, **found}), flush=True)
    finally:
        stop.set()
        for node in nodes:
            node.join()
        server.drop()


def mcu(folder: Path, rounds: int) -> None:
    server = Server(folder / "data", "--mcu-http", ANY, log="warn").start()
    try:
        client = Client(server.addresses["mcu_http"])
        device = Microcontroller(server.mqtts, folder / "keys", "bench", client.register("bench")).ready()
        took = []
        for number in range(rounds + 50):
            began = time.perf_counter()
            assert client.told("get_gpio", "bench", number=number % 32) == {"value": 0}
            took.append((time.perf_counter() - began) * 1_000)
        # The first ones warm up.
        took = sorted(took[50:])
        found = {"p50_ms": round(statistics.median(took), 2), "p99_ms": round(took[int(rounds * 0.99) - 1], 2)}
        print(json.dumps({"measured": "mcu", "rounds": rounds, **found}), flush=True)
        device.close()
    finally:
        server.drop()


def text(said: str) -> bytes:
    return len(said).to_bytes(2, "big") + said.encode()


def say(address: tuple[str, int], connection: int, nodes: int, seconds: float, found) -> None:
    """One connection: so many values, then their acknowledgements, again and again."""
    with socket.create_connection(address) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00"))
        client.recv(4)
        each = [(node, value) for node in range(nodes) for value in range(VALUES_OF_A_NODE)]
        said = b"".join(
            packet(0x32, text(f"node/n{connection}-{node}/r{value}") + (at + 1).to_bytes(2, "big") + b'{"value": "23.5"}')
            for at, (node, value) in enumerate(each)
        )

        def once() -> None:
            client.sendall(said)
            left = 4 * len(each)
            while left > 0:
                left -= len(client.recv(left))

        once()
        time.sleep(2)
        began, count = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            once()
            count += len(each)
        found.put(count / (time.monotonic() - began))


def rate(folder: Path, connections: int, nodes: int, seconds: float) -> None:
    server = Server(folder / "data", "--mqtt-nodes", ANY, *NO_BUDGETS, log="warn").start()
    try:
        host, port = server.addresses["mqtt_nodes"].removeprefix("mqtt://").rsplit(":", 1)
        found = multiprocessing.Queue()
        arguments = [((host, int(port)), number, nodes, seconds, found) for number in range(connections)]
        saying = [multiprocessing.Process(target=say, args=one) for one in arguments]
        for process in saying:
            process.start()
        rates = [found.get(timeout=seconds + 60) for _ in saying]
        for process in saying:
            process.join()
        shown = {"connections": connections, "nodes": connections * nodes, "values_per_s": round(sum(rates))}
        print(json.dumps({"measured": "rate", **shown}), flush=True)
    finally:
        server.drop()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class CoapNodes:
    """Many nodes behind one socket: the kernel says to which address a datagram came, and is told from which one it goes."""

    PORT, PKTINFO = 5683, getattr(socket, "IP_PKTINFO", 8)
    BEGINS_AT = int(ipaddress.ip_address("127.64.0.1"))
    LINKS, ALIVE_S, REPORT_S = b"</temperature>;ct=0", 30.0, 5.0

    def __init__(self, gateway: tuple[str, int], count: int):
        self.gateway, self.count = gateway, count
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.IPPROTO_IP, self.PKTINFO, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.setblocking(False)
        self.socket.bind(("0.0.0.0", self.PORT))
        self.message, self.acknowledged, self.asked, self.sent = 0, 0, 0, 0
        self.began, self.alive, self.reports = time.monotonic(), 0, 0

    def _send(self, number: int, datagram: bytes, to: tuple[str, int]) -> None:
        source = struct.pack("=I4s4s", 0, (self.BEGINS_AT + number).to_bytes(4, "big"), bytes(4))
        try:
            self.socket.sendmsg([datagram], [(socket.IPPROTO_IP, self.PKTINFO, source)], 0, to)
        except BlockingIOError:
            pass

    def post(self, number: int, path: bytes, text: str) -> None:
        self.message = (self.message + 1) % 65536
        head = b"\x41\x02" + self.message.to_bytes(2, "big") + b"\x01"
        options = bytes([0xB0 + len(path)]) + path + b"\x10"
        self._send(number, head + options + b"\xff" + text.encode(), self.gateway)
        self.sent += 1

    def serve(self) -> None:
        """Answers what has come."""
        while True:
            try:
                datagram, extra, _, sender = self.socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            number = int.from_bytes(extra[0][2][8:12], "big") - self.BEGINS_AT
            kind, length, code = datagram[0] >> 4 & 3, datagram[0] & 15, datagram[1]
            number_and_token = datagram[2 : 4 + length]
            if kind >= 2:
                self.acknowledged += code == 0x44
            elif code == 0:
                self._send(number, b"\x70\x00" + datagram[2:4], sender)
            else:
                body = self.LINKS if b".well-known" in datagram else b"23.0"
                self._send(number, bytes([0x60 + length, 0x45]) + number_and_token + b"\xff" + body, sender)
                self.asked += 1

    def run(self, seconds: float) -> None:
        """Each is alive and reports in its turn, on from where this ended before."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            passed = now - self.began
            while self.alive < passed / self.ALIVE_S * self.count:
                self.post(self.alive % self.count, b"alive", f"alive:n{self.alive % self.count}")
                self.alive += 1
            while self.reports < passed / self.REPORT_S * self.count:
                number = self.reports % self.count
                self.reports += 1
                # Whoever was alive reports.
                if number < self.alive:
                    self.post(number, b"server", f"temperature:{self.reports % 97}.5")
            self.serve()
            select.select([self.socket], [], [], 0.002)


def say_coap(gateway: tuple[str, int], count: int, joining: float, seconds: float, found) -> None:
    nodes = CoapNodes(gateway, count)
    nodes.run(joining)
    found.put("joined")
    sent, acknowledged = nodes.sent, nodes.acknowledged
    nodes.run(seconds)
    found.put({"said_per_s": round((nodes.sent - sent) / seconds), "acknowledged_per_s": round((nodes.acknowledged - acknowledged) / seconds)})


def coap(folder: Path, count: int, seconds: float) -> None:
    options = ("--coap", ANY, "--nodes", "open", *NO_BUDGETS)
    server = Server(folder / "data", *options, log="warn").start()
    try:
        before_kib = resident_mib(server) * 1024
        host, port = server.addresses["coap"].removeprefix("coap://").rsplit(":", 1)
        found = multiprocessing.Queue()
        saying = multiprocessing.Process(target=say_coap, args=((host, int(port)), count, 75.0, seconds, found))
        saying.start()
        found.get(timeout=120)
        began, cpu = time.monotonic(), cpu_seconds(server.process.pid)
        said = found.get(timeout=seconds + 60)
        took = cpu_seconds(server.process.pid) - cpu
        share = took / (time.monotonic() - began)
        kib = resident_mib(server) * 1024 - before_kib
        saying.join()
        with Api(server.http, server.key) as api:
            there = api.get("/nodes", params={"size": 1}).json()["total"]
        shown = {"nodes": count, **said, "share_of_a_core": round(share, 3), "kib_a_node": round(kib / count, 2)}
        print(json.dumps({"measured": "coap", **shown, "listed": there}), flush=True)
    finally:
        server.drop()


def serve_units(ports, stop) -> None:
    """Read units: whoever connects gets a line a second."""
    poller, listeners, open_ones = select.epoll(), {}, []
    for _ in range(ports.count):
        listener = socket.create_server(("127.0.0.1", 0), backlog=4)
        listener.setblocking(False)
        listeners[listener.fileno()] = listener
        poller.register(listener.fileno(), select.EPOLLIN)
    ports.told.put([one.getsockname()[1] for one in listeners.values()])
    due, said = time.monotonic() + 1, 0
    while not stop.is_set():
        for place, _ in poller.poll(0.05):
            open_ones.append(listeners[place].accept()[0])
        if time.monotonic() >= due:
            due, said = due + 1, said + 1
            for one in open_ones:
                one.send(b"%d\n" % (said % 1024))


class Ports:
    def __init__(self, count: int):
        self.count, self.told = count, multiprocessing.Queue()


def units(folder: Path, count: int, seconds: float) -> None:
    """The memory and processor time of a server with so many units, less that of one without."""
    ports, stop = Ports(count), multiprocessing.Event()
    serving = multiprocessing.Process(target=serve_units, args=(ports, stop))
    serving.start()
    listed = [{"address": "127.0.0.1", "port": port, "kind": "read", "name": f"u{port}"} for port in ports.told.get(timeout=30)]
    file = folder / "units.json"
    file.write_text(json.dumps({"units": listed}))
    kib = {}
    try:
        for name, options in (("without", ()), ("with", ("--units", str(file), "--units-allow", "127.0.0.1"))):
            server = Server(folder / name, *options, *NO_BUDGETS, log="warn").start()
            try:
                with Api(server.http, server.key) as api:
                    are_there = lambda: api.get("/nodes", params={"size": 1}).json()["total"] == count  # noqa: B023, E731
                    assert name == "without" or wait_for(are_there, 60), "not all units are there"
                time.sleep(seconds / 2)
                began, cpu = time.monotonic(), cpu_seconds(server.process.pid)
                time.sleep(seconds / 2)
                kib[name] = resident_mib(server) * 1024
                share = (cpu_seconds(server.process.pid) - cpu) / (time.monotonic() - began)
            finally:
                server.drop()
    finally:
        stop.set()
        serving.join()
    each = (kib["with"] - kib["without"]) / count
    print(json.dumps({"measured": "units", "units": count, "share_of_a_core": round(share, 3), "kib_a_unit": round(each, 2)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["latency", "rate", "coap", "units", "mcu"])
    parser.add_argument("--rounds", type=int, default=200, help="writes over each protocol, calls of mcu (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=8, help="of MQTT nodes (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=25, help="on each connection, 25 at most (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long they say values (default: %(default)s)")
    parser.add_argument("--coap-nodes", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--units", type=int, default=1_000, help="how many (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="covey-nodes-") as folder:
        if given.what == "latency":
            latency(Path(folder), given.rounds)
        elif given.what == "mcu":
            mcu(Path(folder), given.rounds)
        elif given.what == "rate":
            rate(Path(folder), given.connections, given.nodes, given.seconds)
        elif given.what == "coap":
            coap(Path(folder), given.coap_nodes, given.seconds)
        else:
            units(Path(folder), given.units, given.seconds)


if __name__ == "__main__":
    main()
