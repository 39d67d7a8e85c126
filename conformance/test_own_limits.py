"""Limits of organisations' and keys' own (docs/keys.md, "Limits of their own"), as an operator sets them and a client of
somebody else meets them."""

import subprocess
import time

import pytest

from testbed.api import is_problem
from testbed.server import BINARY, Server


def covey(server: Server, *arguments) -> subprocess.CompletedProcess:
    command = [str(BINARY), *arguments, "--data", str(server.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=server.environment())


def statuses(api, count: int) -> list[int]:
    return [api.get("/devices").status_code for _ in range(count)]


def is_held_up_within(api, seconds: float, wanted: bool) -> bool:
    """Whether it comes to be so within this time, by asking eight times in a row."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (429 in statuses(api, 8)) == wanted:
            return True
    return False


@pytest.mark.every_shape
def test_a_key_is_held_up_and_let_go_by_one_command(new_server, new_api):
    server = new_server()
    admin = new_api(server)
    made = admin.post("/api-keys", json={"name": "busy", "rights": ["devices:read"]}).json()
    busy, other = new_api(server, made["key"]), new_api(server, admin.key_with(["devices:read"]))
    assert statuses(busy, 50) == [200] * 50
    assert "ratelimit" not in busy.get("/devices").headers
    done = covey(server, "key", "limit", str(made["id"]), "--requests-per-s", "5")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()][1] == ["requests-per-s", "5", "5"]
    answers = [busy.get("/devices") for _ in range(30)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and all(is_problem(answer, 429) and answer.headers["retry-after"] == "1" for answer in refused)
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"key";q=5;w=1'}
    assert refused[0].headers["ratelimit"].startswith('"key";r=0;t=')
    time.sleep(int(refused[-1].headers["retry-after"]))
    assert busy.get("/devices").status_code == 200
    # For two seconds at the rate of the limit nothing is refused.
    for _ in range(8):
        time.sleep(0.25)
        assert busy.get("/devices").status_code == 200
    assert statuses(other, 50) == [200] * 50
    server.stop()
    server.start()
    assert is_held_up_within(new_api(server, made["key"]), 2.0, True)
    assert covey(server, "key", "limit", str(made["id"]), "--requests-per-s", "default").returncode == 0
    assert statuses(new_api(server, made["key"]), 50) == [200] * 50
    bad = covey(server, "org", "limit", "default", "--streams", "some")
    assert bad.returncode == 2 and "default" in bad.stderr
    audit = covey(server, "audit", "list", "--action", "key.limits").stdout
    assert audit.count("key.limits") == 2 and "requests_per_s" in audit


@pytest.mark.every_shape
def test_an_organisation_has_limits_over_all_its_keys_and_does_not_set_them_itself(new_server, new_api):
    server = new_server()
    admin = new_api(server)
    keys = [admin.key_with(["keys:write", "devices:read"], org="acme") for _ in range(2)]
    first, second = (new_api(server, key) for key in keys)
    org = first.get("/whoami").json()["org_id"]
    assert is_problem(first.put(f"/orgs/{org}/limits", json={"streams": 9}), 403)
    done = covey(server, "org", "limit", "acme", "--requests-per-s", "6", "--streams", "9")
    assert done.returncode == 0, done.stderr
    time.sleep(1.1)
    assert (statuses(first, 4) + statuses(second, 4)).count(429) > 0
    time.sleep(1.1)
    own = [key["id"] for key in first.get("/api-keys").json()][0]
    assert is_problem(first.put(f"/api-keys/{own}/limits", json={"streams": 10}), 422)
    assert first.get(f"/orgs/{org}/limits").json()["own"]["streams"] == 9
    assert is_problem(first.get("/orgs/1/limits"), 404)
    assert statuses(admin, 50) == [200] * 50


@pytest.mark.several_servers
def test_a_limit_holds_within_two_seconds_on_every_server(pairs, new_api):
    first, second = pairs.new()
    admin = new_api(first)
    made = admin.post("/api-keys", json={"name": "busy", "rights": ["devices:read"]}).json()
    there = new_api(second, made["key"])
    assert statuses(there, 50) == [200] * 50
    assert admin.put(f"/api-keys/{made['id']}/limits", json={"requests_per_s": 4}).status_code == 200
    assert is_held_up_within(there, 2.0, True)
    assert admin.put(f"/api-keys/{made['id']}/limits", json={}).status_code == 200
    assert is_held_up_within(there, 2.0, False)
