"""Sessions that outlive the server: who comes back to one after a restart or a kill, or at another server, is heard and
hears without subscribing again (MQTT 5 §3.1.2.4, §3.1.2.11.2, §4.1; MQTT 3.1.1 §3.1.2.4)."""

import time

import pytest
from paho.mqtt.client import MQTTv5, MQTTv311

from testbed.api import DONE
from testbed.packet import text, varint
from testbed.raw_device import SUBSCRIPTION_ID, RawDevice, packet, session_expiry

pytestmark = pytest.mark.embedded

KEPT = session_expiry(300)
ENDS = {"kill": lambda server: server.kill(), "stop": lambda server: server.stop()}


class Site:
    """A server of the test's own, with a device whose connections end with the test."""

    def __init__(self, new_server, new_api, folder):
        self.new_api, self.server, self.made = new_api, new_server(), []
        self.identity = self.api.register(folder)

    @property
    def api(self):
        return self.new_api(self.server)

    def raw(self) -> RawDevice:
        self.made.append(RawDevice(self.server, self.identity))
        return self.made[-1]

    def come(self, version: int = 5, properties: bytes = KEPT, **more):
        """A connection that asks for its session; and whether it goes on."""
        device = self.raw()
        connack = device.connect(clean=False, version=version, properties=properties if version == 5 else b"", **more)
        assert connack.reason == 0
        return device, connack.session_present

    def again(self, how: str = "kill") -> None:
        ENDS[how](self.server)
        self.server.start()

    def stored(self, type_code: int) -> int:
        params = {"device_id": self.identity.device_id, "events_include": type_code}
        return self.api.get("/device-events", params=params).json()["total"]


@pytest.fixture
def site(new_server, new_api, tmp_path):
    made = Site(new_server, new_api, tmp_path)
    yield made
    for device in made.made:
        device.close()


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("version", [4, 5])
def test_a_session_goes_on_after_the_server(site, version, how):
    device, is_present = site.come(version)
    assert not is_present
    assert device.subscribe(f"srv/{device.sn}/+").reasons == [1]
    site.again(how)
    task = site.api.create(device, ttl=30)
    device, is_present = site.come(version)
    assert is_present
    (announced,) = device.messages(acknowledge=True)
    assert announced.level == "tsk" and task in (announced.task_id if version == 5 else announced.body.decode())
    # One that was made since, and once more: each restart finds it.
    site.again(how)
    device, is_present = site.come(version)
    assert is_present
    site.api.create(device, ttl=30)
    assert len(device.messages(acknowledge=True)) == 2


@pytest.mark.parametrize("protocol", [MQTTv311, MQTTv5])
def test_a_client_that_subscribes_once_in_its_life_is_called_after_a_kill(site, connect, protocol):
    kept = {"protocol": protocol, "clean_start": False, "session_seconds": 300}
    device = connect(site.server, site.identity, "+", **kept)
    assert not device.session_present
    site.again()
    device = connect(site.server, site.identity, "-", **kept)
    assert device.session_present
    task = site.api.create(device, ttl=30)
    if protocol == MQTTv5:
        assert device.expect("tsk").task_id == task
        device.take(task)
        device.finish(task, 200, "{}")
        assert site.api.status(task) == DONE
    else:
        assert task.encode() in device.expect("tsk").body


def test_every_subscription_comes_back_as_it_was(site):
    device, _ = site.come()
    identifier = bytes([SUBSCRIPTION_ID]) + varint(268_435_455)
    device.subscribe(f"srv/{device.sn}/tsk", properties=identifier)
    device.subscribe(f"srv/{device.sn}/rsp", qos=0)
    device.subscribe(f"srv/{device.sn}/cmt")
    device.send(packet(0xA2, b"\x00\x63\x00" + text(f"srv/{device.sn}/cmt")))
    assert device.until("UNSUBACK").reasons == [0]
    site.again()
    device, is_present = site.come()
    assert is_present
    task = site.api.create(device, ttl=30)
    (announced,) = device.messages(acknowledge=True)
    assert announced.properties[SUBSCRIPTION_ID] == [268_435_455]
    device.request(task)
    (response,) = device.messages(acknowledge=True)
    assert (response.level, response.qos) == ("rsp", 0)
    device.result(task)
    assert device.messages(acknowledge=True) == [], "cmt was given up"
    assert site.api.status(task) == DONE


def test_a_suback_is_said_after_the_commit(site):
    for number in range(5):
        device, is_present = site.come()
        assert is_present == (number > 0)
        filter = f"srv/{device.sn}/" + ["tsk", "rsp", "cmt", "eva", "+"][number]
        assert device.subscribe(filter).reasons == [1]
        site.server.kill()
        site.server.start()
    device, _ = site.come()
    site.api.create(device, ttl=30)
    assert [one.level for one in device.messages(acknowledge=True)] == ["tsk"]


@pytest.mark.parametrize(
    "ending",
    ["clean start", "expiry 0 in CONNECT", "expiry 0 in DISCONNECT", "registered anew", "too long away"],
)
def test_a_session_that_has_ended_does_not_come_back(site, tmp_path, ending):
    device, _ = site.come(properties=session_expiry(1))
    device.subscribe(f"srv/{device.sn}/+")
    if ending == "clean start":
        assert not site.raw().connect(clean=True, properties=KEPT).session_present
    elif ending == "expiry 0 in CONNECT":
        assert site.come(properties=b"")[1]
    elif ending == "expiry 0 in DISCONNECT":
        device.disconnect(b"\x00" + varint(5) + session_expiry(0))
        device.all(1)
        time.sleep(0.3)
    elif ending == "registered anew":
        api, sn = site.api, site.identity.sn
        assert api.delete(f"/devices/{site.identity.device_id}").status_code < 300
        site.identity = api.register(tmp_path, sn)
    site.again()
    if ending == "too long away":
        time.sleep(1.2)
    device, is_present = site.come()
    assert not is_present
    site.api.create(device, ttl=30)
    assert device.messages() == []


def test_a_shorter_expiry_holds_after_a_kill_too(site):
    device, _ = site.come()
    device.subscribe(f"srv/{device.sn}/+")
    assert site.come(properties=session_expiry(1))[1]
    site.again()
    time.sleep(1.2)
    assert not site.come()[1]


EVENT = '{"101": 7, "102": 1700000000, "200": 13}'


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("is_recorded", [False, True], ids=["before PUBREC", "after PUBREC"])
def test_a_message_of_qos_2_is_stored_once_also_over_a_kill(site, version, is_recorded):
    device, _ = site.come(version)
    device.subscribe(f"srv/{device.sn}/tsk")
    for packet_id in range(1, 21):
        device.publish(f"dev/{device.sn}/evt", EVENT.replace("7", str(packet_id), 1), qos=2, packet_id=packet_id)
    if is_recorded:
        # The server has answered all of them; which of the answers arrive is up to the network.
        recorded = [device.until("PUBREC").packet_id for _ in range(20)]
        assert recorded == list(range(1, 21))
    site.again()
    device, is_present = site.come(version)
    assert is_present
    for packet_id in range(1, 21):
        # A device that had no PUBREC repeats the message; so must one whose PUBREC was lost.
        body = EVENT.replace("7", str(packet_id), 1)
        device.publish(f"dev/{device.sn}/evt", body, qos=2, packet_id=packet_id, is_repeated=True)
        assert device.until("PUBREC").packet_id == packet_id
        assert device.release(packet_id).kind == "PUBCOMP"
    assert site.stored(13) == 20


def test_a_release_after_a_kill_is_completed(site):
    device, _ = site.come()
    device.subscribe(f"srv/{device.sn}/tsk")
    device.publish(f"dev/{device.sn}/evt", EVENT, qos=2, packet_id=77)
    assert device.until("PUBREC").packet_id == 77
    site.again()
    device, _ = site.come()
    completed = device.release(77)
    assert (completed.kind, completed.reason) == ("PUBCOMP", 0x92)
    assert site.stored(13) == 1
