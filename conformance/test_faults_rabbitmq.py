"""RabbitMQ is killed under load: the only node, one of three, all three; and it runs out of memory."""

import json
import time

import pytest

from testbed.api import DONE
from testbed.device import Device, MQTTv311, MQTTv5
from testbed.fault_load import ROUNDS

# Longer than a server keeps what it cannot tell before it refuses more (5 s).
GONE_SECONDS = 6.0
NODES = ("rabbit1", "rabbit2", "rabbit3")
# What RabbitMQ takes for all its memory, so that any is too much; and its default.
NO_MEMORY, USUAL_MEMORY = "0.00001", "0.6"
ALARM_SECONDS = 4.0


@pytest.mark.timeout(180 + 60 * ROUNDS)
def test_the_only_node_is_killed_and_comes_back(site, own_services):
    here = site("postgres+rabbitmq")
    load = here.start_load("RabbitMQ killed, postgres+rabbitmq")
    for _ in range(ROUNDS):
        killed = own_services.kill("rabbitmq")
        load.measured("kill to first 503", load.wait_for_refusals(killed))
        time.sleep(max(0.0, killed + GONE_SECONDS - time.monotonic()))
        started = own_services.start("rabbitmq")
        load.measured("start of RabbitMQ took", time.monotonic() - started)
        load.measured("start of RabbitMQ to first completed call", load.first_completed(started))
        load.measured("then all devices connected", load.fleet.wait_for_all())
        here.wait_for_links()
        load.run(1.0, until_completed=True)
    load.finish()
    assert load.losses() == {}, "a server answers, whatever becomes of its broker"


@pytest.fixture(scope="module")
def cluster(own_services):
    """Ends the three nodes after their tests: they cost memory."""
    yield own_services
    for node in NODES:
        own_services.do("stop", node)


@pytest.mark.timeout(300 + 90 * ROUNDS)
def test_one_node_of_three_is_killed_then_all_of_them(site, cluster):
    here = site("postgres+rabbitmq-cluster", any_node=True)
    load = here.start_load("RabbitMQ cluster, postgres+rabbitmq-cluster")
    for number in range(ROUNDS):
        node = NODES[number % 3]
        killed = cluster.kill(node)
        load.measured(f"kill of {node} to first completed call", load.first_completed(killed))
        load.measured("all devices connected elsewhere", load.fleet.wait_for_all())
        load.run(2.0, until_completed=True)
        started = cluster.start(node)
        load.measured(f"start of {node} took", time.monotonic() - started)
        load.run(1.0, until_completed=True)

        cluster.kill(*NODES)
        time.sleep(GONE_SECONDS)
        started = cluster.up("rabbitmq-cluster")
        load.measured("start of all nodes took", time.monotonic() - started)
        load.measured("start of all nodes to first completed call", load.first_completed(started))
        load.measured("then all devices connected", load.fleet.wait_for_all())
        here.wait_for_links()
        load.run(1.0, until_completed=True)
    load.finish()
    assert load.losses() == {}


@pytest.mark.timeout(180 + 60 * ROUNDS)
def test_out_of_memory_it_takes_no_more_and_nothing_is_lost(site):
    here = site("postgres+rabbitmq")
    load = here.start_load("RabbitMQ out of memory, postgres+rabbitmq")
    for _ in range(ROUNDS):
        begun = time.monotonic()
        here.rabbitmqctl("set_vm_memory_high_watermark", NO_MEMORY)
        try:
            load.measured("alarm (and rabbitmqctl) to first 503", load.wait_for_refusals(begun))
            time.sleep(ALARM_SECONDS)
        finally:
            # The tests after this one have the same broker.
            here.rabbitmqctl("set_vm_memory_high_watermark", USUAL_MEMORY)
        over = time.monotonic()
        load.measured("end of the alarm to first completed call", load.first_completed(over))
        load.run(1.0, until_completed=True)
    load.finish()
    assert load.losses() == {}


# A server looks every minute, and ends connections that it does not find if they are older than 30 s.
LOOKS_SECONDS = 100.0
# The setting management_agent.disable_metrics_collector, while the broker runs.
COLLECTS_NOT = "application:set_env(rabbitmq_management_agent, disable_metrics_collector, {})."


@pytest.fixture
def without_metrics(site, own_services):
    """One server, whose broker collects no metrics."""
    here = site("sqlite+rabbitmq", servers=1)
    here.rabbitmqctl("eval", COLLECTS_NOT.format("true"))
    yield here
    here.rabbitmqctl("eval", COLLECTS_NOT.format("false"))


def call(api, device) -> None:
    """A whole call of a device, in the form of its protocol."""
    task_id = api.create(device)
    if device.is_v5:
        assert device.expect("tsk").task_id == task_id
        device.take(task_id)
        device.finish(task_id)
    else:
        assert json.loads(device.expect("tsk").body)["correlationData"] == task_id
        device.publish(f"dev/{device.sn}/req", json.dumps({"correlationData": task_id}))
        assert json.loads(device.expect("rsp").body)["correlationData"] == task_id
        device.publish(f"dev/{device.sn}/res", json.dumps({"correlationData": task_id, "status_code": 200}))
        device.expect("cmt")
    api.wait_for_status(task_id, DONE)


@pytest.mark.timeout(300)
def test_without_metrics_devices_stay_connected_and_calls_go_on(without_metrics, tmp_path):
    here = without_metrics
    server, api = here.servers[0], here.apis[0]
    devices = [
        Device(api.register(tmp_path), here.device_addresses[0], server.ca, protocol=protocol).connect()
        for protocol in (MQTTv5, MQTTv311)
    ]
    until = time.monotonic() + LOOKS_SECONDS
    while time.monotonic() < until:
        for device in devices:
            call(api, device)
        time.sleep(5.0)
    for device in devices:
        noted = api.get("/device-events", params={"device_id": device.device_id, "events_include": [-1, -2]})
        assert [one["payload"]["reason"] for one in noted.json()["items"]] == ["connected"]
    assert server.log_text().count("RabbitMQ collects no metrics") == 1
    # A server that starts finds them by their names, with the protocol that the store knows.
    assert server.stop() == 0
    server.start()
    for device in devices:
        call(api, device)
        device.close()
