//! How a device behaves, drawn from the seed: what it says in CONNECT, how it works, how it goes.

use covey_wire::mqtt::{ProtocolVersion, Qos};
use rand::RngExt;
use rand::rngs::StdRng;

/// The habits of a device; all times in milliseconds unless the name says otherwise.
#[derive(Clone, Debug)]
pub struct Manner {
    /// The version it speaks.
    pub version: ProtocolVersion,
    /// How likely a connection speaks the other version.
    pub other_version: f64,
    /// How likely a connection asks for a clean start.
    pub clean_start: f64,
    /// Session Expiry Interval in seconds; in 3.1.1 the session is kept if it is not 0.
    pub session_expiry_s: u32,
    /// Receive Maximum; none says nothing.
    pub receive_max: Option<u16>,
    /// Maximum Packet Size in bytes; none says nothing.
    pub packet_bytes_max: Option<u32>,
    /// Topic Alias Maximum.
    pub topic_alias_max: u16,
    /// Keep Alive in seconds.
    pub keep_alive_s: u16,
    /// The quality of service that it subscribes with.
    pub subscribed_qos: Qos,
    /// Whether it subscribes to announcements.
    pub is_pushed: bool,
    /// Whether it subscribes to each topic, not to all with one filter.
    pub is_exact: bool,
    /// The quality of service of its results, and of its other messages.
    pub result_qos: Qos,
    /// That of its other messages.
    pub other_qos: Qos,
    /// How many messages it has under way at most.
    pub in_flight_max: usize,
    /// How late it acknowledges at most.
    pub ack_ms_max: u64,
    /// How likely it acknowledges nothing at all on a connection.
    pub never_acks: f64,
    /// Whether it says `ack`.
    pub says_ack: bool,
    /// How many partial results it sends at most.
    pub partials_max: u32,
    /// How long its work takes at most.
    pub work_ms_max: u64,
    /// How often it polls; 0: never.
    pub poll_ms: u64,
    /// After how long without a proof it sends a result again.
    pub repeat_ms: u64,
    /// How long it is connected, on average.
    pub connected_ms: u64,
    /// How long it is away, on average.
    pub away_ms: u64,
    /// How likely a connection ends without a sign.
    pub silent: f64,
    /// How likely a message is one that it must not send.
    pub rogue: f64,
    /// The delay of each direction of its network at most.
    pub latency_ms_max: u64,
    /// How often something happens that it tells as an event, on average; 0: never.
    pub event_ms: u64,
    /// The quality of service of its events.
    pub event_qos: Qos,
    /// How likely a connection has a will.
    pub wills: f64,
    /// The will's delay in seconds; none says nothing. In 3.1.1 there is none.
    pub will_delay_s: Option<u32>,
    /// The will's Message Expiry Interval in seconds, if it has one.
    pub will_expiry_s: Option<u32>,
    /// How likely a connection that ends in good order says so before.
    pub says_goodbye: f64,
    /// Whether it relies on announcements alone, and never asks unasked.
    pub only_listens: bool,
}

fn qos(random: &mut StdRng) -> Qos {
    match random.random_range(0..10) {
        0 => Qos::AtMostOnce,
        1..=5 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

fn one_in(random: &mut StdRng, count: u32) -> bool {
    random.random_ratio(1, count)
}

impl Manner {
    /// Draws the habits of a device.
    #[must_use]
    pub fn draw(random: &mut StdRng) -> Self {
        let is_5 = random.random_bool(0.7);
        let is_pushed = random.random_bool(0.75);
        let poll_ms =
            if is_pushed && random.random_bool(0.7) { 0 } else { random.random_range(500..=10_000) };
        Self {
            version: if is_5 { ProtocolVersion::V5 } else { ProtocolVersion::V311 },
            other_version: if one_in(random, 10) { 0.3 } else { 0.0 },
            clean_start: [0.0, 0.0, 0.05, 1.0][random.random_range(0..4)],
            session_expiry_s: [0, 20, 120, 600, 3_600, u32::MAX][random.random_range(0..6)],
            receive_max: random.random_bool(0.6).then(|| random.random_range(1..=20)),
            packet_bytes_max: random.random_bool(0.2).then(|| random.random_range(64..=400)),
            topic_alias_max: [0, 1, 4, 20][random.random_range(0..4)],
            keep_alive_s: random.random_range(3..=40),
            subscribed_qos: qos(random),
            is_pushed,
            is_exact: random.random_bool(0.3),
            result_qos: qos(random),
            other_qos: qos(random),
            in_flight_max: random.random_range(1..=12),
            ack_ms_max: [0, 0, 300, 5_000][random.random_range(0..4)],
            never_acks: if one_in(random, 5) { 0.5 } else { 0.0 },
            says_ack: random.random_bool(0.5),
            partials_max: random.random_range(0..=3),
            work_ms_max: [0, 500, 5_000][random.random_range(0..3)],
            poll_ms,
            repeat_ms: random.random_range(3_000..=20_000),
            connected_ms: [3_000, 10_000, 30_000][random.random_range(0..3)],
            away_ms: [300, 3_000, 15_000][random.random_range(0..3)],
            silent: [0.1, 0.5][random.random_range(0..2)],
            rogue: if one_in(random, 10) { 0.1 } else { 0.0 },
            latency_ms_max: [3, 100, 1_500][random.random_range(0..3)],
            event_ms: [0, 700, 4_000, 12_000][random.random_range(0..4)],
            event_qos: qos(random),
            wills: [0.0, 0.7][random.random_range(0..2)],
            will_delay_s: [None, Some(0), Some(2), Some(10), Some(60)][random.random_range(0..5)],
            will_expiry_s: [None, Some(1), Some(600)][random.random_range(0..3)],
            says_goodbye: [0.0, 0.5][random.random_range(0..2)],
            only_listens: poll_ms == 0 && random.random_bool(0.5),
        }
    }
}
