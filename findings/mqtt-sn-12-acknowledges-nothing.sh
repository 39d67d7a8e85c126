#!/bin/sh
# mqtt-sn-12 (PyPI): a client that has subscribed with QoS 1 acknowledges no message.
#
# MQTT-SN 1.2 §5.4.12: a PUBLISH of QoS 1 is answered with PUBACK. §6.6: a gateway sends one message at a time, so that
# it waits for its retransmissions to end before the client gets the next one.
#
# Why: what is compared with the flag 0x20 is the QoS that was read from the flags, which is 1.
#
# Expected: SUBACK grants QoS 1, a PUBLISH of QoS 1 comes, the client hands it to the listener and sends PUBACK.
# Seen: the listener has the message, and nothing is sent, neither to the first PUBLISH nor to its repetition with DUP.
# With QoS 0 in the subscription there is nothing to acknowledge.
#
# Needs python3 with venv. Installs into a temporary folder.
set -eu
MQTT_SN_12=1.0.9
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "mqtt-sn-12==$MQTT_SN_12"
cat > "$folder/look.py" <<'PYTHON'
import socket
import sys
import threading
import time

from mqttsn12.client.MqttSnClient import MqttSnClient, MqttSnListener

gateway = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
gateway.bind(("127.0.0.1", 0))
gateway.settimeout(0.2)
came, is_over = [], threading.Event()


def serve():
    """CONNACK, SUBACK that grants QoS 1 and names topic 7, then a PUBLISH of QoS 1, and the same with DUP."""
    while not is_over.is_set():
        try:
            datagram, client = gateway.recvfrom(1024)
        except OSError:
            continue
        kind = datagram[1]
        came.append(kind)
        if kind == 0x04:
            gateway.sendto(bytes([3, 0x05, 0]), client)
        elif kind == 0x12:
            gateway.sendto(bytes([8, 0x13, 0x20, 0, 7]) + datagram[3:5] + b"\x00", client)
            publish = bytes([0, 7, 0, 1]) + b"hello"
            for flags in (0x20, 0xA0):
                time.sleep(0.3)
                gateway.sendto(bytes([3 + len(publish), 0x0C, flags]) + publish, client)


heard = []


class Listener(MqttSnListener):
    def message_arrived(self, message):
        heard.append(message.get_payload())


threading.Thread(target=serve, daemon=True).start()
client = MqttSnClient()
client.set_client_id("look")
client.set_keep_alive(60)
client.set_timeout(5)
client.open("127.0.0.1", gateway.getsockname()[1])
client.send_connect()
client.send_subscribe("topic", 1, Listener())
until = time.monotonic() + 2
while time.monotonic() < until:
    client.polling()
    time.sleep(0.02)
is_over.set()
print(f"heard {heard}, sent messages of the types {[hex(kind) for kind in came]}; PUBACK is 0xd")
sys.exit(0 if heard and 0x0D not in came else 1)
PYTHON
"$folder/venv/bin/python" "$folder/look.py" || { echo "NOT as described"; exit 1; }
echo "as described"
