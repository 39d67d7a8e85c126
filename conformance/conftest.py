"""What the tests share: a server for those that need no other, and makers of servers, callers and devices."""

import uuid

import pytest

from api import RIGHTS, Api
from device import Device
from server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server with the defaults, one for each process of the test runner. Tests keep to their own devices."""
    running = Server(tmp_path_factory.mktemp("shared") / "data").start()
    yield running
    assert running.stop() == 0
    assert not running.panics()


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
        server.kill()
        assert not server.panics()


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
