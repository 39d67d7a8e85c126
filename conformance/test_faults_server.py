"""A server of two is killed, or all are restarted one after the other, under load."""

import ssl
import time

import pytest

from testbed.api import Api
from testbed.fault_load import ROUNDS
from testbed.front_door import Nginx

SHAPES = ["postgres+rabbitmq", "postgres+embedded", "postgres+mosquitto"]
# How long a server is gone.
GONE_SECONDS = 1.0
# nginx gives nothing to a server for 5 s after it has failed (deploy/nginx/covey.conf): not the next before that.
PAUSE_BEHIND_NGINX_SECONDS = 6.0
# What httpx says of a connection that had ended before the request was read.
RECONNECTS = {"ConnectError", "RemoteProtocolError", "ReadError", "WriteError"}


@pytest.mark.timeout(180 + 60 * ROUNDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_server_is_killed_and_comes_back(site, shape):
    here = site(shape)
    load = here.start_load(f"server killed, {shape}")
    for number in range(ROUNDS):
        victim = here.servers[number % 2]
        killed = time.monotonic()
        victim.kill()
        load.measured("kill to first completed call at the other", load.first_completed(killed))
        time.sleep(GONE_SECONDS)
        started = time.monotonic()
        victim.start()
        load.measured("server ready", time.monotonic() - started)
        load.run(1.0, until_completed=True)
    assert sum(load.losses().values()) > 0, "the kills were felt"
    load.measured("all devices connected", load.fleet.wait_for_all())
    load.finish()


def rolling_restart(here, load, pause_seconds: float = 1.0) -> None:
    for server in here.servers:
        begun = time.monotonic()
        assert server.stop() == 0, server.log_text()[-2000:]
        load.measured("server ended in good order", time.monotonic() - begun)
        server.start()
        load.run(pause_seconds, until_completed=True)


@pytest.mark.timeout(180 + 60 * ROUNDS)
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_all_servers_are_restarted_one_after_the_other(site, shape):
    here = site(shape)
    load = here.start_load(f"rolling restart, {shape}")
    for _ in range(ROUNDS):
        rolling_restart(here, load)
    load.finish()
    assert load.refusals() == 0
    assert set(load.losses()) <= RECONNECTS, load.losses()
    # A request on a connection that ended was not carried out: its caller may send it again without a key.
    names = {task for caller in load.callers for task in caller.unanswered}
    stored = {task["header"]["ext_task_id"] for task in load.tasks.values()}
    assert not names & stored, "carried out, and not answered"


@pytest.mark.timeout(180 + 60 * ROUNDS)
def test_nobody_notices_behind_nginx(site, new_nginx):
    here = site("postgres+rabbitmq")
    nginx = new_nginx(here.servers)
    trust = ssl.create_default_context(cafile=str(nginx.ca))
    apis = [Api(nginx.url, here.servers[0].key, verify=trust) for _ in range(2)]
    load = here.start_load("rolling restart behind nginx, postgres+rabbitmq", apis)
    for _ in range(ROUNDS):
        rolling_restart(here, load, PAUSE_BEHIND_NGINX_SECONDS)
    load.finish()
    assert load.refusals() == 0 and load.losses() == {}


@pytest.fixture
def new_nginx():
    made = []

    def new(servers) -> Nginx:
        made.append(Nginx(servers).start())
        return made[-1]

    yield new
    for one in made:
        one.stop()
