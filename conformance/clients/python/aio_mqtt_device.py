"""aio-mqtt-mod as a device, over MQTT 3.1.1. To connect again is the program's own work."""

import asyncio

import aio_mqtt
import contract


async def serve():
    client = aio_mqtt.Client()
    link = await client.connect(
        contract.HOST, contract.PORT, ssl=contract.tls(), client_id=contract.SN
    )

    async def consume():
        async for message in client.delivered_messages(contract.FILTER):
            for it in contract.answers_311(message.topic_name, message.payload):
                out = aio_mqtt.PublishableMessage(it.topic, it.body, aio_mqtt.QOSLevel(it.qos))
                # Not awaited to its end: that would keep the next message waiting for the acknowledgement.
                await client.publish(out, nowait=True)

    # The consumer first: a message that comes when there is none is acknowledged and dropped.
    consumer = asyncio.ensure_future(consume())
    await asyncio.sleep(0)
    await client.subscribe((contract.FILTER, aio_mqtt.QOSLevel.QOS_1))
    try:
        await link.disconnect_reason
    finally:
        consumer.cancel()


async def main():
    while True:
        try:
            await serve()
        except (aio_mqtt.Error, OSError) as error:
            print("again after", repr(error), flush=True)
        await asyncio.sleep(1)


asyncio.run(main())
