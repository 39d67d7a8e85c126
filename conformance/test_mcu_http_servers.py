"""Microcontrollers of several servers: a call comes in at one server, and its device is connected to the other."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from testbed.deployment import SHAPE
from testbed.mcu import Client, Device
from testbed.nodes import device_of, wait_for

pytestmark = [
    pytest.mark.several_servers,
    pytest.mark.every_shape,
    pytest.mark.skipif(not SHAPE.endswith("+embedded"), reason="no other broker lets microcontrollers in"),
]


def test_a_microcontroller_is_called_and_retired_at_any_server(pairs, new_node, new_api, tmp_path):
    first, second = pairs.new("--mcu-http", "127.0.0.1:0")
    one, other = (new_node(Client, server.addresses["mcu_http"]) for server in (first, second))
    keys = one.register("ft1")
    device = new_node(Device, second.mqtts, tmp_path / "second", "ft1", keys).ready()
    for client in (one, other):
        assert client.told("get_status", "ft1") == {"status": "running"}
    # A certificate of either server, and the other way round.
    renewed = other.register("ft1")
    device.close()
    moved = new_node(Device, first.mqtts, tmp_path / "first", "ft1", renewed).ready()
    assert other.told("set_gpio", "ft1", number=1, value=1) == {"value": 1}
    # What it was told at a server that it then left is not told again at the other.
    moved.is_mute = True
    with ThreadPoolExecutor(1) as caller:
        lost = caller.submit(other.call, "set_status", "ft1", status="restart")
        assert wait_for(lambda: len(moved.heard) == 2)
        moved.close()
        back = new_node(Device, second.mqtts, tmp_path / "second", "ft1", keys).ready()
        assert lost.result(60)[0] == 504
    assert back.heard == []
    assert other.told("get_status", "ft1") == {"status": "running"}
    assert one.call("unregister_device", "ft1")[0] == 200
    assert back.closed.wait(30)
    assert device_of(new_api(first), "ft1") is None
