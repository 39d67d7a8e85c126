#!/usr/bin/env python3
"""Measures the reads of events over REST among millions of them in PostgreSQL, and shows the plans.

    eval "$(cargo xtask services env --shape postgres+embedded --for history)"
    target/conformance-venv/bin/python bench/history.py --postgres "$COVEY_STORE" --events 20000000
    cargo xtask services drop history

The events are those of 1,000 devices in this month, at most 20 days of it; device 7 sends every twentieth. The database
must be empty, and is left full. With --superuser URL and --log FILE (the log of PostgreSQL) the plans of what the
server asked are printed as PostgreSQL made them (auto_explain). Needs psql. COVEY_BIN names the binary
(target/release/covey unless told).
"""

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
os.environ.setdefault("COVEY_BIN", str(PROJECT / "target" / "release" / "covey"))
sys.path.insert(0, str(PROJECT / "conformance"))

import httpx  # noqa: E402

DEVICES, BUSY = 1_000, 7
DAY_MS = 86_400_000
ROUNDS = 30


def psql(url: str, sql: str) -> str:
    command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", url]
    done = subprocess.run(command, input=sql, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"psql: {done.stderr}")
    return done.stdout.strip()


class Running:
    """A server on the database."""

    def __init__(self, url: str, folder: Path):
        self.folder = folder
        listen = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--mqtts", "127.0.0.1:0"]
        command = [os.environ["COVEY_BIN"], "up", "--data", str(folder / "data"), "--log", "warn", *listen]
        environment = {**os.environ, "COVEY_STORE": url}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    def __enter__(self) -> httpx.Client:
        addresses, key = self.folder / "data/addresses.json", self.folder / "data/admin.key"
        while not (addresses.exists() and key.exists()):
            if self.process.poll() is not None:
                raise SystemExit("the server did not start; is the database empty?")
            time.sleep(0.05)
        base = json.loads(addresses.read_text())["http"]
        headers = {"x-api-key": key.read_text().strip()}
        return httpx.Client(base_url=f"{base}/api/v1", headers=headers, timeout=120)

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait()


def fill(url: str, count: int) -> tuple[int, int]:
    """Answers the first and the last instant, in milliseconds."""
    now = datetime.datetime.now(datetime.UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (month + datetime.timedelta(days=32)).replace(day=1)
    last = int(now.timestamp() * 1000)
    first = max(int(month.timestamp() * 1000), last - 20 * DAY_MS)
    step = (last - first) / count
    name = f"events_{now.year}_{now.month:02}"
    begin, end = int(month.timestamp() * 1000), int(following.timestamp() * 1000)
    print(f"filling {count:,} events over {(last - first) / DAY_MS:.1f} days", flush=True)
    psql(
        url,
        f"""SET maintenance_work_mem = '512MB'; SET synchronous_commit = off;
        INSERT INTO devices (org_id, device_id, sn, created_at)
            SELECT (SELECT min(id) FROM orgs), n, 'history-' || n, {first} FROM generate_series(1, {DEVICES}) n;
        ALTER TABLE events DETACH PARTITION {name}; DROP TABLE {name}; CREATE TABLE {name} (LIKE events);
        INSERT INTO {name} (id, org_id, device_key, device_id, sn, type_code, dev_event_id, dev_timestamp, received_at,
                correlation, payload)
            SELECT ((i / 50) << 16) | (i % 50), d.org_id, d.id, d.device_id, d.sn, 46, i, at, at, NULL,
                '{{"101":' || i || ',"102":"2026-11-21T20:00:00Z","200":46,"300":[{{"310":'
                    || round((20 + 5 * sin(i / 1e5))::numeric, 2) || ',"311":12,"312":"opened by code","313":true}}]}}'
            FROM (SELECT i::int8, {first} + (i * {step})::int8 AS at,
                    CASE WHEN i % 20 = 0 THEN {BUSY} ELSE 1 + (hashint4(i) & 2147483647) % {DEVICES} END AS device
                FROM generate_series(1, {count}) AS i) AS n JOIN devices d ON d.device_id = n.device ORDER BY i;
        ALTER TABLE events ATTACH PARTITION {name} FOR VALUES FROM ({begin}) TO ({end});
        -- New numbers are above those.
        INSERT INTO deployment (key, value) VALUES ('record_offset', '{count // 50 + 1}')
            ON CONFLICT (key) DO UPDATE SET value = excluded.value;
        INSERT INTO event_counts (org_id, slot, count) SELECT min(id), -1, {count} FROM orgs;
        VACUUM ANALYZE events;""",
    )
    print(psql(url, f"SELECT pg_size_pretty(pg_table_size('{name}')) || ', indexes ' || pg_size_pretty(pg_indexes_size('{name}'))"))
    return first, last


def measure(client: httpx.Client, name: str, path: str, parameters: list[dict]) -> None:
    """Asks once with each, and tells how long that took."""
    took, size = [], 0
    for one in parameters:
        begun = time.perf_counter()
        answer = client.get(path, params=one)
        took.append((time.perf_counter() - begun) * 1000)
        if answer.status_code != 200:
            raise SystemExit(f"{path} {one}: {answer.status_code} {answer.text}")
        body = answer.json()
        size = max(size, len(body if isinstance(body, list) else next(v for v in body.values() if isinstance(v, list))))
    ordered = sorted(took)
    print(
        f"{name}: first {took[0]:.1f}, p50 {statistics.median(ordered):.1f}, "
        f"max {ordered[-1]:.1f} ms of {len(ordered)}; up to {size} items",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", metavar="URL", required=True)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--superuser", metavar="URL", help="to have the plans logged")
    parser.add_argument("--log", metavar="FILE", type=Path, help="the log of PostgreSQL, to print the plans from")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="covey-history-") as folder:
        with Running(given.postgres, Path(folder)) as client:
            client.get("/devices").raise_for_status()
        first, last = fill(given.postgres, given.events)
        if given.superuser:
            database = given.postgres.rpartition("/")[2].partition("?")[0]
            settings = {
                "session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0",
                "auto_explain.log_analyze": "on", "auto_explain.log_timing": "off", "auto_explain.log_buffers": "on",
            }
            for name, value in settings.items():
                psql(given.superuser, f"ALTER DATABASE {database} SET {name} = '{value}'")
        with Running(given.postgres, Path(folder)) as client:
            reads(client, first, last, given)


def reads(client: httpx.Client, first: int, last: int, given: argparse.Namespace) -> None:
    def iso(ms: int) -> str:
        return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).isoformat().replace("+00:00", "Z")

    day = {"from": iso(last - DAY_MS), "until": iso(last), "tag": "310", "bucket_s": 300}
    others = [n for n in range(1, 2 * ROUNDS + 2) if n != BUSY]
    logged = given.log.stat().st_size if given.log else 0
    fields = [{"device_id": n, "tag": "310", "event_type_code": 46, "interval_m": 1440} for n in others[:ROUNDS]]
    measure(client, "fields, the last day of a device", "/device-events/fields", fields)
    series = [{"device_id": n, **day} for n in others[ROUNDS:]]
    measure(client, "series, the last day of a device", "/device-events/series", series)
    busy = [{"device_id": BUSY, **day}] * 5
    measure(client, "series, the last day of the busy device", "/device-events/series", busy)
    for depth in (0, 25, 50, 75, 99):
        after = (given.events * depth // 100 // 50) << 16
        at = [{"last_event_id": after + (n << 16), "limit": 100} for n in range(1, ROUNDS + 1)]
        measure(client, f"incremental, {depth} % deep", "/device-events/incremental", at)
    if given.log:
        time.sleep(0.5)
        shown = set()
        with given.log.open() as log:
            log.seek(logged)
            # Lines that go on begin with a tab.
            for entry in re.findall(r"plan:\n((?:\t.*\n)+)", log.read()):
                nodes = [line for line in entry.splitlines() if not line.startswith(("\tQuery Text", "\tQuery Param"))]
                kind = tuple(re.findall(r"->  ([A-Z][A-Za-z ]+)", entry))
                if " events" in entry and kind not in shown and len(shown) < 6:
                    shown.add(kind)
                    print("\n" + "\n".join(line.removeprefix("\t")[:160] for line in nodes))


if __name__ == "__main__":
    main()
