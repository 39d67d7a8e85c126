"""Events as applications read them: pages, cursors, `/incremental`, `/fields` and `/series` (rest-api.md "Events")."""

import json
import time

import pytest

from testbed.api import is_problem
from test_events import seconds, stored, tell

pytestmark = pytest.mark.every_shape

COUNT = 23
NEVER_ISSUED = 9_000_000_000_000_000


@pytest.fixture
def device(server, identity, connect):
    return connect(server, identity, "eva")


@pytest.fixture
def told(api, device) -> list[dict]:
    """What the device has told, oldest first: `COUNT` events, every other one of the type 13 with an object `300`."""
    for number in range(1, COUNT + 1):
        value = {"310": number, "name": f"n{number}"}
        body = {"300": [value, {"310": -1}], "310": -2} if number % 2 else value
        tell(device, json.dumps(body), type_code=13 if number % 2 else 14, number=number)
    return stored(api, device, COUNT)


def ids(events: list[dict]) -> list[int]:
    return [event["id"] for event in events]


def asked(api, path: str, /, **params):
    answer = api.get(f"/device-events{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_pages_and_cursors_show_each_event_once_newest_first(api, device, told):
    wanted = {"device_id": device.device_id, "events_exclude": [-1, -2], "size": 5}
    pages = [asked(api, "", **wanted, page=page) for page in range(1, 7)]
    assert [event for page in pages for event in ids(page["items"])] == ids(told)[::-1]
    assert {(page["total"], page["pages"]) for page in pages} == {(COUNT, 5)}
    seen, cursor = [], "newest"
    while cursor:
        page = asked(api, "", **wanted, cursor=cursor)
        seen, cursor = seen + ids(page["items"]), page["next_cursor"]
        tell(device, "{}", type_code=15, number=1000 + len(seen))  # what comes meanwhile shifts nothing
    assert seen == ids(told)[::-1]


def test_filters_leave_out_what_is_not_wanted(api, server, connect, device, told, victim_identity):
    victim = connect(server, victim_identity, "eva")
    tell(victim, "{}", type_code=16)
    (other,) = stored(api, victim, 1)

    def shown(**params) -> list[int]:
        return ids(asked(api, "", device_id=device.device_id, size=100, **params)["items"])[::-1]

    odd = [event["id"] for event in told if event["event_type_code"] == 13]
    even = [event["id"] for event in told if event["event_type_code"] == 14]
    assert shown(events_include=[13]) == odd
    assert shown(events_include=[13, 14], events_exclude=[13]) == even
    assert shown(events_include=[13], received_after=int(time.time()) + 60) == []
    assert shown(events_include=[13], received_before=int(time.time()) + 60) == odd
    both = asked(api, "", device_id=[device.device_id, victim.device_id], events_include=[13, 16])["items"]
    assert ids(both)[::-1] == [*odd, other["id"]]


def test_each_event_is_given_once_to_each_key_or_after_any_number(api, server, new_api, device, told):
    own = {"device_id": device.device_id}
    events = [event for event in asked(api, "/incremental", **own, last_event_id=0, limit=100) if event["id"] in ids(told)]
    assert ids(events) == ids(told), "in ascending order"
    after = asked(api, "/incremental", **own, last_event_id=told[9]["id"], limit=3)
    assert ids(after) == ids(told)[10:13]
    for _ in range(2):  # as often as there are keys
        reader, given = new_api(server, api.key_with(["events:read"])), []
        while some := asked(reader, "/incremental", **own, limit=7):
            given += ids(some)
            head = reader.head("/device-events/incremental", params=own)
            assert head.status_code == 200 and "content-length" not in head.headers, "which takes nothing"
        assert [event for event in given if event in ids(told)] == ids(told)
        tell(device, "{}", type_code=15)
        (newest,) = stored_of_type(api, device, 15)[-1:]
        assert ids(asked(reader, "/incremental", **own)) == [newest["id"]]
        assert asked(reader, "/incremental", **own) == []


def stored_of_type(api, device, type_code: int) -> list[dict]:
    return [event for event in stored(api, device) if event["event_type_code"] == type_code]


def test_numbers_that_were_never_issued_are_refused(api, device, told):
    for cursor in ("x", "before-", "before-0", "before--1", f"before-{NEVER_ISSUED}", "1 OR 1"):
        assert is_problem(api.get("/device-events", params={"cursor": cursor}), 422), cursor
    for number in ("x", "-1", str(NEVER_ISSUED), "9" * 30):
        answer = api.get("/device-events/incremental", params={"last_event_id": number})
        assert is_problem(answer, 422), number
    # What was issued may be the last.
    newest = asked(api, "", size=1)["items"][0]["id"]
    assert asked(api, "", cursor=f"before-{newest}", size=1)["items"][0]["id"] < newest
    asked(api, "/incremental", last_event_id=newest)


def test_fields_are_the_newest_values_of_a_tag(api, device, told):
    wanted = {"device_id": device.device_id, "event_type_code": 13, "interval_m": 15}
    fields = asked(api, "/fields/", **wanted, tag="310", limit=1000)
    assert [field["value"] for field in fields] == list(range(COUNT, 0, -2)), "of the first object of 300"
    assert all(0 <= field["interval_sec"] < 60 for field in fields)
    assert [field["value"] for field in asked(api, "/fields/", **wanted, tag="name", limit=2)] == ["n23", "n21"]
    flat = asked(api, "/fields", **{**wanted, "event_type_code": 14}, tag="310")
    assert [field["value"] for field in flat] == list(range(COUNT - 1, 0, -2)), "of the top level"
    assert asked(api, "/fields", **wanted, tag="311") == []


def test_fields_without_type_and_tag_are_those_of_the_health_check(api, device):
    tell(device, '{"338":1}', type_code=44, number=1)
    tell(device, '{"300":[{"338":17.5,"339":2}]}', type_code=44, number=2)
    tell(device, '{"338":3}', type_code=13, number=3)
    stored(api, device, 1)
    (field,) = asked(api, "/fields/", device_id=device.device_id)
    assert set(field) == {"created_at", "value", "interval_sec"}
    assert (field["value"], type(field["interval_sec"])) == (17.5, int)
    assert abs(seconds(field["created_at"]) - time.time()) < 60 and 0 <= field["interval_sec"] < 60
    assert [one["value"] for one in asked(api, "/fields", device_id=device.device_id, tag="339")] == [2]
    assert [one["value"] for one in asked(api, "/fields", device_id=device.device_id, event_type_code=13)] == [3]


def test_a_series_has_the_numbers_of_each_span(api, device, told):
    wanted = {"device_id": device.device_id, "until": int(time.time()) + 1, "bucket_s": 3600}
    numbers = range(1, COUNT + 1)
    buckets = asked(api, "/series", **wanted, tag="310")["buckets"]
    assert sum(bucket["count"] for bucket in buckets) == COUNT, "over an hour's turn there may be two"
    assert min(bucket["min"] for bucket in buckets) == 1 and max(bucket["max"] for bucket in buckets) == COUNT
    assert buckets[-1]["last"] == COUNT
    assert sum(bucket["mean"] * bucket["count"] for bucket in buckets) == pytest.approx(sum(numbers))
    second = asked(api, "/series", **wanted, path="$.300[1].310", event_type_code=13)["buckets"]
    assert {(bucket["min"], bucket["max"], bucket["mean"], bucket["last"]) for bucket in second} == {(-1, -1, -1, -1)}
    assert asked(api, "/series", **wanted, tag="name")["buckets"] == [], "no numbers"


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("", {"size": 0}),
        ("", {"page": 1, "cursor": "newest"}),
        ("", {"events_include": list(range(65))}),
        ("/incremental", {"limit": 101}),
        ("/incremental", {"limit": 0}),
        ("/fields", {"device_id": 1, "event_type_code": 13, "tag": "310", "limit": 1001}),
        ("/fields", {"device_id": 1, "event_type_code": 13, "tag": 'a"b'}),
        ("/series", {"device_id": 1}),
        ("/series", {"device_id": 1, "tag": "310", "path": "$.310"}),
        ("/series", {"device_id": 1, "path": "$..310"}),
        ("/series", {"device_id": 1, "tag": "310", "from": 10, "until": 5}),
        ("/series", {"device_id": 1, "tag": "310", "from": 0, "until": 4_000_000_000, "bucket_s": 1}),
    ],
)
def test_what_is_out_of_range_is_refused(api, path, params):
    assert is_problem(api.get(f"/device-events{path}", params=params), 422), params
