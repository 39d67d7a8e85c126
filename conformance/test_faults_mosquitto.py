"""Mosquitto is killed under load, and loses its last second: devices repeat what no `cmt` has come for."""

import time

import pytest

from testbed.fault_load import ROUNDS

GONE_SECONDS = 6.0


@pytest.mark.timeout(180 + 60 * ROUNDS)
def test_mosquitto_is_killed_and_comes_back(site, own_services):
    here = site("postgres+mosquitto")
    load = here.start_load("Mosquitto killed, postgres+mosquitto")
    process = here.deployment.facts["mosquitto"]
    for _ in range(ROUNDS):
        killed = own_services.kill(process)
        time.sleep(max(0.0, killed + GONE_SECONDS - time.monotonic()))
        started = own_services.start(process)
        load.measured("start of Mosquitto to first completed call", load.first_completed(started))
        load.measured("then all devices connected", load.fleet.wait_for_all())
        load.run(1.0, until_completed=True)
    load.finish()
    assert load.refusals() > 0, "calls are not taken on for ever without a broker"
    assert load.losses() == {}, "a server answers, whatever becomes of its broker"
