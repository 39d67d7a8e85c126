"""Who may call what: keys, rights, organisations (rest-api.md "Who calls")."""

import uuid

import httpx

from testbed.api import READY, RIGHTS, is_problem


def every_call(identity, task_id: str) -> list[tuple[str, str, dict | None, str]]:
    """Method, path, body and the right that it needs."""
    device = f"/devices/{identity.device_id}"
    body = {"ext_task_id": "x", "device_id": identity.device_id}
    return [
        ("POST", "/device-tasks", body, "tasks:write"),
        ("GET", f"/device-tasks/{task_id}", None, "tasks:read"),
        ("GET", f"/device-tasks/{task_id}?wait=1", None, "tasks:read"),
        ("GET", "/device-tasks", None, "tasks:read"),
        ("DELETE", f"/device-tasks/{task_id}", None, "tasks:write"),
        ("GET", "/devices", None, "devices:read"),
        ("PUT", device, {"tag": "a", "value": "b"}, "devices:write"),
        ("POST", "/devices", {}, "devices:write"),
        ("DELETE", device, None, "devices:write"),
        ("POST", "/api-keys", {"org": "x", "name": "x", "rights": []}, "keys:write"),
    ]


def test_without_a_valid_key_everything_is_401(api, server, identity):
    task_id = api.create(identity)
    refused = server.refusals("credential")
    credentials = [{}, {"x-api-key": "wrong"}, {"x-api-key": ""}, {"authorization": "Bearer wrong"}]
    credentials += [{"x-api-key": server.key[:-1]}, {"authorization": "Basic Og=="}]
    with httpx.Client(base_url=f"{server.http}/api/v1") as stranger:
        for method, path, body, _ in every_call(identity, task_id):
            for headers in credentials:
                assert is_problem(stranger.request(method, path, json=body, headers=headers), 401), path
    assert api.status(task_id) == READY
    assert server.refusals("credential") > refused


def test_both_spellings_of_the_key_are_good(server, identity):
    for value in (server.key, f"ApiKey {server.key}"):
        answer = httpx.get(f"{server.http}/api/v1/devices", headers={"x-api-key": value})
        assert answer.status_code == 200


def test_a_missing_right_is_403(api, server, new_api, identity):
    task_id = api.create(identity)
    for right in RIGHTS:
        poor = new_api(server, api.key_with([one for one in RIGHTS if one != right]))
        for method, path, body, needed in every_call(identity, task_id):
            if needed in (right, "keys:write"):
                assert is_problem(poor.request(method, path, json=body), 403), f"{method} {path}"
    assert api.status(task_id) == READY
    reader = new_api(server, api.key_with(["tasks:read"]))
    assert reader.task(task_id)["id"] == task_id, "a right that is there suffices"


def test_what_another_organisation_owns_is_404(api, other_api, identity):
    task_id = api.create(identity)
    for method, path, body, _ in every_call(identity, task_id):
        if any(text in path for text in (task_id, f"/{identity.device_id}")) or "device_id" in (body or {}):
            for headers in ({}, {"orgId": "default"}, {"orgId": "1"}):
                assert is_problem(other_api.request(method, path, json=body, headers=headers), 404), path
    sn = {"ext_task_id": "x", "device_sn": identity.sn}
    assert is_problem(other_api.post("/device-tasks", json=sn), 404)
    assert other_api.get("/devices", params={"sn": identity.sn}).json() == []
    assert other_api.get("/device-tasks").json()["total"] == 0
    assert api.status(task_id) == READY


def test_who_keeps_the_keys_of_an_organisation_reaches_no_other(api, server, new_api):
    org = f"org-{uuid.uuid4().hex[:8]}"
    keeper = new_api(server, api.key_with([*RIGHTS, "keys:write"], org=org))
    theirs = api.post("/api-keys", json={"name": "theirs", "rights": []}).json()["id"]
    for wanted in ("default", "new"):
        answer = keeper.post("/api-keys", json={"org": wanted, "name": "x", "rights": []})
        assert is_problem(answer, 403) and "orgs:admin" in answer.json()["detail"]
    assert is_problem(keeper.post("/api-keys", json={"name": "x", "rights": ["orgs:admin"]}), 403)
    assert is_problem(keeper.delete(f"/api-keys/{theirs}"), 404)
    assert {key["org"] for key in keeper.get("/api-keys").json()} == {org}
    own = keeper.post("/api-keys", json={"name": "x", "rights": ["tasks:read"]})
    assert own.status_code == 201 and own.json()["org"] == org
    assert keeper.delete(f"/api-keys/{own.json()['id']}").status_code == 200
    # In an organisation where somebody runs the deployment: not that one's key.
    small = new_api(server, api.key_with(["keys:write"]))
    (admin,) = [key["id"] for key in api.get("/api-keys").json() if key["name"] == "admin"]
    assert is_problem(small.delete(f"/api-keys/{admin}"), 403)
    assert api.get("/devices").status_code == 200


def test_a_serial_number_that_is_taken_or_reserved_is_told(api, other_api, identity):
    for caller in (api, other_api):
        answer = caller.post("/devices", json={"sn": identity.sn})
        assert is_problem(answer, 409) and answer.json()["type"] == "urn:covey:problem:sn_taken"
    for sn in ("dev", "srv", "Server", "NODE", "gateway"):
        answer = api.post("/devices", json={"sn": sn})
        assert is_problem(answer, 422) and answer.json()["field"] == "sn", sn
    made = {api.post("/devices", json={}).json()["device"]["sn"] for _ in range(3)}
    assert len(made) == 3


def test_an_organisation_is_not_told_of_taken_serial_numbers_without_end(api, server, new_api, identity):
    org = f"probing-{uuid.uuid4().hex[:16]}"
    probing, other = [new_api(server, api.key_with(["devices:write"], org)) for _ in range(2)]
    told = 0
    while (answer := probing.post("/devices", json={"sn": identity.sn})).status_code == 409:
        told += 1
        assert told < 1_000
    assert is_problem(answer, 429) and int(answer.headers["retry-after"]) > 0
    free = {"sn": f"t-{uuid.uuid4().hex[:16]}"}
    assert is_problem(probing.post("/devices", json=free), 429), "nor does the refusal tell"
    assert is_problem(other.post("/devices", json=free), 429), "nor another of its keys"
    assert probing.post("/devices", json={}).status_code == 201
    assert api.post("/devices", json=free).status_code == 201


def test_a_revoked_key_is_dead(api, server, new_api):
    made = api.post("/api-keys", json={"org": "default", "name": "short", "rights": ["devices:read"]}).json()
    short = new_api(server, made["key"])
    assert short.get("/devices").status_code == 200
    assert api.delete(f"/api-keys/{made['id']}").status_code in (200, 204)
    assert is_problem(short.get("/devices"), 401)
