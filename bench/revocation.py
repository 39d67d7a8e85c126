#!/usr/bin/env python3
"""Measures how long a device stays connected whose certificate is revoked, while thousands of others are connected, with the
real server and `covey sim`, on this machine.

    target/conformance-venv/bin/python bench/revocation.py --devices 5000 --revoked 200

Of the devices, `--revoked` are clients of this script. Each is revoked over the REST API, one after the other; it counts from
the sending of the request to the DISCONNECT that the client gets, and whether the certificate is refused after that. Prints a
line of JSON, in milliseconds. COVEY_BIN names the binary (target/release/covey unless told).
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from connections import OPTIONS, Fleet, percentile, wait_for  # noqa: E402
from cryptography import x509  # noqa: E402
from testbed.api import Api  # noqa: E402
from testbed.raw_device import RawDevice  # noqa: E402
from testbed.server import Server, kept_ports  # noqa: E402

NOT_AUTHORIZED = 0x87


def seconds(server: Server, api: Api, identity) -> tuple[float, float]:
    """How long until the device was cut off, and until the request was answered."""
    serial = x509.load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number
    device, ended = RawDevice(server, identity), []
    assert device.connect().reason == 0
    device.subscribe(*(f"srv/{identity.sn}/{level}" for level in ("tsk", "rsp", "cmt", "eva")))

    def listen() -> None:
        while (packet := device.next(30)) and packet.kind != "DISCONNECT":
            pass
        ended.append((time.monotonic(), packet.reason))

    listening = threading.Thread(target=listen)
    listening.start()
    began = time.monotonic()
    answer = api.post(f"/certificates/{serial:x}/revoke", json={"reason": "key_compromise"})
    answered = time.monotonic() - began
    assert answer.status_code == 200, answer.text
    listening.join(30)
    at, reason = ended[0]
    assert reason == NOT_AUTHORIZED
    device.close()
    again = RawDevice(server, identity)
    assert again.connect().reason == NOT_AUTHORIZED, "it came in again"
    again.close()
    return at - began, answered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=5000)
    parser.add_argument("--revoked", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", *OPTIONS, log="warn", ports=kept_ports())
        fleet = None
        try:
            server.start()
            api = Api(server.http, server.key)
            count = arguments.devices - arguments.revoked
            fleet = Fleet(server, Path(folder), count)
            wait_for(server, count, fleet)
            identities = [api.register(Path(folder)) for _ in range(arguments.revoked)]
            found = [seconds(server, api, identity) for identity in identities]
            wait_for(server, count, fleet)
        finally:
            if fleet:
                fleet.close()
            server.kill()
    cut = [round(1000 * one, 2) for one, _ in found]
    answered = [round(1000 * one, 2) for _, one in found]
    told = {"devices": arguments.devices, "revoked": arguments.revoked, "load": os.getloadavg()[0]}
    told |= {"cut_p50": statistics.median(cut), "cut_p99": percentile(cut, 0.99), "cut_max": max(cut)}
    print(json.dumps(told | {"answered_p50": statistics.median(answered), "answered_p99": percentile(answered, 0.99)}))


if __name__ == "__main__":
    main()
