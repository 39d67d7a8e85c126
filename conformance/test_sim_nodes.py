"""`covey sim --protocol`: nodes that are simulated, with the gateways of a server: they are listed, say values, take what is
written, and go."""

import json
import os
import signal
import subprocess
import threading
import time

import pytest

from testbed.api import DONE
from testbed.mcu import PIN, Client
from testbed.nodes import device_of, nodes, values, wait_for
from testbed.server import BINARY, kept_ports

pytestmark = pytest.mark.embedded

# Apart from those of other tests, and different for each process of the test runner.
BASE = f"127.{124 + os.getpid() % 3}.{os.getpid() // 3 % 250}"
GATEWAYS = [
    "--coap", "127.0.0.1:0", "--mqtt-nodes", "127.0.0.1:0", "--mqtt-sn", "127.0.0.1:0",
    "--websocket-nodes", "127.0.0.1:0", "--unit-gateway", "--units-allow", "127.64.0.0/10", "--nodes-out-after", "3",
]  # fmt: skip


class Sim:
    """A simulation that runs, and the lines of JSON that it says."""

    def __init__(self, *arguments):
        command = [str(BINARY), "sim", *arguments, "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said: list[dict] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        self.said.extend(json.loads(line) for line in self.process.stdout)

    @property
    def summary(self) -> dict:
        return next((one for one in reversed(list(self.said)) if "connected" in one), {})

    def stop(self) -> dict:
        """Asks it to end; answers its last summary."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.process.stderr.read()
        self.reader.join(10)
        return self.summary

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)


@pytest.mark.parametrize(
    ("protocol", "gateway"),
    [("coap", "coap"), ("mqtt-node", "mqtt"), ("mqtt-sn", "mqttsn"), ("websocket", "websocket")],
)
def test_simulated_nodes_are_listed_say_values_take_writes_and_go(protocol, gateway, new_server, new_api, new_node):
    server = new_server(*GATEWAYS)
    app = new_api(server)
    sim = new_node(
        Sim, "--protocol", protocol, "--count", "3", "--interval", "200ms", "--data", str(server.data),
        "--base-address", f"{BASE}.1", "--prefix", "n",
    )  # fmt: skip
    uids = ["n-00001", "n-00002", "n-00003"]
    assert wait_for(lambda: sorted(node["uid"] for node in nodes(app, gateway=gateway)) == uids, seconds=60)
    devices = [wait_for(lambda: device_of(app, f"{gateway}-{uid}", online=True), seconds=60) for uid in uids]
    for uid, device in zip(uids, devices):
        twin = wait_for(lambda: (seen := values(app, device["device_id"])).keys() >= {"led", "imu", "robot", "position"} and seen, 60)
        assert (twin["name"], twin["led"], twin["robot"]) == (uid, "0", "s")
        assert twin["temperature"].endswith("°C") and twin["pressure"].endswith("hPa")
        assert isinstance(twin["imu"], str) and json.loads(twin["imu"]), "JSON text in a string"
        assert json.loads(twin["position"])
    changing = devices[0]["device_id"]
    first = values(app, changing)["imu"]
    assert wait_for(lambda: values(app, changing)["imu"] != first, seconds=60)
    body = {"device_id": changing, "ext_task_id": "s", "method": "set", "ttl": 5, "payload": {"led": "1"}}
    task = app.post("/device-tasks", params={"wait": 60}, json=body).json()
    assert task["status"] == DONE and task["results"][0]["status_code"] == 200, task
    assert values(app, changing)["led"] == "1"
    assert values(app, devices[1]["device_id"])["led"] == "0", "the others are as they were"
    assert wait_for(lambda: sim.summary.get("connected") == 3 and sim.summary["writes"] == 1, seconds=60), sim.summary
    last = sim.stop()
    assert last["nodes"] == 3 and last["values"] > 0, last
    for uid in uids:
        assert wait_for(lambda: device_of(app, f"{gateway}-{uid}", online=False), seconds=60)


def test_simulated_units_are_listed_by_the_file_that_they_write(tmp_path, new_server, new_api, new_node):
    file, [port] = tmp_path / "units.json", kept_ports(1)
    sims = []
    for number, kind in ((1, "read"), (101, "update")):
        arguments = ["--base-address", f"{BASE}.{number}", "--unit-port", str(port), "--list", str(tmp_path / kind)]
        sims.append(
            new_node(Sim, "--protocol", "unit", "--kind", kind, "--count", "2", "--interval", "100ms", "--prefix", kind, *arguments)
        )
    assert wait_for(lambda: all(sim.summary for sim in sims), seconds=60)
    listed = [unit for kind in ("read", "update") for unit in json.loads((tmp_path / kind).read_text())["units"]]
    assert [unit["name"] for unit in listed] == ["read-00001", "read-00002", "update-00001", "update-00002"]
    assert [one["address"] for one in sims[0].said[:2]] == [f"{BASE}.1:{port}", f"{BASE}.2:{port}"]
    file.write_text(json.dumps({"units": listed}))
    app = new_api(new_server("--units", str(file), "--units-allow", "127.64.0.0/10"))
    reading = [wait_for(lambda: device_of(app, f"unit-read-0000{one}", online=True), seconds=60) for one in (1, 2)]
    for device in reading:
        assert wait_for(lambda: values(app, device["device_id"]).get("value", "").isdigit(), seconds=60)
    lamp = wait_for(lambda: device_of(app, "unit-update-00002", online=True), seconds=60)
    body = {"device_id": lamp["device_id"], "ext_task_id": "s", "method": "set", "ttl": 5, "payload": {"led": "#00ff00"}}
    assert app.post("/device-tasks", params={"wait": 60}, json=body).json()["status"] == DONE
    assert wait_for(lambda: sims[1].summary["writes"] == 1, seconds=60)
    assert sims[0].stop()["values"] > 0
    for device in reading:
        assert wait_for(lambda: device_of(app, device["sn"], online=False), seconds=60)


def test_simulated_microcontrollers_register_answer_client_programs_and_register_again(new_server, new_api, new_node):
    server = new_server("--mcu-http", "127.0.0.1:0")
    app, client = new_api(server), new_node(Client, server.addresses["mcu_http"])
    names = ["ft-00001", "ft-00002"]

    def run() -> Sim:
        sim = new_node(Sim, "--protocol", "mcu", "--count", "2", "--prefix", "ft", "--data", str(server.data))
        for name in names:
            assert wait_for(lambda: device_of(app, name, online=True), seconds=60), sim.summary
            assert wait_for(lambda: client.call("get_gpio", name, number=PIN) == (200, b'{"value":0}'), seconds=60)
        return sim

    def told_of_its_presence(device: dict) -> int:
        params = {"device_id": device["device_id"], "events_include": [-1, -2], "size": 100}
        return len(app.get("/device-events", params=params).json()["items"])

    sim = run()
    one, other = names
    assert client.told("set_gpio", one, number=PIN, value=1) == client.told("get_gpio", one, number=PIN) == {"value": 1}
    assert client.told("get_gpio", one, number=3) == client.told("get_gpio", other, number=PIN) == {"value": 0}, "no other pin"
    assert abs(client.told("get_rtc", one)["value"] - time.time()) < 60
    assert client.told("set_rtc", one, value=1560937415) == {"value": 1560937415}
    assert 0 <= client.told("get_rtc", one)["value"] - 1560937415 < 60
    assert client.told("get_status", one) == {"status": "running"}

    device = device_of(app, one)
    before = told_of_its_presence(device)
    assert client.told("set_status", one, status="restart") == {"status": "restart"}
    assert wait_for(lambda: told_of_its_presence(device) == before + 2, seconds=60), "it has gone and come"
    assert wait_for(lambda: client.call("get_gpio", one, number=PIN) == (200, b'{"value":1}'), seconds=60)

    tasks = app.get("/device-tasks", params={"device_id": device["device_id"]}).json()["items"]
    done = {task["method"] for task in tasks if task["status"] == DONE and task["created_by"] == "mcu-http"}
    assert done == {"get_gpio", "set_gpio", "get_rtc", "set_rtc", "get_status", "set_status"}
    assert wait_for(lambda: sim.summary.get("connected") == 2, seconds=60), sim.summary
    last = sim.stop()
    assert (last["nodes"], last["writes"]) == (2, 3) and last["values"] > 0, last
    assert all(wait_for(lambda: device_of(app, name, online=False), seconds=60) for name in names)
    run()


def simulated(*arguments) -> subprocess.CompletedProcess:
    """A simulation of a microcontroller that ends by itself."""
    command = [str(BINARY), "sim", "--protocol", "mcu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_microcontrollers_are_simulated_away_from_their_server_and_told_why_they_are_refused(tmp_path, new_server, new_api):
    server = new_server("--mcu-http", "127.0.0.1:0")
    new_api(server).register(tmp_path, "taken-00001")
    listener, ca = server.addresses["mcu_http"].removeprefix("https://"), ["--ca", str(server.data / "pki" / "ca.pem")]
    for arguments, said in (
        (["--data", str(server.data), "--prefix", "taken"], ["409", "--prefix"]),
        (["--data", str(server.data), "--prefix", "a.b"], ["400", "device_name", "--prefix"]),
        (["--gateway", listener], ["not trusted", "--ca"]),
        (["--gateway", listener, *ca, "--broker", "127.0.0.1"], ["mqtts://HOST:PORT"]),
    ):
        done = simulated(*arguments)
        assert done.returncode == 2 and all(word in done.stderr for word in said), (arguments, done)
    done = simulated("--for", "1s", "--gateway", listener, *ca, "--broker", server.addresses["mqtts"])
    assert done.returncode == 0 and "1 of 1 mcu nodes connected" in done.stdout, done


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--mcu-http-key-file", "key", "401"), ("--mcu-topic-prefix", "acme", "subscription")],
)
def test_simulated_microcontrollers_need_what_their_listener_has_and_are_told(option, value, said, tmp_path, new_server):
    if value == "key":
        value = str(tmp_path / "key")
        with open(os.open(value, os.O_WRONLY | os.O_CREAT, 0o600), "w") as key:
            key.write("sixteen-characters")
    server = new_server("--mcu-http", "127.0.0.1:0", option, value)
    done = simulated("--data", str(server.data))
    assert done.returncode == 2 and said in done.stderr and option in done.stderr, done
    done = simulated("--data", str(server.data), "--for", "1s", option, value)
    assert done.returncode == 0 and "1 of 1 mcu nodes connected" in done.stdout, done


@pytest.mark.parametrize(
    ("protocol", "switch"),
    [("coap", "--coap"), ("mcu", "--mcu-http"), ("mqtt-node", "--mqtt-nodes"), ("mqtt-sn", "--mqtt-sn"), ("websocket", "--websocket-nodes")],
)
def test_a_gateway_that_is_not_there_is_said_with_the_option_that_switches_it_on(protocol, switch, tmp_path, server):
    def sim(*more):
        arguments = ["--protocol", protocol, "--base-address", f"{BASE}.201", *more]
        return subprocess.run([str(BINARY), "sim", *arguments], capture_output=True, text=True, timeout=120)

    [port] = kept_ports(1)
    absent = sim("--gateway", f"127.0.0.1:{port}")
    assert absent.returncode != 0 and switch in absent.stderr and f"127.0.0.1:{port}" in absent.stderr, absent.stderr
    off = sim("--data", str(server.data))
    assert off.returncode != 0 and switch in off.stderr, off.stderr
    nowhere = sim("--data", str(tmp_path / "nothing"))
    assert nowhere.returncode != 0 and "--gateway" in nowhere.stderr, nowhere.stderr
