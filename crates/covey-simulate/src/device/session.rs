//! A device's side of its MQTT session: what it keeps from one connection to the next.

use std::collections::VecDeque;
use std::time::Duration;

use covey_wire::mqtt::{PacketId, Qos};
use tokio::time::Instant;

use super::message::Outgoing;

/// How many announcements and answers are remembered in the order in which they came.
const REMEMBERED_MAX: usize = 128;
/// How long it takes at most until the store knows that the device is connected, in seconds.
const PRESENCE_S: u64 = 8;
/// How much earlier than the device the server may take a connection for ended, in seconds.
const MARGIN_S: u64 = 5;

/// A message that the server has not acknowledged in full.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Its packet identifier.
    pub id: PacketId,
    /// What it is.
    pub message: Outgoing,
    /// How it was sent.
    pub qos: Qos,
    /// PUBREC has come, and PUBREL goes out (MQTT 5 §4.3.3).
    pub is_released: bool,
    /// To which of the servers, one after the other, it was sent last.
    pub server: u64,
}

/// What the device knows of its session.
#[derive(Default)]
pub struct Session {
    /// Messages under way, in the order in which they were sent.
    pub sent: Vec<Sent>,
    last_id: u16,
    /// Until when the server must have the session; none if it has none.
    kept: Kept,
    /// Whether it has subscribed since the session began.
    pub subscribed: Subscribed,
    /// When the last CONNACK came.
    up_at: Option<Instant>,
    /// A clean start was asked for and not answered: until one is, the old session must not go on.
    pub must_clean: bool,
    /// Of which of the servers something was last heard.
    pub server: u64,
    /// When something was last heard of the server.
    heard_at: Option<Instant>,
    /// Until when a CONNECT may arrive whose connection is over.
    late_until: Option<Instant>,
    /// What came with QoS 1, in the order in which it first came: its place, packet identifier and what it was.
    came: VecDeque<(u64, PacketId, u64)>,
    came_count: u64,
}

#[derive(Clone, Copy, Default)]
enum Kept {
    /// The server has none.
    #[default]
    No,
    /// It may have one: a CONNECT was not answered.
    Maybe,
    /// It has one for so many seconds after the last that was heard of it.
    For { seconds: u64, heard_at: Instant },
}

/// How far a device is with its subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subscribed {
    /// It has not said SUBSCRIBE.
    #[default]
    No,
    /// It has, and nobody knows what became of it.
    Asked,
    /// A SUBACK has come.
    Yes,
}

/// What the server must say about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    /// Session Present 1.
    Yes,
    /// Session Present 0.
    No,
    /// Either.
    Unknown,
}

impl Session {
    /// What CONNACK must say when the device connects without a clean start. If the server was killed that was heard
    /// of last, what was kept of the session goes on (docs/adr/0018-sessions-in-the-store.md).
    pub fn expected(&self, killed_at: Option<Instant>) -> Present {
        // What it changed is not known, if it came after the last that was heard.
        if self.late_until > self.heard_at {
            return Present::Unknown;
        }
        match self.kept {
            Kept::No => Present::No,
            Kept::Maybe => Present::Unknown,
            Kept::For { seconds, heard_at } => {
                if let Some(killed_at) = killed_at {
                    let was_seen =
                        self.up_at.is_some_and(|up_at| up_at + Duration::from_secs(PRESENCE_S) < killed_at);
                    match self.subscribed {
                        Subscribed::No => return Present::No,
                        Subscribed::Yes if was_seen => {}
                        // Since when it was away is not known, or not what was kept.
                        Subscribed::Asked | Subscribed::Yes => return Present::Unknown,
                    }
                }
                let ends = heard_at + Duration::from_secs(seconds.saturating_sub(MARGIN_S));
                if Instant::now() < ends { Present::Yes } else { Present::Unknown }
            }
        }
    }

    /// A CONNECT goes out that asks for a session of so many seconds; nobody knows whether it arrives.
    pub fn asked(&mut self, seconds: u64) {
        match self.kept {
            Kept::No if seconds == 0 => {}
            Kept::For { seconds: known, .. } if seconds >= known => {}
            _ => self.kept = Kept::Maybe,
        }
    }

    /// A connection is over whose CONNECT was not answered: it may arrive after that of the next.
    pub fn gave_up(&mut self) {
        self.late_until = Some(Instant::now() + Duration::from_secs(MARGIN_S));
    }

    /// Something was heard of the server on a connection whose session is kept for so long after it.
    pub fn heard(&mut self, seconds: u64, server: u64) {
        if std::mem::replace(&mut self.server, server) != server {
            // It numbers its packets anew.
            self.came.clear();
        }
        self.heard_at = Some(Instant::now());
        self.kept = match seconds {
            0 => Kept::No,
            seconds => Kept::For { seconds, heard_at: Instant::now() },
        };
    }

    /// CONNACK has come.
    pub fn is_up(&mut self) {
        self.up_at = Some(Instant::now());
    }

    /// The session is over. Answers what was under way.
    pub fn end(&mut self) -> Vec<Outgoing> {
        self.kept = Kept::No;
        self.subscribed = Subscribed::No;
        self.came.clear();
        self.sent.drain(..).map(|sent| sent.message).collect()
    }

    /// A packet identifier that is not in use (MQTT 5 §2.2.1).
    pub fn new_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last_id)
                && self.sent.iter().all(|sent| sent.id != id)
            {
                return id;
            }
        }
    }

    /// Something came with QoS 1 for the first time.
    pub fn came(&mut self, id: PacketId, what: u64) {
        if self.came.len() >= REMEMBERED_MAX {
            self.came.pop_front();
        }
        self.came_count += 1;
        self.came.push_back((self.came_count, id, what));
    }

    /// Where among all that came this came last, if it did.
    pub fn place(&self, id: PacketId, what: u64) -> Option<u64> {
        let known = self.came.iter().rev().find(|(_, known, what_known)| (*known, *what_known) == (id, what));
        known.map(|(place, ..)| *place)
    }
}
