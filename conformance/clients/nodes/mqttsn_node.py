"""A node over MQTT-SN with mqttsn of PyPI, as RIOT's firmware is: it subscribes to nothing and tells its values."""

import json
import sys

from mqttsn.client import Callback, Client

host, port, uid, text = sys.argv[1:5]
values = json.loads(text)
client = Client(uid.encode(), host=host, port=int(port))
client.register_callback(Callback())
client.connect()


def publish(topic: str, body) -> None:
    number = client.publish(client.register(topic.encode()), json.dumps(body).encode(), qos=1)
    print("published", number, flush=True)


publish("node/check", {"id": uid})
publish(f"node/{uid}/resources", list(values))
for resource, value in values.items():
    publish(f"node/{uid}/{resource}", {"value": value})
sys.stdin.read()
