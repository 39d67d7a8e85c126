"""A device in the field: it reconnects for ever, runs each task once, and keeps a journal of what it did."""

import json
import os
import random
import ssl
import threading
import time
from pathlib import Path

from testbed.device import POLL, Device, Identity, Refused

PARTIAL, FINAL = 1, 2


class Journal:
    """What the device has run, answered and been told, line by line in a file that outlives it."""

    def __init__(self, path: Path):
        self.path = path
        self.runs: dict[str, int] = {}
        self.results: dict[tuple[str, int], tuple[int, str]] = {}
        self.acknowledged: set[tuple[str, int]] = set()
        self.committed: dict[tuple[str, int], set[str]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                self._apply(json.loads(line))
        self.file = open(path, "a")  # noqa: SIM115

    def write(self, *entry) -> None:
        """Keeps an entry; durable when this returns."""
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()
        os.fdatasync(self.file.fileno())
        self._apply(entry)

    def _apply(self, entry) -> None:
        kind, task_id, *rest = entry
        if kind == "run":
            self.runs[task_id] = self.runs.get(task_id, 0) + 1
        elif kind == "result":
            ext_id, status_code, body = rest
            self.results[task_id, ext_id] = status_code, body
        elif kind == "acknowledged":
            self.acknowledged.add((task_id, rest[0]))
        elif kind == "committed":
            ext_id, result_id = rest
            self.committed.setdefault((task_id, ext_id), set()).add(result_id)

    def open_results(self) -> list[tuple[str, int]]:
        """What was not acknowledged yet."""
        return [key for key in self.results if key not in self.acknowledged]


class FieldDevice(threading.Thread):
    """Runs until told to stop. A PUBACK below 0x80 is all it trusts."""

    def __init__(self, identity: Identity, server, journal_path: Path, seed: int):
        super().__init__(daemon=True, name=identity.sn)
        self.identity, self.server, self.journal_path = identity, server, journal_path
        self.chance = random.Random(seed)
        self.stopping = threading.Event()
        self.journal = Journal(journal_path)
        self.refused: list[tuple[str, int, int]] = []
        self.problem: BaseException | None = None
        self.connections = 0

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self._live_once()
        except BaseException as problem:
            self.problem = problem

    def stop(self) -> None:
        self.stopping.set()
        self.join(30)
        assert not self.is_alive()
        if self.problem:
            raise self.problem

    def _live_once(self) -> None:
        device = Device(self.identity, self.server.mqtts, self.server.ca)
        try:
            device.connect()
        except (OSError, ssl.SSLError, AssertionError):
            time.sleep(self.chance.uniform(0.02, 0.2))
            return
        except Refused as refusal:
            if refusal.code != 0x88:  # server unavailable
                raise
            time.sleep(self.chance.uniform(0.02, 0.2))
            return
        self.connections += 1
        try:
            # As after a power cut of its own: nothing is known but the journal.
            self.journal.file.close()
            self.journal = Journal(self.journal_path)
            Connection(self, device).serve()
        except ConnectionError:
            pass
        finally:
            device.close()


class Connection:
    """What is remembered only as long as a connection lasts."""

    def __init__(self, field: FieldDevice, device: Device):
        self.field, self.device, self.journal, self.chance = field, device, field.journal, field.chance
        self.unacknowledged: dict[int, tuple[str, int]] = {}
        self.polled_at = time.monotonic()

    def serve(self) -> None:
        for key in self.journal.open_results():
            self._send_result(key)
        while self.device.ended is None and not self._may_stop():
            for message in self.device.drain(0.05):
                self._hear(message)
            self._take_acknowledgements()
            if time.monotonic() - self.polled_at > 0.3:
                self.polled_at = time.monotonic()
                self._publish("req", correlation=POLL)

    def _may_stop(self) -> bool:
        return self.field.stopping.is_set() and not self.unacknowledged

    def _publish(self, level: str, body: str = "", **more) -> int:
        return self.device.send(f"dev/{self.device.sn}/{level}", body, **more)

    def _hear(self, message) -> None:
        task_id = message.task_id
        if message.level == "tsk":
            if self.chance.random() < 0.5:
                self._publish("ack", correlation=task_id)
            self._publish("req", correlation=task_id)
        elif message.level == "rsp" and task_id != POLL:
            self._run(task_id, message.body)
        elif message.level == "cmt":
            self.journal.write("committed", task_id, int(message["ext_id"]), message["result_id"])

    def _run(self, task_id: str, body: bytes) -> None:
        """Runs the task, unless it ran before; its results are sent again either way."""
        if task_id not in self.journal.runs:
            self.journal.write("run", task_id)
            if self.chance.random() < 0.3:
                self.journal.write("result", task_id, PARTIAL, 206, '{"half":true}')
            self.journal.write("result", task_id, FINAL, 200, body.decode())
        for ext_id in (PARTIAL, FINAL):
            if (task_id, ext_id) in self.journal.results:
                self._send_result((task_id, ext_id))

    def _send_result(self, key: tuple[str, int]) -> None:
        task_id, ext_id = key
        status_code, body = self.journal.results[key]
        properties = {"status_code": status_code, "ext_id": ext_id}
        self.unacknowledged[self._publish("res", body, correlation=task_id, properties=properties)] = key

    def _take_acknowledgements(self) -> None:
        with self.device.changed:
            done = [(mid, self.device.acks[mid]) for mid in self.unacknowledged if mid in self.device.acks]
        for mid, code in done:
            task_id, ext_id = self.unacknowledged.pop(mid)
            if code < 0x80:
                if (task_id, ext_id) not in self.journal.acknowledged:
                    self.journal.write("acknowledged", task_id, ext_id)
            else:
                self.field.refused.append((task_id, ext_id, code))
