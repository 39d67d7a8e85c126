"""The calls of microcontrollers over HTTPS, with a client program and a device as in the field (docs/mcu-http.md)."""

import http.client
import itertools
import json
import shutil
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from testbed.api import DONE, FAILED
from testbed.device import Device as TaskDevice
from testbed.device import NOT_AUTHORIZED
from testbed.mcu import PIN, Client, Device
from testbed.nodes import device_of, wait_for
from testbed.server import BINARY, NotStarted, Server, kept_ports, serving

pytestmark = pytest.mark.embedded
LISTENER = ("--mcu-http", "127.0.0.1:0")
ANSWER_SECONDS = 5
NOT_GRANTED = 0x80


@pytest.fixture(scope="module")
def covey(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("mcu") / "data", *LISTENER) as running:
        yield running


@pytest.fixture
def app(covey, new_api):
    return new_api(covey)


@pytest.fixture
def client(covey, new_node):
    return new_node(Client, covey.addresses["mcu_http"])


@pytest.fixture
def new_device(covey, client, new_node, tmp_path):
    """Registers a microcontroller and connects it."""

    def new(name: str | None = None, **more) -> Device:
        name = name or f"ft-{uuid.uuid4().hex[:8]}"
        return new_node(Device, covey.mqtts, tmp_path / "keys", name, client.register(name), **more).ready()

    return new


def listing(app, name: str) -> list[dict]:
    """The tasks of a device, newest first."""
    device = device_of(app, name)
    answer = app.get("/device-tasks", params={"device_id": device["device_id"]})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def test_the_client_program_of_the_field_runs_to_its_end(covey, new_device):
    name = f"ft900device-{uuid.uuid4().hex[:6]}"
    device = new_device(name)
    host, port = covey.addresses["mcu_http"].removeprefix("https://").split(":")
    command = [sys.executable, "-m", "testbed.mcu", host, port, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stdout + done.stderr
    first_seven = [(topic.split("/")[1], json.loads(body)) for topic, body in device.heard[:7]]
    assert first_seven[:5] == [
        ("get_gpio", {"number": PIN}),
        ("set_gpio", {"number": PIN, "value": 0}),
        ("get_gpio", {"number": PIN}),
        ("set_gpio", {"number": PIN, "value": 1}),
        ("get_gpio", {"number": PIN}),
    ]
    assert [topic.split("/")[1] for topic, _ in device.heard[5:]] == [
        "get_rtc", "set_rtc", "get_rtc", "get_status", "set_status"
    ]
    assert device.heard[0] == (f"{name}/get_gpio", b'{"number": 12}')
    assert device.listens.wait(30), "it came back after its restart"


def test_an_answer_is_what_the_device_said_byte_for_byte(client, new_device):
    device = new_device()
    for body in (b' {"value" : "1",\n "more": "\xc3\xbc\\u00fc"} ', b'{"value":1e0}', b'{"value": %s}' % (b"1" * 60_000)):
        device.answers[f"{device.name}/get_gpio"] = body
        assert client.call("get_gpio", device.name, number=3) == (200, body)


def test_numbers_may_come_as_digits_in_a_string(client, new_device):
    device = new_device()
    assert client.call("set_gpio", device.name, number="7", value="-2")[0] == 200
    assert device.heard == [(f"{device.name}/set_gpio", b'{"number": 7, "value": -2}')]
    assert device.pins == {7: -2}


def test_a_call_is_a_task_like_any_other(covey, app, client, new_device):
    device = new_device()
    client.told("get_gpio", device.name, number=4)
    task = app.task(listing(app, device.name)[0]["id"])
    assert (task["method"], task["status"]) == ("get_gpio", DONE)
    assert task["created_by"] == "mcu-http" and task["results"][0]["result"] == {"value": 0}
    listed = [str(BINARY), "task", "list", "--json", "--data", str(covey.data)]
    listed = subprocess.run(listed, capture_output=True, text=True, timeout=30)
    assert task["id"] in listed.stdout, listed
    shown = app.get("/devices", params={"sn": device.name}).json()[0]
    assert shown["connection"]["last_checked_result"] and "kind" not in shown


def test_applications_call_a_microcontroller_over_the_rest_api(app, new_device):
    device = new_device()

    def call(**fields) -> dict:
        found = device_of(app, device.name)
        body = {"ext_task_id": "mcu", "device_id": found["device_id"], "method_code": 20, "ttl": 5, **fields}
        answer = app.post("/device-tasks", params={"wait": 30}, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    done = call(method="set_gpio", payload={"number": 5, "value": 1})
    assert done["status"] == DONE and device.pins == {5: 1}
    assert call(method="get_status")["results"][0]["result"] == {"status": "running"}
    for fields, code in (
        ({"method": "blink"}, 501),
        ({"method": "set", "payload": {"led": 1}}, 501),
        ({}, 501),
        ({"method": "get_gpio"}, 400),
        ({"method": "get_gpio", "payload": {"number": "x"}}, 400),
    ):
        failed = call(**fields)
        assert (failed["status"], failed["results"][0]["status_code"]) == (FAILED, code), failed
    device.is_mute = True
    failed = call(method="get_rtc")
    assert (failed["status"], failed["results"][0]["status_code"]) == (FAILED, 504), failed
    assert len([topic for topic, _ in device.heard if topic.endswith("get_rtc")]) == 1


def test_a_registration_gives_an_rsa_key_and_a_certificate_that_lead_to_the_ca(covey, client):
    name = f"ft-{uuid.uuid4().hex[:8]}"
    keys = client.register(name)
    assert set(keys) == {"cert", "pkey", "ca"}
    key = load_pem_private_key(keys["pkey"].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey) and key.key_size == 2048
    own, issuing = x509.load_pem_x509_certificates(keys["cert"].encode())
    assert own.public_key() == key.public_key()
    assert own.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == name
    own.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(x509.load_pem_x509_certificate(keys["ca"].encode()))
    assert keys["ca"] == covey.ca.read_text()


def test_a_second_registration_renews_and_the_first_certificate_stays_good(covey, app, client, new_node, tmp_path):
    name = f"ft-{uuid.uuid4().hex[:8]}"
    first, second = client.register(name), client.register(name)
    assert first["cert"] != second["cert"]
    number = device_of(app, name)["device_id"]
    for which, keys in enumerate((first, second)):
        device = new_node(Device, covey.mqtts, tmp_path / str(which), name, keys).ready()
        assert client.told("get_status", name) == {"status": "running"}
        device.close()
    assert device_of(app, name)["device_id"] == number


def test_retiring_a_microcontroller_ends_its_connection_and_its_certificates(covey, app, client, new_device, new_node, tmp_path):
    device = new_device()
    assert client.call("unregister_device", device.name) == (200, b"unregister_device")
    assert device.closed.wait(30)
    device.close()
    assert device_of(app, device.name) is None
    for name in ("get_status", "unregister_device"):
        assert client.call(name, device.name)[0] == 409
    keys = {kind: (tmp_path / "keys" / f"{device.name}.{kind}").read_text() for kind in ("cert", "pkey", "ca")}
    again = new_node(Device, covey.mqtts, tmp_path / "again", device.name, keys)
    assert again.closed.wait(30) and not again.listens.is_set()
    again.close()
    # The name is free again.
    assert new_device(device.name).name == device.name


def test_names_of_other_devices_are_refused_and_nothing_of_them_changes(covey, app, client, new_device, tmp_path, new_api):
    identity = app.register(tmp_path)
    node = f"node-{uuid.uuid4().hex[:8]}"
    assert app.post("/devices", json={"sn": node, "certificate": "none"}).status_code == 201
    other_org = new_api(covey, key=app.key_with(["devices:read", "devices:write"], org=f"o-{uuid.uuid4().hex[:6]}"))
    foreign = other_org.register(tmp_path)
    before = [device_of(app, identity.sn), device_of(app, node), device_of(other_org, foreign.sn)]
    for sn in (identity.sn, node, foreign.sn, "nobody"):
        for name in ("unregister_device", "get_status", "get_rtc"):
            assert client.call(name, sn)[0] == 409, (name, sn)
        if sn != "nobody":
            assert client.call("register_device", sn)[0] == 409, sn
    assert device_of(app, "nobody") is None
    assert [device_of(app, identity.sn), device_of(app, node), device_of(other_org, foreign.sn)] == before
    TaskDevice(identity, covey.mqtts, covey.ca).connect().close()
    # Nor is the name of a microcontroller free for others.
    device = new_device()
    assert app.post("/devices", json={"sn": device.name}).status_code == 409


@pytest.mark.parametrize("name", ["dev", "srv", "server", "node", "gateway", "Server"])
def test_reserved_names_are_refused_for_devices_of_every_kind(app, client, name):
    assert client.call("register_device", name)[0] == 422
    assert app.post("/devices", json={"sn": name}).status_code == 422
    assert app.post("/devices", json={"sn": name, "certificate": "none"}).status_code == 422


def test_a_request_that_a_page_in_a_browser_could_send_is_refused(covey, app, client):
    name = f"ft-{uuid.uuid4().hex[:8]}"
    port = covey.addresses["mcu_http"].rsplit(":", 1)[1]
    json_type = {"Content-Type": "application/json"}
    for headers in (
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {**json_type, "Origin": "https://attacker.example"},
        {**json_type, "Origin": covey.addresses["mcu_http"]},
        {**json_type, "Origin": "null"},
        {**json_type, "Host": f"attacker.example:{port}"},
        {**json_type, "Host": "localhost"},
        {**json_type, "Host": f"localhost:{int(port) + 1}"},
    ):
        for method, path in (("POST", "/register_device"), ("GET", "/get_status")):
            status, problem = client.ask(method, path, {"device_name": name}, headers)
            assert status == 403 and json.loads(problem)["type"] == "urn:covey:problem:foreign", (headers, problem)
    assert device_of(app, name) is None
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"LOCALHOST:{port}"):
        assert client.ask("POST", "/register_device", {"device_name": name}, {**json_type, "Host": host})[0] == 200


def test_paths_methods_and_bodies_are_those_of_the_contract(client):
    name = {"device_name": "ft-nobody"}
    assert client.ask("GET", "/", None, {}) == (200, b"Hello, World!")
    for method, path, body, status in (
        ("POST", "/get_gpio", name, 405),
        ("GET", "/set_gpio", name, 405),
        ("GET", "/register_device", name, 405),
        ("DELETE", "/get_gpio", name, 405),
        ("GET", "/get_gpio/", name, 404),
        ("GET", "/get_gpio2", name, 404),
        ("GET", "/api/v1/devices", name, 404),
        ("GET", "/metrics", name, 404),
        ("GET", "/get_gpio", name, 400),
        ("GET", "/get_gpio", {**name, "number": "x"}, 400),
        ("GET", "/get_gpio", {"number": 1}, 400),
        ("GET", "/get_gpio", {"device_name": "a/b", "number": 1}, 400),
        ("GET", "/get_gpio", "not json", 400),
        ("GET", "/get_gpio", "", 400),
        ("GET", "/get_gpio", "[]", 400),
        ("POST", "/set_rtc", {**name, "value": 1.5}, 400),
        ("POST", "/set_status", {**name, "status": 1}, 400),
        ("POST", "/register_device", {}, 400),
        ("POST", "/register_device", {"device_name": "x" * 65}, 400),
        ("POST", "/register_device", {"device_name": "y" * 10_000}, 413),
    ):
        assert client.ask(method, path, body)[0] == status, (method, path, body)


def test_one_connection_bears_many_requests_with_bodies_on_get(covey, client, new_device):
    device = new_device()
    client.told("get_rtc", device.name)
    socket = client.connection.sock
    for number in range(20):
        assert client.told("get_gpio", device.name, number=number) == {"value": 0}
    assert client.connection.sock is socket
    with httpx.Client(verify=False, http2=True) as http2:
        body = {"device_name": device.name}
        answer = http2.request("GET", f"{covey.addresses['mcu_http']}/get_status", json=body)
    assert answer.json() == {"status": "running"} and int(answer.headers["content-length"]) > 0


def test_a_device_that_is_away_or_does_not_answer_is_504(covey, app, client, new_device):
    device = new_device()
    device.is_mute = True
    began = time.monotonic()
    status, problem = client.call("get_status", device.name)
    assert status == 504 and json.loads(problem)["type"] == "urn:covey:problem:no-answer"
    assert time.monotonic() - began >= ANSWER_SECONDS - 0.1
    device.close()
    assert wait_for(lambda: device_of(app, device.name, online=False))
    assert client.call("get_status", device.name)[0] == 504


def test_a_call_waits_for_a_device_that_comes_back(covey, app, client, new_device, new_node, tmp_path):
    device = new_device()
    device.close()
    assert wait_for(lambda: device_of(app, device.name, online=False))
    with ThreadPoolExecutor(1) as caller:
        other = new_node(Client, covey.addresses["mcu_http"])
        waiting = caller.submit(other.told, "get_status", device.name)
        assert wait_for(lambda: listing(app, device.name))
        keys = {kind: (tmp_path / "keys" / f"{device.name}.{kind}").read_text() for kind in ("cert", "pkey", "ca")}
        new_node(Device, covey.mqtts, tmp_path / "back", device.name, keys).ready()
        assert waiting.result(60) == {"status": "running"}


def test_equal_calls_at_the_same_time_follow_one_another_and_others_do_not_wait(covey, new_device, new_node):
    device = new_device()
    device.is_mute = True
    callers = [new_node(Client, covey.addresses["mcu_http"]) for _ in range(5)]
    with ThreadPoolExecutor(5) as pool:
        equal = [pool.submit(one.told, "get_gpio", device.name, number=1) for one in callers[:3]]
        other_pin = pool.submit(callers[3].told, "get_gpio", device.name, number=2)
        clock = pool.submit(callers[4].told, "get_rtc", device.name)
        at_once = [f"{device.name}/get_gpio", f"{device.name}/get_gpio", f"{device.name}/get_rtc"]
        assert wait_for(lambda: sorted(topic for topic, _ in device.heard) == at_once), device.heard
        device.say(f"server/{device.name}/get_gpio/2", '{"value": "two"}')
        device.say(f"server/{device.name}/get_rtc", '{"value": 3}')
        assert (other_pin.result(30), clock.result(30)) == ({"value": "two"}, {"value": 3})
        for number in range(3):
            assert wait_for(lambda: len(device.heard) == 3 + number), device.heard
            device.say(f"server/{device.name}/get_gpio/1", json.dumps({"value": number}))
            assert wait_for(lambda: sum(one.done() for one in equal) == number + 1)
        assert sorted(one.result()["value"] for one in equal) == [0, 1, 2]


def test_an_answer_that_comes_late_or_twice_or_says_nothing_is_counted_and_answers_nobody(covey, client, new_device):
    device = new_device()
    unknown, payload = covey.refusals("unknown_task"), covey.refusals("payload")
    other, large = covey.refusals("unknown_topic"), covey.refusals("result_too_large")
    assert client.told("get_gpio", device.name, number=1) == {"value": 0}
    for topic in ("get_gpio/1", "get_gpio/2", "get_gpio", "get_status"):
        device.say(f"server/{device.name}/{topic}", '{"value": 9}', 1).wait_for_publish(30)
    assert wait_for(lambda: covey.refusals("unknown_task") == unknown + 4)
    for topic in ("blink", "get_gpio/x", "get_gpio/1/2"):
        device.say(f"server/{device.name}/{topic}", '{"value": 9}', 1).wait_for_publish(30)
    assert wait_for(lambda: covey.refusals("unknown_topic") == other + 3)
    # What is no answer leaves the call waiting for one.
    device.is_mute = True
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(client.told, "get_gpio", device.name, number=1)
        assert wait_for(lambda: len(device.heard) == 2)
        for body in (b"", b"get_gpio", b"[1]", b"\xff\xfe", b'{"value": 1'):
            device.say(f"server/{device.name}/get_gpio/1", body)
        device.say(f"server/{device.name}/get_gpio/1", b'{"value": "%s"}' % (b"x" * 70_000))
        device.say(f"server/{device.name}/get_gpio/1", b'{"value": "good"}')
        assert waiting.result(30) == {"value": "good"}
    assert wait_for(lambda: covey.refusals("payload") == payload + 5)
    assert covey.refusals("result_too_large") == large + 1


def test_a_server_that_is_killed_in_the_middle_of_a_call_takes_the_next_one(new_server, new_node, new_api, tmp_path):
    https, *ports = kept_ports(4)
    server = new_server("--mcu-http", f"127.0.0.1:{https}", ports=ports)
    url = server.addresses["mcu_http"]
    client = new_node(Client, url)
    device = new_node(Device, server.mqtts, tmp_path / "keys", "ft900device1", client.register("ft900device1")).ready()
    device.is_mute = True
    restart = {"method": "set_status", "payload": {"status": "restart"}, "ext_task_id": "left", "method_code": 20, "ttl": 60}
    with new_api(server) as api:
        restart["device_id"] = device_of(api, "ft900device1")["device_id"]
        left = api.post("/device-tasks", json=restart).json()["id"]
    with ThreadPoolExecutor(1) as caller:
        cut = caller.submit(client.call, "get_status", "ft900device1")
        assert wait_for(lambda: len(device.heard) == 2)
        device.listens.clear()
        server.kill()
        with pytest.raises((OSError, http.client.HTTPException)):
            cut.result(30)
    server.start()
    assert device.listens.wait(60), "it is back"
    device.is_mute = False
    again = new_node(Client, url)
    assert again.told("get_status", "ft900device1") == {"status": "running"}
    api = new_api(server)
    assert wait_for(lambda: all(task["status"] not in (0, 1, 2) for task in listing(api, "ft900device1")), 30)
    # A restart is not made twice, however long it may live.
    ended = api.task(left)
    assert (ended["status"], ended["results"][0]["status_code"]) == (FAILED, 504)
    assert len([topic for topic, _ in device.heard if topic.endswith("set_status")]) == 1


def test_a_microcontroller_reaches_its_own_two_topics_and_no_other(covey, app, client, new_device, tmp_path):
    device, other = new_device(), new_device()
    own, foreign = device.name, other.name
    for filter in (
        f"srv/{own}/#", f"srv/{own}/tsk", f"dev/{own}/#", "#", "+/#", "server/#", f"server/{own}/#", f"{foreign}/#",
        "+/get_gpio", f"$share/g/{own}/#", own, f"{own}x/#",
    ):
        assert device.subscribe(filter).value == NOT_GRANTED, filter
    for filter in (f"{own}/#", f"{own}/get_rtc", f"{own}/+"):
        assert device.subscribe(filter).value in (0, 1), filter
    refused = covey.refusals("publish_topic")
    topics = (
        f"dev/{own}/res", f"dev/{own}/evt", f"srv/{own}/rsp", f"server/{foreign}/get_status", f"{foreign}/get_status",
        f"{own}/get_status", "server", f"server/{own}", f"server/{own}x/get_status",
    )
    for topic in topics:
        device.say(topic, '{"status": "mine"}', 1).wait_for_publish(30)
    assert wait_for(lambda: covey.refusals("publish_topic") == refused + len(topics))
    assert client.told("get_status", foreign) == {"status": "running"}
    assert not [topic for topic, _ in other.heard if not topic.endswith("/get_status")]


def test_a_device_that_speaks_of_tasks_reaches_no_topic_of_a_microcontroller(covey, app, client, new_device, tmp_path):
    identity, victim = app.register(tmp_path), new_device()
    device = TaskDevice(identity, covey.mqtts, covey.ca).connect()
    for filter in ("server/#", f"server/{identity.sn}/#", f"{identity.sn}/#", f"{victim.name}/#"):
        assert device.subscribe(filter) == NOT_AUTHORIZED, filter
    for topic in (f"server/{victim.name}/get_status", f"{victim.name}/get_status", f"server/{identity.sn}/x"):
        assert device.publish(topic, b"{}") == NOT_AUTHORIZED, topic
    device.close()
    assert client.told("get_status", victim.name) == {"status": "running"}


@pytest.mark.skipif(not shutil.which("mosquitto_sub"), reason="mosquitto_sub is missing; install mosquitto-clients")
def test_mosquitto_programs_are_a_microcontroller(covey, app, client, new_node, tmp_path):
    name = f"ft-{uuid.uuid4().hex[:8]}"
    for kind, text in client.register(name).items():
        (tmp_path / kind).write_text(text)
    host, port = covey.mqtts
    common = [
        "-h", host, "-p", str(port), "-V", "mqttv311", "-i", name, "-u", "guest", "-P", "guest",
        "--cafile", str(tmp_path / "ca"), "--cert", str(tmp_path / "cert"), "--key", str(tmp_path / "pkey"),
    ]
    hearing = subprocess.Popen(["mosquitto_sub", *common, "-t", f"{name}/#", "-v", "-C", "1"], stdout=subprocess.PIPE, text=True)
    try:
        assert wait_for(lambda: device_of(app, name, online=True), 30)
        with ThreadPoolExecutor(1) as caller:
            waiting = caller.submit(client.told, "get_gpio", name, number=12)
            assert hearing.communicate(timeout=30)[0] == f'{name}/get_gpio {{"number": 12}}\n'
            said = ["-t", f"server/{name}/get_gpio/12", "-m", '{"value": 1}']
            subprocess.run(["mosquitto_pub", *common, *said], check=True, timeout=30)
            assert waiting.result(30) == {"value": 1}
    finally:
        hearing.kill()
        hearing.wait()


def test_a_prefix_stands_in_front_of_names_and_answers_name_no_pin(new_server, new_node, tmp_path):
    server = new_server(*LISTENER, "--mcu-topic-prefix", "acme")
    client = new_node(Client, server.addresses["mcu_http"])
    keys = client.register("ft1")
    device = new_node(Device, server.mqtts, tmp_path / "keys", "ft1", keys, prefix="acme").ready()
    assert client.told("set_gpio", "ft1", number=3, value=1) == {"value": 1}
    assert client.told("get_gpio", "ft1", number=3) == {"value": 1}
    assert device.heard[0] == ("acme/ft1/set_gpio", b'{"number": 3, "value": 1}')
    assert device.subscribe("ft1/#").value == NOT_GRANTED
    # Without the pin in the answer, calls about two pins cannot be told apart.
    device.is_mute = True
    with ThreadPoolExecutor(2) as pool:
        callers = [new_node(Client, server.addresses["mcu_http"]) for _ in range(2)]
        calls = [pool.submit(one.told, "get_gpio", "ft1", number=number) for number, one in enumerate(callers)]
        for number in itertools.count():
            assert wait_for(lambda: len(device.heard) == 3 + number), device.heard
            pin = json.loads(device.heard[-1][1])["number"]
            device.say("server/acme/ft1/get_gpio", json.dumps({"value": pin}))
            if number == 1:
                break
        assert [one.result(30)["value"] for one in calls] == [0, 1]


def test_a_listener_that_others_reach_has_a_key(new_server, new_node, tmp_path):
    key_file = tmp_path / "key"
    key_file.write_text("0123456789abcdef0123456789abcdef\n")
    key_file.chmod(0o600)
    server = new_server("--mcu-http", "0.0.0.0:0", "--mcu-http-key-file", str(key_file))
    url = server.addresses["mcu_http"]
    for headers in ({}, {"Authorization": "Bearer 0123456789abcdef0123456789abcdeF"}, {"x-api-key": server.key}):
        assert new_node(Client, url, **headers).call("register_device", "ft1")[0] == 401
    assert new_node(Client, url, Authorization="Bearer 0123456789abcdef0123456789abcdef").call("register_device", "ft1")[0] == 200
    assert "0123456789abcdef" not in server.log_text()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--mcu-http", "0.0.0.0:0"), "mcu_http_key_file"),
        ((*LISTENER, "--link", "mqtts://127.0.0.1:1"), "embedded"),
        ((*LISTENER, "--mcu-topic-prefix", "server"), "mcu_topic_prefix"),
        (("--mcu-topic-prefix", "acme"), "mcu_http"),
        ((*LISTENER, "--mcu-http-key-file", "OPEN"), "chmod 600"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(tmp_path, options, why):
    open_to_all = tmp_path / "open"
    open_to_all.write_text("0123456789abcdef")
    open_to_all.chmod(0o644)
    options = [str(open_to_all) if one == "OPEN" else one for one in options]
    server = Server(tmp_path / "data", *options)
    with pytest.raises(NotStarted) as refused:
        server.start()
    server.drop()
    assert why in str(refused.value)


def test_it_is_off_unless_it_is_switched_on_and_then_a_part_like_any_other(server, covey):
    assert "mcu_http" not in server.addresses
    links = httpx.get(f"{covey.http}/readyz").json()
    assert "mcu" in json.dumps(links) and covey.metric("covey_link_up", link="mcu") == 1
    assert "mcu" not in json.dumps(httpx.get(f"{server.http}/readyz").json())


def test_a_server_that_does_not_take_them_turns_microcontrollers_away(new_server, new_node, tmp_path):
    server = new_server(*LISTENER, ports=kept_ports(3))
    client = new_node(Client, server.addresses["mcu_http"])
    keys = client.register("ft1")
    server.stop()
    server.options = ()
    server.start()
    device = new_node(Device, server.mqtts, tmp_path / "keys", "ft1", keys)
    assert device.closed.wait(30) and not device.listens.is_set()
    assert server.refusals("not_admitted") >= 1
