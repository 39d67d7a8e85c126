//! The end of a connection, the will, and the end of a session (MQTT 5 §3.1.2.5, §3.1.2.11.2, §4.1).

use super::super::properties::Place;
use super::super::{Properties, Property, Qos};
use super::{Epoch, Outcome, Output, Session};

/// A will, to be published as a message of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillMessage {
    /// Where to.
    pub topic: Box<str>,
    /// With which quality of service.
    pub qos: Qos,
    /// Whether it is to be retained.
    pub retain: bool,
    /// The body.
    pub payload: Box<[u8]>,
    properties: Box<[u8]>,
}

impl WillMessage {
    /// Its properties as they came, Will Delay Interval among them; none in 3.1.1. A Message Expiry Interval
    /// begins now.
    #[must_use]
    pub fn properties(&self) -> Properties<'_> {
        Properties::checked(&self.properties, Place::Will)
    }
}

/// A will as it is kept.
#[derive(Debug)]
pub(super) struct Will {
    delay_s: u32,
    pub message: WillMessage,
}

impl Will {
    pub fn new(will: &super::super::Will<'_>) -> Self {
        let delay_s = will.properties.find(|property| match property {
            Property::WillDelayInterval(seconds) => Some(seconds),
            _ => None,
        });
        let message = WillMessage {
            topic: will.topic.into(),
            qos: will.qos,
            retain: will.retain,
            payload: will.payload.into(),
            properties: will.properties.as_bytes().into(),
        };
        Self { delay_s: delay_s.unwrap_or(0), message }
    }
}

/// What the end of a connection leaves.
#[derive(Debug)]
pub struct Detached {
    /// The will, if it is to be published now.
    pub will: Option<WillMessage>,
    /// Whether the session is over too: its owner may forget it.
    pub is_ended: bool,
}

/// What time has brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// No packet for one and a half times the keep alive \[MQTT-3.1.2-22\]: disconnect with 0x8D, close, and
    /// detach. It is said until that is done.
    KeepAliveOver,
    /// The will is to be published now.
    Will(WillMessage),
    /// The session is over \[MQTT-4.1.0-2\]: its owner may forget it.
    Ended,
}

impl Session {
    /// The connection is over, in whichever way. For one that is not the present one nothing happens.
    pub fn detach(&mut self, epoch: Epoch, now_ms: u64, out: &mut Output) -> Detached {
        if epoch != self.epoch || !self.is_connected() {
            return Detached { will: None, is_ended: false };
        }
        self.drop_connection(now_ms);
        let is_ended = self.expiry_s == 0;
        let is_due = is_ended || self.will_at_ms().is_some_and(|due| now_ms >= due);
        let will = if is_due { self.will.take().map(|will| will.message) } else { None };
        if is_ended {
            self.discard(out);
        }
        Detached { will, is_ended }
    }

    /// What is due by now, one thing at a time; to be asked until it is nothing.
    pub fn tick(&mut self, now_ms: u64, out: &mut Output) -> Due {
        if self.deadline_ms().is_none_or(|deadline| now_ms < deadline) {
            return Due::Nothing;
        }
        if self.is_connected() {
            return Due::KeepAliveOver;
        }
        if self.will_at_ms().is_some_and(|due| now_ms >= due)
            && let Some(will) = self.will.take()
        {
            return Due::Will(will.message);
        }
        if self.ends_at_ms().is_some_and(|end| now_ms >= end) {
            self.discard(out);
            return Due::Ended;
        }
        Due::Nothing
    }

    /// When [`tick`](Self::tick) has something next, as things stand.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        if !self.exists {
            return None;
        }
        let Some(peer) = self.peer else {
            return self.will_at_ms().into_iter().chain(self.ends_at_ms()).min();
        };
        (peer.keep_alive_s > 0).then(|| self.heard_ms + u64::from(peer.keep_alive_s) * 1_500)
    }

    /// When the session ends, if it ends without a connection.
    pub(super) fn ends_at_ms(&self) -> Option<u64> {
        (self.expiry_s != u32::MAX).then(|| self.heard_ms + u64::from(self.expiry_s) * 1_000)
    }

    /// When the will is due without a connection: after its delay, or with the end of the session
    /// \[MQTT-3.1.2-8\].
    pub(super) fn will_at_ms(&self) -> Option<u64> {
        let delayed = self.heard_ms + u64::from(self.will.as_ref()?.delay_s) * 1_000;
        Some(self.ends_at_ms().map_or(delayed, |end| end.min(delayed)))
    }

    /// Forgets what belongs to a connection alone: answers, topic aliases \[MQTT-3.3.2-7\], the send quota.
    pub(super) fn drop_connection(&mut self, now_ms: u64) {
        self.peer = None;
        self.heard_ms = now_ms;
        if let Some(work) = &mut self.work {
            work.answers.clear();
            work.answers.shrink_to_fit();
            work.aliases_in = Vec::new();
            work.aliases_out = Vec::new();
            work.in_flight = 0;
            for entry in &mut work.outgoing {
                entry.is_sent = false;
                entry.counts = false;
            }
            for received in &mut work.received {
                received.counts = false;
            }
        }
        self.tidy();
    }

    /// Ends the session: nothing of it is left but the numbers of its connections.
    pub(super) fn discard(&mut self, out: &mut Output) {
        self.discard_messages(out);
        self.work = None;
        self.subscriptions = Vec::new();
        self.will = None;
        self.exists = false;
    }

    /// Gives up what the device does not have. What it has, and has not completed, goes on.
    pub(super) fn discard_messages(&mut self, out: &mut Output) {
        if let Some(work) = &mut self.work {
            let owed = work.outgoing.iter().filter(|entry| entry.is_owed());
            out.outcomes.extend(owed.map(|entry| Outcome::Discarded { token: entry.token }));
            work.outgoing.retain(|entry| !entry.is_owed());
            work.waiting = 0;
            work.waiting_bytes = 0;
            // Of what it has, no body is kept.
            work.kept_bytes = 0;
        }
        self.tidy();
    }
}
