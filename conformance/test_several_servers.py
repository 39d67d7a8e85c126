"""Several servers on one database: each carries on what another began, and who calls or is called cannot tell which
of them it was (docs/adr/0009)."""

import subprocess
import threading
import time
import uuid

import pytest

from testbed.api import DONE, LOCK, READY
from testbed.broker import LINK
from testbed.device import POLL
from testbed.raw_device import RawDevice, session_expiry
from testbed.server import BINARY
from test_stream import Curl

WINDOW = 16
# Over what time a server hears from another, when nothing is lost.
NEWS_SECONDS = 0.3
# And when that news was lost: how often a server looks by itself.
LOOK_SECONDS = 2.0
# Well below the ten seconds after which it looks for tasks that nobody announced.
ANNOUNCED_SECONDS_MAX = 5.0

pytestmark = [pytest.mark.several_servers, pytest.mark.every_shape]


@pytest.fixture
def apis(pair, new_api):
    """A caller at each of two servers."""
    return [new_api(server) for server in pair]


@pytest.fixture
def identity(apis, tmp_path):
    """A device that was registered at the first of them."""
    return apis[0].register(tmp_path)


@pytest.fixture(params=[0, 1], ids=["at the first", "at the second"])
def device(request, pair, identity, connect):
    """That device, connected. Where servers share a broker, it is the same broker."""
    return connect(pair[request.param], identity)


class Calls:
    """Calls at the same moment, one for each of `callers`."""

    def __init__(self, *callers):
        self.answers = [None] * len(callers)
        together = threading.Barrier(len(callers))

        def run(index: int) -> None:
            together.wait(10)
            self.answers[index] = callers[index]()

        self.threads = [threading.Thread(target=run, args=(index,)) for index in range(len(callers))]
        for thread in self.threads:
            thread.start()

    def join(self) -> list:
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()
        return self.answers


def next_announced(device, seen: set[str]) -> str:
    """The next task that was not announced before. Two servers may announce one that was made in the same moment."""
    while (task_id := device.expect("tsk").task_id) in seen:
        pass
    seen.add(task_id)
    return task_id


def test_who_waits_at_one_server_is_told_of_a_result_that_another_took(apis, device):
    """Each server waits for calls whose results the other may take; over a broker that they share, both take some."""
    seen: set[str] = set()
    for number in range(20):
        waiting = Calls(*[lambda api=api: api.request_task(device, wait=20, payload={"n": number}) for api in apis])
        for _ in apis:
            task_id = next_announced(device, seen)
            taken = device.take(task_id)
            device.finish(task_id, 200, taken.body)
        finished = time.monotonic()
        for answer in waiting.join():
            assert answer.status_code == 200 and answer.json()["status"] == DONE, answer.text
            assert answer.json()["results"][0]["result"] == {"n": number}
        assert time.monotonic() - finished < LOOK_SECONDS + 1.0


def test_waits_are_told_by_news_and_not_by_looking(apis, device):
    """What was lost is found by looking every second; most of the time nothing is lost."""
    delays = []
    for _ in range(15):
        task_id = apis[0].create(device)
        waiting = Calls(*[lambda api=api: (api.task(task_id, wait=20), time.monotonic()) for api in apis])
        device.expect("tsk")
        device.take(task_id)
        time.sleep(0.15)
        device.finish(task_id)
        finished = time.monotonic()
        delays += [at - finished for _, at in waiting.join()]
    assert sorted(delays)[len(delays) // 2] < NEWS_SECONDS, delays


def test_a_task_made_at_either_server_is_announced_at_once(apis, device):
    for api in [*apis, *apis]:
        task_id = api.create(device)
        assert device.expect("tsk", seconds=ANNOUNCED_SECONDS_MAX).task_id == task_id
        device.take(task_id)
        device.finish(task_id)
        assert [other.task(task_id)["status"] for other in apis] == [DONE, DONE]


def test_both_servers_show_the_same_of_a_task(apis, device):
    task_id = apis[1].create(device, payload={"a": 1}, ttl=60)
    device.take(task_id)
    device.finish(task_id, 206, '{"half":1}', ext_id=1)
    device.finish(task_id, 200, '{"whole":1}', ext_id=2)
    first, second = [api.task(task_id) for api in apis]
    assert first == second and len(first["results"]) == 2


def test_both_servers_show_a_device_as_connected(apis, device):
    for api in apis:
        deadline = time.monotonic() + 5
        while True:
            (row,) = api.get("/devices", params={"device_id": device.device_id}).json()
            if row["connection"] and row["connection"]["last_checked_result"]:
                break
            assert time.monotonic() < deadline, row
            time.sleep(0.05)


def test_a_storm_of_polls_over_both_servers_gives_each_task_once(pair, apis, identity, connect):
    devices = [connect(server, identity, "rsp") for server in pair]
    if devices[0].address == devices[1].address:
        # One session takes the other over; a broker that is shared spreads its polls over the servers.
        devices.pop(0)
    created = {apis[number % 2].create(identity) for number in range(100)}
    polls = 140 // len(devices)
    for _ in range(polls):
        for device in devices:
            device.send(f"dev/{device.sn}/req", correlation=POLL)
    taken = [device.expect("rsp", seconds=30).task_id for device in devices for _ in range(polls)]
    given = [task_id for task_id in taken if task_id != POLL]
    assert len(given) == len(set(given)) == 100 and set(given) == created
    assert {apis[0].status(task_id) for task_id in created} == {LOCK}


def test_a_retired_device_is_cut_off_by_whichever_server_is_asked(apis, pair, identity, device, connect):
    for api in apis:
        assert api.get("/devices", params={"device_id": identity.device_id}).status_code == 200
    began = time.monotonic()
    assert apis[0].delete(f"/devices/{identity.device_id}").status_code in (200, 204)
    device.expect_disconnect(10)
    assert device.ended_at - began < LINK.retired_seconds_max
    for server in pair:
        assert LINK.keeps_out(lambda *levels, server=server: connect(server, identity, *levels))


def test_tasks_made_in_turn_at_two_servers_keep_to_the_window(apis, device):
    created, seen = [], set()
    for number in range(WINDOW):
        created.append(apis[number % 2].create(device))
        assert next_announced(device, seen) == created[-1]
    time.sleep(NEWS_SECONDS)  # so that each has heard of what the other announced
    created += [apis[number % 2].create(device) for number in range(40 - WINDOW)]
    assert device.is_quiet("tsk", seconds=1.5)
    for index in range(40 - WINDOW):
        device.take(created[index])
        assert next_announced(device, seen) == created[WINDOW + index], "the next follows as one is taken"
    assert device.is_quiet("tsk")


def test_tasks_made_at_once_at_two_servers_fill_a_window_each_at_most(apis, device):
    calls = Calls(*[lambda api=api: [api.create(device) for _ in range(30)] for api in apis])
    created = {task_id for made in calls.join() for task_id in made}
    announced: set[str] = set()
    for _ in range(WINDOW):
        next_announced(device, announced)
    time.sleep(1.5)
    announced |= {message.task_id for message in device.drain(0.1)}
    assert len(announced) <= 2 * WINDOW, "docs/adr/0009: a window each"
    assert announced <= created
    for task_id in created:
        device.take(task_id)
        device.finish(task_id)
    assert {apis[1].status(task_id) for task_id in created} == {DONE}


def test_a_backlog_is_drained_by_a_device_that_only_follows_announcements(apis, device):
    created = {apis[number % 2].create(device) for number in range(60)}
    seen: set[str] = set()
    for _ in created:
        task_id = next_announced(device, seen)
        device.take(task_id)
        device.finish(task_id)
    assert {apis[0].status(task_id) for task_id in created} == {DONE}


def test_one_key_at_both_servers_at_once_makes_one_task(apis, identity):
    for _ in range(10):
        key = uuid.uuid4().hex
        asked = [lambda api=api: api.request_task(identity, key=key, payload={"a": 1}) for api in apis * 3]
        answers = Calls(*asked).join()
        assert [answer.status_code for answer in answers] == [200] * 6, [answer.text for answer in answers]
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum("idempotent-replayed" in answer.headers for answer in answers) == 5
    total = apis[0].get("/device-tasks", params={"device_id": identity.device_id}).json()["total"]
    assert total == 10


def test_a_deletion_at_one_server_ends_a_wait_at_the_other(apis, identity):
    task_id = apis[0].create(identity)
    waiting = Calls(lambda: apis[1].task(task_id, wait=20))
    time.sleep(0.5)
    began = time.monotonic()
    apis[0].delete(f"/device-tasks/{task_id}")
    (task,) = waiting.join()
    assert task["status_name"] == "DELETED" and time.monotonic() - began < LOOK_SECONDS


def test_a_key_made_at_one_server_is_good_at_the_other_and_dead_a_second_after_its_end(pair, apis, new_api):
    made = apis[0].post("/api-keys", json={"org": "default", "name": "x", "rights": ["devices:read"]}).json()
    elsewhere = new_api(pair[1], made["key"])
    assert elsewhere.get("/devices").status_code == 200
    assert apis[0].delete(f"/api-keys/{made['id']}").status_code in (200, 204)
    time.sleep(1.0)  # for which a server remembers who was let in
    assert elsewhere.get("/devices").status_code == 401


@pytest.mark.timeout(90)
def test_a_stream_at_one_server_ends_when_its_key_is_revoked_at_the_other(pair, apis, new_api, device):
    made = apis[0].post("/api-keys", json={"org": "default", "name": "x", "rights": ["events:read"]}).json()
    stream = Curl(new_api(pair[1], made["key"]), kind="presence", cursor="0").opened()
    assert apis[0].delete(f"/api-keys/{made['id']}").status_code == 200
    stream.wait(lambda: stream.messages and stream.messages[-1]["event"] == "end", 40)
    assert stream.messages[-1]["data"]["reason"] == "unauthorized"
    stream.close()


def answered(device, level: str, task_id: str, send) -> None:
    """Sends a message, as often as a device must until its answer comes."""
    if LINK.keeps_share_of_server:
        for _ in range(5):
            send()
            try:
                device.expect_of(level, task_id, seconds=1.0)
                return
            except AssertionError:
                pass  # it waits for the server that is away
    send()
    device.expect_of(level, task_id)


def test_what_a_killed_server_began_the_other_ends(pairs, new_api, connect, tmp_path):
    """Its devices come to the other one, with what they had taken, and hear of the rest."""
    first, second = pairs.new()
    api, other = new_api(first), new_api(second)
    identity = api.register(tmp_path)
    device = connect(first, identity)
    taken, waiting = api.create(identity, ttl=60), api.create(identity, ttl=60)
    device.expect("tsk"), device.expect("tsk")
    device.take(taken)
    first.kill()
    if device.address != second.mqtts:
        device.expect_disconnect()
        device = connect(second, identity)
        assert device.expect("tsk").task_id == waiting
    answered(device, "cmt", taken, lambda: device.res(taken))
    answered(device, "rsp", waiting, lambda: device.req(waiting))
    answered(device, "cmt", waiting, lambda: device.res(waiting))
    assert [other.status(task_id) for task_id in (taken, waiting)] == [DONE, DONE]
    assert other.status(later := other.create(device)) == READY
    assert next_announced(device, {taken, waiting}) == later
    first.start()
    assert new_api(first).task(taken)["status"] == DONE


def refusal(server) -> str:
    """What a server says that does not start."""
    done = subprocess.run(
        server.command(), capture_output=True, text=True, timeout=60, env=server.environment()
    )
    assert done.returncode == 2, f"exit code {done.returncode}: {done.stderr}"
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("covey: ") and "panicked" not in done.stderr, done.stderr
    return lines[0]


def test_a_server_with_another_ca_is_refused(pair, apis, pairs, tmp_path):
    made = subprocess.run([BINARY, "pki", "init", "--out", tmp_path / "pki"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    stranger = pairs.another(pair[0], "--pki-from", str(tmp_path / "pki"), log="error")
    assert "another CA" in refusal(stranger)
    assert apis[0].get("/devices").status_code == 200, "the others go on"


def test_a_second_server_of_the_same_name_is_refused(pairs, new_api):
    first, second = pairs.new("--server-name", "one", second=("--server-name", "two"))
    assert "one" in refusal(pairs.another(first, "--server-name", "one", log="error"))
    assert new_api(first).get("/devices").status_code == new_api(second).get("/devices").status_code == 200
    assert second.stop() == 0
    third = pairs.another(first, "--server-name", "two").start()
    assert new_api(third).get("/devices").status_code == 200, "a name that is free again may be taken"
    assert third.stop() == 0


@pytest.mark.skipif(not LINK.is_own, reason="other brokers keep sessions themselves")
def test_a_session_goes_on_at_another_server(pair, apis, tmp_path):
    """What was kept last holds, also at a server that remembers something else (docs/adr/0018)."""
    identity, made = apis[0].register(tmp_path), []

    def come(server, **more) -> tuple[RawDevice, bool]:
        for before in made:
            before.close()
        time.sleep(NEWS_SECONDS)
        made.append(RawDevice(server, identity))
        return made[-1], made[-1].connect(**{"clean": False, "properties": session_expiry(300)} | more).session_present

    first, is_present = come(pair[0])
    assert not is_present
    first.subscribe(f"srv/{identity.sn}/tsk")
    second, is_present = come(pair[1])
    assert is_present
    task = apis[0].create(identity, ttl=30)
    assert [one.task_id for one in second.messages(1, acknowledge=True)] == [task]
    second.subscribe(f"srv/{identity.sn}/rsp")
    first, is_present = come(pair[0])
    assert is_present
    first.request(task)
    assert [one.level for one in first.messages(1, acknowledge=True) if one.level == "rsp"] == ["rsp"]
    # Ended at one, it is not resumed at the other, which still remembers it.
    assert not come(pair[0], clean=True, properties=b"")[1]
    second, is_present = come(pair[1])
    assert not is_present
    apis[1].create(identity, ttl=30)
    assert second.messages(1) == []
    for device in made:
        device.close()
