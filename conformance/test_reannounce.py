"""What is open is announced again: after a reconnect, a restart, a lapsed lease; never more than sixteen at a
time (device-rpc "device connects and subscribes")."""

import time

import pytest

from testbed.api import DONE, LOCK, PENDING, READY
from testbed.broker import LINK
from testbed.device import QUIET_SECONDS

WINDOW = 16
# Each step over another broker takes a while on a busy machine.
LEASE_SECONDS = 2 if LINK.is_own else 5
# Within it a device gives a sign of life a few times.
SIGN_SECONDS = LEASE_SECONDS / 4


def announced(device, count: int) -> list[str]:
    return [device.expect("tsk").task_id for _ in range(count)]


def test_tasks_made_while_the_device_was_away_are_announced_best_first(api, server, identity, connect):
    asked = [(1, 60), (9, 60), (5, 10), (5, 60), (9, 5)]
    created = [api.create(identity, priority=priority, ttl=ttl) for priority, ttl in asked]
    device = connect(server, identity)
    assert announced(device, 5) == [created[index] for index in (4, 1, 2, 3, 0)]
    assert device.is_quiet("tsk")


def test_ready_and_pending_tasks_are_announced_again_and_others_not(api, server, identity, connect):
    device = connect(server, identity)
    ready, pending, taken, done, deleted = [api.create(identity) for _ in range(5)]
    announced(device, 5)
    device.ack(pending)
    api.settled(pending, PENDING)
    device.take(taken)
    device.take(done)
    device.finish(done)
    api.delete(f"/device-tasks/{deleted}")
    device.drop()

    again = connect(server, identity)
    assert set(announced(again, 2)) == {ready, pending}
    assert again.is_quiet("tsk")


def test_who_subscribes_again_is_told_again(api, server, identity, connect):
    device = connect(server, identity, "rsp")
    task_id = api.create(identity)
    assert device.is_quiet("tsk", seconds=0.3)
    for _ in range(2):
        device.subscribe(f"srv/{identity.sn}/tsk")
        assert announced(device, 1) == [task_id]
        if not LINK.tells_repeated_subscription:
            device.unsubscribe(f"srv/{identity.sn}/tsk")


def test_a_session_that_is_resumed_is_told_without_subscribing(api, server, identity, connect):
    connect(server, identity, clean_start=True, session_seconds=600).drop()
    task_id = api.create(identity)
    device = connect(server, identity, "-", clean_start=False, session_seconds=600)
    assert device.session_present
    assert announced(device, 1) == [task_id]
    device.take(task_id)
    device.finish(task_id)
    assert api.status(task_id) == DONE


def test_a_clean_start_forgets_the_subscriptions(api, server, identity, connect):
    connect(server, identity, session_seconds=600).drop()
    api.create(identity)
    device = connect(server, identity, "-", clean_start=True)
    assert not device.session_present
    assert device.is_quiet()


def test_no_more_than_sixteen_announcements_are_unanswered(api, device):
    created = [api.create(device) for _ in range(40)]
    assert announced(device, WINDOW) == created[:WINDOW]
    assert device.is_quiet("tsk")

    for index in range(40 - WINDOW):
        device.take(created[index])
        assert announced(device, 1) == [created[WINDOW + index]], "the next follows as one is taken"
    assert device.is_quiet("tsk", seconds=0.3)
    for task_id in created[40 - WINDOW :]:
        assert device.take(task_id).task_id == task_id
    assert device.is_quiet("tsk", seconds=0.3)


def test_the_window_is_filled_in_selection_order(api, server, identity, connect):
    low = [api.create(identity, priority=1) for _ in range(20)]
    high = [api.create(identity, priority=8) for _ in range(20)]
    device = connect(server, identity)
    assert announced(device, WINDOW) == high[:WINDOW]
    expected = iter([*high[WINDOW:], *low])
    for task_id in high[:8]:
        device.take(task_id)
        assert announced(device, 1) == [next(expected)]


def test_polling_makes_room_too(api, device):
    created = [api.create(device) for _ in range(20)]
    announced(device, WINDOW)
    for index in range(4):
        assert device.take().task_id == created[index]
        assert announced(device, 1) == [created[WINDOW + index]]


def test_deleted_and_finished_tasks_hold_no_place_in_the_window(api, device):
    created = [api.create(device) for _ in range(WINDOW + 3)]
    announced(device, WINDOW)
    api.delete(f"/device-tasks/{created[0]}")
    assert announced(device, 1) == [created[WINDOW]]
    device.finish(created[1])
    assert announced(device, 1) == [created[WINDOW + 1]]
    device.take(created[2])
    assert announced(device, 1) == [created[WINDOW + 2]]


@pytest.mark.timeout(400)
def test_a_backlog_is_drained_by_a_device_that_only_follows_announcements(api, server, identity, connect):
    created = [api.create(identity, priority=index % 10) for index in range(100)]
    device = connect(server, identity)
    for _ in created:
        task_id = device.expect("tsk").task_id
        device.take(task_id)
        device.finish(task_id)
    assert device.is_quiet("tsk", seconds=0.3)
    assert {api.status(task_id) for task_id in created} == {DONE}


@pytest.fixture
def hasty(new_server, new_api, tmp_path):
    """A server whose leases last a moment, a caller and a device of it."""
    server = new_server("--lease-seconds", str(LEASE_SECONDS))
    api = new_api(server)
    return server, api, api.register(tmp_path)


def test_a_task_whose_lease_ran_out_is_announced_and_polled_again(hasty, connect):
    server, api, identity = hasty
    device = connect(server, identity)
    task_id = api.create(identity, payload={"a": 1})
    device.expect("tsk")
    first = device.take(task_id)
    began = time.monotonic()
    assert device.take()["method_code"] == "0", "not within the lease"

    assert device.expect("tsk", seconds=LEASE_SECONDS + 3).task_id == task_id
    assert LEASE_SECONDS - 0.1 <= time.monotonic() - began <= LEASE_SECONDS + 3
    assert api.status(task_id) == LOCK
    again = device.take()
    assert (again.task_id, again.body) == (task_id, first.body)
    device.finish(task_id)
    assert api.steps(task_id) == ["READY", "LOCK", "DONE"]
    assert device.is_quiet("tsk", seconds=2)


def test_a_task_whose_lease_ran_out_is_polled_by_a_device_that_does_not_listen(hasty, connect):
    server, api, identity = hasty
    device = connect(server, identity, "rsp", "cmt")
    task_id = api.create(identity)
    device.take()
    time.sleep(LEASE_SECONDS + 0.3)
    assert device.take().task_id == task_id


def test_partial_results_keep_the_lease(hasty, connect):
    server, api, identity = hasty
    device = connect(server, identity)
    task_id = api.create(identity)
    device.expect("tsk")
    device.take(task_id)
    for number in range(6):
        time.sleep(SIGN_SECONDS)
        device.finish(task_id, 206, "{}", ext_id=number)
        assert device.take()["method_code"] == "0"
    assert device.is_quiet("tsk", seconds=0)
    assert device.expect("tsk", seconds=LEASE_SECONDS + 3).task_id == task_id, "when they stop, it lapses"


def test_a_repeated_req_keeps_the_lease(hasty, connect):
    server, api, identity = hasty
    device = connect(server, identity)
    task_id = api.create(identity)
    device.expect("tsk")
    for _ in range(6):
        device.take(task_id)
        time.sleep(SIGN_SECONDS)
    assert device.is_quiet("tsk", seconds=0)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_who_comes_after_a_restart_is_told_of_everything_open(new_server, new_api, tmp_path, connect, end):
    server = new_server()
    api = new_api(server)
    identity = api.register(tmp_path)
    device = connect(server, identity)
    ready, pending, taken, done = [api.create(identity) for _ in range(4)]
    announced(device, 4)
    device.ack(pending)
    api.settled(pending, PENDING)
    device.take(taken)
    device.take(done)
    device.finish(done)

    getattr(server, end)()
    if LINK.goes_with_server:
        device.expect_disconnect()
    server.start()
    api = new_api(server)
    device = connect(server, identity)
    assert announced(device, 2) == [ready, pending]
    if LINK.goes_with_server:
        assert device.is_quiet("tsk")
    else:
        # The broker stayed: the server may tell the connection of before and this one of the same, in the same order.
        time.sleep(QUIET_SECONDS)
        told = [message.task_id for message in device.heard if message.level == "tsk"]
        assert told in ([ready, pending], [ready, pending] * 2), told
    assert api.status(ready) == READY
    for task_id in (taken, ready, pending):  # what was taken is still its own
        device.req(task_id)
        device.expect_of("rsp", task_id)
        device.res(task_id)
        device.expect_of("cmt", task_id)
        assert api.status(task_id) == DONE


@pytest.mark.foreign_broker
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_device_does_not_notice_a_restart_of_the_server(new_server, new_api, tmp_path, connect, end):
    """Its broker stays: what it sends meanwhile is answered later, and what is created is announced."""
    server = new_server()
    api = new_api(server)
    device = connect(server, api.register(tmp_path))
    taken, waiting = api.create(device), api.create(device)
    announced(device, 2)
    device.take(taken)

    getattr(server, end)()
    device.res(taken, 200, '{"while":"away"}')
    device.req(waiting)
    assert device.is_quiet("rsp", "cmt", seconds=0.3) and device.is_connected()
    server.start()
    api = new_api(server)
    device.expect_of("cmt", taken, 20)
    device.expect_of("rsp", waiting, 20)
    assert api.task(taken)["results"][0]["result"] == {"while": "away"}
    device.finish(waiting)
    later = api.create(device)
    device.expect_of("tsk", later, 20)
    device.take(later)
    device.finish(later)
    assert [api.status(task_id) for task_id in (taken, waiting, later)] == [DONE] * 3
    assert device.is_connected()


@pytest.mark.embedded
def test_a_server_that_stops_says_so_to_devices(new_server, new_api, tmp_path, connect):
    server = new_server()
    device = connect(server, new_api(server).register(tmp_path))
    assert server.stop() == 0
    assert device.expect_disconnect() == (0x8B, True), "server shutting down"


@pytest.mark.parametrize("goes", ["close", "drop"])
def test_a_device_that_comes_back_at_once_is_let_in(api, server, identity, connect, goes):
    for _ in range(10):
        device = connect(server, identity)
        task_id = api.create(identity)
        assert device.expect("tsk").task_id == task_id
        device.finish(task_id)
        getattr(device, goes)()
