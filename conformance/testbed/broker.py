"""What a device can see of the broker between it and its servers. The contract is the same for all; where a broker
that others wrote cannot do what it says, the difference is written here, once, and told to makers of devices in
docs/deployment-modes.md. Each of these was measured: with Mosquitto 2.0.11 and RabbitMQ 4.0.5."""

import dataclasses
import time

from testbed.deployment import SHAPE
from testbed.device import NOT_AUTHORIZED, Refused

CLOSED = "the connection is closed"
NO_DISCONNECT = (0x80, False)


@dataclasses.dataclass(frozen=True)
class Broker:
    """A broker, as a device sees it."""

    # A PUBACK comes after the commit, and its reason code says what became of the message. Other brokers give it when
    # they have the message; that a result is stored is told by `cmt` alone.
    acknowledges_after_commit: bool
    # Messages of a device are carried out in the order in which it sent them.
    keeps_order: bool
    # Refusals by topic, client id and certificate are counted by Covey; other brokers refuse by themselves.
    is_own: bool
    # What is left of a message's life comes as Message Expiry Interval; in `expires_at` it always does.
    tells_expiry: bool
    qos_max: int
    # A PUBLISH to a foreign topic: its reason code, or CLOSED.
    foreign_publish: int | str
    # The same of a SUBSCRIBE, of which a client may see the one or the other.
    foreign_subscribe: tuple[int | str, ...]
    words_for_a_denied_subscription: tuple[str, ...]
    # Topics and filters that end where the device's own begin: allowed, though nothing is ever sent there.
    allowed_lookalikes: frozenset[str]
    # A will on a foreign topic is refused at CONNECT; otherwise it is dropped when it is due.
    refuses_foreign_will: bool
    # A client id that is not the CN is refused with this code; None: it is replaced by the CN.
    wrong_client_id: int | None
    # A serial number that is not registered is refused with this code; None: it is let in, may do nothing, and is
    # put out within a second.
    not_admitted: int | None
    # A CONNECT with a user name is refused: devices are their certificates. Otherwise the user name is ignored.
    refuses_user_names: bool
    # A certificate that was revoked is refused also when its serial number is registered again.
    tells_certificates_apart: bool
    # How a connection ends whose device is retired: reason code, and whether a DISCONNECT says it.
    retired: tuple[int, bool]
    retired_seconds_max: float
    taken_over: tuple[int, bool]
    # A message with the retain flag: taken, as any other, or the reason code with which the connection ends.
    retain: int | None
    # A packet over the limit: the reason code with which the connection ends, if it is told.
    packet_too_large: int | None
    # A subscription that is there already, made again, is told to servers, which announce what is open again.
    tells_repeated_subscription: bool
    # Messages that were dealt to a server that is away wait for it; sent again, they come to another.
    keeps_share_of_server: bool
    # The end of a server ends the connections of its devices.
    goes_with_server: bool
    # It tells its servers why a connection ended.
    tells_endings: bool

    def reasons(self, reason: str) -> tuple[str, ...]:
        """How an ending with this reason is told."""
        return (reason,) if self.tells_endings else ("unknown",)

    def is_refusal(self, code: int) -> bool:
        """Whether a PUBACK says that a message did nothing, as far as this broker can say that."""
        if self.acknowledges_after_commit:
            return code >= 0x80
        return code in (0x00, 0x10)

    def is_told(self, expiry: int | None, seconds_min: float, seconds_max: float) -> bool:
        """Whether a Message Expiry Interval is what it should be, where there is one."""
        if not self.tells_expiry:
            return expiry is None
        return expiry is not None and seconds_min <= expiry <= seconds_max

    def settle(self) -> None:
        """Waits until a message that was acknowledged has done what it does, if anything."""
        if not self.acknowledges_after_commit:
            time.sleep(SETTLE_SECONDS)

    @property
    def commit_seconds_max(self) -> float:
        """How long after a PUBACK its commit may come."""
        return 0.0 if self.acknowledges_after_commit else 5.0

    def keeps_out(self, connect) -> bool:
        """Whether a device that is not registered is refused, or else may do nothing and is put out."""
        if self.not_admitted is not None:
            try:
                connect()
            except Refused as refusal:
                return refusal.code == self.not_admitted
            return False
        began = time.monotonic()
        try:
            device = connect("-")
            assert device.subscribe(f"srv/{device.sn}/tsk") == NOT_AUTHORIZED
            assert device.publish(f"dev/{device.sn}/req") == NOT_AUTHORIZED
            device.expect_disconnect(PUT_OUT_SECONDS_MAX)
        except ConnectionError:
            pass
        return time.monotonic() - began < PUT_OUT_SECONDS_MAX + 1.0

    def counts(self, server, reason: str, count: float) -> bool:
        """Whether a refusal was counted; what another broker refuses it may count itself."""
        if reason in REFUSED_BY_BROKER and not self.is_own:
            return True
        deadline = time.monotonic() + self.commit_seconds_max
        while (counted := server.refusals(reason)) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert counted == count, f"{reason}: {counted} is not {count}"
        return True


SETTLE_SECONDS = 0.4
# How long someone who is not registered may stay connected where the broker lets it in.
PUT_OUT_SECONDS_MAX = 2.0
REFUSED_BY_BROKER = {"publish_topic", "subscribe_topic", "client_id_not_cn", "not_admitted", "protocol"}

EMBEDDED = Broker(
    acknowledges_after_commit=True,
    keeps_order=True,
    is_own=True,
    tells_expiry=True,
    qos_max=2,
    foreign_publish=0x87,
    foreign_subscribe=(0x87, 0x9E),
    words_for_a_denied_subscription=(),
    allowed_lookalikes=frozenset(),
    refuses_foreign_will=True,
    wrong_client_id=0x85,
    not_admitted=0x87,
    refuses_user_names=False,
    tells_certificates_apart=True,
    retired=(0x87, True),
    retired_seconds_max=1.0,
    taken_over=(0x8E, True),
    retain=None,
    packet_too_large=0x95,
    tells_repeated_subscription=True,
    keeps_share_of_server=False,
    goes_with_server=True,
    tells_endings=True,
)
MOSQUITTO = Broker(
    acknowledges_after_commit=False,
    keeps_order=False,
    is_own=False,
    tells_expiry=True,
    qos_max=2,
    foreign_publish=0x87,
    foreign_subscribe=(0x87,),
    words_for_a_denied_subscription=(),
    allowed_lookalikes=frozenset({"dev/{own}", "srv/{own}"}),
    refuses_foreign_will=False,
    wrong_client_id=None,
    not_admitted=None,
    refuses_user_names=False,
    tells_certificates_apart=False,
    retired=(0x98, True),  # administrative action
    retired_seconds_max=1.0,
    taken_over=NO_DISCONNECT,
    retain=0x9A,  # retain not supported
    packet_too_large=0x95,
    tells_repeated_subscription=True,
    keeps_share_of_server=True,
    goes_with_server=False,
    tells_endings=True,
)
RABBITMQ = Broker(
    acknowledges_after_commit=False,
    keeps_order=False,
    is_own=False,
    tells_expiry=False,
    qos_max=1,
    foreign_publish=CLOSED,
    foreign_subscribe=(0x87, CLOSED),
    words_for_a_denied_subscription=("connection was lost",),
    # A dot in a topic is a level to it; servers are not bound to so many levels.
    allowed_lookalikes=frozenset({"dev/{own}.{victim}/res"}),
    refuses_foreign_will=False,
    wrong_client_id=0x85,
    not_admitted=0x86,  # bad user name or password
    refuses_user_names=True,
    tells_certificates_apart=False,
    retired=NO_DISCONNECT,
    retired_seconds_max=2.0,
    taken_over=(0x8E, True),
    retain=None,
    packet_too_large=0x95,
    tells_repeated_subscription=False,
    keeps_share_of_server=False,
    goes_with_server=False,
    tells_endings=False,
)
LINK = {"embedded": EMBEDDED, "mosquitto": MOSQUITTO, "rabbitmq": RABBITMQ}[SHAPE.partition("+")[2]]
