"""Rubbish on every port: the server answers or hangs up, counts it, and goes on serving. What no MQTT broker may take
is for the embedded one to refuse; what it may take reaches the servers in every shape."""

import contextlib
import random
import socket

import httpx
import pytest

from testbed import packet
from testbed.api import DONE, Api
from testbed.packet import Stream

SEED = 20_240_229


@pytest.fixture
def target(new_server, new_api, tmp_path):
    """A server of the test's own, a caller, and the device that misbehaves."""
    server = new_server()
    api = new_api(server)
    return server, api, api.register(tmp_path)


@pytest.fixture
def still_serves(connect, tmp_path):
    """Whether a call through a new device still works from end to end."""

    def check(server) -> bool:
        assert server.is_running(), server.log_text()[-2000:]
        with Api(server.http, server.key) as api:
            device = connect(server, api.register(tmp_path))
            task_id = api.create(device, payload={"a": 1})
            assert device.expect("tsk").task_id == task_id
            device.take(task_id)
            device.finish(task_id)
            assert api.status(task_id) == DONE
        assert not server.panics(), server.panics()
        return True

    return check


def chance_for(number: int) -> random.Random:
    return random.Random(SEED + number)


@pytest.mark.embedded
@pytest.mark.timeout(240)
def test_random_bytes_after_the_handshake(target, still_serves):
    server, _, identity = target
    refused = server.refusals("protocol")
    for number in range(120):
        chance = chance_for(number)
        with Stream(server.mqtts, identity, server.ca) as stream:
            stream.send(chance.randbytes(chance.choice([1, 2, 10, 100, 3000])))
            if number % 4 == 0:
                stream.answer(0.2)
    assert still_serves(server)
    assert server.refusals("protocol") > refused


@pytest.mark.embedded
@pytest.mark.timeout(240)
def test_damaged_packets_before_and_after_a_good_connect(target, still_serves):
    server, _, identity = target
    good = packet.samples(identity.sn)
    refused = server.refusals("protocol")
    for number in range(250):
        chance = chance_for(number)
        with Stream(server.mqtts, identity, server.ca) as stream:
            if number % 4:
                stream.send(packet.connect(identity.sn))
                assert stream.answer()[:1] == b"\x20", f"no CONNACK in case {number}"
            for _ in range(chance.randrange(1, 5)):
                stream.send(packet.mutated(good, chance))
            if number % 5 == 0:
                stream.answer(0.2)
    assert still_serves(server)
    assert server.refusals("protocol") > refused


LIES = {
    "a length of 256 MB in the first packet": lambda sn: [packet.packet(0x10, b"", 268_435_455)],
    "a length of 256 MB in a publish": lambda sn: [
        packet.connect(sn),
        packet.packet(0x32, packet.text(f"dev/{sn}/res"), 268_435_455),
    ],
    "a length that never ends": lambda sn: [packet.connect(sn), b"\x32\xff\xff\xff\xff\xff\xff"],
    "a topic longer than its packet": lambda sn: [
        packet.connect(sn),
        packet.packet(0x32, b"\xff\xff" + b"x" * 20),
    ],
    "properties longer than their packet": lambda sn: [
        packet.connect(sn),
        packet.packet(0x32, packet.text(f"dev/{sn}/res") + b"\x00\x01" + packet.varint(2_000_000)),
    ],
    "a client id longer than its packet": lambda sn: [
        packet.packet(0x10, packet.text("MQTT") + b"\x05\x02\x00\x3c\x00\xff\xffx")
    ],
    "a second connect": lambda sn: [packet.connect(sn), packet.connect(sn)],
    "a publish before the connect": lambda sn: [packet.publish(f"dev/{sn}/req", b"")],
    "a protocol of version 9": lambda sn: [
        packet.packet(0x10, packet.text("MQTT") + b"\x09\x02\x00\x3c\x00\x00\x01x")
    ],
    "a topic that is no UTF-8": lambda sn: [
        packet.connect(sn),
        packet.packet(0x32, b"\x00\x04\xff\xfe\xfd\xfc\x00\x01\x00"),
    ],
    "a topic with a NUL": lambda sn: [packet.connect(sn), packet.publish(f"dev/{sn}/\0", b"")],
    "a topic with a wildcard": lambda sn: [packet.connect(sn), packet.publish(f"dev/{sn}/#", b"")],
    "an empty topic": lambda sn: [packet.connect(sn), packet.publish("", b"")],
    "a packet id of zero": lambda sn: [packet.connect(sn), packet.publish(f"dev/{sn}/req", b"", packet_id=0)],
    "QoS 3": lambda sn: [packet.connect(sn), packet.packet(0x36, packet.text(f"dev/{sn}/req") + b"\x00\x01\x00")],
    "a subscription to nothing": lambda sn: [packet.connect(sn), packet.packet(0x82, b"\x00\x01\x00")],
}


@pytest.mark.embedded
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_its_own_connection_and_no_other(target, connect, tmp_path, lie):
    server, api, identity = target
    witness = connect(server, api.register(tmp_path))
    with Stream(server.mqtts, identity, server.ca) as stream:
        *before, last = LIES[lie](identity.sn)
        for sent in before:
            stream.send(sent)
            assert stream.answer()[:1] == b"\x20", "CONNACK"
        stream.send(last)
        answer = stream.answer(25)
        is_refused = answer[:1] == b"\x40" and answer[4] >= 0x80  # PUBACK with a reason code
        assert is_refused or stream.is_closed(25), f"neither refused nor closed: {answer.hex()}"
    task_id = api.create(witness)
    assert witness.expect("tsk").task_id == task_id
    assert witness.is_connected() and not server.panics()


@pytest.mark.embedded
def test_giant_lengths_cost_no_memory(target, still_serves):
    server, _, identity = target
    before = resident_bytes(server)
    with contextlib.ExitStack() as held:
        for _ in range(40):
            stream = held.enter_context(Stream(server.mqtts, identity, server.ca))
            stream.send(packet.packet(0x10, b"x" * 1000, 268_435_455))
        assert still_serves(server)
        assert resident_bytes(server) - before < 64 * 1024 * 1024


def resident_bytes(server) -> int:
    with open(f"/proc/{server.process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


@pytest.mark.embedded
@pytest.mark.parametrize("port", ["mqtts", "https"])
def test_plain_bytes_on_a_tls_port(target, still_serves, port):
    server, _, identity = target
    address = server.mqtts if port == "mqtts" else ("127.0.0.1", int(server.https.rsplit(":", 1)[1]))
    plain = [
        packet.connect(identity.sn),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\xff\xff",
        b"\0" * 5000,
    ]
    plain += [chance_for(number).randbytes(500) for number in range(40)]
    refused = server.refusals("protocol")
    for sent in plain:
        with socket.create_connection(address, timeout=5) as stream, contextlib.suppress(OSError):
            stream.sendall(sent)
            stream.settimeout(0.2)
            answer = stream.recv(100)
            assert not answer.startswith((b"\x20", b"HTTP/1.1 200")), answer
    assert still_serves(server)
    if port == "mqtts":
        assert server.refusals("protocol") > refused


GIVEN_UP_SECONDS_MAX = 40


@pytest.mark.embedded
@pytest.mark.parametrize("port", ["mqtts", "https", "http"])
def test_a_first_message_that_stops_half_way_is_given_up(server, port):
    number = server.mqtts[1] if port == "mqtts" else int(getattr(server, port).rsplit(":", 1)[1])
    begin = b"GET /healthz HTT" if port == "http" else b"\x16\x03\x01\x02"
    with socket.create_connection(("127.0.0.1", number), timeout=GIVEN_UP_SECONDS_MAX) as stream:
        with contextlib.suppress(ConnectionError):
            stream.sendall(begin)
            while stream.recv(4096):
                pass


@pytest.mark.embedded
@pytest.mark.parametrize("begin", [b"", b"\x10\x20\x00"], ids=["silence", "half a CONNECT"])
def test_a_connect_that_never_comes_is_given_up(server, identity, begin):
    with Stream(server.mqtts, identity, server.ca) as stream:
        stream.send(begin)
        assert stream.is_closed(GIVEN_UP_SECONDS_MAX)


@pytest.mark.embedded
@pytest.mark.parametrize("begin", [b"", b"GET /healthz HTT"], ids=["silence", "half a request"])
def test_a_request_over_https_that_never_comes_is_given_up(server, identity, begin):
    with Stream(("127.0.0.1", int(server.https.rsplit(":", 1)[1])), identity, server.ca) as stream:
        stream.send(begin)
        assert stream.is_closed(GIVEN_UP_SECONDS_MAX)


@pytest.mark.embedded
@pytest.mark.parametrize("port", ["mqtts", "https", "http"])
def test_connections_that_stop_half_way_hold_nobody_up(target, still_serves, port):
    """Half a ClientHello, half a request: two hundred of them, left open."""
    server, _, _ = target
    ports = {"mqtts": server.mqtts[1]}
    ports.update({name: int(getattr(server, name).rsplit(":", 1)[1]) for name in ("https", "http")})
    begin = b"POST /api/v1/device-tasks HTTP/1.1\r\nHost: x\r\nContent-" if port == "http" else b"\x16\x03\x01\x02"
    with contextlib.ExitStack() as held:
        for _ in range(200):
            stream = held.enter_context(socket.create_connection(("127.0.0.1", ports[port]), timeout=5))
            stream.sendall(begin)
        assert still_serves(server)
    assert still_serves(server)


REQUESTS = [
    b"\r\n\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x00\x01\x02\x03\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    b"GET /%zz%00%ff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(2000)) + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
    b"POST /api/v1/device-tasks HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /api/v1/device-tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /api/v1/device-tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /api/v1/device-tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\nx",
    b"POST /api/v1/device-tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx",
    b"GET /api/v1/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/device-tasks HTTP/1.1\r\nHost: x\r\nx-api-key: \xff\xfe\r\n\r\n",
    b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.embedded
@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_http_that_is_none_is_refused(server, number):
    port = int(server.http.rsplit(":", 1)[1])
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream, contextlib.suppress(OSError):
        stream.sendall(REQUESTS[number])
        stream.shutdown(socket.SHUT_WR)
        answer = stream.recv(65_536)
    assert not answer or answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert httpx.get(f"{server.http}/healthz").status_code == 200
    assert not server.panics()


@pytest.mark.embedded
def test_random_bytes_over_http(target, still_serves):
    server, _, _ = target
    port = int(server.http.rsplit(":", 1)[1])
    requests = server.metric("covey_http_requests_total")
    for number in range(150):
        chance = chance_for(number)
        begin = chance.choice([b"", b"GET / HTTP/1.1\r\n", b"POST /api/v1/device-tasks HTTP/1.1\r\nHost: x\r\n"])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as stream, contextlib.suppress(OSError):
            stream.sendall(begin + chance.randbytes(chance.choice([1, 50, 5000])))
            stream.shutdown(socket.SHUT_WR)
            assert b"HTTP/1.1 5" not in stream.recv(1000)
    assert still_serves(server)
    assert server.metric("covey_http_requests_total") > requests


NESTED = [b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"[" * 100_000 + b"]" * 100_000, b"[" * 200_000]


@pytest.mark.parametrize("nested", NESTED, ids=["objects", "arrays", "never closed"])
def test_json_nested_without_end_breaks_no_stack(target, connect, still_serves, nested):
    server, api, identity = target
    device = connect(server, identity)
    head = f'{{"ext_task_id":"n","device_id":{identity.device_id},"payload":'.encode()
    for body in (nested[:200_000], head + nested[:200_000] + b"}"):
        for path in ("/device-tasks", "/devices", "/api-keys"):
            assert api.post(path, content=body).status_code < 500
    task_id = api.create(device)
    device.res(task_id, 200, nested)
    device.res(task_id, None, nested)
    assert api.get(f"/device-tasks/{task_id}").status_code == 200
    assert still_serves(server)


def test_thousands_of_user_properties_are_survived(target, still_serves):
    server, _, identity = target
    many = b"".join(packet.user_property(f"name-{number}", "x" * 20) for number in range(5000))
    with Stream(server.mqtts, identity, server.ca) as stream:
        stream.send(packet.connect(identity.sn))
        assert stream.answer()[:1] == b"\x20"
        stream.send(packet.publish(f"dev/{identity.sn}/req", b"", many))
        assert stream.answer(), "a PUBACK or a DISCONNECT"
    assert still_serves(server)


def test_a_packet_over_the_limit_ends_the_connection(target, connect, still_serves):
    server, api, identity = target
    device = connect(server, identity)
    task_id = api.create(identity)
    device.send(f"dev/{identity.sn}/res", b"x" * 1_200_000, correlation=task_id, properties={"status_code": 200})
    code, said = device.expect_disconnect()
    assert not said or code == 0x95, "packet too large"
    assert api.task(task_id)["results"] == []
    assert still_serves(server)
