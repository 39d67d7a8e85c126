"""Killed in mid-stream, the server has every event that it acknowledged, once (device-rpc "PUBACK"). COVEY_KILLS sets
the number of kills, COVEY_SEED the course of events."""

import json
import os
import random
import ssl
import threading
import time

import pytest

from testbed.broker import LINK
from testbed.device import Device, Refused
from testbed.server import kept_ports
from test_events import AT

KILLS = int(os.environ.get("COVEY_KILLS", "6"))
SEED = int(os.environ.get("COVEY_SEED", random.randrange(1 << 32)))
LIVES_SECONDS = (0.3, 1.2)
# How many are sent before the device looks at what was acknowledged.
WINDOW = 50


class Teller(threading.Thread):
    """Tells numbered events as fast as they are acknowledged, and again what was not, until told to stop."""

    def __init__(self, identity, server):
        super().__init__(daemon=True, name=identity.sn)
        self.identity, self.server = identity, server
        self.stopping = threading.Event()
        self.acknowledged: set[int] = set()
        self.sent = 0
        self.repeated = 0
        self.refused: list[tuple[int, int]] = []
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            while not (self.stopping.is_set() and len(self.acknowledged) == self.sent):
                self._live_once()
        except BaseException as problem:
            self.problem = problem

    def _live_once(self) -> None:
        device = Device(self.identity, self.server.mqtts, self.server.ca)
        try:
            device.connect("-")
        except (OSError, ssl.SSLError, AssertionError):
            time.sleep(0.05)
            return
        except Refused as refusal:
            if refusal.code != 0x88:  # server unavailable
                raise
            time.sleep(0.05)
            return
        try:
            while device.ended is None and not (self.stopping.is_set() and len(self.acknowledged) == self.sent):
                self._tell_window(device)
        finally:
            device.close()

    def _tell_window(self, device) -> None:
        again = [number for number in range(1, self.sent + 1) if number not in self.acknowledged]
        self.repeated += len(again)
        fresh = [] if self.stopping.is_set() else range(self.sent + 1, self.sent + 1 + WINDOW)
        under_way = {}
        for number in [*again, *fresh]:
            self.sent = max(self.sent, number)
            properties = {"event_type_code": 13, "dev_event_id": number, "dev_timestamp": AT + number}
            mid = device.send(f"dev/{device.sn}/evt", json.dumps({"n": number}), properties=properties)
            under_way[mid] = number
        with device.changed:
            device.changed.wait_for(lambda: device.ended or under_way.keys() <= device.acks.keys(), 10)
            for mid, number in under_way.items():
                if mid in device.acks:
                    if device.acks[mid] < 0x80:
                        self.acknowledged.add(number)
                    else:
                        self.refused.append((number, device.acks[mid]))

    def stop(self) -> None:
        self.stopping.set()
        self.join(60)
        assert not self.is_alive()
        if self.problem:
            raise self.problem


@pytest.mark.timeout(200 + 10 * KILLS)
def test_every_acknowledged_event_is_there_once(new_server, new_api, tmp_path):
    print(f"COVEY_SEED={SEED} COVEY_KILLS={KILLS}")
    chance = random.Random(SEED)
    server = new_server("--events-per-second-max", "0", ports=kept_ports(), log="warn")
    api = new_api(server)
    tellers = [Teller(api.register(tmp_path), server) for _ in range(3)]
    for teller in tellers:
        teller.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(*LIVES_SECONDS))
        server.kill()
        server.start()
    time.sleep(0.5)
    for teller in tellers:
        teller.stop()
    api = new_api(server)
    for teller in tellers:
        assert not teller.refused, teller.refused
        deadline = time.monotonic() + (0 if LINK.acknowledges_after_commit else 60)
        while True:
            numbers = [one["dev_event_id"] for one in all_stored(api, teller.identity)]
            if len(numbers) >= teller.sent or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        assert len(numbers) == len(set(numbers)), "an event was stored twice"
        assert set(numbers) == set(range(1, teller.sent + 1)), "an event was lost"
        print(f"{teller.sent} events, {teller.repeated} sent again")
    assert sum(teller.sent for teller in tellers) > 100 * KILLS, "there was load"
    assert sum(teller.repeated for teller in tellers) > 0 or not LINK.goes_with_server, "the kills were felt"


def all_stored(api, identity) -> list[dict]:
    """What a device has told, by cursor: while events are stored, pages shift."""
    events, cursor = [], "newest"
    while cursor:
        params = {"device_id": identity.device_id, "size": 1000, "cursor": cursor, "events_exclude": [-1, -2]}
        answer = api.get("/device-events", params=params)
        assert answer.status_code == 200, answer.text
        events += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
    return events
