"""awscrt (s2n-tls) as a device, over MQTT 5. The library connects again by itself; it has no QoS 2."""

import threading

import contract
from awscrt import io, mqtt5


def on_publish(received):
    packet = received.publish_packet
    user = [(it.name, it.value) for it in packet.user_properties or []]
    for it in contract.answers_5(packet.topic, packet.payload or b"", packet.correlation_data_bytes, user):
        client.publish(
            mqtt5.PublishPacket(
                topic=it.topic,
                payload=it.body,
                qos=mqtt5.QoS(it.qos),
                correlation_data=it.task or None,
                user_properties=[mqtt5.UserProperty(*pair) for pair in it.user],
            )
        )


def on_success(_):
    one = mqtt5.Subscription(topic_filter=contract.FILTER, qos=mqtt5.QoS.AT_LEAST_ONCE)
    client.subscribe(mqtt5.SubscribePacket(subscriptions=[one]))


tls = io.TlsContextOptions.create_client_with_mtls_from_path(contract.CERTIFICATE, contract.KEY)
tls.override_default_trust_store_from_path(ca_filepath=contract.CA)
client = mqtt5.Client(
    mqtt5.ClientOptions(
        host_name=contract.HOST,
        port=contract.PORT,
        tls_ctx=io.ClientTlsContext(tls),
        connect_options=mqtt5.ConnectPacket(client_id=contract.SN),
        on_publish_callback_fn=on_publish,
        on_lifecycle_event_connection_success_fn=on_success,
    )
)
client.start()
threading.Event().wait()
