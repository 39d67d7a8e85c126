"""CoAP nodes: aiocoap as nodes, libcoap as clients, and datagrams that are none."""

import shutil
import socket
import subprocess
import time
import uuid

import aiocoap
import pytest

from testbed.api import DONE, FAILED
from testbed.coap_nodes import ADDRESSES, CoapNode
from testbed.nodes import device_of, values, wait_for
from testbed.server import kept_ports, serving

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("coap") / "data", "--coap", "127.0.0.1:0") as running:
        yield running


@pytest.fixture
def app(gateway, new_api):
    return new_api(gateway)


def joined(app, uid: str) -> dict:
    device = wait_for(lambda: device_of(app, f"coap-{uid}", online=True), seconds=10)
    assert device, f"{uid} is not there"
    return device


def call(app, device: dict, wait: int = 20, **payload):
    body = {"ext_task_id": "coap", "device_id": device["device_id"], "method": "set", "ttl": 5, "payload": payload}
    answer = app.post("/device-tasks", params={"wait": wait}, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def a_uid() -> str:
    return uuid.uuid4().hex[:10]


def test_a_node_that_is_alive_is_asked_what_it_has_and_its_values_stay_text(gateway, app, new_node):
    uid, long = a_uid(), "x" * 3000
    said = {"led": "0", "temperature": "23°C", "name": "Node 7", "deep/er": "1", "long": long}
    node = new_node(CoapNode, gateway.addresses["coap"], uid, dict(said))
    assert node.alive() == "2.04 Changed"
    device = joined(app, uid)
    expected = {"ip": f"::ffff:{node.address}", "protocol": "CoAP", **said}
    assert wait_for(lambda: values(app, device["device_id"]) == expected), values(app, device["device_id"])


def test_a_node_is_known_by_its_first_value_though_its_ports_close_at_once(gateway, app):
    uid, address = a_uid(), next(ADDRESSES)
    host, port = gateway.addresses["coap"].removeprefix("coap://").rsplit(":", 1)
    # POST /alive, and then POST /server, each from a port of its own; nobody answers a ping.
    for path, said in ((b"\xb5alive", f"alive:{uid}"), (b"\xb6server", "temperature:21")):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as once:
            once.bind((address, 0))
            once.settimeout(30)
            once.sendto(b"\x40\x02\x00" + path[1:2] + path + b"\xff" + said.encode(), (host, int(port)))
            assert once.recv(2048)[1] == 0x44, "2.04 Changed"
    device = joined(app, uid)
    assert wait_for(lambda: values(app, device["device_id"]).get("temperature") == "21")


def test_what_a_node_says_is_stored_before_it_is_answered(gateway, app, new_node):
    uid = a_uid()
    node = new_node(CoapNode, gateway.addresses["coap"], uid, {"temperature": "20"})
    node.alive()
    device = joined(app, uid)
    answer = node.say("temperature", "21:5")
    assert (str(answer.code), answer.payload) == ("2.04 Changed", b"Received 'temperature:21:5'")
    assert values(app, device["device_id"])["temperature"] == "21:5"
    assert str(node.say("temperature", "22", confirmable=False).code) == "2.04 Changed"
    assert values(app, device["device_id"])["temperature"] == "22"
    assert str(node.say("a b", "1").code) == "4.00 Bad Request"
    long = "y" * 5000
    assert str(node.say("long", long).code) == "2.04 Changed"
    assert values(app, device["device_id"])["long"] == long


def test_a_call_is_a_put_and_the_value_is_then_what_was_written(gateway, app, new_node):
    uid = a_uid()
    node = new_node(CoapNode, gateway.addresses["coap"], uid, {"led": "0"})
    node.alive()
    device = joined(app, uid)
    task = call(app, device, led="1")
    assert (task["status"], task["results"][0]["result"]) == (DONE, {"led": "1"})
    assert node.resources["led"] == "1" and values(app, device["device_id"])["led"] == "1"


def test_a_node_may_wait_for_its_own_post_inside_of_a_put(gateway, app, new_node):
    uid = a_uid()
    node = new_node(CoapNode, gateway.addresses["coap"], uid, {"led": "0"})
    node.says_before_it_answers = True
    node.alive()
    device = joined(app, uid)
    assert call(app, device, led="1")["status"] == DONE
    assert node.written == ["led=1"]


@pytest.mark.parametrize(("code", "status"), [(aiocoap.CONTENT, 502), (aiocoap.NOT_FOUND, 404), (aiocoap.BAD_REQUEST, 400)])
def test_only_changed_is_the_success_of_a_write(gateway, app, new_node, code, status):
    uid = a_uid()
    node = new_node(CoapNode, gateway.addresses["coap"], uid, {"led": "0"})
    node.alive()
    device = joined(app, uid)
    assert wait_for(lambda: "led" in values(app, device["device_id"]))
    node.answers_with = code
    task = call(app, device, led="1")
    assert (task["status"], task["results"][0]["status_code"]) == (FAILED, status)
    assert values(app, device["device_id"])["led"] == "0"


def test_a_reset_has_the_node_asked_anew(gateway, app, new_node):
    uid = a_uid()
    node = new_node(CoapNode, gateway.addresses["coap"], uid, {"led": "0"})
    node.alive()
    device = joined(app, uid)
    assert wait_for(lambda: values(app, device["device_id"]).get("led") == "0")
    node.resources["led"] = "7"
    node.alive("reset")
    assert wait_for(lambda: values(app, device["device_id"]).get("led") == "7")


def test_an_observed_resource_is_told_when_it_changes(gateway, app, new_node):
    uid = a_uid()
    node = new_node(CoapNode, gateway.addresses["coap"], uid, {"button": "0", "led": "0"}, observed=["button"])
    node.alive()
    device = joined(app, uid)
    assert wait_for(lambda: "button" in values(app, device["device_id"]))
    for value in ("1", "0", "1"):
        node.change("button", value)
        assert wait_for(lambda value=value: values(app, device["device_id"])["button"] == value)


def test_a_uid_at_a_second_address_is_not_followed_while_the_first_answers(gateway, app, new_node):
    uid = a_uid()
    node = new_node(CoapNode, gateway.addresses["coap"], uid, {"led": "0"})
    node.alive()
    device = joined(app, uid)
    assert wait_for(lambda: values(app, device["device_id"]).get("led") == "0")
    liar = new_node(CoapNode, gateway.addresses["coap"], uid, {"led": "66"})
    for _ in range(3):
        liar.alive()
        time.sleep(0.2)
    liar.say("led", "66")
    assert values(app, device["device_id"])["led"] == "0"
    call(app, device, led="1")
    assert (node.written, liar.written) == (["led=1"], [])
    assert "says the uid of another" in gateway.log_text()


def test_of_two_uids_on_one_address_the_last_one_is_who_speaks(gateway, app, new_node):
    first, second = a_uid(), a_uid()
    node = new_node(CoapNode, gateway.addresses["coap"], first, {"led": "0"})
    node.alive()
    one = joined(app, first)
    node.uid = second
    node.alive()
    other = joined(app, second)
    node.say("temperature", "9")
    assert values(app, other["device_id"])["temperature"] == "9"
    assert "temperature" not in values(app, one["device_id"])


def test_whoever_never_was_alive_is_answered_and_not_heard(gateway, app, new_node):
    node = new_node(CoapNode, gateway.addresses["coap"], a_uid(), {"led": "0"})
    counted = {"link": "coap", "what": "not_kept"}
    before = gateway.metric("covey_link_messages_total", **counted)
    assert str(node.say("led", "5").code) == "2.04 Changed"
    assert wait_for(lambda: gateway.metric("covey_link_messages_total", **counted) == before + 1)
    assert device_of(app, f"coap-{node.uid}") is None
    assert node.address in gateway.log_text()


def test_a_silent_node_is_out_and_a_write_waits_for_it(new_server, new_api, new_node):
    server = new_server("--coap", "127.0.0.1:0", "--nodes-out-after", "coap=2")
    app = new_api(server)
    node = new_node(CoapNode, server.addresses["coap"], "quiet", {"led": "0"})
    node.alive()
    device = joined(app, "quiet")
    assert wait_for(lambda: device_of(app, "coap-quiet", online=False), seconds=10)
    body = {"ext_task_id": "c", "device_id": device["device_id"], "method": "set", "ttl": 5, "payload": {"led": "1"}}
    task = app.post("/device-tasks", json=body).json()["id"]
    node.alive()
    assert wait_for(lambda: app.status(task) == DONE, seconds=10)
    assert node.written == ["led=1"]


def test_datagrams_that_are_no_messages_disturb_nobody(gateway, app, new_node):
    uid = a_uid()
    node = new_node(CoapNode, gateway.addresses["coap"], uid, {"led": "0"})
    node.alive()
    device = joined(app, uid)
    host, port = gateway.addresses["coap"].removeprefix("coap://").rsplit(":", 1)
    rubbish = [
        b"",
        b"\x00",
        b"\xff" * 64,
        b"\x40\x02",
        b"\x4f\x02\x00\x01" + b"t" * 15,  # A token of 15 bytes.
        b"\x40\x02\x00\x02\xff",  # A marker without a payload.
        b"\x40\x02\x00\x03\xf0",  # A reserved option delta.
        b"\x40\x02\x00\x04\xdd\xff",  # An option that is cut off.
        b"\x60\x45\x12\x34",  # An answer to nobody.
        b"\x40\x02\x00\x05\xb5alive\xffalive:",  # No uid.
        b"\x40\x02\x00\x06\xb5alive\xffalive:\xff\xfe",  # No text.
        b"\x40\x03\x00\x07\xb5alive\xffalive:x",  # PUT.
        b"\x40\x02\x00\x08\xb6server\xffled",  # No colon.
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bad:
        bad.bind((next(ADDRESSES), 0))
        for datagram in rubbish * 3:
            bad.sendto(datagram, (host, int(port)))
    assert str(node.say("led", "3").code) == "2.04 Changed"
    assert values(app, device["device_id"])["led"] == "3"


@pytest.mark.skipif(not shutil.which("coap-client-notls"), reason="libcoap3-bin is not installed")
def test_libcoap_is_served(gateway):
    def ask(*arguments, path):
        command = ["coap-client-notls", "-B", "5", *arguments, f"{gateway.addresses['coap']}/{path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return done.stdout.strip() + done.stderr.strip()

    assert ask("-m", "get", path=".well-known/core") == "</alive>,</server>"
    assert "4.04" in ask("-m", "get", path="nothing")
    assert "4.05" in ask("-m", "get", path="alive")
    assert "Received 'led:1'" in ask("-m", "post", "-e", "led:1", path="server")


@pytest.mark.skipif(not shutil.which("coap-server-notls"), reason="libcoap3-bin is not installed")
def test_a_long_value_is_written_to_libcoap(gateway, app):
    # Its server answers the last block with 2.01 (4.3.1).
    uid, address, long = a_uid(), next(ADDRESSES), "x" * 3000
    host, port = gateway.addresses["coap"].removeprefix("coap://").rsplit(":", 1)
    server = subprocess.Popen(["coap-server-notls", "-A", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
            node.bind((address, 0))
            node.sendto(b"\x40\x02\x00\x01\xb5alive\xff" + f"alive:{uid}".encode(), (host, int(port)))
        device = joined(app, uid)
        task = call(app, device, example_data=long)
        assert (task["status"], task["results"][0]["result"]) == (DONE, {"example_data": long})
        assert values(app, device["device_id"])["example_data"] == long
    finally:
        server.terminate()
        server.wait(10)


def test_a_number_that_is_written_is_text_as_all_that_a_node_says(gateway, app, new_node):
    uid = a_uid()
    node = new_node(CoapNode, gateway.addresses["coap"], uid, {"led": "0"})
    node.alive()
    device = joined(app, uid)
    task = call(app, device, led=1)
    assert (task["status"], task["results"][0]["result"]) == (DONE, {"led": "1"})
    assert node.written == ["led=1"] and values(app, device["device_id"])["led"] == "1"


def test_after_a_kill_a_node_that_is_alive_is_there_again(new_server, new_api, new_node):
    server = new_server("--coap", f"127.0.0.1:{kept_ports(1)[0]}")
    node = new_node(CoapNode, server.addresses["coap"], "steady", {"led": "0"})
    node.alive()
    device = joined(new_api(server), "steady")
    server.kill()
    server.start()
    app = new_api(server)
    node.alive()
    node.alive()
    joined(app, "steady")
    assert call(app, device, led="1")["status"] == DONE


def test_what_the_gateway_counts_is_in_the_measurements(new_server, new_api):
    server = new_server("--coap", "127.0.0.1:0")
    app, uid = new_api(server), a_uid()
    node = CoapNode(server.addresses["coap"], uid, {"led": "0"})
    node.alive()
    device = joined(app, uid)
    node.say("led", "1")

    def count(what: str) -> float:
        return server.metric("covey_link_messages_total", link="coap", what=what)

    assert count("requests") >= 2 and count("received") >= 2 and count("sent") >= 2
    host, port = server.addresses["coap"].removeprefix("coap://").rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"\xff\xff\xff", (host, int(port)))
    assert wait_for(lambda: count("malformed") == 1)
    before = count("sent_again")
    node.close()
    # It does not answer any more: the write is sent again and again.
    body = {"device_id": device["device_id"], "ext_task_id": "c", "method": "set", "ttl": 1, "payload": {"led": "0"}}
    assert app.post("/device-tasks", json=body).status_code == 200
    assert wait_for(lambda: count("sent_again") > before, seconds=60)
