#!/usr/bin/env python3
"""Measures what one organisation's reads of much cost another: calls, readiness and logins, on this machine.

    target/conformance-venv/bin/python bench/scans.py --events 1200000
    COVEY_SHAPE=postgres+embedded target/conformance-venv/bin/python bench/scans.py --events 1200000

A device of one organisation has sent so many events in a day. Two readers ask for its series again and again, each time
as soon as they have the answer. Meanwhile another organisation calls a device every 50 ms, asks `/readyz` every 100 ms and lets a
device log in every 250 ms. First without readers, then with them; a line of JSON for each. COVEY_BIN names the binary
(target/release/covey unless told), COVEY_TESTBED the program that starts PostgreSQL (target/release/covey-testbed).
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
for name, program in (("COVEY_BIN", "covey"), ("COVEY_TESTBED", "covey-testbed")):
    os.environ.setdefault(name, str(PROJECT / "target" / "release" / program))
sys.path.insert(0, str(PROJECT / "conformance"))

import httpx  # noqa: E402
from testbed.answering import Answering  # noqa: E402
from testbed.api import RIGHTS, Api  # noqa: E402
from testbed.device import Device  # noqa: E402
from testbed.raw_device import RawDevice  # noqa: E402
from testbed.server import Server  # noqa: E402
from testbed.victim import Repeated  # noqa: E402

DAY_MS = 86_400_000
READERS = 2
BODY = '{"101":4711,"102":"2026-11-21T20:00:00Z","200":13,"300":[{"310":%s,"311":12,"312":"opened by code","313":true}]}'


def fill_sqlite(path: Path, sn: str, count: int) -> None:
    """Events of the last day, all of one device."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    key, org, device = db.execute("SELECT id, org_id, device_id FROM devices WHERE sn = ?", [sn]).fetchone()
    head = db.execute("SELECT number FROM record_head").fetchone()[0]
    now = int(time.time() * 1000)
    at = f"{now - DAY_MS} + i * {DAY_MS / count}"
    db.execute("BEGIN")
    db.execute(
        f"""INSERT INTO events (id, org_id, device_key, device_id, sn, type_code, dev_event_id, dev_timestamp, received_at, payload)
        WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})
        SELECT {head} + 1 + i, {org}, {key}, {device}, '{sn}', 13, i + 1, CAST({at} AS INTEGER), CAST({at} AS INTEGER),
            printf('{BODY % '%.2f'}', 20 + (i % 1000) / 100.0) FROM n"""
    )
    db.execute("UPDATE record_head SET number = number + ?", [count])
    db.execute(
        "INSERT INTO event_counts (org_id, count) VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
        [org, count],
    )
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def fill_postgres(url: str, sn: str, count: int) -> None:
    """The same; a day that began in the month before is cut."""
    now = int(time.time() * 1000)
    body = BODY.replace("%s", "' || round(20 + (i % 1000) / 100.0, 2) || '")
    sql = f"""
        INSERT INTO deployment (key, value) VALUES ('record_offset', '{count}')
            ON CONFLICT (key) DO UPDATE SET value = excluded.value;
        INSERT INTO events (id, org_id, device_key, device_id, sn, type_code, dev_event_id, dev_timestamp, received_at, payload)
        SELECT ((i / 50) << 16) | (i % 50), d.org_id, d.id, d.device_id, d.sn, 13, i, n.at, n.at, '{body}'
        FROM (SELECT i::int8, ({now - DAY_MS} + i * {DAY_MS / count})::int8 AS at FROM generate_series(1, {count}) AS i) AS n
        JOIN devices d ON d.sn = '{sn}';
        VACUUM ANALYZE events;"""
    subprocess.run(["psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", url], input=sql, text=True, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_200_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--search", action="store_true", help="the readers count events of a type in place of series")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="covey-scans-") as folder:
        folder = Path(folder)
        server = Server(folder / "data", "--events-per-second-max", "0", log="warn")
        try:
            server.start()
            admin = Api(server.http, server.key)
            full = admin.register(folder)
            store = server.environment().get("COVEY_STORE", "sqlite")
            if store.startswith("postgres"):
                fill_postgres(store, full.sn, given.events)
            else:
                server.stop()
                fill_sqlite(server.data / "covey.db", full.sn, given.events)
                server.start()
            measure(server, given, full)
        finally:
            server.drop()


def measure(server, given, full) -> None:
    victim = Api(server.http, Api(server.http, server.key).key_with(RIGHTS, org="victim"))
    folder = server.data.parent
    called, coming = victim.register(folder), victim.register(folder)
    device = Device(called, server.mqtts, server.ca, keep_alive=60).connect()
    Answering(device)

    def call():
        answer = victim.request_task(called, wait=30)
        return None if answer.status_code == 200 and answer.json()["status_name"] == "DONE" else f"{answer.status_code}"

    def ready():
        answer = httpx.get(f"{server.http}/readyz", timeout=60)
        return None if answer.status_code == 200 else f"{answer.status_code}"

    def login():
        with RawDevice(server, coming) as one:
            return None if one.connect().reason == 0 else "refused"

    def read():
        with httpx.Client(base_url=f"{server.http}/api/v1", headers={"x-api-key": server.key}, timeout=120) as client:
            if given.search:
                parameters = {"events_include": 13, "device_id": full.device_id, "size": 1}
                answer = client.get("/device-events", params=parameters)
            else:
                answer = client.get("/device-events/series", params={"device_id": full.device_id, "tag": "310"})
            return None if answer.status_code == 200 else f"{answer.status_code}"

    for readers in (0, READERS):
        acts = {"call": (call, 0.05), "readyz": (ready, 0.1), "login": (login, 0.25)}
        running = {name: Repeated(act, every) for name, (act, every) in acts.items()}
        reading = [Repeated(read, 0) for _ in range(readers)]
        for one in (*running.values(), *reading):
            one.start()
        time.sleep(given.seconds)
        found = {"readers": readers} | {name: one.end() for name, one in running.items()}
        if reading:
            found["reads"] = [one.end() for one in reading]
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
