"""Killed at random instants under load, the server loses nothing that it accepted and does nothing twice
(device-rpc "What each step does"). COVEY_KILLS sets the number of kills, COVEY_SEED the course of events."""

import datetime
import json
import os
import random
import threading
import time

import httpx
import pytest

from testbed.api import DONE, LOCK, PENDING, READY, Api
from testbed.broker import LINK
from testbed.field_device import FieldDevice
from testbed.server import kept_ports

KILLS = int(os.environ.get("COVEY_KILLS", "8"))
SEED = int(os.environ.get("COVEY_SEED", random.randrange(1 << 32)))
DEVICES, CALLERS = 4, 3
LIVES_SECONDS = (0.2, 1.5)
DRAIN_SECONDS_MAX = 90
# The device always asks before it answers, so there is no way past LOCK.
LAWFUL = {None: {"READY"}, "READY": {"PENDING", "LOCK"}, "PENDING": {"LOCK"}, "LOCK": {"DONE"}}


class Caller(threading.Thread):
    """Creates tasks until told to stop, every second one with an idempotency key that it retries until it is
    answered."""

    def __init__(self, name: str, server, devices, seed: int):
        super().__init__(daemon=True, name=name)
        self.server, self.devices, self.chance = server, devices, random.Random(seed)
        self.stopping = threading.Event()
        self.accepted: dict[str, str] = {}
        self.keyed: dict[str, tuple[object, dict]] = {}
        self.unanswered: set[str] = set()
        self.odd: list[str] = []
        self.retries = 0
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            with Api(self.server.http, self.server.key) as api:
                number = 0
                while not self.stopping.is_set():
                    number += 1
                    self._call(api, f"{self.name}-{number}", has_key=number % 2 == 0)
                    time.sleep(self.chance.uniform(0.0, 0.06))
        except BaseException as problem:
            self.problem = problem

    def _call(self, api: Api, name: str, has_key: bool) -> None:
        device = self.chance.choice(self.devices)
        body = {
            "ext_task_id": name,
            "ttl": 60,
            "priority": self.chance.randrange(10),
            "payload": {"name": name},
        }
        if has_key:
            self.keyed[name] = device, body
        while True:
            wait = self.chance.choice([None, None, 0, 2])
            try:
                answer = api.request_task(device, key=name if has_key else None, wait=wait, **body)
            except httpx.TransportError:
                if not has_key:
                    self.unanswered.add(name)
                    return
                self.retries += 1
                time.sleep(0.05)
                continue
            if answer.status_code in (200, 201, 202):
                self._accept(name, answer.json()["id"])
                return
            if answer.status_code != 503:
                self.odd.append(f"{name}: {answer.status_code} {answer.text}")
                return
            if not has_key:
                return
            time.sleep(0.05)

    def _accept(self, name: str, task_id: str) -> None:
        if self.accepted.setdefault(name, task_id) != task_id:
            self.odd.append(f"{name}: {self.accepted[name]} became {task_id}")

    def stop(self) -> None:
        self.stopping.set()
        self.join(90)
        assert not self.is_alive()
        if self.problem:
            raise self.problem


@pytest.mark.timeout(300 + 10 * KILLS)
def test_nothing_accepted_is_lost_and_nothing_is_done_twice(new_server, new_api, tmp_path):
    print(f"COVEY_SEED={SEED} COVEY_KILLS={KILLS}")
    chance = random.Random(SEED)
    server = new_server("--lease-seconds", "2", ports=kept_ports(), log="warn")
    api = new_api(server)
    identities = [api.register(tmp_path) for _ in range(DEVICES)]
    seeds = (chance.randrange(1 << 32) for _ in range(DEVICES + CALLERS))
    fields = [FieldDevice(one, server, tmp_path / f"{one.sn}.journal", next(seeds)) for one in identities]
    callers = [Caller(f"caller-{index}", server, identities, next(seeds)) for index in range(CALLERS)]
    for thread in [*fields, *callers]:
        thread.start()

    for _ in range(KILLS):
        time.sleep(chance.uniform(*LIVES_SECONDS))
        server.kill()
        server.start()
    time.sleep(1)
    for caller in callers:
        caller.stop()

    api = new_api(server)
    drain(api, identities)
    for field in fields:
        field.stop()
    tasks = stored_tasks(api, identities)
    lost_answers = sum(len(caller.unanswered) + caller.retries for caller in callers)
    connections = sum(field.connections for field in fields)
    print(f"{len(tasks)} tasks, {connections} connections, {lost_answers} calls without an answer")
    assert lost_answers > 0, "the kills were felt"
    assert connections > DEVICES or not LINK.goes_with_server
    check_tasks(callers, tasks)
    check_keys(api, callers)
    check_results(fields, tasks)


def drain(api: Api, identities) -> None:
    """Waits until no task is open."""
    deadline = time.monotonic() + DRAIN_SECONDS_MAX
    while True:
        totals = [open_total(api, one, status) for one in identities for status in (READY, PENDING, LOCK)]
        if not any(totals):
            return
        assert time.monotonic() < deadline, f"open after {DRAIN_SECONDS_MAX} s: {totals}"
        time.sleep(0.2)


def open_total(api: Api, identity, status: int) -> int:
    """How many tasks of a device are in this state."""
    params = {"device_id": identity.device_id, "status": status, "size": 1}
    return api.get("/device-tasks", params=params).json()["total"]


def stored_tasks(api: Api, identities) -> dict[str, dict]:
    """Every task of these devices, by id."""
    tasks = {}
    for one in identities:
        page = 1
        while items := page_of(api, one, page):
            for row in items:
                assert row["id"] not in tasks
                tasks[row["id"]] = api.task(row["id"])
            page += 1
    return tasks


def page_of(api: Api, identity, page: int) -> list[dict]:
    answer = api.get("/device-tasks", params={"device_id": identity.device_id, "page": page, "size": 100})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def check_tasks(callers: list[Caller], tasks: dict[str, dict]) -> None:
    """What was accepted is there, once, done, and came there lawfully."""
    names = [task["header"]["ext_task_id"] for task in tasks.values()]
    assert len(names) == len(set(names)), "one request made two tasks"
    accepted = {}
    for caller in callers:
        assert not caller.odd, caller.odd
        accepted.update(caller.accepted)
        assert set(caller.keyed) <= set(caller.accepted), "each retried call was answered in the end"
    assert len(accepted) > 5 * KILLS, "there was load"
    for name, task_id in accepted.items():
        assert task_id in tasks, f"{name} was accepted and is lost"
        assert tasks[task_id]["header"]["ext_task_id"] == name
    unanswered = set().union(*(caller.unanswered for caller in callers))
    assert set(names) <= set(accepted) | unanswered, "tasks that nobody asked for"

    for task in tasks.values():
        assert task["status"] == DONE, task
        before, at = None, datetime.datetime.min.replace(tzinfo=datetime.UTC)
        for change in task["timeline"]:
            assert change["status_name"] in LAWFUL[before], task["timeline"]
            assert (instant := datetime.datetime.fromisoformat(change["at"])) >= at, task["timeline"]
            before, at = change["status_name"], instant
        assert before == "DONE"


def check_keys(api: Api, callers: list[Caller]) -> None:
    """A key still stands for the task that it made."""
    for caller in callers:
        for name, (device, body) in list(caller.keyed.items())[:30]:
            answer = api.request_task(device, key=name, **body)
            assert answer.status_code == 200 and answer.json()["id"] == caller.accepted[name]
            assert answer.headers["idempotent-replayed"] == "true"


def check_results(fields: list[FieldDevice], tasks: dict[str, dict]) -> None:
    """What was acknowledged is stored, once and as it was sent, and no task ran twice."""
    for field in fields:
        journal = field.journal
        assert not field.refused, field.refused
        assert all(count == 1 for count in journal.runs.values())
        for task_id, ext_id in journal.acknowledged:
            status_code, body = journal.results[task_id, ext_id]
            stored = [one for one in tasks[task_id]["results"] if one["ext_id"] == ext_id]
            assert len(stored) == 1, f"{task_id} {ext_id}: acknowledged once, stored {len(stored)} times"
            assert (stored[0]["status_code"], stored[0]["result"]) == (status_code, json.loads(body))
        for key, result_ids in journal.committed.items():
            assert len(result_ids) == 1, f"{key} was told of {result_ids}"
    ran = {task_id for field in fields for task_id in field.journal.runs}
    assert ran == set(tasks), "every task ran"
    for task in tasks.values():
        ext_ids = [one["ext_id"] for one in task["results"]]
        assert len(ext_ids) == len(set(ext_ids)), "a result was stored twice"
        (final,) = [one for one in task["results"] if one["ext_id"] == 2]
        assert final["result"] == {"name": task["header"]["ext_task_id"]}
