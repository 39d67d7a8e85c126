"""awsiotsdk (awscrt's client for MQTT 3.1.1) as a device. It connects again by itself, but subscribes only if told to."""

import threading

import contract
from awscrt import mqtt
from awsiot import mqtt_connection_builder


def on_message(topic, payload, **_):
    for it in contract.answers_311(topic, payload):
        connection.publish(it.topic, it.body, mqtt.QoS(it.qos))


def on_resumed(connection, return_code, session_present, **_):
    if not session_present:
        connection.resubscribe_existing_topics()


connection = mqtt_connection_builder.mtls_from_path(
    endpoint=contract.HOST,
    port=contract.PORT,
    cert_filepath=contract.CERTIFICATE,
    pri_key_filepath=contract.KEY,
    ca_filepath=contract.CA,
    client_id=contract.SN,
    clean_session=True,
    on_connection_resumed=on_resumed,
)
connection.connect().result()
connection.subscribe(contract.FILTER, mqtt.QoS.AT_LEAST_ONCE, on_message)[0].result()
threading.Event().wait()
