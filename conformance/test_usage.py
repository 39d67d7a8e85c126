"""What an organisation has used (docs/usage.md) is what is stored, however the servers end. COVEY_KILLS sets the number of
kills, COVEY_SEED the course of events."""

import json
import os
import random
import subprocess
import threading
import time

import httpx
import pytest

from test_events_kill import Teller, all_stored
from testbed.server import BINARY, Server, kept_ports

KILLS = int(os.environ.get("COVEY_KILLS", "5"))
SEED = int(os.environ.get("COVEY_SEED", random.randrange(1 << 32)))
LIVES_SECONDS = (0.3, 1.2)


def covey(server: Server, *arguments) -> subprocess.CompletedProcess:
    command = [str(BINARY), *arguments, "--data", str(server.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=server.environment())


def used(api) -> dict:
    answer = api.get("/usage")
    assert answer.status_code == 200, answer.text
    return answer.json()["total"]


class Maker(threading.Thread):
    """Makes tasks, and deletes every third one, through whatever happens to the server, until told to stop."""

    def __init__(self, server, device_id: int):
        super().__init__(daemon=True)
        self.server, self.device_id = server, device_id
        self.stopping = threading.Event()
        self.made = 0

    def run(self) -> None:
        with httpx.Client(headers={"x-api-key": self.server.key}, timeout=5) as client:
            while not self.stopping.is_set():
                task = {"device_id": self.device_id, "ext_task_id": "t", "ttl": 600, "payload": {"n": self.made}}
                try:
                    made = client.post(f"{self.server.http}/api/v1/device-tasks", json=task)
                    if made.status_code == 200:
                        self.made += 1
                        if self.made % 3 == 0:
                            client.delete(f"{self.server.http}/api/v1/device-tasks/{made.json()['id']}")
                except (httpx.HTTPError, OSError):
                    time.sleep(0.05)


@pytest.mark.timeout(200 + 10 * KILLS)
def test_what_was_used_is_what_is_stored_after_every_kill(new_server, new_api, tmp_path):
    print(f"COVEY_SEED={SEED} COVEY_KILLS={KILLS}")
    chance = random.Random(SEED)
    server = new_server("--events-per-second-max", "0", ports=kept_ports(), log="warn")
    api = new_api(server)
    tellers = [Teller(api.register(tmp_path), server) for _ in range(3)]
    makers = [Maker(server, teller.identity.device_id) for teller in tellers]
    for thread in (*tellers, *makers):
        thread.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(*LIVES_SECONDS))
        server.kill()
        server.start()
    time.sleep(0.5)
    for maker in makers:
        maker.stopping.set()
        maker.join(60)
    for teller in tellers:
        teller.stop()
    api = new_api(server)
    # A broker has taken some that the server has yet to store.
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if all(len(all_stored(api, teller.identity)) >= teller.sent for teller in tellers):
            break
        time.sleep(0.5)
    tasks, page = [], 1
    while len(found := api.get("/device-tasks", params={"page": page, "size": 1000}).json()["items"]) > 0:
        tasks, page = tasks + found, page + 1
    events = [event for teller in tellers for event in all_stored(api, teller.identity)]
    total = used(api)
    print(total)
    assert total["tasks_created"] == len(tasks) > 20 * KILLS
    assert total["tasks_finished"] == sum(task["status_name"] == "DELETED" for task in tasks) > 0
    assert total["events"] == len(events) > 100 * KILLS
    assert total["device_days"] == 3
    bodies = sum(len(json.dumps(event["payload"])) for event in events)
    assert total["bytes_in"] > bodies
    server.stop()
    server.start()
    assert used(new_api(server)) == total


@pytest.mark.every_shape
def test_what_was_used_is_one_command_and_nobody_elses(new_server, new_api, tmp_path):
    server = new_server()
    api = new_api(server)
    device = api.register(tmp_path)
    before = used(api)
    task = api.create(device, payload={"cell": 5})
    assert api.delete(f"/device-tasks/{task}").status_code == 200
    total = used(api)
    assert total == before | {"tasks_created": 1, "tasks_finished": 1, "bytes_in": len('{"cell":5}')}
    days = covey(server, "usage", "--json")
    assert days.returncode == 0, days.stderr
    assert len(json.loads(days.stdout)["days"]) == 30
    table = covey(server, "usage").stdout
    assert table.startswith("DAY") and table.rstrip().splitlines()[-1].startswith("total")
    assert json.loads(covey(server, "usage", "--total", "--json", "--from", "2020-01-01", "--to", "2020-02-01").stdout)[
        "tasks_created"
    ] == 0
    wrong = covey(server, "usage", "--from", "yesterday")
    assert wrong.returncode == 2 and "2026-12-01" in wrong.stderr
    other = new_api(server, api.key_with(["audit:read"], org="rival"))
    assert used(other)["tasks_created"] == 0
    own = api.get("/whoami").json()["org_id"]
    assert other.get("/usage", params={"org": own}).status_code == 404
    assert api.get("/usage", params={"org": other.get("/whoami").json()["org_id"]}).json()["total"] == used(other)
    assert api.get("/usage", params={"from": "2026-02-30"}).status_code == 422
    assert new_api(server, api.key_with(["tasks:read"])).get("/usage").status_code == 403


@pytest.mark.several_servers
def test_two_servers_have_counted_all_together(pair, new_api, tmp_path):
    first, second = (new_api(server) for server in pair)
    device = first.register(tmp_path)
    before = used(first)
    for api in (first, second, second):
        api.create(device)
    assert [used(api)["tasks_created"] - before["tasks_created"] for api in (first, second)] == [3, 3]
