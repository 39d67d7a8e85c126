"""How the server starts, and refuses to start."""

import fcntl
import os
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from testbed.server import BINARY, Server

pytestmark = pytest.mark.embedded


def refuses(server: Server, *expected: str, **how) -> bool:
    """Whether the server ends at once with exit code 2 and one line that holds these words."""
    done = subprocess.run(server.command(), capture_output=True, text=True, timeout=60, **how)
    assert done.returncode == 2, f"exit code {done.returncode}: {done.stderr}"
    assert "panicked" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, f"not one line: {done.stderr}"
    assert lines[0].startswith("covey: ")
    for words in expected:
        assert words in lines[0], f"{words!r} is not in {lines[0]!r}"
    assert not server.addresses_path.exists()
    return True


def quiet(path, *options) -> Server:
    """A server that logs errors only, so that what it says is what it says to a person."""
    return Server(path, *options, log="error")


@pytest.mark.parametrize("index", [0, 1, 2], ids=["http", "https", "mqtts"])
def test_a_port_in_use_is_told(tmp_path, index):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = quiet(tmp_path / "data")
        server.listen[2 * index + 1] = address
        assert refuses(server, address, server.listen[2 * index])


def test_a_second_server_on_the_same_data_is_refused_and_the_first_goes_on(new_server, new_api):
    first = new_server()
    command = quiet(first.data).command()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "another server" in done.stderr and len(done.stderr.splitlines()) == 1
    assert first.addresses_path.exists(), "it did not take the first one's addresses away"
    assert new_api(first).get("/devices").status_code == 200


def test_a_start_waits_until_a_killed_server_is_gone(new_server, new_api):
    server = new_server()
    assert server.stop() == 0
    with open(server.data / "lock", "rb") as held:
        # As the system holds it for a process that has thousands of sockets to close.
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(1.0, held.close).start()
        server.start()
    assert new_api(server).get("/devices").status_code == 200


def test_a_file_in_place_of_the_data_directory_is_told(tmp_path):
    (tmp_path / "data").write_text("a file")
    assert refuses(quiet(tmp_path / "data"), str(tmp_path / "data"), "--data")


def test_a_data_directory_below_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("a file")
    assert refuses(quiet(tmp_path / "file" / "data"), "--data")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_an_unreadable_data_directory_is_told():
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        subprocess.run([BINARY, "--version"], check=True, stdout=subprocess.DEVNULL, **nobody)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the binary cannot be run by another user")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        assert refuses(quiet(data), str(data), **nobody)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http = ", "line 1"),
        ("\n\nnonsense", "line 3"),
        ("http = 5", "line 1"),
        ("https = 'here'", "line 1"),
        ("no_such_setting = 1", "no_such_setting"),
        ("lease_seconds = -1", "line 1"),
        ("lease_seconds = 0", "lease_seconds"),
        ("http = '0.0.0.0:8080'", "loopback"),
        ("log = '[[['", "log"),
        ("\x00\x01", "line 1"),
    ],
)
def test_a_broken_configuration_is_told_with_its_place(tmp_path, text, expected):
    config = tmp_path / "covey.toml"
    config.write_text(text)
    server = Server(tmp_path / "data", "--config", str(config))
    command = [str(BINARY), "up", "--data", str(server.data), "--config", str(config)]
    if not text.startswith("http "):
        command += server.listen
    if "log" not in text:
        command += ["--log", "error"]
    server.command = lambda: command
    assert refuses(server, expected)


def test_a_missing_configuration_is_told(tmp_path):
    assert refuses(quiet(tmp_path / "data", "--config", str(tmp_path / "none.toml")), "none.toml")


def test_a_configuration_that_is_no_text_is_told(tmp_path):
    (tmp_path / "covey.toml").write_bytes(b"\xff\xfe")
    assert refuses(quiet(tmp_path / "data", "--config", str(tmp_path / "covey.toml")), "covey.toml")


def test_a_damaged_database_is_told_and_left_alone(new_server):
    server = new_server()
    assert server.stop() == 0
    files = [path for path in server.data.iterdir() if path.is_file()]
    (database,) = [path for path in files if path.read_bytes().startswith(b"SQLite format 3")]
    for beside in server.data.glob(f"{database.name}-*"):
        beside.unlink()  # the log and its index, from which a database can be made whole again
    damaged = b"not a database at all" * 1000
    database.write_bytes(damaged)
    server.log_filter = "error"
    assert refuses(server)
    assert database.read_bytes() == damaged


def test_a_damaged_key_of_the_ca_is_told_and_left_alone(new_server):
    server = new_server()
    assert server.stop() == 0
    key = server.data / "pki" / "issuing.key"
    key.write_text("hello")
    server.log_filter = "error"
    assert refuses(server, "issuing.key")
    assert key.read_text() == "hello"
