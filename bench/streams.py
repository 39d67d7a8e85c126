#!/usr/bin/env python3
"""As many streams as a server has, of two organisations with two keys each: what each takes, whether an event of a device reaches
all of its organisation, and what stays when they are gone.

    target/conformance-venv/bin/python bench/streams.py
    target/conformance-venv/bin/python bench/streams.py --streams 2000

Needs 20,000 open files (`ulimit -n`). Prints a line of JSON, and ends with 1 if a stream was refused or missed the event, if they
take more than 250 MiB together, or if more than a fifth of what there was stays after a minute. COVEY_BIN names the binary
(target/release/covey unless told).
"""

import argparse
import json
import os
import select
import socket
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

PROJECT = Path(__file__).resolve().parent.parent
os.environ.setdefault("COVEY_BIN", str(PROJECT / "target" / "release" / "covey"))
sys.path.insert(0, str(PROJECT / "conformance"))

from testbed.api import RIGHTS, Api  # noqa: E402
from testbed.device import Device  # noqa: E402
from testbed.neighbour import open_files, resident_mib  # noqa: E402
from testbed.neighbourhood import Neighbourhood, is_back  # noqa: E402

ORGANISATIONS, KEYS_OF_EACH, MEMORY_MIB_MAX = 2, 2, 250.0
BEGUN_MAX, PATIENCE_S, SETTLE_S = 500, 300.0, 60.0
EVENT = b"event: event"


class Streams:
    """Streams of which all is read and nothing but a count is kept."""

    def __init__(self):
        self.poll, self.by_number = select.epoll(), {}
        self.heads, self.events, self.refused, self.ended = 0, 0, 0, 0

    def open(self, base: str, key: str) -> None:
        address = urlsplit(base)
        stream = socket.create_connection((address.hostname, address.port), timeout=60)
        request = f"GET /api/v1/stream?kind=event HTTP/1.1\r\nhost: {address.netloc}\r\nx-api-key: {key}\r\n\r\n"
        stream.sendall(request.encode())
        stream.setblocking(False)
        self.by_number[stream.fileno()] = stream
        self.poll.register(stream, select.EPOLLIN)

    def hear(self, seconds: float) -> None:
        for number, _ in self.poll.poll(seconds):
            try:
                heard = self.by_number[number].recv(1 << 16)
            except OSError:
                heard = b""
            self.heads += heard.startswith(b"HTTP/1.1 200")
            self.refused += heard.startswith(b"HTTP/1.1") and not heard.startswith(b"HTTP/1.1 200")
            self.events += heard.count(EVENT)
            if not heard:
                self.ended += 1
                self.poll.unregister(number)
                self.by_number.pop(number).close()

    def answered(self) -> int:
        return self.heads + self.refused + self.ended

    def until(self, is_so) -> bool:
        end = time.monotonic() + PATIENCE_S
        while not is_so() and time.monotonic() < end:
            self.hear(0.5)
        return is_so()

    def close(self) -> None:
        for stream in self.by_number.values():
            stream.close()
        self.poll.close()


def measure(here: Neighbourhood, count: int) -> dict:
    server, streams = here.server, Streams()
    keys, devices = [], []
    for number in range(ORGANISATIONS):
        org = f"streams-{number}"
        of_org = [here.admin.key_with(RIGHTS, org=org) for _ in range(KEYS_OF_EACH)]
        with Api(server.http, of_org[0]) as api:
            devices.append(Device(api.register(here.folder), server.mqtts, server.ca).connect())
        keys += of_org
    time.sleep(2.0)
    before, files = resident_mib(server), open_files(server)
    for number in range(count):
        streams.open(server.http, keys[number % len(keys)])
        # No more have said nothing yet than may be half-open.
        streams.until(lambda: number < streams.answered() + BEGUN_MAX)  # noqa: B023
    streams.until(lambda: streams.answered() >= count)
    open_mib = resident_mib(server)
    for device in devices:
        device.send(f"dev/{device.sn}/evt", '{"n": 1}', properties={"event_type_code": 13, "dev_event_id": 1})
    streams.until(lambda: streams.events + streams.refused + streams.ended >= count)
    told = {
        "streams": streams.heads,
        "refused": streams.refused,
        "ended": streams.ended,
        "events": streams.events,
        "memory_mib": round(resident_mib(server) - before, 1),
        "kib_each": round((open_mib - before) * 1024 / max(streams.heads, 1), 1),
        "files": open_files(server) - files,
    }
    streams.close()
    gone = time.monotonic()
    while time.monotonic() < gone + SETTLE_S and not is_back(resident_mib(server) - before, before):
        time.sleep(0.5)
    told["memory_after_mib"] = round(resident_mib(server) - before, 1)
    told["memory_after_s"] = round(time.monotonic() - gone, 1)
    told["memory_before_mib"] = round(before, 1)
    for device in devices:
        device.close()
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=8_000, help="(default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="covey-streams-") as folder, Neighbourhood(Path(folder)) as here:
        here.warm()
        told = measure(here, given.streams)
    print(json.dumps(told), flush=True)
    is_whole = told["events"] >= given.streams and not told["refused"]
    is_back_again = is_back(told["memory_after_mib"], told["memory_before_mib"])
    return 0 if is_whole and is_back_again and told["memory_mib"] <= MEMORY_MIB_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
