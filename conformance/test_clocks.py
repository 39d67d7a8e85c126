"""Servers whose clocks are wrong: the database's time decides, and all that differs is what such a server writes into
its own log (docs/adr/0009, "Time is the database's")."""

import datetime
import time
from pathlib import Path

import pytest

from testbed.api import DONE, EXPIRED, LOCK
from testbed.server import Server

# What a server's own clock is off, either way.
OFF_SECONDS = [5, -5]
# How exactly a server follows the database's clock, which is this machine's.
CLOCK_SECONDS_MAX = 0.3
# How often a server looks for tasks whose time is over, and how long it takes to say so.
SWEEP_SECONDS_MAX = 0.5
LEASE_SECONDS = 2

pytestmark = pytest.mark.several_servers


@pytest.fixture(scope="session")
def wrong_clock() -> Path:
    """The library of faketime, which tells a program the wrong time of day."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.fixture(params=OFF_SECONDS, ids="{:+d} s".format)
def wrong(request, pairs, wrong_clock) -> tuple[Server, Server]:
    """Two servers; the second one's clock is wrong. Its monotonic clock is not: machines whose time of day is wrong
    count seconds as others do."""
    variables = [f"LD_PRELOAD={wrong_clock}", f"FAKETIME={request.param:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
    return pairs.new("--lease-seconds", str(LEASE_SECONDS), wrapper=("env", *variables))


@pytest.fixture
def apis(wrong, new_api):
    return [new_api(server) for server in wrong]


@pytest.fixture
def device(wrong, apis, connect, tmp_path):
    """A device that was registered and is connected where the clock is wrong: its certificate is valid already."""
    return connect(wrong[1], apis[1].register(tmp_path))


def instants(task: dict) -> list[float]:
    return [datetime.datetime.fromisoformat(change["at"]).timestamp() for change in task["timeline"]]


def test_the_wrong_clock_is_wrong(request, wrong):
    """The positive control: what a server writes into its log has the time of its own clock."""
    off = [written_at(server) - server.log_path.stat().st_mtime for server in wrong]
    wanted = request.node.callspec.params["wrong"]
    assert abs(off[0]) < 1 and abs(off[1] - wanted) < 1, off


def written_at(server: Server) -> float:
    """The instant of the last line of a log, as the line itself says."""
    last = [line for line in server.log_text().splitlines() if line[:2] == "20"][-1]
    return datetime.datetime.fromisoformat(last.split()[0]).timestamp()


def test_a_call_is_the_same_at_both(apis, device):
    for api, other in (apis, apis[::-1]):
        before = time.time()
        task_id = api.create(device, ttl=10, payload={"a": 1})
        announced = device.expect("tsk")
        assert announced.task_id == task_id
        assert 599 <= int(announced["expires_at"]) - before <= 602
        device.take(task_id)
        device.finish(task_id)
        after = time.time()
        task = other.task(task_id)
        assert task == api.task(task_id)
        assert [change["status_name"] for change in task["timeline"]] == ["READY", "LOCK", "DONE"]
        assert instants(task) == sorted(instants(task))
        for at in instants(task):
            assert before - CLOCK_SECONDS_MAX <= at <= after + CLOCK_SECONDS_MAX


def test_a_lease_lasts_as_long_as_it_should(apis, device):
    """Taken by way of one server or the other, it neither lapses at once nor lasts longer."""
    task_id = apis[0].create(device)
    assert device.expect("tsk").task_id == task_id
    device.take(task_id)
    began = time.monotonic()
    assert device.take()["method_code"] == "0"
    assert device.expect("tsk", seconds=15).task_id == task_id
    # A task is announced again at the next sweep after its lease, or when the one after that has room.
    assert LEASE_SECONDS - CLOCK_SECONDS_MAX <= time.monotonic() - began <= LEASE_SECONDS + 2.5
    assert apis[1].status(task_id) == LOCK
    assert device.take().task_id == task_id
    device.finish(task_id)
    assert [api.status(task_id) for api in apis] == [DONE, DONE]


@pytest.mark.timeout(150)
def test_tasks_expire_at_their_instant_whoever_made_them(apis, device):
    made = {api.create(device, ttl=ttl): api for api in apis for ttl in (0, 1)}
    created = {task_id: instants(api.task(task_id))[0] for task_id, api in made.items()}
    for task_id, at in created.items():
        assert abs(at - time.time()) < 5, "by the time of the database"
    time.sleep(min(created.values()) + 59.5 - time.time())
    assert not any(apis[0].status(task_id) == EXPIRED for task_id in created)
    for task_id in created:
        task = apis[1].wait_for_status(task_id, EXPIRED, seconds=3)
        expired = instants(task)[-1]
        assert abs(expired - created[task_id] - 60) < CLOCK_SECONDS_MAX + SWEEP_SECONDS_MAX, task["timeline"]
        assert apis[0].task(task_id) == task
