"""A local network of its own: hosts in network namespaces behind one switch, where multicast goes to all, and nobody
else hears it. A host may have avahi with a system bus of its own."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from testbed.server import BINARY, Server

NEEDED = ("ip", "dbus-daemon", "avahi-daemon", "avahi-browse", "avahi-publish", "avahi-resolve")
SECONDS = 60.0
BUS = """<busconfig><type>custom</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="signal"/><allow receive_type="method_return"/><allow receive_type="error"/></policy></busconfig>
"""
AVAHI = """[server]
host-name={name}
use-ipv4=yes
use-ipv6=no
allow-interfaces=eth0
[publish]
publish-workstation=no
publish-hinfo=no
"""


def wait_for(check, what: str):
    """Looks until there is something to see."""
    deadline = time.monotonic() + SECONDS
    while not (found := check()):
        assert time.monotonic() < deadline, f"not seen: {what}"
        time.sleep(0.1)
    return found


def quiet_environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COVEY_")} | more


class Host:
    """A machine of the network."""

    def __init__(self, folder: Path, namespace: str, address: str):
        self.folder, self.namespace, self.address = folder, namespace, address
        self.running: list[subprocess.Popen] = []
        self.bus: str | None = None

    def inside(self, *command) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *map(str, command)]

    def environment(self, **more: str) -> dict[str, str]:
        bus = {"DBUS_SYSTEM_BUS_ADDRESS": self.bus} if self.bus else {}
        return quiet_environment(**bus, **more)

    def run(self, *command, **more: str) -> subprocess.CompletedProcess:
        """Runs a program to its end."""
        return subprocess.run(
            self.inside(*command),
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *command, name: str = "program", **more: str) -> tuple[subprocess.Popen, Path]:
        """Starts a program that ends with the network; answers also where its output goes."""
        output = self.folder / f"{self.namespace}-{len(self.running)}-{name}.out"
        with open(output, "wb") as to:
            process = subprocess.Popen(
                self.inside(*command),
                env=self.environment(**more),
                stdout=to,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        self.running.append(process)
        return process, output

    def covey(self, *arguments, **more: str) -> subprocess.CompletedProcess:
        return self.run(BINARY, *arguments, **more)

    def server(self, name: str, *options: str, https: str = "0.0.0.0:8443", mqtts: str = "0.0.0.0:8883") -> Server:
        """A server here, not started."""
        server = Server(self.folder / name, *options, wrapper=tuple(self.inside()))
        server.listen = ["--http", "127.0.0.1:0", "--https", https, "--mqtts", mqtts]
        return server

    def metric(self, server: Server, name: str) -> float:
        """A value of /metrics, by its whole name."""
        page = self.run("curl", "-sf", f"{server.http}/metrics").stdout
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{name} "))

    def avahi(self) -> "Host":
        """Starts avahi here."""
        path = self.folder / f"{self.namespace}.bus"
        bus, avahi = self.folder / f"{self.namespace}-bus.conf", self.folder / f"{self.namespace}-avahi.conf"
        bus.write_text(BUS.format(path=path))
        avahi.write_text(AVAHI.format(name=self.namespace))
        self.start("dbus-daemon", "--nofork", f"--config-file={bus}", name="bus")
        wait_for(path.exists, "the system bus")
        self.bus = f"unix:path={path}"
        # What it writes at fixed places is its own: this runs in a mount namespace of its own.
        script = "mkdir -p /run/avahi-daemon && mount -t tmpfs none /run/avahi-daemon && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f"
        _, output = self.start("sh", "-c", f"{script} {avahi}", name="avahi")
        wait_for(lambda: "Server startup complete" in output.read_text(errors="replace"), "avahi")
        return self

    def browse(self, kind: str) -> list[list[str]]:
        """What avahi finds of a type of services: interface, protocol, name, type, domain, host, address, port, TXT."""
        found = self.run("avahi-browse", "-rpt", kind)
        assert found.returncode == 0, found.stderr
        return [line.split(";", 9)[1:] for line in found.stdout.splitlines() if line.startswith("=;")]

    def announced(self, kind: str, count: int = 1) -> list[list[str]]:
        """The same, when there are so many."""
        seen: list = []

        def look():
            seen[:] = self.browse(kind)
            return len(seen) >= count

        wait_for(look, f"{count} of {kind}")
        return seen

    def publish(self, name: str, kind: str, port: int, *txt: str, host: str | None = None) -> subprocess.Popen:
        """Has avahi announce something."""
        of = ["-H", host] if host else []
        process, output = self.start("avahi-publish", "-s", *of, name, kind, port, *txt, name="publish")
        wait_for(lambda: "Established" in output.read_text(), f"{name} to be announced")
        return process

    def publish_address(self, host: str, address: str) -> None:
        _, output = self.start("avahi-publish", "-a", "-R", host, address, name="address")
        wait_for(lambda: "Established" in output.read_text(), f"{host} to be announced")

    def close(self) -> None:
        for process in reversed(self.running):
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait(timeout=10)


class LocalNetwork:
    """The network. It is skipped where the machine does not allow it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.hosts: list[Host] = []
        self.servers: list[Server] = []
        self.numbers = itertools.count(1)
        missing = [program for program in NEEDED if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
        if os.geteuid() != 0 or missing:
            pytest.skip(f"a local network needs root and {', '.join(NEEDED)}; missing: {', '.join(missing) or 'root'}")
        self.name = f"cv{os.getpid()}"
        self.switch = f"{self.name}s"
        made = subprocess.run(["ip", "netns", "add", self.switch], capture_output=True, text=True)
        if made.returncode != 0:
            pytest.skip(f"network namespaces are not allowed here: {made.stderr.strip()}")
        self._in(self.switch, "link", "add", "br0", "type", "bridge")
        # Who listens is told by all that is sent: multicast goes to every host.
        self._in(self.switch, "link", "set", "br0", "type", "bridge", "mcast_snooping", "0")
        self._in(self.switch, "link", "set", "br0", "up")

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

    def _in(self, namespace: str, *arguments: str) -> None:
        self._ip("-n", namespace, *arguments)

    def host(self) -> Host:
        """One more machine, 10.77.0.N."""
        number = next(self.numbers)
        namespace, address = f"{self.name}h{number}", f"10.77.0.{number}"
        self._ip("netns", "add", namespace)
        host = Host(self.folder, namespace, address)
        self.hosts.append(host)
        self._in(namespace, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{number}", "netns", self.switch)
        self._in(self.switch, "link", "set", f"p{number}", "master", "br0", "up")
        self._in(namespace, "address", "add", f"{address}/24", "brd", "+", "dev", "eth0")
        self._in(namespace, "link", "set", "lo", "up")
        self._in(namespace, "link", "set", "eth0", "up")
        self._in(namespace, "route", "add", "default", "dev", "eth0")
        return host

    def up(self, host: Host, name: str, *options: str, **more) -> Server:
        """A server that announces itself."""
        server = host.server(name, "--mdns", *options, **more)
        self.servers.append(server)
        return server.start()

    def close(self) -> None:
        for server in self.servers:
            server.drop()
        for host in self.hosts:
            host.close()
        for host in self.hosts:
            subprocess.run(["ip", "netns", "delete", host.namespace], capture_output=True)
        subprocess.run(["ip", "netns", "delete", self.switch], capture_output=True)
        for server in self.servers:
            assert not server.panics()


def lines_of_json(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]
