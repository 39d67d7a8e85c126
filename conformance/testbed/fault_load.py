"""Load while something breaks, and what must hold afterwards: nothing that was accepted is lost, nothing is done
twice, what was refused was not done. The checks are those of test_kill.py."""

import concurrent.futures
import os
import random
import time
from pathlib import Path

from testbed.api import LOCK, PENDING, READY, Api
from testbed.fault_callers import Caller, Completed
from testbed.fault_fleet import Fleet
from test_kill import check_keys, check_results, check_tasks

DEVICES = int(os.environ.get("COVEY_FAULT_DEVICES", "40"))
CALLERS = int(os.environ.get("COVEY_FAULT_CALLERS", "6"))
ROUNDS = int(os.environ.get("COVEY_FAULT_ROUNDS", "1"))
SEED = int(os.environ.get("COVEY_SEED", random.randrange(1 << 32)))
# A device whose answer was lost is told of its task again after this time.
LEASE_SECONDS = 3
DRAIN_SECONDS_MAX = 60.0
RECOVERY_SECONDS_MAX = 60.0
CHECKERS = 4
# What the tests measured, told at the end of the run.
MEASURED: list[str] = []


class Load:
    """Devices and callers at work."""

    def __init__(self, name: str, apis: list[Api], addresses, ca: Path, folder: Path, *, trusts_puback: bool):
        self.name, self.apis = name, apis
        self.marks: dict[str, float] = {}
        chance = random.Random(SEED)
        begun = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(CHECKERS) as pool:
            self.identities = list(pool.map(lambda _: apis[0].register(folder), range(DEVICES)))
        self.measured("devices registered", time.monotonic() - begun)
        self.fleet = Fleet(
            self.identities, addresses, ca, folder, trusts_puback=trusts_puback, seed=chance.randrange(1 << 32)
        )
        self.callers = [
            Caller(
                f"caller-{number}", apis, self.identities, chance.randrange(1 << 32), is_patient=number % 3 > 0
            )
            for number in range(CALLERS)
        ]

    def start(self) -> "Load":
        print(f"COVEY_SEED={SEED} COVEY_FAULT_DEVICES={DEVICES} COVEY_FAULT_CALLERS={CALLERS}")
        self.fleet.start()
        self.measured("devices connected", self.fleet.wait_for_all())
        for caller in self.callers:
            caller.start()
        self.run(until_completed=True)
        return self

    def measured(self, what: str, value: float | int | str) -> None:
        shown = f"{value:.2f} s" if isinstance(value, float) else value
        MEASURED.append(f"{self.name}: {what}: {shown}")

    def run(self, seconds: float = 1.0, until_completed: bool = False) -> None:
        """Lets the load run; with `until_completed`, until calls of this time have been completed."""
        begun = time.monotonic()
        time.sleep(seconds)
        if until_completed:
            self.first_completed(begun)

    @property
    def completed(self) -> list[Completed]:
        return [one for caller in self.callers for one in list(caller.completed)]

    def first_completed(self, since: float, seconds: float = RECOVERY_SECONDS_MAX) -> float:
        """Waits for a call that begins after an instant to be completed; how long after that instant it was."""
        deadline = time.monotonic() + seconds
        while True:
            ends = [one.ended for one in self.completed if one.begun >= since]
            if ends:
                return min(ends) - since
            problems = [caller.problem for caller in self.callers if caller.problem]
            assert not problems, problems
            assert time.monotonic() < deadline, f"no call was completed within {seconds} s; {self._state()}"
            time.sleep(0.01)

    def refusals(self, since: float = 0.0) -> int:
        """How many requests were answered with 503 since an instant."""
        return sum(at >= since for caller in self.callers for at in list(caller.refused_at))

    def losses(self) -> dict[str, int]:
        """Requests without an answer, by what httpx calls that."""
        total: dict[str, int] = {}
        for caller in self.callers:
            for kind, count in caller.losses.items():
                total[kind] = total.get(kind, 0) + count
        return total

    def wait_for_refusals(self, since: float, seconds: float = 20.0) -> float:
        """Waits, for so many seconds at most, until a request was refused with 503 since an instant; how long after it
        that was."""
        deadline = time.monotonic() + seconds
        while not (at := [at for caller in self.callers for at in list(caller.refused_at) if at >= since]):
            assert time.monotonic() < deadline, f"nothing was refused within {seconds} s; {self._state()}"
            time.sleep(0.01)
        return min(at) - since

    def _state(self) -> str:
        odd = [one for caller in self.callers for one in caller.odd]
        return f"{self.refusals()} refusals, losses {self.losses()}, fleet {self.fleet.ends} odd {odd[:3]}"

    def finish(self) -> None:
        """Ends the load and checks what must hold."""
        for caller in self.callers:
            caller.stop()
        begun = time.monotonic()
        self._drain()
        self.measured("open tasks done", time.monotonic() - begun)
        self.fleet.stop()
        tasks = self.tasks = self._stored_tasks()
        longest = max(self.completed, key=lambda one: one.seconds)
        self.measured("longest call", longest.seconds)
        self.measured("longest request beyond its wait", max(c.longest_request_seconds for c in self.callers))
        self.measured("longest time without a completed call", self._longest_gap())
        counts = f"{len(tasks)} tasks, {len(self.completed)} seen done, {self.refusals()} times 503"
        self.measured("counts", f"{counts}, losses {self.losses()}")
        fleet = self.fleet
        trouble = f"ends {dict(fleet.ends)}, refused {dict(fleet.refusals)}, put off {dict(fleet.put_off)}"
        self.measured("devices", f"{len(fleet.devices)}, {fleet.connections} connections, {trouble}")
        check_tasks(self.callers, tasks)
        check_keys(self.apis[0], self.callers)
        check_results(fleet.devices, tasks)

    def abandon(self) -> None:
        """Ends the load of a test that has failed, without asking what became of it."""
        for caller in self.callers:
            caller.stopping.set()
        self.fleet.abandon()

    def _longest_gap(self) -> float:
        ends = sorted(one.ended for one in self.completed)
        return max((after - before for before, after in zip(ends, ends[1:], strict=False)), default=0.0)

    def _drain(self) -> None:
        """Waits until no task is open."""
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        while True:
            totals = {status: self._total(status) for status in (READY, PENDING, LOCK)}
            if not any(totals.values()):
                return
            assert time.monotonic() < deadline, f"open after {DRAIN_SECONDS_MAX} s: {totals} {self._open_tasks()}"
            time.sleep(0.1)

    def _total(self, status: int) -> int:
        answer = self.apis[0].get("/device-tasks", params={"status": status, "size": 1})
        assert answer.status_code == 200, answer.text
        return answer.json()["total"]

    def _open_tasks(self) -> str:
        """Some of what stays open, with what its device knows of it."""
        journals = {one.identity.device_id: (one.sn, one.journal) for one in self.fleet.devices}
        told = []
        for status in (READY, PENDING, LOCK):
            page = self.apis[0].get("/device-tasks", params={"status": status, "size": 3}).json()["items"]
            for row in page:
                sn, journal = journals[row["device_id"]]
                ran = row["id"] in journal.runs
                acknowledged = [ext_id for task_id, ext_id in journal.acknowledged if task_id == row["id"]]
                steps = self.apis[0].steps(row["id"])
                told.append(f"{row['id']} {row['ext_task_id']} of {sn}: {steps} ran={ran} promised={acknowledged}")
        return "; ".join(told)

    def _stored_tasks(self) -> dict[str, dict]:
        ids: list[str] = []
        while items := self._page(len(ids) // 100 + 1):
            ids += [row["id"] for row in items]
            if len(items) < 100:
                break
        assert len(ids) == len(set(ids))
        with concurrent.futures.ThreadPoolExecutor(CHECKERS) as pool:
            return dict(zip(ids, pool.map(self.apis[0].task, ids), strict=True))

    def _page(self, page: int) -> list[dict]:
        answer = self.apis[0].get("/device-tasks", params={"page": page, "size": 100})
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]
