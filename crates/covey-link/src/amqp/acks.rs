//! Acknowledgements of what was done, many in one frame.
//!
//! A quorum queue writes each acknowledgement to its log and flushes it, which
//! messages on their way then wait for. Nothing waits for an acknowledgement, so
//! they are gathered for a moment. A server that dies in that moment gets those
//! messages again, and does them again to the same effect.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::Notify;

use crate::amqp::AmqpError;

/// The code of a channel that is closed in good order (AMQP 0-9-1 §1.2).
const REPLY_SUCCESS: u16 = 200;
/// For how long acknowledgements are gathered.
const PAUSE: Duration = Duration::from_millis(50);
/// How many make that shorter: a quarter of what a channel may have taken.
const READY_MAX: usize = 64;
/// How long one waits for those before it, so as to be told with them.
const PATIENCE: Duration = Duration::from_millis(500);

/// The acknowledgements of one channel.
pub(super) struct Acks {
    channel: Channel,
    settled: Mutex<Settled>,
    is_due: Notify,
}

/// The tags of a channel, which are consecutive (AMQP 0-9-1, `delivery-tag`).
#[derive(Default)]
struct Settled {
    /// All up to this one are acknowledged.
    told: u64,
    /// Those above it that are done since an instant, or told by themselves.
    above: BTreeMap<u64, Option<Instant>>,
}

/// What is to be told: all up to a tag, which must not have been told before,
/// and some tags by themselves.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    up_to: Option<u64>,
    alone: Vec<u64>,
}

impl Settled {
    /// Takes out what is to be told now.
    fn due(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        while let Some(first) = self.above.first_entry().filter(|first| *first.key() == self.told + 1) {
            self.told += 1;
            if first.remove().is_some() {
                due.up_to = Some(self.told);
            }
        }
        // One that takes long must not keep the others.
        for (tag, done_at) in &mut self.above {
            if done_at.is_some_and(|at| now.duration_since(at) >= PATIENCE) {
                *done_at = None;
                due.alone.push(*tag);
            }
        }
        due
    }
}

impl Acks {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, settled: Mutex::default(), is_due: Notify::new() }
    }

    /// A message is done with.
    pub(super) fn done(&self, tag: u64) {
        if self.settle(tag, Some(Instant::now())) >= READY_MAX {
            self.is_due.notify_one();
        }
    }

    /// A message is to come again, at once.
    pub(super) async fn again(&self, tag: u64) {
        let options = BasicNackOptions { requeue: true, multiple: false };
        // A channel that is gone gives back everything.
        let _ = self.channel.basic_nack(tag, options).await;
        self.settle(tag, None);
    }

    /// Answers how many wait to be told.
    fn settle(&self, tag: u64, done_at: Option<Instant>) -> usize {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.above.insert(tag, done_at);
        settled.above.len()
    }

    /// Tells until the channel is gone.
    pub(super) async fn run(&self) -> Result<(), AmqpError> {
        loop {
            // Either the moment is over, or there are many.
            let _ = tokio::time::timeout(PAUSE, self.is_due.notified()).await;
            self.tell().await?;
        }
    }

    /// Tells what is left, and closes the channel.
    pub(super) async fn close(&self) -> Result<(), AmqpError> {
        self.tell().await?;
        Ok(self.channel.close(REPLY_SUCCESS, "no more messages are taken".into()).await?)
    }

    /// Tells what can be told.
    async fn tell(&self) -> Result<(), lapin::Error> {
        let due = self.settled.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now());
        if let Some(tag) = due.up_to {
            self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
        for tag in due.alone {
            self.channel.basic_ack(tag, BasicAckOptions::default()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_tag_is_told_once_and_as_the_broker_wants_it(
            // By tag: when it ends, and whether it is given back.
            ends in proptest::collection::vec((0..2_000_u64, proptest::bool::weighted(0.1)), 1..200),
            looks in proptest::collection::vec(0..3_000_u64, 0..40),
        ) {
            let begun = Instant::now();
            let at = |ms: u64| begun + Duration::from_millis(ms);
            let mut events: Vec<(u64, Option<(u64, bool)>)> =
                ends.iter().zip(1..).map(|((ms, back), tag)| (*ms, Some((tag, *back)))).collect();
            events.extend(looks.into_iter().chain([5_000, 5_000]).map(|ms| (ms, None)));
            events.sort_unstable();
            let mut settled = Settled::default();
            // What the broker still holds as delivered.
            let mut held: BTreeSet<u64> = (1..=ends.len() as u64).collect();
            let mut done = BTreeSet::new();
            for (ms, event) in events {
                if let Some((tag, is_given_back)) = event {
                    settled.above.insert(tag, (!is_given_back).then(|| at(ms)));
                    if is_given_back {
                        prop_assert!(held.remove(&tag));
                    } else {
                        done.insert(tag);
                    }
                    continue;
                }
                let due = settled.due(at(ms));
                if let Some(up_to) = due.up_to {
                    prop_assert!(held.contains(&up_to), "RabbitMQ closes the channel for an unknown tag");
                    let told: Vec<u64> = held.range(..=up_to).copied().collect();
                    for tag in told {
                        prop_assert!(done.contains(&tag), "{tag} was not done");
                        held.remove(&tag);
                    }
                }
                for tag in due.alone {
                    prop_assert!(done.contains(&tag) && held.remove(&tag));
                }
            }
            prop_assert!(held.is_empty(), "{held:?} were never told");
            prop_assert!(settled.above.is_empty());
        }
    }
}
