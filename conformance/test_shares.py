"""Nobody takes what others need: one key has a share of what waits and streams, and the rest is there for the others."""

import contextlib
import json
import ssl

import httpx
import pytest

from testbed.api import RIGHTS, Api, is_problem
from testbed.http2_client import Http2

pytestmark = pytest.mark.embedded

STREAMS_OF_A_CONNECTION = 256
# Callers that wait, and streams: of a key.
WAITERS_MAX, STREAMS_MAX = 2_500, 2_000


@pytest.fixture(scope="module")
def busy_server(tmp_path_factory):
    from testbed.server import Server

    server = Server(tmp_path_factory.mktemp("busy") / "data")
    try:
        yield server.start()
    finally:
        server.drop()
    assert not server.panics()


def taken(server, path: str, count: int, key: str, held: contextlib.ExitStack) -> list[Http2]:
    """Asks so many times for that, over as many connections as it takes."""
    connections = []
    while count:
        connection = held.enter_context(Http2(server.https, server.ca))
        # What the server allows is known once its settings are there.
        assert connection.listen(10, lambda: connection.is_settled)
        for _ in range(min(count, STREAMS_OF_A_CONNECTION)):
            connection.ask(path, key=key)
            count -= 1
        connections.append(connection)
    return connections


def refusals(connections: list[Http2]) -> list[tuple[Http2, int]]:
    return [
        (connection, stream)
        for connection in connections
        for stream, status in connection.statuses.items()
        if status == 429
    ]


def assert_refused(connections: list[Http2], count: int) -> None:
    """So many are refused, because the key has its share."""
    for connection in connections:
        connection.listen(1.0, lambda: len(refusals(connections)) == count)
    refused = refusals(connections)
    assert len(refused) == count
    for connection, stream in refused:
        assert connection.listen(10, lambda: stream in connection.ended)
        document = json.loads(connection.bodies[stream])
        assert document["type"] == "urn:covey:problem:limit-reached" and "share" in document["detail"], document
        assert "credential" in document["detail"] and int(connection.headers[stream]["retry-after"]) >= 1


def test_callers_of_one_key_that_wait_leave_the_rest_to_others(busy_server, tmp_path):
    server = busy_server
    trusted = ssl.create_default_context(cafile=str(server.ca))
    with Api(server.https, server.key, verify=trusted) as api, contextlib.ExitStack() as held:
        device = api.register(tmp_path)
        greedy, modest = api.key_with(["tasks:read"]), api.key_with(RIGHTS)
        task = api.create(device, ttl=60)
        more = 60
        connections = taken(server, f"/api/v1/device-tasks/{task}?wait=60", WAITERS_MAX + more, greedy, held)
        assert_refused(connections, more)
        assert server.metric("covey_shares_full_total", what="waiters", holder="key") >= more
        # The same key still calls: who waits does not run.
        assert httpx.get(
            f"{server.https}/api/v1/device-tasks/{task}", headers={"x-api-key": greedy}, verify=trusted
        ).is_success
        for path in ("/healthz", "/readyz"):
            assert httpx.get(f"{server.https}{path}", verify=trusted).status_code == 200, path
        with Api(server.https, modest, verify=trusted) as other:
            assert other.request_task(device, wait=0.1).status_code == 202
            assert other.get(f"/device-tasks/{task}", params={"wait": 0.1}).status_code == 202
    # Who has gone has given back what it had.
    with Api(server.http, greedy) as again:
        assert again.get(f"/device-tasks/{task}", params={"wait": 0.1}).status_code == 202


def test_streams_of_one_key_leave_the_rest_to_others(busy_server):
    server = busy_server
    with Api(server.http, server.key) as api, contextlib.ExitStack() as held:
        greedy, modest = api.key_with(["events:read"]), api.key_with(["events:read"])
        more = 48
        connections = taken(server, "/api/v1/stream", STREAMS_MAX + more, greedy, held)
        assert_refused(connections, more)
        assert server.metric("covey_streams") == STREAMS_MAX
        # By the same key nothing else is refused, and by another not even a stream.
        with Api(server.http, greedy) as same:
            assert same.get("/device-events").status_code == 200
            assert is_problem(same.get("/stream"), 429)
        headers = {"x-api-key": modest}
        with httpx.stream("GET", f"{server.http}/api/v1/stream", headers=headers) as stream:
            assert stream.status_code == 200
