"""What an MQTT session carries from one connection to the next, and what a server says when a rule of the standard is
broken, packet by packet (MQTT 5; MQTT 3.1.1 where it says the same)."""

import concurrent.futures
import socket
import statistics
import time

import pytest

from testbed.api import DONE, FAILED
from testbed.packet import packet, text, user_property, varint
from testbed.raw_device import (
    ALIAS,
    ALIAS_MAX,
    MESSAGE_EXPIRY,
    RECEIVE_MAX,
    REASON_STRING,
    SUBSCRIPTION_ID,
    USER_PROPERTY,
    WILL_DELAY,
    Packet,
    RawDevice,
    four_bytes,
    packet_max,
    session_expiry,
    two_bytes,
)

pytestmark = pytest.mark.embedded

SUCCESS = 0x00
MALFORMED, PROTOCOL_ERROR = 0x81, 0x82
NOT_AUTHORIZED, TAKEN_OVER = 0x87, 0x8E
TOPIC_ALIAS_INVALID, PACKET_ID_NOT_FOUND = 0x94, 0x92
KEEP_ALIVE_TIMEOUT = 0x8D
KEPT = session_expiry(300)


@pytest.fixture
def raw(server, identity):
    """Makes connections of the device; they end with the test."""
    made = []

    def new(**more) -> RawDevice:
        made.append(RawDevice(server, identity, **more))
        return made[-1]

    yield new
    for one in made:
        one.close()


@pytest.fixture
def listening(raw):
    """Makes connections that have said CONNECT and subscribed to everything."""

    def new(**more) -> RawDevice:
        device = raw()
        connack = device.connect(**more)
        assert connack.reason == SUCCESS
        if not connack.session_present:
            assert device.subscribe(f"srv/{device.sn}/+").reasons == [1]
        return device

    return new


def stored(api, device, type_code: int) -> int:
    """How many events of this type are stored of a device."""
    params = {"device_id": device.device_id, "events_include": type_code}
    return api.get("/device-events", params=params).json()["total"]


def comes_true(what, seconds: float = 5.0) -> bool:
    """Whether this becomes true in time."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def ending(packets: list[Packet]) -> list[tuple[str, int]]:
    return [(one.kind, one.reason) for one in packets]


# Take-over (MQTT 5 §3.1.4, §4.1)


@pytest.mark.parametrize("apart", [0.0, 0.005, 0.03])
def test_of_two_connects_while_the_session_before_ends_one_lives_and_the_other_is_told(raw, apart):
    for _ in range(5):
        old = raw()
        assert old.connect().reason == SUCCESS
        two = [raw(), raw()]
        old.close()
        for connection in two:
            connection.send(connection.connect_packet())
            time.sleep(apart)
        # Which CONNECT the server reads first is the network's and the scheduler's to decide.
        ends = sorted((ending(connection.all(0.3)) for connection in two), key=len)
        assert ends[0] == [("CONNACK", SUCCESS)]
        assert ends[1][-2:] == [("DISCONNECT", TAKEN_OVER), ("EOF", 0)]
        for connection in two:
            connection.close()


def test_the_later_of_two_connects_lives(raw):
    for _ in range(5):
        earlier, later = raw(), raw()
        assert earlier.connect().reason == SUCCESS
        assert later.connect().reason == SUCCESS
        assert ending(earlier.all(0.3)) == [("DISCONNECT", TAKEN_OVER), ("EOF", 0)]
        assert later.all(0.1) == []
        later.close()


def test_of_ten_connects_at_once_one_lives(raw):
    connections = [raw() for _ in range(10)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda one: one.send(one.connect_packet()), connections))
    ends = [ending(one.all(0.5)) for one in connections]
    assert sum(end[-1] == ("CONNACK", SUCCESS) for end in ends) == 1
    assert sum(end[-1] == ("EOF", 0) for end in ends) == 9


def test_a_device_that_comes_back_at_once_is_not_made_to_wait(raw):
    took = []
    for _ in range(15):
        device = raw()
        started = time.monotonic()
        assert device.connect().reason == SUCCESS
        took.append(time.monotonic() - started)
        device.close()
    assert sorted(took)[len(took) // 2] < 0.08


def test_messages_under_way_go_on_in_the_connection_that_takes_over(api, listening, raw):
    first = listening(clean=False, properties=KEPT)
    tasks = [api.create(first, ttl=30, priority=9 - number) for number in range(2)]
    sent = first.messages()
    assert [one.task_id for one in sent] == tasks
    second = raw()
    assert second.connect(clean=False, properties=KEPT).session_present
    again = second.messages()
    assert [(one.packet_id, one.is_repeated) for one in again] == [(one.packet_id, True) for one in sent]
    assert ending(first.all()) == [("DISCONNECT", TAKEN_OVER), ("EOF", 0)]


# Resume (§4.4, §4.6)


def test_after_a_resume_messages_come_again_in_their_order_and_once(api, listening, raw):
    device = listening(clean=False, properties=KEPT)
    tasks = [api.create(device, ttl=30, priority=9 - number) for number in range(4)]
    assert [one.task_id for one in device.messages()] == tasks
    device.close()
    time.sleep(0.1)
    device = raw()
    assert device.connect(clean=False, properties=KEPT).session_present
    again = device.messages()
    assert [(one.task_id, one.is_repeated) for one in again] == [(task, True) for task in tasks]


def test_a_resumed_session_that_subscribes_again_is_announced_to_once(api, listening, raw):
    device = listening(clean=False, properties=KEPT)
    device.close()
    time.sleep(0.1)
    task = api.create(device, ttl=30)
    device = raw()
    assert device.connect(clean=False, properties=KEPT).session_present
    device.send(packet(0x82, b"\x00\x63\x00" + text(f"srv/{device.sn}/+") + b"\x01"))
    assert [one.task_id for one in device.messages(acknowledge=True)] == [task]


def test_receive_maximum_holds_over_a_resume(api, listening, raw):
    narrow = KEPT + two_bytes(RECEIVE_MAX, 2)
    device = listening(clean=False, properties=narrow)
    tasks = [api.create(device, ttl=30, priority=9 - number) for number in range(4)]
    assert [one.task_id for one in device.messages()] == tasks[:2]
    device.close()
    time.sleep(0.1)
    device = raw()
    assert device.connect(clean=False, properties=narrow).session_present
    assert [one.task_id for one in device.messages()] == tasks[:2]
    device = raw()
    device.connect(clean=False, properties=narrow)
    assert [one.task_id for one in device.messages(acknowledge=True)] == tasks


@pytest.mark.parametrize("version", [4, 5])
def test_qos_2_is_stored_once_also_over_a_resume(api, raw, version):
    kept = {"clean": False, "version": version, "properties": KEPT if version == 5 else b""}
    device = raw()
    device.connect(**kept)
    say = lambda **more: device.publish(
        f"dev/{device.sn}/evt", '{"101": 7, "102": 1700000000, "200": 13}', qos=2, packet_id=77, **more
    )
    say()
    assert ending([device.next()]) == [("PUBREC", SUCCESS)]
    say(is_repeated=True)
    assert ending([device.next()]) == [("PUBREC", SUCCESS)]
    device.close()
    time.sleep(0.1)
    device = raw()
    assert device.connect(**kept).session_present
    say(is_repeated=True)
    assert ending([device.next()]) == [("PUBREC", SUCCESS)]
    assert ending([device.release(77)]) == [("PUBCOMP", SUCCESS)]
    assert ending([device.release(77)]) == [("PUBCOMP", PACKET_ID_NOT_FOUND if version == 5 else 0)]
    assert stored(api, device, 13) == 1


@pytest.mark.parametrize("version", [4, 5])
def test_a_session_that_ends_with_its_connection_is_not_handed_on(raw, version):
    first = raw()
    first.connect(version=version, clean=True)
    first.subscribe(f"srv/{first.sn}/+")
    second = raw()
    assert not second.connect(version=version, clean=False).session_present


def test_session_expiry_cannot_be_raised_from_zero_when_leaving(raw):
    device = raw()
    device.connect()
    properties = session_expiry(300)
    device.disconnect(b"\x00" + varint(len(properties)) + properties)
    assert ending(device.all()) == [("DISCONNECT", PROTOCOL_ERROR), ("EOF", 0)]


# What a device can take (§3.1.2.11.4)


def test_a_message_larger_than_the_device_takes_ends_its_task_and_not_its_connection(api, raw):
    device = raw()
    device.connect(properties=packet_max(512))
    device.subscribe(f"srv/{device.sn}/+")
    big, small = api.create(device, ttl=30, priority=9, payload={"a": "x" * 600}), api.create(device, ttl=30)
    assert big in [one.task_id for one in device.messages(acknowledge=True)]
    device.request(big)
    assert not [one for one in device.all(acknowledge=True) if one.level == "rsp"]
    task = api.task(big)
    assert task["status"] == FAILED
    assert task["timeline"][-1]["cause"] == "too_large_for_device"
    device.request(small)
    assert [one.task_id for one in device.messages(acknowledge=True) if one.level == "rsp"] == [small]


def test_a_device_that_reads_slowly_loses_nothing(api, raw):
    device = raw()
    device.connect()
    device.subscribe(f"srv/{device.sn}/rsp")
    sizes = [250_000] * 28 + [10]
    expected = set()
    for size in sizes:
        expected.add(api.create(device, ttl=60, payload={"text": "x" * size}))
    # Each poll is answered with another task; nothing is read meanwhile.
    for _ in sizes:
        device.request()
        time.sleep(0.02)
    came = {one.task_id for one in device.messages(1.0, acknowledge=True)}
    assert came == expected


@pytest.mark.parametrize("version", [4, 5])
def test_a_small_device_hears_of_its_task(api, raw, version):
    device = raw()
    assert device.connect(version=version, properties=packet_max(128) if version == 5 else b"").size <= 128
    device.subscribe(f"srv/{device.sn}/+")
    api.create(device, ttl=30, ext_task_id="e" * 60)
    (announced,) = device.messages(acknowledge=True)
    assert announced.level == "tsk"
    assert announced.size <= 128 + (len(device.sn) if version == 4 else 0)


def test_a_message_of_exactly_the_largest_size_goes_out_and_one_more_byte_does_not(api, raw):
    device = raw()
    device.connect()
    device.subscribe(f"srv/{device.sn}/+")
    api.create(device, ttl=30, payload={"a": 1})
    device.all(acknowledge=True)
    device.request()
    (whole,) = [one for one in device.messages(acknowledge=True) if one.level == "rsp"]

    def with_at_most(maximum: int) -> list[Packet]:
        device = raw()
        device.connect(properties=packet_max(maximum))
        device.subscribe(f"srv/{device.sn}/rsp")
        api.create(device, ttl=30, payload={"a": 1})
        device.request()
        heard = [one for one in device.messages(acknowledge=True) if one.level == "rsp"]
        device.close()
        return heard

    assert [one.size for one in with_at_most(whole.size)] == [whole.size]
    # Then what is said twice is left out, and after that the body would be.
    (less,) = with_at_most(whole.size - 1)
    assert (less.body, less.properties[USER_PROPERTY]) == (whole.body, [("method_code", "20")])
    assert [one.size for one in with_at_most(less.size)] == [less.size]
    assert with_at_most(less.size - 1) == []


def test_a_device_whose_system_holds_small_segments_back_does_not_wait_for_the_timer_of_ours(api, listening):
    device = listening()
    device.stream.tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    seconds = []
    for _ in range(15):
        began = time.monotonic()
        # Has no answer; what follows is held back until the system of the server acknowledges it.
        device.publish(f"dev/{device.sn}/evt", '{"200": 13}', qos=0)
        device.ping()
        assert device.next().kind == "PINGRESP"
        seconds.append(time.monotonic() - began)
    # Linux waits for an answer for 40 ms at least before it acknowledges by itself (TCP_DELACK_MIN).
    assert statistics.median(seconds) < 0.038


# Properties (§3.3.2.3)


def test_a_topic_alias_that_was_not_offered_is_refused(raw):
    device = raw()
    offered = device.connect().properties.get(ALIAS_MAX, 0)
    for number in range(1, offered + 1):
        device.publish(f"dev/{device.sn}/evt", "{}", qos=0, properties=two_bytes(ALIAS, number))
    assert device.all(0.3) == []
    device.publish(f"dev/{device.sn}/evt", "{}", qos=0, properties=two_bytes(ALIAS, offered + 1))
    assert ending(device.all()) == [("DISCONNECT", TOPIC_ALIAS_INVALID), ("EOF", 0)]


def test_a_message_expiry_of_zero_is_lawful(api, raw, listening):
    device = listening()
    task = api.create(device, ttl=30)
    device.all(acknowledge=True)
    device.request(task)
    device.all(acknowledge=True)
    device.result(task, more=four_bytes(MESSAGE_EXPIRY, 0))
    assert device.until("PUBACK").reason == SUCCESS
    assert api.status(task) == DONE
    with_will = raw()
    will = (f"dev/{device.sn}/evt", "{}", 1)
    assert with_will.connect(will=will, will_properties=four_bytes(MESSAGE_EXPIRY, 0)).reason == SUCCESS


def test_a_subscription_identifier_comes_back_with_each_message(api, raw):
    device = raw()
    available = device.connect().properties.get(0x29, 1)
    identifier = bytes([SUBSCRIPTION_ID]) + varint(300)
    if available:
        device.subscribe(f"srv/{device.sn}/+", properties=identifier)
        api.create(device, ttl=30)
        assert device.messages(acknowledge=True)[0].properties[SUBSCRIPTION_ID] == [300]
    else:
        device.send(packet(0x82, b"\x00\x01" + varint(len(identifier)) + identifier + text(f"srv/{device.sn}/+") + b"\x01"))
        assert ending(device.all()) == [("DISCONNECT", 0xA1), ("EOF", 0)]


def test_an_accepted_message_is_acknowledged_in_four_bytes(raw):
    device = raw()
    device.connect()
    device.publish(f"dev/{device.sn}/evt", "{}")
    assert device.until("PUBACK").size == 4


def test_no_reason_string_where_the_device_wants_none(raw):
    for wanted in (0, 1):
        device = raw()
        device.connect(properties=bytes([0x17, wanted]))
        device.publish("dev/another/evt", "{}")
        refused = device.until("PUBACK")
        assert refused.reason == NOT_AUTHORIZED
        assert (REASON_STRING in refused.properties) == bool(wanted)


# The end of a connection (§3.14.4, §3.1.2.10)


def test_a_connection_ends_when_the_device_says_so(api, raw):
    device = raw()
    device.connect(keep_alive=0)
    device.disconnect()
    assert ending(device.all(2)) == [("EOF", 0)]
    connection = lambda: api.get("/devices", params={"sn": device.sn}).json()[0]["connection"]
    assert comes_true(lambda: connection() and not connection()["last_checked_result"], 1.0)


def test_a_silent_device_is_given_up_after_one_and_a_half_times_its_keep_alive(raw):
    device = raw()
    device.connect(keep_alive=2)
    started = time.monotonic()
    assert ending(device.all(6)) == [("DISCONNECT", KEEP_ALIVE_TIMEOUT), ("EOF", 0)]
    assert 2.9 < time.monotonic() - started < 5


# Wills (§3.1.2.5, §3.1.3.2.2)


@pytest.mark.parametrize("version", [4, 5])
def test_a_will_is_stored_when_the_connection_breaks(api, raw, version):
    device = raw()
    will = (f"dev/{device.sn}/evt", '{"200": 77, "101": 1}', 1)
    assert device.connect(version=version, will=will).reason == SUCCESS
    device.close()
    assert comes_true(lambda: stored(api, device, 77) == 1)


def test_a_will_is_not_stored_when_the_device_says_goodbye_and_is_when_it_asks_for_that(api, raw):
    for reason, total in ((0x00, 0), (0x04, 1)):
        device = raw()
        device.connect(will=(f"dev/{device.sn}/evt", '{"200": 78, "101": 1}', 1))
        device.disconnect(bytes([reason]))
        assert ending(device.all(2))[-1] == ("EOF", 0)
        time.sleep(0.5)
        assert stored(api, device, 78) == total


def test_a_delayed_will_waits_and_is_dropped_when_the_device_comes_back(api, raw):
    delayed = {"clean": False, "properties": KEPT, "will_properties": four_bytes(WILL_DELAY, 2)}
    device = raw()
    will = (f"dev/{device.sn}/evt", '{"200": 79, "101": 1}', 1)
    device.connect(will=will, **delayed)
    device.close()
    time.sleep(0.5)
    device = raw()
    assert device.connect(will=will, **delayed).session_present
    time.sleep(3)
    assert stored(api, device, 79) == 0
    device.close()
    time.sleep(0.5)
    assert stored(api, device, 79) == 0
    assert comes_true(lambda: stored(api, device, 79) == 1)


def test_a_will_on_the_topic_of_another_device_is_refused_at_the_connect(raw):
    assert raw().connect(will=("dev/another/evt", "{}", 1)).reason == NOT_AUTHORIZED


# Broken rules are answered with their reason (§4.13)

BROKEN_CONNECTS = {
    "Receive Maximum 0": (two_bytes(RECEIVE_MAX, 0), PROTOCOL_ERROR),
    "Maximum Packet Size 0": (packet_max(0), PROTOCOL_ERROR),
    "a property twice": (two_bytes(RECEIVE_MAX, 1) * 2, PROTOCOL_ERROR),
    "a property of another packet": (two_bytes(ALIAS, 1), MALFORMED),
    "authentication data without a method": (b"\x16" + text("a"), PROTOCOL_ERROR),
    "a property that nobody knows": (b"\x7e\x01", MALFORMED),
}


@pytest.mark.parametrize("name", BROKEN_CONNECTS)
def test_a_connect_that_breaks_a_rule_is_refused_with_the_reason(raw, name):
    properties, reason = BROKEN_CONNECTS[name]
    device = raw()
    refused = device.connect(properties=properties)
    assert (refused.kind, refused.reason) in (("CONNACK", reason), ("CONNACK", PROTOCOL_ERROR), ("CONNACK", MALFORMED))
    assert ending(device.all()) == [("EOF", 0)]


def test_a_nul_in_a_string_ends_the_connection(raw):
    for damage in (
        lambda device: device.publish(f"dev/{device.sn}/evt", "{}", properties=user_property("a", "b\0c")),
        lambda device: device.send(packet(0x82, b"\x00\x01\x00" + text(f"srv/{device.sn}/t\0sk") + b"\x01")),
    ):
        device = raw()
        device.connect()
        damage(device)
        assert ending(device.all()) == [("DISCONNECT", MALFORMED), ("EOF", 0)]


def test_an_enhanced_authentication_is_refused(raw):
    assert raw().connect(properties=b"\x15" + text("SCRAM")).reason == 0x8C


def test_the_first_version_of_the_protocol_is_taken_as_3_1_1(api, raw):
    device = raw()
    assert device.connect(version=3).reason == SUCCESS
    assert device.subscribe(f"srv/{device.sn}/+").reasons == [1]
    task = api.create(device, ttl=30)
    assert [one.level for one in device.messages(acknowledge=True)] == ["tsk"]
    assert api.task(task)["status"] != DONE
