#!/usr/bin/env python3
"""Measures connections of devices with the real server and `covey sim`, on this machine.

    target/conformance-venv/bin/python bench/connections.py memory --devices 5000
    target/conformance-venv/bin/python bench/connections.py restart --devices 18000
    target/conformance-venv/bin/python bench/connections.py abrupt --rounds 500

`memory`: resident memory for an idle device, of the embedded broker and of Mosquitto in turns, with the same simulated
devices. `restart`: the server is killed and started; how long until all devices are back, and what calls to those that
are back take meanwhile. `abrupt`: a connection breaks without a word, and the device comes back at once; from the
sending of CONNECT to CONNACK. Each prints a line of JSON. COVEY_BIN names the binary (target/release/covey unless
told), COVEY_TESTBED the program that starts Mosquitto (target/release/covey-testbed).
"""

import argparse
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
for name, program in (("COVEY_BIN", "covey"), ("COVEY_TESTBED", "covey-testbed")):
    os.environ.setdefault(name, str(PROJECT / "target" / "release" / program))
sys.path.insert(0, str(PROJECT / "conformance"))

import httpx  # noqa: E402
from testbed.api import Api  # noqa: E402
from testbed.deployment import EMBEDDED  # noqa: E402
from testbed.fault_services import FaultDeployment, FaultServices  # noqa: E402
from testbed.raw_device import RawDevice  # noqa: E402
from testbed.server import BINARY, Server, kept_ports  # noqa: E402

SETTLE_SECONDS = 10.0
CONNECT_SECONDS_MAX = 600.0
OPTIONS = ("--events-per-second-max", "0")


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

    def __init__(self, server: Server, folder: Path, count: int):
        command = [str(BINARY), "sim", "--data", str(server.data), "--count", str(count), "--prefix", "idle"]
        command += ["--identities", str(folder / "identities"), "--health-check-interval", "0s"]
        self.output = open(folder / "sim.out", "ab")
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
        assert fleet.process.poll() is None, "covey sim has ended; see sim.out"
        assert time.monotonic() < began + CONNECT_SECONDS_MAX, f"{connected(server)} of {count} are connected"
        time.sleep(0.1)


def memory_of(shape: str, devices: int) -> float:
    """KiB of the broker's resident memory for an idle device."""
    with tempfile.TemporaryDirectory() as folder:
        own = FaultServices() if shape != EMBEDDED else None
        deployment = FaultDeployment(shape, own) if own else None
        server = Server(Path(folder) / "data", *OPTIONS, log="warn", ports=kept_ports(), deployment=deployment)
        fleet = None
        try:
            server.start()
            broker = server.process.pid
            if own:
                [broker] = [one["pid"] for name, one in own.processes().items() if "mosquitto" in name]
            before = resident_kib(broker)
            fleet = Fleet(server, Path(folder), devices)
            wait_for(server, devices, fleet)
            time.sleep(SETTLE_SECONDS)
            return (resident_kib(broker) - before) / devices
        finally:
            if fleet:
                fleet.close()
            server.kill()
            if own:
                own.down()


def memory(arguments) -> dict:
    shapes = {"covey": EMBEDDED, "mosquitto": "sqlite+mosquitto"}
    found: dict[str, list[float]] = {name: [] for name in shapes}
    for _ in range(arguments.rounds):
        for name, shape in shapes.items():
            found[name].append(round(memory_of(shape, arguments.devices), 2))
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
        fleet = None
        try:
            server.start()
            fleet = Fleet(server, Path(folder), arguments.devices)
            joined = wait_for(server, arguments.devices, fleet)
            time.sleep(SETTLE_SECONDS)
            kib = resident_kib(server.process.pid) / arguments.devices
            server.kill()
            began = time.monotonic()
            server.start()
            ready, calls, failed = time.monotonic() - began, [], 0
            api = Api(server.http, server.key)
            back = None
            while back is None:
                here = api.get("/devices", params={"online": "true", "limit": 200}).json()
                if here:
                    took = timed_call(api, chance.choice(here)["device_id"])
                    calls.append(took) if took is not None else None
                    failed += took is None
                if connected(server) >= arguments.devices:
                    back = time.monotonic() - began
                assert time.monotonic() < began + CONNECT_SECONDS_MAX, f"{connected(server)} are back"
            return {
                "devices": arguments.devices,
                "joined_s": round(joined, 1),
                "kib_per_device_and_server": round(kib, 2),
                "ready_s": round(ready, 2),
                "all_back_s": round(back, 1),
                "cpu_s": round(cpu_seconds(server.process.pid), 1),
                "calls": len(calls),
                "calls_failed": failed,
                "calls_p50_ms": round(percentile(calls, 0.5) * 1000, 1) if calls else None,
                "calls_p99_ms": round(percentile(calls, 0.99) * 1000, 1) if calls else None,
            }
        finally:
            if fleet:
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
