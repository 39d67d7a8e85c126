//! A device's side of its MQTT session: what it keeps from one connection to the next.

use std::collections::VecDeque;
use std::time::Duration;

use covey_wire::mqtt::{PacketId, Qos};
use tokio::time::Instant;

use super::message::Outgoing;

/// How many announcements and answers are remembered in the order in which they came.
const REMEMBERED_MAX: usize = 128;
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
}

/// What the device knows of its session.
#[derive(Default)]
pub struct Session {
    /// Messages under way, in the order in which they were sent.
    pub sent: Vec<Sent>,
    last_id: u16,
    /// Until when the server must have the session; none if it has none.
    kept: Kept,
    /// A SUBACK has come since the session began.
    pub is_subscribed: bool,
    /// A clean start was asked for and not answered: until one is, the old session must not go on.
    pub must_clean: bool,
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
    /// What CONNACK must say when the device connects without a clean start.
    pub fn expected(&self) -> Present {
        // What it changed is not known, if it came after the last that was heard.
        if self.late_until > self.heard_at {
            return Present::Unknown;
        }
        match self.kept {
            Kept::No => Present::No,
            Kept::Maybe => Present::Unknown,
            Kept::For { seconds, heard_at } => {
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
    pub fn heard(&mut self, seconds: u64) {
        self.heard_at = Some(Instant::now());
        self.kept = match seconds {
            0 => Kept::No,
            seconds => Kept::For { seconds, heard_at: Instant::now() },
        };
    }

    /// The session is over. Answers what was under way.
    pub fn end(&mut self) -> Vec<Sent> {
        self.kept = Kept::No;
        self.is_subscribed = false;
        self.came.clear();
        std::mem::take(&mut self.sent)
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
