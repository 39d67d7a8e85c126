"""A root whose key is on another machine, and an issuing CA that takes the place of another one: files that are carried, the
real programs on both sides, and openssl between them."""

import json
import subprocess

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from testbed.certificate import openssl, request
from testbed.device import Identity
from testbed.est import KEYS, ask, body_of, curl, with_certificate
from testbed.server import BINARY

pytestmark = pytest.mark.embedded


def ca(*arguments) -> str:
    done = subprocess.run([str(BINARY), "ca", *map(str, arguments)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def carried(root, pki, folder, name: str) -> None:
    """A request goes to the root and its certificate comes back."""
    ca("init", "--offline-root", "--pki", pki)
    signed = folder / name
    ca("sign", pki / "issuing-next.csr", "--root", root, "--out", signed)
    ca("install", signed, "--pki", pki)


def alone(identity: Identity) -> Identity:
    """The same device, showing its own certificate and not that of who issued it."""
    text = identity.certificate.read_text()
    end = "-----END CERTIFICATE-----\n"
    path = identity.certificate.with_suffix(".alone.pem")
    path.write_text(text[: text.index(end) + len(end)])
    return Identity(identity.sn, identity.device_id, path, identity.key)


def test_a_root_that_is_elsewhere_signs_an_issuing_ca_and_the_one_that_takes_its_place(
    new_server, new_api, connect, tmp_path
):
    root, pki = tmp_path / "root", tmp_path / "pki"
    ca("root", "--out", root)
    carried(root, pki, tmp_path, "first.pem")
    assert sorted(path.name for path in pki.iterdir() if not path.name.startswith(".")) == [
        "ca.pem", "issuing.key", "issuing.pem"]  # fmt: skip
    assert (pki / "issuing.key").stat().st_mode & 0o777 == 0o600

    server = new_server("--pki-from", str(pki))
    assert not (server.data / "pki" / "ca.key").exists(), "the root's key never came here"
    old = new_api(server).register(tmp_path)
    connect(server, old)
    first = server.data / "pki" / "issuing.pem"
    former = tmp_path / "former.pem"
    former.write_text(first.read_text())
    identifier = x509.load_pem_x509_certificate(first.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectKeyIdentifier).value.digest.hex()  # fmt: skip
    server.stop()

    carried(root, pki, tmp_path, "second.pem")
    server.start()
    assert first.read_text() != former.read_text(), "the server signs with the other one"
    listed = [json.loads(line) for line in ca("list", "--pki", server.data / "pki", "--json").splitlines()]
    assert [(one["role"], one["has_key"]) for one in listed] == [("root", False), ("issuing", True), ("former", True)]
    api = new_api(server)
    new = api.register(tmp_path)
    for identity in (old, alone(old), new, alone(new)):
        connect(server, identity).close()
    for identity in (old, new):
        verified = openssl("verify", "-x509_strict", "-CAfile", str(server.ca), "-untrusted", str(identity.certificate),
                           str(identity.certificate))  # fmt: skip
        assert verified.returncode == 0, verified.stderr.decode()

    # EST shows both, and knows what the one of before has signed.
    shown = x509.load_pem_x509_certificates(curl(server, "cacerts").certificates(tmp_path).encode())
    assert {one.fingerprint(SHA256()) for one in shown} == {
        x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(SHA256()) for path in (server.ca, first, former)}  # fmt: skip
    _, csr = request(tmp_path, old.sn, *KEYS["P-256"])
    assert ask(server, "simplereenroll", body_of(csr, tmp_path), *with_certificate(alone(old))).status == 200

    # Who asks of a certificate of before is answered by the CA of before.
    serial = f"{x509.load_pem_x509_certificate(old.certificate.read_bytes()).serial_number:x}"
    for state in ("good", "revoked"):
        said = openssl("ocsp", "-issuer", str(former), "-cert", str(old.certificate), "-url", f"{server.http}/pki/ocsp",
                       "-CAfile", str(server.ca))  # fmt: skip
        text = said.stdout.decode() + said.stderr.decode()
        assert f": {state}" in text and "Response verify OK" in text, text
        assert api.post(f"/certificates/{serial}/revoke", json={"reason": "superseded"}).status_code == 200
    for issuer, name in ((former, identifier), (first, None)):
        path = "/pki/crl" if name is None else f"/pki/crl/{name}"
        crl = x509.load_der_x509_crl(httpx.get(f"{server.http}{path}").content)
        assert crl.is_signature_valid(x509.load_pem_x509_certificate(issuer.read_bytes()).public_key())
        assert crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None
    assert httpx.get(f"{server.http}/pki/crl/00ff").status_code == 404


def test_what_is_brought_from_elsewhere_is_taken_only_if_it_is_what_was_asked_for(tmp_path):
    root, other_root, pki = tmp_path / "root", tmp_path / "other", tmp_path / "pki"
    ca("root", "--out", root)
    ca("root", "--out", other_root)
    carried(root, pki, tmp_path, "first.pem")
    before = {path.name: path.read_bytes() for path in pki.glob("*.pem")}
    ca("init", "--offline-root", "--pki", pki)
    ca("sign", pki / "issuing-next.csr", "--root", other_root, "--out", tmp_path / "of-other.pem")
    (tmp_path / "half.pem").write_bytes((pki / "issuing.pem").read_bytes())
    (tmp_path / "rubbish.pem").write_text("hello")
    for name in ("of-other.pem", "first.pem", "half.pem", "rubbish.pem"):
        refused = subprocess.run([str(BINARY), "ca", "install", str(tmp_path / name), "--pki", str(pki)],
                                 capture_output=True, timeout=60)  # fmt: skip
        assert refused.returncode != 0 and b"certificate" in refused.stderr, name
        assert {path.name: path.read_bytes() for path in pki.glob("*.pem")} == before
    waiting = tmp_path / "waiting"
    ca("init", "--offline-root", "--pki", waiting)
    refused = subprocess.run([str(BINARY), "pki", "client", "--pki", str(waiting), "--name", "a.b", "--out", str(tmp_path)],
                             capture_output=True, timeout=60)  # fmt: skip
    assert refused.returncode != 0 and not (waiting / "ca.pem").exists(), "no CA is made in its place"


def test_certificates_name_where_to_ask_only_where_the_operator_says_so(server, new_server, new_api, api, tmp_path):
    def extensions(identity) -> x509.Extensions:
        return x509.load_pem_x509_certificate(identity.certificate.read_bytes()).extensions

    for kind in (x509.CRLDistributionPoints, x509.AuthorityInformationAccess):
        with pytest.raises(x509.ExtensionNotFound):
            extensions(api.register(tmp_path)).get_extension_for_class(kind)
    own = new_server("--crl-url", "http://covey.example/pki/crl/{issuer}", "--ocsp-url", "http://covey.example/pki/ocsp")
    found = extensions(new_api(own).register(tmp_path))
    issuer = x509.load_pem_x509_certificate((own.data / "pki" / "issuing.pem").read_bytes())
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    [point] = found.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name[0].value == f"http://covey.example/pki/crl/{identifier}"
    [access] = found.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert access.access_location.value == "http://covey.example/pki/ocsp"
    assert httpx.get(f"{own.http}/pki/crl/{identifier}").status_code == 200
