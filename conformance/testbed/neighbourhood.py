"""A server with a hostile neighbour and a victim, both programs of their own: what the victim's calls, logins and looks at
`/readyz` take quietly and beside the neighbour, and what memory, disk and log the neighbour makes the server take.

Where the machine lets it (cgroup v1 `cpu`, root), the victim has half a core and the neighbour another half, so that what is
measured is the server's: in the quiet time, too, when the other half is burnt.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from testbed.api import RIGHTS, Api
from testbed.device import Device
from testbed.dtls_nodes import key_file
from testbed.hostile import EVENTS, NEIGHBOURS, OPTIONS, PSK_FILE, PUSHER_FILE, RESULTS, Place
from testbed.neighbour import open_files, resident_mib
from testbed.pusher import app, file_of
from testbed.server import Server

CONFORMANCE = Path(__file__).resolve().parents[1]
BURN = "while True: pass"
# How many events of 60 kB a device brings that was just registered.
EVENTS_OF_A_DEVICE = 100
# What fills the store's caches: so many devices bring that many events of this size, and so many at once read them in such
# pages.
WARM_DEVICES, WARM_BYTES, WARM_READERS, WARM_PAGE = 6, 60_000, 8, 50
# What may stay when a neighbour has gone: this part of what there was before, or so much.
LEFT_SHARE_MAX, LEFT_MIB_MAX = 0.2, 4.0
# And so many open files: connections to the store that are made when they are first needed.
FILES_LEFT_MAX = 16


class HalfACore:
    """A group of processes that have half a core together; on a machine that does not let us, nothing."""

    def __init__(self, name: str):
        self.folder = Path(f"/sys/fs/cgroup/cpu/covey-{name}-{os.getpid()}")
        try:
            self.folder.mkdir()
            # A short period: nobody stands still for longer than a call takes.
            (self.folder / "cpu.cfs_period_us").write_text("10000")
            (self.folder / "cpu.cfs_quota_us").write_text("5000")
        except OSError:
            self.folder = None

    def take(self, process: subprocess.Popen) -> None:
        if self.folder:
            (self.folder / "tasks").write_text(str(process.pid))

    def drop(self) -> None:
        if self.folder:
            with contextlib.suppress(OSError):
                self.folder.rmdir()


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


class Reading(threading.Thread):
    """One who reads all events of an organisation, page by page."""

    def __init__(self, http: str, key: str):
        super().__init__(daemon=True)
        self.http, self.key = http, key

    def run(self) -> None:
        with Api(self.http, self.key) as api:
            for page in range(1, WARM_DEVICES * EVENTS_OF_A_DEVICE // WARM_PAGE + 1):
                api.get("/device-events", params={"page": page, "size": WARM_PAGE})


class Neighbourhood:
    """A server of its own, on which one neighbour after the other can be measured."""

    def __init__(self, folder: Path, *options: str):
        self.folder = Path(folder)
        files = {
            PUSHER_FILE: lambda: file_of(self.folder, app()),
            PSK_FILE: lambda: str(key_file(self.folder / PSK_FILE, f"lamp:{'5d' * 16}")),
        }
        options = [files[one]() if one in files else one for one in options]
        self.server = Server(self.folder / "data", *options)
        self.victims, self.others = HalfACore("victims"), HalfACore("others")
        self.is_limited = self.victims.folder is not None

    def __enter__(self) -> "Neighbourhood":
        self.server.start()
        self.admin = Api(self.server.http, self.server.key)
        self.victim = self._place("victim")
        return self

    def __exit__(self, *_) -> None:
        self.admin.close()
        self.server.drop()
        self.victims.drop()
        self.others.drop()

    def _place(self, org: str) -> Place:
        server = self.server
        folder = self.folder / org
        folder.mkdir(exist_ok=True)
        with Api(server.http, self.admin.key_with(RIGHTS, org=org)) as api:
            devices = [api.register(folder) for _ in range(2)]
            key = api.headers["x-api-key"]
            task = api.create(devices[0], ttl=60)
        nodes = {name: url for name, url in server.addresses.items() if isinstance(url, str)}
        return Place(server.http, server.https, server.mqtts, server.ca, key, devices, task, nodes=nodes)

    def _complaints(self, what: str) -> Path:
        return self.folder / f"{what}.stderr"

    def _run(self, half: HalfACore, what: str, *arguments: object) -> subprocess.Popen:
        with self._complaints(what).open("wb") as complaints:
            process = subprocess.Popen(
                [sys.executable, "-m", what, *map(str, arguments)],
                cwd=CONFORMANCE,
                stdout=subprocess.PIPE if what == "testbed.victim" else subprocess.DEVNULL,
                stderr=complaints,
                text=True,
            )
        half.take(process)
        return process

    def _victim(self, seconds: float) -> dict:
        """What a victim says that runs for so long."""
        process = self._run(self.victims, "testbed.victim", self.victim.write(self.folder / "victim.json"), seconds)
        said, _ = process.communicate(timeout=seconds + 90)
        return json.loads(said)

    def quiet(self, seconds: float) -> dict:
        """The victim alone; where neighbours have half a core, as much is burnt beside it."""
        burning = subprocess.Popen([sys.executable, "-c", BURN]) if self.is_limited else None
        try:
            if burning:
                self.others.take(burning)
            return self._victim(seconds)
        finally:
            if burning:
                burning.kill()
                burning.wait()

    def _prepare(self, name: str) -> Place:
        place = self._place(f"hostile-{name.replace('_', '-')}")
        with place.api() as api, contextlib.ExitStack() as held:
            device = held.enter_context(self._connected(place.devices[0]))
            device.take(place.task)
            events, size = EVENTS.get(name, (0, 0))
            # Many devices, so that each stays within its budget, where it has one.
            each = events if name in OPTIONS else EVENTS_OF_A_DEVICE
            for _ in range(0, events, each or 1):
                sender = held.enter_context(self._connected(api.register(self.folder)))
                self._send(sender, each, size)
                place.events, place.reported_by = place.events + each, sender.device_id
            for number in range(1, RESULTS.get(name, 0) + 1):
                body = json.dumps({"n": number, "pad": "x" * 200_000})
                assert device.res(place.task, 206, body, ext_id=number) == 0
        return place

    def warm(self) -> None:
        """Fills the store's caches, which have a bound and stay: what they take later is nobody's."""
        place = self._place("warm")
        with place.api() as api:
            for _ in range(WARM_DEVICES):
                with self._connected(api.register(self.folder)) as device:
                    self._send(device, EVENTS_OF_A_DEVICE, WARM_BYTES)
        readers = [Reading(self.server.http, place.key) for _ in range(WARM_READERS)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(120)

    def _connected(self, identity) -> contextlib.closing:
        return contextlib.closing(Device(identity, self.server.mqtts, self.server.ca).connect())

    @staticmethod
    def _send(device: Device, count: int, size: int) -> None:
        for number in range(1, count + 1):
            body = json.dumps({"310": number % 100, "n": number, **({"pad": "x" * (size - 40)} if size else {})})
            device.send(f"dev/{device.sn}/evt", body, properties={"event_type_code": 13, "dev_event_id": number})
            if number % 64 == 0 or number == count:
                wanted = number - 32 if number < count else number
                device._wait("PUBACKs", lambda: len(device.acks) >= wanted, 120)  # noqa: B023
        assert set(device.acks.values()) == {0}, device.acks

    def beside(self, name: str, seconds: float, *, settle: float = 0.0) -> dict:
        """The victim beside a neighbour, and what the server takes meanwhile; after it has gone, too: once that is nearly
        as little as before, or after `settle` seconds."""
        place = self._prepare(name)
        time.sleep(1.0)
        before_mib, before_disk = resident_mib(self.server), size_of(self.server.data)
        before_log, before_files = self.server.log_path.stat().st_size, open_files(self.server)
        peak, is_over = [before_mib], threading.Event()

        def look() -> None:
            while not is_over.wait(0.02):
                peak[0] = max(peak[0], resident_mib(self.server))

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        began = time.monotonic()
        hostile = self._run(self.others, "testbed.hostile", name, place.write(self.folder / f"{name}.json"))
        try:
            told = self._victim(seconds)
            was_there = hostile.poll() is None
        finally:
            took = time.monotonic() - began
            hostile.kill()
            hostile.wait()
            is_over.set()
            looking.join()
        grown = size_of(self.server.data) - before_disk
        log = self.server.log_path.stat().st_size - before_log
        found = {
            "neighbour": name,
            "was_there": was_there,
            **({} if was_there else {"ended_with": self._complaints("testbed.hostile").read_text()[-500:]}),
            **told,
            "memory_mib": round(peak[0] - before_mib, 1),
            "disk_mb_per_s": round(grown / took / 1e6, 2),
            "log_kb_per_s": round(log / took / 1e3, 2),
        }
        if settle:
            gone = time.monotonic()
            files_max = before_files + FILES_LEFT_MAX
            while time.monotonic() < gone + settle and (
                open_files(self.server) > files_max
                or not is_back(resident_mib(self.server) - before_mib, before_mib)
            ):
                time.sleep(0.5)
            found["memory_after_mib"] = round(resident_mib(self.server) - before_mib, 1)
            found["memory_after_s"] = round(time.monotonic() - gone, 1)
            found["memory_before_mib"] = round(before_mib, 1)
            found["files_left"] = open_files(self.server) - before_files
        return found


def is_back(more_mib: float, before_mib: float) -> bool:
    """Whether what a server has more than before a neighbour came is nearly nothing."""
    return more_mib <= max(LEFT_SHARE_MAX * before_mib, LEFT_MIB_MAX)


def options(name: str) -> tuple[str, ...]:
    """What the server is started with on which this neighbour is measured."""
    return OPTIONS.get(name, ())


def names() -> list[str]:
    return list(NEIGHBOURS)
