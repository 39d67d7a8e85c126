"""What `deploy/prometheus/` and docs/operating.md say of the metrics is what a server has: looked up on a page of a server
on which everything has happened once."""

import json
import re
import subprocess
import time

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from testbed.api import RIGHTS, Api, is_problem
from testbed.issuer import AUDIENCE, ISSUER, Documents, SigningKey
from testbed.prometheus import DEPLOYED, RULES
from testbed.receiver import Receiver
from testbed.server import PROJECT, serving

pytestmark = pytest.mark.embedded

ROW = re.compile(r"^\| `((?:covey|process)_\w+)` \| (\w+) \| (\w*) \| ([\w, ]*) \| (.+) \|$", re.MULTILINE)
UNITS = {"_seconds": "s", "_bytes": "bytes", "_seconds_total": "s", "_bytes_total": "bytes"}
NAME = re.compile(r"\b(?:covey|process)_\w+\b")
PLAIN = {"Accept": "text/plain"}
# What each kind of metric adds to its name.
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The metrics of a server of which each has a line: a task is kept, a webhook has sent, a gateway counts, the keys of
    an issuer were read."""
    folder, issuer = tmp_path_factory.mktemp("page"), Documents()
    issuer.documents["/keys"] = {"keys": [SigningKey().jwk]}
    tokens = ("--token-issuer", ISSUER, "--token-audience", AUDIENCE, "--token-keys", f"{issuer.url}/keys")
    with serving(folder / "data", "--webhook-allow", "loopback", "--coap", "127.0.0.1:0", *tokens) as server:
        receiver = Receiver()
        with Api(server.http, server.key) as api:
            made = api.post("/webhooks", json={"event_type": "msg-task", "url": receiver.url})
            assert made.status_code == 201, made.text
            api.create(api.register(folder), payload={"a": 1})
        receiver.wait_for(1)
        deadline = time.monotonic() + 10
        wanted = ("covey_webhook_dead{", "covey_token_keys_age_seconds{")
        while not all(one in (text := httpx.get(f"{server.http}/metrics", headers=PLAIN).text) for one in wanted):
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
        yield text
        receiver.stop()
        issuer.close()


def unit_of(name: str) -> str:
    return next((unit for end, unit in sorted(UNITS.items(), key=lambda one: -len(one[0])) if name.endswith(end)), "")


def exported(page: str) -> dict[str, tuple[str, str, set[str]]]:
    """Each metric with its type, its unit, and its labels."""
    found = {}
    for family in text_string_to_metric_families(page):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, unit_of(name), labels)
    return found


def documented() -> dict[str, tuple[str, str, set[str]]]:
    rows = ROW.findall((PROJECT / "docs" / "operating.md").read_text())
    assert len(rows) > 40 and len({row[0] for row in rows}) == len(rows)
    return {name: (kind, unit, set(labels.split(", ")) - {""}) for name, kind, unit, labels, _ in rows}


def test_the_table_of_metrics_is_what_a_server_has(page):
    assert documented() == exported(page)


def series_of(metrics: dict) -> set[str]:
    return {name + part for name, (kind, *_) in metrics.items() for part in PARTS[kind]}


def test_alerts_and_dashboard_name_metrics_that_there_are(page):
    there = series_of(exported(page))
    dashboard = json.loads((DEPLOYED / "covey-dashboard.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len(shown) > 30 and len(rules) > 10
    for expression in shown + rules:
        named = set(NAME.findall(re.sub(r'"[^"]*"', "", expression)))
        assert named <= there, f"{expression} names {named - there}"
        assert named or "up{" in expression, expression


def test_codes_of_alerts_and_of_the_page_of_codes_are_those_of_the_server(page):
    codes = set(re.findall(r'covey_finding{code="(\w+)"', page))
    assert len(codes) > 20
    text = (PROJECT / "docs" / "operating.md").read_text()
    listed = text.split("| code | severity |")[1].split("\n\n")[0]
    assert {code for row in listed.splitlines()[2:] for code in re.findall(r"`(\w+)`", row.split("|")[1])} == codes
    for code in re.findall(r'code=~?"([\w|]+)"', RULES.read_text()):
        assert set(code.split("|")) <= codes, code


def test_each_alert_is_tested_and_has_its_row_in_the_documents():
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    text = (PROJECT / "docs" / "operating.md").read_text().split("### Alerts")[1].split("\n## ")[0]
    tests = (DEPLOYED / "covey.rules.test.yml").read_text()
    for rule in rules:
        assert f"`{rule['alert']}`" in text and f'alertname="{rule["alert"]}"' in tests, rule["alert"]
        assert rule["annotations"]["remedy"] and rule["labels"]["severity"] in ("critical", "warning")


@pytest.mark.parametrize(
    "what",
    [
        ["check", "rules", "covey.rules.yml"],
        ["test", "rules", "covey.rules.test.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
    ],
    ids=" ".join,
)
def test_promtool_takes_what_is_deployed(what):
    done = subprocess.run(["promtool", *what], cwd=DEPLOYED, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_findings_over_rest_are_for_who_may_read_the_measurements(server, api, new_api):
    answer = api.get("/health/findings")
    assert answer.status_code == 200 and set(answer.json()) >= {"status", "server_time", "findings"}, answer.text
    others = [right for right in RIGHTS if right != "metrics:read"]
    refused = new_api(server, api.key_with(others)).get("/health/findings")
    assert is_problem(refused, 403) and "metrics:read" in refused.json()["detail"]
    assert new_api(server, api.key_with(["metrics:read"])).get("/health/findings").status_code == 200


def test_files_of_the_server_are_told_to_whoever_administers_all_organisations(new_server, new_api):
    server = new_server()
    (server.data / "admin.key").chmod(0o644)
    admin = new_api(server, server.key)
    watcher = new_api(server, admin.key_with(["metrics:read"]))

    def found(api):
        all_of_it = api.get("/health/findings").json()["findings"]
        return next((one for one in all_of_it if one["code"] == "file_mode"), None)

    deadline = time.monotonic() + 20
    while not found(admin):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert found(admin)["about"] == str(server.data / "admin.key")
    told = found(watcher)
    assert told["severity"] == "error" and told["about"] == "this server", told
    assert str(server.data) not in json.dumps(told) and "orgs:admin" in told["remedy"], told
