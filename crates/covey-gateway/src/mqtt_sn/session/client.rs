//! What a gateway knows of one client.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::packet::{Qos, Topic};
use super::peer::Peer;
use super::settings::{AWAY_MS_MAX, SILENCE_MS_MAX, STRANGER_MS_MAX};
use super::topics::Topics;

/// In which state a client is (§6.14, figure 4). One that is lost or has disconnected is away, or is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Active,
    Asleep,
    /// It has asked for what waits, and gets it.
    Awake,
    /// Only its session is kept.
    Away,
}

/// What a client said in its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub has_will: bool,
    pub is_clean: bool,
    pub keep_alive_s: u16,
}

/// A subscription, and how it names its topics.
#[derive(Debug)]
pub(super) struct Subscription {
    pub filter: Box<str>,
    pub qos: Qos,
    /// The id of a predefined topic, if it names one.
    pub predefined: Option<u16>,
}

/// A will, as a client tells it: the message may come before the topic is changed, and the other way round.
#[derive(Debug)]
pub(super) struct StoredWill {
    pub topic: Box<str>,
    pub payload: Box<[u8]>,
}

/// A session, with the connection if there is one.
#[derive(Debug)]
pub(super) struct Session {
    pub id: Arc<str>,
    pub peer: Peer,
    /// When something was heard of it; away: since when.
    pub heard_ms: u64,
    /// For when it is in the table of timers; 0: it is not.
    pub timer_ms: u64,
    pub hello: Hello,
    /// For how long it sleeps.
    pub sleep_s: u16,
    pub state: State,
    /// Nothing has come after its CONNECT: another one is its repetition.
    pub is_fresh: bool,
    /// Nothing has ever come after its CONNECT.
    pub is_stranger: bool,
    /// It has refused a message for its DUP, as RIOT's emcute does.
    pub takes_no_dup: bool,
    pub last_msg_id: u16,
    pub topics: Topics,
    pub subscriptions: Vec<Subscription>,
    pub will: Option<Box<StoredWill>>,
    pub told: Told,
    /// What an idle client does not have.
    pub work: Option<Box<Work>>,
}

/// Messages under way, in both directions.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// To the client, in order. The first is under way if there is a flight.
    pub outgoing: VecDeque<Outgoing>,
    pub flight: Option<Flight>,
    /// The bodies of `outgoing`, in bytes.
    pub bytes: usize,
    /// From the client, without the owner's answer.
    pub unanswered: Vec<Unanswered>,
    /// From the client with QoS 2: ids and digests of what was taken and is not released.
    pub unreleased: VecDeque<(u16, u32)>,
}

/// A message to a client.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub token: u64,
    pub qos: Qos,
    pub topic: Topic,
    pub payload: Box<[u8]>,
    /// Once it was sent.
    pub msg_id: Option<u16>,
    /// The client did not know the topic's id, and was told it anew.
    pub was_registered_again: bool,
    /// In how many wakes of the client it was not acknowledged.
    pub wakes: u8,
}

/// What was sent to a client, and waits for its answer.
#[derive(Debug)]
pub(super) struct Flight {
    pub step: Step,
    pub msg_id: u16,
    /// With DUP.
    pub is_repeated: bool,
    /// How often it was sent again.
    pub repetitions: u8,
    /// When it is sent again.
    pub at_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Register,
    Publish,
}

/// A message of a client that the owner has not answered.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub msg_id: u16,
    pub digest: u32,
    pub topic: Topic,
    pub qos: Qos,
    pub at_ms: u64,
}

/// How many of the last messages are known again. By §6.6 a client has one under way.
const TOLD: usize = 6;

/// The last messages that were taken, and of QoS 2 released, the newest first.
#[derive(Debug, Default)]
pub(super) struct Told {
    count: u8,
    ids: [u16; TOLD],
    digests: [u32; TOLD],
}

impl Told {
    pub fn add(&mut self, msg_id: u16, digest: u32) {
        self.ids.rotate_right(1);
        self.digests.rotate_right(1);
        self.ids[0] = msg_id;
        self.digests[0] = digest;
        self.count = self.count.saturating_add(1).min(TOLD as u8);
    }

    /// Whether a message was taken before, and its answer was lost.
    ///
    /// RIOT's clients repeat without DUP, and give each message another id. Other clients always say the same id, and
    /// publish the same value again and again. So without DUP it is a repetition if it is the last message once more, and
    /// the one before had another id.
    pub fn has(&self, msg_id: u16, digest: u32, is_repeated: bool) -> bool {
        let count = usize::from(self.count);
        let is = |place: usize| self.ids[place] == msg_id && self.digests[place] == digest;
        if is_repeated {
            return (0..count).any(is);
        }
        count >= 2 && is(0) && self.ids[1] != msg_id
    }
}

impl Session {
    /// When the client is taken for lost; away: when its session ends.
    pub fn deadline_ms(&self) -> u64 {
        let after_ms = match self.state {
            State::Away => AWAY_MS_MAX,
            // One and a half times what it said: as MQTT does it; a clock of a node that sleeps is not exact.
            State::Asleep | State::Awake => u64::from(self.sleep_s) * 1_500,
            State::Active => {
                let said_ms = match self.hello.keep_alive_s {
                    0 => SILENCE_MS_MAX,
                    keep_alive_s => u64::from(keep_alive_s) * 1_500,
                };
                if self.is_stranger { said_ms.min(STRANGER_MS_MAX) } else { said_ms }
            }
        };
        self.heard_ms.saturating_add(after_ms)
    }

    /// When something is to be done next.
    pub fn due_ms(&self) -> u64 {
        let flight = self.work.as_ref().and_then(|work| work.flight.as_ref());
        flight.map_or(u64::MAX, |flight| flight.at_ms).min(self.deadline_ms())
    }

    pub fn work(&mut self) -> &mut Work {
        self.work.get_or_insert_default()
    }

    /// An idle client keeps no room for work.
    pub fn tidy(&mut self) {
        let is_idle = |work: &Work| {
            work.outgoing.is_empty() && work.unanswered.is_empty() && work.unreleased.is_empty()
        };
        if self.work.as_ref().is_some_and(|work| is_idle(work)) {
            self.work = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_is_known_by_dup_or_as_the_last_message_of_who_counts() {
        let mut told = Told::default();
        assert!(!told.has(0, 0, true) && !told.has(0, 0, false));
        told.add(1, 10);
        assert!(told.has(1, 10, true) && !told.has(1, 10, false) && !told.has(1, 11, true));
        told.add(2, 20);
        assert!(told.has(2, 20, false) && told.has(1, 10, true));
        // Not the last one, or another content.
        assert!(!told.has(1, 10, false) && !told.has(2, 10, false));
        // Who always says the same id publishes anew.
        told.add(2, 20);
        assert!(!told.has(2, 20, false));
        for id in 100..108 {
            told.add(id, 0);
        }
        assert!(!told.has(2, 20, true));
    }
}
