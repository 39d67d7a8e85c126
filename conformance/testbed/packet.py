"""MQTT 5 packets byte by byte, for what no client library would send (MQTT 5 §2, §3)."""

import random
import socket
import ssl
from pathlib import Path

from testbed.device import Identity


def text(value: str) -> bytes:
    """A UTF-8 string with its length."""
    return len(value.encode()).to_bytes(2, "big") + value.encode()


def varint(number: int) -> bytes:
    """A variable byte integer (MQTT 5 §1.5.5)."""
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(out)


def packet(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A packet; with `length`, one that lies about its length."""
    return bytes([kind]) + varint(len(body) if length is None else length) + body


def connect(client_id: str) -> bytes:
    return packet(0x10, text("MQTT") + b"\x05\x02\x00\x3c\x00" + text(client_id))


def publish(topic: str, body: bytes, properties: bytes = b"", packet_id: int = 1) -> bytes:
    """A PUBLISH with QoS 1."""
    return packet(0x32, text(topic) + packet_id.to_bytes(2, "big") + varint(len(properties)) + properties + body)


def user_property(name: str, value: str) -> bytes:
    return b"\x26" + text(name) + text(value)


def correlation(data: bytes) -> bytes:
    return b"\x09" + len(data).to_bytes(2, "big") + data


def subscribe(filter: str) -> bytes:
    return packet(0x82, b"\x00\x01\x00" + text(filter) + b"\x01")


def samples(sn: str) -> list[bytes]:
    """One good packet of each kind that a client may send, and some that it may not."""
    properties = correlation(b"\x01" * 16) + user_property("status_code", "200")
    return [
        connect(sn),
        publish(f"dev/{sn}/req", b""),
        publish(f"dev/{sn}/res", b'{"a":1}', properties),
        subscribe(f"srv/{sn}/tsk"),
        packet(0xA2, b"\x00\x02\x00" + text(f"srv/{sn}/tsk")),  # UNSUBSCRIBE
        packet(0x40, b"\x00\x01\x00\x00"),  # PUBACK of nothing
        packet(0x50, b"\x00\x01\x00\x00"),  # PUBREC of nothing
        packet(0x62, b"\x00\x01\x00\x00"),  # PUBREL of nothing
        packet(0xC0, b""),  # PINGREQ
        packet(0x20, b"\x00\x00\x00"),  # CONNACK, from a client
        packet(0xF0, b"\x18\x00"),  # AUTH
        packet(0xE0, b"\x00\x00"),  # DISCONNECT
    ]


def mutated(packets: list[bytes], chance: random.Random) -> bytes:
    """One of these packets, damaged in one of several ways."""
    damaged = bytearray(chance.choice(packets))
    way = chance.randrange(6)
    at = chance.randrange(len(damaged))
    if way == 0:
        damaged[at] ^= 1 << chance.randrange(8)
    elif way == 1:
        damaged[at] = chance.choice([0x00, 0x7F, 0x80, 0xFF])
    elif way == 2:
        del damaged[at:]
    elif way == 3:
        damaged[at:at] = chance.randbytes(chance.randrange(1, 20))
    elif way == 4:
        del damaged[at : at + chance.randrange(1, 5)]
    else:
        damaged[1:2] = varint(chance.choice([0, 1, 127, 128, 16_384, 2_097_152, 268_435_455]))
    return bytes(damaged)


class Stream:
    """A TLS connection of a device, for bytes."""

    def __init__(
        self,
        address: tuple[str, int],
        identity: Identity,
        ca: Path,
        *,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ):
        plain = socket.create_connection(address, timeout=10)
        try:
            context = context or identity.tls(ca)
            self.tls = context.wrap_socket(plain, server_hostname=address[0], session=session)
        except BaseException:
            plain.close()
            raise

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_) -> None:
        self.tls.close()

    def send(self, data: bytes) -> bool:
        """Whether the peer still took it."""
        try:
            self.tls.sendall(data)
            return True
        except (OSError, ssl.SSLError):
            return False

    def answer(self, seconds: float = 5.0) -> bytes:
        """What comes first; empty when the connection was closed or nothing came."""
        self.tls.settimeout(seconds)
        try:
            return self.tls.recv(4096)
        except (OSError, ssl.SSLError):
            return b""

    def is_closed(self, seconds: float = 5.0) -> bool:
        """Whether the peer closes within this time; what it sends before is dropped."""
        self.tls.settimeout(seconds)
        try:
            while self.tls.recv(65_536):
                pass
            return True
        except TimeoutError:
            return False
        except (OSError, ssl.SSLError):
            return True
