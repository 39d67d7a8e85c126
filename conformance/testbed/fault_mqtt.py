"""MQTT 5 for many devices in one thread: a connection over asyncio, as much of the protocol as a device needs."""

import asyncio
import dataclasses
import ssl

from testbed.packet import correlation, packet, text, user_property, varint

CONNECT_SECONDS_MAX = 10.0
# The server hears of a device at least this often, else it gives it up after one and a half times as long.
KEEP_ALIVE_SECONDS = 20
RECEIVE_MAX_DEFAULT = 65_535
CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 13, 14
# How the values of properties are written (MQTT 5 §2.2.2.2), by identifier.
ONE_BYTE = {0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A}
TWO_BYTES = {0x13, 0x21, 0x22, 0x23}
FOUR_BYTES = {0x02, 0x11, 0x18, 0x27}
TEXTS = {0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F}
RECEIVE_MAX, CORRELATION, SUBSCRIPTION_ID, USER_PROPERTY = 0x21, 0x09, 0x0B, 0x26


class Refused(Exception):
    """CONNACK or SUBACK with a reason code that is no success."""

    def __init__(self, code: int):
        super().__init__(f"refused with {code:#04x}")
        self.code = code


@dataclasses.dataclass
class Heard:
    """A message of the server."""

    level: str
    task_id: str
    properties: dict[str, str]
    body: bytes


class Cursor:
    """Reads the parts of a packet one after the other."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        if len(taken) < count:
            raise ConnectionError("a packet ends early")
        self.at += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def varint(self) -> int:
        value, shift = 0, 0
        while True:
            digit = self.number(1)
            value |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return value

    def sized(self) -> bytes:
        return self.take(self.number(2))

    def rest(self) -> bytes:
        return self.data[self.at :]

    def properties(self) -> tuple[dict[int, object], dict[str, str]]:
        """The properties by identifier, and those of the user by name."""
        inner = Cursor(self.take(self.varint()))
        known, users = {}, {}
        while inner.at < len(inner.data):
            identifier = inner.varint()
            if identifier == USER_PROPERTY:
                name = inner.sized().decode()
                users.setdefault(name, inner.sized().decode())
            elif identifier == SUBSCRIPTION_ID:
                known[identifier] = inner.varint()
            elif identifier in TEXTS:
                known[identifier] = inner.sized()
            else:
                count = 1 if identifier in ONE_BYTE else 2 if identifier in TWO_BYTES else 4
                if count == 4 and identifier not in FOUR_BYTES:
                    raise ConnectionError(f"property {identifier:#04x} is not known")
                known[identifier] = inner.number(count)
        return known, users


class Line:
    """One connection. `acknowledged(packet_id, code)` and `heard(message)` are called as packets come in."""

    def __init__(self, sn: str, heard, acknowledged):
        self.sn, self.heard, self.acknowledged = sn, heard, acknowledged
        self.packet_id = 1
        self.under_way = 0
        self.receive_max = RECEIVE_MAX_DEFAULT
        self.waiting: list[bytes] = []
        self.is_session_present = False

    async def open(self, address: tuple[str, int], context: ssl.SSLContext, session_seconds: int) -> None:
        """Connects and subscribes; a session that lasts is taken up where it was left."""
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            host, port = address
            self.reader, self.writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=host
            )
            self.writer.write(self._connect(session_seconds))
            await self._expect(CONNACK)
            for number, level in enumerate(("tsk", "rsp", "cmt"), 1):
                topic = text(f"srv/{self.sn}/{level}") + b"\x01"
                self.writer.write(packet(0x82, number.to_bytes(2, "big") + b"\x00" + topic))
            for _ in range(3):
                await self._expect(SUBACK)

    def _connect(self, session_seconds: int) -> bytes:
        clean = 0 if session_seconds else 2
        properties = b"\x11" + session_seconds.to_bytes(4, "big")
        head = text("MQTT") + bytes([5, clean]) + KEEP_ALIVE_SECONDS.to_bytes(2, "big")
        return packet(0x10, head + varint(len(properties)) + properties + text(self.sn))

    async def _expect(self, wanted: int) -> None:
        while True:
            kind, flags, body = await self._read()
            if kind != wanted:
                self._take(kind, flags, body)
                continue
            cursor = Cursor(body)
            if kind == CONNACK:
                self.is_session_present = cursor.number(1) == 1
                code = cursor.number(1)
                self.receive_max = cursor.properties()[0].get(RECEIVE_MAX, RECEIVE_MAX_DEFAULT)
            else:
                cursor.take(2)
                cursor.properties()
                code = cursor.number(1)
            if code >= 0x80:
                raise Refused(code)
            return

    async def _read(self) -> tuple[int, int, bytes]:
        first = (await self.reader.readexactly(1))[0]
        length, shift = 0, 0
        while True:
            digit = (await self.reader.readexactly(1))[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                break
        return first >> 4, first & 15, await self.reader.readexactly(length)

    async def listen(self) -> None:
        """Takes what comes until the connection ends, which is an error."""
        while True:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS * 1.5):
                kind, flags, body = await self._read()
            self._take(kind, flags, body)

    def _take(self, kind: int, flags: int, body: bytes) -> None:
        cursor = Cursor(body)
        if kind == PUBLISH:
            topic = cursor.sized().decode()
            packet_id = cursor.take(2) if flags & 6 else None
            known, users = cursor.properties()
            self.heard(
                Heard(topic.rpartition("/")[2], known.get(CORRELATION, b"").decode(), users, cursor.rest())
            )
            if packet_id:
                self.writer.write(packet(0x40, packet_id))
        elif kind == PUBACK:
            packet_id = cursor.number(2)
            code = cursor.number(1) if len(body) > 2 else 0
            self.under_way -= 1
            if self.waiting and self.under_way < self.receive_max:
                self._send(self.waiting.pop(0))
            self.acknowledged(packet_id, code)
        elif kind == DISCONNECT:
            raise ConnectionError(f"DISCONNECT {body[:1].hex() or '00'}")

    def publish(self, level: str, task_id: str, body: str = "", **properties) -> int:
        """Publishes with QoS 1 and answers the packet id; waits its turn if too much is under way (§4.9)."""
        self.packet_id = self.packet_id % 65_535 + 1
        packed = correlation(task_id.encode())
        packed += b"".join(user_property(name, str(value)) for name, value in properties.items())
        topic = text(f"dev/{self.sn}/{level}") + self.packet_id.to_bytes(2, "big")
        data = packet(0x32, topic + varint(len(packed)) + packed + body.encode())
        if self.under_way < self.receive_max:
            self._send(data)
        else:
            self.waiting.append(data)
        return self.packet_id

    def _send(self, data: bytes) -> None:
        self.under_way += 1
        self.writer.write(data)

    def ping(self) -> None:
        self.writer.write(packet(0xC0, b""))

    def close(self, says_goodbye: bool) -> None:
        writer = getattr(self, "writer", None)
        if writer is None:
            return
        if says_goodbye:
            writer.write(packet(0xE0, b""))
            writer.close()
        else:
            writer.transport.abort()
