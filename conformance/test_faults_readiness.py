"""What an operator sees while a part of the server is broken: `/readyz`, `/metrics`, the log, and what a start says."""

import re
import time

import httpx
import pytest

from testbed.api import Api, is_problem
from testbed.fault_services import FaultDeployment, turn_read_only
from testbed.server import Server

# How long a broker that was up may be away before its server is not ready (docs/operating.md).
PATIENCE_SECONDS = 5.0
# Longer than the longest wait between two attempts, and than a broker needs to start.
BACK_SECONDS_MAX = 60.0
# In this time a link tries many times, and must not warn each time.
QUIET_SECONDS = 10.0
# A warning about the broker, without the cause behind it.
WARNING = re.compile(r"^\S+ +WARN (.*(?:MQTT broker|RabbitMQ|management API).*?)(?: error=.*)?$", re.MULTILINE)


@pytest.fixture
def server_on(own_services, tmp_path):
    """Makes a server that is not started yet, on services that may be killed: `server_on(shape)`."""
    made = []

    def new(shape: str) -> Server:
        deployment = FaultDeployment(shape, own_services)
        made.append(Server(tmp_path / "data", deployment=deployment))
        return made[-1]

    yield new
    for server in made:
        server.kill()
        server.deployment.drop()
        assert not server.panics()


def readiness(server: Server) -> httpx.Response:
    return httpx.get(f"{server.http}/readyz")


def part(answer: httpx.Response, kind: str) -> dict:
    """The one part of this kind."""
    (found,) = [part for part in answer.json()["parts"] if part["part"] == kind]
    return found


def wait_until_ready(server: Server, seconds: float = BACK_SECONDS_MAX) -> httpx.Response:
    deadline = time.monotonic() + seconds
    while (answer := readiness(server)).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
    return answer


def wait_until_not_ready(server: Server, seconds: float) -> httpx.Response:
    deadline = time.monotonic() + seconds
    while (answer := readiness(server)).status_code == 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    assert is_problem(answer, 503) and answer.headers["retry-after"]
    return answer


def clock_of_broker(server: Server, seconds: float = 30.0) -> float:
    """How far the broker's clock is ahead, as soon as the server has heard of it."""
    deadline = time.monotonic() + seconds
    while 'covey_clock_ahead_seconds{clock="broker"}' not in httpx.get(f"{server.http}/metrics").text:
        assert time.monotonic() < deadline, "the server hears nothing of the broker's clock"
        time.sleep(0.5)
    return server.metric("covey_clock_ahead_seconds", clock="broker")


def says_each_once(log: str) -> bool:
    """Whether there is a warning about the broker, and none comes again and again."""
    warnings = WARNING.findall(log)
    assert warnings and len(warnings) == len(set(warnings)), log
    return True


def new_log(server: Server, seen: int) -> str:
    return server.log_text()[seen:]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("broker", "link"), [("mosquitto", "mqtt"), ("rabbitmq", "amqp")])
def test_a_broker_that_is_away_is_seen_at_once_and_so_is_its_return(server_on, own_services, broker, link):
    server = server_on(f"sqlite+{broker}")
    process = server.deployment.facts.get("mosquitto", broker)
    own_services.kill(process)

    # Away when the server starts: it was never reached, so nobody needs to be patient.
    server.start()
    said = server.output_text()
    assert "is not ready" in said and "is ready after" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("  link ")]
    assert re.search(r": not connected yet \(.+\); retrying$", line), line
    answer = readiness(server)
    assert is_problem(answer, 503) and answer.headers["retry-after"]
    why = "no connection to the broker"
    assert part(answer, "link") == {"part": "link", "name": link, "state": "down", "why": why}
    assert part(answer, "store") == {"part": "store", "state": "up"}
    assert answer.json()["detail"] == f"link {link}: {why}"
    assert httpx.get(f"{server.http}/healthz").status_code == 200
    assert server.metric("covey_link_up", link=link) == 0
    assert server.metric("covey_store_writable") == 1
    assert WARNING.search(server.log_text()), "the first failure is a warning"
    time.sleep(QUIET_SECONDS)
    assert says_each_once(server.log_text())

    # There at last.
    own_services.start(process)
    answer = wait_until_ready(server)
    assert answer.json()["status"] == "ok"
    assert part(answer, "link") == {"part": "link", "name": link, "state": "up"}
    assert server.metric("covey_link_up", link=link) == 1
    assert re.search(r" INFO .*is up again", server.log_text()), server.log_text()
    with Api(server.http, server.key) as api:
        device = api.register(server.data.parent)
        assert api.request_task(device).status_code == 200
    if link == "amqp":
        # Its management API says the second, and it is this machine's.
        assert abs(clock_of_broker(server)) < 2

    # Gone again: seen at once, and for a while nobody is sent elsewhere.
    seen = len(server.log_text())
    killed = own_services.kill(process)
    while part(answer := readiness(server), "link")["state"] == "up":
        assert time.monotonic() < killed + PATIENCE_SECONDS, "the link is not seen to be down"
        time.sleep(0.05)
    assert answer.status_code == 200, "a moment without a broker is no reason to leave"
    assert server.metric("covey_link_up", link=link) == 0
    answer = wait_until_not_ready(server, 3 * PATIENCE_SECONDS)
    assert time.monotonic() > killed + PATIENCE_SECONDS, "not before its time"
    assert part(answer, "link")["state"] == "down"
    time.sleep(QUIET_SECONDS)
    assert says_each_once(new_log(server, seen))

    seen = len(server.log_text())
    own_services.start(process)
    wait_until_ready(server)
    assert re.search(r" INFO .*is up again", new_log(server, seen)), new_log(server, seen)
    assert server.stop() == 0


@pytest.mark.timeout(180)
def test_a_database_that_turns_read_only_or_dies_is_seen_and_so_is_its_return(server_on, own_services):
    server = server_on("postgres+embedded")
    database = server.deployment.environment()["COVEY_STORE"].rsplit("/", 1)[1].split("?")[0]
    server.start()
    answer = wait_until_ready(server)
    assert part(answer, "link") == {"part": "link", "name": "embedded", "state": "up"}
    assert server.metric("covey_link_up", link="embedded") == 1
    with Api(server.http, server.key) as api:
        device = api.register(server.data.parent)

        turn_read_only(own_services, database, True)
        answer = wait_until_not_ready(server, 20.0)
        assert part(answer, "store") == {"part": "store", "state": "down", "why": "the database is read-only"}
        assert part(answer, "link")["state"] == "up"
        assert server.metric("covey_store_writable") == 0
        assert is_problem(api.request_task(device), 503)
        assert api.get("/devices").status_code == 200, "reads go on"
        assert "store refuses writes" in server.log_text()

        turn_read_only(own_services, database, False)
        assert part(wait_until_ready(server), "store") == {"part": "store", "state": "up"}
        assert api.request_task(device).status_code == 200
        assert "store accepts writes again" in server.log_text()

        own_services.kill("postgresql")
        answer = wait_until_not_ready(server, 30.0)
        assert part(answer, "store")["state"] == "down"
        own_services.start("postgresql")
        wait_until_ready(server)
        assert api.request_task(device).status_code == 200
    assert server.stop() == 0
