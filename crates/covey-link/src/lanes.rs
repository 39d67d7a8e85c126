//! The order of what one device sends, kept while many messages are under way.
//!
//! Messages of a device are in one lane, where each is handed to the store
//! after the one before it; all else, above all the commit, they do side by side.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use covey_core::id::Sn;
use tokio::sync::oneshot;

/// How many lanes there are. Devices that share one wait for each other's
/// look-ups and nothing else.
const LANES: usize = 256;

/// The lanes of all devices.
pub(crate) struct Lanes([Mutex<Option<oneshot::Receiver<()>>>; LANES]);

/// A place in a lane. Whoever comes next waits until it is dropped.
pub(crate) struct Turn {
    /// Ends when the one before has had its turn, or is given up.
    before: Option<oneshot::Receiver<()>>,
    _until_dropped: oneshot::Sender<()>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Lanes {
    /// Takes the next place in the lane of a device, in the order of the calls.
    pub(crate) fn queue(&self, sn: &Sn) -> Turn {
        let mut hasher = DefaultHasher::new();
        sn.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % LANES as u64).unwrap_or(0);
        let (until_dropped, after) = oneshot::channel();
        let before = self.0.get(place).and_then(|lane| {
            // What it guards is whole at every moment.
            lane.lock().unwrap_or_else(PoisonError::into_inner).replace(after)
        });
        Turn { before, _until_dropped: until_dropped }
    }
}

impl Turn {
    /// Waits until it is this one's turn.
    pub(crate) async fn come(&mut self) {
        if let Some(before) = self.before.take() {
            // It is never told anything; its end is what is waited for.
            let _ = before.await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_has_its_turn_after_the_one_before() {
        let (lanes, sn) = (Lanes::default(), Sn::parse("dev1").unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut running = Vec::new();
        for number in 0..500_u64 {
            let (mut turn, seen) = (lanes.queue(&sn), Arc::clone(&seen));
            running.push(tokio::spawn(async move {
                turn.come().await;
                // Those that look something up, as it were, do not fall behind.
                if number.is_multiple_of(7) {
                    tokio::time::sleep(Duration::from_micros(100)).await;
                }
                if number.is_multiple_of(11) {
                    return; // Given up.
                }
                seen.lock().unwrap().push(number);
            }));
        }
        for one in running {
            one.await.unwrap();
        }
        let wanted: Vec<_> = (0..500).filter(|number: &u64| !number.is_multiple_of(11)).collect();
        assert_eq!(*seen.lock().unwrap(), wanted);
    }
}
