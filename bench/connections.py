#!/usr/bin/env python3
"""Measures connections of devices with the real server and `covey sim`, on this machine.

    target/conformance-venv/bin/python bench/connections.py memory --devices 5000
    target/conformance-venv/bin/python bench/connections.py restart --devices 18000
    target/conformance-venv/bin/python bench/connections.py abrupt --rounds 500

`memory`: resident memory for an idle device with mutual TLS and four subscriptions, of the embedded broker and of
Mosquitto (`apt install mosquitto`) in turns. `restart`: the server is killed and started; how long until all devices are
back, and what calls to a hundred of them, whose process is not busy with the others, take meanwhile. `abrupt`: a connection
breaks without a word, and the device comes back at once; from the sending of CONNECT to CONNACK. Each prints a line of JSON.
COVEY_BIN names the binary (target/release/covey unless told).
"""

import argparse
import dataclasses
import getpass
import json
import os
import random
import resource
import signal
import statistics
import struct
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
os.environ.setdefault("COVEY_BIN", str(PROJECT / "target" / "release" / "covey"))
sys.path.insert(0, str(PROJECT / "conformance"))

import httpx  # noqa: E402
from testbed.api import Api  # noqa: E402
from testbed.raw_device import RawDevice, session_expiry  # noqa: E402
from testbed.server import BINARY, Server, kept_ports  # noqa: E402

SETTLE_SECONDS = 10.0
CONNECT_SECONDS_MAX = 600.0
OPTIONS = ("--events-per-second-max", "0")
# Devices that are called while all the others come back.
ASKED = 100


def resident_kib(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ValueError(f"process {process} has no VmRSS")


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Fleet:
    """`covey sim`: devices that connect, and come back by themselves."""

    def __init__(self, server: Server, folder: Path, count: int, prefix: str = "idle"):
        command = [str(BINARY), "sim", "--data", str(server.data), "--count", str(count), "--prefix", prefix]
        command += ["--identities", str(folder / prefix), "--health-check-interval", "0s"]
        self.output = open(folder / f"{prefix}.out", "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.output.close()


def connected(server: Server) -> int:
    return int(server.metric("covey_devices_connected"))


def wait_for(server: Server, count: int, fleet: Fleet, share: float = 1.0) -> float:
    """Waits until so many devices are connected; how many seconds that took."""
    began = time.monotonic()
    while True:
        try:
            if connected(server) >= count * share:
                return time.monotonic() - began
        except httpx.HTTPError:
            pass
        assert fleet.process.poll() is None, "covey sim has ended; its output says why"
        assert time.monotonic() < began + CONNECT_SECONDS_MAX, f"{connected(server)} of {count} are connected"
        time.sleep(0.1)


def memory_of_covey(devices: int) -> float:
    """KiB of the server's resident memory for an idle device."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", *OPTIONS, log="warn", ports=kept_ports())
        fleet = None
        try:
            server.start()
            before = resident_kib(server.process.pid)
            fleet = Fleet(server, Path(folder), devices)
            wait_for(server, devices, fleet)
            time.sleep(SETTLE_SECONDS)
            return (resident_kib(server.process.pid) - before) / devices
        finally:
            if fleet:
                fleet.close()
            server.kill()


MOSQUITTO = """
listener {port} 127.0.0.1
cafile {tls}/ca.pem
certfile {tls}/server.pem
keyfile {tls}/server.key
require_certificate true
use_identity_as_username true
sys_interval 0
log_type error
max_connections -1
set_tcp_nodelay true
"""


@dataclasses.dataclass
class Broker:
    """What `RawDevice` asks of a server."""

    mqtts: tuple[str, int]
    ca: Path


def memory_of_mosquitto(devices: int) -> float:
    """KiB of Mosquitto's resident memory for an idle device: it only lets devices in by their certificates, no
    account each. All show one certificate, and have client ids of their own."""
    with tempfile.TemporaryDirectory() as folder:
        tls, connections = Path(folder) / "tls", []
        server = Server(Path(folder) / "data", log="warn")
        try:
            server.start()
            identity = Api(server.http, server.key).register(Path(folder))
        finally:
            server.kill()
        pki = ["pki", "server", "--pki", str(server.data / "pki"), "--name", "127.0.0.1", "--out", str(tls)]
        subprocess.run([str(BINARY), *pki], check=True, stdout=subprocess.DEVNULL)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            broker = Broker(free.getsockname(), tls / "ca.pem")
        configuration = Path(folder) / "mosquitto.conf"
        configuration.write_text(MOSQUITTO.format(port=broker.mqtts[1], tls=tls) + f"user {getpass.getuser()}\n")
        process = subprocess.Popen(["mosquitto", "-c", str(configuration)], stderr=subprocess.DEVNULL)
        try:
            context = identity.tls(broker.ca)
            wait_until_open(broker.mqtts, process)
            before = resident_kib(process.pid)
            for number in range(devices):
                device = RawDevice(broker, identity, context=context)
                connack = device.connect(client_id=f"idle-{number}", clean=False, properties=session_expiry(3600))
                assert connack.kind == "CONNACK" and connack.reason == 0, connack
                device.subscribe(*(f"srv/idle-{number}/{level}" for level in ("tsk", "rsp", "cmt", "eva")))
                connections.append(device)
            time.sleep(SETTLE_SECONDS)
            return (resident_kib(process.pid) - before) / devices
        finally:
            for device in connections:
                device.close()
            process.terminate()
            process.wait()


def wait_until_open(address: tuple[str, int], process: subprocess.Popen) -> None:
    for _ in range(200):
        assert process.poll() is None, "Mosquitto has ended"
        try:
            socket.create_connection(address).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nothing listens on {address}")


def memory(arguments) -> dict:
    brokers = {"covey": memory_of_covey, "mosquitto": memory_of_mosquitto}
    found: dict[str, list[float]] = {name: [] for name in brokers}
    for _ in range(arguments.rounds):
        for name, measure in brokers.items():
            found[name].append(round(measure(arguments.devices), 2))
    medians = {name: statistics.median(values) for name, values in found.items()}
    return {
        "devices": arguments.devices,
        "kib_per_device": found,
        "ratio": round(medians["covey"] / medians["mosquitto"], 3),
    }


def timed_call(api: Api, device_id: int) -> float | None:
    """Seconds that a call took; None if it was not done."""
    body = {"ext_task_id": "bench", "device_id": device_id, "method_code": 51, "ttl": 5, "payload": {"dt": [{"cl": 5}]}}
    began = time.monotonic()
    try:
        answer = api.post("/device-tasks", json=body, params={"wait": 5})
    except httpx.HTTPError:
        return None
    took = time.monotonic() - began
    return took if answer.status_code == 200 and answer.json()["status_name"] == "DONE" else None


def restart(arguments) -> dict:
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", *OPTIONS, log="warn", ports=kept_ports())
        fleets = []
        try:
            server.start()
            # In a process of their own, which is not busy with the connections of all the others.
            fleets.append(Fleet(server, Path(folder), ASKED, "asked"))
            wait_for(server, ASKED, fleets[0])
            fleets.append(Fleet(server, Path(folder), arguments.devices, "idle"))
            everybody = ASKED + arguments.devices
            joined = wait_for(server, everybody, fleets[1])
            time.sleep(SETTLE_SECONDS)
            kib = resident_kib(server.process.pid) / everybody
            server.kill()
            began = time.monotonic()
            server.start()
            ready, calls, failed = time.monotonic() - began, [], 0
            api = Api(server.http, server.key)
            back = None
            while back is None:
                here = api.get("/devices", params={"online": "true", "limit": ASKED}).json()
                here = [one for one in here if one["sn"].startswith("asked")]
                for device in chance.sample(here, min(10, len(here))):
                    took = timed_call(api, device["device_id"])
                    calls.append(took) if took is not None else None
                    failed += took is None
                if connected(server) >= everybody:
                    back = time.monotonic() - began
                assert time.monotonic() < began + CONNECT_SECONDS_MAX, f"{connected(server)} are back"
            return {
                "devices": everybody,
                "joined_s": round(joined, 1),
                "kib_per_device_and_server": round(kib, 2),
                "ready_s": round(ready, 2),
                "all_back_s": round(back, 1),
                "cpu_s": round(cpu_seconds(server.process.pid), 1),
                "calls": len(calls),
                "calls_failed": failed,
                "calls_p50_ms": round(percentile(calls, 0.5) * 1000, 1) if calls else None,
                "calls_p99_ms": round(percentile(calls, 0.99) * 1000, 1) if calls else None,
                "calls_max_ms": round(max(calls) * 1000, 1) if calls else None,
            }
        finally:
            for fleet in fleets:
                fleet.close()
            server.kill()


def abrupt(arguments) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", *OPTIONS, log="warn")
        try:
            server.start()
            identity = Api(server.http, server.key).register(Path(folder))
            took = []
            for _ in range(arguments.rounds):
                device = RawDevice(server, identity)
                hello = device.connect_packet(clean=False)
                began = time.monotonic()
                device.send(hello)
                assert device.next().kind == "CONNACK"
                took.append((time.monotonic() - began) * 1000)
                device.subscribe(f"srv/{identity.sn}/+")
                # A reset, as when a machine loses its power and comes back.
                device.stream.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                device.close()
            return {
                "rounds": arguments.rounds,
                "connack_p50_ms": round(percentile(took, 0.5), 2),
                "connack_p99_ms": round(percentile(took, 0.99), 2),
                "connack_max_ms": round(max(took), 2),
            }
        finally:
            server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for measure, options in (
        (memory, {"--devices": 5_000, "--rounds": 2}),
        (restart, {"--devices": 18_000}),
        (abrupt, {"--rounds": 500}),
    ):
        command = commands.add_parser(measure.__name__)
        command.set_defaults(measure=measure)
        for name, default in options.items():
            command.add_argument(name, type=int, default=default)
    arguments = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    print(json.dumps({"measurement": arguments.measure.__name__} | arguments.measure(arguments)))


if __name__ == "__main__":
    main()
