"""Prometheus itself, on a free port, with the alerts of `deploy/prometheus/`."""

import json
import subprocess
import time
from pathlib import Path

import httpx

from testbed.server import PROJECT, kept_ports

DEPLOYED = PROJECT / "deploy" / "prometheus"
RULES = DEPLOYED / "covey.rules.yml"
# As deploy/prometheus/prometheus.yml has it.
SCRAPE_SECONDS = 5
READY_SECONDS_MAX = 30.0


class Prometheus:
    """It scrapes servers over listeners of their own (`--metrics`), and runs until `close`."""

    def __init__(self, folder: Path, targets: dict[str, int]):
        """`targets`: the port of each server, by a name for it, which is the label `instance`."""
        folder.mkdir()
        every = f"{SCRAPE_SECONDS}s"
        scraped = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}} for name, port in targets.items()
        ]
        config = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "covey", "static_configs": scraped}],
        }
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        (port,) = kept_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        with open(folder / "prometheus.log", "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self._is_ready():
            assert self.process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() < deadline, "Prometheus does not start"
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[dict]:
        """What an expression gives now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10.0)
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        return answer.json()["data"]["result"]

    def firing(self, instance: str) -> set[str]:
        """The alerts that fire for a server, or for all of its job, such as those about a webhook."""
        found = self.query(f'ALERTS{{alertstate="firing", instance=~"{instance}|"}}')
        return {one["metric"]["alertname"] for one in found}

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
