"""A request that is repeated under its key is carried out once (rest-api.md "Tasks")."""

import threading
import uuid

import pytest

from testbed.answering import Answering
from testbed.api import DONE, is_problem

pytestmark = pytest.mark.every_shape


def test_the_same_key_and_body_make_one_task(api, identity):
    key = uuid.uuid4().hex
    first = api.request_task(identity, key=key, payload={"a": 1})
    assert "idempotent-replayed" not in first.headers
    for _ in range(3):
        again = api.request_task(identity, key=key, payload={"a": 1})
        assert again.status_code == 200 and again.json() == first.json()
        assert again.headers["idempotent-replayed"] == "true"
    assert api.get("/device-tasks", params={"device_id": identity.device_id}).json()["total"] == 1


def test_the_same_key_with_another_body_is_refused(api, identity):
    key = uuid.uuid4().hex
    api.request_task(identity, key=key, payload={"a": 1})
    assert is_problem(api.request_task(identity, key=key, payload={"a": 2}), 422)
    assert api.get("/device-tasks", params={"device_id": identity.device_id}).json()["total"] == 1


def test_many_at_once_with_one_key_make_one_task(api, server, new_api, identity):
    key, answers = uuid.uuid4().hex, []
    callers = [new_api(server) for _ in range(8)]
    calls = [
        threading.Thread(target=lambda caller=caller: answers.append(caller.request_task(identity, key=key)))
        for caller in callers
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join(20)
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 7


def test_a_repeat_that_waits_gets_the_answer_of_the_first(api, device):
    Answering(device, delay=0.5)
    key = uuid.uuid4().hex
    first = api.request_task(device, key=key).json()
    again = api.request_task(device, key=key, wait=20)
    assert (again.json()["id"], again.json()["status"]) == (first["id"], DONE)
    assert again.headers["idempotent-replayed"] == "true"


def test_keys_of_two_organisations_do_not_meet(api, server, other_api, identity, tmp_path):
    key, theirs = uuid.uuid4().hex, other_api.register(tmp_path)
    ours = api.request_task(identity, key=key).json()["id"]
    answer = other_api.request_task(theirs, key=key)
    assert answer.status_code == 200 and answer.json()["id"] != ours


@pytest.mark.parametrize("key", ["x" * 300, ""])
def test_an_idempotency_key_out_of_its_range_is_refused(api, identity, key):
    body = {"ext_task_id": "k", "device_id": identity.device_id}
    answer = api.post("/device-tasks", json=body, headers={"Idempotency-Key": key})
    assert is_problem(answer, 422)
