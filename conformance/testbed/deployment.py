"""The shape in which servers are tested (COVEY_SHAPE, such as postgres+rabbitmq), and deployments of it: a database,
a vhost or a broker of their own, made by the program `covey-testbed`."""

import json
import os
import subprocess
import uuid
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
EMBEDDED = "sqlite+embedded"
SHAPE = os.environ.get("COVEY_SHAPE", EMBEDDED)
TESTBED = Path(os.environ.get("COVEY_TESTBED", PROJECT / "target" / "debug" / "covey-testbed"))
SERVICES_SECONDS_MAX = 300.0
# The names of the servers' certificates.
MOSQUITTO_SERVERS = ("covey.server", "covey.b", "covey.c")
# The process of this run of tests: a worker of pytest-xdist belongs to the one that started it.
RUN = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


def services(*arguments: str, folder: Path | None = None) -> str:
    """What `covey-testbed` prints: of the set of services that all tests share, or of the one in a folder. Both end
    with the run of tests, however it ends."""
    assert TESTBED.exists(), f"{TESTBED} is missing; build it with: cargo build -p covey-testbed"
    which = ["--dir", str(folder)] if folder else ["--shared"]
    done = subprocess.run(
        [str(TESTBED), *which, "--while", str(RUN), *arguments],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SERVICES_SECONDS_MAX,
    )
    assert done.returncode == 0, f"services {' '.join(arguments)}: {done.stderr[-2000:]}"
    return done.stdout


class Deployment:
    """What the servers of one deployment share; empty for the embedded shape."""

    def __init__(self, shape: str = SHAPE):
        self.shape = shape
        self.store, _, self.link = shape.partition("+")
        self.name = f"t{uuid.uuid4().hex[:10]}"
        self.facts: dict = {}
        if shape != EMBEDDED:
            self.facts = json.loads(services("env", "--shape", shape, "--for", self.name, "--json"))

    @property
    def is_distributed(self) -> bool:
        """Whether anything of it is outside the server's own process."""
        return self.shape != EMBEDDED

    def environment(self, number: int = 0) -> dict[str, str]:
        """The environment of one of its servers. To Mosquitto each is a client with a certificate of its own."""
        environment = dict(self.facts.get("environment", {}))
        if number and "COVEY_LINK_CERTIFICATE" in environment:
            files = self.facts["tls"]["clients"][MOSQUITTO_SERVERS[number]]
            environment["COVEY_LINK_CERTIFICATE"] = files["certificate"]
            environment["COVEY_LINK_KEY"] = files["key"]
        return environment

    def drop(self) -> None:
        """Removes its data everywhere."""
        if self.is_distributed:
            services("drop", self.name)
