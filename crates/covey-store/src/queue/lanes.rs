//! Lanes of reads: each has readers of its own, and a queue of its own that is fair to organisations.

use covey_core::port::{Lane, Turn};

use crate::queue::{Bounds, Turns};

/// How many lanes there are.
pub(crate) const LANES: usize = Lane::ALL.len();

/// How many reads at a time a lane has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readers {
    /// For [`Lane::Point`].
    pub points: usize,
    /// For [`Lane::Page`].
    pub pages: usize,
    /// For [`Lane::Scan`]; half of them at most for one organisation.
    pub scans: usize,
}

impl Readers {
    pub(crate) fn of(self, lane: Lane) -> usize {
        let readers = match lane {
            Lane::Point => self.points,
            Lane::Page => self.pages,
            Lane::Scan => self.scans,
        };
        readers.max(1)
    }
}

/// What waits in a lane, and what is under way.
pub(crate) struct LaneQueue<T> {
    waiting: Turns<T>,
    under_way: Vec<Turn>,
    readers: usize,
    of_one_turn_max: usize,
}

impl<T> LaneQueue<T> {
    /// An empty one, in which so many may wait.
    pub(crate) fn new(lane: Lane, readers: Readers, rows_max: usize) -> Self {
        let bounds = Bounds { rows_max: rows_max.max(2), bytes_max: usize::MAX };
        let readers = readers.of(lane);
        let of_one_turn_max = if lane == Lane::Scan { readers.div_ceil(2) } else { readers };
        Self { waiting: Turns::new(bounds, bounds), under_way: Vec::new(), readers, of_one_turn_max }
    }

    /// Puts one at the end of its line; gives it back where there is no room.
    pub(crate) fn put(&mut self, turn: Turn, what: T) -> Result<(), T> {
        self.waiting.put(turn, 0, what)
    }

    /// Begins the next one, if a reader is free for it. It is under way until [`end`](Self::end).
    pub(crate) fn begin(&mut self) -> Option<(Turn, T)> {
        if self.under_way.len() >= self.readers {
            return None;
        }
        let of_turn = |turn| self.under_way.iter().filter(|other| **other == turn).count();
        let begun = self.waiting.take_where(|turn| of_turn(turn) < self.of_one_turn_max)?;
        self.under_way.push(begun.0);
        Some(begun)
    }

    /// One of this turn has ended.
    pub(crate) fn end(&mut self, turn: Turn) {
        if let Some(at) = self.under_way.iter().position(|other| *other == turn) {
            self.under_way.swap_remove(at);
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes all that wait, in no order of turns.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.waiting.take_all()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::id::OrgId;
    use proptest::prelude::*;

    use super::*;

    const READERS: Readers = Readers { points: 2, pages: 1, scans: 4 };

    proptest! {
        #[test]
        fn no_organisation_has_more_than_half_of_the_scans_and_none_waits_beside_a_free_reader(
            steps in prop::collection::vec(prop_oneof![(0..4_i64).prop_map(Some), Just(None)], 0..200)
        ) {
            let mut lane = LaneQueue::new(Lane::Scan, READERS, 1_000);
            let (mut waiting, mut under_way) = (Vec::new(), Vec::new());
            for (number, step) in (0..).zip(steps) {
                match step {
                    Some(org) => {
                        lane.put(Turn::Org(OrgId(org)), number).unwrap();
                        waiting.push((Turn::Org(OrgId(org)), number));
                    }
                    None if under_way.is_empty() => {}
                    None => lane.end(under_way.remove(0)),
                }
                while let Some((turn, number)) = lane.begin() {
                    let first = waiting.iter().position(|(other, _)| *other == turn).unwrap();
                    prop_assert_eq!(waiting.remove(first), (turn, number));
                    under_way.push(turn);
                }
                let of = |turn| under_way.iter().filter(|other| **other == turn).count();
                prop_assert!(under_way.len() <= 4);
                prop_assert!(under_way.iter().all(|turn| of(*turn) <= 2));
                let may_begin = |turn| under_way.len() < 4 && of(turn) < 2;
                prop_assert!(!waiting.iter().any(|(turn, _)| may_begin(*turn)));
                prop_assert_eq!(lane.len(), waiting.len());
            }
        }
    }

    #[test]
    fn each_lane_has_a_reader() {
        let none = Readers { points: 0, pages: 0, scans: 0 };
        assert!(Lane::ALL.into_iter().all(|lane| none.of(lane) == 1));
    }
}
