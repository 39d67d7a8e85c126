"""One who reads much, or takes nothing of what it asked for, beside others: memory stays bounded, and they are served.

`bench/neighbours.py` measures the same at full size.
"""

import json

import pytest

from testbed.api import DONE, is_problem
from testbed.http2_client import Http2
from testbed.neighbour import Reader, Watch, fill, resident_mib

# Longer than a call takes on a machine that is busy with other tests, and shorter than one that had to wait for
# whole streams. What a call takes is measured by the program.
STOOD_STILL_MS = 10_000.0


@pytest.fixture
def filled(new_server, new_api, connect, tmp_path):
    """A server with events of 60 kB, and its API."""

    def new(events: int, *options: str):
        server = new_server("--events-per-second-max", "0", "--device-bytes-per-day-max", "0", *options)
        api = new_api(server)
        device = connect(server, api.register(tmp_path))
        fill(server, device, api, events, 60_000)
        return server, api, device

    return new


def create(device):
    return lambda api: api.request_task(device)


@pytest.mark.embedded
@pytest.mark.timeout(240)
def test_streams_that_nobody_reads_hold_no_more_than_their_share(filled):
    server, api, device = filled(300)
    quiet = resident_mib(server)
    deaf = Http2(server.https, server.ca, takes=False)
    with deaf, Watch(server, server.key, create(device)) as watch:
        for _ in range(100):
            deaf.ask("/api/v1/stream?cursor=0&kind=event", key=server.key)
        # Honest ones come after them, and get all there is.
        readers = [Reader(server.http, server.key, 300) for _ in range(10)]
        try:
            assert all(reader.join(120) for reader in readers), [(one.count, one.end) for one in readers]
        finally:
            for reader in readers:
                reader.close()
    told = watch.told()
    print(json.dumps(told), quiet)
    assert told["refused"] == 0, watch.refused
    assert told["peak_mib"] - quiet < 200, (told, quiet)
    assert told["max_ms"] < STOOD_STILL_MS, told


@pytest.mark.embedded
@pytest.mark.timeout(240)
def test_slow_readers_of_the_past_get_all_of_it_within_a_small_bound(filled):
    server, api, device = filled(120, "--stream-bytes-max", str(8 * 1024 * 1024))
    quiet = resident_mib(server)
    # Four pages are all that fits, and there are more readers than that: all of it would be 230 MB.
    deaf = Http2(server.https, server.ca, takes=False)
    with deaf, Watch(server, server.key, create(device)) as watch:
        for _ in range(20):
            deaf.ask("/api/v1/stream?cursor=0&kind=event", key=server.key)
        readers = [Reader(server.http, server.key, 120, pause=0.01) for _ in range(12)]
        try:
            assert all(reader.join(150) for reader in readers), [(one.count, one.end) for one in readers]
        finally:
            for reader in readers:
                reader.close()
    told = watch.told()
    print(json.dumps(told), quiet)
    assert told["peak_mib"] - quiet < 80, (told, quiet)


@pytest.mark.timeout(120)
def test_a_page_that_would_be_too_large_is_refused_and_a_cursor_goes_through_all(filled):
    server, api, device = filled(80)
    # 80 events of 60 kB are 4.8 MB.
    refused = api.get("/device-events", params={"size": 80, "device_id": device.device_id})
    assert is_problem(refused, 422) and refused.json()["field"] == "size" and "cursor" in refused.json()["detail"]
    numbers = []
    for page in (1, 2):
        found = api.get("/device-events", params={"size": 40, "page": page, "device_id": device.device_id}).json()
        numbers += [event["payload"]["n"] for event in found["items"]]
    assert numbers == list(range(80, 0, -1))
    cursor, numbers, sizes = "newest", [], []
    while cursor:
        params = {"cursor": cursor, "size": 1000, "device_id": device.device_id}
        answer = api.get("/device-events", params=params)
        found = answer.json()
        cursor = found["next_cursor"]
        numbers += [event["payload"]["n"] for event in found["items"]]
        sizes.append(len(answer.content))
    assert numbers == list(range(80, 0, -1)) and len(sizes) == 2 and max(sizes) < 4.3e6, sizes
    after, numbers = 0, []
    while events := api.get("/device-events/incremental", params={"last_event_id": after, "limit": 100}).json():
        numbers += [event["payload"]["n"] for event in events]
        after = events[-1]["id"]
    assert numbers == list(range(1, 81))
    fields = {"device_id": device.device_id, "event_type_code": 13, "tag": "pad"}
    refused = api.get("/device-events/fields", params={**fields, "limit": 80})
    assert is_problem(refused, 422) and refused.json()["field"] == "limit"
    assert len(api.get("/device-events/fields", params={**fields, "limit": 60}).json()) == 60


@pytest.mark.timeout(120)
def test_a_task_shows_its_newest_results_and_the_rest_by_cursor(api, device):
    task = api.create(device)
    device.take(task)
    for number in range(1, 251):
        assert device.res(task, 206, json.dumps({"n": number}), ext_id=number) == 0
    device.finish(task, 200, b'{"n": 251}')
    pages, shown = [], api.settled(task, DONE)
    while True:
        pages.append([result["result"]["n"] for result in shown["results"]])
        if shown["results_next"] is None:
            break
        shown = api.task(task, results_cursor=shown["results_next"])
    assert [len(page) for page in pages] == [100, 100, 51]
    assert sum(pages, []) == list(range(251, 0, -1))
    for bad in ("before-0", "17", "x"):
        assert is_problem(api.get(f"/device-tasks/{task}", params={"results_cursor": bad}), 422)
    oldest = api.task(task, results_cursor=f"before-{shown['results'][-1]['id']}", wait=60)
    assert (oldest["results"], oldest["results_next"]) == ([], None)


@pytest.mark.timeout(120)
def test_large_results_are_shown_up_to_a_bound_and_all_of_them_by_cursor(api, device):
    task = api.create(device)
    device.take(task)
    for number in range(1, 10):
        body = json.dumps({"n": number, "pad": "x" * 200_000})
        assert device.res(task, 206, body, ext_id=number) == 0
    device.finish(task, 200, b'{"n": 10}')
    api.settled(task, DONE)
    answer, numbers, sizes = api.get(f"/device-tasks/{task}"), [], []
    while True:
        shown = answer.json()
        numbers += [result["result"]["n"] for result in shown["results"]]
        sizes.append(len(answer.content))
        if shown["results_next"] is None:
            break
        answer = api.get(f"/device-tasks/{task}", params={"results_cursor": shown["results_next"]})
    assert numbers == list(range(10, 0, -1)) and max(sizes) < 1.2e6, sizes
