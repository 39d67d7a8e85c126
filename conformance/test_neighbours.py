"""Whatever a hostile neighbour does, a victim's calls and logins are answered, and memory and log stay within bounds.

`bench/neighbours.py` is the same at full length, and holds the victim to twice its quiet time.
"""

import json

import pytest

from testbed.neighbourhood import Neighbourhood, names

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]

SECONDS = 4.0
# In milliseconds, on a machine that runs other tests too; most rows were above it for good before they had a bound.
MEDIAN_MAX, LONGEST = 400.0, 8_000.0
MEMORY_MIB_MAX, LOG_KB_PER_S_MAX = 250.0, 100.0


@pytest.fixture(scope="module")
def neighbourhood(tmp_path_factory):
    with Neighbourhood(tmp_path_factory.mktemp("neighbours")) as neighbourhood:
        yield neighbourhood
        assert not neighbourhood.server.panics()


@pytest.mark.parametrize("name", names())
def test_a_victim_is_served_beside(neighbourhood, name):
    told = neighbourhood.beside(name, SECONDS)
    print(json.dumps(told))
    assert told["was_there"], told
    for what in ("call", "login", "ready"):
        seen = told[what]
        assert seen["count"] and not seen["failed"], told
        assert seen["p50"] <= MEDIAN_MAX and seen["max"] <= LONGEST, told
    assert told["memory_mib"] <= MEMORY_MIB_MAX, told
    assert told["log_kb_per_s"] <= LOG_KB_PER_S_MAX, told
