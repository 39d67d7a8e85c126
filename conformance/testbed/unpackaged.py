"""Libraries that PyPI has and pip finds, but cannot install, because they are written for MicroPython and have nothing to
build. pip says where such an archive is; it is fetched from there, compared with the digest that is known, and unpacked.

    python conformance/testbed/unpackaged.py FOLDER
"""

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path

# Name, version, SHA-256 of the archive, and the part of it that is the library.
LIBRARIES = [
    ("micropython-umqtt.simple", "1.3.4", "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f", "umqtt/"),
]


def address(name: str, version: str) -> str:
    """Where pip would fetch it."""
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--quiet", f"{name}=={version}"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    found = re.search(rf"\S+/{re.escape(name)}-{re.escape(version)}\.tar\.gz", said)
    if not found:
        sys.exit(f"pip does not find {name} {version}: {said.strip()}")
    return found[0]


def main(folder: Path) -> None:
    for name, version, digest, part in LIBRARIES:
        with urllib.request.urlopen(address(name, version), timeout=60) as answer:  # noqa: S310: pip has named it
            archive = answer.read()
        if hashlib.sha256(archive).hexdigest() != digest:
            sys.exit(f"{name} {version} is not the archive that is known")
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            for member in files.getmembers():
                _, _, path = member.name.partition("/")
                if member.isfile() and path.startswith(part) and ".." not in path:
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(files.extractfile(member).read())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
