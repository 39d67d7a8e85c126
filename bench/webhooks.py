#!/usr/bin/env python3
"""Measures webhooks with the real server, devices over TLS, and a receiver on the same machine.

    target/conformance-venv/bin/python bench/webhooks.py latency --rate 500 --seconds 30
    target/conformance-venv/bin/python bench/webhooks.py outage --rate 200 --down-seconds 600 --kills 2

`latency`: from the commit of an event to its arrival at the receiver. `outage`: the receiver is down for a while, and
the server is killed meanwhile; then everything must arrive, in order of each device, with nothing missing.
COVEY_BIN names the binary (target/release/covey unless told).
"""

import argparse
import asyncio
import collections
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
os.environ.setdefault("COVEY_BIN", str(PROJECT / "target" / "release" / "covey"))
sys.path.insert(0, str(PROJECT / "conformance"))

from testbed.api import Api  # noqa: E402
from testbed.device import Device  # noqa: E402
from testbed.server import Server, kept_ports  # noqa: E402


class Receiver:
    """As small as an HTTP server can be, so that it takes little from what is measured."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.arrived: list[tuple[float, dict]] = []
        self.server = None
        self.writers: set[asyncio.StreamWriter] = set()
        [self.port] = kept_ports(1)
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def start(self) -> None:
        async def listen():
            self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

        asyncio.run_coroutine_threadsafe(listen(), self.loop).result()

    def stop(self) -> None:
        async def close():
            self.server.close()
            for writer in list(self.writers):
                writer.transport.abort()

        asyncio.run_coroutine_threadsafe(close(), self.loop).result()

    async def _serve(self, reader, writer):
        self.writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                body = await reader.readexactly(length) if length else b""
                if head.startswith(b"POST"):
                    self.arrived.append((time.time(), json.loads(body)))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)


class Teller:
    """Devices that tell events at a rate, each event again until it is acknowledged."""

    def __init__(self, server: Server, identities, rate: float):
        self.server, self.identities, self.rate = server, identities, rate
        self.told = collections.Counter()
        self.devices = []

    def connect(self) -> None:
        self.devices = [Device(one, self.server.mqtts, self.server.ca).connect("-") for one in self.identities]

    def run(self, seconds: float, until=lambda: False) -> None:
        """Tells events for so long. A device has a few on their way and knows which were acknowledged."""
        began, sent = time.monotonic(), 0
        on_their_way = {device.sn: collections.deque() for device in self.devices}
        while (elapsed := time.monotonic() - began) < seconds and not until():
            due = int(elapsed * self.rate)
            while sent < due:
                device = self.devices[sent % len(self.devices)]
                number = self.told[device.sn] + len(on_their_way[device.sn]) + 1
                body = json.dumps({"101": number, "102": 1_700_000_000 + number, "200": 13})
                on_their_way[device.sn].append(device.send(f"dev/{device.sn}/evt", body))
                sent += 1
            for device in self.devices:
                waiting = on_their_way[device.sn]
                while waiting and waiting[0] in device.acks:
                    del device.acks[waiting.popleft()]
                    self.told[device.sn] += 1
            time.sleep(0.002)
        deadline = time.monotonic() + (0.0 if until() else 10.0)
        for device in self.devices:
            waiting = on_their_way[device.sn]
            while waiting and (waiting[0] in device.acks or time.monotonic() < deadline):
                if waiting[0] in device.acks:
                    waiting.popleft()
                    self.told[device.sn] += 1
                else:
                    time.sleep(0.002)

    def close(self) -> None:
        for device in self.devices:
            device.client.loop_stop()
        self.devices = []


def set_up(folder: Path, count: int):
    server = Server(folder / "data", "--webhook-allow", "loopback", "--events-per-second-max", "0", "--device-bytes-per-day-max", "0", ports=kept_ports())
    server.start()
    api = Api(server.http, server.key)
    receiver = Receiver()
    answer = api.put("/webhooks/msg-event", json={"url": receiver.url, "format": "cloudevents"})
    assert answer.status_code == 200, answer.text
    return server, api, receiver, [api.register(folder) for _ in range(count)]


def instant(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 text in UTC."""
    import datetime

    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def numbers_of(receiver: Receiver) -> dict[str, list[int]]:
    found = collections.defaultdict(list)
    for _, cloud in list(receiver.arrived):
        found[cloud["subject"]].append(cloud["data"]["event"]["dev_event_id"])
    return found


def latency(args) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server, api, receiver, identities = set_up(Path(folder), args.devices)
        try:
            teller = Teller(server, identities, args.rate)
            teller.connect()
            teller.run(3)
            receiver.arrived.clear()
            before = time.monotonic()
            told_before = sum(teller.told.values())
            teller.run(args.seconds)
            rate = (sum(teller.told.values()) - told_before) / (time.monotonic() - before)
            time.sleep(2)
            took = sorted(1000 * (at - instant(cloud["time"])) for at, cloud in receiver.arrived)
            at = lambda share: round(took[min(len(took) - 1, int(share * len(took)))], 1)
            print(json.dumps({
                "events": len(took), "events_per_s": round(rate), "p50_ms": at(0.5), "p95_ms": at(0.95),
                "p99_ms": at(0.99), "max_ms": at(1.0),
                "rss_mib": round(server.metric("process_resident_memory_bytes") / 2**20),
            }))
            teller.close()
        finally:
            receiver.stop()
            server.drop()


def outage(args) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server, api, receiver, identities = set_up(Path(folder), args.devices)
        try:
            teller = Teller(server, identities, args.rate)
            teller.connect()
            teller.run(5)
            receiver.stop()
            part = args.down_seconds / (args.kills + 1)
            for run in range(args.kills + 1):
                killed = threading.Event()
                if run < args.kills:
                    threading.Timer(part, lambda: (server.kill(), killed.set())).start()
                teller.run(part + (5 if run < args.kills else 0), killed.is_set)
                teller.close()
                if run < args.kills:
                    server.start()
                teller.connect()
            state = api.get("/webhooks/msg-event").json()["state"]
            receiver.start()
            began = time.monotonic()
            teller.run(10)
            total = sum(teller.told.values())

            def missing():
                came = numbers_of(receiver)
                return sum(len(set(range(1, told + 1)) - set(came[sn])) for sn, told in teller.told.items())

            while missing() and time.monotonic() - began < 900:
                time.sleep(1)
            took = time.monotonic() - began
            out_of_order = repeated = 0
            for numbers in numbers_of(receiver).values():
                first = list(dict.fromkeys(numbers))
                out_of_order += sum(1 for before, after in zip(first, first[1:]) if after < before)
                repeated += len(numbers) - len(first)
            print(json.dumps({
                "told": total, "missing": missing(), "out_of_order": out_of_order, "repeated": repeated,
                "kills": args.kills, "down_s": args.down_seconds, "behind_when_up": state["head"] - state["position"],
                "waiting_when_up": state["waiting"], "circuit_when_up": state["circuit"], "caught_up_s": round(took, 1),
                "rss_mib": round(server.metric("process_resident_memory_bytes") / 2**20),
            }))
            teller.close()
        finally:
            receiver.stop()
            server.drop()
            print(*(line for line in server.log_text().splitlines() if "WARN" in line or "ERROR" in line), sep="\n",
                  file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (("latency", latency), ("outage", outage)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--devices", type=int, default=50)
        command.add_argument("--rate", type=float, default=500 if name == "latency" else 200)
        if name == "latency":
            command.add_argument("--seconds", type=float, default=30)
        else:
            command.add_argument("--down-seconds", type=float, default=600)
            command.add_argument("--kills", type=int, default=2)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
