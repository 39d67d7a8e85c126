"""A node over plain MQTT with chumicro-mqtt on MicroPython: host, port, id and values as JSON are arguments."""

import json
import sys
import time

from chumicro_mqtt import MQTTClient
from chumicro_sockets.sockets_factory import fixed_connector_factory
from chumicro_timing import ticks_ms

host, port, uid, text = sys.argv[1:5]
values = json.loads(text)


def publish(topic, body):
    client.publish(topic, json.dumps(body), qos=1)


def say(resource):
    publish("node/%s/%s" % (uid, resource), {"value": values[resource]})


def on_message(topic, payload):
    body = payload.decode() if isinstance(payload, bytes) else payload
    print(topic, body)
    levels = topic.split("/")
    if topic == "gateway/check":
        publish("node/check", {"id": uid})
    elif levels[-1] == "set":
        values[levels[2]] = body
        say(levels[2])
    elif body == "resources":
        publish("node/%s/resources" % uid, list(values))
    else:
        for resource in values:
            say(resource)


client = MQTTClient(
    transport_factory=fixed_connector_factory(host, int(port), use_tls=False),
    client_id=uid,
    rx_buffer_size=1024,
)
client.on_message = on_message
for topic in ("gateway/check", "gateway/%s/discover" % uid, "gateway/%s/+/set" % uid):
    client.subscribe(topic, 1)
client.connect()
state = None
while True:
    now = ticks_ms()
    if client.check(now):
        client.handle(now)
    if client.state != state:
        state = client.state
        print(state, client.last_error)
        publish("node/check", {"id": uid})
    time.sleep(0.005)
