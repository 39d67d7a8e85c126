"""What one organisation reads of much costs no other organisation anything that it would notice, and is bounded."""

import concurrent.futures
import sqlite3
import statistics
import subprocess
import time

import httpx
import pytest

from testbed.answering import Answering
from testbed.api import RIGHTS, Api
from testbed.device import Device

pytestmark = pytest.mark.every_shape

EVENTS = 150_000
# As many searches and series as an organisation may have under way (`docs/operating.md`).
SCANS_MAX = 16
AT_ONCE = 24
DAY_MS = 86_400_000
# What others may need, in seconds, on a machine that runs other tests beside: behind the searches they waited for all of them.
MEDIAN_MAX, LONGEST = 1.0, 8.0
COLUMNS = "id, org_id, device_key, device_id, sn, type_code, dev_event_id, dev_timestamp, received_at, payload"


def fill_sqlite(path, sn: str) -> None:
    """Events of the last hour, of one device."""
    db = sqlite3.connect(path, isolation_level=None)
    head = db.execute("SELECT number FROM record_head").fetchone()[0]
    at = f"{int(time.time() * 1000) - 3_600_000} + i * 20"
    db.execute("BEGIN")
    db.execute(
        f"""INSERT INTO events ({COLUMNS})
        WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {EVENTS})
        SELECT {head} + 1 + i, d.org_id, d.id, d.device_id, d.sn, 13, i + 1, {at}, {at}, '{{"310":' || (i % 100) || '}}'
        FROM n JOIN devices d ON d.sn = '{sn}'"""
    )
    db.execute("UPDATE record_head SET number = number + ?", [EVENTS])
    db.execute("COMMIT")
    db.close()


def fill_postgres(url: str, sn: str) -> None:
    """The same."""
    at = f"{int(time.time() * 1000) - 3_600_000} + i * 20"
    sql = f"""
        INSERT INTO deployment (key, value) VALUES ('record_offset', '{EVENTS}')
            ON CONFLICT (key) DO UPDATE SET value = excluded.value;
        INSERT INTO events ({COLUMNS})
        SELECT ((i / 50) << 16) | (i % 50), d.org_id, d.id, d.device_id, d.sn, 13, i, {at}, {at}, '{{"310":' || (i % 100) || '}}'
        FROM generate_series(1::int8, {EVENTS}) AS i JOIN devices d ON d.sn = '{sn}'; ANALYZE events;"""
    subprocess.run(["psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", url], input=sql, text=True, check=True)


@pytest.fixture
def full(new_server, tmp_path):
    """A server, and a device that has sent much."""
    server = new_server()
    device = Api(server.http, server.key).register(tmp_path)
    store = server.environment().get("COVEY_STORE", "")
    assert server.stop() == 0
    fill_postgres(store, device.sn) if store.startswith("postgres") else fill_sqlite(server.data / "covey.db", device.sn)
    server.start()
    return server, device


def search(server, device) -> httpx.Response:
    """Counts events of a type, which no index does."""
    parameters = {"device_id": device.device_id, "events_include": 13, "size": 1}
    headers = {"x-api-key": server.key}
    return httpx.get(f"{server.http}/api/v1/device-events", params=parameters, headers=headers, timeout=70)


def test_searches_are_bounded_for_an_organisation_and_others_notice_nothing(full, tmp_path):
    server, device = full
    victim = Api(server.http, Api(server.http, server.key).key_with(RIGHTS, org="victim"))
    called = victim.register(tmp_path)
    Answering(Device(called, server.mqtts, server.ca).connect())
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        searching = [pool.submit(search, server, device) for _ in range(AT_ONCE)]
        took: list[float] = []
        while not all(one.done() for one in searching):
            for act in (
                lambda: victim.request_task(called, wait=30).raise_for_status(),
                lambda: httpx.get(f"{server.http}/readyz").raise_for_status(),
                lambda: victim.get("/device-events", params={"cursor": "newest"}).raise_for_status(),
                lambda: victim.get("/devices").raise_for_status(),
            ):
                begun = time.monotonic()
                act()
                took.append(time.monotonic() - begun)
    answers = [one.result() for one in searching]
    done = [one for one in answers if one.status_code == 200]
    refused = [one for one in answers if one.status_code == 429]
    assert len(done) + len(refused) == AT_ONCE, [one.text for one in answers if one.status_code not in (200, 429)]
    assert len(done) >= SCANS_MAX and refused, f"{len(done)} in {time.monotonic() - began:.1f} s"
    assert all(one.json()["total"] == EVENTS for one in done)
    for one in refused:
        assert one.headers["retry-after"] == "5" and str(SCANS_MAX) in one.json()["detail"]
    assert statistics.median(took) < MEDIAN_MAX and max(took) < LONGEST, (statistics.median(took), max(took))
    assert search(server, device).status_code == 200, "those that ended count no more"


def test_a_series_is_the_same_however_often_it_is_asked_for(full):
    server, device = full
    api = Api(server.http, server.key)
    until = int(time.time())
    parameters = {"device_id": device.device_id, "tag": "310", "from": until - 7_200, "until": until}
    first, again = [api.get("/device-events/series", params=parameters).json() for _ in range(2)]
    assert first == again
    assert sum(bucket["count"] for bucket in first["buckets"]) == EVENTS
    # Another width, in which nothing is known.
    wider = api.get("/device-events/series", params=parameters | {"bucket_s": 600}).json()
    assert sum(bucket["count"] for bucket in wider["buckets"]) == EVENTS
    assert (wider["buckets"][0]["min"], wider["buckets"][0]["max"]) == (0, 99)
