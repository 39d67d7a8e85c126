"""Gateways on the server's own HTTP and HTTPS listeners: `/ws` and `/gw` of the node broker, `/node` of WebSocket nodes."""

import queue
import ssl
from datetime import UTC, datetime, timedelta

import pytest
import websocket

from testbed.node_broker import FieldGateway, Keys, Socket, WebClient
from testbed.nodes import WebSocketNode, device_of, values, wait_for

pytestmark = pytest.mark.embedded


@pytest.fixture
def keys(tmp_path) -> Keys:
    return Keys.make(tmp_path / "keys")


@pytest.fixture
def site(new_server, keys):
    more = ("--node-broker", "127.0.0.1:0", "--websocket-nodes", "127.0.0.1:0", "--nodes", "open")
    return new_server(*more, "--node-keys", str(keys.path))


def ws(url: str) -> str:
    return url.replace("http", "ws", 1).replace("127.0.0.1", "localhost")


class KeyClient(WebClient):
    """A page that has a key: it cannot send a header, so it is in the query."""

    def __init__(self, base: str, key: str, **more):
        Socket.__init__(self, f"{base}/ws?api_key={key}", **more)
        self.send({"type": "new", "data": "client"})


def status(url: str, **more) -> int:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(url, timeout=30, **more)
    return refused.value.status_code


def test_a_page_with_a_key_sees_nodes_of_gateways_and_sets_them_over_tls(site, keys, new_node, new_api):
    tls = {"sslopt": {"ca_certs": str(site.ca), "cert_reqs": ssl.CERT_REQUIRED}}
    gateway = new_node(FieldGateway, ws(site.https), keys, {"lamp": {"led": "0"}}, **tls)
    assert gateway.socket.subprotocol == "token"
    page = new_node(KeyClient, ws(site.https), site.key, **tls)
    uid = page.node(("led", "0"))
    page.set(uid, "led", "1")
    asked = gateway.sets.get(timeout=30)
    assert (asked["data"]["endpoint"], asked["data"]["payload"]) == ("led", "1")
    # With a header it is the same.
    other = websocket.create_connection(f"{ws(site.http)}/ws", header=[f"x-api-key: {site.key}"], timeout=30)
    other.close()


def test_nobody_sees_nodes_without_a_key_that_may(site, keys, new_api):
    api = new_api(site)
    url = f"{ws(site.http)}/ws"
    reader = api.key_with(["devices:read"])
    foreign = api.key_with(["devices:read", "tasks:write"], org="other")
    assert status(url) == 401
    assert status(f"{url}?api_key=none") == 401
    assert status(f"{url}?api_key={reader}") == 403
    assert status(f"{url}?api_key={foreign}") == 403
    assert status(f"{url}?api_key={site.key}", origin="https://elsewhere.example") == 403
    assert status(f"{ws(site.http)}/gw") == 401
    assert status(f"{ws(site.http)}/gw", subprotocols=["token", "wrong"]) == 401
    assert status(f"{ws(site.http)}/node", origin="https://elsewhere.example") == 403


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_the_end_of_a_key_closes_its_page(site, new_node, new_api, end):
    api = new_api(site)
    body = {"org": "default", "name": "page", "rights": ["devices:read", "tasks:write"]}
    if end == "expired":
        body["expires_at"] = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    made = api.post("/api-keys", json=body).json()
    page = new_node(KeyClient, ws(site.http), made["key"])
    if end == "revoked":
        assert api.delete(f"/api-keys/{made['id']}").status_code == 200
    assert page.close_code() == 1008


def test_a_websocket_node_joins_over_the_http_listener(site, new_node, new_api):
    api = new_api(site)
    node = new_node(WebSocketNode, ws(site.http), {"name": "lamp", "led": "0"})
    device = wait_for(lambda: device_of(api, "websocket-lamp", online=True), seconds=30)
    assert wait_for(lambda: values(api, device["device_id"]).get("led") == "0", seconds=30)
    body = {"device_id": device["device_id"], "ext_task_id": "x", "method": "set", "ttl": 5, "payload": {"led": "1"}}
    assert api.post("/device-tasks", params={"wait": 30}, json=body).json()["results"][0]["status_code"] == 200
    assert node.resources["led"] == "1"


def test_routes_of_gateways_that_are_off_are_not_there(new_server, new_api):
    server = new_server()
    for path in ("/ws", "/gw", "/node", "/app/key-1", "/apps/1/channels"):
        assert status(f"{ws(server.http)}{path}") == 404, path


def test_the_sockets_of_gateways_end_with_the_server(site, keys, new_node):
    page = new_node(KeyClient, ws(site.http), site.key)
    gateway = new_node(FieldGateway, ws(site.http), keys)
    node = new_node(WebSocketNode, ws(site.http), {"led": "0"})
    assert node.heard.get(timeout=30)
    assert site.stop() == 0
    assert (page.close_code(), gateway.close_code()) == (1012, 1012)
    with pytest.raises(queue.Empty):
        node.heard.get(timeout=0.1) and node.heard.get(timeout=0.1)
