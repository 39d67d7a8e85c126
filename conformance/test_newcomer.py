"""What a newcomer types: the README's steps, the simulator and the benchmark, each with the binary itself."""

import json
import signal
import subprocess

import pytest

from testbed.server import BINARY


def covey(server, *arguments, seconds=60) -> subprocess.CompletedProcess:
    command = [str(BINARY), *map(str, arguments), "--data", str(server.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds)


@pytest.fixture
def simulated(new_server, tmp_path):
    """A server, and the registered device lamp-1 that runs beside it."""
    server = new_server()
    folder = tmp_path / "lamp-1"
    added = covey(server, "device", "add", "lamp-1", "--out", folder)
    assert added.returncode == 0, added.stderr
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    command = [str(BINARY), "sim", "--identity", str(folder), "--data", str(server.data)]
    device = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield server
    device.send_signal(signal.SIGTERM)
    assert device.wait(20) == 0


@pytest.mark.every_shape
def test_the_first_call_answers_in_the_same_command(simulated):
    called = covey(simulated, "call", "lamp-1", "51", '{"dt":[{"cl":5}]}', "--json")
    assert called.returncode == 0, called.stderr
    task = json.loads(called.stdout)
    assert task["status_name"] == "DONE"
    expected = {"cl": 5, "result": "ok", "accepted": True, "method_code": 51}
    assert [result["result"] for result in task["results"]] == [expected]
    shown = covey(simulated, "task", "show", task["id"])
    assert shown.returncode == 0 and "DONE" in shown.stdout


def test_the_benchmark_completes_calls_without_an_error(new_server, tmp_path):
    server = new_server()
    measured = covey(
        server, "bench", "--identities", tmp_path / "identities", "--json",
        "calls", "--devices", 3, "--callers", 2, "--warmup", "0s", "--duration", "1s",
    )
    assert measured.returncode == 0, measured.stderr
    assert '"completed"' in measured.stdout, measured.stdout
    assert server.metric("covey_tasks", status="DONE") > 0
    assert server.metric("covey_tasks", status="FAILED") == 0


def test_every_command_says_only_what_its_server_knows(simulated, tmp_path):
    """The command line prefers strict handling: a member or parameter that the server does not know fails it."""
    added = covey(simulated, "device", "add", "lamp-2", "--tag", "room=hall", "--device-id", 77, "--out", tmp_path / "lamp-2")
    assert added.returncode == 0, added.stderr
    for line in [
        "device add node-1 --no-certificate --tag floor=2",
        "device tag lamp-2 room kitchen",
        "device list --tag room=kitchen --online --page 1 --size 10",
        "device list --offline",
        "device show lamp-2",
        'call lamp-1 51 {"dt":[{"cl":5}]} --wait 10 --priority 3 --ext-task-id e-1',
        "call lamp-2 blink --no-wait --ttl 5",
        "task list --device lamp-2 --status ready --ext-task-id e-2 --after 2026-01-01T00:00:00Z --page 1 --size 5",
        "events list --device lamp-1 --type -1 --not-type 7 --after 2026-01-01T00:00:00Z --limit 5",
        "events tail --device lamp-1 -n 5",
        "twin set lamp-2 led=1 --ttl 5 --priority 2",
        "twin set lamp-2 led=null --reported",
        "twin get lamp-2",
        "retention show",
        "retention set events=30 tasks=default",
        "retention run",
        "key add dashboard --right tasks:read --org acme",
        "key list",
        "webhooks list",
        "node add coap 1234",
        "node add ws @192.0.2.7",
        "node list --gateway coap --state admitted --page 1 --size 5",
        "node approve coap/1234",
        "node rename coap/1234 window",
        "node block 2",
        "node rm coap/1234",
        "unit add 192.168.1.20 --kind read --name scale --resource weight",
        "unit list --page 1 --size 5",
        "unit set scale --address 192.168.1.21:9000 --kind update",
        "unit rm scale",
        "device rm lamp-2",
    ]:
        done = covey(simulated, *line.split())
        assert done.returncode == 0, f"{line}: {done.stderr}"
