"""aiomqtt as a device, over MQTT 5. To connect again is the program's own work, as the library's manual shows it."""

import asyncio

import aiomqtt
import contract
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


async def serve():
    async with aiomqtt.Client(
        contract.HOST,
        contract.PORT,
        identifier=contract.SN,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=contract.tls(),
    ) as client:
        await client.subscribe(contract.FILTER, qos=1)
        async for message in client.messages:
            had = message.properties
            task, user = getattr(had, "CorrelationData", None), getattr(had, "UserProperty", [])
            for it in contract.answers_5(str(message.topic), message.payload, task, user):
                properties = Properties(PacketTypes.PUBLISH)
                if it.task:
                    properties.CorrelationData = it.task
                for pair in it.user:
                    properties.UserProperty = pair
                await client.publish(it.topic, it.body, it.qos, properties=properties)


async def main():
    while True:
        try:
            await serve()
        except aiomqtt.MqttError as error:
            print("again after", error, flush=True)
            await asyncio.sleep(1)


asyncio.run(main())
