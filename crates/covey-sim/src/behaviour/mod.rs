//! How a simulated device behaves: its latency and its faults. What happens to
//! a call follows from the seed, the device's SN and the number of the call, so
//! that a run can be repeated.

pub(crate) mod events;
mod latency;
pub mod methods;
mod offline;

use std::time::Duration;

use crate::quantity::Rate;
use crate::seed::SplitMix64;

pub use events::{Burst, EventBehaviour, Sensor};
pub use latency::Latency;
pub use offline::OfflinePattern;
pub(crate) use offline::Stretch;

/// How the devices of a simulation behave. The default is a device without
/// latency and without faults, to which calls are pushed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behaviour {
    /// How long a device works on a call.
    pub latency: Latency,
    /// How often it answers 500 instead of working.
    pub failure_rate: Rate,
    /// How often it sends its result twice.
    pub duplicate_rate: Rate,
    /// How often it takes a task and never answers.
    pub drop_rate: Rate,
    /// When it is not connected.
    pub offline: Option<OfflinePattern>,
    /// How often it asks for tasks; `None`: they are announced to it.
    pub poll: Option<Duration>,
    /// What it tells unasked.
    pub events: EventBehaviour,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// How long the device works on it.
    pub latency: Duration,
    /// Whether it answers 500.
    pub fails: bool,
    /// Whether it sends the result twice.
    pub is_duplicated: bool,
    /// Whether it never answers.
    pub is_dropped: bool,
}

/// The fates of one device's calls and events.
#[derive(Clone, Debug)]
pub(crate) struct Fates {
    calls: SplitMix64,
    events: SplitMix64,
}

impl Fates {
    pub(crate) fn new(seed: u64, sn: &str) -> Self {
        let calls = SplitMix64::named(seed, sn);
        let events = SplitMix64::named(seed, &format!("{sn} events"));
        Self { calls, events }
    }

    /// Where chance comes from for the device's events.
    pub(crate) fn events(&self) -> &SplitMix64 {
        &self.events
    }

    /// The fate of the `number`th call since the device was simulated.
    pub(crate) fn of(&self, behaviour: &Behaviour, number: u64) -> Fate {
        // Every quantity is drawn, also where its rate is 0: turning one fault on leaves the
        // others where they were.
        let mut random = self.calls.fork(number);
        Fate {
            latency: behaviour.latency.at(random.next_unit()),
            fails: behaviour.failure_rate.hits(random.next_unit()),
            is_duplicated: behaviour.duplicate_rate.hits(random.next_unit()),
            is_dropped: behaviour.drop_rate.hits(random.next_unit()),
        }
    }

    /// Where in the pattern of being offline the device begins, from 0 to 1.
    pub(crate) fn phase(&self) -> f64 {
        self.calls.fork(u64::MAX).next_unit()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn behaviour() -> Behaviour {
        Behaviour {
            latency: "5ms..50ms".parse().unwrap(),
            failure_rate: "0.2".parse().unwrap(),
            duplicate_rate: "0.1".parse().unwrap(),
            drop_rate: "0.05".parse().unwrap(),
            ..Behaviour::default()
        }
    }

    fn fates(seed: u64, sn: &str, behaviour: &Behaviour) -> Vec<Fate> {
        let fates = Fates::new(seed, sn);
        (0..2_000).map(|number| fates.of(behaviour, number)).collect()
    }

    #[test]
    fn a_seed_repeats_a_run_and_devices_differ() {
        let behaviour = behaviour();
        assert_eq!(fates(1, "sim-00001", &behaviour), fates(1, "sim-00001", &behaviour));
        assert_ne!(fates(1, "sim-00001", &behaviour), fates(1, "sim-00002", &behaviour));
        assert_ne!(fates(1, "sim-00001", &behaviour), fates(2, "sim-00001", &behaviour));
    }

    #[test]
    fn faults_come_as_often_as_asked_for_and_independently() {
        let behaviour = behaviour();
        let fates = fates(7, "sim-00001", &behaviour);
        let count = |hit: fn(&Fate) -> bool| fates.iter().filter(|fate| hit(fate)).count();
        assert!((340..460).contains(&count(|fate| fate.fails)));
        assert!((150..250).contains(&count(|fate| fate.is_duplicated)));
        assert!((65..135).contains(&count(|fate| fate.is_dropped)));
        let in_range =
            |fate: &&Fate| (Duration::from_millis(5)..=Duration::from_millis(50)).contains(&fate.latency);
        assert_eq!(fates.iter().filter(in_range).count(), fates.len());
    }

    #[test]
    fn one_more_fault_leaves_the_others_where_they_were() {
        let without = Behaviour { drop_rate: Rate::NEVER, ..behaviour() };
        let [with, without] = [behaviour(), without].map(|behaviour| fates(3, "sim-00009", &behaviour));
        assert!(with.iter().zip(&without).all(|(with, without)| {
            (with.latency, with.fails, with.is_duplicated)
                == (without.latency, without.fails, without.is_duplicated)
        }));
    }

    #[test]
    fn a_device_without_faults_has_none() {
        let nothing = Fate { latency: Duration::ZERO, fails: false, is_duplicated: false, is_dropped: false };
        assert!(fates(9, "sim-00001", &Behaviour::default()).iter().all(|fate| *fate == nothing));
    }
}
