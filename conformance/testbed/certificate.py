"""Certificates that the server did not issue, or issued from a request of openssl."""

import datetime
import subprocess
import uuid
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from testbed.device import Identity

DAY = datetime.timedelta(days=1)


class Signer:
    """A certificate with its key, that signs others, whether or not it may."""

    def __init__(self, certificate: x509.Certificate, key, chain: str):
        self.certificate, self.key, self.chain = certificate, key, chain

    @classmethod
    def of(cls, certificate: Path, key: Path) -> "Signer":
        """What lies in two files; the chain is the whole of the first."""
        chain = certificate.read_text()
        loaded = x509.load_pem_x509_certificate(chain.encode())
        return cls(loaded, serialization.load_pem_private_key(key.read_bytes(), None), chain)

    @classmethod
    def forged(cls, like: "Signer | None" = None) -> "Signer":
        """A CA of its own making; with `like`, under the name of another."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = like.certificate.subject if like else _name("A CA of nobody")
        certificate = _build(name, name, key.public_key(), is_ca=True).sign(key, hashes.SHA256())
        return cls(certificate, key, _pem(certificate))

    def issue(
        self, folder: Path, sn: str, *, begins=-DAY, ends=DAY, use=ExtendedKeyUsageOID.CLIENT_AUTH, serial=None
    ) -> Identity:
        """A certificate for `sn`, valid from `begins` to `ends` as seen from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _build(_name(sn), self.certificate.subject, key.public_key(), False, begins, ends, serial)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(sn)]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        name = f"{sn}-{uuid.uuid4().hex[:6]}"
        files = folder / f"{name}.pem", folder / f"{name}.key"
        files[0].write_text(_pem(certificate) + self.chain)
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Identity(sn, 0, *files)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _build(subject, issuer, public_key, is_ca, begins=-DAY, ends=DAY, serial=None) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )


def openssl(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess:
    """Runs openssl and answers what it said, whatever its exit code."""
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, timeout=30)


def request(folder: Path, common_name: str, *key: str) -> tuple[Path, Path]:
    """A key of the wanted kind and a signing request for it, made by openssl."""
    name = f"{common_name}-{uuid.uuid4().hex[:6]}"
    key_path, csr_path = folder / f"{name}.key", folder / f"{name}.csr"
    made = openssl(
        "req", "-new", "-nodes", "-newkey", *key,
        "-keyout", str(key_path), "-out", str(csr_path), "-subj", f"/CN={common_name}",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr.decode()
    return key_path, csr_path
