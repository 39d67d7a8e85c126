//! Which messages of a peer have been taken, so that one that comes again is not taken again, and its sender
//! gets what he got before (RFC 7252 §4.5).
//!
//! A message that comes again is the same in each byte (§4.2). One with the same id that differs is another: of
//! a node, say, that has restarted and begins to count anew.

use super::terms::{EXCHANGE_LIFETIME_MS, KEPT_ANSWER_BYTES_MAX, NON_LIFETIME_MS, SERVED_MAX};
use crate::coap::message::Code;

/// A message that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    pub port: u16,
    pub id: u16,
    digest: u32,
    /// Since the beginning, in seconds; it goes round after 18 hours, of which none is remembered the half.
    expires_s: u16,
    pub repeat: Repeat,
}

impl Served {
    fn is_over(&self, now_s: u16) -> bool {
        now_s.wrapping_sub(self.expires_s) <= u16::MAX / 2
    }
}

/// What becomes of a message that comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Its owner has not answered; an acknowledgement has not gone out.
    Pending,
    /// It is acknowledged again: its answer comes, or came, by itself.
    Acknowledge,
    /// The answer that has nothing but this code and the token is given again.
    Code(Code),
    /// The answer that repeats the body of its request is made again.
    Echo,
    /// The answer that is kept is given again.
    Kept,
    /// Nothing: it was non-confirmable.
    Ignore,
}

/// An answer that is kept.
#[derive(Debug)]
struct Kept {
    port: u16,
    id: u16,
    bytes: Box<[u8]>,
}

/// What of a message tells it from others of the same id.
pub(super) fn digest(bytes: &[u8]) -> u32 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    // The lower half.
    hasher.finish() as u32
}

/// The messages of a peer that were taken; the oldest first.
#[derive(Debug, Default)]
pub(super) struct ServedList {
    entries: Vec<Served>,
}

/// The answers of a peer's [`ServedList`] that are more than a code; the oldest first.
#[derive(Debug, Default)]
pub(super) struct KeptAnswers {
    entries: Vec<Kept>,
    bytes: usize,
}

impl ServedList {
    pub fn find(&self, port: u16, id: u16, digest: u32, now_ms: u64) -> Option<Repeat> {
        let now_s = seconds(now_ms);
        let found = self.entries.iter().rev().find(|served| served.port == port && served.id == id)?;
        (found.digest == digest && !found.is_over(now_s)).then_some(found.repeat)
    }

    pub fn add(
        &mut self,
        (port, id): (u16, u16),
        digest: u32,
        is_confirmable: bool,
        repeat: Repeat,
        now_ms: u64,
    ) {
        if self.entries.len() >= SERVED_MAX {
            // Several at a time, so that not each message moves all others.
            let mut excess = SERVED_MAX / 8;
            self.entries.retain(|served| {
                let stays = excess == 0 || served.repeat == Repeat::Pending;
                excess -= usize::from(!stays);
                stays
            });
        }
        let lifetime_ms = if is_confirmable { EXCHANGE_LIFETIME_MS } else { NON_LIFETIME_MS };
        if self.entries.len() == self.entries.capacity() {
            // Of most that is kept for a node: it grows by what it needs, not to twice as much.
            self.entries.reserve_exact(self.entries.len() / 4 + 4);
        }
        self.entries.push(Served { port, id, digest, expires_s: seconds(now_ms + lifetime_ms), repeat });
    }

    /// Says what becomes of the latest message of this id. False if it is not remembered.
    pub fn set(&mut self, port: u16, id: u16, repeat: Repeat) -> bool {
        let latest = self.entries.iter_mut().rev().find(|served| served.port == port && served.id == id);
        latest.map(|served| served.repeat = repeat).is_some()
    }

    fn forget(&mut self, port: u16, id: u16) {
        self.entries.retain(|served| served.port != port || served.id != id || served.repeat != Repeat::Kept);
    }

    pub fn expire(&mut self, now_ms: u64) {
        let now_s = seconds(now_ms);
        self.entries.retain(|served| !served.is_over(now_s));
        if self.entries.capacity() > self.entries.len() / 2 * 3 + 8 {
            self.entries.shrink_to_fit();
        }
    }

    pub fn clear(&mut self) {
        self.entries.retain(|served| served.repeat == Repeat::Pending);
        self.entries.shrink_to_fit();
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn held_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Served>()
    }
}

impl KeptAnswers {
    pub fn find(&self, port: u16, id: u16) -> Option<&[u8]> {
        let kept = self.entries.iter().rev().find(|kept| kept.port == port && kept.id == id)?;
        Some(&kept.bytes)
    }

    /// Keeps an answer, and forgets the oldest, with the messages that they are for, as long as there are too
    /// many bytes.
    pub fn add(&mut self, port: u16, id: u16, bytes: &[u8], served: &mut ServedList) {
        self.bytes += bytes.len();
        self.entries.retain(|kept| {
            let is_replaced = kept.port == port && kept.id == id;
            let stays = !is_replaced && self.bytes <= KEPT_ANSWER_BYTES_MAX;
            if !stays {
                self.bytes -= kept.bytes.len();
                if !is_replaced {
                    served.forget(kept.port, kept.id);
                }
            }
            stays
        });
        self.entries.push(Kept { port, id, bytes: bytes.into() });
    }

    /// Forgets those whose messages are forgotten.
    pub fn expire(&mut self, served: &ServedList) {
        let is_there = |kept: &Kept| {
            let mut entries = served.entries.iter();
            entries.any(|served| {
                served.port == kept.port && served.id == kept.id && served.repeat == Repeat::Kept
            })
        };
        self.entries.retain(is_there);
        self.bytes = self.entries.iter().map(|kept| kept.bytes.len()).sum();
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn held_bytes(&self) -> usize {
        self.bytes + self.entries.capacity() * size_of::<Kept>()
    }
}

/// Rounded up, so that nothing is forgotten too early; the lower 16 bits.
fn seconds(ms: u64) -> u16 {
    (ms.div_ceil(1_000) & u64::from(u16::MAX)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is remembered of a message that was taken, in bytes: a node that says something every 5 s has 50 of them.
    const SERVED_BYTES_MAX: usize = 12;

    #[test]
    fn a_message_that_was_taken_is_small() {
        assert!(size_of::<Served>() <= SERVED_BYTES_MAX, "{} bytes", size_of::<Served>());
        let mut list = ServedList::default();
        for id in 0..50 {
            list.add((5683, id), 0, true, Repeat::Echo, 0);
        }
        assert!(list.held_bytes() <= 50 * SERVED_BYTES_MAX * 4 / 3, "{} bytes", list.held_bytes());
    }

    #[test]
    fn a_message_is_remembered_for_its_lifetime_whenever_it_comes() {
        // As the seconds go round, too.
        for begin_ms in [0, 1, 65_400_000, 65_535_999, 65_536_000, 500_000_000_000] {
            let mut list = ServedList::default();
            list.add((1, 7), 5, true, Repeat::Echo, begin_ms);
            for (later_ms, found) in
                [(0, true), (EXCHANGE_LIFETIME_MS - 1_000, true), (EXCHANGE_LIFETIME_MS + 1_000, false)]
            {
                let repeat = list.find(1, 7, 5, begin_ms + later_ms);
                assert_eq!(repeat.is_some(), found, "{begin_ms} and {later_ms}");
            }
            list.expire(begin_ms + EXCHANGE_LIFETIME_MS - 1_000);
            assert!(!list.is_empty());
            list.expire(begin_ms + EXCHANGE_LIFETIME_MS + 1_000);
            assert!(list.is_empty());
        }
    }
}
