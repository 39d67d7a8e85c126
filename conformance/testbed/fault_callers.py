"""Applications that call devices while things break: with and without Idempotency-Key, waiting for the result or
asking for it again and again, at whichever server answers."""

import collections
import dataclasses
import random
import threading
import time

import httpx

from testbed.api import DONE, Api, is_problem

WAITS_SECONDS = (None, 0, 3, 10)
PAUSE_SECONDS = (0.0, 0.1)
POLL_SECONDS = 0.1
# How long a call may take in all, faults included; and a request beyond what it asked to wait.
CALL_SECONDS_MAX = 90.0
REQUEST_SECONDS_MAX = 30.0
RETRY_SECONDS = 0.1
STOP_SECONDS_MAX = CALL_SECONDS_MAX + 30
# A part that is away, and a disk that is full.
REFUSALS = (503, 507)


@dataclasses.dataclass(frozen=True)
class Completed:
    """A call whose result was seen: when it was first sent, and when its result was there (monotonic seconds)."""

    begun: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.begun


class Caller(threading.Thread):
    """Calls until told to stop. It remembers what it was told as the callers of test_kill.py do, so that what must
    hold is checked in the same way: what was refused with 503 was not done, for one."""

    def __init__(self, name: str, apis: list[Api], devices, seed: int, *, is_patient: bool):
        super().__init__(daemon=True, name=name)
        self.apis, self.devices, self.chance = apis, devices, random.Random(seed)
        self.at = self.chance.randrange(len(apis))
        # Those who are not want a call to be accepted, and go on to the next.
        self.is_patient = is_patient
        self.stopping = threading.Event()
        self.accepted: dict[str, str] = {}
        self.keyed: dict[str, tuple[object, dict]] = {}
        self.unanswered: set[str] = set()
        # Without an answer though the request had been sent, or with none because there was no connection.
        self.losses: collections.Counter[str] = collections.Counter()
        self.refusals = 0
        self.refused_at: list[float] = []
        self.odd: list[str] = []
        self.retries = 0
        self.completed: list[Completed] = []
        self.requests = 0
        self.longest_request_seconds = 0.0
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            number = 0
            while not self.stopping.is_set():
                number += 1
                self._call(f"{self.name}-{number}", has_key=number % 2 == 0)
                time.sleep(self.chance.uniform(*PAUSE_SECONDS))
        except BaseException as problem:
            self.problem = problem

    def _call(self, name: str, has_key: bool) -> None:
        device = self.chance.choice(self.devices)
        body = {
            "ext_task_id": name,
            "ttl": 60,
            "priority": self.chance.randrange(10),
            "payload": {"name": name},
        }
        if has_key:
            self.keyed[name] = device, body
        wait = self.chance.choice(WAITS_SECONDS) if self.is_patient else None
        begun = time.monotonic()
        answer = self._create(name, device, body, wait, has_key)
        if answer is None:
            return
        task = answer.json()
        if self.accepted.setdefault(name, task["id"]) != task["id"]:
            self.odd.append(f"{name}: {self.accepted[name]} became {task['id']}")
        if wait is not None and answer.status_code == 200:
            self._complete(begun, name, task)
        elif self.is_patient:
            self._poll(begun, name, task["id"])

    def _create(self, name, device, body, wait, has_key) -> httpx.Response | None:
        """An acceptance, or nothing; with a key, tried until there is one."""
        begun = time.monotonic()
        while True:
            answer = self._request(
                wait or 0, lambda api: api.request_task(device, key=name if has_key else None, wait=wait, **body)
            )
            if isinstance(answer, str):
                if not has_key:
                    self.unanswered.add(name)
                    return None
                self.retries += 1
            elif answer.status_code in (200, 202):
                return answer
            elif not self._is_refusal(name, answer) or not has_key:
                return None
            if time.monotonic() - begun > CALL_SECONDS_MAX:
                self.odd.append(f"{name}: not accepted within {CALL_SECONDS_MAX} s")
                return None
            time.sleep(RETRY_SECONDS)

    def _poll(self, begun: float, name: str, task_id: str) -> None:
        while time.monotonic() - begun < CALL_SECONDS_MAX:
            answer = self._request(0, lambda api: api.get(f"/device-tasks/{task_id}"))
            if not isinstance(answer, str):
                if answer.status_code == 200:
                    task = answer.json()
                    if task["status"] >= DONE:
                        return self._complete(begun, name, task)
                elif not self._is_refusal(name, answer):
                    return
            time.sleep(POLL_SECONDS)
        self.odd.append(f"{name}: {task_id} not done within {CALL_SECONDS_MAX} s")

    def _complete(self, begun: float, name: str, task: dict) -> None:
        finals = [one["result"] for one in task["results"] if one["ext_id"] == 2]
        if task["status"] != DONE or finals != [{"name": name}]:
            self.odd.append(f"{name}: ended as {task}")
        self.completed.append(Completed(begun, time.monotonic()))

    def _request(self, wait: float, send) -> httpx.Response | str:
        """The answer, or what became of the connection; the next request then goes to another server."""
        begun = time.monotonic()
        self.requests += 1
        try:
            answer = send(self.apis[self.at])
        except httpx.TransportError as problem:
            answer = type(problem).__name__
            self.losses[answer] += 1
        seconds = time.monotonic() - begun - wait
        self.longest_request_seconds = max(self.longest_request_seconds, seconds)
        if seconds > REQUEST_SECONDS_MAX:
            self.odd.append(f"{self.name}: a request took {seconds:.1f} s more than the {wait} s it asked for")
        if isinstance(answer, str) or answer.status_code in REFUSALS:
            self.at = (self.at + 1) % len(self.apis)
        return answer

    def _is_refusal(self, name: str, answer: httpx.Response) -> bool:
        """Whether this is a 503 or 507 as it must be: a problem document that says when to come again."""
        try:
            assert answer.status_code in REFUSALS and is_problem(answer, answer.status_code)
            assert int(answer.headers["retry-after"]) > 0
        except (AssertionError, KeyError, ValueError) as problem:
            self.odd.append(f"{name}: {answer.status_code} {answer.text[:300]} {problem!r}")
            return False
        self.refusals += 1
        self.refused_at.append(time.monotonic())
        return True

    def stop(self) -> None:
        self.stopping.set()
        self.join(STOP_SECONDS_MAX)
        assert not self.is_alive()
        if self.problem:
            raise self.problem
