"""A set of services of the fault tests' own, whose processes may be killed without disturbing anybody else."""

import json
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from testbed.deployment import Deployment, services


class FaultServices:
    """The services in a folder. They start when a deployment needs them."""

    def __init__(self, folder: Path | None = None):
        # Not in the folder of the test, which only root may enter: PostgreSQL is someone else.
        self.dir = folder or Path(tempfile.mkdtemp(prefix="covey-faults-"))
        self.dir.chmod(0o755)

    def do(self, *arguments: str) -> str:
        return services(*arguments, folder=self.dir)

    def processes(self) -> dict:
        return json.loads(self.do("status", "--json"))["processes"]

    def kill(self, *processes: str) -> float:
        """Ends processes as a power cut would, and answers the instant at which that began."""
        at = time.monotonic()
        for process in processes:
            self.do("kill", process)
        return at

    def start(self, process: str) -> float:
        """Starts one again and waits until it serves; answers the instant at which that began."""
        at = time.monotonic()
        self.do("start", process)
        return at

    def up(self, service: str) -> float:
        """Starts what does not run of a service, all of it at once: nodes of a cluster may wait for each other."""
        at = time.monotonic()
        self.do("up", service)
        return at

    def down(self) -> None:
        """Ends and removes everything."""
        self.do("down", "--purge")
        shutil.rmtree(self.dir, ignore_errors=True)


class FaultDeployment(Deployment):
    """A deployment in such a set."""

    def __init__(self, shape: str, own: FaultServices):
        self.own, self.shape = own, shape
        self.store, _, self.link = shape.partition("+")
        self.name = f"f{uuid.uuid4().hex[:10]}"
        self.facts = json.loads(own.do("env", "--shape", shape, "--for", self.name, "--json"))
        # What stands instead of the addresses of `facts`, for all servers or one of them.
        self.instead: dict[int, dict[str, str]] = {}

    def environment(self, number: int = 0) -> dict[str, str]:
        return super().environment(number) | self.instead.get(number, {})

    def drop(self) -> None:
        self.own.do("drop", self.name)


def psql(own: FaultServices, name: str, *statements: str) -> None:
    """Carries out statements as the administrator of the database server."""
    known = json.loads((own.dir / "services.json").read_text())["postgresql"]
    command = [known["programs"] + "/psql", "-h", "127.0.0.1", "-p", str(known["port"])]
    command += ["-U", known["admin"]["user"], "-d", name, "-v", "ON_ERROR_STOP=1"]
    for statement in statements:
        command += ["-c", statement]
    environment = {"PGPASSWORD": known["admin"]["password"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def turn_read_only(own: FaultServices, database: str, on: bool) -> None:
    """As a primary becomes a standby: new sessions cannot write, and those that there were have ended."""
    psql(
        own,
        "postgres",
        f'ALTER DATABASE "{database}" SET default_transaction_read_only = {"on" if on else "off"}',
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'",
    )
