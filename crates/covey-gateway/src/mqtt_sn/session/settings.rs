//! What a gateway allows its clients, and how it speaks with them.

use std::net::SocketAddr;

/// How many clients an MQTT-SN gateway knows: those that are connected, and those whose session it keeps.
/// Limit for each gateway: the session that was left longest ago ends; else CONNACK 0x01.
pub const CLIENTS_MAX: usize = 100_000;
/// How many clients of MQTT-SN may come from one address, unless it is loopback; of IPv6, from one network of 64 bits.
/// Limit for each address: CONNACK 0x01.
pub const CLIENTS_PER_ADDRESS_MAX: usize = 25_000;
/// How many clients of MQTT-SN may be asked for their will at a time: they are not connected yet.
/// Limit for each gateway: CONNACK 0x01.
pub const HALF_OPEN_MAX: usize = 1_024;
/// How many clients that are asked for their will may come from one address, unless it is loopback; of IPv6, from one
/// network of 64 bits.
/// Limit for each address: CONNACK 0x01.
pub const HALF_OPEN_PER_ADDRESS_MAX: usize = 128;
/// How long a client may take to tell its will, in milliseconds: it repeats each of two messages three times, 15 s apart.
/// Limit for each CONNECT: it is forgotten.
pub const HALF_OPEN_MS_MAX: u64 = 120_000;
/// How many topics have an id for a client of MQTT-SN.
/// Limit for each client: REGACK or SUBACK 0x01; what is for the client is not sent.
pub const TOPICS_MAX: usize = 64;
/// How many bytes the names of these topics may have.
/// Limit for each client: REGACK or SUBACK 0x01; what is for the client is not sent.
pub const TOPICS_BYTES_MAX: usize = 4_096;
/// Longest name of a topic or filter of MQTT-SN, in bytes: that of a message with a length of one byte.
/// Limit for each name: REGACK, SUBACK or CONNACK 0x03.
pub const NAME_BYTES_MAX: usize = 249;
/// How many subscriptions a client of MQTT-SN may have.
/// Limit for each client: SUBACK 0x01.
pub const SUBSCRIPTIONS_MAX: usize = 32;
/// Longest message of a will, in bytes.
/// Limit for each will: CONNACK or WILLMSGRESP 0x03.
pub const WILL_BYTES_MAX: usize = 1_024;
/// How many messages of QoS 1 and 2 a client may send ahead of their answers. By §6.6 it sends one.
/// Limit for each client: PUBACK 0x01.
pub const UNANSWERED_MAX: usize = 16;
/// How long a message of a client may be without its owner's answer, in milliseconds.
/// Limit for each message: its repetition is taken for a new message.
pub const UNANSWERED_MS_MAX: u64 = 60_000;
/// How many messages of QoS 2 a client may leave unreleased.
/// Limit for each client: the oldest is taken for released.
pub const UNRELEASED_MAX: usize = 16;
/// How many messages wait for a client of MQTT-SN: until it has acknowledged those before, or wakes.
/// Limit for each client: the message is not sent, and its owner is told.
pub const QUEUE_MAX: usize = 32;
/// How many bytes the messages that wait for a client may have.
/// Limit for each client: the message is not sent, and its owner is told.
pub const QUEUE_BYTES_MAX: usize = 16 * 1024;
/// How many bytes the messages that wait for all clients may have.
/// Limit for each gateway: the message is not sent, and its owner is told.
pub const ALL_QUEUES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest datagram of MQTT-SN, in both directions, in bytes.
/// Limit for each datagram: it is refused; a message that would be larger is not sent.
pub const DATAGRAM_BYTES_MAX: usize = 8 * 1024;
/// How long a client may be silent that asked for no keep-alive, in milliseconds.
/// Limit for each client: it is taken for lost.
pub const SILENCE_MS_MAX: u64 = 3_600_000;
/// How long a client may be silent after its CONNECT, in milliseconds, whatever its keep-alive: anybody can send a CONNECT
/// from an address that is not his. RIOT's keep-alive of 360 s has its time.
/// Limit for each client: it is taken for lost.
pub const STRANGER_MS_MAX: u64 = 600_000;
/// How long a session is kept whose client is away and asked for that, in milliseconds.
/// Limit for each session: it ends.
pub const AWAY_MS_MAX: u64 = 24 * 3_600_000;
/// In how many wakes of a client a message is tried that it does not acknowledge.
/// Limit for each message: it is given up, and its owner is told.
pub(super) const WAKES_MAX: u8 = 3;
/// How many clients that have disconnected hear it once more when they ask again.
/// Limit for each gateway: the oldest hears nothing.
pub const DEPARTED_MAX: usize = 256;
/// How long a client that has disconnected hears it once more, in milliseconds.
/// Limit for each client that has disconnected: it hears nothing.
pub const DEPARTED_MS_MAX: u64 = 60_000;

/// What is said to all now and then (§5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// Where to: a broadcast or multicast address.
    pub to: SocketAddr,
    /// How often, in seconds; by §7.2 less often than every 15 minutes.
    pub every_s: u16,
}

/// How a gateway is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its number among the gateways of a network (§5.3.6).
    pub gateway_id: u8,
    /// The topics that have an id which clients know beforehand (§6.7).
    pub predefined: Vec<(u16, Box<str>)>,
    /// Whether messages are taken from those that are not connected (QoS −1, §6.8).
    pub takes_unconnected: bool,
    /// Whether the gateway says unasked that it is there.
    pub advertise: Option<Advertise>,
    /// How many clients there may be ([`CLIENTS_MAX`]).
    pub clients_max: usize,
    /// How many of an address ([`CLIENTS_PER_ADDRESS_MAX`]).
    pub clients_per_address_max: usize,
    /// How long an answer is waited for before a message is sent again, in milliseconds (`T_RETRY`, §7.2: 10 to 15 s); up
    /// to half as much is added by chance.
    pub retry_ms: u64,
    /// How often a message is sent again (`N_RETRY`, §7.2: 3 to 5).
    pub retries: u8,
    /// From what chance is drawn.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gateway_id: 1,
            predefined: vec![(1, "node/check".into()), (2, "gateway/check".into())],
            takes_unconnected: true,
            advertise: None,
            clients_max: CLIENTS_MAX,
            clients_per_address_max: CLIENTS_PER_ADDRESS_MAX,
            retry_ms: 10_000,
            retries: 4,
            seed: 1,
        }
    }
}

impl Settings {
    /// The name of a predefined topic.
    pub(super) fn predefined(&self, id: u16) -> Option<&str> {
        self.predefined.iter().find(|(known, _)| *known == id).map(|(_, name)| &**name)
    }
}
