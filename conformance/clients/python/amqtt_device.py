"""amqtt's client as a device, over MQTT 3.1.1. Its own auto_reconnect never subscribes again, so it is off, and the
program connects anew."""

import asyncio

import contract
from amqtt.client import MQTTClient
from amqtt.errors import ClientError, ConnectError

CONFIG = {
    "auto_reconnect": False,
    "connection": {"cafile": contract.CA, "certfile": contract.CERTIFICATE, "keyfile": contract.KEY},
}


async def serve():
    client = MQTTClient(client_id=contract.SN, config=CONFIG)
    await client.connect(f"mqtts://{contract.HOST}:{contract.PORT}/")
    await client.subscribe([(contract.FILTER, 1)])
    while True:
        message = await client.deliver_message()
        if message is None:  # the connection is gone
            return
        for it in contract.answers_311(message.topic, message.data):
            await client.publish(it.topic, it.body, qos=it.qos)


async def main():
    while True:
        try:
            await serve()
        except (ClientError, ConnectError) as error:
            print("again after", repr(error), flush=True)
        await asyncio.sleep(1)


asyncio.run(main())
