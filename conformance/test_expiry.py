"""Tasks end when their time runs out (device-rpc "expiry")."""

import time

import pytest

from testbed.api import EXPIRED


@pytest.mark.timeout(180)
def test_tasks_expire_at_their_instant_and_are_gone_for_the_device(api, device):
    one_minute, push_only = api.create(device, ttl=1), api.create(device, ttl=0)
    pending, taken = api.create(device, ttl=1), api.create(device, ttl=1)
    created = {task_id: api.task(task_id)["created_at"] for task_id in (one_minute, push_only, pending, taken)}
    device.ack(pending)
    device.take(taken)

    time.sleep(max(0.0, created[one_minute] + 55 - time.time()))
    assert not any(api.status(task_id) == EXPIRED for task_id in created), "5 s before their time"
    answer = api.get(f"/device-tasks/{one_minute}", params={"wait": 30})
    assert answer.status_code == 200 and answer.json()["status"] == EXPIRED, "who waits is told"
    assert 59 <= time.time() - created[one_minute] <= 63

    for task_id in created:
        task = api.wait_for_status(task_id, EXPIRED, seconds=3)
        assert task["status_name"] == "EXPIRED" and task["header"]["ttl"] == 0
        assert api.steps(task_id)[-1] == "EXPIRED"
        assert device.take(task_id)["method_code"] == "0"
    assert device.take()["method_code"] == "0"

    # The device has done the work all the same: it is kept, and moves nothing.
    assert device.finish(taken, 200, '{"late":true}')["result_id"]
    task = api.task(taken)
    assert task["status"] == EXPIRED
    assert [result["result"] for result in task["results"]] == [{"late": True}]
