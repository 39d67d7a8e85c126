"""Hostile neighbours, each a program of its own: `python -m testbed.hostile NAME PLACE.json` does what its name says, as fast
as it can, until it is killed. They have a key and devices of an organisation that is not the victim's.

A neighbour whose table says so finds the organisation filled with events of 60 kB, or with many small ones, or a task with
large results.
"""

import contextlib
import dataclasses
import json
import select
import socket
import sys
import threading
import time
from pathlib import Path

import httpx

from testbed.api import Api
from testbed.device import Device, Identity
from testbed.http2_client import Http2
from testbed.neighbour import Reader
from testbed.packet import packet
from testbed.raw_device import RawDevice

STREAMS_OF_A_CONNECTION = 256


@dataclasses.dataclass
class Place:
    """A server as a neighbour finds it."""

    http: str
    https: str
    mqtts: tuple[str, int]
    ca: Path
    key: str
    devices: list[Identity]
    # A task of the first device that is under way.
    task: str
    # What a neighbour reads: how many events there are, and the number of the device that has sent the last of them.
    events: int = 0
    reported_by: int = 0

    @classmethod
    def read(cls, path: str) -> "Place":
        said = json.loads(Path(path).read_text())
        devices = [
            Identity(one["sn"], one["device_id"], Path(one["certificate"]), Path(one["key"])) for one in said["devices"]
        ]
        return cls(
            **{**said, "devices": devices, "mqtts": (said["mqtts"][0], said["mqtts"][1]), "ca": Path(said["ca"])}
        )

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(dataclasses.asdict(self), default=str))
        return path

    def api(self) -> Api:
        return Api(self.http, self.key)

    def device(self, number: int = 0, **more) -> Device:
        return Device(self.devices[number], self.mqtts, self.ca, **more).connect("-")


def for_ever() -> None:
    while True:
        time.sleep(60)


def together(act, count: int) -> None:
    """So many at once, each again and again, whatever the server answers."""

    def again() -> None:
        while True:
            try:
                act()
            except (httpx.HTTPError, OSError, AssertionError):
                time.sleep(0.05)

    for _ in range(count):
        threading.Thread(target=again, daemon=True).start()
    for_ever()


def deaf_streams(place: Place) -> None:
    """200 requests for the whole stream on one HTTP/2 connection that takes nothing."""
    connection = Http2(place.https, place.ca, takes=False)
    for _ in range(200):
        connection.ask("/api/v1/stream?cursor=0", key=place.key)
    for_ever()


def dashboards(place: Place) -> None:
    """50 honest readers with an old cursor."""
    readers = [Reader(place.http, place.key, place.events) for _ in range(50)]
    for reader in readers:
        reader.join(600)
    for_ever()


def deaf_metrics(place: Place) -> None:
    """60 HTTP/2 connections with 250 requests for /metrics each, of which nothing is taken."""
    connections = []
    while True:
        with contextlib.suppress(OSError):
            connection = Http2(place.https, place.ca, takes=False)
            for _ in range(250):
                connection.ask("/metrics", key=place.key)
            connections.append(connection)
        if len(connections) >= 60:
            connections[:30] = []
            time.sleep(1)


def idle_connections(place: Place) -> None:
    """As many HTTP/2 connections as it can open, which answer PINGs and ask for nothing."""
    connections: list[Http2] = []
    while True:
        with contextlib.suppress(OSError):
            connections.append(Http2(place.https, place.ca))
        ready, _, _ = select.select([one.socket for one in connections[-900:]], [], [], 0)
        for one in connections:
            if one.socket in ready:
                one.listen(0)
        connections = [one for one in connections if not one.is_closed][-900:]


def series(place: Place) -> None:
    """Two readers of a series over all events."""
    params = {"device_id": place.reported_by, "tag": "310"}

    def read() -> None:
        with place.api() as api:
            while True:
                api.get("/device-events/series", params=params)

    together(read, 2)


def large_results(place: Place) -> None:
    """A device that sends results of 900 kB, again and again."""
    send_results(place, 900_000)


def many_results(place: Place) -> None:
    """A device that sends results of 200 kB, again and again."""
    send_results(place, 200_000)


def send_results(place: Place, size: int) -> None:
    body = json.dumps({"pad": "x" * size})

    def run() -> None:
        device = place.device()
        for number in range(1, 1 << 31):
            device.res(place.task, 206, body, ext_id=number)

    together(run, 1)


def read_results(place: Place) -> None:
    """Four at once ask for a task with many large results."""

    def act() -> None:
        with place.api() as api:
            while True:
                api.get(f"/device-tasks/{place.task}")

    together(act, 4)


def create_and_delete(place: Place) -> None:
    """Tasks with parameters of 200 kB, which are deleted at once."""
    device = place.devices[1]

    def act() -> None:
        with place.api() as api:
            while True:
                answer = api.request_task(device, payload={"pad": "x" * 200_000})
                if answer.status_code == 200:
                    api.delete(f"/device-tasks/{answer.json()['id']}")
                else:
                    time.sleep(0.05)

    together(act, 2)


def tasks(place: Place) -> None:
    """Eight callers that make small tasks as fast as they can."""
    device = place.devices[1]

    def act() -> None:
        with place.api() as api:
            while True:
                api.request_task(device, ttl=1)

    together(act, 8)


def waiters(place: Place) -> None:
    """41 HTTP/2 connections with 256 callers each that wait for the end of a task."""
    connections = []
    for _ in range(41):
        connection = Http2(place.https, place.ca)
        for _ in range(STREAMS_OF_A_CONNECTION):
            connection.ask(f"/api/v1/device-tasks/{place.task}?wait=60", key=place.key)
        connections.append(connection)
    while True:
        for connection in connections:
            connection.listen(0.01)


def foreign_topics(place: Place) -> None:
    """A device that publishes 60 kB to topics of others, and comes again when it is put out."""
    body = "x" * 60_000

    def run() -> None:
        device = place.device()
        while device.ended is None:
            device.publish("dev/somebody-else/evt", body)

    together(run, 1)


def many_values(place: Place) -> None:
    """A device whose events report 250 values each."""
    body = json.dumps({"reported": {f"r{number}": number for number in range(250)}})
    send_events(place, lambda _: body)


def large_events(place: Place) -> None:
    """A device whose events have 64 kB."""
    send_events(place, lambda number: json.dumps({"n": number, "pad": "x" * 65_000}))


def send_events(place: Place, body) -> None:
    def run() -> None:
        device = place.device()
        for number in range(1, 1 << 31):
            properties = {"event_type_code": 13, "dev_event_id": number}
            device.send(f"dev/{device.sn}/evt", body(number), properties=properties)
            while number - len(device.acks) > 64 and device.ended is None:
                time.sleep(0.005)
            if device.ended is not None:
                return

    together(run, 1)


def half_open(place: Place) -> None:
    """Connections to the devices' port that say nothing."""
    held: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(place.mqtts, timeout=1))
        if len(held) > 3_000:
            held.pop(0).close()
        if len(held) % 40 == 0:
            time.sleep(0.02)


def wrong_keys(place: Place) -> None:
    """Requests with keys that are none."""
    counter = iter(range(1 << 60))

    def act() -> None:
        with httpx.Client(base_url=f"{place.http}/api/v1", timeout=30) as client:
            while True:
                client.get("/devices", headers={"x-api-key": f"covey_{next(counter):040}"})

    together(act, 8)


def logins(place: Place) -> None:
    """A device that comes and goes."""

    def run() -> None:
        place.device().close()

    together(run, 2)


def pings(place: Place) -> None:
    """A device that sends PINGREQ as fast as it can."""

    def run() -> None:
        with RawDevice(place, place.devices[0]) as device:
            device.connect()
            while device.send(packet(0xC0, b"") * 200):
                device.stream.tls.settimeout(0.0)
                with contextlib.suppress(OSError):
                    while device.stream.tls.recv(65_536):
                        pass
                device.stream.tls.settimeout(5.0)

    together(run, 1)


def subscriptions(place: Place) -> None:
    """A device that changes what it has subscribed to, again and again."""

    def run() -> None:
        device = place.device()
        while device.ended is None:
            device.subscribe(f"srv/{device.sn}/tsk")
            device.unsubscribe(f"srv/{device.sn}/tsk")

    together(run, 1)


NEIGHBOURS = {
    one.__name__: one
    for one in (
        deaf_streams,
        dashboards,
        deaf_metrics,
        idle_connections,
        series,
        large_results,
        many_results,
        read_results,
        create_and_delete,
        tasks,
        waiters,
        foreign_topics,
        many_values,
        large_events,
        half_open,
        wrong_keys,
        logins,
        pings,
        subscriptions,
    )
}
# What they find: how many events, and how long each is.
EVENTS = {"deaf_streams": (600, 60_000), "dashboards": (600, 60_000), "series": (18_000, 0)}
# What the server is started with for one of them: a device that may send so many events at once.
OPTIONS = {"series": ("--events-per-second-max", "0")}
# How many results the task has, of 200 kB.
RESULTS = {"read_results": 35}

if __name__ == "__main__":
    NEIGHBOURS[sys.argv[1]](Place.read(sys.argv[2]))
