"""The measurements, read by Prometheus's own tools: promtool, and the strict parser of its client library."""

import subprocess

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

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
