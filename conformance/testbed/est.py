"""EST with curl, as a device that knows nothing of Covey would speak it; what comes is read by openssl."""

import base64
import dataclasses
import subprocess
from pathlib import Path

from testbed.certificate import openssl

KEYS = {
    "RSA-2048": ["rsa:2048"],
    "P-256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "P-384": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
}


@dataclasses.dataclass(frozen=True)
class EstAnswer:
    """What curl got."""

    status: int
    headers: dict[str, str]
    body: bytes

    def certificates(self, folder: Path) -> str:
        """The certificates of a certs-only answer, in PEM, as openssl has them."""
        assert self.status == 200, self.body
        assert self.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
        read = openssl("base64", "-d", stdin=self.body)
        assert read.returncode == 0 and read.stdout, read.stderr
        printed = openssl("pkcs7", "-inform", "DER", "-print_certs", stdin=read.stdout)
        assert printed.returncode == 0, printed.stderr
        return printed.stdout.decode()


def curl(server, path: str, *arguments: str, base: str = "/.well-known/est", root: str | None = None) -> EstAnswer:
    """Asks with curl. A handshake that fails has the status 0."""
    url = f"{root or server.https}{base}/{path}"
    asked = subprocess.run(
        ["curl", "-sS", "-i", "--http1.1", "--cacert", str(server.ca), *arguments, url], capture_output=True, timeout=60
    )
    if asked.returncode != 0:
        return EstAnswer(0, {}, asked.stderr)
    head, _, body = asked.stdout.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, body = body.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    return EstAnswer(int(first.split()[1]), headers, body)


def body_of(csr: Path, folder: Path, line_ends: bytes = b"\n") -> Path:
    """A request as EST wants it: base64 of its DER, without the lines of PEM."""
    lines = [line for line in csr.read_bytes().splitlines() if not line.startswith(b"-----")]
    path = folder / f"{csr.name}.b64"
    path.write_bytes(line_ends.join(lines))
    return path


def ask(server, path: str, body: Path, *arguments: str, **more) -> EstAnswer:
    """Sends a request."""
    data = ["--data-binary", f"@{body}", "-H", "Content-Type: application/pkcs10"]
    return curl(server, path, *data, *arguments, **more)


def with_certificate(identity) -> list[str]:
    """What makes curl show a certificate."""
    return ["--cert", str(identity.certificate), "--key", str(identity.key)]


def der_of(body: bytes) -> bytes:
    return base64.b64decode(body)
