"""adafruit-circuitpython-minimqtt on CPython as a device, over MQTT 3.1.1. The program calls the loop and reconnect()."""

import socket
import time

import adafruit_minimqtt.adafruit_minimqtt as minimqtt
import contract

inbox = []
client = minimqtt.MQTT(
    broker=contract.HOST,
    port=contract.PORT,
    client_id=contract.SN,
    is_ssl=True,
    socket_pool=socket,
    ssl_context=contract.tls(),
    use_binary_mode=True,
    socket_timeout=0.1,
    recv_timeout=5,
)
# Answered outside the callback: a publish inside it would read the next packets on its own.
client.on_message = lambda client, topic, payload: inbox.append((topic, payload))
client.connect()
client.subscribe(contract.FILTER, 1)
while True:
    try:
        client.loop(timeout=0.2)
        while inbox:
            for it in contract.answers_311(*inbox.pop(0)):
                client.publish(it.topic, it.body, qos=it.qos)
    except (OSError, minimqtt.MMQTTException) as error:
        print("again after", repr(error), flush=True)
        time.sleep(1)
        try:
            client.reconnect()
        except (OSError, minimqtt.MMQTTException) as failed:
            print("not yet:", repr(failed), flush=True)
