"""TCP units: microcontrollers that are servers, hold one connection, and say or take lines."""

import json
import subprocess
import time

import pytest

from testbed.api import DONE
from testbed.nodes import Unit, device_of, values, wait_for
from testbed.server import BINARY, NotStarted, Server, kept_ports



def listed(tmp_path, *units, **more) -> tuple[str, ...]:
    file = tmp_path / "units.json"
    file.write_text(json.dumps({"units": list(units), **more}))
    return "--units", str(file), "--units-allow", "127.0.0.1"


def entry(unit: Unit, kind: str, **more) -> dict:
    return {"address": "127.0.0.1", "port": unit.port, "kind": kind, **more}


@pytest.mark.embedded
def test_each_line_of_a_read_unit_is_a_value_over_one_connection(tmp_path, new_server, new_api, new_node):
    unit = new_node(Unit, [b"512\n", b"513\r", b"\r\n514\r\n"])
    server = new_server(*listed(tmp_path, entry(unit, "read", name="scale", resource="weight")))
    app = new_api(server)
    device = wait_for(lambda: device_of(app, "unit-scale", online=True))
    assert wait_for(lambda: values(app, device["device_id"]).get("weight") == "514")
    history = app.get(f"/devices/{device['device_id']}/twin/history", params={"resource": "weight"})
    assert history.status_code == 200, history.text
    assert unit.connections == 1
    unit.cut()
    assert wait_for(lambda: device_of(app, "unit-scale", online=False))
    assert wait_for(lambda: device_of(app, "unit-scale", online=True), seconds=10)
    assert unit.connections == 2


@pytest.mark.embedded
def test_a_unit_that_was_down_at_the_start_is_found_later(tmp_path, new_server, new_api, new_node):
    [port] = kept_ports(1)
    down = {"address": "127.0.0.1", "port": port, "kind": "read", "name": "late"}
    app = new_api(new_server(*listed(tmp_path, down)))
    time.sleep(1.5)
    assert device_of(app, "unit-late") is None
    new_node(Unit, [b"7\n"], port=port)
    device = wait_for(lambda: device_of(app, "unit-late", online=True), seconds=15)
    assert wait_for(lambda: values(app, device["device_id"]).get("value") == "7")


@pytest.mark.embedded
def test_writes_of_an_updatable_unit_follow_one_another(tmp_path, new_server, new_api, new_node):
    unit = new_node(Unit)
    server = new_server(*listed(tmp_path, entry(unit, "update", name="lamp", resource="color")))
    app = new_api(server)
    device = wait_for(lambda: device_of(app, "unit-lamp", online=True))
    colors = ["red", "#00ff00", "blue"]
    for color in colors:
        body = {"device_id": device["device_id"], "ext_task_id": "u", "method": "set", "ttl": 5, "payload": {"color": color}}
        answer = app.post("/device-tasks", params={"wait": 10}, json=body)
        assert answer.json()["status"] == DONE, answer.text
        assert answer.json()["results"][0]["result"] == {"color": color}
    assert unit.taken == colors and unit.most_at_once == 1
    assert values(app, device["device_id"])["color"] == "blue"
    for payload, status in (({"color": "a\r\nb"}, 400), ({"other": "1"}, 404)):
        body = {"device_id": device["device_id"], "ext_task_id": "u", "method": "set", "ttl": 5, "payload": payload}
        result = app.post("/device-tasks", params={"wait": 10}, json=body).json()["results"][0]
        assert result["status_code"] == status, result
    assert unit.taken == colors


@pytest.mark.embedded
def test_a_unit_that_accepts_and_never_speaks_and_one_that_speaks_too_long_disturb_nobody(
    tmp_path, new_server, new_api, new_node
):
    silent, long = new_node(Unit, [b""]), new_node(Unit, [b"9" * 5000 + b"\n", b"\xff\xfe\n", b"1\n"])
    units = [entry(silent, "read", name="silent"), entry(long, "read", name="long")]
    server = new_server(*listed(tmp_path, *units))
    app = new_api(server)
    device = wait_for(lambda: device_of(app, "unit-long", online=True))
    assert wait_for(lambda: values(app, device["device_id"]).get("value") == "1")
    assert device_of(app, "unit-silent") is None
    assert server.log_text().count("a line of a unit was left out") == 2
    counted = {what: server.metric("covey_link_messages_total", link="unit", what=what) for what in ("lines", "lines_left_out")}
    assert counted == {"lines": 1, "lines_left_out": 2}


@pytest.mark.parametrize(
    ("text", "allow", "expected"),
    [
        ('{"units": [{"address": "127.0.0.1", "kind": "read"}]}', "private", "--units-allow 127.0.0.1"),
        ('{"clients": ["8.8.8.8"]}', "private", "--units-allow 8.8.8.8"),
        ('{"units": 1}', "private", "units.json"),
        ("no json", "private", "units.json"),
        ("{}", "http", "units_allow"),
    ],
)
@pytest.mark.embedded
def test_a_list_that_is_wrong_or_goes_where_units_may_not_be_is_refused_at_the_start(tmp_path, text, allow, expected):
    file = tmp_path / "units.json"
    file.write_text(text)
    server = Server(tmp_path / "data", "--units", str(file), "--units-allow", allow)
    with pytest.raises(NotStarted) as refused:
        server.start()
    assert expected in str(refused.value)


# Over REST.

ON = "--unit-gateway", "--units-allow", "loopback"


def add(app, unit: Unit, kind: str, **more) -> dict:
    body = {"address": "127.0.0.1", "port": unit.port, "kind": kind, **more}
    answer = app.post("/units", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def set_value(app, device: dict, resource: str, value: str) -> dict:
    body = {"device_id": device["device_id"], "ext_task_id": "u", "method": "set", "ttl": 5, "payload": {resource: value}}
    return app.post("/device-tasks", params={"wait": 30}, json=body).json()


@pytest.mark.every_shape
def test_a_unit_that_is_listed_over_rest_is_spoken_with_at_once_and_after_a_restart(new_server, new_api, new_node):
    server = new_server(*ON)
    app = new_api(server)
    scale, lamp = new_node(Unit, [b"512\n", b"513\n"]), new_node(Unit)
    listed = add(app, scale, "read", name="scale", resource="weight")
    assert (listed["sn"], listed["port"], listed["kind"]) == ("unit-scale", scale.port, "read")
    add(app, lamp, "update", name="lamp", resource="color")
    device = wait_for(lambda: device_of(app, "unit-scale", online=True), seconds=30)
    assert wait_for(lambda: values(app, device["device_id"]).get("weight") == "513", seconds=30)
    lamp_device = wait_for(lambda: device_of(app, "unit-lamp", online=True), seconds=30)
    assert set_value(app, lamp_device, "color", "red")["status"] == DONE
    found = app.get("/units").json()
    assert [unit["name"] for unit in found["items"]] == ["scale", "lamp"] and found["total"] == 2
    assert all(unit["server"] for unit in found["items"])
    assert app.get("/units", params={"name": "lamp"}).json()["items"][0]["resource"] == "color"
    assert server.stop() == 0
    server.start()
    app = new_api(server)
    assert wait_for(lambda: device_of(app, "unit-scale", online=True), seconds=30)
    assert wait_for(lambda: device_of(app, "unit-lamp", online=True), seconds=30)
    assert set_value(app, lamp_device, "color", "blue")["status"] == DONE
    assert lamp.taken == ["red", "blue"] and lamp.most_at_once == 1
    assert scale.most_at_once == 1


@pytest.mark.embedded
def test_a_unit_that_is_changed_or_removed_is_left_at_once(new_server, new_api, new_node):
    app = new_api(new_server(*ON))
    first, second = new_node(Unit, [b"1\n"]), new_node(Unit, [b"2\n"])
    listed = add(app, first, "read", name="scale")
    device = wait_for(lambda: device_of(app, "unit-scale", online=True), seconds=30)
    moved = app.put(f"/units/{listed['id']}", json={"address": "127.0.0.1", "port": second.port, "kind": "read"})
    assert moved.status_code == 200, moved.text
    assert wait_for(lambda: values(app, device["device_id"]).get("value") == "2", seconds=30)
    # The unit sees that its one connection is free.
    assert wait_for(lambda: first.is_left(), seconds=30)
    assert app.delete(f"/units/{listed['id']}").status_code == 200
    assert wait_for(lambda: device_of(app, "unit-scale", online=False), seconds=30)
    assert wait_for(lambda: second.is_left(), seconds=30)
    assert app.get("/units").json()["items"] == []
    assert app.delete(f"/units/{listed['id']}").status_code == 404


@pytest.mark.embedded
def test_two_units_that_change_places_never_have_two_connections(new_server, new_api, new_node):
    app = new_api(new_server(*ON))
    places = [new_node(Unit, [b"one\n"]), new_node(Unit, [b"two\n"])]
    spare = kept_ports(1)[0]
    ids = [add(app, place, "read", name=f"u{number}")["id"] for number, place in enumerate(places)]
    devices = [wait_for(lambda: device_of(app, f"unit-u{number}", online=True), seconds=30) for number in (0, 1)]
    for number, port in ((0, spare), (1, places[0].port), (0, places[1].port)):
        body = {"address": "127.0.0.1", "port": port, "kind": "read"}
        assert app.put(f"/units/{ids[number]}", json=body).status_code == 200
    for device, value in zip(devices, ("two", "one")):
        assert wait_for(lambda: values(app, device["device_id"]).get("value") == value, seconds=30)
    assert [place.open_at_most for place in places] == [1, 1]


@pytest.mark.embedded
def test_a_unit_is_no_listener_of_the_server_and_only_where_the_operator_allows(new_server, new_api):
    server = new_server(*ON, *(word for name in ("mqtt-nodes", "metrics", "mcu-http") for word in (f"--{name}", "127.0.0.1:0")))
    app = new_api(server)
    addresses = json.loads((server.data / "addresses.json").read_text())
    listeners = ("http", "https", "mqtts", "mqtt_nodes", "metrics", "mcu_http")
    ports = {int(addresses[name].rsplit(":", 1)[1]) for name in listeners}
    assert len(ports) == len(listeners)
    for port in ports:
        refused = app.post("/units", json={"address": "127.0.0.1", "port": port, "kind": "update"})
        assert refused.status_code == 422 and refused.json()["field"] == "address", refused.text
    for address in ("192.168.1.20", "8.8.8.8", "0.0.0.0", "169.254.169.254", "lamp"):
        refused = app.post("/units", json={"address": address, "kind": "read"})
        assert refused.status_code == 422 and refused.json()["field"] == "address", refused.text
    assert app.get("/units").json()["total"] == 0


@pytest.mark.embedded
def test_loopback_must_be_named_and_a_file_names_no_listener(tmp_path, new_server, new_api):
    app = new_api(new_server("--unit-gateway"))
    assert app.post("/units", json={"address": "127.0.0.1", "kind": "read"}).status_code == 422
    assert app.post("/units", json={"address": "192.168.1.20", "kind": "update"}).status_code == 201
    [port] = kept_ports(1)
    own = {"address": "127.0.0.1", "port": port, "kind": "update"}
    server = Server(tmp_path / "own", *listed(tmp_path, own), "--metrics", f"127.0.0.1:{port}")
    with pytest.raises(NotStarted) as refused:
        server.start()
    assert "listener" in str(refused.value)


@pytest.mark.embedded
def test_who_may_list_units_needs_the_right_and_sees_its_own(new_server, new_api, new_node):
    server = new_server(*ON)
    app = new_api(server)
    unit = new_node(Unit)
    listed = add(app, unit, "update", name="lamp")
    reader = new_api(server, app.key_with(["gateways:read"]))
    assert reader.get("/units").json()["total"] == 1
    assert reader.delete(f"/units/{listed['id']}").status_code == 403
    body = {"address": "127.0.0.1", "port": unit.port, "kind": "read"}
    assert reader.post("/units", json=body).status_code == 403
    assert new_api(server, app.key_with(["devices:read"])).get("/units").status_code == 403
    rival = new_api(server, app.key_with(["gateways:read", "gateways:write"], org="rival"))
    assert rival.get("/units").json()["total"] == 0
    assert rival.delete(f"/units/{listed['id']}").status_code == 404
    assert app.post("/units", json=body | {"name": "lamp"}).status_code == 409
    assert app.post("/units", json=body | {"name": "other"}).status_code == 409


@pytest.mark.embedded
def test_the_command_line_lists_changes_and_removes_units(new_server, new_api, new_node):
    server = new_server(*ON)
    app, unit = new_api(server), new_node(Unit)

    def covey(*arguments):
        command = [str(BINARY), *arguments, "--data", str(server.data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    added = covey("unit", "add", f"127.0.0.1:{unit.port}", "--kind", "update", "--name", "lamp", "--resource", "color", "--json")
    assert added.returncode == 0 and json.loads(added.stdout)["sn"] == "unit-lamp", added.stderr
    assert wait_for(lambda: device_of(app, "unit-lamp", online=True), seconds=30)
    done = covey("node", "set", "unit/lamp", "color", "#00ff00")
    assert done.returncode == 0, done.stderr
    assert unit.taken == ["#00ff00"]
    shown = covey("unit", "list")
    assert shown.returncode == 0 and f"127.0.0.1:{unit.port}" in shown.stdout, shown.stderr
    changed = covey("unit", "set", "lamp", "--resource", "light")
    assert changed.returncode == 0 and "resource light" in changed.stdout, changed.stderr
    assert app.get("/units").json()["items"][0] | {"created_at": "", "server": ""} == {
        "id": 1, "name": "lamp", "address": "127.0.0.1", "port": unit.port, "kind": "update", "resource": "light",
        "sn": "unit-lamp", "server": "", "created_at": "",
    }
    assert covey("unit", "set", "lamp").returncode == 2, "nothing is to be changed"
    assert covey("unit", "rm", "lamp").returncode == 0
    gone = covey("unit", "rm", "lamp")
    assert gone.returncode == 1 and "unit list" in gone.stderr


@pytest.mark.embedded
def test_a_unit_whose_device_is_retired_comes_again_as_a_new_one(new_server, new_api, new_node):
    app = new_api(new_server(*ON))
    scale, lamp = new_node(Unit, [b"1\n"]), new_node(Unit)
    add(app, scale, "read", name="scale")
    add(app, lamp, "update", name="lamp")
    for sn in ("unit-scale", "unit-lamp"):
        was = wait_for(lambda: device_of(app, sn, online=True), seconds=30)
        assert app.delete(f"/devices/{was['device_id']}").status_code == 200
        assert wait_for(lambda: device_of(app, sn) is None, seconds=30)
        scale.say(b"2\n")
        again = wait_for(lambda: device_of(app, sn, online=True), seconds=60)
        assert again["device_id"] != was["device_id"]


@pytest.mark.every_shape
@pytest.mark.several_servers
def test_one_server_speaks_with_the_units_and_another_when_that_one_ends(pairs, new_api, new_node):
    first, second = pairs.new("--server-name", "a", *ON, second=("--server-name", "b", *ON))
    servers = {"a": first, "b": second}
    app, unit = new_api(first), new_node(Unit, [b"1\n"])
    add(app, unit, "read", name="scale")
    assert wait_for(lambda: device_of(app, "unit-scale", online=True), seconds=60)
    speaker = app.get("/units").json()["items"][0]["server"]
    [other_name] = {"a", "b"} - {speaker}
    other = new_api(servers[other_name])
    assert other.get("/units").json()["items"][0]["server"] == speaker
    unit.lines = [b"2\n"]
    # What the other server is told it leaves to the one that has the units.
    assert other.put("/units/1", json={"address": "127.0.0.1", "port": unit.port, "kind": "read", "resource": "weight"}).status_code == 200
    device = device_of(app, "unit-scale")
    assert wait_for(lambda: values(app, device["device_id"]).get("weight") == "2", seconds=60)
    assert servers[speaker].stop() == 0
    assert wait_for(lambda: other.get("/units").json()["items"][0]["server"] == other_name, seconds=90)
    assert wait_for(lambda: device_of(other, "unit-scale", online=True), seconds=90)
    assert unit.open_at_most == 1


@pytest.mark.embedded
def test_a_line_that_a_unit_does_not_finish_is_no_value(tmp_path, new_server, new_api, new_node):
    unit = new_node(Unit, [b"5", b"12\n", b"61"])
    server = new_server(*listed(tmp_path, entry(unit, "read", name="half")))
    app = new_api(server)
    device = wait_for(lambda: device_of(app, "unit-half", online=True), seconds=30)
    assert wait_for(lambda: values(app, device["device_id"]).get("value") == "512")
    unit.lines = [b"7\n"]
    unit.cut()
    assert wait_for(lambda: values(app, device["device_id"])["value"] == "7", seconds=30)
    history = app.get(f"/devices/{device['device_id']}/twin/history", params={"resource": "value"}).json()
    assert [one["value"] for one in history] == ["7", "512"], history
