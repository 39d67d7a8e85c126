"""How the server ends, and what it keeps for the next start."""

import socket
import threading
import time

from testbed.api import DONE, READY
from testbed.broker import LINK


def test_a_restart_keeps_tasks_devices_and_keys(new_server, new_api, connect, tmp_path):
    server = new_server()
    api = new_api(server)
    identity = api.register(tmp_path, tags=[{"tag": "site", "value": "Riga"}])
    device = connect(server, identity)
    done, ready = api.create(identity, payload={"a": 1}), api.create(identity, payload={"b": [1, 2]})
    device.take(done)
    device.finish(done, 200, '{"c":1}')
    key, ca = server.key, server.ca.read_text()
    seen = [api.task(done), api.task(ready)]

    server.restart()
    assert (server.key, server.ca.read_text()) == (key, ca)
    api = new_api(server, key)
    for before, after in zip(seen, [api.task(done), api.task(ready)], strict=True):
        before["header"].pop("ttl"), after["header"].pop("ttl")
        assert after == before
    assert [api.status(done), api.status(ready)] == [DONE, READY]
    (row,) = api.get("/devices", params={"sn": identity.sn}).json()
    assert row["device_tags"] == [{"tag": "site", "value": "Riga"}]
    if LINK.goes_with_server:
        assert row["connection"] is None or row["connection"]["last_checked_result"] is False
    else:
        assert row["connection"]["last_checked_result"] is True, "it is connected all the time"
    device = connect(server, identity)
    assert device.take(ready).body == b'{"b":[1,2]}'


def test_sigterm_lets_a_waiting_request_end_and_exits_0(new_server, new_api, tmp_path):
    server = new_server()
    api = new_api(server)
    identity = api.register(tmp_path)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(api.request_task(identity, wait=60)))
    caller.start()
    time.sleep(1)
    began = time.monotonic()
    server.terminate()
    assert server.process.wait(30) == 0
    assert time.monotonic() - began < 15
    caller.join(5)
    (answer,) = answers
    assert answer.status_code == 202 and answer.json()["status"] == READY
    assert not server.addresses_path.exists()


def test_a_stop_with_devices_and_idle_callers_takes_seconds_not_minutes(new_server, new_api, connect, tmp_path):
    server = new_server()
    api = new_api(server)
    for _ in range(5):
        connect(server, api.register(tmp_path))
    idle = socket.create_connection(("127.0.0.1", int(server.http.rsplit(":", 1)[1])))
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 5
    idle.close()


def test_sigint_ends_it_as_well(new_server):
    server = new_server()
    server.process.send_signal(2)
    assert server.process.wait(30) == 0


def test_the_addresses_are_those_at_which_it_answers(server, api):
    assert server.http.startswith("http://127.0.0.1:") and server.https.startswith("https://127.0.0.1:")
    assert api.get("/devices").status_code == 200
    socket.create_connection(server.mqtts, timeout=5).close()
