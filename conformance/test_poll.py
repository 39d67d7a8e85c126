"""The poll path: the device asks, the best task comes (device-rpc "req, poll")."""

import pytest

from testbed.api import LOCK, PENDING, READY
from testbed.broker import LINK
from testbed.device import POLL


@pytest.fixture
def poller(server, identity, connect):
    """A device that never listens for announcements."""
    return connect(server, identity, "rsp", "cmt")


@pytest.mark.parametrize(
    "how",
    [
        {"correlation": None},
        {"correlation": POLL},
        {"correlation": bytes(16)},
        {"correlation": POLL.replace("-", "")},
        {"correlation": None, "properties": {"correlationData": POLL}},
    ],
    ids=["none", "zero text", "zero bytes", "zero digits", "zero property"],
)
def test_no_correlation_and_the_zero_uuid_ask_for_the_next_task(api, poller, how):
    task_id = api.create(poller)
    assert poller.publish(f"dev/{poller.sn}/req", **how) == 0
    assert poller.expect("rsp").task_id == task_id
    assert api.status(task_id) == LOCK


def test_priority_then_soonest_expiry_then_age_decide(api, poller):
    asked = [(1, 60), (5, 60), (9, 60), (5, 10), (5, 60), (9, 5), (0, 1)]
    created = [api.create(poller, priority=priority, ttl=ttl) for priority, ttl in asked]
    expected = [created[index] for index in (5, 2, 3, 1, 4, 0, 6)]
    assert [poller.take().task_id for _ in asked] == expected


def test_a_task_that_was_acknowledged_is_polled_too(api, poller):
    task_id = api.create(poller)
    poller.ack(task_id)
    api.settled(task_id, PENDING)
    assert poller.take().task_id == task_id


def test_nothing_to_do_is_said(poller):
    assert poller.take()["method_code"] == "0"


def test_a_task_that_was_taken_is_not_polled_again_within_its_lease(api, poller):
    api.create(poller)
    poller.take()
    assert poller.take()["method_code"] == "0"


def test_a_push_only_task_is_never_polled(api, poller):
    task_id = api.create(poller, ttl=0)
    assert poller.take()["method_code"] == "0"
    assert api.status(task_id) == READY
    assert poller.take(task_id).task_id == task_id, "asked for by its id it is given out"


def test_polls_on_each_others_heels_never_get_the_same_task(api, poller):
    created = {api.create(poller) for _ in range(30)}
    for _ in range(35):
        poller.send(f"dev/{poller.sn}/req", correlation=POLL)
    taken = [poller.expect("rsp").task_id for _ in range(35)]
    given = [task_id for task_id in taken if task_id != POLL]
    assert len(given) == 30 and set(given) == created
    assert not LINK.keeps_order or given == taken[:30]


def test_another_devices_tasks_are_not_polled(api, poller, victim_identity):
    task_id = api.create(victim_identity)
    assert poller.take()["method_code"] == "0"
    assert api.status(task_id) == READY
