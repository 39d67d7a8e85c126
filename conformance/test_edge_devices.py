"""Devices at the edges, packet by packet, in both versions of MQTT: one that takes next to nothing at a time, and one that
never reads (MQTT 5 §3.1.2.10, §3.1.2.11.3, §3.1.2.11.4, §4.9; MQTT 3.1.1 §3.1.2.10)."""

import json
import socket
import time

import pytest

from testbed.api import DONE
from testbed.packet import packet
from testbed.raw_device import RECEIVE_MAX, Packet, RawDevice, packet_max, session_expiry, two_bytes

pytestmark = pytest.mark.embedded

CALLS = 50
BYTES_MAX = 128
# One message in this many is acknowledged late: nothing may come before that.
LATE = 5
LATE_SECONDS = 0.15
# Longer than the server waits between two looks at its deadlines.
SILENT_SECONDS = 2.5
# How long a server waits for a device that does not read (10 s), once it can send it no more: on a busy machine it takes a
# minute to answer as many pings as the system keeps.
NOT_READING_SECONDS_MAX = 180.0
PINGS = packet(0xC0, b"") * 8_000


@pytest.fixture
def raw(server, identity):
    """Makes connections of the device; they end with the test."""
    made = []

    def new() -> RawDevice:
        made.append(RawDevice(server, identity))
        return made[-1]

    yield new
    for one in made:
        one.close()


def task_of(message: Packet, version: int) -> str:
    return message.task_id if version == 5 else json.loads(message.body)["correlationData"]


def answer(device: RawDevice, message: Packet, version: int) -> str | None:
    """What a device does with a message; the task, if this was the last of its call."""
    task_id = task_of(message, version)
    if message.level == "cmt":
        return task_id
    if version == 5:
        (device.request if message.level == "tsk" else device.result)(task_id)
    elif message.level == "tsk":
        device.publish(f"dev/{device.sn}/req", json.dumps({"correlationData": task_id}))
    else:
        device.publish(f"dev/{device.sn}/res", json.dumps({"correlationData": task_id, "status_code": 200}))
    return None


@pytest.mark.timeout(180)
@pytest.mark.parametrize("version", [4, 5])
def test_a_device_that_takes_next_to_nothing_is_called_fifty_times(api, raw, version):
    device = raw()
    narrow = packet_max(BYTES_MAX) + two_bytes(RECEIVE_MAX, 1) if version == 5 else b""
    connack = device.connect(version=version, keep_alive=0, properties=narrow)
    assert connack.reason == 0 and connack.size <= BYTES_MAX
    device.subscribe(f"srv/{device.sn}/+")
    assert device.all(SILENT_SECONDS) == [], "Keep Alive 0: its silence is nobody's business"

    waiting = {api.create(device, ttl=120) for _ in range(CALLS)}
    largest, number = 0, 0
    while waiting:
        said = device.next(30)
        assert said is not None and said.kind != "EOF", f"{len(waiting)} of {CALLS} calls were not completed: {said}"
        if said.kind != "PUBLISH":
            assert said.kind == "PUBACK" and said.reason == 0, said
            continue
        number += 1
        largest = max(largest, said.size)
        if version == 5 and number % LATE == 0:
            early = [one for one in device.all(LATE_SECONDS) if one.kind == "PUBLISH"]
            assert early == [], "Receive Maximum is 1, and the message before is not acknowledged"
        device.acknowledge(said)
        waiting.discard(answer(device, said, version))
    assert version == 4 or largest <= BYTES_MAX
    calls = api.get("/device-tasks", params={"device_id": device.device_id, "status": DONE, "size": 1}).json()
    assert calls["total"] == CALLS


def fill(device: RawDevice) -> None:
    """Asks again and again and reads nothing, until the server takes no more."""
    device.stream.tls.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    device.stream.tls.settimeout(1.0)
    with pytest.raises(TimeoutError):
        while True:
            device.stream.tls.send(PINGS)


def is_given_up(device: RawDevice) -> bool:
    """Whether the server closes the connection; nothing is read before that."""
    deadline = time.monotonic() + NOT_READING_SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            device.stream.tls.send(PINGS)
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", [4, 5])
def test_a_device_that_never_reads_is_given_up_and_disturbs_nobody(new_server, new_api, connect, tmp_path, version):
    # Otherwise no more than 2,000 pings a second would be answered.
    server = new_server("--events-per-second-max", "0")
    api = new_api(server)
    identity = api.register(tmp_path)
    kept = {"version": version, "clean": False, "properties": session_expiry(300) if version == 5 else b""}
    device = RawDevice(server, identity)
    device.connect(keep_alive=0, **kept)
    device.subscribe(f"srv/{device.sn}/+")
    fill(device)
    waiting = api.create(device, ttl=120)

    other = connect(server, api.register(tmp_path))
    task = api.create(other)
    assert other.expect("tsk").task_id == task
    other.take(task)
    other.finish(task)
    assert api.status(task) == DONE

    assert is_given_up(device)
    items = api.get("/device-events", params={"device_id": device.device_id, "events_include": [-1, -2]}).json()["items"]
    assert sorted(one["payload"]["reason"] for one in items) == ["connected", "lost"]
    with RawDevice(server, identity) as device:
        assert device.connect(keep_alive=0, **kept).session_present
        assert [task_of(one, version) for one in device.messages()] == [waiting]
