"""A victim, as a program of its own: `python -m testbed.victim PLACE.json SECONDS` calls a device every 50 ms, has another log
in every second and asks `/readyz` every 250 ms, and prints how long each took as JSON."""

import contextlib
import json
import os
import sys
import threading
import time

import httpx

from testbed.answering import Answering
from testbed.hostile import Place
from testbed.raw_device import RawDevice

LONGEST = 30.0


class Repeated(threading.Thread):
    """Does something every so many seconds, and keeps how long it took, in milliseconds, and what went wrong."""

    def __init__(self, act, every: float):
        super().__init__(daemon=True)
        self.act, self.every = act, every
        self.took: list[float] = []
        self.failed: list[str] = []
        self.is_over = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        while not self.is_over.wait(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            try:
                problem = self.act()
            except (httpx.HTTPError, OSError, AssertionError) as error:
                problem = repr(error)
            self.took.append((time.monotonic() - began) * 1000)
            if problem:
                self.failed.append(problem[:200])
            due = max(due + self.every, time.monotonic())

    def end(self) -> dict:
        """Stops, and what came of it."""
        self.is_over.set()
        self.join(LONGEST)
        return self.told()

    def told(self) -> dict:
        """What came of it; the first thing that went wrong stands for all."""
        took = sorted(self.took) or [0.0]
        at = lambda share: round(took[min(len(took) - 1, int(len(took) * share))], 1)  # noqa: E731
        return {
            "count": len(self.took),
            "p50": at(0.5),
            "p99": at(0.99),
            "max": at(1.0),
            "failed": len(self.failed),
            "first_failure": self.failed[0] if self.failed else None,
        }


def main(place: Place, seconds: float) -> dict:
    api = place.api()
    called, coming = place.devices
    device = place.device(0)
    device.subscribe(f"srv/{device.sn}/tsk")
    device.subscribe(f"srv/{device.sn}/rsp")
    device.subscribe(f"srv/{device.sn}/cmt")
    Answering(device)

    def call():
        answer = api.request_task(called, wait=LONGEST)
        if answer.status_code != 200:
            return f"{answer.status_code}: {answer.text}"
        return None if answer.json()["status_name"] == "DONE" else answer.json()["status_name"]

    def login():
        with RawDevice(place, coming) as one:
            answer = one.connect()
            return None if answer is not None and answer.kind == "CONNACK" and answer.reason == 0 else repr(answer)

    health = httpx.Client(base_url=place.http, timeout=LONGEST)

    def ready():
        answer = health.get("/readyz")
        return None if answer.status_code == 200 else f"{answer.status_code}: {answer.text}"

    doing = {"call": Repeated(call, 0.05), "login": Repeated(login, 1.0), "ready": Repeated(ready, 0.25)}
    for one in doing.values():
        one.start()
    time.sleep(seconds)
    for one in doing.values():
        one.is_over.set()
    return {name: one.end() for name, one in doing.items()}


if __name__ == "__main__":
    said = main(Place.read(sys.argv[1]), float(sys.argv[2]))
    print(json.dumps(said), flush=True)
    with contextlib.suppress(OSError):
        sys.stdout.close()
    # Threads of clients that still wait for an answer hold nobody up.
    os._exit(0)
