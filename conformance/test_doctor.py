"""`covey doctor` where nothing has to break for it: servers elsewhere, servers that are silent, what is missing, exit codes.
The faults that have an alert are in test_faults_doctor.py."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time

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


def status(done: subprocess.CompletedProcess) -> str:
    return json.loads(done.stdout)["status"]


def options(server: Server) -> list[str]:
    return ["--json", "--data", str(server.data), *server.listen]


def test_a_server_elsewhere_is_asked_with_a_key_that_may(server, api):
    place = ["--json", "--url", server.https, "--ca", server.ca]
    done = doctor(*place, COVEY_KEY=api.key_with(["metrics:read"]))
    assert (done.returncode, codes(done)) == (0, set()), done.stderr
    assert json.loads(done.stdout)["server"] == "running"
    done = doctor(*place, COVEY_KEY=api.key_with(["tasks:read"]))
    assert done.returncode == 2 and "metrics:read" in done.stderr, "the key is not one for this: it was not looked"
    assert doctor(*place).returncode == 2 and doctor(*place, COVEY_KEY="covey_none").returncode == 2
    assert doctor("--url", "https://127.0.0.1:1", COVEY_KEY="x").returncode == 2


def test_settings_that_are_wrong_are_no_findings(tmp_path):
    done = doctor("--data", tmp_path / "data", "--http", "0.0.0.0:80")
    assert done.returncode == 2 and "loopback" in done.stderr


def test_before_the_first_start_nothing_is_known_and_nothing_is_made(tmp_path):
    server = Server(tmp_path / "data")
    for exists in (False, True):
        done = doctor(*options(server))
        assert (done.returncode, codes(done), status(done)) == (2, {"data_missing"}, "unknown"), done.stdout
        assert json.loads(done.stdout)["server"] == "stopped" and server.data.exists() == exists
        if not exists:
            server.data.mkdir(mode=0o700)
    assert list(server.data.iterdir()) == []


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
    assert doctor(*options(server)).returncode == 0
    for key in ({}, {"COVEY_KEY": "covey_none"}):
        (server.data / "admin.key").unlink(missing_ok=True)
        done = doctor(*options(server), **key)
        assert (done.returncode, codes(done), status(done)) == (2, {"not_asked"}, "unknown"), done.stdout
        assert "only what /readyz says" in done.stdout


def test_who_holds_the_data_directory_and_says_nothing_is_told_of(new_server):
    server = new_server()
    assert server.stop() == 0
    with open(server.data / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = doctor(*options(server))
    assert (done.returncode, codes(done), status(done)) == (2, {"server_starting"}, "unknown"), done.stdout
    assert json.loads(done.stdout)["server"] == "silent"


def test_a_server_that_is_stopped_is_looked_at_and_nothing_is_made(new_server):
    server = new_server()
    assert server.stop() == 0
    before = sorted(server.data.iterdir())
    assert server.data / "covey.db" in before and server.data / "covey.db-shm" not in before
    done = doctor(*options(server))
    assert (done.returncode, codes(done), sorted(server.data.iterdir())) == (0, set(), before), done.stdout


def test_keys_without_which_no_server_starts_are_named_while_one_still_runs(new_server):
    server = new_server()
    pki = server.data / "pki"
    (pki / "issuing.key").rename(server.data.parent / "issuing.key")
    deadline = time.monotonic() + 20
    while not server.metric("covey_finding", code="keys_missing", severity="error"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    for is_running in (True, False):
        done = doctor(*options(server))
        assert (done.returncode, codes(done)) == (1, {"keys_missing"}), done.stdout
        assert "issuing.key missing" in done.stdout
        if is_running:
            assert server.stop() == 0
    shutil.rmtree(pki)
    done = doctor(*options(server))
    assert (done.returncode, codes(done)) == (1, {"keys_missing"}), done.stdout


def test_a_configuration_with_a_password_that_others_can_read_is_named(tmp_path):
    config = tmp_path / "covey.toml"
    config.write_text('store = "postgres://covey:secret@127.0.0.1:1/covey"\nhttp = "127.0.0.1:0"\n')
    arguments = ["--json", "--config", config, *options(Server(tmp_path / "data"))[1:]]
    config.chmod(0o640)
    assert "file_mode" not in codes(doctor(*arguments))
    config.chmod(0o644)
    done = doctor(*arguments)
    assert {"file_mode", "store_unreachable"} <= codes(done) and f"chmod 600 {config}" in done.stdout, done.stdout
    assert "secret@" not in done.stdout + done.stderr and "pg_isready -h 127.0.0.1 -p 1" in done.stdout


def test_the_end_of_a_ca_of_others_is_told_of(new_server, tmp_path):
    server = new_server()
    make = """openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout old.key -out old.pem -days 20 -subj /CN=Old
        -addext keyUsage=critical,keyCertSign,cRLSign"""
    subprocess.run(make.split(), cwd=tmp_path, check=True, capture_output=True)
    place = ["--name", "old", "--pki", str(server.data / "pki")]
    subprocess.run([str(BINARY), "ca", "import", str(tmp_path / "old.pem"), *place], check=True, capture_output=True)
    done = doctor(*options(server))
    assert (done.returncode, codes(done)) == (0, {"ca_ends"}), done.stdout
    assert "imported-old.pem" in done.stdout and "covey ca remove" in done.stdout


def test_a_database_that_is_missing_beside_keys_is_named(new_server):
    server = new_server()
    assert server.stop() == 0
    (server.data / "covey.db").rename(server.data.parent / "covey.db")
    for is_empty in (False, True):
        if is_empty:
            (server.data / "covey.db").touch(mode=0o600)
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
