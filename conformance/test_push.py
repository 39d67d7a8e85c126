"""The push path: a task is announced, taken and finished (device-rpc "What each step does")."""

import pytest

from testbed.api import DELETED, DONE, LOCK, PENDING, READY
from testbed.broker import LINK

pytestmark = pytest.mark.every_shape


def test_a_task_goes_from_ready_over_pending_and_lock_to_done(api, device):
    task_id = api.create(device, payload={"dt": [{"cl": 5}]})
    announced = device.expect("tsk")
    assert announced.task_id == task_id
    assert api.status(task_id) == READY

    assert device.ack(task_id) == 0
    task = api.settled(task_id, PENDING)
    assert task["status_name"] == "PENDING"
    assert task["pending_at"] >= task["created_at"] and task["locked_at"] is None

    taken = device.take(task_id)
    assert (taken.task_id, taken.body) == (task_id, b'{"dt":[{"cl":5}]}')
    task = api.task(task_id)
    assert task["status"] == LOCK and task["locked_at"] >= task["pending_at"]

    device.finish(task_id, 200, '{"cl":5,"state":"open"}')
    task = api.task(task_id)
    assert task["status"] == DONE
    assert [result["result"] for result in task["results"]] == [{"cl": 5, "state": "open"}]
    assert api.steps(task_id) == ["READY", "PENDING", "LOCK", "DONE"]


def test_an_ack_may_be_left_out(api, device):
    task_id = api.create(device)
    device.expect("tsk")
    device.take(task_id)
    device.finish(task_id)
    assert api.steps(task_id) == ["READY", "LOCK", "DONE"]
    assert api.task(task_id)["pending_at"] is None


def test_an_ack_that_comes_again_or_late_changes_nothing(api, device):
    task_id = api.create(device)
    device.expect("tsk")
    device.ack(task_id)
    pending_at = api.settled(task_id, PENDING)["pending_at"]
    device.ack(task_id)
    LINK.settle()
    assert api.task(task_id)["pending_at"] == pending_at
    device.take(task_id)
    device.ack(task_id)
    LINK.settle()
    assert api.status(task_id) == LOCK
    device.finish(task_id)
    device.ack(task_id)
    LINK.settle()
    assert api.steps(task_id) == ["READY", "PENDING", "LOCK", "DONE"]


def test_the_announcement_does_not_wait_for_the_device_to_ask(api, device):
    first = api.create(device)
    second = api.create(device)
    assert [device.expect("tsk").task_id, device.expect("tsk").task_id] == [first, second]


def test_a_req_of_any_qos_is_answered(api, device):
    for qos in range(LINK.qos_max + 1):
        task_id = api.create(device, payload={"qos": qos})
        device.expect("tsk")
        device.req(task_id, qos=qos)
        assert device.expect("rsp").task_id == task_id


def test_a_repeated_req_gets_the_same_rsp_again(api, device):
    task_id = api.create(device, method_code=51, method="open", payload={"dt": [{"cl": 5}]})
    device.expect("tsk")
    first, again = device.take(task_id), device.take(task_id)
    assert (again.task_id, again.body) == (first.task_id, first.body)
    assert dict(again.properties) == dict(first.properties)
    assert api.steps(task_id) == ["READY", "LOCK"]


def test_a_deleted_task_is_not_given_out(api, device):
    task_id = api.create(device)
    device.expect("tsk")
    answer = api.delete(f"/device-tasks/{task_id}")
    assert answer.status_code == 200 and answer.json()["id"] == task_id
    assert device.take(task_id)["method_code"] == "0"
    assert api.status(task_id) == DELETED


def test_a_finished_task_is_not_given_out_again(api, device):
    task_id = api.create(device)
    device.expect("tsk")
    device.take(task_id)
    device.finish(task_id)
    assert device.take(task_id)["method_code"] == "0"
    assert api.status(task_id) == DONE


def test_a_task_that_nobody_made_is_answered_with_nothing_to_do(device):
    assert device.take("01901f2e-3d4c-7b5a-8877-665544332211")["method_code"] == "0"


def test_a_device_that_is_away_is_not_announced_to_until_it_comes(api, server, identity, connect):
    task_id = api.create(identity)
    assert api.status(task_id) == READY
    assert connect(server, identity).expect("tsk").task_id == task_id


def test_a_device_that_does_not_listen_for_announcements_hears_none(api, server, identity, connect):
    device = connect(server, identity, "rsp", "cmt")
    task_id = api.create(identity)
    assert device.is_quiet()
    device.take(task_id)
    device.finish(task_id)
    assert api.status(task_id) == DONE


def test_one_subscription_with_a_wildcard_hears_everything_of_its_own(api, server, identity, connect):
    device = connect(server, identity, "#")
    task_id = api.create(identity)
    assert device.expect("tsk").task_id == task_id
    assert device.take(task_id).task_id == task_id
    assert device.finish(task_id).task_id == task_id
