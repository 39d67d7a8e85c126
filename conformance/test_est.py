"""EST (RFC 7030): devices enrol and renew with curl and openssl, which know nothing of Covey."""

import base64
import csv
import datetime
import json
import os
import subprocess
import tarfile
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from testbed.api import DONE, is_problem
from testbed.broker import LINK
from testbed.certificate import Signer, openssl, request
from testbed.device import Identity, Refused
from testbed.est import KEYS, ask, body_of, curl, der_of, with_certificate
from testbed.server import BINARY


def new_sn() -> str:
    return f"est-{time.time_ns()}"


def enrol(server, folder, sn, *arguments, kind="P-256", line_ends=b"\n") -> Identity:
    """Enrols with a key of the device's own."""
    key, csr = request(folder, sn, *KEYS[kind])
    answer = ask(server, "simpleenroll", body_of(csr, folder, line_ends), *arguments)
    return kept(server, answer, folder, sn, key)


def kept(server, answer, folder, sn, key) -> Identity:
    """What a device keeps: its certificate, and for brokers that want it the issuing CA's behind it."""
    certificate = folder / f"{key.stem}.pem"
    leaf = answer.certificates(folder)
    assert len(x509.load_pem_x509_certificates(leaf.encode())) == 1, "only the one that was issued"
    certificate.write_text(leaf + (server.data / "pki" / "issuing.pem").read_text())
    return Identity(sn, 0, certificate, key)


def renewed(server, folder, identity, *arguments, kind="P-256"):
    """Asks for the next certificate, for another key."""
    key, csr = request(folder, identity.sn, *KEYS[kind])
    shown = arguments or with_certificate(identity)
    return ask(server, "simplereenroll", body_of(csr, folder), *shown), key


def verified(server, folder, identity) -> bool:
    issuing = folder / "issuing.pem"
    issuing.write_text(curl(server, "cacerts").certificates(folder))
    said = openssl(
        "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", str(server.ca), "-untrusted", str(issuing),
        str(identity.certificate),
    )  # fmt: skip
    return said.returncode == 0


def connects(connect, server, identity) -> bool:
    try:
        connect(server, identity).close()
        return True
    except (Refused, OSError):
        return False


@pytest.mark.parametrize("base", ["/.well-known/est", "/.well-known/est/covey"])
def test_the_authority_shows_its_certificates_to_anybody(server, tmp_path, base):
    shown = curl(server, "cacerts", base=base).certificates(tmp_path)
    found = x509.load_pem_x509_certificates(shown.encode())
    root = x509.load_pem_x509_certificate(server.ca.read_bytes())
    issuing = next(certificate for certificate in found if certificate != root)
    assert root in found and len(found) == 2
    issuing.verify_directly_issued_by(root)


def test_it_is_spoken_over_https_alone(server):
    assert curl(server, "cacerts", root=server.http).status == 404


def test_the_attributes_of_a_request_are_read_by_openssl(server):
    answer = curl(server, "csrattrs")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/csrattrs")
    parsed = openssl("asn1parse", "-inform", "DER", stdin=der_of(answer.body))
    assert b"prime256v1" in parsed.stdout and b"ecdsa-with-SHA256" in parsed.stdout, parsed.stderr


@pytest.mark.parametrize("kind", KEYS)
def test_a_device_enrols_by_an_api_key_and_connects(server, api, connect, tmp_path, kind):
    key = api.key_with(["devices:write"])
    for shown in (["-u", f"est:{key}"], ["-H", f"Authorization: Bearer {key}"]):
        line_ends = b"\n" if shown[0] == "-u" else b""
        identity = enrol(server, tmp_path, new_sn(), *shown, kind=kind, line_ends=line_ends)
        assert verified(server, tmp_path, identity)
        device = api.get("/devices", params={"sn": identity.sn}).json()[0]
        connected = connect(server, identity)
        identity = Identity(identity.sn, device["device_id"], identity.certificate, identity.key)
        task_id = api.create(identity)
        assert connected.expect("tsk").task_id == task_id
        connected.take(task_id)
        connected.finish(task_id)
        assert api.status(task_id) == DONE


def test_who_has_no_right_enrols_nobody(server, api, tmp_path):
    sn, weak = new_sn(), api.key_with(["devices:read"])
    _, csr = request(tmp_path, sn, *KEYS["P-256"])
    body = body_of(csr, tmp_path)
    stranger = ask(server, "simpleenroll", body)
    assert stranger.status == 401 and "Basic realm=" in stranger.headers["www-authenticate"]
    assert ask(server, "simpleenroll", body, "-u", "est:covey_no-such-key").status == 401
    assert ask(server, "simpleenroll", body, "-u", f"est:{weak}").status == 403
    page = ["-H", "Origin: https://attacker.example"]
    assert ask(server, "simpleenroll", body, "-u", f"est:{server.key}", *page).status == 403
    assert api.get("/devices", params={"sn": sn}).json() == []


def test_a_serial_number_is_enrolled_once(server, identity, tmp_path):
    _, csr = request(tmp_path, identity.sn, *KEYS["P-256"])
    answer = ask(server, "simpleenroll", body_of(csr, tmp_path), "-u", f"est:{server.key}")
    assert answer.status == 409 and b"sn_taken" in answer.body


def test_what_is_no_request_is_refused_with_a_reason(server, api, tmp_path):
    sn = new_sn()
    good = request(tmp_path, sn, *KEYS["P-256"])[1]
    nameless = tmp_path / "nameless.csr"
    made = openssl("req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout",
                   str(tmp_path / "n.key"), "-out", str(nameless), "-subj", "/O=nobody")  # fmt: skip
    assert made.returncode == 0, made.stderr
    bodies = {
        "nothing": (b"", 422),
        "no base64": (b"hello!", 422),
        "no request": (b"aGVsbG8=", 422),
        "half a request": (body_of(good, tmp_path).read_bytes()[:200], 422),
        "no name": (body_of(nameless, tmp_path).read_bytes(), 422),
        "a weak key": (body_of(request(tmp_path, sn, "rsa:1024")[1], tmp_path).read_bytes(), 422),
        "another alphabet": (body_of(request(tmp_path, "a.b", *KEYS["P-256"])[1], tmp_path).read_bytes(), 422),
        "a book": (b"A" * 30_000, 413),
        "a library": (b"A" * 300_000, 413),
        "8 KiB of rubbish": (base64.b64encode(b"0" * 8192), 422),
        "more": (base64.b64encode(b"0" * 8193), 413),
        "rubbish": (os.urandom(3000), 422),
    }
    for what, (content, status) in bodies.items():
        body = tmp_path / "body"
        body.write_bytes(content)
        answer = ask(server, "simpleenroll", body, "-u", f"est:{server.key}")
        assert answer.status == status, f"{what}: {answer}"
        assert answer.headers["content-type"] == "application/problem+json", what
    assert api.get("/devices", params={"sn": sn}).json() == []
    assert not server.panics()


def test_a_device_renews_with_another_key_and_both_certificates_are_good(server, api, connect, tmp_path):
    old = api.register(tmp_path)
    answer, key = renewed(server, tmp_path, old)
    new = kept(server, answer, tmp_path, old.sn, key)
    assert verified(server, tmp_path, new)
    serials = {x509.load_pem_x509_certificate(one.certificate.read_bytes()).serial_number for one in (old, new)}
    assert len(serials) == 2
    assert connects(connect, server, new) and connects(connect, server, old)
    # The new one is as good for the next renewal.
    assert renewed(server, tmp_path, new, kind="RSA-2048")[0].status == 200


def test_a_renewal_is_for_the_device_of_the_certificate(server, api, identity, victim_identity, tmp_path):
    for sn, shown in ((victim_identity.sn, with_certificate(identity)), (identity.sn, ["-u", f"est:{server.key}"])):
        _, csr = request(tmp_path, sn, *KEYS["P-256"])
        answer = ask(server, "simplereenroll", body_of(csr, tmp_path), *shown)
        assert answer.status in (403, 422), answer
    # Who has a certificate has enrolled.
    _, csr = request(tmp_path, new_sn(), *KEYS["P-256"])
    assert ask(server, "simpleenroll", body_of(csr, tmp_path), *with_certificate(identity)).status == 403


def test_a_forged_certificate_renews_nothing(server, identity, tmp_path):
    issuing = Signer.of(server.data / "pki" / "issuing.pem", server.data / "pki" / "issuing.key")
    serial = x509.load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number
    for signer in (Signer.forged(), Signer.forged(issuing)):
        forged = signer.issue(tmp_path, identity.sn, serial=serial)
        assert renewed(server, tmp_path, forged)[0].status == 401
    # Signed by the CA, and never stored.
    unknown = issuing.issue(tmp_path, identity.sn)
    assert renewed(server, tmp_path, unknown)[0].status == 409


def test_a_retired_device_renews_nothing(server, api, tmp_path):
    gone = api.register(tmp_path)
    assert api.delete(f"/devices/{gone.device_id}").status_code == 200
    assert renewed(server, tmp_path, gone)[0].status == 409
    # Nor does it with the same serial number again.
    api.register(tmp_path, sn=gone.sn)
    assert renewed(server, tmp_path, gone)[0].status == 409


def test_a_device_gets_so_many_certificates_a_day_and_keeps_the_one_that_it_shows(server, api, connect, tmp_path):
    first = api.register(tmp_path)
    answers = [renewed(server, tmp_path, first) for _ in range(9)]
    assert {answer.status for answer, _ in answers} == {200}
    assert connects(connect, server, first), "it may not have got to know the new ones"
    others = [kept(server, answer, tmp_path, first.sn, key) for answer, key in answers]
    assert renewed(server, tmp_path, others[0])[0].status == 409, "only so many are good at a time"
    statuses = [renewed(server, tmp_path, others[-1])[0].status for _ in range(11)]
    assert statuses == [200] * 10 + [429]


def expired(server, api, folder) -> Identity:
    identity = api.register(folder)
    time.sleep(3.2)
    return identity


def test_an_expired_certificate_is_good_for_its_renewal_and_nothing_else(new_server, new_api, connect, tmp_path):
    server = new_server("--device-certificate-seconds", "2")
    api = new_api(server)
    old = expired(server, api, tmp_path)
    if LINK.is_own:
        assert not connects(connect, server, old)
    for path in ("/api/v1/whoami", "/api/v1/devices"):
        said = subprocess.run(
            ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(server.ca), *with_certificate(old),
             server.https + path], capture_output=True, timeout=30,
        )  # fmt: skip
        assert said.stdout == b"401", said
    answer, key = renewed(server, tmp_path, old)
    new = kept(server, answer, tmp_path, old.sn, key)
    assert verified(server, tmp_path, new) and connects(connect, server, new)

    gone = expired(server, api, tmp_path)
    assert api.delete(f"/devices/{gone.device_id}").status_code == 200
    assert renewed(server, tmp_path, gone)[0].status == 409
    assert not server.panics()


def test_without_days_for_it_an_expired_certificate_is_good_for_nothing(new_server, new_api, tmp_path):
    server = new_server("--device-certificate-seconds", "2", "--renew-expired-days", "0")
    old = expired(server, new_api(server), tmp_path)
    assert renewed(server, tmp_path, old)[0].status == 0, "the handshake fails"


def test_a_certificate_that_expired_too_long_ago_is_not_renewed(server, api, identity, tmp_path):
    issuing = Signer.of(server.data / "pki" / "issuing.pem", server.data / "pki" / "issuing.key")
    days = datetime.timedelta(days=1)
    old = issuing.issue(tmp_path, identity.sn, begins=-60 * days, ends=-31 * days)
    assert renewed(server, tmp_path, old)[0].status == 0, "the handshake fails"


CLAIMS = "/claims"
LONG = "2100-01-01T00:00:00Z"


def claim(api, folder, **fields) -> tuple[int, Identity]:
    """Makes a claim; its number, and its certificate and key as curl takes them."""
    answer = api.post(CLAIMS, json={"name": "line 4", "expires_at": LONG, **fields})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    files = folder / f"claim-{made['claim']['id']}.pem", folder / f"claim-{made['claim']['id']}.key"
    files[0].write_text(made["certificate_pem"])
    files[1].write_text(made["private_key_pem"])
    return made["claim"]["id"], Identity("claim", 0, *files)


def tried(server, folder, sn, shown):
    """Enrols with a new key; answers what came."""
    _, csr = request(folder, sn, *KEYS["P-256"])
    return ask(server, "simpleenroll", body_of(csr, folder), *with_certificate(shown))


def test_each_listed_serial_number_enrols_once_by_a_claim(server, api, connect, tmp_path):
    sns = [f"{new_sn()}-{number}" for number in range(3)]
    number, shown = claim(api, tmp_path, serials=sns[:2])
    identity = enrol(server, tmp_path, sns[0], *with_certificate(shown))
    assert verified(server, tmp_path, identity) and connects(connect, server, identity)
    assert tried(server, tmp_path, sns[0], shown).status == 409
    assert tried(server, tmp_path, sns[2], shown).status == 409, "it is not listed"

    added = api.post(f"{CLAIMS}/{number}/serials", json={"serials": sns})
    assert added.json()["added"] == 1
    assert tried(server, tmp_path, sns[1], shown).status == 200
    assert tried(server, tmp_path, sns[2], shown).status == 409, "the claim is for two"

    device = api.get("/devices", params={"sn": sns[0]}).json()[0]
    listed = {one["sn"]: one for one in api.get(f"{CLAIMS}/{number}/serials").json()["items"]}
    assert listed[sns[0]]["device_id"] == device["device_id"] and listed[sns[2]]["used_at"] is None
    assert api.get(f"{CLAIMS}/{number}").json()["used"] == 2
    logged = [line for line in server.log_text().splitlines() if "a claim was used" in line and sns[0] in line]
    assert len(logged) == 1 and api.get(f"{CLAIMS}/{number}").json()["certificate_serial"] in logged[0]


def test_who_asks_again_with_the_same_key_gets_a_certificate_again(server, api, connect, tmp_path):
    sn = new_sn()
    number, shown = claim(api, tmp_path, serials=[sn])
    key, csr = request(tmp_path, sn, *KEYS["P-256"])
    body = body_of(csr, tmp_path)
    for _ in range(2):
        identity = kept(server, ask(server, "simpleenroll", body, *with_certificate(shown)), tmp_path, sn, key)
        assert connects(connect, server, identity)
    assert api.get(f"{CLAIMS}/{number}").json()["used"] == 1
    # Once its device is retired, only an operator lets it in again.
    device = api.get("/devices", params={"sn": sn}).json()[0]
    assert api.delete(f"/devices/{device['device_id']}").status_code == 200
    assert ask(server, "simpleenroll", body, *with_certificate(shown)).status == 409


def test_a_released_serial_number_enrols_once_more_and_its_old_certificate_is_dead(server, api, connect, tmp_path):
    sn = new_sn()
    number, shown = claim(api, tmp_path, pattern=f"{sn}*", limit=1)
    old = enrol(server, tmp_path, sn, *with_certificate(shown))
    assert api.post(f"{CLAIMS}/{number}/release", json={"sn": sn}).status_code == 200
    new = enrol(server, tmp_path, sn, *with_certificate(shown))
    assert connects(connect, server, new)
    if LINK.is_own:
        assert not connects(connect, server, old)
    assert renewed(server, tmp_path, old)[0].status == 409
    assert tried(server, tmp_path, sn, shown).status == 409
    assert is_problem(api.post(f"{CLAIMS}/{number}/release", json={"sn": "nobody"}), 404)


def test_a_claim_takes_no_device_that_is_there_already(server, api, identity, tmp_path):
    _, shown = claim(api, tmp_path, pattern=f"{identity.sn}*", limit=5)
    answer = tried(server, tmp_path, identity.sn, shown)
    assert answer.status == 409 and b"sn_taken" in answer.body


def test_a_claim_may_enrol_and_nothing_else(server, api, connect, tmp_path):
    sn = new_sn()
    _, shown = claim(api, tmp_path, serials=[sn])
    assert curl(server, "whoami", *with_certificate(shown), base="/api/v1").status == 401
    assert renewed(server, tmp_path, shown)[0].status == 403
    body = {"name": "claim", "rights": ["devices:read"], "certificate_pem": shown.certificate.read_text()}
    assert is_problem(api.post("/api-keys", json=body), 422)
    for name in (sn, "claim"):
        assert not connects(connect, server, Identity(name, 0, shown.certificate, shown.key))


def test_a_claim_that_is_revoked_or_over_enrols_nobody(server, api, tmp_path):
    sn = new_sn()
    number, shown = claim(api, tmp_path, pattern=f"{sn}*", limit=9)
    assert tried(server, tmp_path, sn + "-1", shown).status == 200
    revoked = api.delete(f"{CLAIMS}/{number}")
    assert revoked.status_code == 200 and revoked.json()["revoked_at"]
    assert tried(server, tmp_path, sn + "-2", shown).status == 409
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    _, shown = claim(api, tmp_path, pattern=f"{sn}*", limit=9, expires_at=soon)
    time.sleep(3.2)
    assert tried(server, tmp_path, sn + "-3", shown).status == 401


def test_what_is_no_claim_is_refused_by_name(api):
    for fields, field in [
        ({"expires_at": "2001-01-01T00:00:00Z", "serials": ["a"]}, "expires_at"),
        ({"serials": ["a b"]}, "serials"),
        ({"serials": []}, "limit"),
        ({"pattern": "A-*"}, "limit"),
        ({"pattern": "*", "limit": 1}, "pattern"),
        ({"pattern": "A.", "limit": 1}, "pattern"),
        ({"serials": ["a"], "limit": 1_000_001}, "limit"),
        ({"serials": ["a"], "name": ""}, "name"),
    ]:
        answer = api.post(CLAIMS, json={"name": "x", "expires_at": LONG, **fields})
        assert is_problem(answer, 422) and answer.json()["field"] == field, answer.text


def test_claims_of_others_are_neither_seen_nor_changed(server, api, new_api, tmp_path):
    number, _ = claim(api, tmp_path, serials=["theirs"])
    rival = new_api(server, api.key_with(["devices:read", "devices:write"], org=f"rival-{time.time_ns()}"))
    assert rival.get(CLAIMS).json()["items"] == []
    for asked in (
        rival.get(f"{CLAIMS}/{number}"),
        rival.get(f"{CLAIMS}/{number}/serials"),
        rival.delete(f"{CLAIMS}/{number}"),
        rival.post(f"{CLAIMS}/{number}/serials", json={"serials": ["x"]}),
        rival.post(f"{CLAIMS}/{number}/release", json={"sn": "theirs"}),
    ):
        assert is_problem(asked, 404)


def covey(server, *words: str, **more) -> subprocess.CompletedProcess:
    """Runs a command of the binary against a server."""
    target = ["--url", server.http, "--key", server.key]
    return subprocess.run([str(BINARY), *words, *target], capture_output=True, timeout=120, text=True, **more)


def test_the_command_line_makes_claims_and_lists_lets_in_releases_and_revokes(server, tmp_path):
    sns = [f"{new_sn()}-{number}" for number in range(3)]
    (tmp_path / "serials.txt").write_text("\n".join(sns[:2]) + "\n\n")
    (tmp_path / "more.txt").write_text(sns[2])
    made = covey(server, "claim", "add", "line", "--serials", str(tmp_path / "serials.txt"), "--limit", "3", "--expires",
                 "90d", "--out", str(tmp_path / "claim"), "--json")  # fmt: skip
    assert made.returncode == 0, made.stderr
    number = str(json.loads(made.stdout)["claim"]["id"])
    assert (tmp_path / "claim" / "key.pem").stat().st_mode & 0o077 == 0
    shown = Identity("claim", 0, tmp_path / "claim" / "cert.pem", tmp_path / "claim" / "key.pem")
    assert covey(server, "claim", "allow", number, "--serials", str(tmp_path / "more.txt")).returncode == 0
    for sn in sns:
        assert tried(server, tmp_path, sn, shown).status == 200
    listed = covey(server, "claim", "serials", number)
    assert all(sn in listed.stdout for sn in sns), listed.stdout + listed.stderr
    assert covey(server, "claim", "release", number, sns[0]).returncode == 0
    assert tried(server, tmp_path, sns[0], shown).status == 200
    assert covey(server, "claim", "rm", number).returncode == 0
    assert "line" in covey(server, "claim", "list", "--size", "1000").stdout
    wrong = covey(server, "claim", "release", "999999", "x")
    assert wrong.returncode != 0 and "claim list" in wrong.stderr


def read_p12(path, password: str):
    """What python and openssl make of a PKCS #12 file."""
    key, certificate, others = pkcs12.load_key_and_certificates(path.read_bytes(), password.encode())
    shown = openssl("pkcs12", "-in", str(path), "-info", "-nodes", "-passin", f"pass:{password}")
    assert shown.returncode == 0, shown.stderr
    assert b"PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256" in shown.stderr
    assert b"MAC: sha256, Iteration 10000" in shown.stderr
    assert openssl("pkcs12", "-in", str(path), "-noout", "-passin", "pass:wrong").returncode != 0
    return key, certificate, others


def same(key, certificate) -> bool:
    return key.public_key() == certificate.public_key()


def test_a_device_gets_its_certificate_and_key_in_pkcs12(server, api, connect, tmp_path):
    for given in (None, "covey 1!"):
        sn = new_sn()
        answer = api.post("/devices", json={"sn": sn, "bundle": "pkcs12"} | ({"bundle_password": given} if given else {}))
        assert answer.status_code == 201, answer.text
        body = answer.json()
        assert "private_key_pem" not in body and ("bundle_password" in body) == (given is None)
        path = tmp_path / f"{sn}.p12"
        path.write_bytes(base64.b64decode(body["pkcs12"]))
        password = given or body["bundle_password"]
        key, certificate, others = read_p12(path, password)
        assert same(key, certificate) and len(others) == 2
        names = {name.value for name in certificate.subject}
        assert names == {sn}
        pem = openssl("pkcs12", "-in", str(path), "-nodes", "-passin", f"pass:{password}").stdout
        (tmp_path / f"{sn}.pem").write_bytes(pem)
        assert connects(connect, server, Identity(sn, 0, tmp_path / f"{sn}.pem", tmp_path / f"{sn}.pem"))
        assert password not in server.log_text()


def test_a_device_gets_its_certificate_and_key_in_der(server, api, tmp_path):
    body = api.post("/devices", json={"sn": new_sn(), "bundle": "der"}).json()
    der = {name: base64.b64decode(text) for name, text in body["der"].items()}
    certificate, issuer, root = (x509.load_der_x509_certificate(der[name]) for name in ("certificate", "issuer", "ca"))
    certificate.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(root)
    assert same(serialization.load_der_private_key(der["private_key"], None), certificate)
    assert "private_key_pem" not in body
    _, csr = request(tmp_path, new_sn(), *KEYS["P-256"])
    sn = csr.name.rsplit("-", 1)[0]
    own = api.post("/devices", json={"sn": sn, "csr": csr.read_text(), "bundle": "der"}).json()
    assert set(own["der"]) == {"certificate", "issuer", "ca"}


def test_a_bundle_that_cannot_be_registers_nobody(api, tmp_path):
    sn = new_sn()
    csr = request(tmp_path, sn, *KEYS["P-256"])[1].read_text()
    for fields, field in [
        ({"bundle": "p12"}, "bundle"),
        ({"bundle": "pkcs12", "csr": csr}, "bundle"),
        ({"bundle": "pkcs12", "certificate": "none"}, "bundle"),
        ({"bundle": "pkcs12", "bundle_password": ""}, "bundle_password"),
        ({"bundle": "pkcs12", "bundle_password": "ü"}, "bundle_password"),
        ({"bundle": "pkcs12", "bundle_password": "x" * 129}, "bundle_password"),
        ({"bundle": "der", "bundle_password": "x"}, "bundle_password"),
        ({"bundle_password": "x"}, "bundle_password"),
    ]:
        answer = api.post("/devices", json={"sn": sn, **fields})
        assert is_problem(answer, 422) and answer.json()["field"] == field, answer.text
    assert api.get("/devices", params={"sn": sn}).json() == []


def test_the_command_line_writes_bundles(server, tmp_path):
    (tmp_path / "password").write_text("covey 1!\n")
    first, second = tmp_path / "first", tmp_path / "second"
    made = covey(server, "device", "add", new_sn(), "--bundle", "pkcs12", "--out", str(first), "--json")
    assert made.returncode == 0, made.stderr
    key, certificate, _ = read_p12(first / "device.p12", json.loads(made.stdout)["password"])
    assert same(key, certificate) and (first / "device.p12").stat().st_mode & 0o077 == 0
    made = covey(server, "device", "add", new_sn(), "--bundle", "pkcs12", "--password-file", str(tmp_path / "password"),
                 "--out", str(second))  # fmt: skip
    assert made.returncode == 0 and "covey 1!" not in made.stdout + made.stderr
    assert same(*read_p12(second / "device.p12", "covey 1!")[:2])
    third = tmp_path / "third"
    assert covey(server, "device", "add", new_sn(), "--bundle", "der", "--out", str(third)).returncode == 0
    certificate = x509.load_der_x509_certificate((third / "cert.der").read_bytes())
    certificate.verify_directly_issued_by(x509.load_der_x509_certificate((third / "issuer.der").read_bytes()))
    assert same(serialization.load_der_private_key((third / "key.der").read_bytes(), None), certificate)


def test_a_batch_is_one_archive_and_goes_on_where_it_was_interrupted(server, api, connect, tmp_path):
    prefix, out = f"B{time.time_ns()}-", tmp_path / "lamps.tar"
    words = ["device", "add", "--count", "400", "--prefix", prefix, "--tag", "room=hall", "--out", str(out)]
    cut = subprocess.Popen([str(BINARY), *words, "--url", server.http, "--key", server.key], stderr=subprocess.DEVNULL)
    partial = tmp_path / "lamps.tar.partial"
    deadline = time.monotonic() + 30
    while not partial.exists() or partial.stat().st_size < 100_000:
        assert time.monotonic() < deadline and cut.poll() is None
        time.sleep(0.005)
    cut.kill()
    cut.wait()
    assert not out.exists()
    again = covey(server, *words)
    assert again.returncode != 0 and "--resume" in again.stderr
    resumed = covey(server, *words, "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    told = json.loads(resumed.stdout)
    assert told["devices"] == 400 and 0 < told["new"] < 400
    with tarfile.open(out) as archive:
        rows = list(csv.DictReader(archive.extractfile("index.csv").read().decode().splitlines()))
        assert [row["sn"] for row in rows] == [f"{prefix}{number:03}" for number in range(1, 401)]
        listed = {one["device_id"]: one for one in api.get("/devices", params={"tag": f"batch:{told['batch']}"}).json()}
        assert {int(row["device_id"]) for row in rows} == set(listed), "those of before are retired"
        for row in (rows[0], rows[-1]):
            archive.extractall(tmp_path, [archive.getmember(f"{row['sn']}/{name}.pem") for name in ("ca", "cert", "key")],
                               filter="data")  # fmt: skip
            folder = tmp_path / row["sn"]
            certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
            assert certificate.fingerprint(hashes.SHA256()).hex() == row["certificate_sha256"]
            assert connects(connect, server, Identity(row["sn"], 0, folder / "cert.pem", folder / "key.pem"))
    assert covey(server, *words).returncode != 0, "it is there already"
    other = covey(server, *words[:-1], str(tmp_path / "other.tar"))
    assert other.returncode != 0 and "registered already" in other.stderr


@pytest.mark.embedded
def test_the_sdk_renews_well_before_the_end_and_goes_on_with_what_it_got(new_server, new_api, tmp_path):
    server = new_server("--device-certificate-seconds", "12")
    api, folder = new_api(server), tmp_path / "lamp"
    assert covey(server, "device", "add", "lamp", "--out", str(folder)).returncode == 0
    first = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    broker = "mqtts://%s:%s" % server.mqtts
    words = ["sim", "--identity", str(folder), "--broker", broker, "--renew-from", server.https]
    running = subprocess.Popen([str(BINARY), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        serials = {first.serial_number}
        deadline = time.monotonic() + 60
        while len(serials) < 3:
            assert time.monotonic() < deadline and running.poll() is None, serials
            if (folder / "renewed.pem").exists():
                newest = x509.load_pem_x509_certificate((folder / "renewed.pem").read_bytes())
                if newest.serial_number not in serials:
                    serials.add(newest.serial_number)
                    assert newest.not_valid_after_utc >= first.not_valid_after_utc
            time.sleep(0.1)
        assert newest.not_valid_after_utc > first.not_valid_after_utc
        assert (folder / "renewed.pem").stat().st_mode & 0o077 == 0
        time.sleep(max(0, first.not_valid_after_utc.timestamp() - time.time()) + 1)
        # Whoever comes back now shows another certificate than the first, which is over.
        running.terminate()
        running.wait()
        running = subprocess.Popen([str(BINARY), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        task = api.request_task(api_device(api), wait=30, method_code=51, payload={"dt": [{"cl": 5}]})
        assert task.json()["status"] == DONE, task.text
    finally:
        running.terminate()
        running.wait()


def api_device(api) -> Identity:
    found = api.get("/devices", params={"sn": "lamp"}).json()[0]
    return Identity("lamp", found["device_id"], None, None)
