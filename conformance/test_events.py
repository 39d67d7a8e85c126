"""Events and gauges of devices (device-events): what is stored, what is answered, and what is refused."""

import datetime
import json
import random
import time

import pytest

from testbed.api import DONE
from testbed.broker import LINK
from testbed.device import POLL, MQTTv311

CORRELATION = "01901f2e-3d4c-7b5a-8877-665544332211"
AT = 1_769_860_800  # 2026-01-31T12:00:00Z
BODY_BYTES_MAX = 64 * 1024
PAYLOAD_FORMAT_INVALID = 0x99


@pytest.fixture
def device(server, identity, connect):
    return connect(server, identity, "eva")


def tell(device, body: bytes | str = "{}", *, type_code=None, number=None, at=None, correlation_id=None, **more) -> int:
    """Publishes an event; what is None is left out."""
    given = {
        "event_type_code": type_code,
        "dev_event_id": number,
        "dev_timestamp": at,
        "correlation_id": correlation_id,
    }
    properties = {name: value for name, value in given.items() if value is not None}
    return device.publish(f"dev/{device.sn}/evt", body, properties=properties, **more)


def stored(api, device, count: int | None = None, seconds: float = 10.0) -> list[dict]:
    """What the device has told, oldest first; waits until it is so many, where the broker acknowledges before the
    commit."""
    params = {"device_id": device.device_id, "size": 1000, "events_exclude": [-1, -2]}
    deadline = time.monotonic() + (0 if LINK.acknowledges_after_commit else seconds)
    if count is None:
        LINK.settle()
    while True:
        answer = api.get("/device-events", params=params)
        assert answer.status_code == 200, answer.text
        items = answer.json()["items"]
        if count is None or len(items) >= count or time.monotonic() > deadline:
            assert count is None or len(items) == count, f"{len(items)} are not {count}"
            return items[::-1]
        time.sleep(0.05)


def raw_payload(api, device) -> str:
    """The body of the device's only event, exactly as it is in the answer."""
    stored(api, device, 1)
    params = {"device_id": device.device_id, "events_exclude": [-1, -2]}
    text = api.get("/device-events", params=params).text
    begin = text.index('"payload":') + len('"payload":')
    _, end = json.JSONDecoder().raw_decode(text, begin)
    return text[begin:end]


def seconds(moment: str) -> float:
    """A time as the API shows it, in Unix seconds."""
    return datetime.datetime.fromisoformat(moment).timestamp()


@pytest.mark.every_shape
def test_an_event_is_stored_and_answered(api, device):
    body = '{ "101" : 8,"300":[{"301":1.50}],\n"text":"\\u00e9 é" }'
    assert tell(device, body, type_code=13, number=7, at=AT, correlation_id=CORRELATION) == 0
    eva = device.expect("eva")
    assert (eva.body, eva.qos) == (b'{"status":"success"}', 0)
    assert (eva["event_type_code"], eva["dev_event_id"], eva["correlationData"]) == ("13", "7", CORRELATION)
    assert eva.task_id == CORRELATION
    assert LINK.is_told(eva.expiry, 170, 180)
    (event,) = stored(api, device, 1)
    assert (event["device_id"], event["sn"]) == (device.device_id, device.sn)
    assert (event["event_type_code"], event["dev_event_id"]) == (13, 7)
    assert event["correlation_id"] == CORRELATION
    assert seconds(event["timestamp"]) == AT
    assert (event["dev_timestamp"], event["created_at"]) == (event["timestamp"], event["received_at"])
    assert abs(seconds(event["received_at"]) - time.time()) < 60
    assert raw_payload(api, device) == body, "byte for byte"


@pytest.mark.every_shape
def test_what_properties_do_not_tell_the_body_does(api, device):
    tell(device, '{"101":"7","102":"2026-01-31 12:00:00ZMSK","200":14,"300":[{"301":5}]}')
    eva = device.expect("eva")
    assert (eva["event_type_code"], eva["dev_event_id"], eva["correlationData"]) == ("14", "7", POLL)
    tell(device, '{"101":9,"102":1,"200":15}', type_code=16, number=8, at=AT + 1)
    assert device.expect("eva")["dev_event_id"] == "8"
    events = [(one["event_type_code"], one["dev_event_id"], seconds(one["timestamp"])) for one in stored(api, device, 2)]
    assert events == [(14, 7, AT), (16, 8, AT + 1)]


@pytest.mark.parametrize(
    ("written", "seconds_wanted"),
    [
        (AT, AT),
        (f"{AT}.25", AT + 0.25),
        (AT * 1000 + 250, AT + 0.25),
        ("2026-01-31T12:00:00Z", AT),
        ("2026-01-31T15:00:00+03:00", AT),
        ("2026-01-31T15:00:00+0300", AT),
        ("2026-01-31T15:00:00+03", AT),
        ("2026-01-31 12:00:00", AT),
        ("2026-01-31 12:00:00MSK", AT),
        ("2026-01-31T12:00:00ZMSK", AT),
        ("yesterday", None),
        ("", None),
        ("99999999999999999999", None),
        ("2026-02-30T12:00:00Z", None),
    ],
)
def test_odd_times(api, device, written, seconds_wanted):
    """What cannot be read is the server's time; it is no reason to lose an event."""
    assert tell(device, type_code=13, number=1, at=written) == 0
    device.expect("eva")
    tell(device, json.dumps({"102": written}), type_code=13, number=2)
    device.expect("eva")
    for event in stored(api, device, 2):
        if seconds_wanted is None:
            assert event["timestamp"] == event["received_at"]
        else:
            assert abs(seconds(event["timestamp"]) - seconds_wanted) < 1.0


def test_an_event_without_type_or_number_is_stored_and_not_answered(api, device):
    for body, more in [("", {}), ("{}", {"number": 7}), ("{}", {"type_code": 13}), ('{"200":0,"101":3}', {})]:
        assert tell(device, body, **more) == 0
    told = [(one["event_type_code"], one["dev_event_id"], one["payload"]) for one in stored(api, device, 4)]
    assert told == [(0, 0, {}), (0, 7, {}), (13, 0, {}), (0, 3, {"200": 0, "101": 3})]
    assert device.is_quiet("eva", seconds=0.3)


@pytest.mark.every_shape
def test_every_tenth_comes_twice_and_is_stored_once(api, server, device):
    duplicates = server.metric("covey_duplicate_events_total")
    chance = random.Random(7)
    numbers = list(range(1, 201))
    sent = [number for number in numbers for _ in range(2 if number % 10 == 0 else 1)]
    again = [number for number in numbers if number % 10 == 0]
    for number in [*sent, *chance.sample(again, len(again))]:
        assert tell(device, json.dumps({"n": number}), type_code=13, number=number, at=AT) == 0
        assert device.expect("eva")["dev_event_id"] == str(number)
    assert [one["dev_event_id"] for one in stored(api, device, 200)] == numbers
    assert server.metric("covey_duplicate_events_total") == duplicates + 40


def test_what_tells_events_apart(api, device):
    for number, at in [(1, AT), (1, AT + 1), (2, AT), (1, AT), (0, AT), (0, AT)]:
        tell(device, type_code=13, number=number, at=at)
    # One without a time has that of its receipt, to the millisecond.
    for count in (6, 7):
        tell(device, type_code=13, number=3)
        stored(api, device, count)
        time.sleep(0.002)
    keys = [(one["dev_event_id"], seconds(one["timestamp"]) - AT) for one in stored(api, device, 7)]
    assert keys[:5] == [(1, 0), (1, 1), (2, 0), (0, 0), (0, 0)]
    assert [number for number, _ in keys[5:]] == [3, 3]


@pytest.mark.every_shape
def test_a_gauge_is_the_last_body_and_no_event(api, device):
    for number in (1, 2, 3):
        assert tell(device, json.dumps({"320": number}), type_code=44, number=number, at=AT) == 0
    tell(device, type_code=13, number=4)
    device.expect("eva")
    assert len(stored(api, device, 1)) == 1
    answer = api.get("/gauges", params={"device_id": device.device_id})
    (gauge,) = answer.json()["items"]
    assert (gauge["type"], gauge["gauges"]) == ("44", {"320": 3})
    assert abs(seconds(gauge["updated_at"]) - time.time()) < 60
    (row,) = api.get("/devices", params={"device_id": device.device_id}).json()
    assert row["device_gauges"] == [gauge]
    assert device.is_quiet("eva", seconds=0.3)


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def body_of(size: int) -> str:
    """An object of so many bytes."""
    body = f'{{"text":"{"x" * (size - 11)}"}}'
    assert len(body) == size
    return body


def test_the_largest_that_is_taken(api, device):
    tell(device, body_of(BODY_BYTES_MAX), type_code=2**31 - 1, number=2**32 - 1, at=AT)
    assert device.expect("eva").body == b'{"status":"success"}'
    tell(device, deep(64), type_code=13, number=1, at=AT)
    assert device.expect("eva").body == b'{"status":"success"}'
    large, nested = stored(api, device, 2)
    assert (large["event_type_code"], large["dev_event_id"]) == (2**31 - 1, 2**32 - 1)
    assert large["payload"] == json.loads(body_of(BODY_BYTES_MAX))
    assert nested["payload"] == json.loads(deep(64))


@pytest.mark.parametrize(
    ("body", "fields", "is_known"),
    [
        (body_of(BODY_BYTES_MAX + 1), {"type_code": 13, "number": 7}, True),
        (deep(65), {"type_code": 13, "number": 7}, True),
        (deep(20_000), {"type_code": 13, "number": 7}, True),
        ("[]", {"type_code": 13, "number": 7}, True),
        ('"text"', {"type_code": 13, "number": 7}, True),
        ("null", {"type_code": 13, "number": 7}, True),
        ("hello", {"type_code": 13, "number": 7}, True),
        (b"\xff\xfe\x00", {"type_code": 13, "number": 7}, True),
        ('{"a":1', {"type_code": 13, "number": 7}, True),
        ('{"a":1}}', {"type_code": 13, "number": 7}, True),
        ("rubbish", {}, False),
        ("{}", {"type_code": "x", "number": 7}, False),
        ("{}", {"type_code": -1, "number": 7}, False),
        ("{}", {"type_code": 2**31, "number": 7}, False),
        ("{}", {"type_code": 13, "number": 2**32}, False),
        ("{}", {"type_code": 13, "number": -1}, False),
        ("{}", {"type_code": 13, "number": "7.0"}, False),
        ("{}", {"type_code": "", "number": 7}, False),
        ('{"200":13,"101":4294967296}', {}, False),
        ('{"200":2147483648,"101":7}', {}, False),
        ('{"200":"-1"}', {"number": 7}, False),
        ("[]", {"type_code": 44, "number": 7}, False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_taken(api, server, device, body, fields, is_known):
    """It is refused and counted; where the device can be told which event it was, it is told."""
    refused = server.refusals("payload")
    code = tell(device, body, **fields)
    assert code == PAYLOAD_FORMAT_INVALID or not LINK.acknowledges_after_commit, f"{code:#04x}"
    if is_known:
        eva = device.expect("eva")
        assert (eva.body, eva["event_type_code"], eva["dev_event_id"]) == (b'{"status":"error"}', "13", "7")
    # The connection goes on.
    tell(device, type_code=13, number=8)
    eva = device.expect("eva")
    assert (eva.body, eva["dev_event_id"]) == (b'{"status":"success"}', "8")
    assert len(stored(api, device, 1)) == 1
    assert server.refusals("payload") >= refused + 1


def test_rubbish_in_the_body_is_no_reason_to_lose_an_event(api, device):
    bodies = [
        '{"200":"x","101":{},"102":[]}',
        '{"200":1.5,"101":"-","102":true}',
        '{"200":1e30,"101":99999999999.0,"102":99999999999999999999}',
        '{"101":1,"101":2,"200":3,"200":null}',
        '{"reported":5,"300":{}}',
        '{"":"","\\u0000":"\\u0000"}',
        '{"n":123456789012345678901234567890.5e400}',
    ]
    for body in bodies:
        assert tell(device, body) == 0
    events = stored(api, device, len(bodies))
    assert [one["event_type_code"] for one in events] == [0] * len(bodies)
    assert [one["dev_event_id"] for one in events] == [0, 0, 0, 2, 0, 0, 0]


@pytest.mark.every_shape
def test_a_topic_of_its_own_that_means_nothing_is_told_to_the_device(server, device):
    unheard = server.refusals("unknown_topic")
    for level in ("evts", "EVT", "evt/"):
        code = device.publish(f"dev/{device.sn}/{level}", "{}")
        assert code == 0x10 if LINK.is_own else code in (0x00, 0x10)
    assert not LINK.is_own or server.refusals("unknown_topic") == unheard + 3


def test_a_correlation_is_found_where_devices_put_it(api, device):
    short = CORRELATION.replace("-", "")
    tell(device, type_code=13, number=1, correlation_id=short)
    tell(device, type_code=13, number=2, correlation=CORRELATION)
    tell(device, type_code=13, number=3, correlation=bytes.fromhex(short))
    device.publish(f"dev/{device.sn}/evt", "{}", properties={"correlationData": CORRELATION, "event_type_code": 13})
    tell(device, type_code=13, number=5, correlation_id="no UUID")
    tell(device, type_code=13, number=6, correlation_id=POLL)
    found = [one["correlation_id"] for one in stored(api, device, 6)]
    assert found == [CORRELATION] * 4 + [None] * 2


def test_events_of_others_are_out_of_reach(api, other_api, device, victim_identity):
    victim = victim_identity.sn
    assert LINK.foreign_publish in ("the connection is closed", 0x87)
    if LINK.foreign_publish == 0x87:
        properties = {"event_type_code": 13, "dev_event_id": 1}
        assert device.publish(f"dev/{victim}/evt", "{}", properties=properties) == 0x87
    tell(device, type_code=13, number=2)
    stored(api, device, 1)
    LINK.settle()
    assert api.get("/device-events", params={"device_id": victim_identity.device_id}).json()["items"] == []
    assert other_api.get("/device-events", params={"device_id": device.device_id}).json()["items"] == []


def test_events_keep_their_order_and_calls_go_on_between(api, server, identity, connect):
    """Hundreds are under way at once; with a broker between, one server keeps the order of what it is given."""
    device = connect(server, identity, "tsk", "rsp", "cmt")
    for number in range(1, 601):
        properties = {"event_type_code": 13, "dev_event_id": number, "dev_timestamp": AT}
        device.send(f"dev/{device.sn}/evt", json.dumps({"n": number}), properties=properties)
        if number == 300:
            task_id = api.create(device)
    assert device.expect("tsk").task_id == task_id
    device.take(task_id)
    device.finish(task_id)
    assert api.status(task_id) == DONE
    device._wait("PUBACKs", lambda: len(device.acks) >= 602, 30)
    assert all(code == 0 for code in device.acks.values())
    assert [one["dev_event_id"] for one in stored(api, device, 600)] == list(range(1, 601))


@pytest.mark.embedded
def test_a_flood_is_told_0x97_and_stores_nothing(new_server, new_api, connect, tmp_path):
    server = new_server("--events-per-second-max", "10")
    api = new_api(server)
    device = connect(server, api.register(tmp_path), "eva")
    codes = [tell(device, type_code=13, number=number, at=AT) for number in range(1, 301)]
    taken = [number for number, code in enumerate(codes, 1) if code == 0]
    assert set(codes) == {0, 0x97} and taken[0] == 1
    assert [one["dev_event_id"] for one in stored(api, device)] == taken
    assert server.refusals("flood") == 300 - len(taken)
    answers = [device.expect("eva") for _ in range(300)]
    assert sum(one.body == b'{"status":"error"}' for one in answers) == 300 - len(taken)
    assert 1 <= sum("message refused" in line for line in server.log_text().splitlines()) <= 3, "the log is not flooded"
    # Nothing more than the pause is needed, and another device is not held up.
    time.sleep(0.3)
    assert tell(device, type_code=13, number=1000) == 0
    assert tell(connect(server, api.register(tmp_path), "eva"), type_code=13, number=1) == 0
    # What nobody was promised is dropped.
    dropped = server.refusals("flood")
    for number in range(2000, 2100):
        tell(device, type_code=13, number=number, qos=0)
    assert tell(device, type_code=13, number=3000) in (0, 0x97)
    assert server.refusals("flood") > dropped + 50


@pytest.mark.embedded
def test_a_flood_over_3_1_1_loses_nothing(new_server, new_api, connect, tmp_path):
    """That version cannot be told why, so its connection ends without a PUBACK, and it sends again."""
    server = new_server("--events-per-second-max", "20")
    api = new_api(server)
    identity = api.register(tmp_path)
    left = list(range(1, 401))
    deadline = time.monotonic() + 120
    connections = 0
    while left:
        assert time.monotonic() < deadline, f"{len(left)} are left after {connections} connections"
        device = connect(server, identity, "-", protocol=MQTTv311)
        connections += 1
        # All at once, so that it is a flood on a slow machine, too.
        bodies = ((number, json.dumps({"200": 13, "101": number, "102": AT})) for number in left)
        under_way = {device.send(f"dev/{device.sn}/evt", body): number for number, body in bodies}
        with device.changed:
            assert device.changed.wait_for(lambda: device.ended or under_way.keys() <= device.acks.keys(), 60)  # noqa: B023
            left = sorted(number for mid, number in under_way.items() if mid not in device.acks)
        time.sleep(0.5)
    assert connections > 1
    kept = [one["dev_event_id"] for one in stored(api, identity)]
    assert sorted(kept) == list(range(1, 401))
    assert kept == sorted(kept), "nothing of a connection is taken after what was refused"


def test_foreign_brokers_have_promised_so_a_flood_is_stored(new_server, new_api, connect, tmp_path):
    if LINK.acknowledges_after_commit:
        pytest.skip("the embedded broker refuses instead")
    server = new_server("--events-per-second-max", "1")
    api = new_api(server)
    device = connect(server, api.register(tmp_path), "eva")
    for number in range(1, 101):
        tell(device, type_code=13, number=number, at=AT)
    assert [one["dev_event_id"] for one in stored(api, device, 100)] == list(range(1, 101))
    assert server.refusals("flood") > 50


@pytest.mark.every_shape
def test_mqtt_3_1_1_with_and_without_an_envelope(api, server, identity, connect):
    device = connect(server, identity, "eva", protocol=MQTTv311)
    body = '{ "200" : 14, "101":8 }'
    fields = f'"event_type_code":"13","dev_event_id":7,"dev_timestamp":{AT},"correlation_id":"{CORRELATION}"'
    device.publish(f"dev/{device.sn}/evt", f'{{{fields},"payload":{body}}}')
    eva = json.loads(device.expect("eva").body)
    assert eva == {
        "correlationData": CORRELATION,
        "event_type_code": 13,
        "dev_event_id": 7,
        "payload": {"status": "success"},
    }
    assert raw_payload(api, device) == body
    # The event itself, also one that has a `payload` of another kind.
    device.publish(f"dev/{device.sn}/evt", '{"200":14,"101":9,"payload":"text"}')
    assert json.loads(device.expect("eva").body)["dev_event_id"] == 9
    device.publish(f"dev/{device.sn}/evt", "")
    device.publish(f"dev/{device.sn}/evt", "rubbish")
    device.publish(f"dev/{device.sn}/evt", '{"event_type_code":"x","payload":{}}')
    device.publish(f"dev/{device.sn}/evt", '{"event_type_code":13,"dev_event_id":10,"payload":{}}')
    assert json.loads(device.expect("eva").body)["dev_event_id"] == 10
    told = [(one["event_type_code"], one["dev_event_id"]) for one in stored(api, device, 4)]
    assert told == [(13, 7), (14, 9), (0, 0), (13, 10)]
