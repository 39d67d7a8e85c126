"""The REST API as an application calls it: httpx and an API key."""

import ssl
import time
import uuid
from pathlib import Path

import httpx

from testbed.broker import LINK
from testbed.device import Identity

READY, PENDING, LOCK, DONE, EXPIRED, DELETED, FAILED = range(7)
# All rights but those over keys.
RIGHTS = ["tasks:read", "tasks:write", "devices:read", "devices:write", "events:read", "webhooks:write", "metrics:read",
          "gateways:read", "gateways:write"]


class Api(httpx.Client):
    """A client of one organisation. Paths are relative to `/api/v1`."""

    def __init__(self, base: str, key: str | None, verify: ssl.SSLContext | bool = True, **more):
        headers = {"x-api-key": key} if key else {}
        self.root = base
        super().__init__(base_url=f"{base}/api/v1", headers=headers, verify=verify, timeout=70.0, **more)

    def register(self, folder: Path, sn: str | None = None, **fields) -> Identity:
        """Registers a device and writes its certificate and key into a folder."""
        sn = sn or f"t-{uuid.uuid4().hex[:16]}"
        answer = self.post("/devices", json={"sn": sn, **fields})
        assert answer.status_code == 201, answer.text
        return Identity.write(folder, answer.json())

    def create(self, device, **fields) -> str:
        """Creates a task and answers its id."""
        answer = self.request_task(device, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def key_with(self, rights: list[str], org: str = "default") -> str:
        """Makes an API key with these rights."""
        answer = self.post("/api-keys", json={"org": org, "name": "conformance", "rights": rights})
        assert answer.status_code in (200, 201), answer.text
        return answer.json()["key"]

    def request_task(self, device, *, wait: float | None = None, key: str | None = None, **fields):
        """Asks for a task and answers the response, whatever it is."""
        body = {"ext_task_id": "conformance", "device_id": device.device_id, "ttl": 5, **fields}
        headers = {"Idempotency-Key": key} if key else {}
        params = {} if wait is None else {"wait": wait}
        return self.post("/device-tasks", json=body, headers=headers, params=params)

    def task(self, task_id: str, **params) -> dict:
        """The task, as the API shows it."""
        answer = self.get(f"/device-tasks/{task_id}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self, task_id: str) -> int:
        return self.task(task_id)["status"]

    def wait_for_status(self, task_id: str, *wanted: int, seconds: float = 5.0) -> dict:
        """Looks again and again until the task is in one of these states."""
        deadline = time.monotonic() + seconds
        while True:
            task = self.task(task_id)
            if task["status"] in wanted or time.monotonic() > deadline:
                assert task["status"] in wanted, f"{task['status_name']} is none of {wanted}: {task}"
                return task
            time.sleep(0.02)

    def settled(self, task_id: str, status: int) -> dict:
        """The task, which is in this state as soon as the message that brought it there was acknowledged; where the
        broker acknowledges before the commit, a moment later."""
        return self.wait_for_status(task_id, status, seconds=LINK.commit_seconds_max)

    def steps(self, task_id: str) -> list[str]:
        """The names of the states that the task went through, oldest first."""
        return [change["status_name"] for change in self.task(task_id)["timeline"]]


def is_problem(answer: httpx.Response, status: int) -> bool:
    """Whether an answer is an RFC 9457 problem document with this status."""
    assert answer.status_code == status, f"{answer.status_code} is not {status}: {answer.text[:500]}"
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json", answer.headers
    document = answer.json()
    assert isinstance(document["detail"], str) and document["detail"], document
    assert document.get("status", status) == status, document
    return True
