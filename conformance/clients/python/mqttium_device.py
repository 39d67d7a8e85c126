"""mqttium as a device, over MQTT 5 and 3.1.1. The library connects again by itself; to subscribe again is the
program's work, after each connection."""

import asyncio

import contract
from mqttium import MQTTProtocolVersion
from mqttium.api import AsyncClient, Properties, ReconnectPolicy

IS_5 = contract.LEVEL == "5"


def answers(message):
    if not IS_5:
        return contract.answers_311(message.topic, message.payload)
    had = message.properties.values if message.properties else {}
    return contract.answers_5(
        message.topic, message.payload, had.get("correlation_data"), had.get("user_property", [])
    )


async def main():
    client = AsyncClient(
        contract.SN,
        protocol=MQTTProtocolVersion.MQTTv5 if IS_5 else MQTTProtocolVersion.MQTTv311,
        reconnect=ReconnectPolicy(max_retries=None),
    )

    subscribing = set()

    def on_connect(*_):
        task = asyncio.ensure_future(client.subscribe(contract.FILTER, qos=1))
        subscribing.add(task)
        task.add_done_callback(subscribing.discard)

    client.on_connect = on_connect
    await client.connect(contract.HOST, contract.PORT, ssl=contract.tls())
    async for message in client.messages():
        for it in answers(message):
            values = {"user_property": it.user} if it.user else {}
            if it.task:
                values["correlation_data"] = it.task
            properties = Properties(values) if IS_5 else None
            await client.publish(it.topic, it.body, qos=it.qos, properties=properties)


asyncio.run(main())
