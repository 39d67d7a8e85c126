"""What a device and an organisation may keep: with more nothing new is taken, and what runs goes on (operating.md
"Quotas")."""

import json
import time

import pytest

from testbed.api import DONE, LOCK, is_problem

QUOTA_EXCEEDED = 0x97


def tasks_until_refused(api, device, bytes_each: int) -> list[str]:
    """Creates tasks until one is refused for the quota; answers those that were accepted. The store is asked within a
    second what is kept."""
    accepted = []
    for _ in range(100):
        answer = api.request_task(device, ttl=60, payload={"text": "x" * bytes_each})
        if answer.status_code != 200:
            assert is_problem(answer, 429) and answer.json()["type"] == "urn:covey:problem:quota", answer.text
            assert int(answer.headers["retry-after"]) > 0
            return accepted
        accepted.append(answer.json()["id"])
        time.sleep(0.1)
    raise AssertionError("nothing was refused")


def kept_by_default(server) -> float:
    """What the organisation keeps; nothing is said of it before the store was asked."""
    try:
        return server.metric("covey_kept_bytes", organisation="default")
    except AssertionError:
        return 0


def until_taken(api, device, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (answer := api.request_task(device, payload={})).status_code != 200:
        assert is_problem(answer, 429) and time.monotonic() < deadline
        time.sleep(0.2)


def test_a_device_that_keeps_as_much_as_it_may_gets_nothing_new_until_something_is_deleted(
    new_server, new_api, connect, tmp_path
):
    server = new_server("--device-bytes-max", "3MiB")
    api = new_api(server)
    device = connect(server, api.register(tmp_path), "rsp", "cmt")
    other = api.register(tmp_path)
    first = api.create(device)
    device.take(first)
    accepted = tasks_until_refused(api, device, 250_000)
    assert len(accepted) >= 12
    assert server.refusals("quota") >= 1
    # What runs goes on, and another device has a quota of its own.
    device.finish(first, 200, '{"a":1}')
    assert api.settled(first, DONE)["results"]
    assert api.request_task(other, payload={}).status_code == 200
    # What was counted is still known when the server has stopped and begun again.
    server.stop()
    server.start()
    api = new_api(server)
    tasks_until_refused(api, device, 10)
    for task in accepted[:4]:
        assert api.delete(f"/device-tasks/{task}").status_code == 200
    until_taken(api, device, 5)


@pytest.mark.embedded
def test_an_event_beyond_the_quota_is_refused_and_a_gauge_is_not(new_server, new_api, connect, tmp_path):
    server = new_server("--device-bytes-max", "1MiB")
    api = new_api(server)
    device = connect(server, api.register(tmp_path), "-")
    body = json.dumps({"text": "x" * 50_000})
    codes = []
    for _ in range(60):
        codes.append(device.publish(f"dev/{device.sn}/evt", body, properties={"event_type_code": 13}))
        if codes[-1] != 0:
            break
        time.sleep(0.05)
    assert set(codes[:-1]) == {0} and codes[-1] == QUOTA_EXCEEDED and len(codes) > 20
    params = {"device_id": device.device_id, "events_exclude": [-1, -2], "size": 1}
    assert api.get("/device-events", params=params).json()["total"] == len(codes) - 1
    assert device.publish(f"dev/{device.sn}/evt", "{}", properties={"event_type_code": 44}) == 0


def test_an_organisation_that_keeps_as_much_as_it_may_registers_nobody(new_server, new_api, tmp_path):
    server = new_server("--organisation-bytes-max", "2MiB")
    api = new_api(server)
    devices = [api.register(tmp_path) for _ in range(2)]
    for device in devices:
        tasks_until_refused(api, device, 250_000)
    answer = api.post("/devices", json={})
    assert is_problem(answer, 429) and answer.json()["type"] == "urn:covey:problem:quota"
    assert kept_by_default(server) >= 2 << 20


def test_what_a_killed_server_had_counted_is_counted_again(new_server, new_api, tmp_path):
    server = new_server()
    api = new_api(server)
    device = api.register(tmp_path)
    for _ in range(8):
        assert api.request_task(device, ttl=60, payload={"text": "x" * 100_000}).status_code == 200
    deadline = time.monotonic() + 10
    while (kept := kept_by_default(server)) < 800_000:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    server.kill()
    server.start()
    # A database may hold a killed server's locks for a moment; it is looked for again after a minute.
    deadline = time.monotonic() + 75
    while kept_by_default(server) != kept:
        assert time.monotonic() < deadline, kept_by_default(server)
        time.sleep(0.2)
