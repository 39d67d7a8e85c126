"""A device that sends MQTT packets one by one and sees what comes back packet by packet, for what client libraries hide:
packet identifiers, DUP, sizes, reason codes, the order of things (MQTT 5 §2 and §3, MQTT 3.1.1)."""

import dataclasses
import ssl
import struct
from pathlib import Path

from testbed.device import Identity
from testbed.fault_mqtt import FOUR_BYTES, ONE_BYTE, TWO_BYTES, Cursor
from testbed.packet import Stream, correlation, packet, text, user_property, varint

NAMES = {
    2: "CONNACK",
    3: "PUBLISH",
    4: "PUBACK",
    5: "PUBREC",
    6: "PUBREL",
    7: "PUBCOMP",
    9: "SUBACK",
    11: "UNSUBACK",
    13: "PINGRESP",
    14: "DISCONNECT",
}
MESSAGE_EXPIRY, CORRELATION, SUBSCRIPTION_ID, SESSION_EXPIRY, WILL_DELAY = 0x02, 0x09, 0x0B, 0x11, 0x18
REASON_STRING, RECEIVE_MAX, ALIAS_MAX, ALIAS, USER_PROPERTY, PACKET_MAX = 0x1F, 0x21, 0x22, 0x23, 0x26, 0x27


def two_bytes(name: int, value: int) -> bytes:
    """A property of two bytes."""
    return bytes([name]) + struct.pack(">H", value)


def four_bytes(name: int, value: int) -> bytes:
    """A property of four bytes."""
    return bytes([name]) + struct.pack(">I", value)


def session_expiry(seconds: int) -> bytes:
    return four_bytes(SESSION_EXPIRY, seconds)


def packet_max(size: int) -> bytes:
    return four_bytes(PACKET_MAX, size)


@dataclasses.dataclass
class Packet:
    """What the server sent. `kind` is its name, or "EOF" for the end of the connection."""

    kind: str
    size: int = 0
    body: bytes = b""
    topic: str = ""
    packet_id: int = 0
    qos: int = 0
    is_repeated: bool = False
    session_present: bool = False
    reason: int = 0
    reasons: list[int] = dataclasses.field(default_factory=list)
    properties: dict = dataclasses.field(default_factory=dict)

    @property
    def level(self) -> str:
        """The last part of the topic."""
        return self.topic.rsplit("/", 1)[-1]

    @property
    def task_id(self) -> str:
        return self.properties[CORRELATION].decode()


def properties_of(cursor: Cursor) -> dict:
    """Properties by identifier; user properties as a list of pairs."""
    length = cursor.varint()
    inner, found = Cursor(cursor.take(length)), {}
    while inner.at < length:
        name = inner.varint()
        if name in ONE_BYTE:
            found[name] = inner.number(1)
        elif name in TWO_BYTES:
            found[name] = inner.number(2)
        elif name in FOUR_BYTES:
            found[name] = inner.number(4)
        elif name == SUBSCRIPTION_ID:
            found.setdefault(name, []).append(inner.varint())
        elif name == USER_PROPERTY:
            pair = [inner.take(inner.number(2)).decode() for _ in range(2)]
            found.setdefault(name, []).append(tuple(pair))
        else:
            found[name] = inner.take(inner.number(2))
    return found


def parsed(first: int, body: bytes, size: int, is_v5: bool) -> Packet:
    """A packet of the server."""
    seen = Packet(NAMES.get(first >> 4, str(first >> 4)), size)
    cursor = Cursor(body)
    if seen.kind == "CONNACK":
        seen.session_present, seen.reason = bool(cursor.number(1)), cursor.number(1)
        seen.properties = properties_of(cursor) if is_v5 else {}
    elif seen.kind == "PUBLISH":
        seen.topic = cursor.take(cursor.number(2)).decode()
        seen.qos, seen.is_repeated = first >> 1 & 3, bool(first >> 3 & 1)
        seen.packet_id = cursor.number(2) if seen.qos else 0
        seen.properties = properties_of(cursor) if is_v5 else {}
        seen.body = body[cursor.at :]
    elif seen.kind in ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP"):
        seen.packet_id = cursor.number(2)
        seen.reason = cursor.number(1) if len(body) > 2 else 0
        seen.properties = properties_of(cursor) if len(body) > 3 else {}
    elif seen.kind in ("SUBACK", "UNSUBACK"):
        seen.packet_id = cursor.number(2)
        seen.properties = properties_of(cursor) if is_v5 else {}
        seen.reasons = list(body[cursor.at :])
    elif seen.kind == "DISCONNECT":
        seen.reason = cursor.number(1) if body else 0
        seen.properties = properties_of(cursor) if len(body) > 1 else {}
    return seen


class RawDevice:
    """One connection. Messages are acknowledged only where a test says so."""

    def __init__(self, server, identity: Identity, *, context: ssl.SSLContext | None = None, ca: Path | None = None):
        self.stream = Stream(server.mqtts, identity, ca or server.ca, context=context)
        self.sn, self.device_id = identity.sn, identity.device_id
        self.is_v5, self.buffer, self.last_id = True, b"", 0

    def __enter__(self) -> "RawDevice":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection without a word."""
        self.stream.tls.close()

    def send(self, data: bytes) -> bool:
        return self.stream.send(data)

    def connect_packet(
        self, *, version=5, clean=True, keep_alive=60, properties=b"", will=None, will_properties=b"", flags=0, client_id=None
    ) -> bytes:
        """CONNECT. A will is (topic, body, QoS)."""
        self.is_v5 = version == 5
        flags |= (0x02 if clean else 0) | (0x04 | will[2] << 3 if will else 0)
        body = text("MQIsdp" if version == 3 else "MQTT") + bytes([version, flags]) + struct.pack(">H", keep_alive)
        body += varint(len(properties)) + properties if self.is_v5 else b""
        body += text(self.sn if client_id is None else client_id)
        if will:
            body += varint(len(will_properties)) + will_properties if self.is_v5 else b""
            body += text(will[0]) + text(will[1])
        return packet(0x10, body)

    def connect(self, **more) -> Packet:
        """Connects; the server's answer."""
        self.send(self.connect_packet(**more))
        return self.next()

    def _next_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def subscribe(self, *filters: str, qos=1, properties=b"") -> Packet:
        """Subscribes; the server's SUBACK. Messages that come before it are lost."""
        body = struct.pack(">H", self._next_id()) + (varint(len(properties)) + properties if self.is_v5 else b"")
        self.send(packet(0x82, body + b"".join(text(one) + bytes([qos]) for one in filters)))
        return self.until("SUBACK")

    def publish(self, topic: str, body=b"", *, qos=1, properties=b"", packet_id=None, is_repeated=False, retain=False) -> int:
        """Publishes and does not wait; the packet identifier."""
        packet_id = packet_id or self._next_id()
        head = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
        head += varint(len(properties)) + properties if self.is_v5 else b""
        self.send(packet(0x30 | is_repeated << 3 | qos << 1 | retain, head + (body if isinstance(body, bytes) else body.encode())))
        return packet_id

    def request(self, task_id: str | None = None, **more) -> int:
        """`req`."""
        return self.publish(f"dev/{self.sn}/req", properties=correlation(task_id.encode()) if task_id else b"", **more)

    def result(self, task_id: str, body="{}", *, more=b"", **others) -> int:
        """`res` with status code 200."""
        properties = more + correlation(task_id.encode()) + user_property("status_code", "200")
        return self.publish(f"dev/{self.sn}/res", body, properties=properties, **others)

    def ping(self) -> None:
        """PINGREQ."""
        self.send(packet(0xC0, b""))

    def acknowledge(self, message: Packet) -> None:
        self.send(packet(0x40, struct.pack(">H", message.packet_id)))

    def release(self, packet_id: int) -> Packet:
        """PUBREL; the server's answer."""
        self.send(packet(0x62, struct.pack(">H", packet_id)))
        return self.next()

    def disconnect(self, body: bytes = b"") -> None:
        self.send(packet(0xE0, body))

    def next(self, seconds: float = 5.0) -> Packet | None:
        """The next packet; None when nothing came in this time."""
        self.stream.tls.settimeout(seconds)
        while True:
            if (found := self._take()) is not None:
                return found
            try:
                data = self.stream.tls.recv(65_536)
            except TimeoutError:
                return None
            except (OSError, ssl.SSLError):
                data = b""
            if not data:
                return Packet("EOF")
            self.buffer += data

    def _take(self) -> Packet | None:
        cursor = Cursor(self.buffer)
        try:
            first, length = cursor.number(1), cursor.varint()
            body = cursor.take(length)
        except ConnectionError:
            return None
        self.buffer = self.buffer[cursor.at :]
        return parsed(first, body, cursor.at, self.is_v5)

    def until(self, kind: str, seconds: float = 5.0) -> Packet:
        """The next packet of this kind; those before it are dropped."""
        while (found := self.next(seconds)) is not None and found.kind != "EOF":
            if found.kind == kind:
                return found
        raise AssertionError(f"no {kind} came, but {found}")

    def all(self, quiet: float = 0.5, *, acknowledge=False) -> list[Packet]:
        """What comes until nothing has come for so long, or the connection ends."""
        seen = []
        while (found := self.next(quiet)) is not None:
            seen.append(found)
            if found.kind == "EOF":
                break
            if acknowledge and found.kind == "PUBLISH" and found.qos:
                self.acknowledge(found)
        return seen

    def messages(self, quiet: float = 0.5, **more) -> list[Packet]:
        return [one for one in self.all(quiet, **more) if one.kind == "PUBLISH"]
