"""Over HTTP/2 a client that takes nothing, or says nothing, holds neither memory nor a place for long."""

import contextlib
import ssl
import time

import httpx
import pytest

from testbed.api import Api
from testbed.http2_client import Http2
from testbed.server import Server

pytestmark = pytest.mark.embedded

# The server gives up after 30 s; it may be busy with other tests beside.
GIVEN_UP_SECONDS = 30.0
GIVEN_UP_SECONDS_MAX = 60.0
LARGE = "/openapi.json"
CANCEL = 8
WIDE = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def own_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("http2") / "data")
    try:
        yield server.start()
    finally:
        server.drop()
    assert not server.panics()


def test_a_stream_of_which_nothing_is_taken_ends_alone(own_server, tmp_path):
    server = own_server
    with (
        Api(server.http, server.key) as api,
        Http2(server.https, server.ca, takes=False) as connection,
    ):
        device = api.register(tmp_path)
        task = api.create(device, ttl=60)
        # What one stream does not take is no reason for another to wait.
        connection.protocol.increment_flow_control_window(WIDE)
        quiet = connection.ask("/api/v1/stream", key=server.key)
        waiting = connection.ask(f"/api/v1/device-tasks/{task}?wait=60", key=server.key)
        assert connection.listen(10, lambda: quiet in connection.bodies)
        began = time.monotonic()
        stuck = [connection.ask(LARGE) for _ in range(5)]
        packed = [connection.ask(LARGE, **{"accept-encoding": "gzip"}) for _ in range(5)]
        assert connection.listen(10, lambda: all(stream in connection.bodies for stream in stuck))
        # Compressed it fits into what was given unasked.
        assert connection.listen(10, lambda: all(stream in connection.ended for stream in packed))
        assert connection.listen(GIVEN_UP_SECONDS_MAX, lambda: all(stream in connection.resets for stream in stuck))
        assert time.monotonic() - began >= GIVEN_UP_SECONDS - 2
        assert {connection.resets[stream] for stream in stuck} == {CANCEL}
        assert not any(stream in connection.ended for stream in stuck)
        # The others on the connection go on, and so does the connection.
        assert connection.listen(GIVEN_UP_SECONDS_MAX, lambda: waiting in connection.statuses)
        assert connection.statuses[waiting] == 202
        sent = len(connection.bodies[quiet])
        api.create(device)
        assert connection.listen(10, lambda: len(connection.bodies[quiet]) > sent)
        assert quiet not in connection.resets and not connection.is_closed


def test_streams_that_may_send_nothing_at_all_end(own_server):
    with Http2(own_server.https, own_server.ca, window=0) as connection:
        # Large ones only as many as there is room for: the next request would wait for that.
        stuck = [connection.ask(path) for path in ["/healthz"] * 100 + [LARGE] * 2]
        assert connection.listen(30, lambda: all(stream in connection.statuses for stream in stuck))
        assert connection.listen(GIVEN_UP_SECONDS_MAX, lambda: all(stream in connection.resets for stream in stuck))
        assert set(connection.resets.values()) == {CANCEL} and not connection.is_closed


def test_where_much_waits_a_small_answer_ends_alone(own_server):
    with Http2(own_server.https, own_server.ca, window=5, takes=False) as connection:
        stuck = [connection.ask(LARGE)]
        assert connection.listen(10, lambda: stuck[0] in connection.statuses)
        stuck += [connection.ask(path) for path in ("/healthz", "/readyz")]
        assert connection.listen(10, lambda: all(stream in connection.statuses for stream in stuck))
        assert connection.listen(
            GIVEN_UP_SECONDS_MAX, lambda: all(stream in connection.resets for stream in stuck)
        )
        # The connection goes on.
        asked = connection.ask("/healthz")
        assert connection.listen(10, lambda: asked in connection.statuses) and not connection.is_closed


def test_bodies_that_are_coming_hold_up_no_other_request(own_server):
    """Eight bodies of 200 kB, of which each waits for its end, are more than a connection may leave of its answers."""
    with Http2(own_server.https, own_server.ca) as connection:
        assert connection.listen(10, lambda: connection.is_settled)
        body = b'{"more":"' + b"x" * 200_000 + b'"}'
        uploads = [
            connection.ask("/api/v1/device-tasks", method="POST", key=own_server.key, has_body=True) for _ in range(8)
        ]
        for stream in uploads:
            connection.send(stream, body[:-2], is_last=False, seconds=10)
        asked = connection.ask("/api/v1/whoami", key=own_server.key)
        assert connection.listen(10, lambda: asked in connection.ended)
        assert connection.statuses[asked] == 200
        for stream in uploads:
            connection.send(stream, body[-2:], is_last=True, seconds=10)
        assert connection.listen(10, lambda: all(stream in connection.ended for stream in uploads))
        assert {connection.statuses[stream] for stream in uploads} == {422}


def test_a_connection_that_does_not_take_the_end_of_a_small_answer_ends(own_server):
    def stalled() -> float:
        return own_server.metric("covey_http_connections_ended_total", reason="stalled")

    before = stalled()
    with Http2(own_server.https, own_server.ca, window=5, takes=False) as connection:
        stream = connection.ask("/healthz")
        assert connection.listen(10, lambda: stream in connection.bodies)
        # Another one that is open does not keep it.
        connection.ask("/api/v1/stream", key=own_server.key)
        assert not connection.listen(GIVEN_UP_SECONDS_MAX, lambda: stream in connection.ended)
        assert connection.is_closed
    assert stalled() > before


def test_a_connection_without_a_stream_ends_whatever_it_answers(own_server):
    with contextlib.ExitStack() as held:
        connections = [held.enter_context(Http2(own_server.https, own_server.ca)) for _ in range(20)]
        for connection in connections:
            stream = connection.ask("/healthz")
            assert connection.listen(10, lambda: stream in connection.ended)
        began = time.monotonic()
        while time.monotonic() - began < GIVEN_UP_SECONDS_MAX:
            for connection in connections:
                if not connection.is_closed and not connection.said_goodbye:
                    with contextlib.suppress(OSError):
                        connection.protocol.ping(b"12345678")
                        connection.flush()
                connection.listen(0.05)
            if all(connection.is_closed or connection.said_goodbye for connection in connections):
                break
            time.sleep(1)
        ended_after = time.monotonic() - began
        assert all(connection.is_closed or connection.said_goodbye for connection in connections)
        assert ended_after >= GIVEN_UP_SECONDS - 3, ended_after
        # Those that stay after the goodbye are not waited for.
        for connection in connections:
            connection.listen(15, lambda: connection.is_closed)
            assert connection.is_closed


def test_answers_that_nobody_takes_take_little_and_hold_nobody_up(new_server):
    server = new_server()
    trusted = ssl.create_default_context(cafile=str(server.ca))
    memory = "process_resident_memory_bytes"
    before = server.metric(memory)
    streams, most = 250, 0.0
    with contextlib.ExitStack() as held, httpx.Client(verify=trusted) as victim:
        connections = [
            held.enter_context(Http2(server.https, server.ca, window=0)) for _ in range(60)
        ]
        for connection in connections:
            assert connection.listen(10, lambda: connection.is_settled)
            for number in range(streams):
                path = ("/docs/swagger-ui-bundle.js", LARGE, "/docs/swagger-ui.css")[number % 3]
                encoding = {"accept-encoding": "gzip"} if number % 2 else {}
                connection.ask(path, **encoding)
            most = max(most, server.metric(memory))
            began = time.monotonic()
            assert victim.get(f"{server.https}/readyz").status_code == 200
            assert time.monotonic() - began < 5.0
        assert server.metric("covey_http_unsent_bytes") <= 80 * 1024 * 1024
        most = max(most, server.metric(memory))
    assert most - before <= 250 * 1024 * 1024, f"{(most - before) / 1024 / 1024:.0f} MiB"
    # It is given back when they are gone.
    deadline = time.monotonic() + 30
    while server.metric("covey_http_unsent_bytes") > 1024 * 1024:
        assert time.monotonic() < deadline
        time.sleep(0.2)
