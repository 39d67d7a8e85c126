//! A gateway of MQTT-SN with all its clients: a state machine without sockets, tasks and clocks.
//!
//! Its owner calls [`datagram`](Gateway::datagram) with what comes, [`publish`](Gateway::publish) with what is for a
//! client, [`accepted`](Gateway::accepted) when a message of a client is kept or refused, and
//! [`timer`](Gateway::timer) at [`due_ms`](Gateway::due_ms). What is to be sent, and what the owner is told, is appended
//! to an [`Output`]. Times are milliseconds of one clock that does not go back.
//!
//! A client is known by its address and port. One that connects with the id of another, from wherever, takes its place:
//! UDP shows nothing by which the two could be told apart. Messages of one client are told in the order in which they
//! come. To a client one message of QoS 1 is under way at a time, and what follows waits (§6.6).
//!
//! An idle client takes less than 400 bytes in all.

mod client;
mod connecting;
mod event;
mod peer;
mod receiving;
mod sending;
mod settings;
mod table;
mod topics;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

pub use event::{Answer, Client, Delivery, Event, Output, Reason, Receipt, Sent, Will};
pub use sending::Message;
pub use settings::{
    ALL_QUEUES_BYTES_MAX, AWAY_MS_MAX, Advertise, CLIENTS_MAX, CLIENTS_PER_ADDRESS_MAX, DATAGRAM_BYTES_MAX,
    DEPARTED_MAX, DEPARTED_MS_MAX, HALF_OPEN_MAX, HALF_OPEN_MS_MAX, HALF_OPEN_PER_ADDRESS_MAX,
    NAME_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_MAX, SILENCE_MS_MAX, STRANGER_MS_MAX, SUBSCRIPTIONS_MAX, Settings,
    TOPICS_BYTES_MAX, TOPICS_MAX, UNANSWERED_MAX, UNANSWERED_MS_MAX, UNRELEASED_MAX, WILL_BYTES_MAX,
};

use super::packet::{Packet, Qos, Violation, decode};
use client::{Session, State};
use connecting::HalfOpen;
use peer::Peer;
use table::Table;

/// What has happened, since the gateway is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams that came.
    pub received: u64,
    /// Those that were refused: [`Gateway::datagram`] said why.
    pub refused: u64,
    /// Messages of clients that were there before.
    pub repetitions: u64,
    /// Messages that were sent to clients again.
    pub retransmissions: u64,
    /// Messages to clients that were given up without an answer.
    pub unanswered: u64,
    /// Clients that were lost.
    pub lost: u64,
    /// How many clients are connected now, those included that sleep.
    pub connected: usize,
}

impl Counts {
    /// What only grows, each with its name.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("received", self.received),
            ("refused", self.refused),
            ("repetitions", self.repetitions),
            ("retransmissions", self.retransmissions),
            ("unanswered", self.unanswered),
            ("lost", self.lost),
        ]
    }
}

/// A gateway. See the [module](self).
pub struct Gateway {
    settings: Settings,
    table: Table,
    /// Clients that are asked for their will.
    half_open: HashMap<Peer, HalfOpen>,
    /// When the first of them is forgotten.
    half_open_due_ms: Option<u64>,
    /// Who has disconnected, and when.
    departed: VecDeque<(Peer, u64)>,
    /// Bodies of messages that wait for clients, in bytes.
    queued_bytes: usize,
    advertise_at_ms: Option<u64>,
    /// Where the next connection begins to count messages: not where its client's last one did, whose late answers
    /// would be taken for answers to other messages.
    first_msg_id: u16,
    chance: Chance,
    counts: Counts,
}

impl Gateway {
    /// One without clients.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let chance = Chance::new(settings.seed);
        Self {
            advertise_at_ms: settings.advertise.map(|_| 0),
            settings,
            table: Table::default(),
            half_open: HashMap::new(),
            half_open_due_ms: None,
            departed: VecDeque::new(),
            queued_bytes: 0,
            first_msg_id: 0,
            chance,
            counts: Counts::default(),
        }
    }

    /// How many sessions there are, with and without a connection.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.table.len()
    }

    /// What has happened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { connected: self.table.connected(), ..self.counts }
    }

    /// A datagram has come.
    ///
    /// # Errors
    /// What is wrong with it. It has changed nothing, and has got the answer that it can get.
    pub fn datagram(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        self.counts.received += 1;
        let heard = self.hear(Peer::of(from), datagram, now_ms, out);
        if heard.is_err() {
            self.counts.refused += 1;
        }
        heard
    }

    fn hear(&mut self, peer: Peer, datagram: &[u8], now_ms: u64, out: &mut Output) -> Result<(), Violation> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(Violation::new("5.2.1", "the message is larger than a gateway takes"));
        }
        match decode(datagram)? {
            Packet::SearchGw { .. } => {
                let gateway_id = self.settings.gateway_id;
                out.send(peer, &Packet::GwInfo { gateway_id, address: &[] });
                Ok(())
            }
            // Of another gateway of the network.
            Packet::Advertise { .. } | Packet::GwInfo { .. } => Ok(()),
            Packet::Encapsulated { .. } => Err(Violation::new("5.5", "forwarders are not supported")),
            Packet::ConnAck(_)
            | Packet::WillTopicReq
            | Packet::WillMsgReq
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp
            | Packet::WillTopicResp(_)
            | Packet::WillMsgResp(_) => Err(Violation::new("5.4", "a client sent what only gateways send")),
            Packet::Connect(connect) => self.connect(peer, &connect, now_ms, out),
            Packet::WillTopic(topic) => self.will_topic(peer, topic.as_ref(), now_ms, out),
            Packet::WillMsg(message) => self.will_message(peer, message, now_ms, out),
            Packet::PingReq(Some(id)) => self.wake_for_messages(peer, id, now_ms, out),
            Packet::Disconnect(duration_s) => self.disconnect(peer, duration_s, now_ms, out),
            Packet::Publish(publish) if publish.qos == Qos::WithoutConnection => {
                self.publish_unconnected(peer, &publish, now_ms, out)
            }
            packet => {
                let Some(slot) = self.heard(peer, now_ms) else {
                    // So a client whose session is over connects anew (§6.12).
                    out.send(peer, &Packet::Disconnect(None));
                    return Err(NOT_CONNECTED);
                };
                self.hear_client(slot, packet, now_ms, out)
            }
        }
    }

    /// A datagram has come from a client. Answers which.
    fn heard(&mut self, peer: Peer, now_ms: u64) -> Option<u32> {
        let slot = self.table.find_peer(peer)?;
        let session = self.table.get_mut(slot)?;
        session.heard_ms = now_ms;
        session.is_fresh = false;
        session.is_stranger = false;
        Some(slot)
    }

    /// When [`timer`](Self::timer) is to be called next.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        [self.table.due_ms(), self.half_open_due_ms, self.advertise_at_ms].into_iter().flatten().min()
    }

    /// It is time for something.
    pub fn timer(&mut self, now_ms: u64, out: &mut Output) {
        while let Some(slot) = self.table.pop_due(now_ms) {
            self.look_at(slot, now_ms, out);
            self.table.arm(slot);
        }
        self.forget_half_open(now_ms);
        if let (Some(advertise), Some(at_ms)) = (self.settings.advertise, self.advertise_at_ms)
            && at_ms <= now_ms
        {
            let gateway_id = self.settings.gateway_id;
            out.send_to(advertise.to, &Packet::Advertise { gateway_id, duration_s: advertise.every_s });
            self.advertise_at_ms = Some(now_ms + u64::from(advertise.every_s.max(1)) * 1_000);
        }
    }

    fn look_at(&mut self, slot: u32, now_ms: u64, out: &mut Output) {
        let Some(session) = self.table.get(slot) else { return };
        if session.deadline_ms() > now_ms {
            self.repeat_if_due(slot, now_ms, out);
        } else if session.state == State::Away {
            self.table.remove(slot);
        } else {
            self.counts.lost += 1;
            self.end(slot, Reason::Lost, now_ms, out);
        }
    }

    /// A client may no longer be connected: it hears DISCONNECT, and its session is forgotten.
    pub fn disconnect_client(&mut self, client: Client, now_ms: u64, out: &mut Output) {
        let Some(session) = self.table.of_client(client) else { return };
        if session.state != State::Asleep {
            out.send(session.peer, &Packet::Disconnect(None));
        }
        self.end(client.slot, Reason::Ended, now_ms, out);
    }

    /// The gateway ends: all clients that listen hear it.
    pub fn shut_down(&mut self, out: &mut Output) {
        for slot in self.table.all_connected() {
            if let Some(session) = self.table.get(slot)
                && session.state != State::Asleep
            {
                out.send(session.peer, &Packet::Disconnect(None));
            }
        }
    }

    /// A connection is over. The session stays if the client wants that.
    fn end(&mut self, slot: u32, reason: Reason, now_ms: u64, out: &mut Output) {
        let client = self.table.client(slot);
        let Some(session) = self.table.get_mut(slot) else { return };
        if session.state == State::Away {
            return;
        }
        drop_messages(session, client, &mut self.queued_bytes, out);
        let will = session.will.take().filter(|_| reason == Reason::Lost);
        let will = will.map(|will| Will { topic: will.topic, payload: will.payload });
        let is_kept = !session.hello.is_clean && reason != Reason::Ended;
        session.topics.forget_known();
        out.tell(Event::Gone { client, reason, will });
        if is_kept {
            self.table.leave(slot, now_ms);
        } else {
            self.table.remove(slot);
        }
    }

    /// That all that is kept of the same thing in several places says the same.
    ///
    /// # Panics
    /// It does not. For tests.
    #[doc(hidden)]
    pub fn check(&self) {
        self.table.check();
        let queued: usize = self
            .table
            .sessions()
            .filter_map(|(_, session)| session.work.as_ref())
            .map(|work| work.bytes)
            .sum();
        assert_eq!(queued, self.queued_bytes, "bytes of messages that wait");
        for half_open in self.half_open.values() {
            assert!(self.half_open_due_ms.is_some_and(|due_ms| due_ms <= half_open.until_ms()), "half-open");
        }
    }
}

/// A client that is not known asks for something.
const NOT_CONNECTED: Violation = Violation::new("6.12", "the sender is not connected");

/// What was to be sent to a client is not.
fn drop_messages(session: &mut Session, client: Client, queued_bytes: &mut usize, out: &mut Output) {
    let Some(work) = session.work.take() else { return };
    *queued_bytes -= work.bytes;
    for message in work.outgoing {
        out.tell(Event::Delivered { client, token: message.token, delivery: Delivery::Dropped });
    }
}

/// Numbers by chance (xorshift64*): enough to keep clients from answering all at once.
struct Chance(u64);

impl Chance {
    const fn new(seed: u64) -> Self {
        // All bits zero would stay so.
        Self(seed ^ 0x9E37_79B9_7F4A_7C15 | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound.max(1)
    }
}
