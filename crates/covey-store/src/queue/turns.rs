//! What waits, by whose turn it is: a fair order in bounded memory.
//!
//! Each turn has a line in which order is kept. The lines go round: each gives one, or sits out as many
//! rounds as its last one cost (deficit round robin, Shreedhar and Varghese 1995). A line may be as long as
//! what is still free (dynamic thresholds, Choudhury and Hahne 1998): one flooder alone gets half of the
//! room, two get a third each, and room is always left for those who have little waiting.

use std::collections::{HashMap, VecDeque};

use covey_core::port::Turn;

/// What more of its bytes costs a job a further round, in bytes.
const BYTES_A_ROUND: usize = 1_024;
/// How much room a line that is empty keeps, in entries.
const ROOM_KEPT: usize = 1_024;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// How many.
    pub(crate) rows_max: usize,
    /// How many bytes they may hold.
    pub(crate) bytes_max: usize,
}

/// What waits of several lines together.
#[derive(Debug)]
struct Room {
    bounds: Bounds,
    rows: usize,
    bytes: usize,
}

impl Room {
    const fn new(bounds: Bounds) -> Self {
        Self { bounds, rows: 0, bytes: 0 }
    }

    /// Whether a line that has so much waiting may have one more.
    fn has_place(&self, rows: usize, bytes: usize, more_bytes: usize) -> bool {
        rows < self.bounds.rows_max.saturating_sub(self.rows)
            && bytes + more_bytes <= self.bounds.bytes_max.saturating_sub(self.bytes)
    }
}

/// One that waits.
struct Entry<T> {
    what: T,
    bytes: usize,
}

/// Those who wait for the same turn.
struct Line<T> {
    turn: Turn,
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    /// How many rounds it sits out.
    sits_out: usize,
}

/// What waits, in the order in which it will be taken.
pub(crate) struct Turns<T> {
    /// Those in use, and those of `free`.
    lines: Vec<Line<T>>,
    free: Vec<usize>,
    places: HashMap<Turn, usize>,
    /// The lines in which something waits.
    ring: VecDeque<usize>,
    /// Of turns that have no room of their own.
    shared: Room,
    /// Of turns for which room is kept.
    reserved: Room,
}

impl<T> Turns<T> {
    pub(crate) fn new(shared: Bounds, reserved: Bounds) -> Self {
        Self {
            lines: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            ring: VecDeque::new(),
            shared: Room::new(shared),
            reserved: Room::new(reserved),
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.shared.rows + self.reserved.rows
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Puts one at the end of its line; gives it back where there is no room.
    pub(crate) fn put(&mut self, turn: Turn, bytes: usize, what: T) -> Result<(), T> {
        let place = self.places.get(&turn).copied();
        let (rows, waiting) =
            place.map_or((0, 0), |place| (self.lines[place].entries.len(), self.lines[place].bytes));
        let room = if turn.is_reserved() { &mut self.reserved } else { &mut self.shared };
        if !room.has_place(rows, waiting, bytes) {
            return Err(what);
        }
        room.rows += 1;
        room.bytes += bytes;
        let place = place.unwrap_or_else(|| self.open(turn));
        let line = &mut self.lines[place];
        line.entries.push_back(Entry { what, bytes });
        line.bytes += bytes;
        Ok(())
    }

    /// A new line, at the end of the ring.
    fn open(&mut self, turn: Turn) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.lines.push(Line { turn, entries: VecDeque::new(), bytes: 0, sits_out: 0 });
            self.lines.len() - 1
        });
        self.lines[place].turn = turn;
        self.places.insert(turn, place);
        self.ring.push_back(place);
        place
    }

    /// Takes the next one, with its bytes.
    pub(crate) fn take(&mut self) -> Option<(T, usize)> {
        let place = self.next_place()?;
        self.take_from(place)
    }

    /// Takes the next one whose turn may go on now. Where this is used nobody sits out.
    pub(crate) fn take_where(&mut self, may_go_on: impl Fn(Turn) -> bool) -> Option<(Turn, T)> {
        let at = self.ring.iter().position(|place| may_go_on(self.lines[*place].turn))?;
        let place = self.ring.remove(at)?;
        let turn = self.lines[place].turn;
        self.take_from(place).map(|(what, _)| (turn, what))
    }

    /// Takes the first of a line that is not in the ring now.
    fn take_from(&mut self, place: usize) -> Option<(T, usize)> {
        let line = &mut self.lines[place];
        let entry = line.entries.pop_front()?;
        line.bytes -= entry.bytes;
        line.sits_out = entry.bytes / BYTES_A_ROUND;
        let room = if line.turn.is_reserved() { &mut self.reserved } else { &mut self.shared };
        room.rows -= 1;
        room.bytes -= entry.bytes;
        if line.entries.is_empty() {
            line.sits_out = 0;
            line.entries.shrink_to(ROOM_KEPT);
            self.places.remove(&line.turn);
            self.free.push(place);
        } else {
            self.ring.push_back(place);
        }
        Some((entry.what, entry.bytes))
    }

    /// The line whose turn it is, taken out of the ring.
    fn next_place(&mut self) -> Option<usize> {
        let mut passed = 0;
        loop {
            let place = self.ring.pop_front()?;
            // Alone it waits for nobody.
            if self.lines[place].sits_out == 0 || self.ring.is_empty() {
                return Some(place);
            }
            self.lines[place].sits_out -= 1;
            self.ring.push_back(place);
            passed += 1;
            if passed == self.ring.len() {
                passed = 0;
                // All sit out: as many rounds as the first who need not any more.
                let rounds = self.ring.iter().map(|place| self.lines[*place].sits_out).min().unwrap_or(0);
                for place in &self.ring {
                    self.lines[*place].sits_out -= rounds;
                }
            }
        }
    }

    /// Takes all, in no order of turns.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        let mut all = Vec::with_capacity(self.len());
        while let Some((what, _)) = self.take() {
            all.push(what);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::id::OrgId;
    use proptest::prelude::*;

    use super::*;

    const SHARED: Bounds = Bounds { rows_max: 24, bytes_max: 16 * 1_024 };
    const RESERVED: Bounds = Bounds { rows_max: 8, bytes_max: 4 * 1_024 };

    fn turns<T>() -> Turns<T> {
        Turns::new(SHARED, RESERVED)
    }

    fn org(number: i64) -> Turn {
        Turn::Org(OrgId(number))
    }

    /// What was put and not taken, kept simply.
    #[derive(Default)]
    struct Model(Vec<(Turn, usize, u32)>);

    impl Model {
        fn of(&self, is_wanted: impl Fn(Turn) -> bool) -> (usize, usize) {
            let these = self.0.iter().filter(|(turn, ..)| is_wanted(*turn));
            these.fold((0, 0), |(rows, bytes), (_, more, _)| (rows + 1, bytes + more))
        }

        fn has_place(&self, turn: Turn, more: usize) -> bool {
            let bounds = if turn.is_reserved() { RESERVED } else { SHARED };
            let (rows, bytes) = self.of(|other| other.is_reserved() == turn.is_reserved());
            let (own_rows, own_bytes) = self.of(|other| other == turn);
            own_rows < bounds.rows_max - rows && own_bytes + more <= bounds.bytes_max - bytes
        }
    }

    fn any_turn() -> impl Strategy<Value = Turn> {
        prop_oneof![
            4 => (0..6_i64).prop_map(org),
            1 => (0..3_i64).prop_map(|number| Turn::ShutOut(OrgId(number))),
            1 => Just(Turn::Server),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_order_is_kept_and_bounds_hold(
            steps in prop::collection::vec(
                prop_oneof![
                    3 => (any_turn(), 0..3_000_usize).prop_map(Some),
                    2 => Just(None),
                ],
                0..400,
            )
        ) {
            let (mut turns, mut model) = (turns(), Model::default());
            for (number, step) in (0..).zip(steps) {
                match step {
                    Some((turn, bytes)) => {
                        let has_place = model.has_place(turn, bytes);
                        prop_assert_eq!(turns.put(turn, bytes, (turn, number)).is_ok(), has_place);
                        if has_place {
                            model.0.push((turn, bytes, number));
                        }
                    }
                    None => match turns.take() {
                        None => prop_assert!(model.0.is_empty()),
                        Some(((turn, number), bytes)) => {
                            let first = model.0.iter().position(|(other, ..)| *other == turn).unwrap();
                            prop_assert_eq!(model.0.remove(first), (turn, bytes, number), "the first of its line");
                        }
                    },
                }
                prop_assert_eq!(turns.len(), model.0.len());
                prop_assert_eq!(turns.is_empty(), model.0.is_empty());
            }
            let mut left: Vec<_> = turns.take_all().into_iter().map(|(_, number)| number).collect();
            left.sort_unstable();
            prop_assert_eq!(left, model.0.into_iter().map(|(.., number)| number).collect::<Vec<_>>());
        }

        #[test]
        fn who_waits_is_passed_by_each_other_line_once(
            flooders in 1..6_i64, each in 1..4_usize, before in 0..8_usize,
        ) {
            let mut turns = turns();
            for flooder in 0..flooders {
                for number in 0..each {
                    turns.put(org(flooder), 0, number).unwrap();
                }
            }
            for _ in 0..before {
                turns.take();
            }
            let lines = i64::try_from(turns.ring.len()).unwrap();
            turns.put(org(99), 0, usize::MAX).unwrap();
            let mut passed = 0;
            while turns.take().unwrap().0 != usize::MAX {
                passed += 1;
            }
            prop_assert!(passed <= lines, "{passed} went before it, of {lines} lines");
        }

        #[test]
        fn lines_that_always_have_more_get_the_same_share_of_bytes(sizes in prop::collection::vec(0..9_000_usize, 2..5)) {
            let bounds = Bounds { rows_max: 1_000_000, bytes_max: usize::MAX / 4 };
            let mut turns = Turns::new(bounds, bounds);
            for (number, bytes) in (0..).zip(&sizes) {
                for _ in 0..2_000 {
                    turns.put(org(number), *bytes, number).unwrap();
                }
            }
            let mut rounds = vec![0_usize; sizes.len()];
            for _ in 0..1_000 {
                let (number, bytes) = turns.take().unwrap();
                rounds[usize::try_from(number).unwrap()] += 1 + bytes / BYTES_A_ROUND;
            }
            let (least, most) = (rounds.iter().min().unwrap(), rounds.iter().max().unwrap());
            prop_assert!(most - least <= 2 * (1 + 9_000 / BYTES_A_ROUND), "{rounds:?}");
        }
    }

    #[test]
    fn a_flooder_fills_half_and_leaves_room_for_each_other() {
        let mut turns = turns();
        let flood =
            |turns: &mut Turns<()>, turn| (0..1_000).filter(|_| turns.put(turn, 0, ()).is_ok()).count();
        assert_eq!(flood(&mut turns, org(1)), SHARED.rows_max / 2);
        assert_eq!(flood(&mut turns, org(2)), SHARED.rows_max / 4);
        assert!(turns.put(org(3), 0, ()).is_ok());
        assert_eq!(flood(&mut turns, Turn::Server), RESERVED.rows_max / 2, "its room is its own");
        assert!(turns.put(Turn::ShutOut(OrgId(1)), 0, ()).is_ok());
    }

    #[test]
    fn a_flooder_of_bytes_fills_half_of_them() {
        let mut turns = turns();
        let put = |turns: &mut Turns<()>, turn| turns.put(turn, 2_048, ()).is_ok();
        assert_eq!((0..100).filter(|_| put(&mut turns, org(1))).count(), 4);
        assert!(put(&mut turns, org(2)));
    }
}
