"""The real `covey` binary as a process of its own: started, read, stopped and killed by its id."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from testbed.deployment import Deployment

PROJECT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("COVEY_BIN", PROJECT / "target" / "debug" / "covey"))
READY_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 30.0
ANY_PORT = "127.0.0.1:0"
# Below the range from which the system gives ports to clients, so that no
# client takes one while its server is down.
KEPT_PORTS = range(20_000, 30_000)


class NotStarted(Exception):
    """The server ended, or said nothing, before it was ready."""


class Server:
    """A server on a data directory; `start` may be called again after `kill` and `stop`."""

    def __init__(
        self,
        data: Path,
        *options: str,
        log: str = "info",
        ports: list[int] | None = None,
        deployment: Deployment | None = None,
        number: int = 0,
        key: str | None = None,
        wrapper: tuple[str, ...] = (),
    ):
        self.data = Path(data)
        # Servers of one deployment share it; one that stands alone drops its own.
        self.is_owner = deployment is None
        self.deployment = deployment or Deployment()
        self.number = number
        self.given_key = key
        # A program that runs the server, such as one that tells it another time.
        self.wrapper = wrapper
        self.options = options
        self.log_filter = log
        self.log_path = self.data.parent / f"{self.data.name}.log"
        self.output_path = self.data.parent / f"{self.data.name}.out"
        self.process: subprocess.Popen | None = None
        http, https, mqtts = [f"127.0.0.1:{port}" for port in ports] if ports else [ANY_PORT] * 3
        self.listen = ["--http", http, "--https", https, "--mqtts", mqtts]

    def command(self) -> list[str]:
        """The command line."""
        data = ["--data", str(self.data), "--log", self.log_filter]
        return [*self.wrapper, str(BINARY), "up", *data, *self.listen, *self.options]

    def environment(self) -> dict[str, str]:
        """Its environment: that of the deployment, and nothing that is meant for another server."""
        quiet = {name: value for name, value in os.environ.items() if not name.startswith("COVEY_")}
        return quiet | self.deployment.environment(self.number)

    def start(self) -> "Server":
        """Starts the process and waits until it can be reached."""
        if not BINARY.exists():
            raise NotStarted(f"{BINARY} is missing; build it with: cargo build -p covey")
        self.addresses_path.unlink(missing_ok=True)
        with open(self.log_path, "ab") as log, open(self.output_path, "wb") as output:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=self.environment(),
            )
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self.addresses_path.exists():
            if self.process.poll() is not None:
                raise NotStarted(f"exit code {self.process.returncode}: {self.log_text()[-2000:]}")
            if time.monotonic() > deadline:
                self.kill()
                raise NotStarted(f"not ready after {READY_SECONDS_MAX} s: {self.log_text()[-2000:]}")
            time.sleep(0.01)
        self.addresses = json.loads(self.addresses_path.read_text())
        return self

    @property
    def addresses_path(self) -> Path:
        return self.data / "addresses.json"

    @property
    def ca(self) -> Path:
        """The certificate of the root, which clients trust."""
        return self.data / "pki" / "ca.pem"

    @property
    def key(self) -> str:
        """The first API key; only the first server of a deployment has it in its folder."""
        return self.given_key or (self.data / "admin.key").read_text().strip()

    @property
    def http(self) -> str:
        return self.addresses["http"]

    @property
    def https(self) -> str:
        return self.addresses["https"]

    @property
    def mqtts(self) -> tuple[str, int]:
        """Host and port for devices."""
        host, port = self.addresses["mqtts"].removeprefix("mqtts://").rsplit(":", 1)
        return host, int(port)

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Ends the process at once, as a power cut would."""
        if self.is_running():
            os.kill(self.process.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(timeout=STOP_SECONDS_MAX)

    def terminate(self) -> None:
        """Asks the process to end, without waiting for it."""
        os.kill(self.process.pid, signal.SIGTERM)

    def stop(self) -> int:
        """Asks the process to end and answers its exit code."""
        if self.is_running():
            self.terminate()
        try:
            return self.process.wait(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def drop(self) -> None:
        """Ends the process and removes what its deployment keeps elsewhere."""
        self.kill()
        if self.is_owner:
            self.deployment.drop()

    def restart(self) -> None:
        """Stops and starts on the same data."""
        assert self.stop() == 0, self.log_text()[-2000:]
        self.start()

    def log_text(self) -> str:
        """What the process wrote to its standard error so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def output_text(self) -> str:
        """What the process wrote to its standard output since it was started last, when it says that it is ready."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        # The addresses are written first, this a moment later; the API key is its last word but one.
        while "  API key  " not in (text := self.output_path.read_text()):
            assert time.monotonic() < deadline, f"the server does not say that it is ready: {text}"
            time.sleep(0.01)
        return text

    def panics(self) -> list[str]:
        """The lines of the log that tell of a panic."""
        return [line for line in self.log_text().splitlines() if "panicked" in line]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all series that carry these labels."""
        page = httpx.get(f"{self.http}/metrics").text
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        total, is_known = 0.0, False
        for line in page.splitlines():
            series, _, value = line.rpartition(" ")
            if series.split("{")[0] == name and all(text in series for text in wanted):
                total, is_known = total + float(value), True
        assert is_known, f"no metric {name} {labels}"
        return total

    def refusals(self, reason: str) -> float:
        """How many messages, connections or requests were refused for this reason."""
        return self.metric("covey_refusals_total", reason=reason)


@contextlib.contextmanager
def serving(data: Path, *options: str):
    """A server that must stop when it is told to, and must not have panicked."""
    running = Server(data, *options)
    try:
        yield running.start()
        assert running.stop() == 0
    finally:
        running.drop()
    assert not running.panics()


def kept_ports(count: int = 3) -> list[int]:
    """Ports that are free now and stay so while a server is down."""
    ports: list[int] = []
    for port in random.sample(KEPT_PORTS, 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise AssertionError("no free ports")
