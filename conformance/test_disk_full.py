"""A full disk: writes are refused, reads go on, what makes room or shuts somebody out is stored, and with room again
everything works as before. A disk that is nearly full: nothing new is taken, and what runs goes on."""

import os
import subprocess
import time

import httpx
import pytest

from testbed.api import DELETED, DONE, LOCK, READY, is_problem
from testbed.device import MQTTv311
from testbed.raw_device import RawDevice, session_expiry
from testbed.server import Server

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
            assert is_problem(answer, 507)
            assert int(answer.headers["retry-after"]) > 0
            return accepted
        accepted.append(answer.json()["id"])
    raise AssertionError("the disk never became full")


@pytest.fixture
def filled(disk, new_server, new_api, connect, tmp_path):
    """A server that has filled its disk, a caller, a device that has taken a task, and the tasks that were accepted."""
    server = new_server("--disk-free-min", "0", name="disk/data")
    api = new_api(server)
    identity = api.register(tmp_path)
    device = connect(server, identity, "rsp", "cmt")
    taken = api.create(identity)
    device.take(taken)
    api.leaked = api.key_with(["devices:read"])
    hook = {"url": "https://receiver.example/covey", "is_active": False}
    assert api.put("/webhooks/msg-task", json=hook).is_success
    fill(disk, but_bytes=1 << 20)
    accepted = tasks_until_full(api, identity)
    assert len(accepted) > 5
    yield server, api, device, taken, accepted
    server.kill()


@pytest.fixture
def full(filled, disk):
    """The same, and another program has taken the reserve's room too."""
    fill(disk)
    return filled


def tell(device) -> int:
    """Publishes an event."""
    return device.publish(f"dev/{device.sn}/evt", '{"a":1}', properties={"event_type_code": "7", "dev_event_id": "1"})


def readiness(server) -> tuple[int, dict, dict]:
    """The status, and how the store and the disk are."""
    answer = httpx.get(f"{server.http}/readyz")
    store, disk = [part for part in answer.json()["parts"] if part["part"] in ("store", "disk")]
    return answer.status_code, store, disk


def wait_for_disk(server, state: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while readiness(server)[2]["state"] != state:
        assert time.monotonic() < deadline, readiness(server)
        time.sleep(0.05)


BODY = '{"text":"' + "y" * 100_000 + '"}'


def test_writes_are_refused_and_reads_go_on(full):
    server, api, device, taken, accepted = full
    for _ in range(3):
        assert is_problem(api.request_task(device, payload={"text": "x" * 20_000}), 507)
    # More than what may be left in the log that is there already.
    tags = [{"tag": f"t{n}", "value": "b" * 1000} for n in range(64)]
    assert is_problem(api.post("/devices", json={"tags": tags}), 507)
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
    wait_for_disk(server, "up")

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
    wait_for_disk(server, "up")
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


def test_whoever_does_harm_is_shut_out_on_a_full_disk_and_readyz_says_what_is_short(
    filled, disk, new_api, connect, tmp_path
):
    server, api, device, taken, accepted = filled
    assert not (server.data / "reserve").exists(), "it was given up"
    status, store, room = readiness(server)
    assert (status, store["state"], room["state"]) == (503, "down", "full")
    assert "deletions and revocations" in room["why"] and server.metric("covey_disk_room") == 0

    # Each of them is stored, as often as it takes; and none lets anything else in.
    for task_id in accepted:
        assert api.delete(f"/device-tasks/{task_id}").status_code == 200
    keys = api.get("/api-keys").json()
    for key in [key for key in keys if key["name"] != "admin"]:
        assert api.delete(f"/api-keys/{key['id']}").status_code in (200, 204)
    assert api.delete(f"/devices/{device.device_id}").status_code in (200, 204)
    device.expect_disconnect()
    assert is_problem(api.request_task(device, payload={"text": "x" * 20_000}), 507)
    assert readiness(server)[0] == 503
    assert [api.status(task_id) for task_id in accepted] == [DELETED] * len(accepted)

    # They are there after a kill, and the server starts on the disk as it is.
    server.kill()
    server.start()
    api = new_api(server)
    assert api.get("/devices").json() == []
    assert {api.status(task_id) for task_id in accepted} == {DELETED}
    assert api.delete(f"/device-tasks/{taken}").status_code == 200
    assert is_problem(api.post("/devices", json={}), 507)

    make_room(disk)
    wait_for_disk(server, "up")
    assert readiness(server)[0] == 200 and (server.data / "reserve").exists()
    identity = api.register(tmp_path)
    device = connect(server, identity)
    task_id = api.create(identity)
    device.take(task_id)
    device.finish(task_id)
    assert not server.panics()


def test_a_key_is_revoked_on_a_full_disk(filled, new_api):
    server, api, *_ = filled
    # Made before the disk was full.
    listed = {key["name"]: key["id"] for key in api.get("/api-keys").json()}
    leaked = new_api(server, api.leaked)
    assert leaked.get("/devices").status_code == 200
    assert api.delete(f"/api-keys/{listed['conformance']}").status_code in (200, 204)
    # A secret that was seen is changed as well.
    assert api.post("/webhooks/msg-task/rotate-secret", json={"overlap_seconds": 0}).is_success
    assert leaked.get("/devices").status_code == 401


def test_on_a_disk_that_is_nearly_full_nothing_new_is_taken_and_what_runs_goes_on(
    disk, new_server, new_api, connect, tmp_path
):
    server = new_server("--disk-free-min", "8MiB", name="disk/data")
    api = new_api(server)
    identity = api.register(tmp_path)
    device = connect(server, identity, "rsp", "cmt")
    running, ended, waiting = api.create(identity, ttl=60), api.create(identity, ttl=60), api.create(identity, ttl=60)
    device.take(running)
    device.take(ended)
    device.finish(ended)
    hook = {"url": "https://receiver.example/covey", "is_active": False}
    assert api.put("/webhooks/msg-task", json=hook).is_success
    wait_for_disk(server, "up")
    fill(disk, but_bytes=4 << 20)
    wait_for_disk(server, "short")

    status, store, room = readiness(server)
    assert (status, store) == (200, {"part": "store", "state": "up"}) and "--disk-free-min" in room["why"]
    for answer in [api.request_task(identity), api.post("/devices", json={})]:
        assert is_problem(answer, 507) and answer.json()["type"] == "urn:covey:problem:no-room"
        assert int(answer.headers["retry-after"]) > 0
    assert device.res(ended, 200, '{"late":1}') == 0x97
    assert tell(device) == 0x97

    assert is_problem(api.put("/webhooks/msg-event", json=hook), 507)
    assert api.put("/webhooks/msg-task", json={**hook, "url": "https://receiver.example/other"}).is_success

    device.finish(running, 200, BODY)
    assert api.status(running) == DONE
    device.take(waiting)
    assert api.delete(f"/device-tasks/{waiting}").status_code == 200
    key = api.key_with(["tasks:read"])
    assert new_api(server, key).get("/device-tasks").status_code == 200

    make_room(disk)
    wait_for_disk(server, "up")
    assert tell(device) == 0
    task_id = api.create(identity)
    device.take(task_id)
    device.finish(task_id)
    log = server.log_text()
    assert log.count("disk is nearly full; new tasks") == 1 and log.count("disk has room again") == 1


def test_what_is_deleted_gives_its_room_to_what_comes(new_server, new_api, tmp_path):
    server = new_server()
    api = new_api(server)
    identity = api.register(tmp_path)
    for number in range(150):
        task_id = api.create(identity, payload={"number": number, "text": "x" * 200_000})
        assert api.delete(f"/device-tasks/{task_id}").status_code == 200
    assert api.task(task_id)["status"] == DELETED and not api.task(task_id).get("payload")
    assert server.stop() == 0
    kept = (server.data / "covey.db").stat().st_size
    assert kept < 2_000_000, f"{kept} bytes after 30 MB that were deleted"


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


def test_a_start_on_a_full_disk_comes_up_and_makes_room(disk, new_server, new_api, tmp_path):
    server = new_server(name="disk/data")
    api = new_api(server)
    identity = api.register(tmp_path)
    kept, deleted = api.create(identity), api.create(identity)
    assert server.stop() == 0
    fill(disk)
    server.start()
    status, _, room = readiness(server)
    assert (status, room["state"]) == (503, "full") and not (server.data / "reserve").exists()
    api = new_api(server)
    assert api.status(kept) == READY
    assert is_problem(api.request_task(identity), 507)
    assert api.delete(f"/device-tasks/{deleted}").status_code == 200
    server.kill()
    make_room(disk)
    server.start()
    api = new_api(server)
    assert [api.status(task_id) for task_id in (kept, deleted)] == [READY, DELETED]
    wait_for_disk(server, "up")
    assert api.request_task(identity).status_code == 200


def test_a_start_without_any_room_says_what_to_do_and_breaks_nothing(disk, new_server, new_api, tmp_path):
    server = new_server(name="disk/data")
    api = new_api(server)
    task_id = api.create(api.register(tmp_path))
    assert server.stop() == 0
    (server.data / "reserve").unlink()  # as if another program had taken its room
    fill(disk)
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 2, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("covey: ") and "the disk is full (0 bytes are free)" in said, said
    assert "panicked" not in done.stderr
    make_room(disk)
    server.start()
    assert new_api(server).status(task_id) == READY
