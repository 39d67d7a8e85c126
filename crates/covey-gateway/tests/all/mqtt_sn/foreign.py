"""What the client `mqtt-sn-12` says to a gateway: `foreign.py PORT`. Each message that it hears is a line."""

import sys
import time

PORT = int(sys.argv[1])


def mqtt_sn_12():
    from mqttsn12.client.MqttSnClient import MqttSnClient, MqttSnListener

    class Listener(MqttSnListener):
        def message_arrived(self, message):
            print("heard", message.get_payload().decode(), flush=True)

    def client(name):
        made = MqttSnClient()
        made.set_client_id(name)
        made.set_keep_alive(20)
        made.set_timeout(10)
        made.open("127.0.0.1", PORT)
        return made

    def poll(made):
        until = time.monotonic() + 1
        while time.monotonic() < until:
            made.polling()
            time.sleep(0.02)

    node = client("node-12")
    node.send_search_gateway(0)
    node.set_will("node/node-12/out", "bye", 1, False)
    node.send_connect()
    node.send_publish("node/check", b'{"id": "node-12"}', 0)
    node.send_publish("node/check", b'{"id": "node-12"}', 1)
    node.send_publish("node/node-12/led", b'{"value": "0"}', 2)
    node.send_publish_with_bytes(b"ab", b"short", 1)
    node.send_publish_predefined(1, b"predefined", 1)
    node.send_publish("node/long", b"x" * 400, 1)
    nobody = client("nobody")
    nobody.send_publish_with_bytes(b"ab", b"nobody", -1)
    nobody.close()
    time.sleep(0.2)
    # With QoS 0: it never acknowledges a message, since it compares the QoS 1 with the flag 0x20.
    for topic in ["gateway/node-12/led/set", "gateway/+/set", "ab"]:
        node.send_subscribe(topic, 0, Listener())
        poll(node)
    node.send_subscribe_predefined(2, 0, Listener())
    poll(node)
    node.send_unsubscribe("gateway/+/set")
    node.send_will_topic_update("node/node-12/left")
    node.send_will_message_update("farewell")
    node.send_ping_req()
    node.send_disconnect(60)
    node.send_connect()
    node.send_disconnect()
    node.close()


mqtt_sn_12()
