"""chumicro-mqtt on MicroPython (mbedTLS) as a device, over MQTT 3.1.1. It connects and subscribes again by itself."""

import binascii
import json
import os
import ssl
import time

from chumicro_mqtt import MQTTClient
from chumicro_sockets.sockets_factory import fixed_connector_factory
from chumicro_timing import ticks_ms

SN, FOLDER = os.getenv("SN"), os.getenv("DIR")
NOTHING = "00000000-0000-0000-0000-000000000000"
# The tasks' methods, as ../python/contract.py explains them.
EVENT, POLL, POLLED = 52, 53, 54
events = 0


def send(level, fields):
    client.publish("dev/%s/%s" % (SN, level), json.dumps(fields) if fields else "", qos=1)


def on_message(topic, payload):
    global events
    had = json.loads(payload)
    level, task, method = topic.split("/")[2], had["correlationData"], had.get("method_code", 0)
    print(level, task, method, json.dumps(had.get("payload")))
    if level == "tsk" and method != POLLED:
        send("req", {"correlationData": task})
    if level != "rsp" or task == NOTHING:
        return
    if method == EVENT:
        events += 1
        send("evt", {"event_type_code": 13, "dev_event_id": events, "payload": {"300": [{"301": 5}]}})
    send("res", {"correlationData": task, "status_code": 200, "payload": had.get("payload")})
    if method in (POLL, POLLED):
        send("req", None)


def der(name):
    """The first object of a PEM file. Some builds of MicroPython read DER only; so the device sends its certificate
    alone, without the issuing CA's, which is enough."""
    with open(FOLDER + "/" + name) as file:
        return binascii.a2b_base64(file.read().split("-----")[2].replace("\n", ""))


def tls():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(der("cert.pem"), der("key.pem"))
    context.load_verify_locations(cadata=der("ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


client = MQTTClient(
    transport_factory=fixed_connector_factory(
        os.getenv("HOST"), int(os.getenv("PORT")), use_tls=True, ssl_context=tls()
    ),
    client_id=SN,
    # An rsp is as large as the task's parameters; larger messages than this are dropped.
    rx_buffer_size=1024,
)
client.on_message = on_message
client.on_oversized = lambda length, topic: print("too large:", length, topic)
client.subscribe("srv/%s/+" % SN, 1)
client.connect()
state = None
while True:
    now = ticks_ms()
    if client.check(now):
        client.handle(now)
    if client.state != state:
        state = client.state
        print(state, client.last_error)
    time.sleep(0.005)
