"""A CA of others: its devices keep their certificates while they move, and it speaks for no device that was not registered
under it."""

import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from testbed.api import is_problem
from testbed.certificate import Signer
from testbed.device import NOT_AUTHORIZED, Refused
from testbed.server import BINARY

pytestmark = pytest.mark.embedded


def ca(*arguments, expected: int = 0) -> str:
    done = subprocess.run([str(BINARY), "ca", *map(str, arguments)], capture_output=True, timeout=60)
    assert (done.returncode == 0) is (expected == 0), done.stderr.decode()
    return done.stdout.decode() + done.stderr.decode()


def serial_of(identity) -> int:
    return x509.load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number


def imported(server, folder, name: str, signer: Signer) -> None:
    path = folder / f"{name}.pem"
    path.write_text(signer.chain)
    ca("import", path, "--name", name, "--pki", server.data / "pki")


def registered(api, identity, ca_name: str, **more):
    body = {"ca": ca_name, "certificate_pem": identity.certificate.read_text(), **more}
    return api.post("/devices", json=body)


@pytest.fixture
def moved(new_server, new_api, tmp_path):
    """A server that trusts two CAs of others, one of them named as its own issuing CA, and a caller."""
    server = new_server()
    own = Signer.of(server.data / "pki" / "issuing.pem", server.data / "pki" / "issuing.key")
    signers = {"old": Signer.forged(), "lookalike": Signer.forged(like=own)}
    server.stop()
    for name, signer in signers.items():
        imported(server, tmp_path, name, signer)
    server.start()
    return server, new_api(server), signers


def refused(connect, server, identity) -> bool:
    with pytest.raises(Refused) as why:
        connect(server, identity)
    return why.value.code == NOT_AUTHORIZED


def test_devices_of_another_ca_keep_their_certificates_and_are_revoked_as_others(moved, connect, tmp_path):
    server, api, signers = moved
    identity = signers["old"].issue(tmp_path, "moved-1")
    assert refused(connect, server, identity), "nobody has registered it"
    answer = registered(api, identity, "old", tags={"site": "north"})
    assert answer.status_code == 201, answer.text
    assert "certificate_pem" not in answer.json() and answer.json()["device"]["sn"] == "moved-1"
    device = connect(server, identity)
    registration = answer.json()["device"]
    body = {"ext_task_id": "moved", "device_id": registration["device_id"], "ttl": 5}
    task_id = api.post("/device-tasks", json=body).json()["id"]
    assert device.expect("tsk").task_id == task_id

    [listed] = api.get("/certificates", params={"sn": "moved-1"}).json()
    prefix, _, sha256 = listed["serial"].partition("~")
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    assert len(prefix) == 32 and sha256 == certificate.fingerprint(hashes.SHA256()).hex()
    began = time.monotonic()
    assert api.post(f"/certificates/{listed['serial']}/revoke", json={}).json()["state"] == "revoked"
    device.expect_disconnect(5)
    assert device.ended_at - began < 1.0
    assert refused(connect, server, identity)
    assert api.delete(f"/devices/{registration['device_id']}").status_code == 200
    assert is_problem(registered(api, identity, "old"), 409), "it does not come back with its device"
    # Another one that the CA has given the same number is another one.
    twin = signers["old"].issue(tmp_path, "moved-1", serial=serial_of(identity))
    assert registered(api, twin, "old").status_code == 201
    connect(server, twin).close()
    assert refused(connect, server, identity)
    crl = x509.load_der_x509_crl(api.get(f"{server.http}/pki/crl").content)
    assert crl.get_revoked_certificate_by_serial_number(serial_of(identity)) is None, "it is not of our CA"


@pytest.mark.parametrize("name", ["old", "lookalike"])
def test_another_ca_speaks_for_no_device_that_was_not_registered_under_it(moved, connect, tmp_path, name):
    server, api, signers = moved
    own = api.register(tmp_path, sn="own-1")
    other = "lookalike" if name == "old" else "old"
    theirs = signers[other].issue(tmp_path, "theirs-1")
    assert registered(api, theirs, other).status_code == 201
    mine = signers[name].issue(tmp_path, "mine-1")
    assert registered(api, mine, name).status_code == 201
    for victim in (own, theirs):
        # Also with the very number that the device's own certificate has.
        for serial in (None, serial_of(victim)):
            assert refused(connect, server, signers[name].issue(tmp_path, victim.sn, serial=serial)), victim.sn
    assert refused(connect, server, signers[name].issue(tmp_path, "mine-1")), "another certificate of its own device"
    for good in (own, theirs, mine):
        connect(server, good).close()
    with pytest.raises((Refused, OSError)):
        connect(server, Signer.forged().issue(tmp_path, "own-1", serial=serial_of(own)))


def test_what_does_not_lead_to_that_ca_registers_nobody(moved, tmp_path):
    server, api, signers = moved
    good = signers["old"].issue(tmp_path, "fresh-1")
    assert is_problem(registered(api, good, "unknown"), 422)
    assert is_problem(registered(api, good, "lookalike"), 422)
    assert is_problem(registered(api, good, "old", sn="another"), 422)
    assert is_problem(registered(api, good, "old", certificate="none"), 422)
    assert is_problem(api.post("/devices", json={"sn": "fresh-1", "ca": "old"}), 422)
    for wrong in ("hello", "", good.key.read_text()):
        assert is_problem(api.post("/devices", json={"ca": "old", "certificate_pem": wrong}), 422)
    assert is_problem(registered(api, signers["old"].issue(tmp_path, "srv"), "old"), 422)
    assert api.get("/devices").json() == []


def test_a_ca_that_was_removed_lets_nobody_in(moved, connect, tmp_path):
    server, api, signers = moved
    identity = signers["old"].issue(tmp_path, "moved-2")
    assert registered(api, identity, "old").status_code == 201
    connect(server, identity).close()
    pki = server.data / "pki"
    assert "imported" in ca("list", "--pki", pki)
    server.stop()
    ca("remove", "old", "--pki", pki)
    ca("remove", "old", "--pki", pki, expected=1)
    ca("import", pki / "ca.pem", "--name", "own", "--pki", pki, expected=1)
    ca("import", identity.certificate, "--name", "leaf", "--pki", pki, expected=1)
    ca("import", tmp_path / "old.pem", "--name", "../up", "--pki", pki, expected=1)
    server.start()
    with pytest.raises((Refused, OSError)):
        connect(server, identity)
    # Another CA under the same name is another CA.
    server.stop()
    imported(server, tmp_path, "old", other := Signer.forged())
    server.start()
    assert refused(connect, server, other.issue(tmp_path, "moved-2", serial=serial_of(identity)))
