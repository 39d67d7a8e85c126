"""What schemathesis cannot know: that no device answers, which device there is, how a signing request looks, and
that it needs the key with which it calls."""

import itertools
import os
from pathlib import Path

import schemathesis

from testbed.certificate import Signer

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
# What the organisation has at least, of everything that can be limited.
ORG_LIMIT_MIN = 5_000

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
    if case.operation.path.endswith("/limits"):
        leave_room(case)
    if case.meta is not None and case.meta.generation.mode.is_positive:
        make_good(case)


def leave_room(case) -> None:
    """Takes from nobody what all calls need: its own key is left alone, and its organisation keeps much."""
    if case.method.upper() != "PUT":
        return
    spare(case, "/api-keys/", KEY_ID)
    body = case.body if isinstance(case.body, dict) else {}
    if "/orgs/" in case.operation.path:
        body.pop("bytes_per_s", None)
        body.pop("work_per_s", None)
        for name in limits_in(body):
            body[name] = max(body[name], ORG_LIMIT_MIN)


def limits_in(body: dict) -> list[str]:
    """The members that are limits which may be."""
    return [name for name, value in body.items() if type(value) is int and value > 0]


def spare(case, path: str, number: int) -> None:
    """Turns a deletion of this one into one of nothing."""
    for name, value in (case.path_parameters or {}).items():
        if path in case.operation.path and str(value) == str(number):
            case.path_parameters[name] = UNKNOWN_ID


def make_good(case) -> None:
    body = case.body if isinstance(case.body, dict) else {}
    query = case.query if isinstance(case.query, dict) else {}
    path = case.operation.path
    # What goes together, and what does not.
    if "cursor" in query:
        query.pop("page", None)
    # Only numbers that were issued are taken.
    if path.endswith("/device-events") and "cursor" in query:
        query["cursor"] = "newest"
    if "last_event_id" in query:
        query["last_event_id"] = 0
    if "before" in query:
        query.pop("after", None)
    if path.endswith("/device-events/series"):
        for name in ("path", "from", "until", "bucket_s"):
            query.pop(name, None)
        query["tag"] = "310"
    if path.endswith("/usage"):
        # Not so long before the other day; and no day of long ago.
        query.pop("from", None)
        if "to" in query:
            query["to"] = "2026-12-01"
    if "/api-keys/" in path and path.endswith("/limits"):
        # No key gets more than its organisation has.
        body.update(dict.fromkeys(limits_in(body), 1))
    if path.endswith("/device-events/fields"):
        query["tag"] = "310"
    if path.endswith("/twin/history"):
        query["resource"] = "led"
    if case.headers and "Prefer" in case.headers:
        # Schemas let any member through, so that clients outlive servers; this refuses those that nobody knows.
        case.headers["Prefer"] = "handling=lenient"
    if case.headers and "If-Match" in case.headers:
        case.headers["If-Match"] = "*"
    if "/webhooks" in path and case.method.upper() in ("POST", "PUT", "PATCH") and isinstance(case.body, dict):
        # Nobody listens there, so it may only be kept for later; a secret is made if none is given.
        if "url" in body or "is_active" in body:
            body["is_active"] = False
        if "url" in body:
            body["url"] = "https://receiver.example/covey"
        for name in ("secret", "headers", "filter"):
            body.pop(name, None)
    if path.endswith("/twin"):
        for side in ("reported", "desired"):
            if isinstance(body.get(side), dict):
                body[side] = {"led": 1}
    if path.endswith("/nodes") and isinstance(body.get("uid"), str):
        # It is bounded in bytes, which no schema can say.
        body["uid"] = body["uid"][:32]
    if "/units" in path and "address" in body:
        # An IP address at which units may be; and a name is bounded in bytes.
        number = next(numbers)
        body["address"] = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        if isinstance(body.get("name"), str):
            body["name"] = body["name"][:16]
    if isinstance(body.get("csr"), str):
        body["csr"] = SIGNING_REQUEST
        if body.get("certificate") == "none":
            # One or the other, which no schema can say.
            del body["certificate"]
    if path.endswith("/devices") and case.method.upper() == "POST":
        # Both or none, with a CA that was imported, which no schema can say.
        body.pop("ca", None)
        body.pop("certificate_pem", None)
        # A password goes with one form alone, and that with a key that is made here.
        if body.get("bundle") != "pkcs12":
            body.pop("bundle_password", None)
        if "csr" in body or body.get("certificate") == "none":
            for name in ("bundle", "bundle_password"):
                body.pop(name, None)
    if isinstance(body.get("certificate_pem"), str):
        body["certificate_pem"] = CERTIFICATE
    if path.endswith("/access/explain"):
        # One of the operations of the document, with whatever stands for its parameters.
        query["operation"] = "POST /device-tasks"
    if path.endswith("/claims") and case.method.upper() == "POST":
        # An end that has not come; somebody who may enrol, and how many.
        body["expires_at"] = "2999-12-31T00:00:00Z"
        if not body.get("serials"):
            body["pattern"] = "LAMP-*"
        if body.get("limit") is None:
            body["limit"] = 1
    if "/webhooks" in path and body.get("event_type") != "msg-event":
        body.pop("device_id_in_path", None)
    if path.endswith("/api-keys") and case.method.upper() == "POST":
        # One at least of what a grant may name is named, and no text has a NUL.
        body.pop("grants", None)
        # An end that has not come, and ranges of addresses.
        if isinstance(body.get("expires_at"), str):
            body["expires_at"] = "2999-12-31T00:00:00Z"
        if isinstance(body.get("addresses"), list):
            body["addresses"] = ["10.1.0.0/16", "fd00::1"][: len(body["addresses"])]
    if path.endswith("/users") and case.method.upper() == "POST":
        # One that is there; and small letters may be more than large ones.
        body.pop("org", None)
        if isinstance(body.get("name"), str):
            body["name"] = body["name"][:40]
    if path.endswith("/auth/invitation") and isinstance(body.get("password"), str):
        # It is bounded in bytes, which no schema can say.
        body["password"] = "correct horse battery"
    if "ext_task_id" in body and "device_id" in body:
        body["device_id"] = DEVICE_ID
    if case.headers and "Idempotency-Key" in case.headers:
        # One that was used with another body is refused.
        case.headers["Idempotency-Key"] = f"key-{next(numbers)}"
