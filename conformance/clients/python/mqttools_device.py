"""mqttools as a device, over MQTT 5. It shows no properties, so the program names the task in the body, and remembers
the one that was announced last."""

import asyncio
import json

import contract
import mqttools


async def main():
    client = mqttools.Client(
        contract.HOST, contract.PORT, client_id=contract.SN, ssl=contract.tls(), subscriptions=[(contract.FILTER)]
    )
    await client.start()
    task = contract.NOTHING
    while (message := await client.messages.get()) is not None:
        level, body = message.topic.rpartition("/")[2], message.message.decode()
        print(level, task, body, flush=True)
        if level == "tsk":
            task = json.loads(body)["id"]
            client.publish(mqttools.Message(f"dev/{contract.SN}/req", json.dumps({"corr_id": task}).encode()))
        elif level == "rsp":
            answer = {"corr_id": task, "result": json.loads(body)}
            client.publish(mqttools.Message(f"dev/{contract.SN}/res", json.dumps(answer).encode()))
    print("the library has ended the connection", flush=True)


asyncio.run(main())
