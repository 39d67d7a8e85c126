"""What schemathesis cannot know: that no device answers, which device there is, and how a signing request looks."""

import itertools
import os
from pathlib import Path

import schemathesis

WAIT_SECONDS_MAX = 1
# Made by openssl, without a CN, so that it is good for any serial number.
SIGNING_REQUEST = (Path(__file__).parent / "any-name.csr").read_text()
# A device that is registered, under a number that nothing else tries.
DEVICE_ID = int(os.environ["COVEY_CONFORMANCE_DEVICE_ID"])

numbers = itertools.count()


@schemathesis.hook
def before_call(_context, case, _kwargs):
    """Shortens waits that are in their range, and makes good values good where no schema can say how."""
    query = case.query if isinstance(case.query, dict) else {}
    try:
        if WAIT_SECONDS_MAX < float(query["wait"]) <= 60:
            query["wait"] = WAIT_SECONDS_MAX
    except (KeyError, TypeError, ValueError):
        pass
    if case.meta is not None and case.meta.generation.mode.is_positive:
        make_good(case)


def make_good(case) -> None:
    body = case.body if isinstance(case.body, dict) else {}
    if isinstance(body.get("csr"), str):
        body["csr"] = SIGNING_REQUEST
    if "ext_task_id" in body and "device_id" in body:
        body["device_id"] = DEVICE_ID
    if case.headers and "Idempotency-Key" in case.headers:
        # One that was used with another body is refused.
        case.headers["Idempotency-Key"] = f"key-{next(numbers)}"
