"""One call brings the answer of the device: `?wait=` (rest-api.md "Tasks")."""

import threading
import time

import httpx
import pytest

from testbed.answering import Answering
from testbed.api import DELETED, DONE, READY, is_problem

pytestmark = pytest.mark.every_shape


def test_one_call_brings_the_answer_of_the_device(api, device):
    Answering(device)
    answer = api.request_task(device, wait=20, payload={"cl": 5})
    assert answer.status_code == 200
    task = answer.json()
    assert task["status"] == DONE and task["results"][0]["result"] == {"cl": 5}
    assert task == api.task(task["id"]), "as GET would give it"


def test_a_failure_ends_the_wait_too(api, device):
    Answering(device, status_code=500)
    answer = api.request_task(device, wait=20)
    assert answer.status_code == 200 and answer.json()["status_name"] == "FAILED"


def test_when_the_wait_ends_before_the_task_202_says_where_to_ask(api, identity):
    began = time.monotonic()
    answer = api.request_task(identity, wait=1)
    assert 0.9 <= time.monotonic() - began < 4
    assert answer.status_code == 202 and answer.json()["status"] == READY
    task_id = answer.json()["id"]
    location = httpx.URL(api.root).join(answer.headers["location"])
    assert location.path.rstrip("/") == f"/api/v1/device-tasks/{task_id}"
    assert api.get(location).json()["id"] == task_id


def test_a_task_can_be_waited_for_later_and_by_many(api, server, new_api, device):
    task_id = api.create(device)
    answers = []
    callers = [new_api(server) for _ in range(8)]
    waits = [
        threading.Thread(target=lambda caller=caller: answers.append(caller.task(task_id, wait=20)))
        for caller in callers
    ]
    for wait in waits:
        wait.start()
    time.sleep(0.3)
    device.take(task_id)
    device.finish(task_id, 206, '{"part":1}', ext_id=1)
    time.sleep(0.3)
    assert not answers, "a partial result ends no wait"
    device.finish(task_id, 200, '{"all":1}', ext_id=2)
    for wait in waits:
        wait.join(10)
    assert [answer["status"] for answer in answers] == [DONE] * 8
    assert {len(answer["results"]) for answer in answers} == {2}


def test_waiting_for_what_is_final_takes_no_time(api, device):
    task_id = api.create(device)
    device.take(task_id)
    device.finish(task_id)
    began = time.monotonic()
    assert api.task(task_id, wait=30)["status"] == DONE
    assert time.monotonic() - began < 2


def test_a_deletion_ends_the_wait(api, server, new_api, identity):
    task_id = api.create(identity)
    deletion = threading.Timer(0.5, lambda: new_api(server).delete(f"/device-tasks/{task_id}"))
    deletion.start()
    assert api.task(task_id, wait=20)["status"] == DELETED
    deletion.join()


def test_a_wait_of_0_answers_at_once(api, identity):
    assert api.request_task(identity, wait=0).status_code == 202
    assert api.get(f"/device-tasks/{api.create(identity)}", params={"wait": 0}).status_code == 202


@pytest.mark.parametrize("wait", ["61", "-1", "x", "1e99", ""])
def test_a_wait_out_of_its_range_makes_no_task(api, identity, wait):
    body = {"ext_task_id": "w", "device_id": identity.device_id}
    assert is_problem(api.post("/device-tasks", json=body, params={"wait": wait}), 422)
    assert api.get("/device-tasks", params={"device_id": identity.device_id}).json()["total"] == 0


def test_who_hangs_up_while_waiting_still_made_the_task(api, identity):
    with pytest.raises(httpx.ReadTimeout):
        body = {"ext_task_id": "hung-up", "device_id": identity.device_id, "ttl": 5}
        api.post("/device-tasks", json=body, params={"wait": 30}, timeout=0.5)
    listed = api.get("/device-tasks", params={"device_id": identity.device_id}).json()
    assert [(row["ext_task_id"], row["status"]) for row in listed["items"]] == [("hung-up", READY)]
