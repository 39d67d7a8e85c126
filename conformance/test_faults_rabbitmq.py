"""RabbitMQ is killed under load: the only node, one of three, all three; and it runs out of memory."""

import time

import pytest

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
        load.measured("alarm (and rabbitmqctl) to first 503", load.wait_for_refusals(begun))
        time.sleep(ALARM_SECONDS)
        here.rabbitmqctl("set_vm_memory_high_watermark", USUAL_MEMORY)
        over = time.monotonic()
        load.measured("end of the alarm to first completed call", load.first_completed(over))
        load.run(1.0, until_completed=True)
    load.finish()
    assert load.losses() == {}
