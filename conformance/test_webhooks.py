"""Webhooks: told once committed, signed, in order of each device, again until it worked; and to nobody else."""

import collections
import json
import subprocess
import threading
import time
import uuid

import httpx
import pytest

from testbed.api import is_problem
from testbed.receiver import OK, Answer, Receiver
from testbed.server import BINARY, Server, kept_ports

pytestmark = pytest.mark.every_shape

REFUSED = Answer(500)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_b3RoZXItc2VjcmV0LW90aGVyLXNlY3JldA=="


@pytest.fixture(scope="module")
def hooked(tmp_path_factory):
    """A server that may send to loopback."""
    running = Server(tmp_path_factory.mktemp("hooked") / "data", "--webhook-allow", "loopback")
    try:
        yield running.start()
        assert running.stop() == 0
    finally:
        running.drop()
    assert not running.panics()


@pytest.fixture
def hooks(hooked, new_api):
    """A caller of an organisation of its own."""
    admin = new_api(hooked)
    rights = ["tasks:read", "tasks:write", "devices:read", "devices:write", "events:read", "webhooks:write"]
    return new_api(hooked, admin.key_with(rights, org=f"org-{uuid.uuid4().hex[:8]}"))


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture
def device(hooks, hooked, connect, tmp_path):
    return connect(hooked, hooks.register(tmp_path))


def event(device, number: int, code: int = 13, **fields) -> int:
    """Tells an event, and waits for the PUBACK."""
    body = {"101": number, "102": 1_700_000_000 + number, "200": code, **fields}
    return device.publish(f"dev/{device.sn}/evt", json.dumps(body))


def numbers(received) -> list[int]:
    """The numbers that devices gave their events."""
    return [post.json()["101"] for post in received]


def by_device(received) -> dict[int, list[int]]:
    """The numbers of events of each device, as they were delivered."""
    found = collections.defaultdict(list)
    for post in received:
        found[post.device_id].append(post.json()["101"])
    return found


def state(api, key="msg-event") -> dict:
    return api.get(f"/webhooks/{key}").json()["state"]


def wait_until(what, seconds: float = 10.0):
    """Looks again and again until it is so."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def put(api, receiver, key="msg-event", **fields) -> dict:
    answer = api.put(f"/webhooks/{key}", json={"url": receiver.url, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


# As the contract has it.


def test_an_event_comes_as_the_device_sent_it(hooks, receiver, device):
    row = put(hooks, receiver, headers={"X-Team": "north", "Authorization": "Bearer t"})
    assert {"org_id", "event_type", "url", "headers", "is_active", "created_at", "updated_at"} <= row.keys()
    assert (row["event_type"], row["headers"]["X-Team"], row["is_active"]) == ("msg-event", "north", True)
    assert [probe.method for probe in receiver.probes] == ["GET"]
    body = b'{"101": 7 , "102":1700000000,"200":13, "300":[{"301":5}], "x":1.50}'
    assert device.publish(f"dev/{device.sn}/evt", body) == 0
    [post] = receiver.wait_for(1)
    assert (post.method, post.path, post.body) == ("POST", "/hook", body)
    assert (post.headers["x-msg-type"], post.headers["x-device-id"]) == ("msg-event", str(device.device_id))
    assert (post.headers["x-team"], post.headers["authorization"]) == ("north", "Bearer t")
    assert post.is_signed_with(row["secret"])
    assert receiver.is_quiet()


def test_a_result_comes_with_the_id_of_its_task(hooks, receiver, device):
    row = put(hooks, receiver, "msg-task-result")
    task_id = hooks.create(device, ext_task_id="order 7 (100%)")
    device.expect("tsk")
    device.take(task_id)
    committed = device.finish(task_id, 206, '{"chunk": 1}', ext_id=3)
    device.finish(task_id, 404, "not there", ext_id=4)
    first, second = receiver.wait_for(2)
    assert (first.path, second.path) == (f"/hook/{task_id}", f"/hook/{task_id}")
    assert first.headers["x-msg-type"] == "msg-task-result"
    assert (first.headers["x-ext-id"], first.headers["x-result-id"]) == ("order 7 (100%)", committed["result_id"])
    assert (first.headers["x-status-code"], second.headers["x-status-code"]) == ("206", "404")
    assert first.body == b'{"result":{"chunk": 1}}', "what the device sent, itself"
    assert second.json() == {"result": "not there"}
    assert first.is_signed_with(row["secret"]) and second.is_signed_with(row["secret"])


def test_the_path_of_an_event_ends_with_its_device_where_the_webhook_says_so(hooks, receiver, device):
    assert put(hooks, receiver, device_id_in_path=True)["device_id_in_path"] is True
    assert put(hooks, receiver)["device_id_in_path"] is True, "what is left out stays as it is"
    event(device, 1)
    assert receiver.wait_for(1)[0].path == f"/hook/{device.device_id}"
    changed = hooks.patch("/webhooks/msg-event", json={"device_id_in_path": False})
    assert changed.json()["device_id_in_path"] is False
    # The server that sends hears of the change a moment later.
    for number in range(2, 100):
        event(device, number)
        if (last := receiver.wait_for(number)[-1]).path == "/hook":
            break
        time.sleep(0.1)
    assert last.path == "/hook"
    assert put(hooks, receiver, "msg-task-result")["device_id_in_path"] is False
    refused = hooks.put("/webhooks/msg-task-result", json={"url": receiver.url, "device_id_in_path": True})
    assert is_problem(refused, 422) and refused.json()["field"] == "device_id_in_path"


def test_an_ext_task_id_cannot_add_a_header(hooks, receiver, device):
    put(hooks, receiver, "msg-task-result")
    task_id = hooks.create(device, ext_task_id="a\r\nX-Evil: 1 ü%")
    device.expect("tsk")
    device.take(task_id)
    device.finish(task_id)
    [post] = receiver.wait_for(1)
    assert (post.headers["x-ext-id"], post.headers["x-ext-id-encoding"]) == ("a%0D%0AX-Evil: 1 %C3%BC%25", "percent")
    assert "x-evil" not in post.headers


def test_the_default_of_a_type_is_set_listed_and_deleted(hooks, receiver):
    made = put(hooks, receiver)
    assert put(hooks, receiver, headers={"A": "b"})["id"] == made["id"]
    [row] = hooks.get("/webhooks/").json()
    assert (row["id"], row["headers"], "secret" in row) == (made["id"], {"A": "b"}, False)
    assert hooks.get("/webhooks/msg-event").json()["id"] == made["id"]
    answer = hooks.delete("/webhooks/msg-event")
    assert (answer.status_code, answer.json()) == (200, {"message": "Webhook deleted"})
    assert hooks.get("/webhooks").json() == []
    assert is_problem(hooks.delete("/webhooks/msg-event"), 404)
    assert is_problem(hooks.get(f"/webhooks/{made['id']}"), 404)


@pytest.mark.parametrize(
    "probe", [Answer(404), Answer(405), Answer(401), Answer(302, (("Location", "/other"),)), Answer(499)], ids=str
)
def test_any_answer_below_500_passes_the_probe(hooks, receiver, device, probe):
    receiver.probe = probe
    put(hooks, receiver)
    event(device, 1)
    assert numbers(receiver.wait_for(1)) == [1]
    assert [probe.path for probe in receiver.probes] == ["/hook"], "no redirection is followed"


@pytest.mark.parametrize("probe", [Answer(500), Answer(503), Answer(599), Answer(reset=True)], ids=str)
def test_a_url_that_does_not_pass_its_probe_is_refused(hooks, receiver, probe):
    receiver.probe = probe
    assert is_problem(hooks.put("/webhooks/msg-event", json={"url": receiver.url}), 400)
    assert is_problem(hooks.post("/webhooks", json={"event_type": "msg-event", "url": receiver.url}), 400)
    assert hooks.get("/webhooks").json() == []
    put(hooks, receiver, is_active=False)
    assert hooks.get("/webhooks/msg-event").json()["is_active"] is False
    assert is_problem(hooks.patch("/webhooks/msg-event", json={"is_active": True}), 400)


def test_a_probe_says_what_is_wrong_with_tls(hooked, hooks):
    answer = hooks.post("/webhooks", json={"event_type": "msg-event", "url": f"{hooked.https}/healthz"})
    assert is_problem(answer, 400) and "UnknownIssuer" in answer.json()["detail"]


def test_a_probe_that_takes_more_than_five_seconds_is_given_up(hooks, receiver):
    receiver.probe = Answer(hang_seconds=7)
    began = time.monotonic()
    assert is_problem(hooks.put("/webhooks/msg-event", json={"url": receiver.url}), 400)
    assert 4.5 < time.monotonic() - began < 6.5
    receiver.stop()
    assert is_problem(hooks.put("/webhooks/msg-event", json={"url": receiver.url}), 400)


def test_what_is_not_active_is_told_nothing_and_begins_anew(hooks, receiver, device):
    put(hooks, receiver)
    event(device, 1)
    receiver.wait_for(1)
    put(hooks, receiver, is_active=False)
    event(device, 2)
    assert receiver.is_quiet()
    put(hooks, receiver)
    event(device, 3)
    assert numbers(receiver.wait_for(2)) == [1, 3]


def test_a_repeated_event_is_told_once_and_a_gauge_not_at_all(hooks, receiver, device):
    put(hooks, receiver)
    for number, code in [(1, 13), (1, 13), (2, 44), (3, 13)]:
        assert event(device, number, code) == 0
    assert numbers(receiver.wait_for(2)) == [1, 3]
    assert receiver.is_quiet()


# More than the contract.


def test_filters_and_several_endpoints(hooks, receiver, device, hooked, connect, tmp_path):
    other = connect(hooked, hooks.register(tmp_path, tags=[{"tag": "site", "value": "north"}]))
    ids = {}
    for name, wanted in {
        "all": {},
        "device": {"device_id": [device.device_id]},
        "tag": {"tag": ["site:north"]},
        "type": {"event_type_code": [14]},
        "none": {"tag": ["site:south"]},
    }.items():
        body = {"event_type": "msg-event", "url": f"{receiver.url}/{name}", "filter": wanted}
        answer = hooks.post("/webhooks", json=body)
        assert answer.status_code == 201, answer.text
        ids[name] = answer.json()["id"]
        assert answer.json()["secret"].startswith("whsec_") and answer.headers["cache-control"] == "no-store"
    event(device, 1, 13)
    event(device, 2, 14)
    event(other, 3, 13)
    receiver.wait_for(7)
    got = {(post.path.rpartition("/")[2], post.json()["101"]) for post in receiver.posts}
    assert got == {
        ("all", 1), ("all", 2), ("all", 3), ("device", 1), ("device", 2), ("type", 2), ("tag", 3)
    }
    assert receiver.is_quiet(0.5)
    assert len({row["id"] for row in hooks.get("/webhooks").json()}) == 5
    assert hooks.delete(f"/webhooks/{ids['all']}").status_code == 200


def test_cloud_events_on_request(hooks, receiver, device):
    put(hooks, receiver, format="cloudevents")
    event(device, 5, 13, door="a")
    [post] = receiver.wait_for(1)
    assert post.headers["content-type"].startswith("application/cloudevents+json")
    cloud = post.json()
    assert (cloud["specversion"], cloud["type"], cloud["id"]) == ("1.0", "covey.event", post.id)
    assert (cloud["subject"], cloud["source"]) == (device.sn, f"/api/v1/devices/{device.device_id}")
    assert (cloud["data"]["event"]["payload"]["door"], cloud["data"]["event"]["event_type_code"]) == ("a", 13)
    assert cloud["time"].endswith("Z")


def test_states_of_tasks_and_presence_can_be_told(hooks, receiver, hooked, connect, tmp_path):
    for kind in ("msg-task", "msg-presence"):
        body = {"event_type": kind, "url": f"{receiver.url}/{kind}"}
        assert hooks.post("/webhooks", json=body).status_code == 201
    device = connect(hooked, hooks.register(tmp_path))
    task_id = hooks.create(device)
    device.expect("tsk")
    device.take(task_id)
    device.finish(task_id)
    receiver.wait(lambda posts: sum(post.path.endswith("msg-task") for post in posts) >= 3)
    states = [post.json()["task"]["status_name"] for post in receiver.delivered() if "msg-task" in post.path]
    assert states[0] == "READY" and states[-1] == "DONE"
    receiver.wait(lambda posts: any(post.path.endswith("msg-presence") for post in posts))
    [post] = [post for post in receiver.delivered() if post.path.endswith("msg-presence")]
    assert (post.json()["presence"]["online"], post.json()["sn"]) == (True, device.sn)


def test_two_secrets_are_valid_while_one_takes_the_place_of_the_other(hooks, receiver, device):
    put(hooks, receiver, secret=SECRET)
    event(device, 1)
    [first] = receiver.wait_for(1)
    assert first.is_signed_with(SECRET) and not first.is_signed_with(OTHER_SECRET)
    answer = hooks.post("/webhooks/msg-event/rotate-secret", json={"secret": OTHER_SECRET, "overlap_seconds": 3})
    assert (answer.status_code, answer.json()["secret"]) == (200, OTHER_SECRET), answer.text
    event(device, 2)
    second = receiver.wait_for(2)[-1]
    assert second.is_signed_with(SECRET) and second.is_signed_with(OTHER_SECRET)
    time.sleep(3.2)
    event(device, 3)
    third = receiver.wait_for(3)[-1]
    assert third.is_signed_with(OTHER_SECRET) and not third.is_signed_with(SECRET)
    made = hooks.post("/webhooks/msg-event/rotate-secret").json()
    assert made["secret"].startswith("whsec_") and made["old_secret_until"]
    assert "secret" not in hooks.get("/webhooks/msg-event").json()
    for wrong in ["", "whsec_", "whsec_c2hvcnQ=", "plain", "whsec_" + "A" * 120]:
        assert is_problem(hooks.post("/webhooks/msg-event/rotate-secret", json={"secret": wrong}), 422)


def test_a_secret_and_headers_are_not_logged(hooks, hooked, receiver, device):
    put(hooks, receiver, secret=SECRET, headers={"Authorization": "Bearer hidden-word"})
    receiver.answer = lambda _: REFUSED
    event(device, 1)
    receiver.wait(lambda posts: posts)
    assert SECRET not in hooked.log_text() and "hidden-word" not in hooked.log_text()


def test_the_test_button_says_what_the_receiver_answered(hooks, receiver):
    row = put(hooks, receiver)
    tested = hooks.post("/webhooks/msg-event/test").json()
    assert (tested["delivered"], tested["status"], tested["error"]) == (True, 200, None)
    [post] = receiver.wait_for(1)
    assert post.id == tested["message_id"] and post.is_signed_with(row["secret"])
    receiver.answer = lambda _: Answer(418)
    tested = hooks.post(f"/webhooks/{row['id']}/test").json()
    assert (tested["delivered"], tested["status"]) == (False, 418)
    logged = hooks.get("/webhooks/msg-event/deliveries").json()
    assert [entry["outcome"] for entry in logged] == ["test_failed", "test_passed"]
    assert is_problem(hooks.post("/webhooks/msg-twin/test"), 404)


# Order, and again until it worked.


def test_one_device_keeps_its_order_and_one_request_at_a_time(hooks, receiver, hooked, connect, tmp_path):
    put(hooks, receiver, concurrency=4)
    devices = [connect(hooked, hooks.register(tmp_path), "-") for _ in range(6)]
    receiver.answer = lambda _: Answer(hang_seconds=0.01)
    count = 20
    threads = [
        threading.Thread(target=lambda device=device: [event(device, n) for n in range(1, count + 1)])
        for device in devices
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = by_device(receiver.wait_for(count * len(devices)))
    assert all(found[device.device_id] == list(range(1, count + 1)) for device in devices)
    assert receiver.most_of_a_device == 1
    assert 1 < receiver.most_at_once <= 4


@pytest.mark.parametrize(
    "failure",
    [
        Answer(500),
        Answer(404),
        Answer(410),
        Answer(301, (("Location", "http://127.0.0.1:1/"),)),
        Answer(reset=True),
        Answer(429, (("Retry-After", "2"),)),
    ],
    ids=str,
)
def test_what_failed_is_sent_again_under_the_same_id_and_the_device_waits(hooks, receiver, device, failure):
    row = put(hooks, receiver)
    failures = iter([failure, failure])
    receiver.answer = lambda _: next(failures, OK)
    for number in (1, 2, 3):
        event(device, number)
    assert numbers(receiver.wait_for(3, seconds=20)) == [1, 2, 3]
    first, second, third = receiver.posts[:3]
    assert first.id == second.id == third.id and first.json()["101"] == 1
    assert third.is_signed_with(row["secret"])
    pauses = [second.at - first.at, third.at - second.at]
    least = [2.0, 2.0] if failure.status == 429 else [0.8, 1.6]
    assert all(pause >= wanted - 0.05 for pause, wanted in zip(pauses, least)), pauses
    assert all(post.path == "/hook" for post in receiver.posts), "no redirection was followed"
    logged = wait_until(lambda: len(found := hooks.get("/webhooks/msg-event/deliveries?after=0").json()) == 5 and found)
    assert [entry["outcome"] for entry in logged] == ["retry", "retry", "delivered", "delivered", "delivered"]
    assert [entry["attempt"] for entry in logged] == [1, 2, 3, 1, 1]
    wait_until(lambda: state(hooks)["waiting"] == 0)


def test_one_device_that_fails_does_not_hold_up_the_others(hooks, receiver, device, hooked, connect, tmp_path):
    put(hooks, receiver, concurrency=2)
    other = connect(hooked, hooks.register(tmp_path))
    receiver.answer = lambda post: REFUSED if post.device_id == device.device_id else OK
    event(device, 1)
    for number in range(1, 30):
        event(other, number)
        event(device, number + 1)
    assert numbers(receiver.wait_for(29)) == list(range(1, 30))
    wait_until(lambda: state(hooks)["waiting"] == 30)
    newest = max(post.number for post in receiver.posts)
    wait_until(lambda: state(hooks)["position"] >= newest)
    receiver.answer = lambda _: OK
    found = by_device(receiver.wait_for(59, seconds=40))
    assert found[device.device_id] == list(range(1, 31))


def test_a_receiver_that_hangs_is_given_up_after_a_while(hooks, receiver, device):
    put(hooks, receiver)
    hanging = iter([Answer(hang_seconds=20)])
    receiver.answer = lambda _: next(hanging, OK)
    event(device, 1)
    assert numbers(receiver.wait_for(1, seconds=25)) == [1]
    wait_until(lambda: len(hooks.get("/webhooks/msg-event/deliveries").json()) == 2)
    delivered, failed = hooks.get("/webhooks/msg-event/deliveries").json()
    assert (failed["status"], failed["outcome"]) == (None, "retry") and 14_000 < failed["duration_ms"] < 17_000
    assert delivered["outcome"] == "delivered"


def test_a_receiver_that_is_down_is_left_alone_and_gets_everything_later(hooks, receiver, device):
    put(hooks, receiver)
    receiver.stop()
    for number in range(1, 11):
        event(device, number)
    opened = wait_until(lambda: state(hooks)["circuit"] == "open" and state(hooks), seconds=30)
    assert opened["open_since"] and opened["last_error"] == "no connection" and opened["failures"] >= 5
    for number in range(11, 200):
        event(device, number)
    receiver.start()
    assert numbers(receiver.wait_for(199, seconds=45)) == list(range(1, 200))
    wait_until(lambda: state(hooks)["circuit"] == "closed" and state(hooks)["waiting"] == 0)


@pytest.mark.parametrize("kills", [2])
def test_a_server_that_is_killed_loses_nothing_and_keeps_the_order(new_server, new_api, connect, tmp_path, kills):
    server = new_server("--webhook-allow", "loopback", ports=kept_ports())
    api = new_api(server)
    receiver = Receiver()
    receiver.answer = lambda _: Answer(hang_seconds=0.002)
    put(api, receiver)
    identities = [api.register(tmp_path) for _ in range(5)]
    told = collections.Counter()
    for run in range(kills + 1):
        devices = [connect(server, identity, "-") for identity in identities]

        def tell(device):
            """Until the server dies; what was not acknowledged is sent again, as a device does."""
            try:
                for _ in range(150):
                    event(device, told[device.sn] + 1)
                    told[device.sn] += 1
            except (ConnectionError, AssertionError):
                pass

        threads = [threading.Thread(target=tell, args=(device,)) for device in devices]
        for thread in threads:
            thread.start()
        if run < kills:
            time.sleep(0.5)
            server.kill()
        for thread in threads:
            thread.join()
        for device in devices:
            device.client.loop_stop()
        if run < kills:
            server.start()
            if run == 0:
                receiver.stop()
            else:
                receiver.start()
    wanted = {identity.device_id: told[identity.sn] for identity in identities}

    def all_came():
        came = by_device(receiver.delivered())
        return all(set(range(1, count + 1)) <= set(came[device]) for device, count in wanted.items())

    wait_until(all_came, seconds=60)
    first = collections.defaultdict(dict)
    for index, post in enumerate(receiver.delivered()):
        first[post.device_id].setdefault(post.json()["101"], index)
    for device, places in first.items():
        assert list(places) == sorted(places), f"{device}: {list(places)}"
    receiver.stop()


# What cannot be delivered.


@pytest.fixture
def hasty(new_server, new_api):
    """A server that gives up after three seconds, and a caller."""
    server = new_server("--webhook-allow", "loopback", "--webhook-retry-seconds", "3")
    return server, new_api(server)


def test_dead_letters_are_listed_looked_at_and_sent_again(hasty, receiver, connect, tmp_path):
    server, api = hasty
    device = connect(server, api.register(tmp_path))
    put(api, receiver)
    receiver.answer = lambda _: REFUSED
    for number in (1, 2, 3):
        event(device, number, note="n")
    dead = wait_until(lambda: len(api.get("/webhooks/msg-event/dead-letters").json()) == 3 and
                      api.get("/webhooks/msg-event/dead-letters").json(), seconds=40)
    assert [letter["record"]["event"]["dev_event_id"] for letter in dead] == [3, 2, 1]
    oldest = dead[-1]
    assert (oldest["last_status"], oldest["last_error"]) == (500, "status 500") and oldest["attempts"] >= 1
    one = api.get(f"/webhooks/msg-event/dead-letters/{oldest['number']}").json()
    assert one == oldest and one["record"]["event"]["payload"]["note"] == "n"
    assert state(api)["dead"] == 3
    assert any(entry["outcome"] == "dead" for entry in api.get("/webhooks/msg-event/deliveries").json())
    receiver.answer = lambda _: OK
    resent = api.post(f"/webhooks/msg-event/dead-letters/{dead[0]['number']}/resend")
    assert (resent.status_code, resent.json()) == (200, {"resent": 1})
    assert numbers(receiver.wait_for(1, seconds=40)) == [3]
    assert api.post("/webhooks/msg-event/dead-letters/resend").json() == {"resent": 2}
    assert numbers(receiver.wait_for(3, seconds=40)) == [3, 1, 2]
    assert api.get("/webhooks/msg-event/dead-letters").json() == []
    wait_until(lambda: (state(api)["dead"], state(api)["waiting"]) == (0, 0))
    assert is_problem(api.get(f"/webhooks/msg-event/dead-letters/{oldest['number']}"), 404)
    assert is_problem(api.post(f"/webhooks/msg-event/dead-letters/{oldest['number']}/resend"), 404)


def test_metrics_tell_of_attempts_and_of_the_way_to_the_receiver(hooks, hooked, receiver, device):
    put(hooks, receiver)
    before = hooked.metric("covey_step_seconds_count", step="webhook")
    event(device, 1)
    receiver.wait_for(1)
    wait_until(lambda: hooked.metric("covey_step_seconds_count", step="webhook") == before + 1)
    assert hooked.metric("covey_webhook_attempts_total", outcome="delivered") >= 1
    wait_until(lambda: hooked.metric("covey_webhook_circuit_open") >= 0)


# Where it must not go.


@pytest.fixture
def strict(server, new_api):
    """A caller at a server that allows nothing beside public addresses."""
    return new_api(server)


FORBIDDEN_HOSTS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.0.0.1.",
    "0.0.0.0", "0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "0xa9fea9fe", "2852039166",
    "100.100.100.200", "168.63.129.16", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[fe80::1]", "[fd00:ec2::254]", "[fc00::1]", "[2002:7f00:1::]", "%31%32%37.0.0.1",
    "224.0.0.1", "255.255.255.255",
]


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_an_address_that_is_not_public_is_refused_in_every_spelling(strict, host):
    for url in (f"https://{host}/x", f"https://{host}:8443/x", f"http://{host}/x"):
        for is_active in (True, False):
            answer = strict.put("/webhooks/msg-twin", json={"url": url, "is_active": is_active})
            assert is_problem(answer, 422) and answer.json()["field"] == "url"
    assert is_problem(strict.get("/webhooks/msg-twin"), 404)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST"])
def test_a_name_of_such_an_address_is_refused_when_it_is_connected_to(strict, receiver, host):
    answer = strict.put("/webhooks/msg-twin", json={"url": f"https://{host}:{receiver.port}/x"})
    assert is_problem(answer, 400) and "no address that webhooks may go to" in answer.json()["detail"]
    assert is_problem(strict.get("/webhooks/msg-twin"), 404)
    # What is stored without a probe is not connected to either.
    url = f"https://{host}:{receiver.port}/x"
    row = strict.post("/webhooks", json={"event_type": "msg-twin", "url": url, "is_active": False}).json()
    tested = strict.post(f"/webhooks/{row['id']}/test").json()
    assert (tested["delivered"], tested["error"]) == (False, "the host has no address that webhooks may go to")
    assert strict.delete(f"/webhooks/{row['id']}").status_code == 200
    assert not receiver.posts and not receiver.probes


@pytest.mark.parametrize(
    "url",
    [
        "", "receiver.example", "//receiver.example/", "ftp://receiver.example/", "file:///etc/passwd",
        "gopher://receiver.example/", "javascript:alert(1)", "https://user@receiver.example/",
        "https://user:word@receiver.example/", "https://receiver.example@127.0.0.1/",
        "https://receiver.example:0/", "https://receiver.example:99999/", "https://receiver.example/#x",
        "https://receiver.example\\@127.0.0.1/", "https://rece\niver.example/", "https://receiver.example/ x",
        "https://receiver.example/\r\nX-Evil: 1", "https:///x", "https://", "http://receiver.example/",
        "https://ｌocalhost/", "https://receiver.example/" + "x" * 3000, None, 7, ["https://receiver.example"],
    ],
)
def test_a_url_of_a_dishonest_kind_is_refused(strict, url):
    assert is_problem(strict.put("/webhooks/msg-twin", json={"url": url}), 422)
    assert is_problem(strict.post("/webhooks", json={"event_type": "msg-twin", "url": url, "is_active": False}), 422)
    assert is_problem(strict.get("/webhooks/msg-twin"), 404)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "a\r\nX-Evil: 1"}, {"X-A": "a\nb"}, {"X-A": "a\0"}, {"X-A": "ü"}, {"X-A": " a"}, {"X-A\r\nX-Evil": "1"},
        {"X A": "1"}, {"": "1"}, {"X-A:": "1"}, {"ü": "1"}, {"Host": "127.0.0.1"}, {"content-length": "0"},
        {"Transfer-Encoding": "chunked"}, {"Connection": "close"}, {"Upgrade": "h2c"}, {"TE": "trailers"},
        {"Webhook-Id": "x"}, {"webhook-signature": "v1,x"}, {"X-Msg-Type": "x"}, {"X-Msg-New": "x"},
        {"X-Device-Id": "1"}, {"Content-Type": "text/plain"}, {"Expect": "100-continue"}, {"X-A": "1", "x-a": "2"},
        {"X-A": 7}, {"X-A": None}, {f"X-{n}": "" for n in range(33)}, {"X-A": "x" * 5000}, ["X-A"], "X-A: 1",
    ],
    ids=lambda headers: str(headers)[:40],
)
def test_headers_that_could_change_a_message_are_refused(hooks, receiver, headers):
    answer = hooks.put("/webhooks/msg-twin", json={"url": receiver.url, "headers": headers})
    assert is_problem(answer, 422)
    assert is_problem(hooks.get("/webhooks/msg-twin"), 404)
    assert not receiver.probes


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "xml"}, {"concurrency": 0}, {"concurrency": 65}, {"secret": "x"}, {"filter": {"device_id": "x"}},
        {"filter": {"event_type_code": [1]}}, {"filter": {"device_id": list(range(1, 1002))}},
        {"filter": {"device_ids": [2]}}, {"filter": []}, {"filter": [[2]]}, {"filter": {"device_id": [0]}},
        {"filter": {"event_type_code": [2**40]}}, {"filter": {"tag": [""]}}, {"filter": {"tag": ["x" * 65]}},
    ],
    ids=str,
)
def test_fields_out_of_their_range_are_refused(hooks, receiver, fields):
    assert is_problem(hooks.put("/webhooks/msg-twin", json={"url": receiver.url, **fields}), 422)
    assert is_problem(hooks.get("/webhooks/msg-twin"), 404)


@pytest.mark.parametrize(
    ("name", "value"), [("concurrency", "x"), ("filter", []), ("format", 5), ("secret", 7), ("headers", "x")]
)
def test_a_refusal_says_which_member_is_meant(api, name, value):
    body = {"event_type": "msg-event", "url": "https://receiver.example/", "is_active": False, name: value}
    answer = api.post("/webhooks", json=body)
    assert is_problem(answer, 422) and name in answer.json()["detail"], answer.text


def test_who_may(hooked, hooks, new_api, receiver):
    row = put(hooks, receiver)
    admin = new_api(hooked)
    other = new_api(hooked, admin.key_with(["webhooks:write"], org=f"org-{uuid.uuid4().hex[:8]}"))
    without = new_api(hooked, admin.key_with(["tasks:read", "events:read"], org="default"))
    calls = [
        ("GET", ""), ("GET", "/deliveries"), ("GET", "/dead-letters"), ("GET", "/dead-letters/1"),
        ("POST", "/test"), ("POST", "/rotate-secret"), ("POST", "/dead-letters/resend"),
        ("POST", "/dead-letters/1/resend"), ("DELETE", ""),
    ]
    for method, path in calls:
        url = f"/webhooks/{row['id']}{path}"
        assert is_problem(other.request(method, url), 404), url
        assert is_problem(without.request(method, url), 403), url
        with httpx.Client(base_url=hooks.base_url) as nobody:
            assert is_problem(nobody.request(method, url), 401), url
    assert is_problem(other.put(f"/webhooks/{row['id']}", json={"url": receiver.url}), 404)
    assert is_problem(other.patch(f"/webhooks/{row['id']}", json={"concurrency": 1}), 404)
    assert other.get("/webhooks").json() == []
    assert is_problem(hooks.get("/webhooks/msg-nothing"), 422)
    for number in range(2, 101):
        body = {"event_type": "msg-twin", "url": receiver.url, "is_active": False}
        assert hooks.post("/webhooks", json=body).status_code == 201, number
    assert is_problem(hooks.post("/webhooks", json=body), 429)


# By command.


def covey(server, *arguments, **more):
    """Runs `covey webhooks` on a server; answers the finished process."""
    command = [str(BINARY), "webhooks", "--data", str(server.data), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, **more)


def test_by_command(hasty, receiver, connect, tmp_path):
    server, api = hasty
    device = connect(server, api.register(tmp_path))
    added = covey(server, "add", receiver.url, "--header", "X-Team: north", "--device", device.sn, "--event-type", "13")
    assert added.returncode == 0 and added.stdout.startswith("whsec_"), added.stderr
    [row] = [json.loads(line) for line in covey(server, "list", "--json").stdout.splitlines()]
    assert row["filter"] == {"device_id": [device.device_id], "tag": [], "event_type_code": [13]}
    key = str(row["id"])
    assert "msg-event" in covey(server, "list").stdout
    tested = covey(server, "test", key)
    assert tested.returncode == 0 and "status 200" in tested.stdout
    command = [str(BINARY), "webhooks", "--data", str(server.data), "deliveries", key, "--follow", "--json"]
    follow = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert json.loads(follow.stdout.readline())["outcome"] == "test_passed"
    event(device, 1)
    assert json.loads(follow.stdout.readline())["outcome"] == "delivered"
    follow.kill()
    follow.wait()
    [post] = [post for post in receiver.wait_for(2) if post.id.startswith("evt")]
    assert post.headers["x-team"] == "north" and post.is_signed_with(added.stdout.strip())
    receiver.answer = lambda _: REFUSED
    event(device, 2)
    wait_until(lambda: "status 500" in covey(server, "dead", key).stdout, seconds=20)
    receiver.answer = lambda _: OK
    assert json.loads(covey(server, "resend", key, "--all", "--json").stdout) == {"resent": 1}
    assert numbers(receiver.wait_for(3, seconds=20))[-1] == 2
    rotated = covey(server, "rotate", key)
    assert rotated.stdout.startswith("whsec_") and rotated.stdout != added.stdout
    assert "delivered" in covey(server, "deliveries", key).stdout
    assert covey(server, "rm", key).returncode == 0
    assert covey(server, "rm", key).returncode != 0
    default = covey(server, "add", receiver.url, "--type", "msg-twin", "--default", "--concurrency", "2")
    assert default.returncode == 0 and default.stdout.startswith("whsec_"), default.stderr
    assert covey(server, "rm", "msg-twin").returncode == 0
    refused = covey(server, "add", "https://10.0.0.1/x")
    assert refused.returncode != 0 and "url" in refused.stderr and not refused.stdout
