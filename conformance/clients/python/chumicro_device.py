"""chumicro-mqtt on CPython as a device, over MQTT 3.1.1. The library connects and subscribes again by itself."""

import time

import contract
from chumicro_mqtt import MQTTClient
from chumicro_sockets.sockets_factory import fixed_connector_factory
from chumicro_timing import ticks_ms

client = MQTTClient(
    transport_factory=fixed_connector_factory(
        contract.HOST, contract.PORT, use_tls=True, ssl_context=contract.tls()
    ),
    client_id=contract.SN,
    # An rsp is as large as the task's parameters; larger messages than this are dropped.
    rx_buffer_size=1024,
)


def on_message(topic, payload):
    for it in contract.answers_311(topic, payload):
        client.publish(it.topic, it.body, qos=it.qos)


client.on_message = on_message
client.on_oversized = lambda length, topic: print("too large:", length, topic, flush=True)
client.subscribe(contract.FILTER, 1)
client.connect()
while True:
    now = ticks_ms()
    if client.check(now):
        client.handle(now)
    time.sleep(0.005)
