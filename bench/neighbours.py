#!/usr/bin/env python3
"""Measures what hostile neighbours do to a victim: its calls (one each 50 ms), its device's logins (one a second) and looks
at `/readyz`, quietly and beside each neighbour, with the memory, disk and log that the server takes.

    target/conformance-venv/bin/python bench/neighbours.py
    target/conformance-venv/bin/python bench/neighbours.py --seconds 60 dashboards waiters
    target/conformance-venv/bin/python bench/neighbours.py --list

Where the machine lets it (root, cgroup v1), the victim has half a core and the neighbour another half. Prints a line of JSON for each
neighbour, then a table, and ends with 1 if a bound was passed: the victim's p99 at most twice the quiet one and 5 ms, logins
within 100 ms (p99), nothing refused, 250 MiB of memory above before, 100 kB of log a second, and memory and open
files back within a minute after the neighbour has gone (memory within 20 %). COVEY_BIN names the binary (target/release/covey unless told).
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
os.environ.setdefault("COVEY_BIN", str(PROJECT / "target" / "release" / "covey"))
sys.path.insert(0, str(PROJECT / "conformance"))

from testbed.hostile import NEIGHBOURS  # noqa: E402
from testbed.neighbourhood import FILES_LEFT_MAX, Neighbourhood, is_back, names, options  # noqa: E402

LOGIN_MS_MAX, MEMORY_MIB_MAX, LOG_KB_PER_S_MAX = 100.0, 250.0, 100.0


def passed(quiet: dict, found: dict) -> list[str]:
    """The bounds that were passed."""
    wrong = []
    for what in ("call", "ready"):
        if found[what]["p99"] > 2 * quiet[what]["p99"] + 5:
            wrong.append(f"{what} p99 {found[what]['p99']} ms, quiet {quiet[what]['p99']}")
    if found["login"]["p99"] > LOGIN_MS_MAX:
        wrong.append(f"login p99 {found['login']['p99']} ms")
    for what in ("call", "login", "ready"):
        if found[what]["failed"]:
            wrong.append(f"{what}: {found[what]['failed']} failed, first {found[what]['first_failure']}")
    if found["memory_mib"] > MEMORY_MIB_MAX:
        wrong.append(f"memory {found['memory_mib']} MiB above before")
    if found["log_kb_per_s"] > LOG_KB_PER_S_MAX:
        wrong.append(f"log {found['log_kb_per_s']} kB/s")
    if not is_back(found.get("memory_after_mib", 0.0), found.get("memory_before_mib", 0.0)):
        wrong.append(f"{found['memory_after_mib']} MiB stay")
    if found.get("files_left", 0) > FILES_LEFT_MAX:
        wrong.append(f"{found['files_left']} files stay open")
    if not found["was_there"]:
        wrong.append("the neighbour ended by itself")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("neighbours", nargs="*", help="which (all unless told)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each is there (default: %(default)s)")
    parser.add_argument(
        "--settle", type=float, default=60.0, help="in how long memory is to be back after it (default: %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="say what each one does, and end")
    given = parser.parse_args()
    if given.list:
        for name, act in NEIGHBOURS.items():
            print(f"{name:18} {act.__doc__ or ''}")
        return 0
    if unknown := set(given.neighbours) - set(names()):
        parser.error(f"no such neighbours: {', '.join(sorted(unknown))}; --list names them")
    rows, is_wrong = [], False
    for name in given.neighbours or names():
        # Each finds a fresh server: what one leaves behind is not the next one's.
        with (
            tempfile.TemporaryDirectory(prefix="covey-neighbours-") as folder,
            Neighbourhood(Path(folder), *options(name)) as here,
        ):
            here.warm()
            quiet = here.quiet(given.seconds)
            found = here.beside(name, given.seconds, settle=given.settle)
            wrong = passed(quiet, found)
            is_wrong |= bool(wrong)
            print(json.dumps({**found, "quiet": quiet, "half_a_core": here.is_limited, "passed": wrong}), flush=True)
            rows.append((name, quiet, found, wrong))
    head = ("neighbour", "call p50", "p99 (quiet)", "max", "login p99", "ready p99", "MiB", "MiB, s after", "disk MB/s", "log kB/s")
    print("\n" + " ".join(f"{one:>18}" if at == 0 else f"{one:>14}" for at, one in enumerate(head)), file=sys.stderr)
    for name, quiet, found, wrong in rows:
        call = found["call"]
        cells = (
            call["p50"],
            f"{call['p99']} ({quiet['call']['p99']})",
            call["max"],
            found["login"]["p99"],
            found["ready"]["p99"],
            found["memory_mib"],
            f"{found.get('memory_after_mib')}, {found.get('memory_after_s')}",
            found["disk_mb_per_s"],
            found["log_kb_per_s"],
        )
        print(f"{name:>18} " + " ".join(f"{one!s:>14}" for one in cells), file=sys.stderr)
        for one in wrong:
            print(f"{'':>18} beyond a bound: {one}", file=sys.stderr)
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
