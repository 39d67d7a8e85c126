"""CoAP nodes over DTLS: Mbed TLS as nodes, libcoap (with OpenSSL and with GnuTLS) as clients, and who has no key."""

import shutil
import socket
import subprocess
import uuid

import httpx
import pytest

from testbed.api import DONE
from testbed.coap_nodes import ADDRESSES, CoapNode
from testbed.dtls_nodes import DtlsNode, key_file
from testbed.nodes import device_of, values, wait_for
from testbed.server import BINARY, kept_ports, serving

pytestmark = pytest.mark.embedded
KEY = b"sixteen bytes and more of a key"
LIBCOAP = [name for name in ("coap-client-openssl", "coap-client-gnutls") if shutil.which(name)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A server where an identity speaks for the nodes of `fleet`, and others for one node each."""
    folder = tmp_path_factory.mktemp("coaps")
    lines = [f"fleet:{KEY.hex()}:*", f"lamp:{KEY.hex()}", f"roof:{KEY[::-1].hex()}:north,south"]
    keys = key_file(folder / "psk", "# nodes", *lines)
    options = ["--coaps", "127.0.0.1:0", "--coap-psk", str(keys), "--coap", "127.0.0.1:0"]
    with serving(folder / "data", *options) as running:
        yield running


@pytest.fixture
def app(gateway, new_api):
    return new_api(gateway)


@pytest.fixture(scope="module")
def url(gateway) -> str:
    assert gateway.addresses["coaps"].startswith("coaps://127.0.0.1:")
    return gateway.addresses["coaps"]


def a_uid() -> str:
    return uuid.uuid4().hex[:10]


def joined(app, uid: str) -> dict:
    device = wait_for(lambda: device_of(app, f"coap-{uid}", online=True), seconds=30)
    assert device, f"{uid} is not there"
    return device


def call(app, device: dict, wait: int = 30, **payload) -> dict:
    body = {"ext_task_id": "coaps", "device_id": device["device_id"], "method": "set", "ttl": 5, "payload": payload}
    answer = app.post("/device-tasks", params={"wait": wait}, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counted(server, what: str) -> float:
    return server.metric("covey_link_messages_total", link="coap", what=what)


def test_a_node_is_asked_in_its_session_and_its_values_are_stored_before_it_is_answered(app, url, new_node):
    uid = a_uid()
    said = {"led": "0", "temperature": "23°C", "deep/er": "1"}
    node = new_node(DtlsNode, url, uid, dict(said), "fleet", KEY)
    assert node.alive() == "2.04 Changed"
    device = joined(app, uid)
    expected = {"ip": "::ffff:127.0.0.1", "protocol": "CoAP", **said}
    assert wait_for(lambda: values(app, device["device_id"]) == expected, 30), values(app, device["device_id"])
    answer = node.say("temperature", "24°C")
    assert (str(answer.code), answer.payload.decode()) == ("2.04 Changed", "Received 'temperature:24°C'")
    assert values(app, device["device_id"])["temperature"] == "24°C"


def test_a_write_goes_over_the_session_of_the_node_and_of_no_other(app, url, new_node):
    nodes = [new_node(DtlsNode, url, a_uid(), {"led": "0"}, "fleet", KEY) for _ in range(3)]
    for node in nodes:
        node.alive()
    for number, node in enumerate(nodes):
        task = call(app, joined(app, node.uid), led=str(number))
        assert (task["status"], task["results"][0]["result"]) == (DONE, {"led": str(number)})
    assert [node.written for node in nodes] == [["led=0"], ["led=1"], ["led=2"]]


def test_an_observed_resource_is_told_when_it_changes(app, url, new_node):
    uid = a_uid()
    node = new_node(DtlsNode, url, uid, {"button": "0"}, "fleet", KEY, observed=["button"])
    node.alive()
    device = joined(app, uid)
    assert wait_for(lambda: values(app, device["device_id"]).get("button") == "0", 30)
    assert wait_for(lambda: "button" in node.watching, 30)
    for value in ("1", "2"):
        node.change("button", value)
        assert wait_for(lambda value=value: values(app, device["device_id"])["button"] == value, 30)


@pytest.mark.skipif(not LIBCOAP, reason="libcoap3-bin is not installed")
@pytest.mark.parametrize("client", LIBCOAP)
def test_libcoap_is_served(app, url, client):
    def ask(*arguments, path, key=KEY.decode(), identity="fleet"):
        command = [client, "-B", "20", "-u", identity, "-k", key, *arguments, f"{url}/{path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() + done.stderr.strip()

    uid = a_uid()
    assert ask("-m", "get", path=".well-known/core") == "</alive>,</server>"
    assert ask("-m", "post", "-e", f"alive:{uid}", path="alive") == ""
    joined(app, uid)
    assert "4.04" in ask("-m", "get", path="nothing")
    assert "Received 'led:1'" in ask("-m", "post", "-e", "led:1", path="server")
    assert "4.03" in ask("-m", "post", "-e", "alive:north", path="alive")
    assert "alive" not in ask("-m", "get", path=".well-known/core", identity="nobody")


def test_who_has_no_key_of_an_identity_is_not_let_in_and_the_log_tells_of_it_without_the_key(gateway, url):
    before = counted(gateway, "dtls_failed")
    for identity, key in (("nobody", KEY), ("lamp", KEY[::-1])):
        with pytest.raises(Exception):  # noqa: B017, PT011: in whatever way the library says it
            DtlsNode(url, "lamp", {}, identity, key, address=next(ADDRESSES), patience=2)
    assert wait_for(lambda: counted(gateway, "dtls_failed") >= before + 2, 60)
    log = gateway.log_text()
    assert "an unknown identity" in log and 'identity="lamp"' in log
    assert KEY.hex() not in log and KEY.decode() not in log


def test_a_uid_belongs_to_its_identity(gateway, app, url, new_node):
    lamp = new_node(DtlsNode, url, "lamp", {"led": "0"}, "lamp", KEY)
    assert lamp.alive() == "2.04 Changed"
    device = joined(app, "lamp")
    for other in (
        new_node(DtlsNode, url, "lamp", {"led": "66"}, "fleet", KEY),
        new_node(DtlsNode, url, "lamp", {"led": "66"}, "roof", KEY[::-1]),
        new_node(CoapNode, gateway.addresses["coap"], "lamp", {"led": "66"}),
    ):
        assert other.alive() == "4.03 Forbidden"
        other.say("led", "66")
    roof = new_node(DtlsNode, url, "south", {"led": "0"}, "roof", KEY[::-1])
    assert roof.alive() == "2.04 Changed"
    joined(app, "south")
    # One that nobody is named for belongs to who came with it over a session, as long as it is there.
    uid = a_uid()
    assert new_node(DtlsNode, url, uid, {"led": "0"}, "fleet", KEY).alive() == "2.04 Changed"
    joined(app, uid)
    assert new_node(CoapNode, gateway.addresses["coap"], uid, {"led": "66"}).alive() == "4.03 Forbidden"
    assert call(app, device, led="1")["status"] == DONE
    assert (lamp.written, values(app, device["device_id"])["led"]) == (["led=1"], "1")


def test_a_node_that_begins_anew_at_its_port_is_followed(gateway, app, url, new_node):
    uid, port, address = a_uid(), kept_ports(1)[0], next(ADDRESSES)
    place = {"address": address, "port": port}
    first = DtlsNode(url, uid, {"led": "0"}, "fleet", KEY, **place)
    first.alive()
    device = joined(app, uid)
    # It loses its power, without a word.
    first.is_open = False
    first.thread.join(10)
    first.plain.close()
    second = new_node(DtlsNode, url, uid, {"led": "5"}, "fleet", KEY, **place)
    assert second.alive("reset") == "2.04 Changed"
    assert wait_for(lambda: values(app, device["device_id"]).get("led") == "5", 30)
    assert call(app, device, led="7")["status"] == DONE
    assert second.written == ["led=7"]


def test_whoever_begins_a_session_at_the_port_of_another_ends_nothing_without_a_key(gateway, app, url, new_node):
    uid = a_uid()
    node = new_node(DtlsNode, url, uid, {"led": "0"}, "fleet", KEY)
    node.alive()
    device = joined(app, uid)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(node.address)
        before = counted(gateway, "received")
        alert = b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28"
        sealed = b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x20" + bytes(32)
        for datagram in (alert, sealed, hello()):
            stranger.sendto(datagram, node.gateway)
        assert wait_for(lambda: counted(gateway, "received") >= before + 3, 30)
    assert str(node.say("led", "3").code) == "2.04 Changed"
    assert values(app, device["device_id"])["led"] == "3"


def hello() -> bytes:
    """The first message of a handshake, without a cookie."""
    body = b"\xfe\xfd" + bytes(32) + b"\x00\x00\x00\x02\xc0\xa8\x01\x00\x00\x04\x00\x17\x00\x00"
    message = b"\x01" + len(body).to_bytes(3, "big") + bytes(5) + len(body).to_bytes(3, "big") + body
    return b"\x16\xfe\xfd" + bytes(8) + len(message).to_bytes(2, "big") + message


def test_a_stranger_gets_no_more_than_he_sends_and_nothing_is_kept_of_him(gateway, url):
    host, port = url.removeprefix("coaps://").rsplit(":", 1)
    rubbish = [b"", b"\x00", b"\x40\x01\x00\x01", b"\xff" * 64, b"\x16\xfe\xfd" + bytes(10), hello()[:40], b"\x17" * 2000, b"\x16" * 4000]
    before = counted(gateway, "dtls_malformed")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((next(ADDRESSES), 0))
        stranger.settimeout(30)
        for datagram in rubbish:
            stranger.sendto(datagram, (host, int(port)))
        stranger.sendto(hello(), (host, int(port)))
        answer = stranger.recv(4096)
        assert answer[:3] == b"\x16\xfe\xff" and answer[13] == 3 and len(answer) <= len(hello())
        # It is not said again.
        stranger.settimeout(3)
        with pytest.raises(TimeoutError):
            stranger.recv(4096)
    assert wait_for(lambda: counted(gateway, "dtls_malformed") > before, 30)


def test_after_a_kill_a_node_opens_another_session(new_server, new_api, new_node, tmp_path):
    keys = key_file(tmp_path / "psk", f"steady:{KEY.hex()}")
    server = new_server("--coaps", f"127.0.0.1:{kept_ports(1)[0]}", "--coap-psk", str(keys))
    address = server.addresses["coaps"]
    node = new_node(DtlsNode, address, "steady", {"led": "0"}, "steady", KEY)
    node.alive()
    device = joined(new_api(server), "steady")
    server.kill()
    server.start()
    node.patience = 3
    with pytest.raises(TimeoutError):
        node.alive()
    app = new_api(server)
    again = new_node(DtlsNode, address, "steady", {"led": "0"}, "steady", KEY)
    assert again.alive() == "2.04 Changed"
    joined(app, "steady")
    assert call(app, device, led="1")["status"] == DONE
    assert counted(server, "dtls_no_session") > 0 and counted(server, "dtls_opened") == 1
    assert server.stop() == 0


def test_the_first_value_of_a_session_says_who_is_there_if_that_can_be_one_node_alone(new_server, new_api, new_node, tmp_path):
    keys = key_file(tmp_path / "psk", f"lamp:{KEY.hex()}", f"roof:{KEY.hex()}:north,south")
    server = new_server("--coaps", "127.0.0.1:0", "--coap-psk", str(keys))
    app = new_api(server)
    lamp = new_node(DtlsNode, server.addresses["coaps"], "lamp", {"led": "0"}, "lamp", KEY)
    assert str(lamp.say("temperature", "21").code) == "2.04 Changed"
    device = joined(app, "lamp")
    assert wait_for(lambda: values(app, device["device_id"]).get("temperature") == "21", 30)
    roof = new_node(DtlsNode, server.addresses["coaps"], "north", {"led": "0"}, "roof", KEY)
    assert str(roof.say("temperature", "21").code) == "2.04 Changed"
    assert counted(server, "not_kept") == 1
    assert device_of(app, "coap-north") is None


def test_a_key_file_that_is_wrong_is_said_before_the_start(tmp_path):
    keys = key_file(tmp_path / "psk", f"lamp:{KEY.hex()}")

    def say(*options) -> str:
        command = [str(BINARY), "up", "--data", str(tmp_path / "data"), "--http", "127.0.0.1:0", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        return done.stderr

    listen = ["--https", "127.0.0.1:0", "--mqtts", "127.0.0.1:0", "--coaps", "127.0.0.1:0"]
    assert "coap_psk" in say(*listen)
    keys.chmod(0o644)
    assert "chmod 600" in say(*listen, "--coap-psk", str(keys))
    keys.chmod(0o600)
    keys.write_text("lamp:1234\n")
    said = say(*listen, "--coap-psk", str(keys))
    assert "line 1" in said and "16 bytes" in said and "1234" not in said


def test_a_gateway_of_its_own_has_sessions_too(new_server, new_api, new_node, tmp_path):
    keys = key_file(tmp_path / "psk", f"far:{KEY.hex()}")
    node_keys = tmp_path / "node-keys"
    assert subprocess.run([str(BINARY), "key", "fernet", "--out", str(node_keys)], capture_output=True).returncode == 0
    server = new_server("--node-broker", "127.0.0.1:0", "--node-keys", str(node_keys), "--nodes", "open")
    broker = server.addresses["node_broker"]
    command = [str(BINARY), "gateway", "coap", "--broker", broker, "--key-file", str(node_keys)]
    command += ["--coaps", "127.0.0.1:0", "--coap-psk", str(keys)]
    gateway = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said = gateway.stdout.readline()
        assert said.startswith("nodes at coaps://127.0.0.1:"), said
        address = said.removeprefix("nodes at ").split(",")[0]
        node = new_node(DtlsNode, address, "far", {"led": "0"}, "far", KEY)
        assert node.alive() == "2.04 Changed"
        app = new_api(server)
        device = wait_for(lambda: device_of(app, "remote-far", online=True), 60)
        assert device and wait_for(lambda: values(app, device["device_id"]).get("led") == "0", 30)
        assert call(app, device, led="1")["status"] == DONE
        assert node.written == ["led=1"]
    finally:
        gateway.terminate()
        gateway.wait(30)


def test_the_session_ends_with_the_server(new_server, new_api, new_node, tmp_path):
    keys = key_file(tmp_path / "psk", f"lamp:{KEY.hex()}")
    server = new_server("--coaps", "127.0.0.1:0", "--coap-psk", str(keys))
    node = new_node(DtlsNode, server.addresses["coaps"], "lamp", {"led": "0"}, "lamp", KEY)
    node.alive()
    joined(new_api(server), "lamp")
    parts = httpx.get(f"{server.http}/readyz").json()
    assert "coap" in str(parts), parts
    assert server.stop() == 0
    assert wait_for(lambda: not node.is_open, 30), "the node was not told"
