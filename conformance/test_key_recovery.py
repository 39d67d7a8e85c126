"""All admin keys are lost: what the start says then, and the way back in (`covey key recover`, docs/keys.md)."""

import json
import os
import subprocess

import httpx
import pytest

from testbed.api import is_problem
from testbed.server import BINARY, Server


def recover(server: Server, *arguments, data=None) -> subprocess.CompletedProcess:
    """Runs `covey key recover` as the operator of this server would."""
    command = [str(BINARY), "key", "recover", "--data", str(data or server.data), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=server.environment())


def status(server: Server, key: str) -> int:
    return httpx.get(f"{server.http}/api/v1/whoami", headers={"x-api-key": key}).status_code


def revoke_admin(api) -> None:
    """Revokes the first key, which `api` may be using itself."""
    (admin,) = [key["id"] for key in api.get("/api-keys").json() if key["name"] == "admin"]
    assert api.delete(f"/api-keys/{admin}").status_code == 200


@pytest.mark.every_shape
def test_the_last_key_is_not_revoked_and_where_it_is_lost_the_start_says_what_to_do(new_server, new_api):
    server = new_server()
    api, old = new_api(server), server.key
    assert f"{server.data}/admin.key" in server.output_text()
    reader = api.key_with(["tasks:read"])
    api.key_with(["keys:write"])  # may make keys, and not for every organisation
    (admin,) = [key["id"] for key in api.get("/api-keys").json() if key["name"] == "admin"]
    refused = api.delete(f"/api-keys/{admin}")
    assert is_problem(refused, 409) and refused.json()["type"] == "urn:covey:problem:last_key"
    assert "covey key recover" in refused.json()["detail"]
    assert server.stop() == 0
    (server.data / "admin.key").unlink()

    server.start()
    said = server.output_text()
    assert not (server.data / "admin.key").exists(), "no key is written that nobody may use"
    assert "(shown this once)" not in said and f"covey key recover --data {server.data}" in said
    running = recover(server)
    assert running.returncode == 2 and "stop" in running.stderr and not running.stdout
    assert server.stop() == 0

    done = recover(server)
    assert done.returncode == 0, done.stderr
    key = done.stdout.strip()
    assert "revoking 2 other keys" in done.stderr
    assert (server.data / "admin.key").read_text().strip() == key
    assert (server.data / "admin.key").stat().st_mode & 0o777 == 0o600
    server.start()
    assert [status(server, one) for one in (key, old, reader)] == [200, 401, 200]
    assert new_api(server).post("/api-keys", json={"name": "more", "rights": []}).status_code == 201


@pytest.mark.every_shape
def test_recovery_revokes_the_keys_that_may_make_keys_and_says_so(new_server, new_api):
    server = new_server()
    api, first = new_api(server), server.key
    maker = api.key_with(["keys:write"], org="acme")
    reader = api.key_with(["devices:read"])
    assert server.stop() == 0

    kept = recover(server, "--keep-others", "--json")
    assert kept.returncode == 0 and "keeping 2 other keys" in kept.stderr, kept.stderr
    said = json.loads(kept.stdout)
    assert (len(said["kept"]), said["revoked"]) == (2, [])
    assert "keys:write" in said["rights"] and said["file"] == str(server.data / "admin.key")
    server.start()
    assert [status(server, one) for one in (first, maker, reader, said["key"])] == [200] * 4
    assert server.stop() == 0

    again = recover(server, "--json")
    assert "revoking 3 other keys" in again.stderr
    revoked = json.loads(again.stdout)
    assert sorted(key["org"] for key in revoked["revoked"]) == ["acme", "default", "default"]
    server.start()
    found = [status(server, one) for one in (first, maker, said["key"], reader, revoked["key"])]
    assert found == [401, 401, 401, 200, 200]


def test_a_dead_key_in_the_data_directory_is_named_as_such(new_server, new_api):
    server = new_server()
    api = new_api(server)
    other = api.key_with(["keys:write", "orgs:admin"])
    revoke_admin(api)
    assert is_problem(api.get("/devices"), 401)
    server.restart()
    assert f"{server.data}/admin.key is not valid" in server.output_text()
    assert "the admin key is not valid" in server.log_text()
    assert status(server, other) == 200


def test_nothing_is_made_where_there_is_no_database(tmp_path):
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("COVEY_")}
    for data in (tmp_path / "nowhere", tmp_path):
        command = [str(BINARY), "key", "recover", "--data", str(data)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=quiet)
        assert done.returncode == 2 and "there is no database" in done.stderr, done.stderr
        assert not done.stdout
    assert not (tmp_path / "nowhere").exists() and not (tmp_path / "covey.db").exists()


@pytest.mark.every_shape
@pytest.mark.several_servers
def test_recovery_waits_for_every_server_of_the_store(pairs, tmp_path):
    first, second = pairs.new()
    assert first.stop() == 0
    for data in (first.data, tmp_path / "elsewhere"):
        refused = recover(first, data=data)
        assert refused.returncode == 2 and "servers run on" in refused.stderr, refused.stderr
    assert second.stop() == 0
    done = recover(first, data=tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    assert "revoking 1 other key" in done.stderr and not (tmp_path / "elsewhere").exists()
    key = done.stdout.strip()
    second.start()
    assert (status(second, key), status(second, first.key)) == (200, 401)
