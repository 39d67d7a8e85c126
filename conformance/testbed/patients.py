"""Servers that fall ill on purpose, each of one fault: healthy first, then `fall_ill`; what the operator's tools must say."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

from testbed.api import Api
from testbed.deployment import EMBEDDED, Deployment
from testbed.fault_services import FaultDeployment, FaultServices, turn_read_only
from testbed.prometheus import Prometheus
from testbed.receiver import Receiver
from testbed.server import BINARY, NotStarted, Server, kept_ports

DOCTOR_SECONDS_MAX = 60.0
DISK_MIB = 32
WEEK_SECONDS = 7 * 24 * 3600


class Patient:
    """A server with one fault to come. `code` and `remedy` are what `covey doctor` must say of it, `alert` what must fire."""

    code: str
    alert: str
    # What it is called when the server is stopped, if that differs.
    stopped_code = ""
    severity = "error"
    # The exit code of `covey doctor` while it lasts.
    exit_code = 1
    options: tuple[str, ...] = ()
    wrapper: tuple[str, ...] = ()

    def __init__(self, folder: Path, own: FaultServices):
        self.folder, self.own = folder, own
        self.metrics, *ports = kept_ports(4)
        listen = ("--metrics", f"127.0.0.1:{self.metrics}")
        self.deployment = self.made_deployment()
        data = self.data_folder() / "data"
        self.server = Server(
            data, *listen, *self.options, ports=ports, deployment=self.deployment, wrapper=self.wrapper
        )

    def made_deployment(self) -> Deployment:
        return Deployment(EMBEDDED)

    def data_folder(self) -> Path:
        return self.folder

    @property
    def remedy(self) -> str:
        """Words that the remedy must hold."""
        raise NotImplementedError

    def fall_ill(self) -> None:
        raise NotImplementedError

    def recover(self) -> None:
        """Undoes what would be in the way of removing it."""

    def api(self) -> Api:
        return Api(self.server.http, self.server.key)

    def doctor(self) -> tuple[int, list[dict]]:
        """What `covey doctor` says, with the settings that the server has: its exit code and its findings."""
        command = [str(BINARY), "doctor", "--json", "--data", str(self.server.data), *self.server.listen]
        done = subprocess.run(
            [*command, *self.server.options],
            env=self.server.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOCTOR_SECONDS_MAX,
        )
        assert done.returncode in (0, 1) and "panicked" not in done.stderr, done.stderr
        found = json.loads(done.stdout)["findings"]
        assert (done.returncode == 1) == any(one["severity"] == "error" for one in found), found
        return done.returncode, found

    def close(self) -> None:
        self.recover()
        self.server.kill()
        self.deployment.drop()


class BrokerDown(Patient):
    code, alert, remedy = "link_down", "CoveyLinkDown", "start mqtts://"

    def made_deployment(self):
        return FaultDeployment("sqlite+mosquitto", self.own)

    def fall_ill(self):
        self.own.kill(self.deployment.facts.get("mosquitto", "mosquitto"))


class DiskFull(Patient):
    code, alert, remedy, stopped_code = "disk_short", "CoveyDiskShort", "df -h ", "disk_full"

    def data_folder(self):
        disk = self.folder / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)]
        subprocess.run(mount, check=True, capture_output=True)
        return disk

    def fall_ill(self):
        with open(self.folder / "disk" / "filler", "ab", buffering=0) as filler:
            try:
                while filler.write(b"x" * (1 << 16)):
                    pass
            except OSError:
                pass

    def close(self):
        super().close()
        subprocess.run(["umount", "--lazy", str(self.folder / "disk")], check=True)


class ClockOff(Patient):
    """The clock of its machine is set back under it, and the database's is right."""

    code, alert, remedy = "clock_offset", "CoveyClockOff", "timedatectl set-ntp true"

    def __init__(self, folder, own):
        self.offset = folder / "offset"
        self.offset.write_text("+0\n")
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        variables = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": self.offset,
            "FAKETIME_CACHE_DURATION": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
        }
        self.wrapper = ("env", *[f"{name}={value}" for name, value in variables.items()])
        super().__init__(folder, own)

    def made_deployment(self):
        return FaultDeployment("postgres+embedded", self.own)

    def fall_ill(self):
        self.offset.write_text("-600\n")


class CertificateEnds(Patient):
    """Its certificate has a week to live, as one has that could not be renewed."""

    code, alert, remedy = "server_certificate_ends", "CoveyCertificateEnds", "restart the server"
    severity, exit_code = "warning", 0

    def fall_ill(self):
        assert self.server.stop() == 0
        for name in ("server.pem", "server.key"):
            (self.server.data / "pki" / name).unlink()
        self.server.options += ("--server-certificate-seconds", str(WEEK_SECONDS))
        self.server.start()


class WebhookDead(Patient):
    code, alert, severity, exit_code = "webhook_circuit_open", "CoveyWebhookCircuitOpen", "warning", 0
    options = ("--webhook-allow", "loopback")
    remedy = "covey webhooks deliveries "

    def fall_ill(self):
        receiver = Receiver()
        with self.api() as api:
            made = api.post("/webhooks", json={"event_type": "msg-task", "url": receiver.url})
            assert made.status_code == 201, made.text
            receiver.stop()
            # The messages of one device wait for each other.
            for _ in range(8):
                api.create(api.register(self.folder))


class DatabaseReadOnly(Patient):
    code, alert, remedy = "store_read_only", "CoveyStoreNotWritable", "--store"

    def made_deployment(self):
        return FaultDeployment("postgres+embedded", self.own)

    @property
    def database(self) -> str:
        return self.deployment.environment()["COVEY_STORE"].rsplit("/", 1)[1].split("?")[0]

    def fall_ill(self):
        turn_read_only(self.own, self.database, True)

    def recover(self):
        turn_read_only(self.own, self.database, False)


class PortTaken(Patient):
    code, alert, remedy = "port_taken", "CoveyDown", "give another address with --https"
    other = None

    def fall_ill(self):
        assert self.server.stop() == 0
        host, port = self.server.listen[self.server.listen.index("--https") + 1].rsplit(":", 1)
        self.other = socket.create_server((host, int(port)))
        try:
            self.server.start()
        except NotStarted as error:
            assert "exit code 2" in str(error) and "cannot listen for HTTPS" in str(error), error
        else:
            raise AssertionError("it started on a port that another program has")

    def recover(self):
        if self.other:
            self.other.close()


class FileMode(Patient):
    code, alert = "file_mode", "CoveyFileMode"

    @property
    def secret(self) -> Path:
        return self.server.data / "admin.key"

    @property
    def remedy(self):
        return f"chmod 600 {self.secret}"

    def fall_ill(self):
        self.secret.chmod(0o644)


class CaEnds(Patient):
    """Its issuing CA was replaced by one of twenty days, with openssl."""

    code, alert, remedy = "ca_ends", "CoveyCaEnds", "docs/revocation.md"

    def fall_ill(self):
        assert self.server.stop() == 0
        steps = """
            openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out issuing.key && chmod 600 issuing.key &&
            openssl req -new -key issuing.key -subj "/CN=Covey Issuing CA 2" -out issuing.csr &&
            printf '%s\\n' basicConstraints=critical,CA:true,pathlen:0 keyUsage=critical,keyCertSign,cRLSign \\
                subjectKeyIdentifier=hash authorityKeyIdentifier=keyid > issuing.ext &&
            openssl x509 -req -in issuing.csr -CA ca.pem -CAkey ca.key -days 20 -extfile issuing.ext -out issuing.pem &&
            rm -f issuing.csr issuing.ext ca.srl
        """
        done = subprocess.run(["sh", "-c", steps], cwd=self.server.data / "pki", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.server.start()


class BackupOld(Patient):
    code, alert, severity, exit_code = "backup_old", "CoveyBackupOld", "warning", 0
    remedy = "covey backup --data "

    def fall_ill(self):
        command = ["faketime", "-f", "-10d", str(BINARY), "backup", "--data", str(self.server.data)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVEY_")}
        made = subprocess.run(
            [*command, "--to", str(self.folder / "backup")], capture_output=True, text=True, env=environment
        )
        assert made.returncode == 0, made.stderr


KINDS = [
    BrokerDown, DiskFull, ClockOff, CertificateEnds, WebhookDead, DatabaseReadOnly, PortTaken, FileMode, CaEnds, BackupOld,
]


class Ward:
    """All of them side by side; each is healthy until it falls ill."""

    def __init__(self, folder: Path, own: FaultServices):
        self.patients: dict[type[Patient], Patient] = {}
        self.ill_at: dict[type[Patient], float] = {}
        # How long each alert took, of those that came.
        self.alerted_after: dict[type[Patient], float] = {}
        self.folder, self.own = folder, own

    def admit(self) -> None:
        for kind in KINDS:
            room = self.folder / kind.__name__
            room.mkdir()
            self.patients[kind] = kind(room, self.own)
            self.patients[kind].server.start()

    def fall_ill(self) -> None:
        """One after the other; the instant is that at which each begins to."""
        for kind, patient in self.patients.items():
            self.ill_at[kind] = time.monotonic()
            patient.fall_ill()

    def wait_for_alerts(self, prometheus: Prometheus, seconds: float) -> None:
        """Waits until the alert of each fires, so long for each at most, and notes how long that took."""
        waiting = dict(self.ill_at)
        while waiting:
            for kind, ill_at in list(waiting.items()):
                is_firing = kind.alert in prometheus.firing(kind.__name__)
                after = time.monotonic() - ill_at
                if is_firing:
                    self.alerted_after[kind] = after
                if is_firing or after > seconds:
                    del waiting[kind]
            time.sleep(0.2)

    def close(self) -> None:
        for patient in self.patients.values():
            patient.close()
        for patient in self.patients.values():
            assert not patient.server.panics()
