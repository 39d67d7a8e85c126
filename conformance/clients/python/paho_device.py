"""paho-mqtt as a device, over MQTT 5 and 3.1.1. The library connects again by itself."""

import contract
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5, MQTTv311
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

IS_5 = contract.LEVEL == "5"


def on_connect(client, *_):
    client.subscribe(contract.FILTER, qos=1)


def on_message(client, _, message):
    if IS_5:
        had = message.properties
        user = getattr(had, "UserProperty", [])
        out = contract.answers_5(message.topic, message.payload, getattr(had, "CorrelationData", None), user)
    else:
        out = contract.answers_311(message.topic, message.payload)
    for it in out:
        properties = Properties(PacketTypes.PUBLISH) if IS_5 else None
        if it.task:
            properties.CorrelationData = it.task
        for pair in it.user:
            properties.UserProperty = pair
        client.publish(it.topic, it.body, it.qos, properties=properties)


client = Client(
    CallbackAPIVersion.VERSION2, client_id=contract.SN, protocol=MQTTv5 if IS_5 else MQTTv311
)
client.tls_set_context(contract.tls())
client.on_connect, client.on_message = on_connect, on_message
client.connect(contract.HOST, contract.PORT)
client.loop_forever()
