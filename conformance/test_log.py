"""What a device or a stranger does makes the log grow no faster than a disk bears, and forges no line (operating.md
"The log")."""

import json
import re
import socket
import ssl
import time

import pytest

from testbed.raw_device import RawDevice

pytestmark = pytest.mark.embedded

FORGED = "x\n2026-11-30T00:00:00Z ERROR forged\x1b[2J\u202e"
# A line at most, whatever is in it.
LINE = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z +[A-Z]+ ")


def strangers(server, count: int) -> None:
    """Connections that show no certificate, and some that speak no TLS."""
    context = ssl.create_default_context(cafile=str(server.ca))
    for number in range(count):
        with socket.create_connection(server.mqtts, timeout=5) as stream:
            if number % 2:
                stream.sendall(b"GET / HTTP/1.1\r\n\r\n")
                continue
            try:
                with context.wrap_socket(stream, server_hostname="localhost") as tls:
                    tls.recv(1)
            except OSError:
                pass


def trespasser(server, identity, seconds: float) -> int:
    """A device that publishes where it may not, as fast as it can, with a topic of 60 kB; how many bytes."""
    until, sent = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        try:
            with RawDevice(server, identity) as device:
                if device.connect().reason:
                    time.sleep(0.05)
                    continue
                while time.monotonic() < until:
                    device.publish("dev/" + "x" * 60_000, "{}", qos=0)
                    sent += 60_000
        except OSError:
            pass
    return sent


def lines_of(server, form: str) -> list[str]:
    """The log, of which every line is one."""
    lines = server.log_text().splitlines()
    for line in lines[lines.index(next(line for line in lines if "serving HTTP" in line)) :]:
        assert "\x1b" not in line and "\u202e" not in line
        assert LINE.match(line) if form == "text" else "timestamp" in json.loads(line), line
    return lines


@pytest.mark.parametrize("form", ["text", "json"])
def test_neither_a_device_nor_a_stranger_floods_the_log_or_forges_a_line(new_server, new_api, tmp_path, form):
    server = new_server("--log-format", form)
    identity = new_api(server).register(tmp_path)
    before = len(server.log_text())
    with RawDevice(server, identity) as device:
        assert device.connect(client_id=FORGED).reason == 0x85
    with RawDevice(server, identity) as device:
        device.connect()
        device.subscribe(f"srv/{FORGED}/tsk")
    trespasser(server, identity, 3)
    strangers(server, 100)
    time.sleep(1.2)
    grown = len(server.log_text()) - before
    assert grown < 50_000, f"{grown} bytes of log"
    lines = lines_of(server, form)
    assert any("forged" in line for line in lines)
    assert not any(re.match(r"^\S+ ERROR forged", line) for line in lines)
    assert any("device put out" in line for line in lines)
    assert server.refusals("protocol") >= 50, "those who were not logged are counted"
