"""`covey backup` while the server runs, and `covey restore` into a new place."""

import hashlib
import json
import subprocess
import threading
import time

import pytest

from testbed.api import DONE, READY
from testbed.server import BINARY, Server

pytestmark = pytest.mark.embedded


def covey(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True, timeout=60)


def refuses(done: subprocess.CompletedProcess) -> bool:
    """Whether a command ended with exit code 2 and one line."""
    assert done.returncode == 2, f"{done.returncode}: {done.stderr}"
    assert len(done.stderr.strip().splitlines()) == 1 and "panicked" not in done.stderr, done.stderr
    return True


@pytest.fixture
def backed_up(new_server, new_api, tmp_path, connect):
    """A server, its caller, a device with a finished and an open task, and a backup of it."""
    server = new_server()
    api = new_api(server)
    identity = api.register(tmp_path)
    device = connect(server, identity)
    done, ready = api.create(identity, ttl=60), api.create(identity, ttl=60, payload={"a": 1})
    device.take(done)
    device.finish(done, 200, '{"b":2}')
    backup = tmp_path / "backup"
    made = covey("backup", "--data", server.data, "--to", backup)
    assert made.returncode == 0, made.stderr
    return server, api, identity, done, ready, backup


def test_a_restored_server_knows_tasks_devices_keys_and_its_ca(backed_up, tmp_path, new_api, connect):
    server, api, identity, done, ready, backup = backed_up
    later = api.create(identity)
    key, ca = server.key, server.ca.read_text()
    server.kill()

    restored = Server(tmp_path / "restored")
    made = covey("restore", "--from", backup, "--data", restored.data)
    assert made.returncode == 0, made.stderr
    restored.start()
    try:
        assert (restored.key, restored.ca.read_text()) == (key, ca)
        api = new_api(restored, key)
        assert api.status(done) == DONE and api.status(ready) == READY
        assert api.task(done)["results"][0]["result"] == {"b": 2}
        assert api.get(f"/device-tasks/{later}").status_code == 404, "it was made after the backup"
        device = connect(restored, identity)
        assert device.expect("tsk").task_id == ready
        assert device.take(ready).body == b'{"a":1}'
        device.finish(ready)
        assert api.status(ready) == DONE
    finally:
        assert restored.stop() == 0
    assert not restored.panics()


def test_a_backup_under_load_is_whole(new_server, new_api, tmp_path):
    server = new_server()
    api = new_api(server)
    identity = api.register(tmp_path)
    accepted, stopping = [], threading.Event()

    def load():
        caller = new_api(server)
        while not stopping.is_set():
            accepted.append(caller.create(identity, ttl=60, payload={"text": "x" * 1000}))

    loading = threading.Thread(target=load)
    loading.start()
    try:
        while len(accepted) < 50 and loading.is_alive():
            time.sleep(0.01)
        before = list(accepted)
        made = covey("backup", "--data", server.data, "--to", tmp_path / "backup")
    finally:
        stopping.set()
        loading.join(10)
    assert made.returncode == 0, made.stderr
    restored = Server(tmp_path / "restored")
    assert covey("restore", "--from", tmp_path / "backup", "--data", restored.data).returncode == 0
    restored.start()
    try:
        total = new_api(restored).get("/device-tasks", params={"device_id": identity.device_id}).json()["total"]
        assert len(before) <= total <= len(accepted)
        assert {new_api(restored).status(task_id) for task_id in before} == {READY}
    finally:
        assert restored.stop() == 0


def test_a_backup_is_for_its_owner_alone(backed_up):
    *_, backup = backed_up
    assert backup.stat().st_mode & 0o077 == 0
    for path in backup.rglob("*"):
        if path.suffix in (".key", ".db"):
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_damaged_backup_is_not_restored(backed_up, tmp_path):
    *_, backup = backed_up
    for path in [path for path in backup.rglob("*") if path.is_file()]:
        good = path.read_bytes()
        damaged = bytearray(good)
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged)
        assert refuses(covey("restore", "--from", backup, "--data", tmp_path / "none")), path
        path.unlink()
        assert refuses(covey("restore", "--from", backup, "--data", tmp_path / "none")), path
        path.write_bytes(good)
    assert not list((tmp_path / "none").glob("**/*.db")), "nothing half restored is left"
    assert covey("restore", "--from", backup, "--data", tmp_path / "none").returncode == 0


def named_in(backup, path: str, of) -> None:
    """Adds a file to the backup's list, with what it holds."""
    listed = json.loads((backup / "manifest.json").read_text())
    content = of.read_bytes()
    entry = {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    listed["files"].append(entry)
    (backup / "manifest.json").write_text(json.dumps(listed))


def test_a_backup_that_names_what_is_none_of_its_own_is_refused_and_nothing_is_written(backed_up, tmp_path):
    *_, backup = backed_up
    outside, data = tmp_path / "outside.txt", tmp_path / "restored" / "data"
    outside.write_text("harmless")
    written = backup / "manifest.json"
    good = written.read_text()
    (backup / "notes.txt").write_text("harmless")
    (backup / "pki" / "link.pem").symlink_to(outside)
    (backup / "pki" / "sub").mkdir()
    (backup / "pki" / "sub" / "ca.pem").write_text("harmless")
    for path, of in [
        ("../outside.txt", outside),
        ("pki/../../outside.txt", outside),
        (str(outside), outside),
        ("pki/link.pem", outside),
        ("notes.txt", backup / "notes.txt"),
        ("pki/sub/ca.pem", backup / "pki" / "sub" / "ca.pem"),
        ("./covey.db", backup / "covey.db"),
        ("covey.db", backup / "covey.db"),
        ("pki", outside),
    ]:
        named_in(backup, path, of)
        assert refuses(covey("restore", "--from", backup, "--data", data)), path
        assert not data.exists() and not (tmp_path / "restored").exists(), path
        written.write_text(good)
    assert outside.read_text() == "harmless"

    # Neither may a folder of the backup be a link, nor the database be missing from the list.
    listed = json.loads(good)
    listed["files"] = [entry for entry in listed["files"] if entry["path"] != "covey.db"]
    written.write_text(json.dumps(listed))
    assert refuses(covey("restore", "--from", backup, "--data", data))
    written.write_text(good)
    (backup / "pki").rename(tmp_path / "keys")
    (backup / "pki").symlink_to(tmp_path / "keys")
    assert refuses(covey("restore", "--from", backup, "--data", data))
    assert not (tmp_path / "restored").exists()
    (backup / "pki").unlink()
    (tmp_path / "keys").rename(backup / "pki")
    (backup / "pki" / "link.pem").unlink()
    assert covey("restore", "--from", backup, "--data", data).returncode == 0


def test_what_is_no_key_is_not_backed_up_and_that_is_told(new_server, tmp_path):
    server = new_server()
    (server.data / "pki" / "notes.txt").write_text("mine")
    (server.data / "pki" / "issuing-old.pem").write_text("mine")
    made = covey("backup", "--data", server.data, "--to", tmp_path / "backup")
    assert made.returncode == 0 and "notes.txt" in made.stderr and "issuing-old" not in made.stderr
    assert not (tmp_path / "backup" / "pki" / "notes.txt").exists()
    assert covey("restore", "--from", tmp_path / "backup", "--data", tmp_path / "restored").returncode == 0
    assert (tmp_path / "restored" / "pki" / "issuing-old.pem").read_text() == "mine"


def test_neither_command_writes_over_what_is_there(backed_up):
    server, *_, backup = backed_up
    assert refuses(covey("backup", "--data", server.data, "--to", backup))
    assert refuses(covey("restore", "--from", backup, "--data", server.data))
    assert server.is_running()


def test_what_is_not_there_is_told(tmp_path):
    assert refuses(covey("backup", "--data", tmp_path / "none", "--to", tmp_path / "backup"))
    assert refuses(covey("restore", "--from", tmp_path / "none", "--data", tmp_path / "data"))
