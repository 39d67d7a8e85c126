//! The budgets of all peers of a kind.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::budget::Allowance;
use crate::budget::bucket::{Flows, Meter};
use crate::budget::weight::Weight;

/// In how many parts they are kept, so that those who ask at the same time seldom wait for each other.
const PARTS: usize = 16;
/// How many peers of a part are remembered before those that have been silent are forgotten.
const REMEMBERED: usize = 256;

/// The budgets of all peers of a kind, by their numbers. One that is full says nothing and is forgotten.
pub(crate) struct Meters {
    flows: Flows,
    parts: [Mutex<Part>; PARTS],
}

#[derive(Default)]
struct Part {
    by_peer: HashMap<i64, Meter>,
    swept_at: usize,
}

impl Part {
    fn meter(&mut self, peer: i64, now: u64) -> &mut Meter {
        if self.by_peer.len() >= self.swept_at.max(REMEMBERED) {
            self.by_peer.retain(|_, meter| !meter.is_full(now));
            // Sweeping again is worth it once as many have come as have stayed.
            self.swept_at = self.by_peer.len() * 2;
        }
        self.by_peer.entry(peer).or_default()
    }
}

impl Meters {
    /// Full budgets for all.
    pub(crate) fn new(allowance: &Allowance) -> Self {
        Self { flows: Flows::new(allowance), parts: Default::default() }
    }

    /// Takes a weight, if anything is left.
    ///
    /// # Errors
    /// In how many microseconds there is something again.
    pub(crate) fn charge(&self, peer: i64, weight: Weight, now_us: u64) -> Result<(), u64> {
        if self.flows.is_none() {
            return Ok(());
        }
        let now = nanoseconds(now_us);
        let charged = self.part(peer).meter(peer, now).charge(&self.flows, weight, now);
        charged.map_err(|wait| wait.div_ceil(1_000))
    }

    /// Takes a weight, whether or not anything is left.
    pub(crate) fn add(&self, peer: i64, weight: Weight, now_us: u64) {
        if !self.flows.is_none() {
            let now = nanoseconds(now_us);
            self.part(peer).meter(peer, now).add(&self.flows, weight, now);
        }
    }

    /// Gives a weight back that was taken for nothing.
    pub(crate) fn give_back(&self, peer: i64, weight: Weight) {
        if let Some(meter) = self.part(peer).by_peer.get_mut(&peer) {
            meter.give_back(&self.flows, weight);
        }
    }

    /// For how many microseconds nothing should come of a peer.
    pub(crate) fn hold_us(&self, peer: i64, now_us: u64) -> u64 {
        self.of(peer, |meter| meter.hold(&self.flows, nanoseconds(now_us)))
    }

    /// For how many microseconds nothing should come of a peer that cannot be refused.
    pub(crate) fn lack_us(&self, peer: i64, now_us: u64) -> u64 {
        self.of(peer, |meter| meter.lack_to_bear(&self.flows, nanoseconds(now_us)))
    }

    fn of(&self, peer: i64, span: impl FnOnce(&Meter) -> u64) -> u64 {
        if self.flows.is_none() {
            return 0;
        }
        self.part(peer).by_peer.get(&peer).map_or(0, span).div_ceil(1_000)
    }

    fn part(&self, peer: i64) -> MutexGuard<'_, Part> {
        // Numbers are given one after the other.
        let place = usize::try_from(peer.unsigned_abs() % PARTS as u64).unwrap_or(0);
        // What it guards is whole at every moment.
        self.parts[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanoseconds(us: u64) -> u64 {
    us.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Rate;

    #[test]
    fn peers_that_were_silent_are_forgotten_and_each_has_a_budget_of_its_own() {
        let units = Rate { per_second: 10, burst: 10 };
        let meters = Meters::new(&Allowance { units, bytes: Rate::NONE, bytes_a_day: 0 });
        let weight = Weight::event(0, 9);
        for peer in 0..10_000_i64 {
            // Each has its budget full again before the next comes.
            let now_us = peer.unsigned_abs() * 1_000_000;
            assert_eq!(meters.charge(peer, weight, now_us), Ok(()));
            assert!(meters.charge(peer, weight, now_us).is_err());
        }
        let remembered: usize = (0..16).map(|peer| meters.part(peer).by_peer.len()).sum();
        assert!(remembered <= PARTS * REMEMBERED, "{remembered}");
    }

    #[test]
    fn without_bounds_nothing_is_remembered() {
        let meters = Meters::new(&crate::budget::Budgets::unbounded().device);
        for _ in 0..10_000 {
            assert_eq!(meters.charge(1, Weight::event(1 << 40, 300), 7), Ok(()));
        }
        assert_eq!((meters.part(1).by_peer.len(), meters.hold_us(1, 7)), (0, 0));
    }
}
