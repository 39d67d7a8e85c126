"""Devices in the field, hundreds of them in one thread: each reconnects for ever, runs each task once, and keeps a
journal on disk of what it did (as field_device.py, whose journal they keep)."""

import asyncio
import collections
import json
import random
import ssl
import threading
import time
from pathlib import Path

from testbed import fault_mqtt
from testbed.device import POLL, Identity
from testbed.fault_mqtt import KEEP_ALIVE_SECONDS, Heard, Line
from testbed.field_device import FINAL, PARTIAL, Journal

SESSION_SECONDS = 600
# Between attempts to connect: at first, and when they go on failing.
RECONNECT_SECONDS = (0.2, 1.0)
POLL_SECONDS = 5.0
TICK_SECONDS = 0.5
# When a result is sent again that was refused, or whose `cmt` has not come.
AGAIN_SECONDS = 3.0
STOP_SECONDS_MAX = 60.0


class FleetJournal(Journal):
    """A journal of a device that loses its connection but never its power: nothing waits for the disk."""

    def write(self, *entry) -> None:
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()
        self._apply(entry)


class FleetDevice:
    """One device. What it is promised differs by broker: a PUBACK is a promise where the server gives it after the
    commit, or a broker that does not forget; else only `cmt` is. What is promised it never sends again."""

    def __init__(self, fleet: "Fleet", identity: Identity, folder: Path, seed: int, number: int):
        self.fleet, self.identity, self.sn = fleet, identity, identity.sn
        self.chance = random.Random(seed)
        self.journal = FleetJournal(folder / f"{identity.sn}.journal")
        # Every second device only hears announcements; every third one keeps no session.
        self.polls = number % 2 == 0
        self.session_seconds = 0 if number % 3 == 0 else SESSION_SECONDS
        self.context = identity.tls(fleet.ca)
        self.address_number = number
        self.refused: list = []
        self.connections = 0

    async def live(self) -> None:
        failures = 0
        while not (self.fleet.is_stopping and not self.journal.open_results()):
            # What is announced is asked for on this line, even before all subscriptions are confirmed.
            line = self.line = Line(self.sn, self._hear, self._acknowledged)
            self.in_flight, self.sent_at = {}, {}
            self.asked, self.put_off_requests = {}, []
            is_good = False
            try:
                addresses = self.fleet.addresses
                await line.open(addresses[self.address_number % len(addresses)], self.context, self.session_seconds)
                self.connections += 1
                failures = 0
                await self._serve(line)
                is_good = True
            except fault_mqtt.Refused as refusal:
                self.fleet.refusals[refusal.code] += 1
            except (OSError, ssl.SSLError, EOFError) as problem:
                self.fleet.ends[type(problem).__name__] += 1
            finally:
                line.close(is_good)
            if not is_good:
                failures += 1
                self.address_number += 1
                wait = min(RECONNECT_SECONDS[1], RECONNECT_SECONDS[0] * 2**min(failures, 8))
                await asyncio.sleep(self.chance.uniform(0.05, wait))

    async def _serve(self, line: Line) -> None:
        self.fleet.connected.add(self.sn)
        listening = asyncio.create_task(line.listen())
        try:
            for key in self.journal.open_results():
                if key not in self.in_flight.values():
                    self._send_result(key)
            await self._tick(listening)
        finally:
            self.fleet.connected.discard(self.sn)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _tick(self, listening: asyncio.Task) -> None:
        polled_at = pinged_at = time.monotonic() - self.chance.uniform(0, POLL_SECONDS)
        while not (self.fleet.is_stopping and not self.journal.open_results()):
            await asyncio.wait([listening], timeout=TICK_SECONDS)
            if listening.done():
                listening.result()
            now = time.monotonic()
            for task_id, at in self.put_off_requests[:]:
                if now - at > AGAIN_SECONDS:
                    self.put_off_requests.remove((task_id, at))
                    self._ask_for(task_id)
            if self.polls and now - polled_at > POLL_SECONDS:
                polled_at = now
                self.line.publish("req", POLL)
            if now - pinged_at > KEEP_ALIVE_SECONDS / 2:
                pinged_at = now
                self.line.ping()
            for key in self.journal.open_results():
                if now - self.sent_at.get(key, now) > AGAIN_SECONDS and self._may_repeat(key):
                    self._send_result(key)

    def _may_repeat(self, key) -> bool:
        """QoS 1 repeats a message on a new connection only; a new message is for what was refused or forgotten."""
        return not self.fleet.trusts_puback or key not in self.in_flight.values()

    def _hear(self, heard: Heard) -> None:
        task_id = heard.task_id
        if heard.level == "tsk":
            if self.chance.random() < 0.5:
                self.line.publish("ack", task_id)
            self._ask_for(task_id)
        elif heard.level == "rsp" and task_id != POLL:
            self._run(task_id, heard.body)
        elif heard.level == "cmt":
            key = task_id, int(heard.properties["ext_id"])
            self.journal.write("committed", *key, heard.properties["result_id"])
            if not self.fleet.trusts_puback:
                self._promised(key)

    def _ask_for(self, task_id: str) -> None:
        self.asked[self.line.publish("req", task_id)] = task_id

    def _run(self, task_id: str, body: bytes) -> None:
        if task_id not in self.journal.runs:
            self.journal.write("run", task_id)
            if self.chance.random() < 0.3:
                self.journal.write("result", task_id, PARTIAL, 206, '{"half":true}')
            self.journal.write("result", task_id, FINAL, 200, body.decode())
        for key in ((task_id, PARTIAL), (task_id, FINAL)):
            is_open = key in self.journal.results and key not in self.journal.acknowledged
            if is_open and key not in self.in_flight.values():
                self._send_result(key)

    def _send_result(self, key: tuple[str, int]) -> None:
        status_code, body = self.journal.results[key]
        number = self.line.publish("res", key[0], body, status_code=status_code, ext_id=key[1])
        self.in_flight[number] = key
        self.sent_at[key] = time.monotonic()

    def _acknowledged(self, number: int, code: int) -> None:
        key, task_id = self.in_flight.pop(number, None), self.asked.pop(number, None)
        if code >= 0x80:
            self.fleet.put_off[code] += 1
            if task_id:
                # Nobody announces it again to a device that has heard of it.
                self.put_off_requests.append((task_id, time.monotonic()))
        elif key and self.fleet.trusts_puback:
            self._promised(key)

    def _promised(self, key: tuple[str, int]) -> None:
        if key not in self.journal.acknowledged:
            self.journal.write("acknowledged", *key)


class Fleet(threading.Thread):
    """All devices, in a thread of their own."""

    def __init__(self, identities, addresses, ca: Path, folder: Path, *, trusts_puback: bool, seed: int):
        super().__init__(daemon=True, name="fleet")
        self.addresses, self.ca, self.trusts_puback = addresses, ca, trusts_puback
        self.is_stopping = False
        self.connected: set[str] = set()
        # What went wrong, by kind: refused connections, ended connections, messages to be sent again later.
        self.refusals: collections.Counter[int] = collections.Counter()
        self.ends: collections.Counter[str] = collections.Counter()
        self.put_off: collections.Counter[int] = collections.Counter()
        chance = random.Random(seed)
        self.devices = [
            FleetDevice(self, one, folder, chance.randrange(1 << 32), number)
            for number, one in enumerate(identities)
        ]
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as problem:
            self.problem = problem

    async def _live(self) -> None:
        self.loop, self.work = asyncio.get_running_loop(), asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            for device in self.devices:
                group.create_task(device.live())

    def abandon(self) -> None:
        """Ends it at once."""
        if self.is_alive():
            self.loop.call_soon_threadsafe(self.work.cancel)
            self.join(STOP_SECONDS_MAX)

    @property
    def connections(self) -> int:
        return sum(device.connections for device in self.devices)

    def wait_for_all(self, seconds: float = 60.0) -> float:
        """Waits until every device is connected, and answers how long that took."""
        begun = time.monotonic()
        while len(self.connected) < len(self.devices):
            assert self.is_alive(), self.problem
            waited = time.monotonic() - begun
            missing = {device.sn for device in self.devices} - self.connected
            assert waited < seconds, f"{len(missing)} devices did not connect: {self.refusals} {self.ends}"
            time.sleep(0.02)
        return time.monotonic() - begun

    def stop(self) -> None:
        """Lets each device send what it still has to send, and go."""
        self.is_stopping = True
        self.join(STOP_SECONDS_MAX)
        waiting = [key for device in self.devices for key in device.journal.open_results()]
        assert not self.is_alive(), f"results nobody takes: {waiting[:5]} of {len(waiting)}"
        if self.problem:
            raise self.problem
