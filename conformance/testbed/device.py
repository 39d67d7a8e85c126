"""A device as its maker would write it: the paho client, a certificate, and the topics of the contract."""

import dataclasses
import socket
import ssl
import threading
import time
import uuid
from pathlib import Path

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5, MQTTv311
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

POLL = "00000000-0000-0000-0000-000000000000"
# How long to wait for what must come, and to listen for what must not.
SECONDS_MAX = 60.0
QUIET_SECONDS = 0.7

NOT_AUTHORIZED = 0x87
CLIENT_ID_NOT_VALID = 0x85
SESSION_TAKEN_OVER = 0x8E


@dataclasses.dataclass(frozen=True)
class Identity:
    """A registered device: its names and where its certificate and key lie."""

    sn: str
    device_id: int
    certificate: Path
    key: Path

    @classmethod
    def write(cls, folder: Path, registration: dict, key_pem: str | None = None) -> "Identity":
        """Writes what the registration answered; the key is the device's own if it sent a CSR."""
        device = registration["device"]
        name = f"{device['sn']}-{uuid.uuid4().hex[:6]}"
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_text(registration["certificate_pem"])
        key.write_text(key_pem or registration["private_key_pem"])
        return cls(device["sn"], device["device_id"], certificate, key)

    def tls(self, ca: Path) -> ssl.SSLContext:
        """TLS with this certificate."""
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(str(self.certificate), str(self.key))
        return context


@dataclasses.dataclass(frozen=True)
class Message:
    """What the device heard."""

    level: str
    topic: str
    qos: int
    retain: bool
    body: bytes
    correlation: bytes | None
    expiry: int | None
    properties: list[tuple[str, str]]
    at: float

    @property
    def task_id(self) -> str:
        """The task that it is about."""
        return self.correlation.decode()

    def __getitem__(self, name: str) -> str:
        """A user property."""
        return dict(self.properties)[name]


class Refused(Exception):
    """CONNACK with a reason code that is no success."""

    def __init__(self, code: int):
        super().__init__(f"CONNACK {code:#04x}")
        self.code = code


class Device:
    """One connection of a device. Everything heard is kept; `expect` takes it in order, by topic."""

    def __init__(
        self,
        identity: Identity,
        address: tuple[str, int],
        ca: Path,
        *,
        client_id: str | None = None,
        protocol: int = MQTTv5,
        clean_start: bool = True,
        session_seconds: int = 0,
        will: str | None = None,
        username: str | None = None,
        context: ssl.SSLContext | None = None,
        keep_alive: int = 30,
    ):
        self.identity, self.sn, self.device_id = identity, identity.sn, identity.device_id
        self.address, self.clean_start, self.session_seconds = address, clean_start, session_seconds
        self.keep_alive = keep_alive
        self.is_v5 = protocol == MQTTv5
        self.changed = threading.Condition()
        self.heard: list[Message] = []
        self.taken: set[int] = set()
        self.acks: dict[int, int] = {}
        self.grants: dict[int, list[int]] = {}
        self.connack: int | None = None
        self.session_present = False
        self.ended: tuple[int, bool] | None = None
        self.ended_at = 0.0

        more = {} if self.is_v5 else {"clean_session": clean_start}
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.sn if client_id is None else client_id,
            protocol=protocol,
            reconnect_on_failure=False,
            **more,
        )
        self.client.tls_set_context(context or identity.tls(ca))
        if will:
            self.client.will_set(will, b"will", qos=1)
        if username:
            self.client.username_pw_set(username, "password")
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = self._on_message
        self.client.on_publish = self._on_publish
        self.client.on_subscribe = self._on_subscribe
        self.client.on_unsubscribe = self._on_subscribe

    # What paho tells, from its own thread.

    def _note(self, change) -> None:
        with self.changed:
            change()
            self.changed.notify_all()

    def _on_connect(self, _client, _data, flags, reason, _properties) -> None:
        def change():
            self.connack, self.session_present = _code(reason), flags.session_present

        self._note(change)

    def _on_disconnect(self, _client, _data, flags, reason, _properties) -> None:
        def change():
            self.ended = (_code(reason), flags.is_disconnect_packet_from_server)
            self.ended_at = time.monotonic()

        self._note(change)

    def _on_message(self, _client, _data, message) -> None:
        properties = getattr(message, "properties", None)
        heard = Message(
            level=message.topic.rpartition("/")[2],
            topic=message.topic,
            qos=message.qos,
            retain=message.retain,
            body=bytes(message.payload),
            correlation=getattr(properties, "CorrelationData", None),
            expiry=getattr(properties, "MessageExpiryInterval", None),
            properties=list(getattr(properties, "UserProperty", [])),
            at=time.time(),
        )
        self._note(lambda: self.heard.append(heard))

    def _on_publish(self, _client, _data, mid, reason, _properties) -> None:
        self._note(lambda: self.acks.__setitem__(mid, _code(reason)))

    def _on_subscribe(self, _client, _data, mid, reasons, _properties) -> None:
        self._note(lambda: self.grants.__setitem__(mid, [_code(reason) for reason in reasons]))

    def _wait(self, what: str, ready, seconds: float = SECONDS_MAX):
        with self.changed:
            assert self.changed.wait_for(ready, seconds), f"{self.sn}: no {what} after {seconds} s"

    # What the device does.

    def connect(self, *levels: str) -> "Device":
        """Connects, and subscribes to these topics of its own (all three unless told)."""
        host, port = self.address
        if self.is_v5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self.session_seconds
            more = {"clean_start": self.clean_start, "properties": properties}
        else:
            more = {}
        # The handshake's, too: RabbitMQ takes more than paho's five seconds on a busy machine.
        self.client.connect_timeout = 30.0
        self.client.connect(host, port, keepalive=self.keep_alive, **more)
        self.client.loop_start()
        self._wait("CONNACK", lambda: self.connack is not None or self.ended)
        if self.connack != 0:
            code = self.connack
            self.close()
            if code is None:
                raise ConnectionError(f"{self.sn}: the connection was closed before a CONNACK")
            raise Refused(code)
        for level in levels or ("tsk", "rsp", "cmt"):
            if level != "-":
                granted = self.subscribe(f"srv/{self.sn}/{level}")
                assert granted < 0x80, f"SUBACK {granted:#04x} for {level}"
        return self

    def subscribe(self, filter: str, qos: int = 1) -> int:
        """Subscribes and answers the reason code of the SUBACK."""
        if self.is_v5:
            _, mid = self.client.subscribe(filter, options=SubscribeOptions(qos=qos))
        else:
            _, mid = self.client.subscribe(filter, qos)
        self._wait(f"SUBACK for {filter}", lambda: mid in self.grants or self.ended)
        if mid not in self.grants:
            raise ConnectionError(f"{self.sn}: closed instead of a SUBACK for {filter}")
        return self.grants[mid][0]

    def unsubscribe(self, filter: str) -> None:
        """Unsubscribes, and waits until that is confirmed."""
        _, mid = self.client.unsubscribe(filter)
        self._wait(f"UNSUBACK for {filter}", lambda: mid in self.grants or self.ended)

    def send(
        self,
        topic: str,
        body: bytes | str = b"",
        *,
        correlation: bytes | str | None = None,
        properties: dict[str, object] | list[tuple[str, str]] = (),
        qos: int = 1,
        retain: bool = False,
    ) -> int:
        """Publishes and answers the packet id, without waiting."""
        packed = None
        if self.is_v5:
            packed = Properties(PacketTypes.PUBLISH)
            if correlation is not None:
                packed.CorrelationData = correlation.encode() if isinstance(correlation, str) else correlation
            pairs = properties.items() if isinstance(properties, dict) else properties
            for name, value in pairs:
                packed.UserProperty = (name, str(value))
        return self.client.publish(topic, body, qos=qos, retain=retain, properties=packed).mid

    def publish(self, topic: str, body: bytes | str = b"", **more) -> int:
        """Publishes and answers the reason code of the PUBACK (0 for QoS 0)."""
        mid = self.send(topic, body, **more)
        self._wait(f"PUBACK for {topic}", lambda: mid in self.acks or self.ended)
        if mid not in self.acks:
            raise ConnectionError(f"{self.sn}: closed instead of a PUBACK for {topic}")
        return self.acks[mid]

    def ack(self, task_id: str | bytes | None, **more) -> int:
        """Announcement received."""
        return self.publish(f"dev/{self.sn}/ack", correlation=task_id, **more)

    def req(self, task_id: str | bytes | None = POLL, **more) -> int:
        """Give me this task, or the next one."""
        return self.publish(f"dev/{self.sn}/req", correlation=task_id, **more)

    def res(
        self,
        task_id: str | bytes | None,
        status_code: int | str | None = 200,
        body: bytes | str = b"",
        ext_id: int | str | None = None,
        properties: dict[str, object] | None = None,
        **more,
    ) -> int:
        """A result."""
        properties = dict(properties or {})
        if status_code is not None:
            properties["status_code"] = status_code
        if ext_id is not None:
            properties["ext_id"] = ext_id
        return self.publish(f"dev/{self.sn}/res", body, correlation=task_id, properties=properties, **more)

    def take(self, task_id: str = POLL) -> Message:
        """Asks for a task and answers the `rsp`."""
        assert self.req(task_id) == 0
        return self.expect("rsp")

    def finish(self, task_id: str, status_code: int = 200, body: bytes | str = b"{}", **more) -> Message:
        """Sends a result and answers the `cmt`."""
        assert self.res(task_id, status_code, body, **more) == 0
        return self.expect("cmt")

    # What the device hears.

    def _next(self, level: str) -> Message | None:
        for index, message in enumerate(self.heard):
            if message.level == level and index not in self.taken:
                self.taken.add(index)
                return message
        return None

    def expect(self, level: str, seconds: float = SECONDS_MAX) -> Message:
        """The next message on a topic that was not yet taken."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while (message := self._next(level)) is None:
                left = deadline - time.monotonic()
                assert left > 0, f"{self.sn}: no {level} after {seconds} s; heard {self.heard}"
                assert self.ended is None, f"{self.sn}: disconnected {self.ended} while waiting for {level}"
                self.changed.wait(left)
            return message

    def expect_of(self, level: str, task_id: str, seconds: float = SECONDS_MAX) -> Message:
        """The next message on a topic about this task. Others are passed over: what a server that died had answered
        and not acknowledged to its broker is answered again."""
        deadline = time.monotonic() + seconds
        while (message := self.expect(level, max(deadline - time.monotonic(), 0.0))).task_id != task_id:
            pass
        return message

    def drain(self, seconds: float) -> list[Message]:
        """All that was not yet taken, after waiting until there is something or the time is up."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.taken) < len(self.heard) or self.ended, seconds)
            fresh = [index for index in range(len(self.heard)) if index not in self.taken]
            self.taken.update(fresh)
            return [self.heard[index] for index in fresh]

    def is_quiet(self, *levels: str, seconds: float = QUIET_SECONDS) -> bool:
        """Whether nothing comes on these topics (on any, if none is named) for a while."""
        time.sleep(seconds)
        with self.changed:
            wanted = levels or {message.level for message in self.heard}
            fresh = [message for level in wanted if (message := self._next(level))]
        assert not fresh, f"{self.sn}: heard {fresh}"
        return True

    def is_connected(self) -> bool:
        return self.ended is None and self.client.is_connected()

    def expect_disconnect(self, seconds: float = SECONDS_MAX) -> tuple[int, bool]:
        """The reason code with which the connection ended, and whether a DISCONNECT packet said it."""
        self._wait("end of the connection", lambda: self.ended is not None, seconds)
        return self.ended

    # How the device goes.

    def close(self) -> None:
        """Says goodbye and goes."""
        if self.ended is None and self.client.is_connected():
            self.client.disconnect()
        self.client.loop_stop()

    def freeze(self) -> None:
        """Says nothing any more, not even that it lives, and keeps the connection."""
        self.client.loop_stop()

    def drop(self) -> None:
        """Goes without a goodbye, as a device whose network fails."""
        stream = self.client.socket()
        if stream is not None:
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._wait("end of the connection", lambda: self.ended is not None)
        self.client.loop_stop()


def _code(reason) -> int:
    """A reason code as a number; paho translates those of MQTT 3.1.1 into those of MQTT 5."""
    return reason.value if hasattr(reason, "value") else int(reason)


__all__ = ["CLIENT_ID_NOT_VALID", "Device", "Identity", "MQTTv311", "Message", "NOT_AUTHORIZED", "POLL", "Refused"]
