//! The budgets of all peers of a kind.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Somebody has an allowance of its own.
    is_any_own: AtomicBool,
    parts: [Mutex<Part>; PARTS],
}

#[derive(Default)]
struct Part {
    by_peer: HashMap<i64, Meter>,
    /// What some may ask in place of what all may.
    own: HashMap<i64, Flows>,
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

    fn flows(&self, peer: i64, of_all: &Flows) -> Flows {
        self.own.get(&peer).copied().unwrap_or(*of_all)
    }
}

impl Meters {
    /// Full budgets for all.
    pub(crate) fn new(allowance: &Allowance) -> Self {
        Self { flows: Flows::new(allowance), is_any_own: AtomicBool::new(false), parts: Default::default() }
    }

    /// Takes a weight, if anything is left.
    ///
    /// # Errors
    /// In how many microseconds there is something again.
    pub(crate) fn charge(&self, peer: i64, weight: Weight, now_us: u64) -> Result<(), u64> {
        if self.is_nothing_bound() {
            return Ok(());
        }
        let now = nanoseconds(now_us);
        let mut part = self.part(peer);
        let flows = part.flows(peer, &self.flows);
        let charged = part.meter(peer, now).charge(&flows, weight, now);
        charged.map_err(|wait| wait.div_ceil(1_000))
    }

    /// Takes a weight, whether or not anything is left.
    pub(crate) fn add(&self, peer: i64, weight: Weight, now_us: u64) {
        if !self.is_nothing_bound() {
            let now = nanoseconds(now_us);
            let mut part = self.part(peer);
            let flows = part.flows(peer, &self.flows);
            part.meter(peer, now).add(&flows, weight, now);
        }
    }

    /// Gives a weight back that was taken for nothing.
    pub(crate) fn give_back(&self, peer: i64, weight: Weight) {
        let mut part = self.part(peer);
        let flows = part.flows(peer, &self.flows);
        if let Some(meter) = part.by_peer.get_mut(&peer) {
            meter.give_back(&flows, weight);
        }
    }

    /// For how many microseconds nothing should come of a peer.
    pub(crate) fn hold_us(&self, peer: i64, now_us: u64) -> u64 {
        self.of(peer, |meter, flows| meter.hold(flows, nanoseconds(now_us)))
    }

    /// For how many microseconds nothing should come of a peer that cannot be refused.
    pub(crate) fn lack_us(&self, peer: i64, now_us: u64) -> u64 {
        self.of(peer, |meter, flows| meter.lack_to_bear(flows, nanoseconds(now_us)))
    }

    fn of(&self, peer: i64, span: impl FnOnce(&Meter, &Flows) -> u64) -> u64 {
        if self.is_nothing_bound() {
            return 0;
        }
        let part = self.part(peer);
        let flows = part.flows(peer, &self.flows);
        part.by_peer.get(&peer).map_or(0, |meter| span(meter, &flows)).div_ceil(1_000)
    }

    fn is_nothing_bound(&self) -> bool {
        self.flows.is_none() && !self.is_any_own.load(Ordering::Relaxed)
    }

    /// Who may ask something else than all may: peers with how much work and how many bytes a second, each for all others
    /// as it stands where there is none. What was asked before counts on.
    pub(crate) fn set_own(&self, of_all: &Allowance, own: &[(i64, Option<u64>, Option<u64>)]) {
        let mut by_part: [HashMap<i64, Flows>; PARTS] = Default::default();
        for (peer, units, bytes) in own {
            by_part[place(*peer)].insert(*peer, Flows::new(&of_all.with_rates(*units, *bytes)));
        }
        for (part, own) in self.parts.iter().zip(by_part) {
            part.lock().unwrap_or_else(PoisonError::into_inner).own = own;
        }
        self.is_any_own.store(!own.is_empty(), Ordering::Relaxed);
    }

    fn part(&self, peer: i64) -> MutexGuard<'_, Part> {
        // What it guards is whole at every moment.
        self.parts[place(peer)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of a peer. Numbers are given one after the other.
fn place(peer: i64) -> usize {
    usize::try_from(peer.unsigned_abs() % PARTS as u64).unwrap_or(0)
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
    fn who_has_an_allowance_of_its_own_has_that_and_nobody_else_does() {
        let units = Rate { per_second: 10, burst: 10 };
        let allowance = Allowance { units, bytes: Rate::NONE, bytes_a_day: 0 };
        for (of_all, others) in [(allowance, 10), (crate::budget::Budgets::unbounded().key, 1_000)] {
            let meters = Meters::new(&of_all);
            let taken = |peer, now_us| {
                let charge = |_: &u32| meters.charge(peer, Weight::event(0, 0), now_us).is_ok();
                (0..1_000_u32).filter(charge).count()
            };
            meters.set_own(&of_all, &[(1, Some(4), None), (17, Some(50), None)]);
            // Ten seconds' worth at once.
            assert_eq!([1, 17, 2].map(|peer| taken(peer, 7)), [40, 500, others]);
            meters.set_own(&of_all, &[]);
            assert_eq!(taken(1, 2_000_000_007), others);
        }
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
