"""A server and RabbitMQ over TLS: each looks at the other's certificate."""

import time

import pytest

from testbed.api import DONE
from testbed.certificate import Signer
from testbed.deployment import SHAPE, Deployment

pytestmark = [
    pytest.mark.foreign_broker,
    pytest.mark.skipif(not SHAPE.endswith("+rabbitmq"), reason="only RabbitMQ is spoken to in two ways"),
]


class OverTls(Deployment):
    """A deployment whose servers reach RabbitMQ by amqps. `changed` stands instead of the settings."""

    def __init__(self, **changed: str):
        super().__init__()
        self.changed = changed

    def environment(self, number: int = 0) -> dict[str, str]:
        own = self.facts["tls"]["clients"]["covey.server"]
        over_tls = {
            "COVEY_LINK": self.facts["nodes"][0]["link_tls"],
            "COVEY_LINK_CERTIFICATE": own["certificate"],
            "COVEY_LINK_KEY": own["key"],
        }
        return super().environment(number) | over_tls | self.changed


@pytest.fixture
def over_tls(new_server):
    """Starts servers of such deployments, which end with the test."""
    made = []

    def new(**changed: str):
        made.append(OverTls(**changed))
        return new_server(name=f"data-{len(made)}", deployment=made[-1])

    yield new
    for deployment in made:
        deployment.drop()


def test_calls_go_over_tls_to_rabbitmq(over_tls, new_api, connect, tmp_path):
    server = over_tls()
    deadline = time.monotonic() + 60.0
    while server.metric("covey_link_up") == 0:
        assert time.monotonic() < deadline, server.log_text()
        time.sleep(0.1)
    api = new_api(server)
    device = connect(server, api.register(tmp_path), "tsk", "rsp", "cmt")
    task_id = api.create(device)
    assert device.expect("tsk").task_id == task_id
    device.take(task_id)
    device.finish(task_id)
    api.wait_for_status(task_id, DONE)


def test_a_rabbitmq_of_another_ca_is_not_spoken_to(over_tls, tmp_path):
    another = tmp_path / "another.pem"
    another.write_text(Signer.forged().chain)
    server = over_tls(COVEY_LINK_CA=str(another))
    deadline = time.monotonic() + 15.0
    while "invalid peer certificate" not in server.log_text():
        assert time.monotonic() < deadline, server.log_text()
        time.sleep(0.1)
    assert server.metric("covey_link_up") == 0
