#!/usr/bin/env python3
"""Runs each device program of this folder against a server, and prints what worked with which MQTT library.

    python conformance/clients/run.py [--json FILE] [--keep FOLDER] [--kill] [--host HOST] [--key KIND] [NAME...]

The server is $COVEY_BIN (target/release/covey if unset). docs/clients.md says what to install.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
os.environ.setdefault("COVEY_BIN", str(PROJECT / "target" / "release" / "covey"))
sys.path.insert(0, str(HERE.parent))

from programs import PROGRAMS, Program  # noqa: E402
from testbed.api import Api, DONE  # noqa: E402
from testbed.device import Identity  # noqa: E402
from testbed.server import Server, kept_ports  # noqa: E402

# The tasks' methods, as python/contract.py explains them.
ANSWER, EVENT, POLL, POLLED, EVENT_QOS_2 = 51, 52, 53, 54, 55
EVENT_TYPE = 13
# What comes back as the result, if all is well.
PARAMETERS = {"dt": [{"cl": 5}]}
NOTHING = "00000000-0000-0000-0000-000000000000"
CONNECT_SECONDS_MAX = 15.0
CALL_SECONDS_MAX = 10.0
DOWN_SECONDS = 2.0
# Long enough for libraries that wait a minute before they connect again.
RETURN_SECONDS_MAX = 90.0
OK, NO, NONE = "ok", "no", "-"
# Keys that a device can make itself, as openssl genpkey makes them.
KEYS = {
    "rsa-2048": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "p-384": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "ed25519": ("-algorithm", "ED25519"),
}


@dataclass(frozen=True)
class Circumstances:
    """What is the same for all programs of a run: the server's name as they know it, and the kind of their keys; None
    is the server's own choice. `is_killed`: the server is restarted after a kill."""

    host: str = "localhost"
    key: str | None = None
    is_killed: bool = False


def register(api: Api, folder: Path, sn: str, key: str | None) -> Identity:
    """Registers a device; with a kind of key, by a signing request."""
    if key is None:
        return api.register(folder, sn)
    own = folder / "own.key"
    subprocess.run(["openssl", "genpkey", *KEYS[key], "-out", str(own)], check=True, capture_output=True)
    command = ["openssl", "req", "-new", "-key", str(own), "-subj", f"/CN={sn}"]
    request = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answer = api.post("/devices", json={"sn": sn, "csr": request})
    assert answer.status_code == 201, answer.text
    return Identity.write(folder, answer.json(), own.read_text())


@dataclass
class Row:
    """What was seen with one program."""

    client: str
    version: str
    level: str
    push: str = NO
    poll: str = NO
    event: str = NO
    qos_2: str = NO
    restart: str = NO
    note: str = ""
    details: list[str] = field(default_factory=list)


class Device:
    """A program that runs as a device of its own."""

    def __init__(self, program: Program, server: Server, api: Api, folder: Path, given: Circumstances):
        self.program, self.api = program, api
        folder.mkdir()
        self.sn = "d-" + re.sub("[^a-z0-9]", "-", program.name)
        identity = register(api, folder, self.sn, given.key)
        self.device_id = identity.device_id
        identity.certificate.rename(folder / "cert.pem")
        identity.key.rename(folder / "key.pem")
        (folder / "ca.pem").write_text(server.ca.read_text())
        self.output = folder / "output"
        port = str(server.mqtts[1])
        more = {"SN": self.sn, "HOST": given.host, "PORT": port, "DIR": str(folder), "LEVEL": program.level}
        self.row = Row(program.client, program.version(), program.level, note=program.note)
        if not program.has_qos_2:
            self.row.qos_2 = NONE
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                program.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=os.environ | more, cwd=folder,
            )

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def is_running(self) -> bool:
        return self.process.poll() is None

    def is_connected(self) -> bool:
        """As the server sees it; up to two seconds late."""
        devices = self.api.get("/devices", params={"device_id": self.device_id}).json()
        return bool((devices[0]["connection"] or {}).get("last_checked_result"))

    def wait_until(self, holds, seconds: float) -> bool:
        """Looks again and again until something holds, the time is over, or the program has ended."""
        deadline = time.monotonic() + seconds
        while not (known := holds()) and time.monotonic() < deadline and self.is_running():
            time.sleep(0.05)
        return bool(known)

    def create(self, method: int, **fields) -> str:
        return self.api.create(self, method_code=method, payload=PARAMETERS, **fields)

    def finishes(self, task: str, seconds: float = CALL_SECONDS_MAX) -> bool:
        """Whether the task is DONE, its result is the echo, and the program saw its `cmt`."""
        if not self.wait_until(lambda: self.api.status(task) == DONE, seconds):
            return self.fails(f"task {task} is {self.api.task(task)['status_name']}")
        results = [result["result"] for result in self.api.task(task)["results"]]
        if results != [PARAMETERS]:
            return self.fails(f"results of {task}: {results}")
        return self.wait_until(lambda: f"cmt {task}" in self.text(), 5) or self.fails(f"no cmt of {task}")

    def fails(self, why: str) -> bool:
        self.row.details.append(why)
        return False

    def push(self) -> bool:
        """Three calls, one after the other."""
        return all(self.finishes(self.create(ANSWER)) for _ in range(3))

    def poll(self) -> bool:
        """One task waits unanswered; another makes the device poll, until there is nothing to do."""
        waiting = self.create(POLLED)
        if not self.wait_until(lambda: f"tsk {waiting}" in self.text(), 5):
            return self.fails("the task to be polled was not announced")
        if not (self.finishes(self.create(POLL)) and self.finishes(waiting)):
            return False
        return self.wait_until(lambda: f"rsp {NOTHING}" in self.text(), 5) or self.fails("no 'nothing to do'")

    def event(self, method: int) -> bool:
        """An event is stored once, and its `eva` comes."""
        told, before = self.text().count("\neva "), self.stored()
        if not self.finishes(self.create(method)):
            return False
        if not self.wait_until(lambda: self.text().count("\neva ") > told, 5):
            return self.fails("no eva")
        if '"success"' not in self.text().rpartition("\neva ")[2]:
            return self.fails("eva without success")
        return self.stored() == before + 1 or self.fails(f"{self.stored() - before} events stored")

    def stored(self) -> int:
        params = {"device_id": self.device_id, "limit": 100}
        items = self.api.get("/device-events", params=params).json()["items"]
        return sum(item["event_type_code"] == EVENT_TYPE for item in items)

    def works(self) -> None:
        """Fills the row up to the restart."""
        if not self.wait_until(self.is_connected, CONNECT_SECONDS_MAX):
            self.fails(f"never connected: {self.text()[-500:]}")
            return
        # The subscription follows the connection; what is created before it is announced with it.
        self.row.push = OK if self.push() else NO
        self.row.poll = OK if self.poll() else NO
        self.row.event = OK if self.event(EVENT) else NO
        if self.program.has_qos_2:
            self.row.qos_2 = OK if self.event(EVENT_QOS_2) else NO

    def comes_back(self, waiting: str, since: float) -> None:
        """Whether it does its work again after a restart of the server, with nobody's help: first the call that
        waits for it, which is announced when it subscribes."""
        seconds = max(1.0, RETURN_SECONDS_MAX - (time.monotonic() - since))
        if not self.is_running():
            self.row.restart = f"program ended ({self.process.returncode})"
        elif not self.wait_until(self.is_connected, seconds):
            self.row.restart = "does not connect" if self.is_running() else "program ended"
        elif self.finishes(waiting):
            self.row.restart = OK
        elif self.finishes(self.create(ANSWER)):
            self.row.restart = "ok, but lost the call that waited"
        else:
            self.row.restart = "connected, deaf" if self.is_connected() else "connection lost again"

    def end(self) -> None:
        if self.is_running():
            self.process.kill()
        self.process.wait()


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    head = ("client", "version", "level", "push", "poll", "evt/eva", "QoS 2", "after a restart", "note")
    lines = [head, ("---",) * len(head)]
    for row in rows:
        lines.append((row.client, row.version, row.level, row.push, row.poll, row.event, row.qos_2, row.restart, row.note))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def run(programs: list[Program], folder: Path, given: Circumstances) -> list[Row]:
    """Each program in its turn; then one restart for all of them, after a proper end or a kill."""
    server = Server(folder / "data", ports=kept_ports()).start()
    devices: list[Device] = []
    try:
        with Api(server.http, server.key) as api:
            for program in programs:
                device = Device(program, server, api, folder / program.name, given)
                devices.append(device)
                try:
                    device.works()
                except Exception as error:  # noqa: BLE001 the other programs are to be tried all the same
                    device.fails(f"{type(error).__name__}: {error}")
                row = device.row
                print(row.client, row.level, row.push, row.poll, row.event, row.qos_2, *row.details, file=sys.stderr)
                (folder / f"{program.name}.before-restart").write_text(device.text())
            # A refusal is a fault of the server's or of a program's; there should be none.
            for line in httpx.get(f"{server.http}/metrics").text.splitlines():
                if line.startswith("covey_refusals_total{") and not line.endswith(" 0"):
                    print(line, file=sys.stderr)
            server.kill() if given.is_killed else server.stop()
            time.sleep(DOWN_SECONDS)
            server.start()
            since = time.monotonic()
            waiting = [device.create(ANSWER) for device in devices]
            for device, task in zip(devices, waiting, strict=True):
                device.comes_back(task, since)
                print(device.row.client, device.row.level, device.row.restart, file=sys.stderr)
    finally:
        for device in devices:
            device.end()
        server.drop()
    if server.panics():
        print("the server panicked:", *server.panics(), sep="\n", file=sys.stderr)
    return [device.row for device in devices]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("name", nargs="*", help="which programs; all, if none is named")
    arguments.add_argument("--json", type=Path, help="write the rows to this file, too")
    arguments.add_argument("--keep", type=Path, help="a new folder for logs and outputs, which is kept")
    arguments.add_argument("--kill", action="store_true", help="restart the server after SIGKILL, not after SIGTERM")
    arguments.add_argument("--host", default="localhost", help="the server's name or address for the devices")
    arguments.add_argument("--key", choices=KEYS, help="the kind of the devices' own keys; P-256 of the server's, if not given")
    given = arguments.parse_args()
    # What was started is ended, whoever ends this program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    known = {program.name for program in PROGRAMS}
    if unknown := set(given.name) - known:
        arguments.error(f"no program {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    chosen = [program for program in PROGRAMS if not given.name or program.name in given.name]
    missing = [program for program in chosen if not program.is_installed()]
    for program in missing:
        print(f"{program.name}: not installed", file=sys.stderr)
    chosen = [program for program in chosen if program not in missing]
    same = Circumstances(given.host, given.key, given.kill)
    if given.keep:
        given.keep.mkdir(parents=True)
        rows = run(chosen, given.keep, same)
    else:
        with tempfile.TemporaryDirectory() as folder:
            rows = run(chosen, Path(folder), same)
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
