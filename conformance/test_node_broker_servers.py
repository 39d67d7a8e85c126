"""The node brokers of several servers: a page at one sees the nodes of gateways at the other, and sets their values."""

import uuid

import pytest

from testbed.node_broker import FieldGateway, Keys, WebClient
from testbed.nodes import WebSocketNode

pytestmark = [pytest.mark.several_servers, pytest.mark.every_shape]


@pytest.fixture
def sites(pairs, tmp_path):
    """Two servers of one deployment, each with a node broker, and their key file."""
    keys = Keys.make(tmp_path / "keys" / "keys")
    options = (
        "--nodes", "open", "--websocket-nodes", "127.0.0.1:0", "--node-broker", "127.0.0.1:0", "--node-keys", str(keys.path),
    )  # fmt: skip
    return pairs.new(*options), keys


def is_update(uid: str, endpoint: str, data):
    return lambda message: (
        message["type"] == "update" and (message["uid"], message["endpoint"], message["data"]) == (uid, endpoint, data)
    )


def test_a_page_at_one_server_sees_and_sets_nodes_of_the_other(sites):
    (first, second), keys = sites
    uid = f"n-{uuid.uuid4().hex[:8]}"
    gateway = FieldGateway(first.addresses["node_broker"], keys, {uid: {"ip": "::1", "protocol": "CoAP", "led": "0"}})
    pages = [WebClient(server.addresses["node_broker"]) for server in (first, second)]
    for page in pages:
        page.until(is_update(uid, "led", "0"))
    pages[1].set(uid, "led", "1")
    assert gateway.sets.get(timeout=30)["data"] == {"uid": uid, "endpoint": "led", "payload": "1"}
    for page in pages:
        page.until(is_update(uid, "led", "1"))
    node = WebSocketNode(second.addresses["websocket_nodes"], {"mark": uid, "led": "0"})
    uids = {page.node(("mark", uid)) for page in pages}
    assert len(uids) == 1, "a node has one uid at all servers"
    (of_node,) = uids
    pages[0].set(of_node, "led", "7")
    for page in pages:
        page.until(is_update(of_node, "led", "7"))
    node.close()
    for page in pages:
        page.until(lambda message: message == {"type": "out", "uid": of_node})
    second.kill()
    gateway.close()
    pages[0].until(lambda message: message == {"type": "out", "uid": uid})
    late = WebClient(first.addresses["node_broker"])
    assert late.quiet(1), late.last
