"""A stranger who opens connections and says nothing, or begins a handshake and leaves it, keeps nobody out."""

import contextlib
import select
import socket
import ssl
import statistics
import threading
import time

import httpx
import pytest

from testbed.packet import Stream, connect

pytestmark = pytest.mark.embedded

# More than a listener has places for those who have not begun.
STRANGERS = 3_000
# How many they open at once, and after which pause, in seconds: 2,000 in a second.
AT_ONCE, PAUSE = 40, 0.02
# How long a login or a request may take, in seconds, while they are there: on a machine that runs other tests too.
MEDIAN_MAX, LONGEST = 0.5, 5.0


class Strangers:
    """Half-open connections to a port, opened again when the server closes them, for as long as the test wants."""

    def __init__(self, port: int, begin: bytes, count: int):
        self.port, self.begin, self.count = port, begin, count
        self.sockets: dict[int, socket.socket] = {}
        self.is_over = threading.Event()
        self.opened = 0
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> "Strangers":
        self.thread.start()
        deadline = time.monotonic() + 60
        while self.opened < self.count:
            assert time.monotonic() < deadline, self.opened
            time.sleep(0.05)
        return self

    def __exit__(self, *_) -> None:
        self.is_over.set()
        self.thread.join()
        for one in self.sockets.values():
            one.close()

    def run(self) -> None:
        poll = select.poll()
        while not self.is_over.is_set():
            for _ in range(min(AT_ONCE, self.count - len(self.sockets))):
                with contextlib.suppress(OSError):
                    one = socket.create_connection(("127.0.0.1", self.port), timeout=1)
                    one.sendall(self.begin)
                    self.sockets[one.fileno()] = one
                    poll.register(one, select.POLLIN)
                    self.opened += 1
            for number, _ in poll.poll(0):
                with contextlib.suppress(OSError):
                    # What the server answers is no reason to go.
                    if self.sockets[number].recv(65_536):
                        continue
                poll.unregister(number)
                self.sockets.pop(number).close()
            # Others use this interpreter, too.
            time.sleep(PAUSE)


def first_words() -> bytes:
    """The ClientHello of a client that then says nothing more."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("begin", ["silence", "half a handshake", "a ClientHello"])
@pytest.mark.parametrize("port", ["mqtts", "https"])
def test_half_open_connections_keep_nobody_out(new_server, new_api, tmp_path, port, begin):
    server = new_server()
    identity = new_api(server).register(tmp_path)
    words = {"silence": b"", "half a handshake": b"\x16\x03\x01\x02", "a ClientHello": first_words()}[begin]
    trusted = ssl.create_default_context(cafile=str(server.ca))
    number = server.mqtts[1] if port == "mqtts" else port_of(server.https)
    # A handshake that the server has begun takes it half a millisecond: fewer of them, of which each has its grace.
    strangers = 700 if begin == "a ClientHello" else STRANGERS
    logins, requests = [], []
    with Strangers(number, words, strangers) as hostile:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            began = time.monotonic()
            with Stream(server.mqtts, identity, server.ca) as stream:
                stream.send(connect(identity.sn))
                assert stream.answer(LONGEST)[:1] == b"\x20"
            logins.append(time.monotonic() - began)
            began = time.monotonic()
            assert httpx.get(f"{server.https}/healthz", verify=trusted, timeout=LONGEST).status_code == 200
            requests.append(time.monotonic() - began)
            time.sleep(0.05)
        if strangers == STRANGERS:
            # There were more than places all the time: those that were closed came again.
            assert hostile.opened >= 2 * strangers
        else:
            # They kept their places beside the others, until the time for a handshake was over.
            assert len(hostile.sockets) >= strangers // 2
    print(f"{len(logins)} logins, median {statistics.median(logins) * 1000:.0f} ms, max {max(logins) * 1000:.0f}")
    print(f"{len(requests)} requests, {statistics.median(requests) * 1000:.0f} ms, {max(requests) * 1000:.0f}")
    for taken in (logins, requests):
        assert statistics.median(taken) <= MEDIAN_MAX and max(taken) <= LONGEST


@pytest.mark.timeout(240)
def test_no_listener_takes_the_files_of_another(new_server, new_api, tmp_path):
    """With 1,024 open files in all, a thousand connections to HTTPS leave some to devices and to the database."""
    server = new_server(log="info,covey_http::server=debug", wrapper=("prlimit", "--nofile=1024:1024"))
    identity = new_api(server).register(tmp_path)
    with Strangers(port_of(server.https), b"", 1_200), Strangers(port_of(server.http), b"", 1_200):
        for _ in range(20):
            with Stream(server.mqtts, identity, server.ca) as stream:
                stream.send(connect(identity.sn))
                assert stream.answer(LONGEST)[:1] == b"\x20"
            time.sleep(0.05)
        # Idle connections give way to whoever asks something.
        assert httpx.get(f"{server.http}/readyz", timeout=LONGEST).status_code == 200
        assert server.metric("covey_http_connections_ended_total", reason="displaced") > 0
    assert "could not be accepted" not in server.log_text()
