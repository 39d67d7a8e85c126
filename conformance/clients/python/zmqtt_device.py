"""zmqtt as a device, over MQTT 5 and 3.1.1. The library connects and subscribes again by itself."""

import asyncio

import contract
import zmqtt

IS_5 = contract.LEVEL == "5"


def answers(message):
    if not IS_5:
        return contract.answers_311(message.topic, message.payload)
    had = message.properties
    return contract.answers_5(message.topic, message.payload, had.correlation_data, had.user_properties)


def properties(it):
    return zmqtt.PublishProperties(correlation_data=it.task or None, user_properties=tuple(it.user)) if IS_5 else None


async def main():
    client = zmqtt.create_client(
        contract.HOST,
        contract.PORT,
        client_id=contract.SN,
        tls=contract.tls(),
        version="5.0" if IS_5 else "3.1.1",
    )
    async with client, client.subscribe(contract.FILTER, qos=zmqtt.QoS.AT_LEAST_ONCE) as messages:
        async for message in messages:
            for it in answers(message):
                more = {"properties": properties(it)} if IS_5 else {}
                await client.publish(it.topic, it.body, qos=zmqtt.QoS(it.qos), **more)


asyncio.run(main())
