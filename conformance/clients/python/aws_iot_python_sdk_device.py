"""AWSIoTPythonSDK as a device, over MQTT 3.1.1. The library connects and subscribes again by itself; it has no QoS 2."""

import threading

import contract
from AWSIoTPythonSDK.MQTTLib import AWSIoTMQTTClient


def on_message(client, userdata, message):
    for it in contract.answers_311(message.topic, message.payload):
        # The blocking call waits for an acknowledgement that this thread would have to read.
        sdk.publishAsync(it.topic, it.body.decode(), it.qos)


sdk = AWSIoTMQTTClient(contract.SN)
sdk.configureEndpoint(contract.HOST, contract.PORT)
sdk.configureCredentials(contract.CA, contract.KEY, contract.CERTIFICATE)
sdk.configureAutoReconnectBackoffTime(1, 32, 20)
sdk.connect()
sdk.subscribe(contract.FILTER, 1, on_message)
threading.Event().wait()
