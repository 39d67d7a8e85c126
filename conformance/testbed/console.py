"""What pages show of a terminal: fenced blocks with the info string `console`. A line that begins with `$ ` is a command, and
those below it are what it says, in this order; `…` stands for whatever there is, and each line may have more at its end.

The blocks of a page are run in one folder, one after the other, with these differences from what is written there:

- `covey` is the binary that is tested, and `127.0.0.1:PORT` another port that is free: pages are run beside each other.
- A command that ends with `&` goes on until the page is done. What follows waits until it has said what is shown below
  it, or, of a server that shows nothing, until it can be reached.
- A command that only reads is repeated until it says what is shown: what it asks for may be on its way.
"""

import os
import re
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from testbed.server import BINARY, kept_ports

SECONDS_MAX = 120.0
READING = re.compile(r"^covey (node|device|unit|task|key|twin|events) (list|get|show)\b")
ADDRESS = re.compile(r"127\.0\.0\.1:(\d+)")


@dataclass
class Step:
    """A command, and what it is to say."""

    command: str
    line: int
    expected: list[str] = field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        return self.command.endswith("&")


def steps_of(page: Path) -> list[Step]:
    """The commands of a page, in their order."""
    steps, is_inside = [], False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            is_inside = not is_inside and line == "```console"
        elif is_inside and line.startswith("$ "):
            steps.append(Step(line[2:], number))
        elif is_inside and line.strip():
            assert steps, f"{page.name}:{number}: what is said stands before a command"
            steps[-1].expected.append(line)
    return steps


def missing(expected: list[str], said: str) -> str | None:
    """The first expected line that was not said after those before it. How many blanks there are does not matter."""
    rest = [" ".join(line.split()) for line in said.splitlines()]
    for line in expected:
        parts = [re.escape(part.strip()) for part in " ".join(line.split()).split("…")]
        pattern = re.compile(r"\s*.*?\s*".join(parts))
        found = next((at for at, candidate in enumerate(rest) if pattern.search(candidate)), None)
        if found is None:
            return line
        rest = rest[found + 1 :]
    return None


class Terminal:
    """Where a page's commands are run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.ports: dict[str, str] = {}
        self.running: list[subprocess.Popen] = []
        (folder / "bin").mkdir()
        (folder / "bin" / "covey").symlink_to(BINARY)
        quiet = {name: value for name, value in os.environ.items() if not name.startswith("COVEY_")}
        listen = dict(zip(("COVEY_HTTP", "COVEY_HTTPS", "COVEY_MQTTS"), (f"127.0.0.1:{port}" for port in kept_ports(3))))
        self.environment = quiet | listen | {"PATH": f"{folder / 'bin'}:{quiet['PATH']}", "HOME": str(folder)}

    def _free(self, text: str) -> str:
        """A text with other ports than are written there."""

        def port(match: re.Match) -> str:
            if match[1] not in self.ports:
                self.ports[match[1]] = str(kept_ports(1)[0])
            return f"127.0.0.1:{self.ports[match[1]]}"

        return ADDRESS.sub(port, text)

    def run(self, step: Step) -> None:
        command = self._free(step.command)
        expected = [self._free(line) for line in step.expected]
        if step.goes_on:
            self._begin(step, command.removesuffix("&").strip(), expected)
            return
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS_MAX,
            )
            lacks = missing(expected, done.stdout)
            if done.returncode == 0 and lacks is None:
                return
            if not READING.match(step.command) or time.monotonic() > deadline:
                raise AssertionError(
                    f"line {step.line}: {command}: exit code {done.returncode}, not said: {lacks!r}\n{done.stdout}"
                )
            time.sleep(0.2)

    def _begin(self, step: Step, command: str, expected: list[str]) -> None:
        output = self.folder / f"line-{step.line}.out"
        with open(output, "wb") as said:
            process = subprocess.Popen(
                # A list, and no shell: what is ended is the command itself.
                shlex.split(command),
                executable=str(BINARY) if command.startswith("covey ") else None,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self.running.append(process)
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            text = output.read_text(errors="replace")
            is_server = command.startswith("covey up")
            is_there = not is_server or (self.folder / "covey-data" / "addresses.json").exists()
            lacks = missing(expected, text)
            if is_there and lacks is None:
                return
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(
                    f"line {step.line}: {command}: exit code {process.poll()}, not said: {lacks!r}\n{text[-4000:]}"
                )
            time.sleep(0.05)

    def close(self) -> None:
        """Ends what goes on, the last one first; each must end well."""
        codes = []
        for process in reversed(self.running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            codes.append((process.args, process.wait(timeout=SECONDS_MAX)))
        assert all(code == 0 for _, code in codes), codes
