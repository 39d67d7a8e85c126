"""What the tests share: a server for those that need no other, and makers of servers, callers and devices."""

import itertools
import uuid

import pytest

from testbed.api import RIGHTS, Api
from testbed.deployment import EMBEDDED, SHAPE, Deployment
from testbed.device import Device
from testbed.server import Server, serving

pytest_plugins = ["testbed.fault_fixtures"]

# The shapes that run everything that makes sense in them: both stores, and every link, once each. The other shapes
# put the same parts together in another way, and run what is marked for every shape.
FULL_SHAPES = {EMBEDDED, "sqlite+mosquitto", "postgres+rabbitmq"}


def runs_here(item) -> bool:
    """Whether a test is for the shape that is tested now."""
    marks = {mark.name for mark in item.iter_markers()}
    if "embedded" in marks:
        return SHAPE == EMBEDDED
    if "foreign_broker" in marks and SHAPE.endswith("+embedded"):
        return False
    if "several_servers" in marks and not SHAPE.startswith("postgres"):
        return False
    return SHAPE in FULL_SHAPES or "every_shape" in marks


def pytest_collection_modifyitems(config, items):
    """Leaves out what is for other shapes."""
    others = [item for item in items if not runs_here(item)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if runs_here(item)]


def pytest_report_header():
    return f"shape: {SHAPE}"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server with the defaults, one for each process of the test runner. Tests keep to their own devices."""
    with serving(tmp_path_factory.mktemp("shared") / "data") as running:
        yield running


@pytest.fixture
def new_server(tmp_path):
    """Makes servers of the test's own, with options; they end with the test and must not have panicked."""
    made = []

    def new(*options, name="data", **more) -> Server:
        server = Server(tmp_path / name, *options, **more)
        made.append(server)
        return server.start()

    yield new
    for server in made:
        server.drop()
    for server in made:
        assert not server.panics()


@pytest.fixture
def new_node():
    """Makes nodes, and what else has an end: `new_node(MqttNode, url, …)`. They end with the test, the last one first."""
    made = []

    def new(kind, *arguments, **more):
        made.append(kind(*arguments, **more))
        return made[-1]

    yield new
    for node in reversed(made):
        node.close()


class Pairs:
    """Servers of one deployment, two at a time, and more where they are wanted."""

    def __init__(self, folder):
        self.folder, self.numbers = folder, itertools.count()
        self.deployments: list[Deployment] = []
        self.servers: list[Server] = []

    def new(self, *options, second=(), wrapper=()) -> tuple[Server, Server]:
        """Two servers; `options` are of both, but for `second` and `wrapper`, which are of the second alone."""
        self.deployments.append(Deployment())
        first = self._made(self.deployments[-1], 0, None, *options).start()
        return first, self._made(first.deployment, 1, first.key, *(second or options), wrapper=wrapper).start()

    def another(self, of: Server, *options, **more) -> Server:
        """One more of that deployment, not started."""
        return self._made(of.deployment, 2, of.key, *options, **more)

    def _made(self, deployment, number: int, key, *options, **more) -> Server:
        folder = self.folder / f"server-{next(self.numbers)}"
        self.servers.append(Server(folder, *options, deployment=deployment, number=number, key=key, **more))
        return self.servers[-1]

    def drop(self) -> None:
        for server in self.servers:
            server.kill()
        for deployment in self.deployments:
            deployment.drop()
        for server in self.servers:
            assert not server.panics()


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """Two servers on one database, one pair for each process of the test runner."""
    pairs = Pairs(tmp_path_factory.mktemp("pair"))
    try:
        running = pairs.new()
        yield running
        assert [server.stop() for server in running] == [0, 0]
    finally:
        pairs.drop()


@pytest.fixture
def pairs(tmp_path):
    """Makes pairs of the test's own, with options: `pairs.new(…)`, and a third server: `pairs.another(…)`."""
    made = Pairs(tmp_path)
    yield made
    made.drop()


@pytest.fixture
def new_api():
    """Makes callers; their connections end with the test."""
    made = []

    def new(server, key=None, **more) -> Api:
        made.append(Api(server.http, key or server.key, **more))
        return made[-1]

    yield new
    for api in made:
        api.close()


@pytest.fixture
def api(server, new_api):
    """A caller with all rights at the shared server."""
    return new_api(server)


@pytest.fixture
def other_api(api, server, new_api):
    """A caller of another organisation, with all rights there but those over keys."""
    return new_api(server, api.key_with(RIGHTS, org=f"org-{uuid.uuid4().hex[:8]}"))


@pytest.fixture
def connect():
    """Connects devices: `connect(server, identity, *levels, …)`; they disconnect with the test."""
    made = []

    def new(server, identity, *levels, **more) -> Device:
        device = Device(identity, server.mqtts, server.ca, **more)
        made.append(device)
        return device.connect(*levels)

    yield new
    for device in made:
        device.close()


@pytest.fixture
def identity(api, tmp_path):
    """A device that is registered at the shared server, and nobody else's."""
    return api.register(tmp_path)


@pytest.fixture
def victim_identity(api, tmp_path):
    """Another one."""
    return api.register(tmp_path)


@pytest.fixture
def device(server, identity, connect):
    """That device, connected and listening."""
    return connect(server, identity)
