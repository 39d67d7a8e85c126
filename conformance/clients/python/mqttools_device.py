"""mqttools as a device, over MQTT 5."""

import asyncio

import contract
import mqttools


async def serve():
    client = mqttools.Client(
        contract.HOST, contract.PORT, client_id=contract.SN, ssl=contract.tls(), subscriptions=[contract.FILTER]
    )
    await client.start()
    while (message := await client.messages.get()) is not None:
        had = message.properties if hasattr(message, "properties") else {}
        for it in contract.answers_5(message.topic, message.message, had.get("correlation"), had.get("user", [])):
            client.publish(mqttools.Message(it.topic, it.body))
    await client.stop()


asyncio.run(serve())
