"""What the fault tests share: their services, deployments with several servers and a load, and what was measured.

They take minutes and want the machine for themselves, so they run only when asked to, in one process:
COVEY_FAULTS=1 pytest conformance/test_faults_*.py -n 0"""

import os
import re
import subprocess
import time

import pytest

from testbed import fault_load
from testbed.api import Api
from testbed.fault_load import LEASE_SECONDS, Load
from testbed.fault_proxy import Proxy
from testbed.fault_services import FaultDeployment, FaultServices
from testbed.front_door import UPSTREAM_NAME
from testbed.server import Server, kept_ports

IS_ASKED_FOR = os.environ.get("COVEY_FAULTS", "0") not in ("", "0")
# What a server reaches by each of its settings, and the port in it.
PORT = re.compile(r"(?<=:)\d+(?=/|$)")
NAMES = ("server-a", "server-b", "server-c")


def pytest_collection_modifyitems(config, items):
    """Leaves the fault tests out, unless they are asked for."""
    faults = [item for item in items if item.path.name.startswith("test_faults_")]
    if faults and not IS_ASKED_FOR:
        config.hook.pytest_deselected(items=faults)
        items[:] = [item for item in items if item not in faults]


def pytest_terminal_summary(terminalreporter):
    """Tells what was measured."""
    for line in fault_load.MEASURED:
        terminalreporter.write_line(line)


class Site:
    """Servers of one deployment, the ways between them and their services, and a load."""

    def __init__(
        self,
        shape: str,
        own: FaultServices,
        folder,
        *,
        servers: int = 2,
        proxied: tuple[str, ...] = (),
        any_node: bool = False,
    ):
        """`proxied`: the settings whose addresses are reached through a proxy, one for each server.
        `any_node`: servers know all nodes of the broker."""
        self.deployment = FaultDeployment(shape, own)
        self.own, self.folder = own, folder
        self.proxies: list[dict[str, Proxy]] = []
        self.servers: list[Server] = []
        self.apis: list[Api] = []
        self.load: Load | None = None
        # What must be undone before anything can be removed.
        self.before_close = lambda: None
        if any_node:
            self.deployment.facts["environment"]["COVEY_LINK"] = self._all_nodes()
        for number in range(servers):
            self.proxies.append({variable: self._proxy(number, variable) for variable in proxied})
            self._start_server(number)

    def _proxy(self, number: int, variable: str) -> Proxy:
        """Puts a proxy between a server and what this variable names."""
        address = self.deployment.facts["environment"][variable]
        proxy = Proxy(int(PORT.search(address)[0]))
        instead = self.deployment.instead.setdefault(number, {})
        instead[variable] = PORT.sub(str(proxy.port), address, count=1)
        if variable == "COVEY_LINK":
            # Devices have a way of their own.
            instead.setdefault("COVEY_DEVICES_URL", self._devices_url())
        return proxy

    def _all_nodes(self) -> str:
        """One address that names every node."""
        links = [node["link"] for node in self.deployment.facts["nodes"]]
        hosts = ",".join(link.rsplit("@", 1)[1].split("/")[0] for link in links)
        userinfo, rest = links[0].rsplit("@", 1)
        return f"{userinfo}@{hosts}/{rest.split('/', 1)[1]}"

    def _devices_url(self) -> str:
        environment = self.deployment.facts["environment"]
        return environment.get("COVEY_DEVICES_URL") or environment["COVEY_LINK"]

    def _start_server(self, number: int) -> None:
        key = self.servers[0].key if number else None
        server = Server(
            self.folder / NAMES[number],
            *("--lease-seconds", str(LEASE_SECONDS), "--server-name", NAMES[number], "--name", UPSTREAM_NAME),
            log="warn",
            ports=kept_ports(),
            deployment=self.deployment,
            number=number,
            key=key,
        )
        self.servers.append(server)
        server.start()
        self.apis.append(Api(server.http, self.servers[0].key))

    @property
    def device_addresses(self) -> list[tuple[str, int]]:
        """Where devices may connect: to each server, or to each node of the broker."""
        if self.deployment.link == "embedded":
            return [server.mqtts for server in self.servers]
        nodes = self.deployment.facts.get("nodes", [])
        urls = [node["devices_url"] for node in nodes] or [self._devices_url()]
        pairs = [url.removeprefix("mqtts://").rsplit(":", 1) for url in urls]
        return [(host, int(port)) for host, port in pairs]

    def start_load(self, name: str, apis: list[Api] | None = None) -> Load:
        folder = self.folder / "devices"
        folder.mkdir()
        self.load = Load(
            name,
            apis or self.apis,
            self.device_addresses,
            self.servers[0].ca,
            folder,
            # Mosquitto forgets what it took in the last second when it is killed.
            trusts_puback=self.deployment.link != "mosquitto",
        )
        return self.load.start()

    def wait_for_links(self, seconds: float = 30.0) -> None:
        """Waits until each server has its way to devices again."""
        deadline = time.monotonic() + seconds
        for number, server in enumerate(self.servers):
            while server.metric("covey_link_up") == 0:
                assert time.monotonic() < deadline, f"the link of server {number} is down: {server.log_text()[-2000:]}"
                time.sleep(0.05)

    def rabbitmqctl(self, *arguments: str) -> None:
        command = [self.deployment.facts["rabbitmqctl"], *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        """Ends everything, whatever state it is in."""
        self.before_close()
        if self.load:
            self.load.abandon()
        for server in self.servers:
            server.kill()
        for api in self.apis:
            api.close()
        for proxies in self.proxies:
            for proxy in proxies.values():
                proxy.close()
        self.deployment.drop()


@pytest.fixture(scope="session")
def own_services():
    """The services of this run; gone with it."""
    own = FaultServices()
    yield own
    own.down()


@pytest.fixture
def site(own_services, tmp_path):
    """Makes deployments: `site(shape, servers=…, proxied=…)`. Their servers must not have panicked."""
    made: list[Site] = []

    def new(shape: str, own: FaultServices = own_services, **more) -> Site:
        folder = tmp_path / f"site-{len(made)}"
        folder.mkdir()
        made.append(Site(shape, own, folder, **more))
        return made[-1]

    yield new
    for one in made:
        one.close()
    for one in made:
        for server in one.servers:
            assert not server.panics()
