"""What a device, a key and an organisation may ask: weighed in units and bytes, held back first and then refused, with
nothing lost that was acknowledged (operating.md "Budgets")."""

import json
import time

import pytest

from testbed.api import is_problem
from testbed.raw_device import RawDevice

QUOTA_EXCEEDED = 0x97


def event(values: int) -> str:
    """An event that reports so many values."""
    return json.dumps({"reported": {f"r{number}": number for number in range(values)}})


def total_of(api, device) -> int:
    params = {"device_id": device.device_id, "events_exclude": [-1, -2], "size": 1}
    return api.get("/device-events", params=params).json()["total"]


@pytest.mark.embedded
def test_events_that_report_many_values_weigh_as_many_and_nothing_acknowledged_is_lost(
    new_server, new_api, connect, tmp_path
):
    server = new_server()
    api = new_api(server)
    device = connect(server, api.register(tmp_path), "-")
    properties = {"event_type_code": 13}
    began = time.monotonic()
    for number in range(1, 61):
        device.send(f"dev/{device.sn}/evt", event(249), properties={**properties, "dev_event_id": number})
    device._wait("PUBACKs", lambda: len(device.acks) == 60, 60)
    took = time.monotonic() - began
    taken = sum(code == 0 for code in device.acks.values())
    assert set(device.acks.values()) <= {0, 0x97}
    assert total_of(api, device) == taken
    # 2,000 units at once, 200 a second; each of them weighs 250.
    assert taken <= (2_000 + 200 * took) / 250 + 1
    assert server.refusals("flood") == 60 - taken
    # Another one is not held up.
    other = connect(server, api.register(tmp_path), "-")
    assert other.publish(f"dev/{other.sn}/evt", event(200), properties=properties) == 0


@pytest.mark.embedded
def test_a_device_beyond_its_budget_is_held_before_it_is_refused(new_server, new_api, connect, tmp_path):
    server = new_server("--events-per-second-max", "20")
    api = new_api(server)
    device = connect(server, api.register(tmp_path), "-")
    for number in range(1, 211):
        code = device.publish(f"dev/{device.sn}/evt", "{}", properties={"event_type_code": 13, "dev_event_id": number})
        assert code == 0, f"event {number}: the socket is not read for a moment, and nothing is refused"
    assert total_of(api, device) == 210 and server.refusals("flood") == 0


@pytest.mark.embedded
def test_the_bytes_of_a_day_are_bounded(new_server, new_api, connect, tmp_path):
    server = new_server("--device-bytes-per-day-max", "1MiB")
    api = new_api(server)
    device = connect(server, api.register(tmp_path), "-")
    body = json.dumps({"text": "x" * 60_000})
    codes = [device.publish(f"dev/{device.sn}/evt", body, properties={"event_type_code": 13}) for _ in range(25)]
    assert codes[:17] == [0] * 17 and set(codes[19:]) == {0x97}, codes


def test_an_application_beyond_its_budget_gets_429_and_may_still_delete(new_server, new_api, tmp_path):
    server = new_server("--organisation-bytes-per-second-max", "1MiB")
    api = new_api(server)
    device = api.register(tmp_path)
    ids, answer = [], None
    for _ in range(200):
        answer = api.request_task(device, payload={"text": "x" * 250_000})
        if answer.status_code != 200:
            break
        ids.append(answer.json()["id"])
    # A key may bring half of what its organisation may, 16 seconds' worth at once.
    assert 33 <= len(ids) < 60
    assert is_problem(answer, 429) and int(answer.headers["retry-after"]) >= 1
    assert "API key" in answer.json()["detail"]
    assert server.refusals("budget") >= 1
    assert api.delete(f"/device-tasks/{ids[0]}").status_code == 200
    assert api.get(f"/device-tasks/{ids[1]}").status_code == 200
    deadline = time.monotonic() + 10
    while api.request_task(device, payload={"text": "x" * 1_000}).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.embedded
def test_subscriptions_that_change_again_and_again_are_weighed(new_server, new_api, connect, tmp_path):
    """Each change of a session that is kept is a commit, and weighs four units."""
    server = new_server("--events-per-second-max", "10")
    identity = new_api(server).register(tmp_path)
    device = connect(server, identity, "-", session_seconds=300)
    changes = 0
    with pytest.raises((ConnectionError, AssertionError)):
        while changes < 200:
            device.subscribe(f"srv/{device.sn}/tsk")
            device.unsubscribe(f"srv/{device.sn}/tsk")
            changes += 2
    # 100 units at once, and 10 more in the second for which it is held.
    assert 20 <= changes <= 40
    assert device.expect_disconnect() == (QUOTA_EXCEEDED, True)


@pytest.mark.embedded
def test_pings_are_weighed(new_server, new_api, tmp_path):
    server = new_server("--events-per-second-max", "1")
    with RawDevice(server, new_api(server).register(tmp_path)) as device:
        device.connect()
        for _ in range(400):
            device.ping()
        # Ten units at once are 100 of them, and the rest waits for its turn.
        began, answers = time.monotonic(), 0
        while time.monotonic() - began < 2:
            answers += (found := device.next(0.2)) is not None and found.kind == "PINGRESP"
        assert 100 <= answers <= 150, answers
