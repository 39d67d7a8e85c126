"""MQTT nodes with a password or a certificate, over TLS: with Mosquitto's programs, and paho."""

import json
import ssl
import subprocess
import uuid

import paho.mqtt.client as mqtt
import pytest

from testbed.front_door import covey
from testbed.nodes import MqttNode, device_of, values, wait_for
from testbed.server import NotStarted, serving

pytestmark = pytest.mark.embedded
SECONDS = 60.0
PASSWORD = "gehe:im ü"


@pytest.fixture(scope="module")
def passwords(tmp_path_factory):
    """A password file, as mosquitto_passwd makes it."""
    file = tmp_path_factory.mktemp("passwords") / "nodes"
    for more, user in (("-c", "node"), (None, "other")):
        command = ["mosquitto_passwd", *([more] if more else []), "-b", str(file), user, PASSWORD]
        subprocess.run(command, check=True, capture_output=True)
    return file


def made_pki(folder, name: str):
    """A CA of somebody's own, and a certificate of it for a node."""
    pki, out = folder / name, folder / f"{name}-node"
    covey("pki", "init", "--out", str(pki))
    covey("pki", "client", "--pki", str(pki), "--name", "covey.node", "--out", str(out))
    return out


@pytest.fixture(scope="module")
def nodes_pki(tmp_path_factory):
    return made_pki(tmp_path_factory.mktemp("pki"), "own")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, passwords, nodes_pki):
    """Nodes need TLS, and a password or a certificate of that CA."""
    options = ("--mqtt-nodes", "127.0.0.1:0", "--mqtt-nodes-tls", "--mqtt-nodes-password-file", str(passwords))
    options += ("--mqtt-nodes-client-ca", str(nodes_pki / "ca.pem"))
    with serving(tmp_path_factory.mktemp("access") / "data", *options) as running:
        assert running.addresses["mqtt_nodes"].startswith("mqtts://")
        yield running


@pytest.fixture
def app(gateway, new_api):
    return new_api(gateway)


def publish(server, uid: str, *options: str, version: str = "311") -> subprocess.CompletedProcess:
    """Says with mosquitto_pub that a node is here."""
    host, port = server.addresses["mqtt_nodes"].split("://")[1].rsplit(":", 1)
    command = ["mosquitto_pub", "-h", host, "-p", port, "-V", version, "-q", "1", "-t", "node/check"]
    command += ["-m", json.dumps({"id": uid}), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


def fresh() -> str:
    return f"a-{uuid.uuid4().hex[:8]}"


def joined(app, uid: str) -> dict:
    device = wait_for(lambda: device_of(app, f"mqtt-{uid}", online=True), SECONDS)
    assert device, f"{uid} is not there"
    return device


@pytest.mark.parametrize("version", ["311", "5"])
def test_a_node_with_a_password_joins_over_tls(gateway, app, version):
    uid = fresh()
    done = publish(gateway, uid, "--cafile", str(gateway.ca), "-u", "node", "-P", PASSWORD, version=version)
    assert done.returncode == 0, done.stderr
    assert joined(app, uid)


def test_a_node_with_a_certificate_needs_no_password(gateway, app, nodes_pki):
    uid = fresh()
    certificate = ("--cert", str(nodes_pki / "client.pem"), "--key", str(nodes_pki / "client.key"))
    done = publish(gateway, uid, "--cafile", str(gateway.ca), *certificate)
    assert done.returncode == 0, done.stderr
    assert joined(app, uid)


@pytest.mark.parametrize("version", ["311", "5"])
def test_who_has_neither_is_refused_and_nothing_of_it_is_heard(gateway, app, version, tmp_path):
    uid, ca = fresh(), ("--cafile", str(gateway.ca))
    for login in ((), ("-u", "node"), ("-u", "node", "-P", "wrong"), ("-u", "nobody", "-P", PASSWORD), ("-u", "node", "-P", "")):
        done = publish(gateway, uid, *ca, *login, version=version)
        assert done.returncode != 0 and ("not authori" in done.stderr.lower() or "bad user" in done.stderr.lower()), (login, done)
    stranger = made_pki(tmp_path, "stranger")
    certificate = ("--cert", str(stranger / "client.pem"), "--key", str(stranger / "client.key"))
    assert publish(gateway, uid, *ca, *certificate, version=version).returncode != 0
    # Without TLS nobody is spoken with.
    assert publish(gateway, uid, "-u", "node", "-P", PASSWORD, version=version).returncode != 0
    assert device_of(app, f"mqtt-{uid}") is None
    log = gateway.log_text()
    assert "its user name or password is wrong" in log and PASSWORD not in log and "nobody" not in log
    # And those who have one are heard on.
    done = publish(gateway, uid, *ca, "-u", "node", "-P", PASSWORD, version=version)
    assert done.returncode == 0, done.stderr
    assert joined(app, uid)


@pytest.mark.parametrize("protocol", [mqtt.MQTTv311, mqtt.MQTTv5])
def test_a_node_of_paho_with_a_password_is_asked_and_takes_writes_over_tls(gateway, app, new_node, protocol):
    class Node(MqttNode):
        """The same, with a password."""

        def __init__(self, url, *arguments):
            made = mqtt.Client.connect

            def connect(client, host, port, **more):
                client.tls_set_context(ssl.create_default_context(cafile=str(gateway.ca)))
                client.username_pw_set("other", PASSWORD)
                return made(client, host, port, **more)

            mqtt.Client.connect = connect
            try:
                super().__init__(url.replace("mqtts://", "mqtt://"), *arguments)
            finally:
                mqtt.Client.connect = made

    uid = fresh()
    node = new_node(Node, gateway.addresses["mqtt_nodes"], uid, {"led": "0"}, protocol)
    device = joined(app, uid)
    assert wait_for(lambda: values(app, device["device_id"]).get("led") == "0", SECONDS)
    body = {"ext_task_id": "a", "device_id": device["device_id"], "method": "set", "ttl": 5, "payload": {"led": "1"}}
    result = app.post("/device-tasks", params={"wait": 30}, json=body).json()["results"][0]
    assert (result["status_code"], node.resources["led"]) == (200, "1")


def test_without_tls_a_password_is_asked_for_all_the_same(new_server, new_api, passwords):
    server = new_server("--mqtt-nodes", "127.0.0.1:0", "--mqtt-nodes-password-file", str(passwords))
    uid = fresh()
    assert publish(server, uid).returncode != 0
    done = publish(server, uid, "-u", "node", "-P", PASSWORD)
    assert done.returncode == 0, done.stderr
    assert joined(new_api(server), uid)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there is no user in it"),
        ("node:secret-word\n", "line 1: the hash must begin with $7$"),
        (None, "No such file"),
    ],
)
def test_a_password_file_that_is_wrong_is_refused_at_the_start_without_its_text(tmp_path, new_server, text, says):
    file = tmp_path / "nodes"
    if text is not None:
        file.write_text(text)
    with pytest.raises(NotStarted) as refused:
        new_server("--mqtt-nodes", "127.0.0.1:0", "--mqtt-nodes-password-file", str(file))
    assert says in str(refused.value) and "secret-word" not in str(refused.value)
