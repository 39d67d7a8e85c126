"""A device can neither read nor finish nor acknowledge another device's task, even if it knows its id
(device-rpc "What each step does")."""

import uuid

import pytest

from testbed.api import DONE, LOCK, READY
from testbed.broker import LINK


@pytest.fixture
def victim(server, connect, victim_identity):
    return connect(server, victim_identity)


@pytest.fixture
def task_id(api, victim):
    """A task of the victim, which has been told of it."""
    task_id = api.create(victim, payload={"secret": "4711"})
    victim.expect("tsk")
    return task_id


FORMS = [str.encode, lambda task_id: uuid.UUID(task_id).bytes, lambda task_id: uuid.UUID(task_id).urn.encode()]


@pytest.mark.parametrize("form", FORMS, ids=["text", "bytes", "urn"])
def test_it_cannot_be_read(api, device, victim, task_id, form):
    answer = device.take(form(task_id))
    assert answer["method_code"] == "0" and b"4711" not in answer.body
    assert api.status(task_id) == READY
    assert victim.take(task_id).body == b'{"secret":"4711"}'


def test_it_cannot_be_read_while_its_own_device_has_it(api, device, victim, task_id):
    victim.take(task_id)
    assert device.take(task_id)["method_code"] == "0"
    assert api.task(task_id)["status"] == LOCK


def test_it_cannot_be_acknowledged(api, device, task_id):
    device.ack(task_id)
    LINK.settle()
    assert api.status(task_id) == READY
    assert api.steps(task_id) == ["READY"]


@pytest.mark.parametrize("code", [200, 206, 500])
@pytest.mark.parametrize("form", FORMS, ids=["text", "bytes", "urn"])
def test_it_cannot_be_finished(api, server, device, victim, task_id, form, code):
    refused = server.refusals("unknown_task")
    assert LINK.is_refusal(device.res(form(task_id), code, '{"forged":1}'))
    assert device.is_quiet("cmt", seconds=0.3) and victim.is_quiet("cmt", seconds=0)
    task = api.task(task_id)
    assert task["status"] == READY and task["results"] == []
    assert LINK.counts(server, "unknown_task", refused + 1)


def test_a_result_cannot_be_added_to_it_afterwards(api, device, victim, task_id):
    victim.take(task_id)
    victim.finish(task_id, 200, '{"true":1}')
    assert LINK.is_refusal(device.res(task_id, 200, '{"true":1}')), "not even the same one again"
    assert device.is_quiet("cmt", seconds=0.3)
    task = api.task(task_id)
    assert task["status"] == DONE
    assert [result["result"] for result in task["results"]] == [{"true": 1}]


def test_whether_it_exists_is_not_told(device, task_id):
    unknown = "01901f2e-3d4c-7b5a-8877-665544332211"
    for step in (device.ack, device.res):
        assert step(task_id) == step(unknown)
    assert device.take(task_id).body == device.take(unknown).body
