"""gmqtt as a device, over MQTT 5. The library connects again by itself."""

import asyncio

import contract
import gmqtt


def on_connect(client, *_):
    client.subscribe(contract.FILTER, qos=1)


async def on_message(client, topic, payload, qos, properties):
    # A property is a list, also if it may occur once only.
    task = properties.get("correlation_data", [None])[0]
    for it in contract.answers_5(topic, payload, task, properties.get("user_property", [])):
        # What is not sent must be left out: an empty list raises IndexError.
        more = {"correlation_data": it.task} if it.task else {}
        if it.user:
            more["user_property"] = it.user
        client.publish(it.topic, it.body, qos=it.qos, **more)
    return 0


async def main():
    client = gmqtt.Client(contract.SN)
    client.on_connect, client.on_message = on_connect, on_message
    await client.connect(contract.HOST, contract.PORT, ssl=contract.tls())
    await asyncio.Event().wait()


asyncio.run(main())
