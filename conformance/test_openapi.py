"""The OpenAPI document, and schemathesis over the whole of it with every check it has."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from testbed.deployment import EMBEDDED, SHAPE

HERE = Path(__file__).resolve().parent
# The store is what differs by shape; the rest of the API is the same.
EXAMPLES = os.environ.get("COVEY_EXAMPLES", "40" if SHAPE == EMBEDDED else "6")
SEED = "1"
DEVICE_ID = 7_654_321


@pytest.mark.embedded
def test_the_document_is_served_without_a_key_and_names_every_resource(server):
    answer = httpx.get(f"{server.http}/openapi.json")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("application/json")
    document = answer.json()
    assert document["openapi"].startswith("3.")
    methods = {(path, method) for path, item in document["paths"].items() for method in item}
    for path, method in [
        ("/api/v1/device-tasks", "post"),
        ("/api/v1/device-tasks", "get"),
        ("/api/v1/device-tasks/{id}", "get"),
        ("/api/v1/device-tasks/{id}", "delete"),
        ("/api/v1/devices", "get"),
        ("/api/v1/devices", "post"),
        ("/api/v1/devices/{device_id}", "put"),
        ("/api/v1/devices/{device_id}", "delete"),
        ("/api/v1/nodes", "get"),
        ("/api/v1/nodes", "post"),
        ("/api/v1/nodes/{id}", "delete"),
        ("/api/v1/nodes/{id}/approve", "post"),
        ("/api/v1/nodes/{id}/block", "post"),
        ("/api/v1/nodes/{id}/rename", "post"),
    ]:
        assert (path, method) in methods, f"{method} {path} is not documented"


@pytest.mark.embedded
def test_swagger_ui_is_served_and_needs_nothing_from_elsewhere(server):
    with httpx.Client(base_url=server.http, follow_redirects=True) as client:
        page = client.get("/docs")
        assert page.status_code == 200 and "text/html" in page.headers["content-type"]
        texts = [page.text]
        for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert not path.startswith(("http:", "https:", "//")), path
            part = client.get(httpx.URL(str(page.url)).join(path))
            assert part.status_code == 200, path
            texts.append(part.text)
        assert any("/openapi.json" in text for text in texts)


@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(new_server, new_api, tmp_path):
    server = new_server()
    api = new_api(server)
    device = api.register(tmp_path, device_id=DEVICE_ID)
    api.create(device)
    body = {"org": "default", "name": "schemathesis", "rights": rights(api)}
    key = api.post("/api-keys", json=body).json()

    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis", "run", f"{server.http}/openapi.json",
            "--header", f"x-api-key: {key['key']}", "--checks", "all", "--max-examples", EXAMPLES,
            "--seed", SEED, "--generation-deterministic",
            # A stream does not end; test_stream.py has its bad input.
            "--exclude-path", "/api/v1/stream",
            "--suppress-health-check", "all", "--request-timeout", "20", "--continue-on-failure", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=580,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "testbed.schemathesis_hooks",
            "PYTHONPATH": str(HERE),
            "COVEY_CONFORMANCE_DEVICE_ID": str(DEVICE_ID),
            "COVEY_CONFORMANCE_KEY_ID": str(key["id"]),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    (row,) = new_api(server, key["key"]).get("/devices", params={"device_id": DEVICE_ID}).json()
    assert row["sn"] == device.sn, "neither its key nor its device was lost on the way"
    refused = server.metric("covey_http_requests_total", status="401")
    assert refused < server.metric("covey_http_requests_total") / 4, "most calls got past the door"


def rights(api) -> list[str]:
    """All the rights that there are, as the document lists them or as the refusal of a wrong one does."""
    refusal = api.post("/api-keys", json={"org": "default", "name": "x", "rights": ["no-such-right"]})
    known = re.findall(r"[a-z]+:[a-z]+", refusal.json()["detail"])
    assert "keys:write" in known, refusal.text
    return known
