"""What strangers can agree on with the listeners that speak TLS, as sslscan and openssl find it."""

import subprocess
from xml.etree import ElementTree

import pytest

from testbed.server import kept_ports

# What is not in RFC 9325 §4.2 and §4.3 is offered to nobody.
CIPHERS = {
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
}


def scan(port: int, *options: str) -> ElementTree.Element:
    command = ["sslscan", "--xml=-", *options, f"127.0.0.1:{port}"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return ElementTree.fromstring(said).find("ssltest")


@pytest.mark.embedded
def test_a_scan_of_the_listeners_finds_new_protocols_and_strong_ciphers_alone(new_server, new_api, tmp_path):
    *ports, nodes = kept_ports(4)
    server = new_server("--mqtt-nodes", f"127.0.0.1:{nodes}", "--mqtt-nodes-tls", ports=ports)
    identity = new_api(server).register(tmp_path)
    as_device = (f"--certs={identity.certificate}", f"--pk={identity.key}")
    for name, port, options in (("https", ports[1], ()), ("mqtts", ports[2], as_device), ("mqtt-nodes", nodes, ())):
        found = scan(port, *options)
        protocols = {(one.get("type"), one.get("version")) for one in found.iter("protocol") if one.get("enabled") == "1"}
        assert protocols == {("tls", "1.2"), ("tls", "1.3")}, name
        ciphers = {one.get("cipher") for one in found.iter("cipher")}
        assert ciphers == CIPHERS, name
        assert all(int(group.get("bits")) >= 128 for group in found.iter("group")), name
        assert found.find("renegotiation").get("supported") == "0", name
        assert {one.get("vulnerable") for one in found.iter("heartbleed")} == {"0"}, name
        assert {one.get("supported") for one in found.iter("compression")} <= {"0"}, name
        # sslscan's own library has no compression, so the one who says it is another.
        said = subprocess.run(
            ["openssl", "s_client", "-tls1_2", "-comp", "-connect", f"127.0.0.1:{port}"],
            input="R\n", capture_output=True, text=True, timeout=20, check=False,
        )
        assert "Compression: NONE" in said.stdout, name
        assert "Secure Renegotiation IS supported" in said.stdout, "an old attack is answered (RFC 5746)"
        assert "no renegotiation" in said.stderr or "error" in said.stderr, f"{name}: {said.stderr}"
    # sslscan gives an address as the name, which no client may: strangers have no line of the log for it.
    assert "SNI" not in server.log_text()
