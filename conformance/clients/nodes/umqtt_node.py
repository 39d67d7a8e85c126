"""A node over plain MQTT with umqtt.simple on MicroPython, as a board's first script is: host, port, id and values as JSON
are arguments. What it says it says with QoS 0 or 1, in turns."""

import json
import sys
import time

from umqtt.simple import MQTTClient

host, port, uid, text = sys.argv[1:5]
values = json.loads(text)
turns = 0


def publish(topic, body):
    global turns
    turns += 1
    client.publish(topic.encode(), json.dumps(body).encode(), qos=turns % 2)


def say(resource):
    publish("node/%s/%s" % (uid, resource), {"value": values[resource]})


def on_message(topic, payload):
    topic, body = topic.decode(), payload.decode()
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


client = MQTTClient(uid, host, int(port), keepalive=30)
client.set_callback(on_message)
client.set_last_will(("node/%s/status" % uid).encode(), b'{"value": "gone"}')
client.connect()
for topic in ("gateway/check", "gateway/%s/discover" % uid, "gateway/%s/+/set" % uid):
    client.subscribe(topic.encode(), 1)
publish("node/check", {"id": uid})
said_at = time.time()
while True:
    client.check_msg()
    if time.time() - said_at >= 5:
        said_at = time.time()
        client.ping()
    time.sleep(0.01)
