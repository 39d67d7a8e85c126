"""PostgreSQL is killed under load, and its disk becomes full: calls are refused, none is half done, and all goes on."""

import json
import os
import subprocess
import time

import pytest

from testbed.fault_load import ROUNDS
from testbed.fault_services import FaultServices

# How long the database is gone: longer than a server waits before it says so.
GONE_SECONDS = 2.0
DISK_MIB = 192
FULL_SECONDS = 3.0
FILL_SECONDS_MAX = 40.0
FILL_BYTES = 1 << 16


@pytest.mark.timeout(180 + 60 * ROUNDS)
@pytest.mark.parametrize("shape", ["postgres+rabbitmq", "postgres+embedded"])
def test_postgresql_is_killed_and_comes_back(site, own_services, shape):
    here = site(shape)
    load = here.start_load(f"PostgreSQL killed, {shape}")
    for _ in range(ROUNDS):
        killed = own_services.kill("postgresql")
        load.measured("kill to first 503", load.wait_for_refusals(killed))
        time.sleep(GONE_SECONDS)
        started = own_services.start("postgresql")
        load.measured("start of PostgreSQL took", time.monotonic() - started)
        load.measured("start of PostgreSQL to first completed call", load.first_completed(started))
        load.run(1.0, until_completed=True)
    load.finish()
    assert load.losses() == {}, "a server answers, whatever becomes of its database"


@pytest.fixture
def small_disk(tmp_path_factory):
    """Services of their own on a small file system."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    own = FaultServices()
    size = f"size={DISK_MIB}m,mode=755"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(own.dir)], capture_output=True, text=True)
    if done.returncode:
        own.dir.rmdir()
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield own
    make_room(own)
    own.do("down")
    subprocess.run(["umount", "--lazy", str(own.dir)], check=True)
    own.dir.rmdir()


def fill(own: FaultServices) -> None:
    """Takes the room that is left."""
    with open(own.dir / "filler", "ab", buffering=0) as filler:
        for size in (FILL_BYTES, 1 << 12):
            try:
                while filler.write(b"x" * size):
                    pass
            except OSError:
                pass


def make_room(own: FaultServices) -> None:
    (own.dir / "filler").unlink(missing_ok=True)


def switch_log(own: FaultServices) -> None:
    """Makes the database begin a new file of its log, for which there is no room: it ends itself."""
    server = json.loads((own.dir / "services.json").read_text())["postgresql"]
    psql = [server["programs"] + "/psql", "-h", "127.0.0.1", "-p", str(server["port"])]
    psql += ["-U", server["admin"]["user"], "-d", "postgres", "-c", "SELECT pg_switch_wal()"]
    deadline = time.monotonic() + FILL_SECONDS_MAX
    while is_running(own):
        assert time.monotonic() < deadline, "the database goes on without room for its log"
        subprocess.run(psql, env={"PGPASSWORD": server["admin"]["password"]}, capture_output=True, timeout=30)
        time.sleep(0.2)


def is_running(own: FaultServices) -> bool:
    return own.processes()["postgresql"]["running"]


@pytest.mark.timeout(180 + 60 * ROUNDS)
@pytest.mark.parametrize("room_for", ["log", "nothing"])
def test_the_disk_of_postgresql_is_full_and_has_room_again(small_disk, site, room_for):
    here = site("postgres+embedded", own=small_disk)
    here.before_close = lambda: make_room(small_disk)
    load = here.start_load(f"disk of PostgreSQL full, room for {room_for}, postgres+embedded")
    for _ in range(ROUNDS):
        fill(small_disk)
        filled = time.monotonic()
        load.measured("full to first 503", load.wait_for_refusals(filled, seconds=FILL_SECONDS_MAX))
        if room_for == "nothing":
            switch_log(small_disk)
        time.sleep(FULL_SECONDS)
        make_room(small_disk)
        roomy = time.monotonic()
        if not is_running(small_disk):
            small_disk.start("postgresql")
        load.measured("room to first completed call", load.first_completed(roomy))
        load.run(1.0, until_completed=True)
    load.finish()
    assert load.losses() == {}
