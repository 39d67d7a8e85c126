"""The stream of changes: with curl as server-sent events, over WebSocket, and resumed wherever it was cut."""

import json
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as open_socket

from testbed.api import Api, is_problem

pytestmark = pytest.mark.every_shape


class Curl:
    """`curl -N` on the stream; what it prints is kept as messages."""

    def __init__(self, api: Api, *headers: str, **params):
        url = httpx.URL(f"{api.root}/api/v1/stream", params=params)
        more = [part for header in headers for part in ("-H", header)]
        command = ["curl", "-sN", "-H", f"x-api-key: {api.headers['x-api-key']}", *more, str(url)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.messages: list[dict] = []
        self.cursor: str | None = None
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
                continue
            with self.changed:
                self.cursor = fields.get("id", self.cursor)
                if "data" in fields:
                    self.messages.append({**fields, "data": json.loads(fields["data"])})
                self.changed.notify_all()
            fields = {}

    def opened(self) -> "Curl":
        """Once the server has sent the first cursor."""
        self.wait(lambda: self.cursor is not None)
        return self

    def wait(self, is_so, seconds: float = 10.0) -> None:
        with self.changed:
            assert self.changed.wait_for(is_so, seconds), self.messages

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


@pytest.fixture
def curl():
    made = []

    def new(*args, **more) -> Curl:
        made.append(Curl(*args, **more))
        return made[-1].opened()

    yield new
    for stream in made:
        stream.close()


def reported(device, number: int, type_code: int = 13, **body) -> None:
    """An event of a device, acknowledged."""
    properties = {"event_type_code": type_code, "dev_event_id": number, "dev_timestamp": int(time.time())}
    body = json.dumps({"n": number, **body})
    assert device.publish(f"dev/{device.sn}/evt", body, properties=properties) == 0


def numbers(messages: list[dict]) -> list[int]:
    return [message["data"]["event"]["payload"]["n"] for message in messages if message["event"] == "event"]


def test_a_call_is_told_step_by_step_in_the_order_of_its_commits(api, device, curl):
    stream = curl(api, device_id=device.device_id, kind=["task", "result"])
    task = api.create(device, method_code=51)
    device.expect("tsk")
    device.ack(task)
    device.take(task)
    device.finish(task, 200, b'{"cl": 5}')
    stream.wait(lambda: len(stream.messages) >= 5)
    kinds = [message["event"] for message in stream.messages]
    assert kinds == ["task", "task", "task", "result", "task"]
    states = [message["data"]["task"]["status_name"] for message in stream.messages if message["event"] == "task"]
    assert states == ["READY", "PENDING", "LOCK", "DONE"]
    result = stream.messages[3]["data"]["result"]
    assert (result["task_id"], result["status_code"], result["result"]) == (task, 200, {"cl": 5})
    ids = [int(message["id"]) for message in stream.messages]
    assert ids == sorted(set(ids)) and all(int(m["id"]) == m["data"]["id"] for m in stream.messages)


def test_filters_choose_by_device_tag_kind_and_type(api, server, identity, victim_identity, connect, curl):
    api.put(f"/devices/{identity.device_id}", json={"tag": "room", "value": "hall"})
    one, other = connect(server, identity), connect(server, victim_identity)
    by_device = curl(api, device_id=[one.device_id], kind="event")
    by_tag = curl(api, tag="room=hall", kind="event")
    by_type = curl(api, device_id=[one.device_id, other.device_id], kind="event", event_type_code=14)
    for number in range(1, 4):
        reported(one, number)
        reported(other, number)
    reported(one, 9, 14)
    for stream, count in ((by_device, 4), (by_tag, 4), (by_type, 1)):
        stream.wait(lambda: len(stream.messages) >= count)
    time.sleep(0.3)
    assert numbers(by_device.messages) == numbers(by_tag.messages) == [1, 2, 3, 9]
    assert numbers(by_type.messages) == [9]


def test_a_cursor_goes_on_without_a_gap_and_without_a_repetition(api, device, curl):
    first = curl(api, device_id=device.device_id, kind="event")
    for number in range(1, 11):
        reported(device, number)
    first.wait(lambda: len(first.messages) >= 10)
    middle = first.messages[4]["id"]
    by_header = curl(api, f"Last-Event-ID: {middle}", device_id=device.device_id, kind="event")
    by_query = curl(api, device_id=device.device_id, kind="event", cursor=middle)
    for number in range(11, 16):
        reported(device, number)
    for stream in (by_header, by_query):
        stream.wait(lambda: len(stream.messages) >= 10)
        assert numbers(stream.messages) == list(range(6, 16))


def test_large_changes_come_whole_between_small_ones(api, device, curl):
    live = curl(api, device_id=device.device_id, kind="event")
    begin = live.cursor
    sizes = [10, 60_000, 7_000, 8_192, 8_300, 64_000, 1, 30_000]
    for number, size in enumerate(sizes, 1):
        reported(device, number, pad="x" * size)
    past = curl(api, device_id=device.device_id, kind="event", cursor=begin)
    for stream in (live, past):
        stream.wait(lambda: len(stream.messages) >= len(sizes))
        assert numbers(stream.messages) == list(range(1, len(sizes) + 1))
        assert [len(one["data"]["event"]["payload"]["pad"]) for one in stream.messages] == sizes
        assert all(int(one["id"]) == one["data"]["id"] for one in stream.messages)


def test_a_stream_resumes_after_the_server_was_killed(new_server, new_api, connect, tmp_path, curl):
    server = new_server()
    api = new_api(server)
    identity = api.register(tmp_path)
    device = connect(server, identity)
    stream = curl(api, device_id=identity.device_id, kind="event")
    for number in range(1, 51):
        reported(device, number)
    stream.wait(lambda: len(stream.messages) >= 20)
    server.kill()
    seen = numbers(stream.messages)
    server.start()
    device = connect(server, identity)
    for number in range(51, 61):
        reported(device, number)
    again = curl(new_api(server), f"Last-Event-ID: {stream.cursor}", device_id=identity.device_id, kind="event")
    again.wait(lambda: len(seen) + len(again.messages) >= 60)
    assert seen + numbers(again.messages) == list(range(1, 61))


def test_over_websocket_the_same_is_told(api, device):
    url = f"{api.root.replace('http', 'ws', 1)}/api/v1/stream?device_id={device.device_id}&kind=event"
    with open_socket(url, additional_headers={"x-api-key": api.headers["x-api-key"]}, proxy=None) as socket:
        for number in range(1, 4):
            reported(device, number)
        told = [json.loads(socket.recv(timeout=10)) for _ in range(3)]
    assert [one["event"]["payload"]["n"] for one in told] == [1, 2, 3]
    resumed = f"{url}&cursor={told[0]['id']}&api_key={api.headers['x-api-key']}"
    with open_socket(resumed, proxy=None) as socket:
        assert [json.loads(socket.recv(timeout=10))["id"] for _ in range(2)] == [one["id"] for one in told[1:]]


def test_nothing_of_another_organisation_is_told(api, other_api, device, curl):
    stream = curl(other_api, cursor="0")
    reported(device, 1)
    time.sleep(0.5)
    assert stream.messages == []


@pytest.mark.parametrize("cursor", ["", "-1", "x", "1.5", "99999999999999999", "9" * 30, "1 OR 1"])
def test_a_cursor_that_was_never_issued_is_refused(api, cursor):
    answer = api.get("/stream", params={"cursor": cursor})
    assert answer.status_code == 422 and "never issued" in answer.json()["detail"]


def test_a_stream_needs_a_key_and_the_right(api, server, new_api):
    assert httpx.get(f"{server.http}/api/v1/stream").status_code == 401
    assert httpx.get(f"{server.http}/api/v1/stream", params={"api_key": "wrong"}).status_code == 401
    assert new_api(server, api.key_with(["tasks:read"])).get("/stream").status_code == 403


@pytest.mark.parametrize("text", ["room=hall", "room:hall", "room"])
def test_a_tag_is_written_alike_everywhere(api, device, curl, text):
    api.put(f"/devices/{device.device_id}", json={"tag": "room", "value": "hall"})
    assert device.sn in [one["sn"] for one in api.get("/devices", params={"tag": text}).json()]
    streams = [curl(api, tag=tag, kind="event") for tag in (text, "room:other")]
    reported(device, 1)
    streams[0].wait(lambda: len(streams[0].messages) >= 1)
    time.sleep(0.3)
    assert streams[1].messages == []


def test_what_asks_for_another_protocol_is_no_stream(api):
    for headers in ({"sec-websocket-version": "8", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}, {}):
        answer = api.get("/stream", headers={"connection": "upgrade", "upgrade": "websocket", **headers})
        assert is_problem(answer, 400)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_a_stream_ends_when_its_key_does(api, device, curl, new_api, server, end):
    body = {"org": "default", "name": f"to be {end}", "rights": ["events:read"]}
    if end == "expired":
        body["expires_at"] = (datetime.now(UTC) + timedelta(seconds=8)).isoformat()
    made = api.post("/api-keys", json=body).json()
    stream = curl(new_api(server, made["key"]), kind="event")
    reported(device, 1)
    stream.wait(lambda: len(stream.messages) == 1)
    if end == "revoked":
        assert api.delete(f"/api-keys/{made['id']}").status_code == 200
    else:
        shown = new_api(server, made["key"])
        while shown.get("/whoami").status_code == 200:
            time.sleep(0.05)
        reported(device, 2)
    stream.wait(lambda: stream.messages[-1]["event"] == "end", 40)
    assert stream.messages[-1]["data"]["reason"] == "unauthorized"
    assert numbers(stream.messages) == [1]


def test_a_server_that_stops_says_so_with_the_cursor(new_server, new_api, connect, tmp_path, curl):
    server = new_server()
    api = new_api(server)
    device = connect(server, api.register(tmp_path))
    stream = curl(api, kind="event")
    reported(device, 1)
    stream.wait(lambda: len(stream.messages) == 1)
    assert server.stop() == 0
    stream.wait(lambda: len(stream.messages) == 2)
    end = stream.messages[1]
    assert (end["event"], end["data"]["reason"]) == ("end", "shutdown")
    assert end["data"]["cursor"] >= int(stream.messages[0]["id"])


def test_a_reader_that_is_too_slow_is_cut_off_and_can_go_on(new_server, new_api, connect, tmp_path):
    server = new_server("--events-per-second-max", "0", "--device-bytes-per-day-max", "0")
    api = new_api(server)
    identity = api.register(tmp_path)
    device = connect(server, identity)
    url = f"{api.root.replace('http', 'ws', 1)}/api/v1/stream?kind=event&api_key={api.headers['x-api-key']}"
    # A window of a few messages, and nobody who reads them.
    with open_socket(url, proxy=None, max_queue=1, ping_interval=None) as socket:
        # What happened before a stream has come to the present is read for it at its own pace.
        reported(device, 1)
        seen, end = [json.loads(socket.recv(timeout=20))["event"]["payload"]["n"]], None
        time.sleep(1.0)
        for number in range(2, 1201):
            body = json.dumps({"n": number, "pad": "x" * 30_000})
            device.send(f"dev/{device.sn}/evt", body, properties={"event_type_code": 13})
        reported(device, 1201)
        told_of = {"device_id": identity.device_id, "events_include": [13], "size": 1}
        deadline = time.monotonic() + 60
        while api.get("/device-events", params=told_of).json()["total"] < 1201:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1.0)  # until the server has tried to tell all of them
        try:
            while True:
                told = json.loads(socket.recv(timeout=20))
                if told["kind"] == "end":
                    end = told["end"]
                else:
                    seen.append(told["event"]["payload"]["n"])
        except (ConnectionClosed, TimeoutError):
            pass
    assert end is not None and end["reason"] == "too_slow", len(seen)
    assert seen == list(range(1, len(seen) + 1)) and len(seen) < 1201
    with open_socket(f"{url}&cursor={end['cursor']}", proxy=None, max_size=2**24) as socket:
        rest = [json.loads(socket.recv(timeout=20))["event"]["payload"]["n"] for _ in range(1201 - len(seen))]
    assert seen + rest == list(range(1, 1202))
