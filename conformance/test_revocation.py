"""Certificates that are revoked: whoever came with one is cut off and comes in nowhere; lists and answers about them are
read by openssl and by the library cryptography."""

import base64
import os
import socket
import ssl
import time
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from testbed.broker import LINK
from testbed.certificate import openssl

# How long a connection may stay whose certificate was revoked: here, and where others stand in between.
CUT_SECONDS_MAX = 2.0


def serial_of(identity) -> str:
    return f"{x509.load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number:x}"


def revoke(api, serial: str, reason: str = "key_compromise") -> dict:
    answer = api.post(f"/certificates/{serial}/revoke", json={"reason": reason})
    assert answer.status_code == 200, answer.text
    return answer.json()


def seconds_until_cut(device, began: float) -> float:
    ended = device.expect_disconnect(10)
    assert ended == LINK.retired
    return device.ended_at - began


@pytest.mark.every_shape
def test_who_came_with_a_revoked_certificate_is_cut_off_and_comes_in_no_more(server, api, connect, tmp_path):
    identity, neighbour_identity = api.register(tmp_path), api.register(tmp_path)
    device, neighbour = connect(server, identity), connect(server, neighbour_identity)
    serial = serial_of(identity)
    listed = api.get("/certificates", params={"sn": identity.sn}).json()
    assert [(one["serial"], one["state"]) for one in listed] == [(serial, "valid")]

    began = time.monotonic()
    revoked = revoke(api, serial.upper())
    assert (revoked["state"], revoked["reason"]) == ("revoked", "key_compromise")
    assert seconds_until_cut(device, began) < CUT_SECONDS_MAX
    assert LINK.keeps_out(lambda *levels: connect(server, identity, *levels))
    task_id = api.create(neighbour_identity)
    assert neighbour.expect("tsk").task_id == task_id, "nobody else is concerned"
    # The device is registered all the same: what is revoked is the certificate.
    assert api.get("/devices", params={"sn": identity.sn}).json()[0]["sn"] == identity.sn


@pytest.mark.several_servers
@pytest.mark.every_shape
def test_a_certificate_that_another_server_revoked_is_cut_off(pair, new_api, connect, tmp_path):
    apis = [new_api(server) for server in pair]
    identities = [apis[0].register(tmp_path) for _ in range(10)]
    devices = [connect(pair[1], identity) for identity in identities]
    for identity, device in zip(identities, devices, strict=True):
        began = time.monotonic()
        revoke(apis[0], serial_of(identity))
        assert seconds_until_cut(device, began) < CUT_SECONDS_MAX


def test_all_certificates_of_a_device_are_revoked_and_the_device_stays(server, api, other_api, connect, tmp_path):
    identity = api.register(tmp_path)
    device = connect(server, identity)
    path = f"/devices/{identity.device_id}/revoke"
    assert other_api.post(path, json={}).status_code == 404
    assert other_api.get(f"/certificates/{serial_of(identity)}").status_code == 404
    assert other_api.post(f"/certificates/{serial_of(identity)}/revoke", json={}).status_code == 404
    assert api.post(path, json={"reason": "because"}).status_code == 422
    began = time.monotonic()
    answer = api.post(path, json={"reason": "superseded"}).json()
    assert answer["serials"] == [serial_of(identity)]
    assert seconds_until_cut(device, began) < CUT_SECONDS_MAX
    assert api.post(path, json={}).json()["serials"] == []
    shown = api.get(f"/certificates/{serial_of(identity)}").json()
    assert (shown["state"], shown["reason"]) == ("revoked", "superseded")


@pytest.mark.embedded
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_no_session_of_tls_is_resumed_on_the_port_of_devices(server, api, tmp_path, version):
    """A session that goes on would go on with a certificate that nobody looks at again."""
    identity = api.register(tmp_path)
    host, port = server.mqtts
    common = ["s_client", "-connect", f"{host}:{port}", "-CAfile", str(server.ca), version,
              "-cert", str(identity.certificate), "-key", str(identity.key)]  # fmt: skip
    session = tmp_path / "session.pem"
    said = openssl(*common, "-reconnect", "-sess_out", str(session)).stdout.decode()
    assert "Verify return code: 0" in said and "Reused, " not in said, said
    if session.exists():
        said = openssl(*common, "-sess_in", str(session)).stdout.decode()
        assert "New, " in said and "Reused, " not in said, said


def https(server, context: ssl.SSLContext, session=None):
    """A connection to the HTTPS listener, perhaps one that goes on with a session of TLS."""
    url = httpx.URL(server.https)
    raw = socket.create_connection((url.host, url.port), timeout=10)
    return context.wrap_socket(raw, server_hostname="localhost", session=session)


def whoami(stream: ssl.SSLSocket) -> int:
    stream.sendall(b"GET /api/v1/whoami HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return int(stream.recv(4096).split()[1])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_that_stood_for_an_api_key_loses_it_on_connections_and_sessions(server, api, tmp_path, version):
    identity = api.register(tmp_path)
    key = {"name": "of a device", "rights": ["tasks:read"], "certificate_pem": identity.certificate.read_text()}
    assert api.post("/api-keys", json=key).status_code == 201
    context = identity.tls(server.ca)
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    kept = https(server, context)
    assert whoami(kept) == 200
    session = kept.session
    revoke(api, serial_of(identity))
    assert whoami(kept) == 401, "the connection that it came over"
    resumed = https(server, context, session)
    assert whoami(resumed) == 401, f"a session that goes on ({resumed.session_reused})"
    assert whoami(https(server, context)) == 401
    again = api.post("/api-keys", json=key)
    assert again.status_code == 422, "nor is it registered again"


def crl(server) -> x509.CertificateRevocationList:
    answer = httpx.get(f"{server.http}/pki/crl")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pkix-crl")
    return x509.load_der_x509_crl(answer.content)


def test_the_list_of_revoked_certificates_is_believed_by_openssl_and_by_cryptography(server, api, tmp_path):
    identity, good = api.register(tmp_path), api.register(tmp_path)
    before = crl(server)
    issuing = server.data / "pki" / "issuing.pem"
    issuer = x509.load_pem_x509_certificate(issuing.read_bytes())
    assert before.is_signature_valid(issuer.public_key()) and before.issuer == issuer.subject
    serial = int(serial_of(identity), 16)
    assert before.get_revoked_certificate_by_serial_number(serial) is None
    revoke(api, serial_of(identity), "cessation_of_operation")
    deadline = time.monotonic() + CUT_SECONDS_MAX
    while (entry := crl(server).get_revoked_certificate_by_serial_number(serial)) is None:
        assert time.monotonic() < deadline, "not in the list"
        time.sleep(0.1)
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.cessation_of_operation
    after = crl(server)
    number = lambda one: one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number  # noqa: E731
    assert number(after) > number(before)
    assert after.next_update_utc > after.last_update_utc
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    named = after.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert named.key_identifier == identifier.digest

    pem = tmp_path / "crl.pem"
    pem.write_text(httpx.get(f"{server.http}/pki/crl.pem").text)
    for one, is_good in ((identity, False), (good, True)):
        verified = openssl("verify", "-crl_check", "-CRLfile", str(pem), "-CAfile", str(server.ca),
                           "-untrusted", str(issuing), str(one.certificate))  # fmt: skip
        assert (verified.returncode == 0) is is_good, verified.stderr.decode()
        assert is_good or b"certificate revoked" in verified.stderr + verified.stdout


def asked(server, identity, digest, nonce: bytes | None) -> bytes:
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    issuer = x509.load_pem_x509_certificate((server.data / "pki" / "issuing.pem").read_bytes())
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, digest)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def answered(server, request: bytes) -> ocsp.OCSPResponse:
    headers = {"content-type": "application/ocsp-request"}
    answer = httpx.post(f"{server.http}/pki/ocsp", content=request, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/ocsp-response")
    in_path = httpx.get(f"{server.http}/pki/ocsp/{quote(base64.b64encode(request).decode(), safe='')}")
    assert in_path.status_code == 200
    both = [ocsp.load_der_ocsp_response(one.content) for one in (answer, in_path)]
    assert both[0].response_status == both[1].response_status
    return both[0]


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.SHA256()], ids=["sha1", "sha256"])
def test_who_asks_is_told_good_revoked_and_unknown(server, api, tmp_path, digest):
    identity = api.register(tmp_path)
    nonce = os.urandom(32)
    response = answered(server, asked(server, identity, digest, nonce))
    issuer = x509.load_pem_x509_certificate((server.data / "pki" / "issuing.pem").read_bytes())
    issuer.public_key().verify(response.signature, response.tbs_response_bytes, ec.ECDSA(response.signature_hash_algorithm))
    assert response.certificate_status == ocsp.OCSPCertStatus.GOOD
    assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
    assert response.next_update_utc > response.this_update_utc
    revoke(api, serial_of(identity), "superseded")
    response = answered(server, asked(server, identity, digest, None))
    assert response.certificate_status == ocsp.OCSPCertStatus.REVOKED, "at once"
    assert response.revocation_reason == x509.ReasonFlags.superseded
    # The server's own certificate is none of a device's.
    (tmp_path / "server.pem").write_text((server.data / "pki" / "server.pem").read_text())
    own = type(identity)("own", 0, tmp_path / "server.pem", identity.key)
    response = answered(server, asked(server, own, digest, None))
    assert response.certificate_status == ocsp.OCSPCertStatus.UNKNOWN


def test_openssl_asks_and_believes_what_it_is_told(server, api, tmp_path):
    identity = api.register(tmp_path)
    issuing = str(server.data / "pki" / "issuing.pem")
    for digest in ("-sha1", "-sha256"):
        for state, act in (("good", lambda: None), ("revoked", lambda: revoke(api, serial_of(identity)))):
            act()
            said = openssl("ocsp", digest, "-issuer", issuing, "-cert", str(identity.certificate),
                           "-url", f"{server.http}/pki/ocsp", "-CAfile", str(server.ca))  # fmt: skip
            text = said.stdout.decode() + said.stderr.decode()
            expected = state if digest == "-sha1" else "revoked"
            assert f": {expected}" in text and "Response verify OK" in text and "nonce" not in text.lower(), text


@pytest.mark.parametrize("nonce_bytes", [1, 128, 129, 1000])
def test_a_nonce_is_honoured_within_its_bounds(server, api, tmp_path, nonce_bytes):
    identity = api.register(tmp_path)
    response = answered(server, asked(server, identity, hashes.SHA1(), os.urandom(nonce_bytes)))
    is_within = nonce_bytes <= 128
    expected = ocsp.OCSPResponseStatus.SUCCESSFUL if is_within else ocsp.OCSPResponseStatus.MALFORMED_REQUEST
    assert response.response_status == expected


def test_what_is_no_request_is_told_so(server):
    for rubbish in (b"", b"\x30\x00", os.urandom(300), b"\x30" * 5000):
        headers = {"content-type": "application/ocsp-request"}
        answer = httpx.post(f"{server.http}/pki/ocsp", content=rubbish, headers=headers)
        response = ocsp.load_der_ocsp_response(answer.content)
        assert response.response_status == ocsp.OCSPResponseStatus.MALFORMED_REQUEST
    answer = httpx.get(f"{server.http}/pki/ocsp/hello!")
    assert ocsp.load_der_ocsp_response(answer.content).response_status == ocsp.OCSPResponseStatus.MALFORMED_REQUEST
    assert httpx.post(f"{server.http}/pki/ocsp", content=b"x" * 300_000).status_code == 413


def test_who_sends_a_question_slowly_keeps_nobody_from_asking(server):
    host, port = server.http.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(20)]
    for one in slow:
        one.sendall(b"POST /pki/ocsp HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n0")
    time.sleep(0.3)
    assert httpx.get(f"{server.http}/pki/crl").status_code == 200
    for one in slow:
        one.close()
