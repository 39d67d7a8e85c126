"""Pusher Channels with Pusher's own libraries: pusher-js and pusher (npm), pusher and pysher (PyPI)."""

import hashlib
import hmac
import json
import os
import socket as sockets
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pusher as pusher_of_python
import pysher
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket
from websockets.sync.server import serve

import testbed.pusher
from testbed.api import DONE
from testbed.field_programs import NODE_LIBRARIES
from testbed.nodes import Unit, WebSocketNode, device_of, nodes, values, wait_for
from testbed.pusher import SECRET, Client, Library, app, file_of, place, published
from testbed.server import NotStarted, Server, kept_ports
from test_browser import browser  # noqa: F401
from test_units import entry

pytestmark = pytest.mark.embedded


@pytest.fixture
def served(tmp_path, new_server):
    """A server with one app, which belongs to the first key."""
    return new_server("--pusher", file_of(tmp_path, app()))


def hello(server, key: str = "key-1", query: str = "protocol=7", **more):
    """A client that knows the frames alone."""
    return websocket(f"{server.http.replace('http', 'ws', 1)}/app/{key}?{query}", **more)


def frame(socket, seconds: float = 30.0) -> dict:
    return json.loads(socket.recv(seconds))


def signature(*parts: str) -> str:
    return f"key-1:{hmac.new(SECRET.encode(), ':'.join(parts).encode(), hashlib.sha256).hexdigest()}"


def subscribe(socket, channel: str, auth: str | None = None, **more) -> dict:
    data = {"channel": channel, **({"auth": auth} if auth else {}), **more}
    socket.send(json.dumps({"event": "pusher:subscribe", "data": data}))
    return frame(socket)


def signed(server, method: str, path: str, body: bytes = b"", **more) -> httpx.Response:
    return testbed.pusher.signed(server.http, method, path, body, **more)


def trigger(server, channel: str, event: str, data) -> httpx.Response:
    return published(server.http, app(), channel, event, data if isinstance(data, str) else json.dumps(data))


def send_event(device, number: int) -> None:
    properties = {"event_type_code": 13, "dev_event_id": number, "dev_timestamp": int(time.time())}
    assert device.publish(f"dev/{device.sn}/evt", json.dumps({"n": number}), properties=properties) == 0


@pytest.mark.parametrize("tls", [False, True])
def test_pusher_js_hears_what_both_server_libraries_publish(served, new_node, tls):
    client = new_node(Client, served, "key-1", tls=tls)
    client.subscribe("news")
    client.subscribe("private-a")
    host, port = place(served.http)
    library = pusher_of_python.Pusher(app_id="1", key="key-1", secret=SECRET, host=host, port=port, ssl=False)
    assert library.trigger(["news", "private-a"], "said", {"by": "python"}) == {}
    for channel in ("news", "private-a"):
        assert client.hear(channel=channel, event="said")["data"] == {"by": "python"}
    node = new_node(Library, served, app())
    assert node.ask("trigger", channels=["news"], event="said", data={"by": "node"}) == {"status": 200, "body": "{}"}
    assert client.hear(channel="news", event="said")["data"] == {"by": "node"}
    assert library.trigger_batch([{"channel": "news", "name": "said", "data": {"n": n}} for n in range(10)]) == {}
    assert [client.hear(channel="news", event="said")["data"]["n"] for _ in range(10)] == list(range(10))
    # Who has caused an event need not hear it.
    library.trigger("news", "said", "quiet", socket_id=client.socket)
    library.trigger("news", "said", "loud")
    assert client.hear(channel="news", event="said")["data"] == "loud"
    client.tell("unsubscribe", channel="news")
    assert wait_for(lambda: library.channels_info()["channels"] == {"private-a": {}})


def test_pusher_js_in_a_browser_hears_a_device(tmp_path, new_server, new_api, connect, browser):  # noqa: F811
    server = new_server("--pusher", file_of(tmp_path, app()))
    api = new_api(server)
    identity = api.register(tmp_path)
    device = connect(server, identity)
    host, port = place(server.http)
    browser.get(f"{server.http}/healthz")
    # As a page has it that loads the library.
    browser.execute_script((NODE_LIBRARIES / "pusher-js/dist/web/pusher.min.js").read_text() + ";window.Pusher = Pusher;")
    browser.execute_script(
        """
        const [host, port, key, channel] = arguments;
        window.told = []; window.isOn = false;
        window.pusher = new Pusher('key-1', {
            cluster: 'any', wsHost: host, wsPort: port, forceTLS: false, enabledTransports: ['ws'],
            channelAuthorization: {endpoint: '/broadcasting/auth', headers: {Authorization: `Bearer ${key}`}},
        });
        const subscribed = pusher.subscribe(channel);
        subscribed.bind('pusher:subscription_succeeded', () => { isOn = true; });
        subscribed.bind('event', change => told.push(change.event.payload.n));
        """,
        host, port, api.key_with(["events:read"]), f"private-device-{identity.sn}",
    )  # fmt: skip
    assert wait_for(lambda: browser.execute_script("return isOn"), seconds=30)
    for number in (1, 2, 3):
        send_event(device, number)
    assert wait_for(lambda: browser.execute_script("return told.length") == 3, seconds=30)
    assert browser.execute_script("return told") == [1, 2, 3]


def test_both_server_libraries_ask_who_is_there(served, new_node):
    host, port = place(served.http)
    library = pusher_of_python.Pusher(app_id="1", key="key-1", secret=SECRET, host=host, port=port, ssl=False)
    node = new_node(Library, served, app())
    assert library.channels_info() == {"channels": {}}
    clients = [new_node(Client, served, "key-1") for _ in range(2)]
    for client in clients:
        client.subscribe("presence-room")
    clients[0].subscribe("news")
    found = library.channels_info(prefix_filter="presence-", attributes=["user_count"])
    # Both are there with the same key.
    assert found == {"channels": {"presence-room": {"user_count": 1}}}
    assert library.channel_info("news", ["subscription_count"]) == {"occupied": True, "subscription_count": 1}
    assert library.channel_info("elsewhere") == {"occupied": False}
    assert library.users_info("presence-room") == {"users": [{"id": "1"}]}
    answer = node.ask("get", path="/channels/presence-room/users", params={})
    assert json.loads(answer["body"]) == {"users": [{"id": "1"}]}
    assert node.ask("get", path="/channels", params={"info": "user_count"})["status"] == 400
    answer = node.ask(
        "trigger", channels=["news", "presence-room"], event="e", data="x", more={"info": "user_count,subscription_count"}
    )
    assert json.loads(answer["body"])["channels"] == {
        "news": {"subscription_count": 1},
        "presence-room": {"subscription_count": 2, "user_count": 1},
    }


def test_members_and_events_of_clients_of_pusher_js(served, new_node, new_api):
    other = new_api(served).key_with(["events:read"])
    first = new_node(Client, served, "key-1")
    second = new_node(Client, served, "key-1", other)
    me = first.subscribe("presence-room")["data"]
    assert me["count"] == 1 and me["me"]["id"] == "1"
    both = second.subscribe("presence-room")["data"]
    assert both["count"] == 2 and both["me"]["info"] == {"name": "conformance"}
    added = first.hear(channel="presence-room", event="pusher:member_added")["data"]
    assert added == both["me"]
    second.tell("trigger", channel="presence-room", event="client-typing", data={"n": 1})
    assert first.hear(channel="presence-room", event="client-typing")["data"] == {"n": 1}
    second.tell("disconnect")
    assert first.hear(channel="presence-room", event="pusher:member_removed")["data"] == added


def test_pysher_as_the_base_unit_in_the_field_uses_it(served):
    """Protocol 6 of the library, 5 of the base unit, text as the data of a ping, a signature of the endpoint."""
    host, port = place(served.http)
    for protocol in (5, 6):
        pysher.Pusher.protocol = protocol
        client = pysher.Pusher(
            "key-1",
            secure=False,
            custom_host=host,
            port=port,
            auth_endpoint=f"{served.http}/api/broadcasting/auth",
            auth_endpoint_headers={"Authorization": f"Bearer {served.key}"},
        )
        heard = []
        client.connection.bind(
            "pusher:connection_established",
            lambda _: client.subscribe("private-requests").bind("update.request", lambda data: heard.append(json.loads(data))),
        )
        client.connect()
        try:
            assert wait_for(lambda: client.connection.pong_received, seconds=30)
            requests = [{"ip": "192.0.2.7", "payload": color} for color in ("red", "#00ff00")]
            path = "/apps/1/channels/private-requests"
            assert wait_for(lambda: signed(served, "GET", path).json() == {"occupied": True}, seconds=30)
            for request in requests:
                assert trigger(served, "private-requests", "update.request", request).status_code == 200
            assert wait_for(lambda: len(heard) == 2, seconds=30) and heard == requests
        finally:
            client.disconnect(10)
        assert wait_for(lambda: signed(served, "GET", path).json() == {"occupied": False}, seconds=30)


def test_a_client_whose_host_is_fixed_finds_its_name_in_the_certificate(tmp_path, new_server):
    """As a base unit does: it verifies ws-eu.pusher.com, which leads here."""
    server = new_server("--pusher", file_of(tmp_path, app()), "--name", "ws-eu.pusher.com")
    context = ssl.create_default_context(cafile=str(server.ca))
    with sockets.create_connection(place(server.https)) as raw:
        with websocket("wss://ws-eu.pusher.com/app/key-1?protocol=5", sock=raw, ssl=context, proxy=None) as socket:
            greeting = frame(socket)
            assert greeting["event"] == "pusher:connection_established"
            assert json.loads(greeting["data"]).keys() == {"socket_id", "activity_timeout"}


@pytest.mark.parametrize(
    ("key", "query", "code"),
    [
        ("none", "protocol=7", 4001),
        ("key-1", "", 4008),
        ("key-1", "protocol=x", 4006),
        ("key-1", "protocol=4", 4007),
        ("key-2", "protocol=7", 4003),
    ],
)
def test_who_may_not_connect_is_told_by_the_codes_of_the_protocol(tmp_path, new_server, key, query, code):
    # The second app belongs to a key that nobody has.
    server = new_server("--pusher", file_of(tmp_path, app(), app(2, api_key=999)))
    with hello(server, key, query) as socket:
        refused = frame(socket)
        assert (refused["event"], refused["data"]["code"]) == ("pusher:error", code)
        with pytest.raises(Exception):
            socket.recv(30)
        assert socket.close_code == code


def test_a_signature_opens_one_channel_of_one_connection(served):
    with hello(served) as socket, hello(served) as other:
        mine, theirs = (json.loads(frame(one)["data"])["socket_id"] for one in (socket, other))
        for auth in (None, "", "key-1:", signature(theirs, "private-a"), signature(mine, "private-b"), "key-2:00"):
            refused = subscribe(socket, "private-a", auth)
            assert (refused["event"], refused["data"]["status"]) == ("pusher:subscription_error", 401), auth
        assert subscribe(socket, "presence-a", signature(mine, "presence-a"))["data"]["status"] == 400
        good = subscribe(socket, "private-a", signature(mine, "private-a"))
        assert good == {"event": "pusher_internal:subscription_succeeded", "channel": "private-a", "data": "{}"}
        # Events of clients go to those who are subscribed, and to nobody by whom is not.
        other.send(json.dumps({"event": "client-x", "channel": "private-a", "data": {}}))
        assert frame(other)["event"] == "pusher:error"
        assert subscribe(other, "private-a", signature(theirs, "private-a"))["event"].endswith("succeeded")
        other.send(json.dumps({"event": "client-x", "channel": "private-a", "data": {"n": 1}}))
        assert frame(socket) == {"event": "client-x", "channel": "private-a", "data": {"n": 1}}
        # No more than ten a second; the connection stays.
        for _ in range(20):
            other.send(json.dumps({"event": "client-x", "channel": "private-a", "data": {}}))
        assert frame(other)["data"]["code"] == 4301
        other.send("no json")
        while (said := frame(other))["data"]["code"] == 4301:
            pass
        assert said["event"] == "pusher:error"
        other.send(json.dumps({"event": "pusher:ping", "data": ""}))
        assert frame(other)["event"] == "pusher:pong"


def test_a_client_that_is_back_subscribes_to_all_its_channels_at_once(served):
    with hello(served) as socket:
        frame(socket)
        names = [f"news-{number}" for number in range(100)]
        for name in names:
            socket.send(json.dumps({"event": "pusher:subscribe", "data": {"channel": name}}))
        assert [frame(socket)["channel"] for _ in names] == names
        socket.send(json.dumps({"event": "pusher:ping", "data": {}}))
        assert frame(socket)["event"] == "pusher:pong"
        # Who goes on like that is closed.
        with pytest.raises(ConnectionClosed):
            for _ in range(1_000):
                socket.send(json.dumps({"event": "pusher:pong", "data": {}}))
            while True:
                frame(socket)
        assert socket.close_code == 4100


def test_the_close_of_a_client_is_answered(served):
    with hello(served) as socket:
        frame(socket)
        socket.close(1000, "done")
        assert socket.protocol.close_rcvd and socket.close_code == 1000


def test_a_request_that_the_secret_has_not_signed_is_refused(served):
    body = json.dumps({"name": "e", "channels": ["news"], "data": "x"}).encode()
    events = "/apps/1/events"
    assert signed(served, "POST", events, body).status_code == 200
    for change in (
        {"auth_signature": "0" * 64},
        {"auth_key": "key-2"},
        {"auth_version": "2.0"},
        {"auth_timestamp": str(int(time.time()) - 700)},
        {"auth_timestamp": str(int(time.time()) + 700)},
        {"auth_timestamp": "soon"},
        {"body_md5": hashlib.md5(b"another").hexdigest()},
        {"filter": "added"},
    ):
        assert signed(served, "POST", events, body, change=change).status_code == 401, change
    assert signed(served, "POST", events, body, of=app() | {"secret": "another-secret-of-an-app"}).status_code == 401
    assert signed(served, "POST", "/apps/2/events", body).status_code == 401
    assert httpx.post(f"{served.http}{events}", content=body).status_code == 401
    for bad, status in (
        ({"channels": ["news"], "data": "x"}, 400),
        ({"name": "e", "channels": [], "data": "x"}, 400),
        ({"name": "e", "channels": ["a b"], "data": "x"}, 400),
        ({"name": "e", "channels": ["news"] * 101, "data": "x"}, 400),
        ({"name": "e", "channels": ["news"], "data": {"no": "string"}}, 400),
        ({"name": "pusher:e", "channels": ["news"], "data": "x"}, 400),
        ({"name": "e", "channels": ["news"], "data": "x" * 10_241}, 413),
        ({"name": "twin", "channels": ["private-device-lamp"], "data": "{}"}, 403),
    ):
        assert signed(served, "POST", events, json.dumps(bad).encode()).status_code == status, bad
    # The bounds of the listener hold for such routes, too, and it counts them.
    too_large = signed(served, "POST", events, b"x" * 300_000)
    assert too_large.status_code == 413 and too_large.headers["x-request-id"], too_large.headers
    assert too_large.json()["type"] == "urn:covey:problem:too-large"
    assert 'route="/apps/{id}/events",status="401"' in httpx.get(f"{served.http}/metrics").text


def test_what_happens_to_a_device_is_told_in_its_channel(served, new_api, connect, tmp_path, new_node):
    api = new_api(served)
    identity, other = api.register(tmp_path), api.register(tmp_path)
    device = connect(served, identity)
    client = new_node(Client, served, "key-1")
    channel = f"private-device-{identity.sn}"
    client.subscribe(channel)
    send_event(connect(served, other), 1)
    for number in range(5):
        send_event(device, number)
    told = [client.hear(channel=channel, event="event")["data"] for _ in range(5)]
    assert [one["event"]["payload"]["n"] for one in told] == list(range(5))
    assert {one["event"]["sn"] if "sn" in one["event"] else one["sn"] for one in told} == {identity.sn}
    # The same as the stream says.
    task = api.create(identity, method="blink", payload={"a": 1})
    change = client.hear(channel=channel, event="task")["data"]
    assert change["task"]["id"] == task
    with api.stream("GET", "/stream", params={"cursor": 0, "kind": "task"}) as stream:
        said = next(line for line in stream.iter_lines() if line.startswith("data: "))
    assert json.loads(said.removeprefix("data: ")) == change
    # Nobody but Covey writes it.
    client.tell("trigger", channel=channel, event="client-event", data={})
    assert client.hear(error=None)
    assert trigger(served, channel, "event", {}).status_code == 403


def test_what_a_node_says_is_told_in_its_channel(tmp_path, new_server, new_api, new_node):
    server = new_server("--pusher", file_of(tmp_path, app()), "--websocket-nodes", "127.0.0.1:0", "--nodes", "open")
    api = new_api(server)
    node = new_node(WebSocketNode, server.addresses["websocket_nodes"], {"id": "lamp", "led": "0"})
    assert wait_for(lambda: device_of(api, "websocket-lamp", online=True), seconds=30)
    client = new_node(Client, server, "key-1")
    channel = "private-device-websocket-lamp"
    client.subscribe(channel)
    node.say({"led": "1"})
    told = client.hear(channel=channel, event="twin")["data"]
    assert told["sn"] == "websocket-lamp" and '"led"' in json.dumps(told), told


def test_a_channel_of_a_device_opens_for_what_the_key_may_read(tmp_path, new_server, new_api):
    server = new_server("--pusher", file_of(tmp_path, app(), app(2, 2), app(3, 3)))
    api = new_api(server)
    identity = api.register(tmp_path)
    channel = f"private-device-{identity.sn}"
    # The keys to which the second and the third app belong.
    blind, strange = api.key_with(["tasks:read"]), api.key_with(["events:read"], org="other")
    keys = {one["id"]: one for one in api.get("/api-keys").json()}
    assert {2, 3} <= set(keys)

    def answers(number: int) -> dict:
        with hello(server, f"key-{number}") as socket:
            mine = json.loads(frame(socket)["data"])["socket_id"]
            auth = signature(mine, channel).replace("key-1", f"key-{number}")
            return subscribe(socket, channel, auth)

    assert answers(1)["event"] == "pusher_internal:subscription_succeeded"
    assert answers(2)["data"]["status"] == 403
    assert answers(3)["data"]["status"] == 404
    with hello(server) as socket:
        mine = json.loads(frame(socket)["data"])["socket_id"]
        form = {"channel_name": channel, "socket_id": mine}

        def auth(token, **change) -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return httpx.post(f"{server.http}/broadcasting/auth", data=form | change, headers=headers)

        good = auth(server.key)
        assert good.status_code == 200 and good.json() == {"auth": signature(mine, channel)}
        assert auth(None).status_code == 401 and auth("no-key").status_code == 401
        assert auth(blind).status_code == 403 and auth(strange).status_code == 404
        assert auth(server.key, channel_name="private-device-none").status_code == 404
        assert auth(server.key, socket_id="1.1:private-device-x").status_code == 400
        assert auth(blind, channel_name="private-requests").status_code == 200
        assert auth(strange, channel_name="private-requests").status_code == 403
        # A subscription outlasts the key that signs it.
        for bounds in ({"expires_at": "2999-01-01T00:00:00Z"}, {"addresses": ["127.0.0.0/8"]}):
            made = api.post("/api-keys", json={"name": "bound", "rights": ["events:read"], **bounds})
            assert auth(made.json()["key"]).status_code == 403, bounds
        # A key that is revoked closes what it has opened.
    with hello(server, "key-3") as socket:
        frame(socket)
        assert api.delete("/api-keys/3").status_code in (200, 204)
        refused = frame(socket)
        assert (refused["event"], refused["data"]["code"]) == ("pusher:error", 4003)


def test_webhooks_of_channels_are_signed_as_pusher_does(tmp_path, new_server, new_node):
    received = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            is_first = not received
            received.append((dict(self.headers), body))
            self.send_response(503 if is_first else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=receiver.serve_forever, daemon=True).start()
    try:
        one = app(webhooks=[f"http://127.0.0.1:{receiver.server_port}/hook"])
        server = new_server("--pusher", file_of(tmp_path, one), "--webhook-allow", "loopback")
        first, second = (new_node(Client, server, "key-1") for _ in range(2))
        for client in (first, second):
            client.subscribe("presence-room")
        first.tell("trigger", channel="presence-room", event="client-x", data={"n": 1})
        second.hear(channel="presence-room", event="client-x")
        for client in (first, second):
            client.tell("disconnect")

        def events() -> list[dict]:
            return [event for _, body in received[1:] for event in json.loads(body)["events"]]

        assert wait_for(lambda: "channel_vacated" in [event["name"] for event in events()], seconds=30)
        assert [event["name"] for event in events()] == [
            "channel_occupied", "member_added", "client_event", "member_removed", "channel_vacated",
        ]  # fmt: skip
        told = events()[2]
        assert (told["channel"], told["event"], json.loads(told["data"])) == ("presence-room", "client-x", {"n": 1})
        assert (told["socket_id"], told["user_id"]) == (first.socket, "1")
        assert received[0][1] == received[1][1], "what was not taken comes again"
        library = pusher_of_python.Pusher(app_id="1", key="key-1", secret=SECRET)
        node = new_node(Library, server, one)
        for headers, body in received:
            lower = {name.lower(): value for name, value in headers.items()}
            assert library.validate_webhook(lower["x-pusher-key"], lower["x-pusher-signature"], body)
            verdict = node.ask("webhook", headers=lower, body=body)["done"]
            assert verdict["valid"] and verdict["events"] == json.loads(body)["events"]
    finally:
        receiver.shutdown()
        receiver.server_close()


def test_a_webhook_of_channels_goes_nowhere_that_the_operator_does_not_allow(tmp_path, new_server, new_node):
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.path)

        def log_message(self, *_):
            pass

    received = []
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=receiver.serve_forever, daemon=True).start()
    try:
        one = app(webhooks=[f"https://127.0.0.1:{receiver.server_port}/hook?token=SECRET"])
        server = new_server("--pusher", file_of(tmp_path, one), log="info,covey_gateway=debug")
        new_node(Client, server, "key-1").subscribe("news")
        assert wait_for(lambda: "webhook of channels is tried again" in server.log_text(), seconds=30)
        assert "leads to an address that webhooks may not go to" in server.log_text() and not received
        assert f"127.0.0.1:{receiver.server_port}/hook" in server.log_text() and "SECRET" not in server.log_text()
    finally:
        receiver.shutdown()
        receiver.server_close()


class Dashboard:
    """What a dashboard takes of base units, as it stands on the wire."""

    def __init__(self):
        dashboard = self
        self.heads: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self):
                dashboard.heads.append(f"{self.requestline}\r\n{self.headers}")
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def test_readings_of_units_are_put_to_a_dashboard_as_a_base_unit_puts_them(tmp_path, new_server, new_node):
    dashboard = new_node(Dashboard)
    unit = new_node(Unit, [b"512\n", b"a/b c\n", b"23\xc2\xb0\n"])
    units = tmp_path / "units.json"
    units.write_text(json.dumps({"units": [entry(unit, "read")]}))
    [closed] = kept_ports(1)
    service = {
        "api": {"url": dashboard.url, "token": "t-1"},
        "pusher": {"app-key": "k", "url": f"ws://127.0.0.1:{closed}", "auth": "/api/broadcasting/auth"},
    }
    new_server(
        "--pusher", file_of(tmp_path, services=[service]), "--units", str(units), "--units-allow", "loopback",
        "--webhook-allow", "loopback",
    )  # fmt: skip
    assert wait_for(lambda: len(dashboard.heads) >= 3, seconds=30)
    name = f"127.0.0.1%3A{unit.port}"
    for head, value in zip(dashboard.heads, ("512", "a%2Fb%20c", "23%C2%B0"), strict=False):
        assert head.startswith(f"PUT /api/webhook/update-unit/{name}/{value} HTTP/1.1\r\n"), head
        lower = head.lower()
        assert "authorization: bearer t-1" in lower
        assert "content-length" not in lower and "transfer-encoding" not in lower


def test_a_base_unit_tells_readings_encoded_or_raw(served, new_api):
    api = new_api(served)
    key = api.key_with(["devices:write"])
    blind = api.key_with(["devices:read"])

    def put(path: str, token: str = key) -> int:
        return httpx.put(f"{served.http}{path}", headers={"Authorization": f"Bearer {token}"}).status_code

    assert put("/webhook/update-unit/192.0.2.7/512") == 204
    device = device_of(api, "unit-192_2e0_2e2_2e7")
    assert values(api, device["device_id"]) == {"value": "512"}
    for path, value in (
        ("/api/webhook/update-unit/192.0.2.7/%2300ff00", "#00ff00"),
        ("/webhook/update-unit/192.0.2.7/50%25", "50%"),
        ("/webhook/update-unit/192.0.2.7/1/2", "1/2"),
        ("/webhook/update-unit/192.0.2.7/a?b", "a?b"),
    ):
        assert put(path) == 204, path
        assert values(api, device["device_id"]) == {"value": value}, path
    assert put("/webhook/update-unit/192.0.2.7/" + "x" * 1025) == 400
    assert put("/webhook/update-unit/192.0.2.7/") == 404
    assert put("/webhook/update-unit/192.0.2.7/1", blind) == 403
    assert put("/webhook/update-unit/192.0.2.7/1", "no-key") == 401
    assert values(api, device["device_id"]) == {"value": "a?b"}
    # As the field's base unit writes it: not encoded, without Content-Length.
    with sockets.create_connection(place(served.http)) as raw:
        raw.sendall(
            b"PUT /webhook/update-unit/192.0.2.7/23%\xc2\xb0 HTTP/1.1\r\nHost: covey\r\n"
            b"Authorization: Bearer " + key.encode() + b"\r\n\r\n"
        )
        assert raw.recv(4096).startswith(b"HTTP/1.1 204"), "raw"
    assert values(api, device["device_id"]) == {"value": "23%°"}


def test_a_reading_of_a_unit_of_this_server_is_of_its_resource(tmp_path, new_server, new_api, new_node):
    lamp = new_node(Unit)
    units = tmp_path / "units.json"
    units.write_text(json.dumps({"units": [entry(lamp, "update", name="lamp", resource="color")]}))
    server = new_server("--pusher", file_of(tmp_path, app()), "--units", str(units), "--units-allow", "loopback")
    api = new_api(server)
    device = wait_for(lambda: device_of(api, "unit-lamp", online=True))
    key, strange = api.key_with(["devices:write"]), api.key_with(["devices:write"], org="other")

    def put(unit: str, value: str, token: str = key) -> int:
        path = f"/webhook/update-unit/{unit}/{value}"
        return httpx.put(f"{server.http}{path}", headers={"Authorization": f"Bearer {token}"}).status_code

    for unit, value in (("lamp", "5"), (f"127.0.0.1:{lamp.port}", "6")):
        assert put(unit, value) == 204, unit
        assert values(api, device["device_id"])["color"] == value
    assert put("lamp", "7", strange) == 409, "its serial number is that of another organisation's device"
    [node] = nodes(api)
    assert api.post(f"/nodes/{node['id']}/block").status_code == 200
    assert put("lamp", "8") == 409
    assert values(api, device["device_id"])["color"] == "6"
    assert [one["uid"] for one in nodes(api)] == ["lamp"]


def test_a_covey_takes_a_base_units_place_at_another_covey(tmp_path, new_server, new_api, new_node):
    """A dashboard publishes at the first; the units are at the second, which hears the first over TLS."""
    front = new_server("--pusher", file_of(tmp_path, app(), name="front.json"), name="front", ports=kept_ports())
    front_api = new_api(front)
    token = front_api.key_with(["tasks:read", "devices:write"])
    lamp, scale = new_node(Unit), new_node(Unit, [b"512\n"])
    units = tmp_path / "units.json"
    listed = [entry(lamp, "update", name="lamp", resource="color"), entry(scale, "read")]
    units.write_text(json.dumps({"units": listed}))
    service = {
        "api": {"url": f"{front.https.replace('127.0.0.1', 'localhost')}/api", "token": token},
        "pusher": {
            "app-key": "key-1",
            "url": front.https.replace("https", "wss").replace("127.0.0.1", "localhost"),
            "auth": "/api/broadcasting/auth",
        },
        "ca": str(front.ca),
    }
    back = new_server(
        "--pusher", file_of(tmp_path, services=[service], name="back.json"), "--units", str(units),
        "--units-allow", "loopback", "--webhook-allow", "loopback", "--webhook-ca", str(front.ca), name="back",
    )  # fmt: skip
    path = "/apps/1/channels/private-requests"
    assert wait_for(lambda: signed(front, "GET", path).json() == {"occupied": True}, seconds=30), back.log_text()[-3000:]
    shown = f"127.0.0.1:{lamp.port}"
    for color in ("red", "#00ff00"):
        assert trigger(front, "private-requests", "update.request", {"ip": shown, "payload": color}).status_code == 200
        assert wait_for(lambda color=color: lamp.taken[-1:] == [color], seconds=30)
    # The way back: what the scale reads is its value at the first.
    assert wait_for(lambda: device_of(front_api, f"unit-127_2e0_2e0_2e1_3a{scale.port}"), seconds=30)
    device = device_of(front_api, f"unit-127_2e0_2e0_2e1_3a{scale.port}")
    assert wait_for(lambda: values(front_api, device["device_id"]).get("value") == "512")
    # The first is killed: the second comes back by itself.
    front.kill()
    front.start()
    assert wait_for(lambda: signed(front, "GET", path).json() == {"occupied": True}, seconds=60)
    assert trigger(front, "private-requests", "update.request", {"ip": "lamp", "payload": "blue"}).status_code == 200
    assert wait_for(lambda: lamp.taken == ["red", "#00ff00", "blue"], seconds=30), lamp.taken


def test_a_unit_that_is_listed_over_rest_is_written_and_told_too(tmp_path, new_server, new_api, new_node):
    dashboard, lamp, scale = new_node(Dashboard), new_node(Unit), new_node(Unit, [b"512\n"])
    [closed] = kept_ports(1)
    service = {
        "api": {"url": dashboard.url, "token": "t-1"},
        "pusher": {"app-key": "k", "url": f"ws://127.0.0.1:{closed}", "auth": "/auth"},
    }
    server = new_server(
        "--pusher", file_of(tmp_path, app(), services=[service]), "--unit-gateway", "--units-allow", "loopback",
        "--webhook-allow", "loopback",
    )  # fmt: skip
    api = new_api(server)
    for unit, kind in ((lamp, "update"), (scale, "read")):
        listed = api.post("/units", json={"address": "127.0.0.1", "port": unit.port, "kind": kind})
        assert listed.status_code == 201, listed.text
    assert wait_for(lambda: dashboard.heads, seconds=30)
    assert dashboard.heads[0].startswith(f"PUT /api/webhook/update-unit/127.0.0.1%3A{scale.port}/512 ")
    asked = {"ip": f"127.0.0.1:{lamp.port}", "payload": "red"}
    assert trigger(server, "private-requests", "update.request", asked).status_code == 200
    assert wait_for(lambda: lamp.taken == ["red"], seconds=30)


def test_a_covey_comes_again_as_the_code_of_the_close_says(tmp_path, new_server):
    front = new_server("--pusher", file_of(tmp_path, app(), name="front.json"), name="front", ports=kept_ports())

    def service(key: str) -> dict:
        pusher = {"app-key": key, "url": front.http.replace("http", "ws", 1), "auth": "/api/broadcasting/auth"}
        return {"api": {"url": f"{front.http}/api", "token": front.key}, "pusher": pusher}

    back = new_server(
        "--pusher", file_of(tmp_path, services=[service("key-1"), service("none")], name="back.json"),
        "--webhook-allow", "loopback", name="back",
    )  # fmt: skip
    assert wait_for(lambda: "connecting again is of no use" in back.log_text(), seconds=30), back.log_text()
    assert wait_for(lambda: back.log_text().count("requests of a dashboard are heard") == 1, seconds=30)
    # Who ends says so with 4200.
    front.stop()
    front.start()
    assert wait_for(lambda: back.log_text().count("requests of a dashboard are heard") == 2, seconds=60), back.log_text()
    assert front.log_text().count("there is no app with this key") == 1


class Service:
    """A dashboard with its Pusher service, which refuses everything once. It closes the first connection on which it has
    opened the channel."""

    def __init__(self):
        service = self
        self.signatures, self.subscriptions, self.opened, self.answered = 0, 0, 0, []

        class Dashboard(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                service.signatures += 1
                body = b'{"auth": "k:00"}'
                self.send_response(403 if service.signatures == 1 else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.dashboard = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
        self.pusher = serve(self.connection, "127.0.0.1", 0)
        for server in (self.dashboard, self.pusher):
            Thread(target=server.serve_forever, daemon=True).start()

    def connection(self, socket) -> None:
        hello = {"socket_id": "1.2", "activity_timeout": 120}
        socket.send(json.dumps({"event": "pusher:connection_established", "data": json.dumps(hello)}))
        for said in socket:
            assert json.loads(said)["event"] == "pusher:subscribe", said
            self.subscriptions += 1
            answer = {"channel": "private-requests", "data": "{}"}
            if self.subscriptions == 1:
                socket.send(json.dumps(answer | {"event": "pusher:subscription_error"}))
                continue
            socket.send(json.dumps(answer | {"event": "pusher_internal:subscription_succeeded"}))
            self.opened += 1
            if self.opened == 1:
                socket.close(4200, "again")
                self.answered.append(socket.protocol.close_rcvd)

    def close(self) -> None:
        self.pusher.shutdown()
        self.dashboard.shutdown()
        self.dashboard.server_close()

    def file(self) -> dict:
        api = f"http://127.0.0.1:{self.dashboard.server_port}"
        url = f"ws://127.0.0.1:{self.pusher.socket.getsockname()[1]}"
        return {"api": {"url": api, "token": "t-1"}, "pusher": {"app-key": "k", "url": url, "auth": "/auth?token=SECRET"}}


def test_a_covey_asks_again_for_a_channel_that_was_refused(tmp_path, new_server, new_node):
    service = new_node(Service)
    server = new_server("--pusher", file_of(tmp_path, services=[service.file()]), "--webhook-allow", "loopback")
    assert wait_for(lambda: service.opened == 2, seconds=30), server.log_text()
    assert (service.signatures, service.subscriptions) == (4, 3)
    # Its close was answered.
    assert service.answered[0] and service.answered[0].code == 4200, service.answered
    log = server.log_text()
    assert log.count("the channel private-requests was not opened") == 2, log
    assert "the dashboard answers 403 at http://127.0.0.1" in log and "SECRET" not in log, log


def test_what_a_batch_asks_of_units_is_stored_together_or_not_at_all(tmp_path, new_server, new_api, new_node):
    lamp, [closed] = new_node(Unit), kept_ports(1)
    units = tmp_path / "units.json"
    away = {"address": "127.0.0.1", "port": closed, "kind": "update", "name": "away"}
    units.write_text(json.dumps({"units": [entry(lamp, "update", name="lamp", resource="color"), away]}))
    server = new_server(
        "--pusher", file_of(tmp_path, app()), "--units", str(units), "--units-allow", "loopback", "--open-tasks-max", "2"
    )  # fmt: skip
    api = new_api(server)
    assert wait_for(lambda: device_of(api, "unit-lamp", online=True) and device_of(api, "unit-away"))

    def batch(*asked: tuple[str, str]) -> int:
        events = [
            {"name": "update.request", "channel": "private-requests", "data": json.dumps({"ip": unit, "payload": payload})}
            for unit, payload in asked
        ]
        return signed(server, "POST", "/apps/1/batch_events", json.dumps({"batch": events}).encode()).status_code

    for _ in range(2):
        assert batch(("lamp", "red"), *[("away", color) for color in ("red", "green", "blue")]) == 429
    assert batch(("lamp", "green"), ("nowhere", "x"), ("away", "green")) == 200
    assert wait_for(lambda: lamp.taken == ["green"], seconds=30), lamp.taken
    assert len(api.get("/device-tasks").json()["items"]) == 2


def test_a_dashboards_request_is_a_write_of_this_servers_unit(tmp_path, new_server, new_api, new_node):
    lamp = new_node(Unit)
    units = tmp_path / "units.json"
    units.write_text(json.dumps({"units": [entry(lamp, "update", name="lamp", resource="color")]}))
    server = new_server(
        "--pusher", file_of(tmp_path, app(), app(2, 2)), "--units", str(units), "--units-allow", "loopback"
    )
    api = new_api(server)
    blind = api.key_with(["events:read"])
    assert blind and wait_for(lambda: device_of(api, "unit-lamp", online=True))
    asked = {"ip": f"127.0.0.1:{lamp.port}", "payload": "red"}
    body = json.dumps({"name": "update.request", "channels": ["private-requests"], "data": json.dumps(asked)}).encode()
    assert signed(server, "POST", "/apps/2/events", body, of=app(2)).status_code == 403
    assert trigger(server, "private-requests", "update.request", asked).status_code == 200
    assert wait_for(lambda: lamp.taken == ["red"], seconds=30)
    device = device_of(api, "unit-lamp")
    tasks = api.get("/device-tasks", params={"device_id": device["device_id"]}).json()["items"]
    assert [task["created_by"] for task in tasks] == ["admin"], tasks
    api.wait_for_status(tasks[0]["id"], DONE, seconds=30)
    # Whatever else is published there is no request.
    for channel, event, data in (
        ("private-requests", "update.request", "no json"),
        ("private-requests", "other", asked),
        ("other", "update.request", asked),
    ):
        assert trigger(server, channel, event, data).status_code == 200
    assert trigger(server, "private-requests", "update.request", asked | {"payload": "blue"}).status_code == 200
    assert wait_for(lambda: lamp.taken == ["red", "blue"], seconds=30), lamp.taken


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ("{}", 0o600, "neither apps nor services"),
        ('{"apps": [{"id": "1", "secret": "SECRETSECRETSECRET"}]}', 0o600, "missing field `key`"),
        ("no json", 0o600, "not JSON"),
        (json.dumps({"apps": [app()]}), 0o640, "chmod 600"),
    ],
)
def test_a_file_that_is_wrong_or_open_to_others_is_refused_at_the_start(tmp_path, text, mode, expected):
    file = tmp_path / "pusher.json"
    file.write_text(text)
    os.chmod(file, mode)
    server = Server(tmp_path / "data", "--pusher", str(file))
    with pytest.raises(NotStarted) as refused:
        server.start()
    assert expected in str(refused.value) and "SECRET" not in str(refused.value)
