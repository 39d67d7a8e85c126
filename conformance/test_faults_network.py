"""The network between servers and their broker or database: connections break, and then nothing passes for a while
and nobody is told."""

import os
import time

import pytest

from testbed.fault_load import ROUNDS

CUT_SECONDS = 15.0
# Which servers are cut off; the others go on. COVEY_FAULT_CUTS=first,all tests both for each way.
CUTS = os.environ.get("COVEY_FAULT_CUTS", "")
LINK = ("COVEY_LINK", "COVEY_RABBITMQ_MANAGEMENT")
WAYS = [
    ("postgres+rabbitmq", LINK, "first"),
    ("postgres+mosquitto", LINK[:1], "all"),
    ("postgres+rabbitmq", ("COVEY_STORE",), "first"),
]
if CUTS:
    WAYS = [(shape, proxied, cut) for shape, proxied, _ in WAYS for cut in CUTS.split(",")]


@pytest.mark.timeout(240 + 90 * ROUNDS)
@pytest.mark.parametrize(
    ("shape", "proxied", "cut"), WAYS, ids=lambda value: value if isinstance(value, str) else value[0]
)
def test_connections_break_and_then_nothing_passes(site, shape, proxied, cut):
    here = site(shape, proxied=proxied)
    load = here.start_load(f"network of {proxied[0]}, {cut} cut off, {shape}")
    everyone = [proxy for proxies in here.proxies for proxy in proxies.values()]
    chosen = list(here.proxies[0].values()) if cut == "first" else everyone
    for _ in range(ROUNDS):
        broken = time.monotonic()
        assert sum(proxy.reset() for proxy in everyone) > 0
        load.measured("reset to first completed call", load.first_completed(broken))
        load.run(1.0, until_completed=True)

        begun = time.monotonic()
        for proxy in chosen:
            proxy.cut()
        time.sleep(CUT_SECONDS)
        done = sum(one.begun > begun for one in load.completed)
        load.measured(f"completed calls while cut off for {CUT_SECONDS:.0f} s", done)
        for proxy in chosen:
            proxy.heal()
        healed = time.monotonic()
        load.measured("whole again to first completed call", load.first_completed(healed))
        load.run(1.0, until_completed=True)
    load.finish()
