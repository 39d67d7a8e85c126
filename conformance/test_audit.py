"""Who opened cell 5? The audit log (docs/audit.md), as an operator asks it, and after somebody has changed it by hand."""

import json
import sqlite3
import subprocess

import pytest

from testbed.server import BINARY, Server


def covey(server: Server, *arguments) -> subprocess.CompletedProcess:
    """Runs a command as the operator of this server would."""
    command = [str(BINARY), *arguments, "--data", str(server.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=server.environment())


def listed(server: Server, *arguments) -> list[dict]:
    done = covey(server, "audit", "list", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def open_cell(api, sn: str, cell: int) -> None:
    task = {"device_sn": sn, "ext_task_id": f"order {cell}", "method": "open", "payload": {"cell": cell}}
    made = api.post("/device-tasks", json=task)
    assert made.status_code == 200, made.text


@pytest.mark.every_shape
def test_who_opened_a_cell_is_one_command(new_server, new_api):
    server = new_server()
    api = new_api(server)
    for sn in ("locker-1", "locker-2"):
        assert api.post("/devices", json={"sn": sn}).status_code == 201
        for cell in (4, 5, 6):
            open_cell(api, sn, cell)
    (entry,) = listed(server, "--device", "locker-1", "--on", "today", "--text", '"cell":5')
    assert (entry["action"], entry["outcome"], entry["sn"]) == ("task.create", "done", "locker-1")
    assert (entry["by"]["kind"], entry["by"]["name"], entry["from"]) == ("key", "admin", "127.0.0.1")
    assert entry["details"] == {"ext_task_id": "order 5", "method": "open", "payload": '{"cell":5}'}
    table = covey(server, "audit", "list", "--since", "1h", "--action", "task").stdout
    assert table.startswith("WHEN") and table.count("task.create") == 6 and "admin (key 1)" in table
    assert listed(server, "--until", "1h") == []
    nobody = covey(server, "audit", "list", "--since", "soon")
    assert nobody.returncode == 2 and "tuesday" in nobody.stderr


@pytest.mark.every_shape
def test_a_log_that_was_left_alone_is_whole_while_the_server_runs_and_after_a_recovery(new_server, new_api):
    server = new_server()
    api = new_api(server)
    api.post("/devices", json={"sn": "locker-1"})
    for cell in range(20):
        open_cell(api, "locker-1", cell)
    done = covey(server, "audit", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    heads = [line.rsplit(" ", 1)[1] for line in done.stdout.splitlines()]
    assert server.stop() == 0
    recovered = covey(server, "key", "recover")
    assert recovered.returncode == 0, recovered.stderr
    offline = covey(server, "audit", "verify", "--offline", *[f"--head={head}" for head in heads])
    assert offline.returncode == 0, offline.stdout + offline.stderr
    server.start()
    assert covey(server, "audit", "verify", *[f"--head={head}" for head in heads]).returncode == 0
    by_command = listed(server, "--actor", "command", "--action", "key")
    assert [entry["action"] for entry in by_command] == ["key.add", "key.revoke"]
    assert all(entry["by"]["name"] == "covey key recover" for entry in by_command)
    for secret in (server.key, recovered.stdout.strip()):
        assert secret not in json.dumps(listed(server, "--all", "--limit", "1000"))
    wrong = heads[0][:-1] + ("0" if heads[0][-1] != "0" else "1")
    refused = covey(server, "audit", "verify", f"--head={wrong}")
    assert refused.returncode == 1 and "is not the one whose hash was kept" in refused.stdout


@pytest.mark.embedded
@pytest.mark.parametrize(("change", "place"), [
    ("UPDATE audit SET entries = replace(entries, 'order 3', 'order 9') WHERE entries LIKE '%order 3%'", "was changed"),
    ("DELETE FROM audit WHERE entries LIKE '%order 3%'", "was removed"),
    ("DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)", "and all behind it were removed"),
    ("INSERT INTO audit SELECT max(number) + 1, chain, org_id, at, entries, hash FROM audit", "was changed or inserted"),
])
def test_a_change_by_hand_is_found_at_its_place(new_server, new_api, change, place):
    server = new_server()
    api = new_api(server)
    api.post("/devices", json={"sn": "locker-1"})
    for cell in range(6):
        open_cell(api, "locker-1", cell)
    assert server.stop() == 0
    with sqlite3.connect(server.data / "covey.db") as database:
        if not change.startswith("INSERT"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(change)
        for trigger in ("audit_no_update", "audit_no_delete"):
            database.execute(f"DROP TRIGGER {trigger}")
        assert database.execute(change).rowcount == 1
    database.close()
    for arguments in (["--offline"], []):
        if not arguments:
            server.start()
        found = covey(server, "audit", "verify", *arguments)
        assert found.returncode == 1 and place in found.stdout, found.stdout + found.stderr
        assert "row " in found.stdout


@pytest.mark.embedded
def test_a_log_that_was_wiped_as_retention_would_is_found_and_a_lost_chain_hides_no_other(new_server, new_api):
    server = new_server()
    new_api(server).post("/devices", json={"sn": "locker-1"})
    lost = covey(server, "audit", "verify", f"--head=7:1:{'0' * 64}")
    assert lost.returncode == 1 and "chain 7 is not there" in lost.stdout and "chain 0: " in lost.stdout, lost.stdout
    assert server.stop() == 0
    with sqlite3.connect(server.data / "covey.db") as database:
        database.executescript("UPDATE audit_chains SET anchor = number, anchor_hash = hash; DELETE FROM audit")
    database.close()
    found = covey(server, "audit", "verify", "--offline")
    assert found.returncode == 1 and "retention leaves the last one" in found.stdout, found.stdout + found.stderr
