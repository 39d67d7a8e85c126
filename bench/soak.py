#!/usr/bin/env python3
"""A day in ten minutes: hostile neighbours in turns beside a victim on one server, and whether memory, open files and the
database's log grow.

    target/conformance-venv/bin/python bench/soak.py
    target/conformance-venv/bin/python bench/soak.py --minutes 60 --turn 20

Each neighbour that wants no server of its own is there for a turn, then the next one, round and round: two rounds at least should fall into the last half.
Prints a line of JSON for each turn and one at the end: the slopes of the resident memory, the open files and the log's length over the last half, in per
cent of their means a minute. Ends with 1 if one is above 1 %, or if the victim was refused anything. COVEY_BIN names the binary
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

from testbed.neighbour import open_files, resident_mib  # noqa: E402
from testbed.neighbourhood import Neighbourhood, names, options  # noqa: E402

SLOPE_MAX = 1.0


def slope(times: list[float], values: list[float], beside: list[str]) -> float:
    """How much the values rise a minute, in per cent of their mean. Each neighbour takes another amount, so the line that
    fits best is one for each, and all have the same slope: what one takes in each of its turns is no rise."""
    mean, rise, spread = sum(values) / len(values), 0.0, 0.0
    for name in set(beside):
        of = [(at, value) for at, value, other in zip(times, values, beside) if other == name]
        middle = sum(at for at, _ in of) / len(of)
        usual = sum(value for _, value in of) / len(of)
        rise += sum((at - middle) * (value - usual) for at, value in of)
        spread += sum((at - middle) ** 2 for at, _ in of)
    return round(rise / spread * 60 / mean * 100, 3) if spread and mean else 0.0


class Looks(threading.Thread):
    """Looks at the server twice a second."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.is_over, self.beside = server, threading.Event(), ""
        self.seen: list[tuple[float, str, float, int, int]] = []

    def run(self) -> None:
        log = self.server.data / "covey.db-wal"
        while not self.is_over.wait(0.5):
            with contextlib.suppress(OSError):
                length = log.stat().st_size if log.exists() else 0
                self.seen.append(
                    (time.monotonic(), self.beside, resident_mib(self.server), open_files(self.server), length)
                )

    def told(self) -> dict:
        """The slopes over the last half of the time, of the least in each turn, and the least and the most of all."""
        half = (self.seen[0][0] + self.seen[-1][0]) / 2
        turns = itertools.groupby([one for one in self.seen if one[0] >= half], key=lambda one: one[1])
        # Of the first and the last one only a part may have been seen.
        turns = [list(turn) for _, turn in turns][1:-1]
        least = [(turn[0], [min(column) for column in zip(*(one[2:] for one in turn))]) for turn in turns]
        said = {"percent_a_minute": {}, "least_and_most": {}}
        for place, name in enumerate(("memory_mib", "files", "log_bytes")):
            values = [columns[place] for _, columns in least]
            times, beside = [first[0] for first, _ in least], [first[1] for first, _ in least]
            said["percent_a_minute"][name] = slope(times, values, beside)
            seen = [one[2 + place] for one in self.seen if one[0] >= half]
            said["least_and_most"][name] = (round(min(seen), 1), round(max(seen), 1))
        return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="(default: %(default)s)")
    parser.add_argument("--turn", type=float, default=3.0, help="seconds for each neighbour (default: %(default)s)")
    given = parser.parse_args()
    refused = 0
    with tempfile.TemporaryDirectory(prefix="covey-soak-") as folder, Neighbourhood(Path(folder)) as here:
        looks = Looks(here.server)
        looks.start()
        end = time.monotonic() + given.minutes * 60
        for name in itertools.cycle(name for name in names() if not options(name)):
            if time.monotonic() >= end:
                break
            looks.beside = name
            found = here.beside(name, given.turn)
            refused += sum(found[what]["failed"] for what in ("call", "login", "ready"))
            print(json.dumps({**found, "resident_mib": round(resident_mib(here.server), 1)}), flush=True)
        looks.is_over.set()
        looks.join()
        told = looks.told()
        print(json.dumps({"turns_of_s": given.turn, **told, "refused": refused}))
    return 1 if refused or max(told["percent_a_minute"].values()) > SLOPE_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
