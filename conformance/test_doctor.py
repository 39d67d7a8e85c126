"""`covey doctor` where nothing has to break for it: servers elsewhere, servers that are silent, what is missing, exit codes.
The faults that have an alert are in test_faults_doctor.py."""

import json
import os
import signal
import subprocess

import pytest

from testbed.server import BINARY, Server

pytestmark = pytest.mark.embedded


def doctor(*arguments, **environment) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVEY_")}
    command = [str(BINARY), "doctor", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=inherited | environment)
    assert "panicked" not in done.stderr, done.stderr
    return done


def codes(done: subprocess.CompletedProcess) -> set[str]:
    """What was found, but for the clock of the machine."""
    return {one["code"] for one in json.loads(done.stdout)["findings"]} - {"clock_not_synchronised"}


def options(server: Server) -> list[str]:
    return ["--json", "--data", str(server.data), *server.listen]


def test_a_server_elsewhere_is_asked_with_a_key_that_may(server, api):
    place = ["--json", "--url", server.https, "--ca", server.ca]
    done = doctor(*place, COVEY_KEY=api.key_with(["metrics:read"]))
    assert (done.returncode, codes(done)) == (0, set()), done.stderr
    assert json.loads(done.stdout)["server"] == "running"
    done = doctor(*place, COVEY_KEY=api.key_with(["tasks:read"]))
    assert done.returncode == 1 and "metrics:read" in done.stderr, "the key is not one for this"
    assert doctor(*place).returncode == 2 and doctor(*place, COVEY_KEY="covey_none").returncode == 2
    assert doctor("--url", "https://127.0.0.1:1", COVEY_KEY="x").returncode == 2


def test_settings_that_are_wrong_are_no_findings(tmp_path):
    done = doctor("--data", tmp_path / "data", "--http", "0.0.0.0:80")
    assert done.returncode == 2 and "loopback" in done.stderr


def test_before_the_first_start_nothing_is_wrong_and_nothing_is_made(tmp_path):
    server = Server(tmp_path / "data")
    done = doctor(*options(server))
    assert (done.returncode, codes(done)) == (0, set()), done.stdout
    assert json.loads(done.stdout)["server"] == "stopped" and not server.data.exists()


def test_a_server_that_is_silent_is_told_from_one_that_is_stopped(new_server):
    server = new_server()
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        done = doctor(*options(server))
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert done.returncode == 1 and "server_unreachable" in codes(done), done.stdout
    assert json.loads(done.stdout)["server"] == "silent"
    assert server.stop() == 0
    done = doctor(*options(server))
    assert (done.returncode, json.loads(done.stdout)["server"]) == (0, "stopped"), done.stdout


def test_without_a_key_the_server_is_asked_what_anybody_may_know(new_server):
    server = new_server()
    (server.data / "admin.key").unlink()
    done = doctor(*options(server))
    assert (done.returncode, codes(done)) == (0, set()), done.stdout
    assert "only what /readyz says" in done.stderr


def test_a_database_that_is_missing_beside_keys_is_named(new_server):
    server = new_server()
    assert server.stop() == 0
    (server.data / "covey.db").rename(server.data.parent / "covey.db")
    done = doctor(*options(server))
    assert (done.returncode, codes(done)) == (1, {"store_missing"}), done.stdout
    for_people = doctor("--data", server.data, *server.listen)
    assert "  do:   put covey.db back" in for_people.stdout and "1 error, " in for_people.stderr


def test_word_of_a_backup_by_another_program_counts(new_server, tmp_path):
    server = new_server()
    os.utime(server.ca, (0, 0))
    done = doctor(*options(server))
    assert (done.returncode, codes(done)) == (0, {"backup_missing"}), done.stdout
    noted = subprocess.run([str(BINARY), "backup", "--data", str(server.data), "--made-elsewhere"], timeout=60)
    assert noted.returncode == 0 and (server.data / "backup.json").stat().st_mode & 0o777 == 0o600
    assert server.stop() == 0
    assert codes(doctor(*options(server))) == set()
    (server.data / "backup.json").unlink()
    assert codes(doctor(*options(server))) == {"backup_missing"}
    assert codes(doctor(*options(server), "--backup-days-max", "0")) == set()
