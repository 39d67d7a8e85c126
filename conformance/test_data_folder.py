"""What lies in the data directory is checked: a database that is gone, and one that cannot be read."""

import sqlite3
import subprocess
import time

import httpx
import pytest

from testbed.api import READY, is_problem
from testbed.server import Server

pytestmark = pytest.mark.embedded

DAMAGED = "the database is damaged: a page of it cannot be read"


def refused(server: Server) -> str:
    """What the server says that does not start."""
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, f"exit code {done.returncode}: {done.stderr}"
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("covey: ")]
    return line


@pytest.mark.parametrize("kept", ["pki", "admin.key"])
@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_keys_whose_database_is_gone_are_not_gone_on_with_unless_somebody_insists(new_server, new_api, left, kept):
    server = new_server()
    key, ca = server.key, server.ca.read_text()
    assert server.stop() == 0
    database = server.data / "covey.db"
    database.unlink()
    if left == "an empty file":
        database.touch()
    if kept == "admin.key":
        for path in (server.data / "pki").iterdir():
            path.unlink()
    else:
        (server.data / "admin.key").unlink()
    said = refused(server)
    assert ("missing" if left == "nothing" else "empty") in said
    assert "covey restore" in said and "--new" in said and kept in said
    assert left == "nothing" and not database.exists() or database.stat().st_size == 0, "nothing was made"

    server.options = ("--new",)
    server.start()
    assert (server.ca.read_text() == ca) == (kept == "pki") and (server.key == key) == (kept == "admin.key")
    api = new_api(server)
    assert api.get("/devices").json() == []
    # With a database that is there it does no harm.
    assert server.stop() == 0
    server.start()
    assert new_api(server).get("/devices").status_code == 200


def test_no_ca_is_made_beside_a_database_that_was_used_unless_somebody_insists(new_server, new_api):
    server = new_server()
    key, ca = server.key, server.ca.read_text()
    assert server.stop() == 0
    pki = server.data / "pki"
    kept = pki.rename(server.data / "elsewhere")
    said = refused(server)
    assert "there is no CA" in said and "covey restore" in said and "--new" in said
    assert not list(pki.glob("*")), "nothing was made"

    server.options = ("--new",)
    server.start()
    assert server.ca.read_text() != ca and server.key == key
    assert new_api(server).get("/devices").status_code == 200
    assert server.stop() == 0
    # It is that of the server from now on.
    server.options = ()
    server.start()
    assert server.stop() == 0
    for path in pki.iterdir():
        path.unlink()
    for path in kept.iterdir():
        path.rename(pki / path.name)
    server.start()
    assert server.ca.read_text() == ca


def test_a_database_that_is_all_in_its_log_is_not_missing(new_server, new_api, tmp_path):
    server = new_server()
    api = new_api(server)
    task_id = api.create(api.register(tmp_path))
    server.kill()
    assert (server.data / "covey.db-wal").stat().st_size > 0
    server.start()
    assert new_api(server).status(task_id) == READY


def page_of(database, table: str) -> tuple[int, int]:
    """Where the first page of a table is in the file, and how long a page is."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    connection.close()
    return (root - 1) * size, size


def readiness(server: Server) -> tuple[int, dict]:
    answer = httpx.get(f"{server.http}/readyz")
    (part,) = [part for part in answer.json()["parts"] if part["part"] == "store"]
    return answer.status_code, part


def test_a_page_that_cannot_be_read_makes_the_server_unready_with_its_reason(new_server, new_api, tmp_path):
    server = new_server()
    api = new_api(server)
    identity = api.register(tmp_path)
    task_id = api.create(identity)
    assert server.stop() == 0
    database = server.data / "covey.db"
    whole = database.read_bytes()
    begin, size = page_of(database, "tasks")
    with open(database, "r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * size)

    server.start()
    api = new_api(server)
    assert is_problem(api.request_task(identity), 503)
    assert readiness(server) == (503, {"part": "store", "state": "down", "why": DAMAGED})
    assert api.get("/devices").status_code == 200, "what can be read is read"
    # A write that succeeds elsewhere does not hide it.
    assert api.post("/devices", json={}).status_code == 201
    time.sleep(1.5)
    assert readiness(server)[0] == 503
    log = server.log_text()
    assert log.count("database is damaged; start anew") == 1 and server.is_running()

    assert server.stop() == 0
    for beside in server.data.glob("covey.db-*"):
        beside.unlink()
    database.write_bytes(whole)
    server.start()
    assert readiness(server) == (200, {"part": "store", "state": "up"})
    assert new_api(server).status(task_id) == READY


def test_a_schema_that_cannot_be_read_is_told_at_the_start(new_server):
    server = new_server()
    assert server.stop() == 0
    database = server.data / "covey.db"
    with open(database, "r+b") as file:
        file.seek(100)  # behind the header: the page of the schema
        file.write(b"\xff" * 1000)
    said = refused(server)
    assert "is damaged" in said and "restore a backup" in said
