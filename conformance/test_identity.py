"""A device is its certificate, and nobody else's (device-rpc "Identity")."""

import dataclasses
import datetime
import socket
import ssl
import time
import uuid

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from testbed import packet
from testbed.api import DONE, READY
from testbed.broker import LINK, PUT_OUT_SECONDS_MAX
from testbed.certificate import DAY, Signer
from testbed.device import NOT_AUTHORIZED, Refused
from testbed.packet import Stream


def says_hello(server, context: ssl.SSLContext) -> bytes:
    """What the server answers to a CONNECT over this TLS; raises where TLS fails."""
    with socket.create_connection(server.mqtts, timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as stream:
            stream.sendall(packet.connect("x"))
            return stream.recv(64)


def is_refused_by_tls(server, context: ssl.SSLContext, *alerts: str) -> bool:
    """Whether the handshake fails, with one of these alerts; never is there a CONNACK."""
    try:
        answer = says_hello(server, context)
    except ssl.SSLError as error:
        text = str(error).lower().replace("_", " ")
        # OpenSSL as a server closes at once, and its alert may be lost on the way.
        assert not LINK.is_own or not alerts or any(alert in text for alert in alerts), text
        return True
    except (ConnectionResetError, BrokenPipeError):
        return True
    assert answer == b"", f"TLS went through, and the server answered {answer!r}"
    return True


@pytest.fixture
def issuing(server) -> Signer:
    """The server's own issuing CA."""
    return Signer.of(server.data / "pki" / "issuing.pem", server.data / "pki" / "issuing.key")


def test_a_client_id_that_is_not_the_cn_is_refused(server, connect, identity, victim_identity):
    refused = server.refusals("client_id_not_cn")
    wrong = [victim_identity.sn, identity.sn + "x", identity.sn.upper(), identity.sn[:-1], "+", "#", ".*"]
    for client_id in wrong:
        is_nobody_else(server, connect, identity, client_id)
    assert LINK.counts(server, "client_id_not_cn", refused + len(wrong))


def test_an_empty_client_id_is_refused(server, connect, identity):
    is_nobody_else(server, connect, identity, "")


def is_nobody_else(server, connect, identity, client_id: str) -> None:
    """Asks for a client id that is not the CN, which makes nobody else of a device."""
    if LINK.wrong_client_id is None:
        # The broker takes the CN instead; `connect` subscribes to topics that are its own.
        connect(server, identity, client_id=client_id).close()
        return
    with pytest.raises(Refused) as refusal:
        connect(server, identity, client_id=client_id)
    assert refusal.value.code == LINK.wrong_client_id, client_id


def test_without_a_certificate_there_is_no_connection(server):
    assert is_refused_by_tls(server, ssl.create_default_context(cafile=str(server.ca)))


def test_a_certificate_of_another_ca_is_refused(server, tmp_path, identity):
    forged = Signer.forged().issue(tmp_path, identity.sn)
    assert is_refused_by_tls(server, forged.tls(server.ca))


def test_a_certificate_of_a_ca_that_only_bears_the_right_name_is_refused(server, tmp_path, identity, issuing):
    forged = Signer.forged(like=issuing).issue(tmp_path, identity.sn)
    assert is_refused_by_tls(server, forged.tls(server.ca))


def test_a_certificate_signed_by_a_device_is_refused(server, tmp_path, identity, victim_identity):
    device = Signer.of(identity.certificate, identity.key)
    forged = device.issue(tmp_path, victim_identity.sn)
    assert is_refused_by_tls(server, forged.tls(server.ca))


@pytest.mark.embedded
def test_a_device_may_send_its_certificate_alone(api, server, connect, tmp_path, identity):
    alone = tmp_path / "alone.pem"
    end = "-----END CERTIFICATE-----\n"
    leaf, _, issuer = identity.certificate.read_text().partition(end)
    assert end in issuer, "a device is given its issuing CA's certificate too"
    alone.write_text(leaf + end)
    device = connect(server, dataclasses.replace(identity, certificate=alone))
    task_id = api.create(device)
    assert device.expect("tsk").task_id == task_id


def test_an_expired_certificate_is_refused(server, tmp_path, identity, issuing):
    expired = issuing.issue(tmp_path, identity.sn, begins=-2 * DAY, ends=-datetime.timedelta(seconds=5))
    assert is_refused_by_tls(server, expired.tls(server.ca), "expired")


def test_a_certificate_that_is_not_valid_yet_is_refused(server, tmp_path, identity, issuing):
    early = issuing.issue(tmp_path, identity.sn, begins=DAY, ends=2 * DAY)
    assert is_refused_by_tls(server, early.tls(server.ca))


def test_a_certificate_for_servers_makes_no_device(server, tmp_path, identity, issuing):
    wrong = issuing.issue(tmp_path, identity.sn, use=ExtendedKeyUsageOID.SERVER_AUTH)
    assert is_refused_by_tls(server, wrong.tls(server.ca))


def test_a_serial_number_that_was_never_registered_is_refused(server, connect, tmp_path, issuing):
    refused = server.refusals("not_admitted")
    nobody = issuing.issue(tmp_path, f"nobody-{uuid.uuid4().hex}")
    assert LINK.keeps_out(lambda *levels: connect(server, nobody, *levels))
    assert LINK.counts(server, "not_admitted", refused + 1)


def test_a_name_that_is_no_serial_number_is_refused(server, connect, tmp_path, issuing):
    for name in ("a.b", "a b"):
        if LINK.not_admitted is not None:
            with pytest.raises(Refused):
                connect(server, issuing.issue(tmp_path, name), client_id=name)
            continue
        device = connect(server, issuing.issue(tmp_path, name), "-", client_id=name)
        assert device.subscribe(f"srv/{name}/tsk") == NOT_AUTHORIZED
        assert device.publish(f"dev/{name}/req") == NOT_AUTHORIZED


def test_a_user_name_and_a_password_make_nobody_else(api, server, connect, identity, victim_identity):
    if LINK.refuses_user_names:
        with pytest.raises(Refused):
            connect(server, identity, username=victim_identity.sn)
        return
    device = connect(server, identity, username=victim_identity.sn)
    task_id = api.create(victim_identity)
    assert device.publish(f"dev/{victim_identity.sn}/req", correlation=task_id) == NOT_AUTHORIZED
    assert device.take()["method_code"] == "0"
    assert api.status(task_id) == READY


def test_a_retired_device_is_cut_off_within_a_second_and_refused(api, server, connect, identity):
    device = connect(server, identity)
    began = time.monotonic()
    assert api.delete(f"/devices/{identity.device_id}").status_code in (200, 204)
    assert device.expect_disconnect(5) == LINK.retired
    assert device.ended_at - began < LINK.retired_seconds_max
    assert LINK.keeps_out(lambda *levels: connect(server, identity, *levels))


def test_a_retired_device_cannot_finish_what_it_took(api, server, connect, identity):
    device = connect(server, identity)
    api.create(identity)
    device.take()
    api.delete(f"/devices/{identity.device_id}")
    device.expect_disconnect(5)
    assert LINK.keeps_out(lambda *levels: connect(server, identity, *levels))


def test_a_serial_number_that_is_registered_anew_takes_only_its_new_certificate(
    api, server, connect, identity, tmp_path
):
    old_task = api.create(identity)
    api.delete(f"/devices/{identity.device_id}")
    again = api.register(tmp_path, sn=identity.sn)
    if LINK.tells_certificates_apart:
        with pytest.raises(Refused) as refusal:
            connect(server, identity)
        assert refusal.value.code == NOT_AUTHORIZED
    else:
        # The broker knows names, not certificates: the old one is good for the new device until it expires.
        connect(server, identity).close()
    device = connect(server, again)
    assert device.take()["method_code"] == "0", "the old one's tasks are not the new one's"
    assert device.take(old_task)["method_code"] == "0"
    task_id = api.create(again)
    assert device.expect("tsk").task_id == task_id


def test_a_second_connection_takes_the_session_over(api, server, connect, identity):
    first = connect(server, identity)
    second = connect(server, identity)
    assert first.expect_disconnect() == LINK.taken_over
    task_id = api.create(identity)
    assert second.expect("tsk").task_id == task_id
    second.take(task_id)
    second.finish(task_id)
    assert api.status(task_id) == DONE
    assert [one.level for one in first.heard] == []


def test_a_device_counts_as_online_after_a_take_over(api, server, connect, identity):
    first = connect(server, identity)
    connect(server, identity)
    first.expect_disconnect()
    time.sleep(0.3)
    (row,) = api.get("/devices", params={"device_id": identity.device_id}).json()
    assert row["connection"]["last_checked_result"] is True, row


@pytest.mark.parametrize(
    "topic", ["dev/{victim}/res", "srv/{victim}/rsp", "srv/{own}/rsp", "dev/{own}", "will", "$SYS/x"]
)
def test_a_will_elsewhere_reaches_nobody(server, connect, identity, victim_identity, topic):
    victim = connect(server, victim_identity, "#")
    will = topic.format(victim=victim_identity.sn, own=identity.sn)
    if LINK.refuses_foreign_will:
        with pytest.raises(Refused) as refusal:
            connect(server, identity, will=will)
        assert refusal.value.code == NOT_AUTHORIZED
    else:
        connect(server, identity, will=will).drop()
    assert victim.is_quiet(seconds=0.5)


def test_a_will_of_its_own_is_allowed_and_harms_nobody(server, connect, identity, victim_identity):
    victim = connect(server, victim_identity, "#")
    device = connect(server, identity, will=f"dev/{identity.sn}/res")
    device.drop()
    assert victim.is_quiet(seconds=0.5)
    connect(server, identity)


def test_tls_1_2_and_1_3_are_spoken_and_1_1_is_not(server, identity, victim_identity, connect):
    for version, device in [(ssl.TLSVersion.TLSv1_2, identity), (ssl.TLSVersion.TLSv1_3, victim_identity)]:
        context = device.tls(server.ca)
        context.minimum_version = context.maximum_version = version
        connect(server, device, context=context).close()
    old = identity.tls(server.ca)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        says_hello(server, old)


def test_a_device_trusts_the_server_only_under_its_names(server, identity):
    context = identity.tls(server.ca)
    with socket.create_connection(server.mqtts, timeout=10) as plain, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(plain, server_hostname="another.example")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_tls_session_that_is_resumed_after_retirement_is_refused(api, server, identity, version):
    """What a TLS session ticket remembers is not who may connect."""
    context = identity.tls(server.ca)
    context.minimum_version = context.maximum_version = version
    hello = packet.connect(identity.sn)
    with Stream(server.mqtts, identity, server.ca, context=context) as stream:
        stream.send(hello)
        assert stream.answer()[3] == 0, "CONNACK with success"
        session = stream.tls.session
        LINK.settle()
    api.delete(f"/devices/{identity.device_id}")
    for _ in range(1 if LINK.is_own else 2):
        with Stream(server.mqtts, identity, server.ca, context=context, session=session) as stream:
            stream.send(hello)
            answer = stream.answer()
            if LINK.not_admitted is not None and answer[:1] == b"\x20" and answer[3] == LINK.not_admitted:
                return
            # Let in by a broker that does not know yet, or does not look here: put out then.
            assert not LINK.is_own, (stream.tls.session_reused, answer)
            assert stream.is_closed(PUT_OUT_SECONDS_MAX), answer
    assert LINK.not_admitted is None, "it was let in again after it was put out"
