//! Keeps the order of what one device sends while many messages are under way.
//!
//! Each message takes a ticket when it arrives. It waits until the message before it was handed
//! to the store; everything after that, above all the commit, runs side by side.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use covey_core::id::Sn;
use futures_util::poll;
use tokio::sync::oneshot;

/// Number of queues. Devices that share one wait for each other's look-ups and nothing else.
const QUEUES: usize = 256;

/// Hands out tickets to all devices.
pub(crate) struct Sequencer([Mutex<Option<oneshot::Receiver<()>>>; QUEUES]);

/// A place in a queue. The next one's turn comes when this is dropped.
pub(crate) struct Ticket {
    /// Ends when the ticket before is dropped.
    before: Option<oneshot::Receiver<()>>,
    _until_dropped: oneshot::Sender<()>,
}

impl Default for Sequencer {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Sequencer {
    /// Takes the next ticket of a device, in the order of the calls.
    pub(crate) fn ticket(&self, sn: &Sn) -> Ticket {
        let (until_dropped, after) = oneshot::channel();
        let before = self.0.get(place_of(sn, QUEUES)).and_then(|queue| {
            // What it guards is whole at every moment.
            queue.lock().unwrap_or_else(PoisonError::into_inner).replace(after)
        });
        Ticket { before, _until_dropped: until_dropped }
    }
}

/// Which of so many places a device has: always the same.
pub(crate) fn place_of(sn: &Sn, places: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    sn.hash(&mut hasher);
    usize::try_from(hasher.finish() % places as u64).unwrap_or(0)
}

impl Ticket {
    /// Waits for its turn.
    pub(crate) async fn turn(&mut self) {
        if let Some(before) = self.before.take() {
            // Nothing is ever sent; the sender's end is the signal.
            let _ = before.await;
        }
    }

    /// Polls `work` once, which hands it to the store; then the next message's turn comes while
    /// `work` goes on. Without a ticket, `work` is in nobody's order.
    pub(crate) async fn run<F: Future>(ticket: Option<Self>, work: F) -> F::Output {
        let mut work = pin!(work);
        if let Poll::Ready(output) = poll!(&mut work) {
            return output;
        }
        drop(ticket);
        work.await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn messages_of_a_device_begin_in_the_order_of_their_tickets() {
        let (sequencer, sn) = (Sequencer::default(), Sn::parse("dev1").unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut running = Vec::new();
        for number in 0..500_u64 {
            let (mut ticket, seen) = (sequencer.ticket(&sn), Arc::clone(&seen));
            running.push(tokio::spawn(async move {
                ticket.turn().await;
                // A look-up takes time.
                if number.is_multiple_of(7) {
                    tokio::time::sleep(Duration::from_micros(100)).await;
                }
                if number.is_multiple_of(11) {
                    return; // Given up.
                }
                let work = async {
                    seen.lock().unwrap().push(number);
                    tokio::task::yield_now().await;
                };
                Ticket::run(Some(ticket), work).await;
            }));
        }
        for one in running {
            one.await.unwrap();
        }
        let wanted: Vec<_> = (0..500).filter(|number: &u64| !number.is_multiple_of(11)).collect();
        assert_eq!(*seen.lock().unwrap(), wanted);
    }

    #[tokio::test]
    async fn the_next_turn_comes_while_the_work_before_still_waits() {
        let (sequencer, sn) = (Sequencer::default(), Sn::parse("dev1").unwrap());
        let (first, mut second) = (sequencer.ticket(&sn), sequencer.ticket(&sn));
        let (commit, committed) = oneshot::channel::<()>();
        let waiting = tokio::spawn(Ticket::run(Some(first), committed));
        second.turn().await;
        commit.send(()).unwrap();
        waiting.await.unwrap().unwrap();
    }
}
