//! The texts that wait for the network as whole messages of a WebSocket, which
//! cannot be taken back once their sending has begun: bounded together. When too
//! many wait, those that have not left for a while are given up, the largest
//! first. A reader that goes on loses nothing by what others leave lying.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// How many bytes of messages that are made for streams may wait for the network.
/// Limit for the server: further streams wait.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a message may wait that others would have to make room for.
const WAIT: Duration = Duration::from_millis(500);

/// The messages that wait.
#[derive(Default)]
pub(super) struct OnTheirWay(Mutex<Messages>);

#[derive(Default)]
struct Messages {
    bytes: usize,
    next: u64,
    by_number: BTreeMap<u64, Message>,
}

struct Message {
    bytes: usize,
    since: Instant,
    cut: CancellationToken,
}

/// A message, until it has left.
pub(super) struct OnItsWay<'a> {
    all: &'a OnTheirWay,
    number: u64,
}

impl OnTheirWay {
    /// A message of this size begins to be sent; `cut` ends that if its place is needed.
    pub(super) fn begin(&self, bytes: usize, cut: &CancellationToken) -> OnItsWay<'_> {
        let now = Instant::now();
        let mut messages = self.lock();
        messages.bytes += bytes;
        let number = messages.next;
        messages.next += 1;
        messages.make_room(BYTES_MAX, now);
        messages.by_number.insert(number, Message { bytes, since: now, cut: cut.clone() });
        OnItsWay { all: self, number }
    }

    fn lock(&self) -> MutexGuard<'_, Messages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Messages {
    fn make_room(&mut self, bytes_max: usize, now: Instant) {
        while self.bytes > bytes_max {
            let waiting = self.by_number.iter().filter(|(_, message)| now - message.since >= WAIT);
            let Some((&largest, _)) = waiting.max_by_key(|(_, message)| message.bytes) else { return };
            self.remove(largest);
        }
    }

    fn remove(&mut self, number: u64) {
        if let Some(message) = self.by_number.remove(&number) {
            self.bytes -= message.bytes;
            message.cut.cancel();
        }
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_has_waited_makes_room() {
        let (mut messages, began) = (Messages::default(), Instant::now());
        let cuts: Vec<_> = [3, 5, 4].map(|bytes| (bytes, CancellationToken::new())).into();
        for (number, (bytes, cut)) in (0..).zip(&cuts) {
            messages.by_number.insert(number, Message { bytes: *bytes, since: began, cut: cut.clone() });
            messages.bytes += bytes;
        }
        let are_cut = || cuts.iter().map(|(_, cut)| cut.is_cancelled()).collect::<Vec<_>>();
        messages.make_room(7, began + WAIT / 2);
        assert_eq!((messages.bytes, are_cut()), (12, vec![false, false, false]), "nothing has waited long");
        messages.make_room(7, began + WAIT);
        assert_eq!((messages.bytes, are_cut()), (7, vec![false, true, false]));
        messages.make_room(6, began + WAIT);
        assert_eq!((messages.bytes, are_cut()), (3, vec![false, true, true]));
    }
}
