"""Tokens that servers make from API keys: no more than the key, no longer, from nowhere else."""

import stat
import subprocess
import time

import httpx
import jwt
import pytest
from jwt import PyJWKClient

from testbed.api import is_problem
from testbed.server import BINARY


def bearer(token: str) -> dict:
    return {"authorization": f"Bearer {token}"}


def make(server, key: str, **wanted) -> httpx.Response:
    return httpx.post(f"{server.http}/api/v1/auth/token", json=wanted, headers={"x-api-key": key})


def whoami(server, token: str) -> httpx.Response:
    return httpx.get(f"{server.http}/api/v1/whoami", headers=bearer(token))


def test_a_token_from_a_key_may_no_more_and_is_verified_by_others(api, server):
    key = api.key_with(["devices:read", "tasks:read"])
    answer = make(server, key, rights=["devices:read"])
    made = answer.json()
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    assert made["token_type"] == "Bearer" and made["expires_in"] == 900 and made["rights"] == ["devices:read"]
    token = made["access_token"]
    who = whoami(server, token).json()
    assert who["kind"] == "token" and who["rights"] == ["devices:read"] and who["subject"].startswith("key:")
    assert httpx.get(f"{server.http}/api/jwt/v1/devices", headers=bearer(token)).status_code == 200
    assert is_problem(httpx.get(f"{server.http}/api/v1/device-tasks", headers=bearer(token)), 403)
    public = PyJWKClient(f"{server.http}/.well-known/jwks.json").get_signing_key_from_jwt(token)
    claims = jwt.decode(token, public.key, algorithms=["ES256"], audience=who["issuer"], issuer=who["issuer"])
    assert claims["orgId"] == who["org_id"] and claims["exp"] - claims["iat"] == 900
    assert make(server, key).json()["rights"] == ["tasks:read", "devices:read"]
    assert is_problem(make(server, key, rights=["tasks:write"]), 403)
    without = httpx.post(f"{server.http}/api/v1/auth/token", headers={"x-api-key": key})
    assert without.json()["expires_in"] == 900, "no body is as good as an empty object"
    for seconds, status in ((10, 200), (86_400, 200), (9, 422), (86_401, 422), (-1, 422)):
        assert make(server, key, expires_in=seconds).status_code == status, seconds
    again = httpx.post(f"{server.http}/api/v1/auth/token", json={}, headers=bearer(token))
    assert is_problem(again, 409), "none is made from a token"


def test_a_token_dies_with_its_key_within_a_second(api, server):
    made = api.post("/api-keys", json={"name": "short", "rights": ["devices:read"]}).json()
    token = make(server, made["key"]).json()["access_token"]
    assert whoami(server, token).status_code == 200
    api.delete(f"/api-keys/{made['id']}")
    answer = whoami(server, token)
    assert is_problem(answer, 401) and "revoked" in answer.json()["detail"]
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_token_does_not_outlive_its_key_nor_leave_its_addresses(api, server):
    ends = time.time() + 12
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends))
    made = api.post("/api-keys", json={"name": "x", "rights": [], "expires_at": at, "addresses": ["127.0.0.0/8"]})
    token = make(server, made.json()["key"], expires_in=3_600).json()
    assert token["expires_in"] <= 12
    who = whoami(server, token["access_token"]).json()
    assert who["addresses"] == ["127.0.0.0/8"] and who["expires_at"] <= at.replace("Z", ".999Z")
    elsewhere = api.post("/api-keys", json={"name": "y", "rights": [], "addresses": ["10.0.0.0/8"]}).json()["key"]
    assert is_problem(make(server, elsewhere), 401)
    time.sleep(max(0.0, ends - time.time()) + 0.5)
    assert is_problem(whoami(server, token["access_token"]), 401)


def test_a_token_has_the_grants_of_its_key_and_no_others(api, server, tmp_path):
    berlin, paris = api.register(tmp_path), api.register(tmp_path)
    for identity, site in ((berlin, "berlin"), (paris, "paris")):
        assert api.put(f"/devices/{identity.device_id}", json={"tag": "site", "value": site}).status_code == 200
    grant = {"rights": ["devices:read", "tasks:read"], "tags": [{"tag": "site", "value": "berlin"}]}
    key = api.post("/api-keys", json={"name": "berlin", "rights": [], "grants": [grant]}).json()["key"]
    for wanted in ({}, {"rights": ["devices:read"]}):
        token = make(server, key, **wanted).json()["access_token"]
        seen = httpx.get(f"{server.http}/api/v1/devices", headers=bearer(token)).json()
        sns = {device["sn"] for device in (seen["items"] if isinstance(seen, dict) else seen)}
        assert berlin.sn in sns and paris.sn not in sns
    tasks = httpx.get(f"{server.http}/api/v1/device-tasks", headers=bearer(token))
    assert is_problem(tasks, 403), "it was left out"


@pytest.mark.embedded
def test_the_private_key_is_its_owners_and_is_found_again(new_server):
    server = new_server()
    file = server.data / "pki" / "token.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = make(server, server.key).json()["access_token"]
    keys = httpx.get(f"{server.http}/.well-known/jwks.json").json()["keys"]
    assert len(keys) == 1 and set(keys[0]) == {"alg", "crv", "kid", "kty", "use", "x", "y"}
    assert server.stop() == 0
    server.start()
    assert whoami(server, token).status_code == 200, "over a restart"
    assert server.stop() == 0
    file.unlink()
    server.start()
    assert whoami(server, token).status_code == 200, "until it ends, also after the key was replaced"
    assert len(httpx.get(f"{server.http}/.well-known/jwks.json").json()["keys"]) == 2
    other = make(server, server.key).json()["access_token"]
    assert jwt.get_unverified_header(other)["kid"] != jwt.get_unverified_header(token)["kid"]
    assert token not in server.log_text() and "PRIVATE" not in server.log_text()


@pytest.mark.several_servers
def test_every_server_takes_the_tokens_of_every_other(pair):
    first, second = pair
    for one, other in ((first, second), (second, first)):
        token = make(one, first.key).json()["access_token"]
        assert whoami(other, token).status_code == 200
    keys = httpx.post(
        f"{first.http}/api/v1/api-keys", json={"name": "x", "rights": []}, headers={"x-api-key": first.key}
    ).json()
    token = make(second, keys["key"]).json()["access_token"]
    assert whoami(second, token).status_code == 200
    httpx.delete(f"{first.http}/api/v1/api-keys/{keys['id']}", headers={"x-api-key": first.key})
    time.sleep(1.1)
    assert is_problem(whoami(second, token), 401)


def test_the_command_line_makes_and_shows_tokens(server):
    def covey(*words, **environment):
        command = [str(BINARY), "token", *words, "--url", server.http]
        return subprocess.run(command, capture_output=True, text=True, env={"COVEY_KEY": server.key} | environment)

    made = covey("make", "--right", "devices:read", "--expires", "1h")
    token = made.stdout.strip()
    assert made.returncode == 0 and token.count(".") == 2, made.stderr
    shown = covey("show", token)
    assert shown.returncode == 0 and "takes it" in shown.stdout and "devices:read" in shown.stdout
    devices = [str(BINARY), "device", "list", "--url", server.http]
    assert subprocess.run(devices, capture_output=True, env={"COVEY_KEY": token}).returncode == 0
    head, _, _ = token.rpartition(".")
    forged = covey("show", f"{head}.{'A' * 86}")
    assert forged.returncode == 1 and "the signature of the token is wrong" in forged.stdout
    assert covey("show", "nonsense").returncode != 0
