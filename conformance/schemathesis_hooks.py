"""What schemathesis cannot know: that no device answers, which device there is, how a signing request looks, and
that it needs the key with which it calls."""

import itertools
import os
from pathlib import Path

import schemathesis

from certificate import Signer

WAIT_SECONDS_MAX = 1
# Made by openssl, without a CN, so that it is good for any serial number.
SIGNING_REQUEST = (Path(__file__).parent / "any-name.csr").read_text()
# A certificate that may be registered in place of a key; a second time, it is in use.
CERTIFICATE = Signer.forged().chain
# A device that is registered, under a number that nothing else tries.
DEVICE_ID = int(os.environ["COVEY_CONFORMANCE_DEVICE_ID"])
# The number of its own key.
KEY_ID = int(os.environ["COVEY_CONFORMANCE_KEY_ID"])
UNKNOWN_ID = 4_321_987

numbers = itertools.count()


@schemathesis.hook
def before_call(_context, case, _kwargs):
    """Shortens waits that are in their range, keeps what all calls need from being deleted, and makes good values
    good where no schema can say how."""
    query = case.query if isinstance(case.query, dict) else {}
    try:
        if WAIT_SECONDS_MAX < float(query["wait"]) <= 60:
            query["wait"] = WAIT_SECONDS_MAX
    except (KeyError, TypeError, ValueError):
        pass
    if case.method.upper() == "DELETE":
        spare(case, "/api-keys/", KEY_ID)
        spare(case, "/devices/", DEVICE_ID)
    if case.meta is not None and case.meta.generation.mode.is_positive:
        make_good(case)


def spare(case, path: str, number: int) -> None:
    """Turns a deletion of this one into one of nothing."""
    for name, value in (case.path_parameters or {}).items():
        if path in case.operation.path and str(value) == str(number):
            case.path_parameters[name] = UNKNOWN_ID


def make_good(case) -> None:
    body = case.body if isinstance(case.body, dict) else {}
    if isinstance(body.get("csr"), str):
        body["csr"] = SIGNING_REQUEST
    if isinstance(body.get("certificate_pem"), str):
        body["certificate_pem"] = CERTIFICATE
    if "ext_task_id" in body and "device_id" in body:
        body["device_id"] = DEVICE_ID
    if case.headers and "Idempotency-Key" in case.headers:
        # One that was used with another body is refused.
        case.headers["Idempotency-Key"] = f"key-{next(numbers)}"
