"""A full disk: writes are refused, reads go on, and with room again everything works as before."""

import os
import subprocess

import pytest

from testbed.api import DONE, LOCK, READY, is_problem
from testbed.device import MQTTv311
from testbed.raw_device import RawDevice, session_expiry
from testbed.server import NotStarted, Server

pytestmark = pytest.mark.embedded

DISK_MIB = 32


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(mount)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def fill(disk, but_bytes: int = 0) -> None:
    """Takes the room that is left."""
    with open(disk / "filler", "ab", buffering=0) as filler:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while filler.write(b"x" * size):
                    pass
            except OSError:
                pass
        os.truncate(filler.fileno(), filler.tell() - but_bytes)


def make_room(disk) -> None:
    (disk / "filler").unlink()


def tasks_until_full(api, identity) -> list[str]:
    """Creates tasks until one is refused; answers those that were accepted."""
    accepted = []
    for number in range(2000):
        answer = api.request_task(identity, ttl=60, payload={"number": number, "text": "x" * 20_000})
        if answer.status_code != 200:
            assert is_problem(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
            return accepted
        accepted.append(answer.json()["id"])
    raise AssertionError("the disk never became full")


@pytest.fixture
def full(disk, new_server, new_api, connect, tmp_path):
    """A server whose disk is full, a caller, a device that has taken a task, and the tasks that were accepted."""
    server = new_server(name="disk/data")
    api = new_api(server)
    identity = api.register(tmp_path)
    device = connect(server, identity, "rsp", "cmt")
    taken = api.create(identity)
    device.take(taken)
    fill(disk, but_bytes=1 << 20)
    accepted = tasks_until_full(api, identity)
    assert len(accepted) > 5
    fill(disk)
    yield server, api, device, taken, accepted
    server.kill()


BODY = '{"text":"' + "y" * 100_000 + '"}'


def test_writes_are_refused_and_reads_go_on(full):
    server, api, device, taken, accepted = full
    for _ in range(3):
        assert is_problem(api.request_task(device, payload={"text": "x" * 20_000}), 503)
    # More than what may be left in the log that is there already.
    tags = [{"tag": f"t{n}", "value": "b" * 1000} for n in range(64)]
    assert is_problem(api.post("/devices", json={"tags": tags}), 503)
    storage = server.refusals("storage")
    assert device.res(taken, 200, BODY) >= 0x80
    assert device.is_quiet("cmt", seconds=0.3)
    assert server.refusals("storage") == storage + 1

    task = api.task(taken)
    assert task["status"] == LOCK and task["results"] == []
    assert api.get("/device-tasks", params={"device_id": device.device_id}).json()["total"] == len(accepted) + 1
    assert len(api.get("/devices").json()) == 1
    assert device.is_connected()


def test_with_room_again_everything_works_as_before(full, disk):
    server, api, device, taken, accepted = full
    assert device.res(taken, 200, BODY) >= 0x80
    make_room(disk)

    device.finish(taken, 200, BODY)
    assert api.status(taken) == DONE
    accepted.append(api.create(device, ttl=60))
    for task_id in accepted:
        assert device.take().task_id == task_id
        device.finish(task_id)
    assert device.take()["method_code"] == "0"
    assert {api.status(task_id) for task_id in accepted} == {DONE}
    assert not server.panics()


def test_a_session_is_gone_on_with_while_the_disk_is_full(full, disk):
    server, _, device, *_ = full

    def come() -> tuple[RawDevice, bool]:
        raw = RawDevice(server, device.identity)
        connack = raw.connect(clean=False, properties=session_expiry(300))
        assert connack.reason == 0
        return raw, connack.session_present

    make_room(disk)
    raw, _ = come()
    assert raw.subscribe(f"srv/{device.sn}/tsk").reasons == [1]
    raw.close()
    fill(disk)
    raw, is_present = come()
    assert is_present
    # What is kept already needs no room.
    assert raw.subscribe(f"srv/{device.sn}/tsk").reasons == [1]
    raw.close()
    assert not server.panics()


def test_a_kill_while_the_disk_is_full_loses_nothing(full, disk, new_api, connect):
    server, api, device, taken, accepted = full
    server.kill()
    make_room(disk)
    server.start()
    api = new_api(server)
    assert api.status(taken) == LOCK
    assert {api.status(task_id) for task_id in accepted} <= {READY}
    device = connect(server, device.identity)
    device.finish(taken, 200, BODY)
    assert api.status(taken) == DONE


def test_a_3_1_1_device_is_closed_without_a_puback(full, connect):
    """It cannot be told by a code, so the missing PUBACK must tell it (docs/mqtt-3.1.1.md)."""
    server, api, device, taken, _ = full
    old = connect(server, device.identity, protocol=MQTTv311)  # takes the session over
    mid = old.send(f"dev/{old.sn}/res", f'{{"correlationData":"{taken}","status_code":200,"payload":{BODY}}}')
    old.expect_disconnect()
    assert mid not in old.acks
    assert api.task(taken)["results"] == []


def test_a_first_start_on_a_full_disk_says_so(disk):
    fill(disk)
    server = Server(disk / "data", log="error")
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 2, done.stderr
    assert "panicked" not in done.stderr and done.stderr.splitlines()[-1].startswith("covey: ")
    make_room(disk)
    server.start()
    assert server.stop() == 0


def test_a_start_on_a_full_disk_comes_up_or_says_why_and_breaks_nothing(disk, new_server, new_api, tmp_path):
    server = new_server(name="disk/data")
    api = new_api(server)
    task_id = api.create(api.register(tmp_path))
    assert server.stop() == 0
    fill(disk)
    try:
        server.start()
    except NotStarted:
        assert server.process.returncode == 2
        assert server.log_text().splitlines()[-1].startswith("covey: ")
    server.kill()
    make_room(disk)
    server.start()
    assert new_api(server).status(task_id) == READY
