"""Servers and units on the local network over multicast DNS, with avahi, in a network of the test's own."""

import hashlib
import json
import re
import ssl
import sys
import time
from pathlib import Path

import pytest

from testbed.dtls_nodes import key_file
from testbed.local_network import LocalNetwork, lines_of_json, wait_for
from testbed.neighbour import resident_mib
from testbed.server import BINARY

pytestmark = pytest.mark.embedded
TESTBED = Path(__file__).parent / "testbed"
# How long a flood goes on, and how much more memory a server may take beside it, on a machine where it has little time.
FLOODED_SECONDS, MEMORY_MIB_MAX = 20, 150.0


@pytest.fixture
def network(tmp_path):
    made = LocalNetwork(tmp_path)
    yield made
    made.close()


def fingerprint(pem: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.read_text())).hexdigest()


def entries(txt: str) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in re.findall(r'"([^"]*)"', txt))


def credentials(server) -> tuple[str, ...]:
    return "--ca", str(server.ca), "--key", server.key


def test_avahi_sees_what_a_server_announces_and_its_goodbye(network, tmp_path):
    lab, other = network.host(), network.host().avahi()
    options = ("--server-name", "lab.attic", "--coap", "0.0.0.0:5683", "--mqtt-nodes", "127.0.0.1:1886")
    secure = ("--coaps", "0.0.0.0:5684", "--coap-psk", str(key_file(tmp_path / "psk", f"1234:{'5d' * 16}")))
    server = network.up(lab, "data", *options, *secure, "--node-broker", "0.0.0.0:8000")
    ca = fingerprint(server.ca)
    of_all = {"txtvers": "1", "version": entries(other.announced("_covey._tcp")[0][8])["version"]}
    for kind, port, txt in (
        ("_covey._tcp", "8443", {"tls": "1", "ca": ca, "api": "/api/v1", "broker": "8000"}),
        ("_https._tcp", "8443", {"path": "/docs"}),
        ("_secure-mqtt._tcp", "8883", {"tls": "1", "ca": ca, "role": "devices"}),
        ("_coap._udp", "5683", {"tls": "0", "role": "nodes"}),
        ("_coaps._udp", "5684", {"tls": "1", "role": "nodes"}),
    ):
        [(_, protocol, name, _, domain, host, address, found, said)] = other.announced(kind)
        assert (protocol, name, domain, address, found) == ("IPv4", "lab-attic", "local", lab.address, port), kind
        assert entries(said) == of_all | txt, kind
    assert other.run("avahi-resolve", "-4n", host).stdout.split() == [host, lab.address]
    # Whoever opens that name finds a certificate for it.
    checked = other.run("curl", "-sf", "--cacert", server.ca, "--resolve", f"{host}:8443:{address}", f"https://{host}:8443/healthz")
    assert checked.returncode == 0, checked.stderr
    assert other.browse("_mqtt._tcp") == []
    assert "not announced over mDNS: MQTT nodes listens on loopback" in server.log_text()
    _, seen = other.start("avahi-browse", "-p", "_covey._tcp", name="browse")
    wait_for(lambda: "+;" in seen.read_text(), "the server")
    assert server.stop() == 0
    wait_for(lambda: "-;eth0;IPv4;lab-attic;_covey._tcp" in seen.read_text(), "the goodbye")


def test_what_listens_on_loopback_alone_is_announced_to_nobody(network):
    lab, other = network.host(), network.host().avahi()
    server = network.up(lab, "data", https="127.0.0.1:8443", mqtts="127.0.0.1:8883")
    wait_for(lambda: "nothing is announced over mDNS" in server.log_text(), "the reason")
    # Somebody who is there is seen, so the network works.
    lab.avahi().publish("proof", "_covey._tcp", 1)
    assert [row[2] for row in other.announced("_covey._tcp")] == ["proof"]
    assert other.browse("_secure-mqtt._tcp") == []


def test_without_mdns_nothing_is_announced(network):
    lab, other = network.host(), network.host().avahi()
    server = lab.server("data")
    network.servers.append(server)
    server.start()
    lab.avahi().publish("proof", "_covey._tcp", 1)
    assert [row[2] for row in other.announced("_covey._tcp")] == ["proof"]


def test_a_name_that_somebody_else_has_is_resolved_by_a_new_one(network):
    first, second, third = network.host(), network.host(), network.host().avahi()
    third.publish("lab", "_covey._tcp", 1)
    for host, data in ((first, "one"), (second, "two")):
        network.up(host, data, "--server-name", "lab")

    def named(kind: str) -> dict[str, str]:
        """Whom avahi finds there, by address. Its interface for itself is left out."""
        return {row[6]: row[2] for row in third.browse(kind) if row[6] in (first.address, second.address)}

    def settled():
        names = named("_covey._tcp")
        is_new = all(re.fullmatch(r"lab\\032\\040\d\\041", name) for name in names.values())
        return len(set(names.values())) == 2 and is_new and names

    names = wait_for(settled, "two new names")
    # All that one server announces has one name.
    for kind in ("_https._tcp", "_secure-mqtt._tcp"):
        wait_for(lambda kind=kind: named(kind) == named("_covey._tcp"), kind)
    assert any(row[2] == "lab" for row in third.browse("_covey._tcp")), names
    log = network.servers[1].log_text()
    assert "another machine is announced as lab" in log, log


def test_the_command_line_finds_a_server_that_proves_itself_by_the_ca(network):
    lab, other, client = network.host(), network.host(), network.host()
    server = network.up(lab, "lab", "--server-name", "lab")
    stranger = network.up(other, "stranger", "--server-name", "stranger")

    def listed(*options):
        answer = client.covey("discover", "--json", "--seconds", "3", *options)
        assert answer.returncode == 0, answer.stderr
        found = {one["name"]: one for one in lines_of_json(answer.stdout)}
        return found if len(found) == 2 else None

    found = wait_for(lambda: listed("--ca", server.ca), "both servers")
    assert found["lab"]["url"] == f"https://{lab.address}:8443"
    assert (found["lab"]["announces_ca"], found["stranger"]["announces_ca"]) == (True, False)
    assert found["lab"]["ca_sha256"] == fingerprint(server.ca)
    table = client.covey("discover", "--seconds", "3").stdout
    assert "NAME" in table and f"https://{lab.address}:8443" in table
    # The one whose CA is trusted here is chosen.
    assert client.covey("device", "list", "--discover", *credentials(server)).returncode == 0
    by_environment = client.covey("device", "list", *credentials(server), COVEY_DISCOVER="lab")
    assert by_environment.returncode == 0, by_environment.stderr
    for options, says in (
        (("--discover", "--key", "k"), "give the CA certificate of the server with --ca"),
        (("--discover", "--ca", server.ca), "give the API key"),
        (("--discover=attic", *credentials(server)), "there are: lab, stranger"),
        (("--discover=stranger", *credentials(server)), "does not prove itself"),
        (("--discover=lab", "--ca", stranger.ca, "--key", stranger.key), "does not prove itself"),
    ):
        refused = client.covey("device", "list", *options)
        assert refused.returncode == 2 and says in refused.stderr, (options, refused)


def test_among_several_servers_of_one_ca_the_command_line_asks_for_a_name(network, tmp_path):
    hosts, client = [network.host(), network.host()], network.host()
    first = network.up(hosts[0], "one", "--server-name", "one")
    second = network.up(hosts[1], "two", "--server-name", "two", "--pki-from", str(first.data / "pki"))
    # An answer that comes late leaves one server alone, now this one, now that.
    asks = "several servers were found, name the one that is meant: one, two; such as --discover=one"
    wait_for(
        lambda: asks in client.covey("device", "list", "--discover", *credentials(first)).stderr,
        "to be asked which server is meant",
    )
    assert client.covey("device", "list", "--discover=two", *credentials(second)).returncode == 0


def test_a_device_of_the_sdk_and_a_gateway_find_their_server(network, tmp_path):
    lab, field = network.host(), network.host()
    keys = tmp_path / "keys" / "keys"
    assert field.covey("key", "fernet", "--out", keys).returncode == 0
    options = ("--node-broker", "0.0.0.0:8000", "--node-keys", str(keys))
    server = network.up(lab, "data", "--server-name", "lab", *options)
    lamp = tmp_path / "lamp"
    added = lab.covey("device", "add", "lamp-1", "--out", lamp, "--data", server.data)
    assert added.returncode == 0, added.stderr
    field.start(BINARY, "sim", "--identity", lamp, "--discover", name="sim")

    def connected():
        answer = lab.covey("device", "list", "--json", "--data", server.data)
        return [one for one in lines_of_json(answer.stdout) if (one["connection"] or {}).get("last_checked_result")]

    assert [one["sn"] for one in wait_for(connected, "the device")] == ["lamp-1"]
    gateway = ("gateway", "mqtt", "--discover", "--key-file", keys, "--mqtt-nodes", "127.0.0.1:1886")
    no_ca = field.covey(*gateway)
    assert no_ca.returncode == 2 and "give the CA certificate" in no_ca.stderr, no_ca
    _, output = field.start(BINARY, *gateway, "--ca", server.ca, name="gateway")
    wait_for(lambda: f"broker ws://{lab.address}:8000/gw" in output.read_text(), "the broker")
    check = ("mosquitto_pub", "-p", "1886", "-q", "1", "-t", "node/check", "-m", json.dumps({"id": "7"}))
    wait_for(lambda: field.run(*check).returncode == 0, "the gateway")

    def waiting():
        answer = lab.covey("node", "list", "--json", "--data", server.data)
        return [one for one in lines_of_json(answer.stdout) if one["uid"] == "7"]

    assert wait_for(waiting, "the node behind the gateway")[0]["gateway"] == "remote"


def test_answers_that_lie_are_refused_and_nothing_is_sent_to_who_does_not_prove_itself(network):
    lab, client, liar = network.host(), network.host(), network.host().avahi()
    server = network.up(lab, "data", "--server-name", "lab")
    ca = fingerprint(server.ca)
    # It takes the fingerprint that the server announces, a public address, or loopback.
    _, heard = liar.start(sys.executable, str(TESTBED / "unit_program.py"), 8443, name="liar")
    wait_for(lambda: "ready" in heard.read_text(), "the liar")
    liar.publish("liar", "_covey._tcp", 8443, "txtvers=1", f"ca={ca}")
    for host, address in (("public.local", "203.0.113.9"), ("loop.local", "127.0.0.1")):
        liar.publish_address(host, address)
        liar.publish(host.split(".")[0], "_covey._tcp", 8443, "txtvers=1", f"ca={ca}", host=host)
    liar.publish("future", "_covey._tcp", 8443, "txtvers=2")
    liar.publish("short", "_covey._tcp", 8443, "ca=00")

    def looked():
        answer = client.covey("discover", "--json", "--seconds", "4")
        names = sorted(one["name"] for one in lines_of_json(answer.stdout))
        is_whole = names == ["lab", "liar"] and answer.stderr.count("an answer was refused") >= 4
        return is_whole and answer.stderr

    said = wait_for(looked, "both, and nobody else")
    for name, why in (
        ("public", "no address at which it may be"),
        ("loop", "no address at which it may be"),
        ("future", "version that is not 1"),
        ("short", "64 hexadecimal digits"),
    ):
        assert any(f'"{name}"' in line and why in line for line in said.splitlines()), said
    # Who copies the fingerprint is asked about by name, and does not prove itself.
    key = "covey_" + "5e" * 16
    both = client.covey("device", "list", "--discover", "--ca", server.ca, "--key", key)
    assert both.returncode == 2 and "lab, liar" in both.stderr, both
    refused = client.covey("device", "list", "--discover=liar", "--ca", server.ca, "--key", key)
    assert refused.returncode != 0 and "liar" in refused.stderr, refused
    honest = client.covey("device", "list", "--discover=lab", *credentials(server))
    assert honest.returncode == 0, honest.stderr


def test_units_that_announce_themselves_wait_for_approval_and_are_connected_to_then(network):
    lab, field, far = network.host(), network.host().avahi(), network.host().avahi()
    for host in (field, far):
        _, heard = host.start(sys.executable, str(TESTBED / "unit_program.py"), 8888, name="unit")
        wait_for(lambda heard=heard: "ready" in heard.read_text(), "the unit")
        host.heard = heard
    field.publish("scale", "_covey-unit._tcp", 8888, "txtvers=1", "kind=read", "resource=weight")
    far.publish("far", "_covey-unit._tcp", 8888, "kind=read")
    field.publish("odd", "_covey-unit._tcp", 8889, "kind=toaster")
    # Whoever comes may join, but for units that nobody has said yes to; and only one address is allowed.
    options = ("--nodes", "open", "--units-allow", field.address)
    server = network.up(lab, "data", *options)
    data = ("--data", str(server.data))

    def nodes(*more):
        return lines_of_json(lab.covey("node", "list", "--json", *more, *data).stdout)

    [waiting] = wait_for(lambda: nodes("--state", "waiting"), "the unit")
    assert (waiting["gateway"], waiting["uid"], waiting["address"]) == ("mdns", field.address, field.address)
    refusals = 'covey_refusals_total{reason="discovery"}'
    wait_for(lambda: lab.metric(server, refusals) >= 2, "the refusals")
    log = server.log_text()
    assert "its kind is neither read nor update" in log and "must be one at which units may be" in log, log
    assert "connected" not in field.heard.read_text()
    approved = lab.covey("node", "approve", f"mdns/{field.address}", *data)
    assert approved.returncode == 0, approved.stderr
    wait_for(lambda: f"connected {lab.address}" in field.heard.read_text(), "the connection")
    sn = "mdns-" + field.address.replace(".", "_2e")

    def weight():
        shown = lab.covey("twin", "get", sn, "--json", *data)
        return shown.returncode == 0 and '"weight"' in shown.stdout

    wait_for(weight, "a value of the unit")
    assert "connected" not in far.heard.read_text()
    # Who says no ends the connection, and it does not come again.
    assert lab.covey("node", "block", f"mdns/{field.address}", *data).returncode == 0
    wait_for(lambda: 'closed' in field.heard.read_text(), "the end of the connection")


def test_a_flood_of_units_that_announce_themselves_is_bounded(network):
    lab, field = network.host(), network.host()
    field.start(sys.executable, str(TESTBED / "mdns_flood.py"), "_covey-unit._tcp", field.address, 3000, name="flood")
    server = network.up(lab, "data", "--server-name", "lab")
    refusals = 'covey_refusals_total{reason="discovery"}'
    wait_for(lambda: lab.metric(server, refusals) > 0, "refusals")

    def waiting():
        answer = lab.covey("node", "list", "--state", "waiting", "--json", "--data", server.data)
        return lines_of_json(answer.stdout)

    wait_for(waiting, "some units")
    assert len(waiting()) <= 1000
    assert "more answers than are heard" in server.log_text()
    # The server works on, and says a bounded number of lines.
    assert lab.run("curl", "-sf", f"{server.http}/readyz").returncode == 0
    assert len(server.log_text().splitlines()) < 1000


def test_what_others_say_is_kept_up_to_a_bound_and_the_server_is_announced_all_the_same(network):
    lab, field, other = network.host(), network.host(), network.host()
    server = network.up(lab, "data", "--server-name", "lab")
    flood = (sys.executable, str(TESTBED / "mdns_flood.py"), "_ipp._tcp", field.address, 6000, "--no-type")
    field.start(*flood, name="flood")
    wait_for(lambda: "more was said over mDNS than is kept" in server.log_text(), "the bound")
    assert lab.metric(server, 'covey_refusals_total{reason="discovery"}') > 0
    wait_for(lambda: lab.address in other.covey("discover").stdout, "the server")


def test_a_flood_of_large_answers_takes_a_bounded_memory(network):
    lab, field, other = network.host(), network.host(), network.host()
    server = network.up(lab, "data", "--server-name", "lab")

    before = resident_mib(server)
    assert before > 1, "it is the server that is measured"
    # Names without an end: of units, which the server asks for, and of what it only hears.
    for kind, more in (("_covey-unit._tcp", ()), ("_ipp._tcp", ("--no-type",))):
        field_of = (sys.executable, str(TESTBED / "mdns_flood.py"), kind, field.address, 1 << 40, "--large", *more)
        field.start(*field_of, name="flood")
    wait_for(lambda: "more was said over mDNS than is kept" in server.log_text(), "the bound")
    seen = []
    for _ in range(FLOODED_SECONDS):
        time.sleep(1)
        seen.append(round(resident_mib(server)))
    print("MiB before:", round(before), "beside the flood:", seen)
    # It comes back to what it was: what is kept is forgotten again and again.
    assert max(seen) - before < MEMORY_MIB_MAX, (before, seen)
    assert lab.run("curl", "-sf", f"{server.http}/readyz").returncode == 0
    wait_for(lambda: lab.address in other.covey("discover").stdout, "the server")
    assert len(server.log_text().splitlines()) < 1000
