#!/usr/bin/env python3
"""Measures what one who reads much, or takes nothing, does to others: what a call of somebody else takes beside it, and
the server's memory.

    target/conformance-venv/bin/python bench/neighbours.py streams --streams 200 --events 600
    target/conformance-venv/bin/python bench/neighbours.py dashboards --streams 50 --events 600
    target/conformance-venv/bin/python bench/neighbours.py results --results 200

`streams`: requests for the whole stream on one HTTP/2 connection that takes nothing. `dashboards`: readers that take all
of it as fast as it comes; also how long the first and the last of them need. `results`: four at once ask for a task with
many results of 200 kB. Each prints a line of JSON: the victim's call (one each 50 ms) quiet and beside it, and the
peak of the resident memory above that of the quiet server. COVEY_BIN names the binary (target/release/covey unless
told).
"""

import argparse
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

from testbed.api import RIGHTS, Api  # noqa: E402
from testbed.device import Device  # noqa: E402
from testbed.http2 import Deaf  # noqa: E402
from testbed.neighbour import Reader, Watch, fill, resident_mib  # noqa: E402
from testbed.server import Server  # noqa: E402

EVENT_BYTES = 60_000


def streams(server, arguments, _task) -> dict:
    deaf = Deaf(server.https, server.ca)
    for _ in range(arguments.streams):
        deaf.get("/api/v1/stream?cursor=0", server.key)
    time.sleep(arguments.seconds)
    deaf.close()
    return {}


def dashboards(server, arguments, _task) -> dict:
    readers = [Reader(server.http, server.key, arguments.events) for _ in range(arguments.streams)]
    deadline = time.monotonic() + arguments.seconds
    whole = [reader.join(max(0.0, deadline - time.monotonic())) for reader in readers]
    took = sorted(reader.took_s for reader in readers if reader.took_s is not None)
    for reader in readers:
        reader.close()
    ends = sorted({reader.end.decode(errors="replace") for reader in readers if reader.end})
    first, last = (round(took[0], 2), round(took[-1], 2)) if took else (None, None)
    return {"whole": sum(whole), "of": len(readers), "first_s": first, "last_s": last, "ends": ends}


def results(server, _arguments, task) -> dict:
    sizes: list[int] = []

    def ask() -> None:
        with Api(server.http, server.key) as api:
            answer = api.get(f"/device-tasks/{task}")
            sizes.append(len(answer.content))

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    return {"answer_bytes": max(sizes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["streams", "dashboards", "results"])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--events", type=int, default=600)
    parser.add_argument("--results", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder / "data", "--events-per-second-max", "0", log="warn").start()
        try:
            print(json.dumps({"what": arguments.what, **measured(server, folder, arguments)}))
        finally:
            server.drop()


def measured(server, folder: Path, arguments) -> dict:
    api = Api(server.http, server.key)
    identity = api.register(folder)
    device = Device(identity, server.mqtts, server.ca).connect()
    victim_key = api.key_with(RIGHTS, org="victim")
    victim_api = Api(server.http, victim_key)
    (folder / "victim").mkdir()
    victim = victim_api.register(folder / "victim")
    task = None
    if arguments.what == "results":
        task = api.create(device)
        device.take(task)
        for number in range(arguments.results):
            body = json.dumps({"n": number, "pad": "x" * 200_000})
            assert device.res(task, 206, body, ext_id=number) == 0
    else:
        fill(server, device, api, arguments.events, EVENT_BYTES)
    time.sleep(2.0)
    quiet_mib = resident_mib(server)

    def call(api: Api):
        return api.request_task(victim)

    with Watch(server, victim_key, call) as quiet:
        time.sleep(5.0)
    with Watch(server, victim_key, call) as beside:
        found = {"streams": streams, "dashboards": dashboards, "results": results}[arguments.what](
            server, arguments, task
        )
    time.sleep(10.0)
    told = {"quiet": quiet.told(), "beside": beside.told(), **found}
    return {
        **told,
        "peak_above_quiet_mib": round(beside.peak_mib - quiet_mib, 1),
        "after_mib": round(resident_mib(server) - quiet_mib, 1),
        "refused": beside.refused[:3],
    }


if __name__ == "__main__":
    main()
