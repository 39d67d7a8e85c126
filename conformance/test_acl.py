"""A device publishes below dev/<its SN>/ and subscribes below srv/<its SN>/, and nowhere else
(device-rpc "Identity"); with paho, and with mosquitto's own programs."""

import shutil
import subprocess
import time

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from testbed.api import LOCK, READY
from testbed.broker import CLOSED, LINK
from testbed.device import NOT_AUTHORIZED, Refused

CONNECTION_RATE_EXCEEDED = 0x9F

FOREIGN_PUBLISH = [
    "dev/{victim}/req",
    "dev/{victim}/res",
    "dev/{victim}/ack",
    "dev/{victim}/evt",
    "srv/{victim}/tsk",
    "srv/{victim}/rsp",
    "srv/{victim}/cmt",
    "srv/{own}/rsp",
    "srv/{own}x/rsp",
    "dev/{own}",
    "dev/{own}x/req",
    "dev//req",
    "/dev/{own}/req",
    "DEV/{own}/req",
    "dev/{own}/../{victim}/req",
    "dev.{victim}.res",
    "dev/{own}.{victim}/res",
    "srv.{victim}.rsp",
    "elsewhere",
    "$SYS/brokers",
    "$share/g/srv/{victim}/rsp",
    "$delayed/1/srv/{victim}/rsp",
    "$delayed/0/dev/{victim}/req",
]
FOREIGN_SUBSCRIBE = [
    "srv/{victim}/tsk",
    "srv/{victim}/#",
    "dev/{victim}/res",
    "dev/{own}/res",
    "#",
    "+/+/+",
    "+/{own}/tsk",
    "srv/#",
    "srv/+/tsk",
    "srv/+/#",
    "srv/{own}",
    "srv/{own}x/tsk",
    "srv.{victim}.tsk",
    "$share/g/srv/{victim}/tsk",
    "$share/g/srv/+/tsk",
    "$share/g/#",
    "$exclusive/srv/{victim}/tsk",
    "$limit/5/srv/{victim}/tsk",
    "$SYS/#",
]
# One that is below its own prefix only to look at is allowed, and harmless.
ALLOWED_LOOKALIKES = {"dev/{own}/../{victim}/req"} | LINK.allowed_lookalikes


@pytest.fixture
def victim(server, connect, victim_identity):
    """A device that hears all it may."""
    return connect(server, victim_identity, "#")


def code_or_closed(send, *arguments, **more) -> int | str:
    """The reason code that a packet is answered with, or CLOSED."""
    try:
        return send(*arguments, **more)
    except ConnectionError:
        return CLOSED


@pytest.mark.parametrize("pattern", FOREIGN_PUBLISH)
def test_a_foreign_publish_is_refused_and_reaches_nobody(api, server, connect, device, victim, pattern):
    topic = pattern.format(victim=victim.sn, own=device.sn)
    task_id = api.create(victim)
    victim.expect("tsk")
    refused = server.refusals("publish_topic")
    sent = {"correlation": task_id, "properties": {"status_code": 200}}

    code = code_or_closed(device.publish, topic, b'{"forged":1}', **sent)
    if pattern in ALLOWED_LOOKALIKES:
        assert code in (0x00, 0x10)
    else:
        assert code == LINK.foreign_publish
        assert LINK.counts(server, "publish_topic", refused + 1)
        for number, more in ((2, {"qos": 0}), (3, {"retain": True})):
            if not device.is_connected():
                device = connect(server, device.identity)
            code_or_closed(device.publish, topic, b'{"forged":%d}' % number, **more, **sent)
    assert victim.is_quiet(seconds=1.5 if "delayed" in topic else 0.3)
    task = api.task(task_id)
    assert task["status"] == READY and task["results"] == []
    assert device.is_quiet("rsp", "cmt", seconds=0)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_foreign_publish_of_any_qos_reaches_nobody(server, device, victim, qos):
    refused = server.refusals("publish_topic")
    code_or_closed(device.publish, f"srv/{victim.sn}/rsp", b'{"forged":1}', qos=qos)
    assert victim.is_quiet(seconds=0.3)
    assert LINK.counts(server, "publish_topic", refused + 1)


@pytest.mark.parametrize("pattern", FOREIGN_SUBSCRIBE)
def test_a_foreign_subscription_is_refused_and_hears_nothing(api, server, device, victim, pattern):
    refused = server.refusals("subscribe_topic")
    code = code_or_closed(device.subscribe, pattern.format(victim=victim.sn, own=device.sn))
    if pattern in LINK.allowed_lookalikes:
        assert code < 0x80
    else:
        assert code in LINK.foreign_subscribe
        assert LINK.counts(server, "subscribe_topic", refused + 1)
    task_id = api.create(victim)
    assert victim.expect("tsk").task_id == task_id
    assert victim.take(task_id).task_id == task_id
    assert device.is_quiet(seconds=0.3)


def test_a_topic_alias_does_not_smuggle_a_foreign_topic_in(server, device, victim):
    def aliased(topic: str) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.TopicAlias = 1
        device.client.publish(topic, b'{"forged":1}', qos=1, properties=properties)

    aliased(f"dev/{device.sn}/other")
    aliased(f"srv/{victim.sn}/rsp")
    aliased("")
    assert victim.is_quiet(seconds=0.5)


def test_what_a_device_leaves_retained_below_its_own_prefix_reaches_nobody(
    server, connect, device, victim_identity
):
    if LINK.retain is None:
        device.publish(f"dev/{device.sn}/state", b"here", retain=True)
    else:
        device.send(f"dev/{device.sn}/state", b"here", retain=True)
        assert device.expect_disconnect() == (LINK.retain, True)
    assert connect(server, victim_identity, "#").is_quiet(seconds=0.3)


# The same with mosquitto's programs: real processes, another client library.

mosquitto = pytest.mark.skipif(
    not shutil.which("mosquitto_pub"), reason="mosquitto_pub is missing; install mosquitto-clients"
)


def command(program: str, server, identity, *arguments: str, version: str = "mqttv5") -> list[str]:
    host, port = server.mqtts
    tls = ["--cafile", str(server.ca), "--cert", str(identity.certificate), "--key", str(identity.key)]
    return [program, "-h", host, "-p", str(port), "-i", identity.sn, "-V", version, *tls, *arguments]


def run(program: str, server, identity, *arguments: str, version: str = "mqttv5") -> str:
    """Runs one of the programs and answers what it said."""
    done = subprocess.run(
        command(program, server, identity, *arguments, version=version),
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return done.stdout + done.stderr


@mosquitto
@pytest.mark.parametrize("version", ["mqttv5", "mqttv311"])
@pytest.mark.parametrize("topic", ["dev/{victim}/req", "srv/{victim}/rsp", "srv/{own}/rsp", "elsewhere"])
def test_mosquitto_pub_to_a_foreign_topic_reaches_nobody(server, identity, victim, version, topic):
    refused = server.refusals("publish_topic")
    topic = topic.format(victim=victim.sn, own=identity.sn)
    said = run("mosquitto_pub", server, identity, "-q", "1", "-t", topic, "-m", "{}", version=version)
    wanted = "connection was lost" if LINK.foreign_publish == CLOSED else "Not authorized"
    assert version != "mqttv5" or wanted in said, said
    assert LINK.counts(server, "publish_topic", refused + 1)
    assert victim.is_quiet(seconds=0.3)


@mosquitto
@pytest.mark.parametrize("version", ["mqttv5", "mqttv311"])
@pytest.mark.parametrize("filter", ["srv/{victim}/tsk", "#", "srv/+/tsk", "$share/g/srv/{victim}/tsk"])
def test_mosquitto_sub_to_a_foreign_topic_is_denied(api, server, identity, victim, version, filter):
    if version == "mqttv311" and filter.startswith("$share"):
        pytest.skip("MQTT 3.1.1 has no shared subscriptions")
    filter = filter.format(victim=victim.sn)
    refused = server.refusals("subscribe_topic")
    listening = subprocess.Popen(
        command("mosquitto_sub", server, identity, "-q", "1", "-t", filter, "-W", "20", "-v", version=version),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + (10 if LINK.is_own else 1)
    while server.refusals("subscribe_topic") == refused and time.monotonic() < deadline:
        time.sleep(0.05)
    api.create(victim)
    victim.expect("tsk")
    said, _ = listening.communicate(timeout=60)
    assert LINK.counts(server, "subscribe_topic", refused + 1)
    words = ("denied", "not authorized", *LINK.words_for_a_denied_subscription)
    assert any(word in said.lower() for word in words), said
    assert victim.sn not in said


@mosquitto
def test_mosquitto_pub_and_sub_serve_a_device_of_their_own(api, server, identity):
    """The positive control: with the right topics the same programs are announced to, and poll."""
    topic = f"srv/{identity.sn}/tsk"
    listening = subprocess.Popen(
        command("mosquitto_sub", server, identity, "-q", "1", "-t", topic, "-C", "1", "-W", "20"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    task_id = api.create(identity)
    said, _ = listening.communicate(timeout=30)
    assert task_id in said
    said = run("mosquitto_pub", server, identity, "-q", "1", "-t", f"dev/{identity.sn}/req", "-n")
    assert said == ""
    api.settled(task_id, LOCK)


@pytest.mark.embedded
@pytest.mark.parametrize("how", ["publish", "subscribe"])
def test_a_device_that_goes_on_where_it_may_not_is_put_out_for_a_pause(server, connect, identity, how):
    put_out = server.refusals("put_out")
    device = connect(server, identity)
    act = {"publish": lambda: device.publish("dev/other/evt", b"{}"), "subscribe": lambda: device.subscribe("srv/other/#")}
    codes = []
    with pytest.raises((ConnectionError, AssertionError)):
        for _ in range(300):
            codes.append(act[how]())
    assert 60 <= len(codes) <= 90 and set(codes) == {NOT_AUTHORIZED}
    assert device.expect_disconnect() == (NOT_AUTHORIZED, True)
    with pytest.raises(Refused) as refused:
        connect(server, identity)
    assert refused.value.code == CONNECTION_RATE_EXCEEDED
    assert server.refusals("put_out") == put_out + 2
    time.sleep(1.1)
    again = connect(server, identity)
    assert again.publish(f"dev/{identity.sn}/evt", b"{}") == 0
