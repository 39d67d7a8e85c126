"""The measurements, read by Prometheus's own tools: promtool, and the strict parser of its client library."""

import ssl
import subprocess

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from testbed.api import RIGHTS, is_problem

pytestmark = pytest.mark.embedded


def page(server, accept: str) -> httpx.Response:
    answer = httpx.get(f"{server.http}/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    return answer


def test_promtool_finds_nothing_to_complain_of(server):
    for accept in ("text/plain", "*/*"):
        answer = page(server, accept)
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=answer.text, capture_output=True, text=True, timeout=60
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, ""), answer.text


def test_both_formats_tell_the_same(server):
    # As Prometheus 3 asks.
    scraper = (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    answer = page(server, scraper)
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"

    def series(families) -> set[tuple]:
        return {
            (sample.name, *sorted(sample.labels.items()))
            for family in families
            for sample in family.samples
            # The requests for these pages make new ones.
            if not sample.name.startswith("covey_http_request")
        }

    told = series(openmetrics(answer.text))
    assert told == series(prometheus(page(server, "text/plain").text))
    assert ("covey_build_info", ("version", "0.1.0")) in told and len(told) > 100


def test_over_https_the_measurements_need_a_key_with_the_right(server, api):
    trusted = ssl.create_default_context(cafile=str(server.ca))
    url = f"{server.https}/metrics"
    assert is_problem(httpx.get(url, verify=trusted), 401)
    others = [right for right in RIGHTS if right != "metrics:read"]
    refused = httpx.get(url, verify=trusted, headers={"x-api-key": api.key_with(others)})
    assert is_problem(refused, 403) and "metrics:read" in refused.json()["detail"]
    for key in (api.key_with(["metrics:read"]), server.key):
        answer = httpx.get(url, verify=trusted, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200 and "covey_build_info" in answer.text
    # On this machine nobody is asked for one, and a key that lacks the right is no reason to refuse.
    for headers in ({}, {"x-api-key": api.key_with(others)}):
        assert httpx.get(f"{server.http}/metrics", headers=headers).status_code == 200


def test_a_listener_of_its_own_has_measurements_and_health_alone(new_server):
    server = new_server("--metrics", "127.0.0.1:0")
    alone = server.addresses["metrics"]
    assert alone.startswith("http://127.0.0.1:") and alone != server.http
    for path in ("/metrics", "/healthz", "/readyz"):
        assert httpx.get(f"{alone}{path}").status_code == 200, path
    for path in ("/api/v1/whoami", "/api/v1/device-tasks", "/openapi.json", "/docs/", "/"):
        assert is_problem(httpx.get(f"{alone}{path}", headers={"x-api-key": server.key}), 404), path
    assert f"metrics    {alone}/metrics" in server.output_text()


def test_without_the_option_there_is_no_such_listener(server):
    assert "metrics" not in server.addresses
