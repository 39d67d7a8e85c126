"""Presence: whether a device is connected, since when and why not, told at once and kept as events."""

import subprocess
import time

import pytest

from testbed.broker import LINK
from testbed.server import BINARY

pytestmark = pytest.mark.every_shape

ONLINE, OFFLINE = -1, -2


def connection(api, device) -> dict:
    return api.get("/devices", params={"device_id": device.device_id}).json()[0]["connection"]


def told(api, device) -> list[tuple[bool, str]]:
    """What was told of the device, oldest first."""
    params = {"device_id": device.device_id, "events_include": [ONLINE, OFFLINE], "size": 100}
    items = api.get("/device-events", params=params).json()["items"]
    return [(item["payload"]["online"], item["payload"]["reason"]) for item in reversed(items)]


def wait_for(check, seconds: float = 2.0):
    deadline = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_coming_and_going_is_true_within_two_seconds_and_kept_with_its_reason(api, server, identity, connect):
    device = connect(server, identity)
    assert wait_for(lambda: (connection(api, device) or {}).get("last_checked_result"))
    assert wait_for(lambda: told(api, device) == [(True, "connected")])
    device.close()
    assert wait_for(lambda: not connection(api, device)["last_checked_result"])
    assert wait_for(lambda: len(told(api, device)) == 2)
    online, reason = told(api, device)[1]
    assert not online and reason in LINK.reasons("clean")


def test_lists_of_events_show_it_to_those_who_name_it(api, server, identity, connect):
    device = connect(server, identity)
    assert wait_for(lambda: told(api, device) == [(True, "connected")])
    own = {"device_id": device.device_id}
    page = api.get("/device-events", params=own).json()
    assert (page["items"], page["total"]) == ([], 0)
    after_all = {**own, "last_event_id": 0}
    assert api.get("/device-events/incremental", params=after_all).json() == []
    (noted,) = api.get("/device-events/incremental", params={**after_all, "events_include": [ONLINE, 13]}).json()
    assert (noted["event_type_code"], noted["payload"]["online"]) == (ONLINE, True)


@pytest.mark.embedded
def test_no_device_stays_connected_to_a_server_that_had_another_name(new_server, new_api, connect, tmp_path):
    """A container has another host name each time, and a backup comes up on another machine."""
    server = new_server("--server-name", "before")
    identity = new_api(server).register(tmp_path)
    device = connect(server, identity)
    api = new_api(server)
    assert wait_for(lambda: (connection(api, device) or {}).get("last_checked_result"))
    server.kill()
    device.close()
    server.options = ("--server-name", "after")
    api = new_api(server.start())
    assert not connection(api, device)["last_checked_result"]


def test_a_connection_that_breaks_is_told_as_lost(api, server, identity, connect):
    device = connect(server, identity)
    assert wait_for(lambda: told(api, device) == [(True, "connected")])
    device.drop()
    assert wait_for(lambda: len(told(api, device)) == 2)
    assert told(api, device)[1][1] in LINK.reasons("lost")


@pytest.mark.embedded
def test_another_connection_of_the_same_device_takes_over(api, server, identity, connect):
    connect(server, identity)
    assert wait_for(lambda: told(api, identity) == [(True, "connected")])
    connect(server, identity)
    wanted = [(True, "connected"), (False, "taken_over"), (True, "connected")]
    assert wait_for(lambda: told(api, identity) == wanted), told(api, identity)
    assert connection(api, identity)["last_checked_result"]


@pytest.mark.embedded
def test_a_keep_alive_that_runs_out_is_told(api, server, identity, connect):
    device = connect(server, identity, keep_alive=1)
    assert wait_for(lambda: told(api, device) == [(True, "connected")])
    device.freeze()
    assert wait_for(lambda: (False, "keep_alive") in told(api, device), 5.0), told(api, device)


def test_a_device_that_comes_and_goes_all_the_time_is_told_of_a_few_times_and_truly_in_the_end(
    api, server, identity, connect
):
    for _ in range(12):
        connect(server, identity).close()
    last = connect(server, identity)
    time.sleep(1.0)
    assert len(told(api, last)) <= 11
    assert connection(api, last)["last_checked_result"]
    assert wait_for(lambda: told(api, last)[-1] == (True, "connected"), 15.0), told(api, last)


def test_a_call_to_a_device_that_is_away_says_at_once_since_when_and_how_long_it_waits(api, server, identity, connect):
    device = connect(server, identity)
    assert wait_for(lambda: (connection(api, device) or {}).get("last_checked_result"))
    device.close()
    assert wait_for(lambda: not connection(api, device)["last_checked_result"])
    command = [str(BINARY), "call", identity.sn, "51", "--data", str(server.data)]
    environment = server.environment() | {"COVEY_KEY": server.key}
    calling = subprocess.Popen([*command, "--wait", "60"], stderr=subprocess.PIPE, text=True, env=environment)
    try:
        first = calling.stderr.readline()
        assert calling.poll() is None, "it is said before the wait is over"
    finally:
        calling.kill()
        calling.communicate(timeout=20)
    assert f"{identity.sn} is offline since 20" in first and "waiting for 60 s" in first, first
    quiet = [*command, "--wait", "1", "--json"]
    quiet = subprocess.run(quiet, capture_output=True, text=True, timeout=60, env=environment)
    assert quiet.returncode == 3 and "offline" not in quiet.stderr, quiet.stderr
