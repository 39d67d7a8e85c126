"""Certificates: signed from requests of openssl, checked by openssl, and the server's own renewed in service."""

import socket
import ssl
import time

import pytest

from testbed.api import DONE, Api, is_problem
from testbed.broker import LINK
from testbed.certificate import openssl, request
from testbed.device import Identity

KEYS = {
    "RSA-2048": ["rsa:2048"],
    "P-256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
}


def s_client(server, *arguments: str) -> str:
    """What openssl says of a TLS connection to the device port."""
    host, port = server.mqtts
    said = openssl("s_client", "-connect", f"{host}:{port}", "-CAfile", str(server.ca), *arguments)
    return said.stdout.decode(errors="replace") + said.stderr.decode(errors="replace")


@pytest.mark.parametrize("kind", KEYS)
def test_a_request_of_openssl_is_signed_and_usable(server, api, connect, tmp_path, kind):
    sn = f"csr-{time.time_ns()}"
    key, csr = request(tmp_path, sn, *KEYS[kind])
    answer = api.post("/devices", json={"sn": sn, "csr": csr.read_text()})
    assert answer.status_code == 201, answer.text
    assert not answer.json().get("private_key_pem"), "the device keeps its own"
    identity = Identity.write(tmp_path, answer.json(), key.read_text())

    verified = openssl(
        "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", str(server.ca),
        "-untrusted", str(identity.certificate), str(identity.certificate),
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr.decode() + verified.stdout.decode()
    shown = openssl("x509", "-in", str(identity.certificate), "-noout", "-subject", "-ext", "subjectAltName")
    assert f"CN = {sn}".encode() in shown.stdout and f"DNS:{sn}".encode() in shown.stdout

    for version in ("-tls1_2", "-tls1_3"):
        said = s_client(
            server, version, "-verify_return_error", "-verify_ip", "127.0.0.1",
            "-cert", str(identity.certificate), "-cert_chain", str(identity.certificate), "-key", str(key),
        )  # fmt: skip
        assert "Verify return code: 0 (ok)" in said, said

    device = connect(server, identity)
    task_id = api.create(identity)
    assert device.expect("tsk").task_id == task_id
    device.take(task_id)
    device.finish(task_id)
    assert api.status(task_id) == DONE


def test_a_key_that_the_server_made_is_usable_by_openssl(server, identity):
    said = s_client(server, "-verify_return_error", "-cert", str(identity.certificate), "-key", str(identity.key))
    assert "Verify return code: 0 (ok)" in said, said


def refused_requests(folder, sn: str) -> dict[str, str]:
    good = request(folder, sn, *KEYS["P-256"])[1].read_text()
    lines = good.splitlines()
    broken = lines[2][:10] + ("A" if lines[2][10] != "A" else "B") + lines[2][11:]
    return {
        "a weak key": request(folder, sn, "rsa:1024")[1].read_text(),
        "another name": request(folder, "another", *KEYS["P-256"])[1].read_text(),
        "a changed bit": "\n".join([*lines[:2], broken, *lines[3:]]),
        "no request": "hello",
        "half a request": "\n".join(lines[:3]),
        "nothing": "",
        "a certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "a book": good * 2000,
    }


def test_a_request_that_cannot_be_signed_registers_nobody(api, tmp_path):
    sn = f"csr-{time.time_ns()}"
    for what, csr in refused_requests(tmp_path, sn).items():
        answer = api.post("/devices", json={"sn": sn, "csr": csr})
        assert answer.status_code in (413, 422), f"{what}: {answer.status_code} {answer.text[:200]}"
        assert is_problem(answer, answer.status_code)
    assert api.get("/devices", params={"sn": sn}).json() == []


def test_private_keys_are_for_their_owner_alone(server):
    secrets = [*server.data.glob("pki/*.key"), server.data / "admin.key"]
    assert {path.name for path in secrets} >= {"issuing.key", "server.key", "admin.key"}
    for path in secrets:
        assert path.stat().st_mode & 0o077 == 0, path
    assert server.key not in server.log_text()


def serial(address: tuple[str, int], context: ssl.SSLContext) -> str:
    """The serial number of the certificate that a port shows now."""
    with socket.create_connection(address, timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=address[0]) as stream:
            return stream.getpeercert()["serialNumber"]


def serial_when_let_in(address, context) -> str:
    """A new listener takes the old one's place: a connection that the old one has not taken yet is reset, as when a
    server is started again, and the client connects again."""
    try:
        return serial(address, context)
    except ConnectionResetError:
        return serial(address, context)


def test_the_servers_certificate_is_renewed_while_it_runs(new_server, new_api, connect, tmp_path):
    server = new_server("--server-certificate-seconds", "9")
    api = new_api(server)
    identity = api.register(tmp_path)
    live = connect(server, identity)
    https = ("127.0.0.1", int(server.https.rsplit(":", 1)[1]))
    ports = {"mqtts": server.mqtts, "https": https} if LINK.is_own else {"https": https}
    context = identity.tls(server.ca)
    first = {name: serial(address, context) for name, address in ports.items()}

    for _ in range(2):
        before = {name: serial(address, context) for name, address in ports.items()}
        deadline = time.monotonic() + 20
        while any(serial_when_let_in(address, context) == before[name] for name, address in ports.items()):
            assert time.monotonic() < deadline, "no renewal"
            time.sleep(0.2)

        assert live.is_connected(), f"the live device was cut off: {live.ended}"
        task_id = api.create(identity)
        assert live.expect("tsk").task_id == task_id
        live.take(task_id)
        live.finish(task_id)
        assert api.status(task_id) == DONE

        newcomer = connect(server, api.register(tmp_path))
        task_id = api.create(newcomer)
        assert newcomer.expect("tsk").task_id == task_id

    time.sleep(1)
    assert {serial(address, context) for address in ports.values()}.isdisjoint(first.values())
    assert live.is_connected()
    assert server.stop() == 0


def test_a_certificate_of_the_server_that_expired_meanwhile_is_renewed_at_the_start(new_server, identity):
    server = new_server("--server-certificate-seconds", "6")
    assert server.stop() == 0
    time.sleep(7)
    server.start()
    context = ssl.create_default_context(cafile=str(server.ca))
    assert serial(("127.0.0.1", int(server.https.rsplit(":", 1)[1])), context)


def test_a_certificate_of_a_device_loses_the_rights_that_it_was_given_when_the_device_is_retired(
    server, api, identity
):
    name, certificate = f"device {identity.sn}", identity.certificate.read_text()
    body = {"name": name, "rights": ["devices:read"], "certificate_pem": certificate}
    assert api.post("/api-keys", json=body).status_code == 201
    reading = Api(server.https, None, verify=identity.tls(server.ca))
    assert reading.get("/devices").status_code == 200
    assert api.delete(f"/devices/{identity.device_id}").status_code == 200
    assert is_problem(reading.get("/devices"), 401)
    reading.close()
    assert name not in {key["name"] for key in api.get("/api-keys").json()}
    refused = api.post("/api-keys", json=body)
    assert is_problem(refused, 422) and refused.json()["field"] == "certificate_pem"
