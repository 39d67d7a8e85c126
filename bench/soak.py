#!/usr/bin/env python3
"""A day in ten minutes: hostile neighbours in turns beside a victim on one server, and whether memory, open files and the
database's log grow.

    target/conformance-venv/bin/python bench/soak.py
    target/conformance-venv/bin/python bench/soak.py --minutes 30 --turn 20

Each neighbour that wants no server of its own is there for a turn, then the next one, round and round. Prints a line of JSON for each turn and one at the
end: the slopes of the resident memory, the open files and the log's length over the last half, in per cent of their means a
minute. Ends with 1 if one is above 1 %, or if the victim was refused anything. COVEY_BIN names the binary
(target/release/covey unless told).
"""

import argparse
import contextlib
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
os.environ.setdefault("COVEY_BIN", str(PROJECT / "target" / "release" / "covey"))
sys.path.insert(0, str(PROJECT / "conformance"))

from testbed.neighbour import resident_mib  # noqa: E402
from testbed.neighbourhood import Neighbourhood, names, options  # noqa: E402

SLOPE_MAX = 1.0


def slope(times: list[float], values: list[float]) -> float:
    """How much the line that fits best rises a minute, in per cent of the mean."""
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in times)
    if not spread or not mean:
        return 0.0
    rise = sum((at - middle) * (value - mean) for at, value in zip(times, values)) / spread
    return round(rise * 60 / mean * 100, 3)


class Looks(threading.Thread):
    """Looks at the server twice a second."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.is_over = server, threading.Event()
        self.seen: list[tuple[float, float, int, int]] = []

    def run(self) -> None:
        log = self.server.data / "covey.db-wal"
        files = Path(f"/proc/{self.server.process.pid}/fd")
        while not self.is_over.wait(0.5):
            with contextlib.suppress(OSError):
                length = log.stat().st_size if log.exists() else 0
                self.seen.append((time.monotonic(), resident_mib(self.server), len(list(files.iterdir())), length))

    def slopes(self) -> dict:
        """Over the last half of the time."""
        half = (self.seen[0][0] + self.seen[-1][0]) / 2
        times, *columns = zip(*[one for one in self.seen if one[0] >= half])
        return dict(zip(("memory", "files", "log"), (slope(times, column) for column in columns)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="(default: %(default)s)")
    parser.add_argument("--turn", type=float, default=5.0, help="seconds for each neighbour (default: %(default)s)")
    given = parser.parse_args()
    refused = 0
    with tempfile.TemporaryDirectory(prefix="covey-soak-") as folder, Neighbourhood(Path(folder)) as here:
        looks = Looks(here.server)
        looks.start()
        end = time.monotonic() + given.minutes * 60
        for name in itertools.cycle(name for name in names() if not options(name)):
            if time.monotonic() >= end:
                break
            found = here.beside(name, given.turn)
            refused += sum(found[what]["failed"] for what in ("call", "login", "ready"))
            print(json.dumps({**found, "resident_mib": round(resident_mib(here.server), 1)}), flush=True)
        looks.is_over.set()
        looks.join()
        slopes = looks.slopes()
        print(json.dumps({"turns_of_s": given.turn, "percent_a_minute": slopes, "refused": refused}))
    return 1 if refused or max(slopes.values()) > SLOPE_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
