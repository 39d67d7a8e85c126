//! Which rows of a chain are forgotten: from its beginning, so that one that is too old by itself always stays. By it
//! whoever verifies sees that none was forgotten too early.

use crate::id::{OrgId, UnixMs};
use crate::retention::Prune;

/// How many of these rows go, which follow each other from the beginning of a chain.
///
/// A row that is of later than now was written by a clock that was ahead: it goes with those before it as soon as a row
/// behind it is too old for its organisation, too.
pub fn forgettable(rows: impl IntoIterator<Item = (OrgId, UnixMs)>, what: &Prune) -> usize {
    let (mut count, mut of_ahead) = (0, UnixMs(i64::MAX));
    for (place, (org, at)) in rows.into_iter().enumerate() {
        // What one organisation keeps for longer keeps what came after it.
        let Some(before) = what.before_of(org) else { break };
        if at > what.now {
            of_ahead = of_ahead.min(before);
            continue;
        }
        if at >= before.min(of_ahead) {
            break;
        }
        (count, of_ahead) = (place, UnixMs(i64::MAX));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::RetentionClass;

    #[test]
    fn the_last_row_that_is_too_old_stays_and_a_clock_that_was_ahead_keeps_none() {
        let what = Prune {
            kept: RetentionClass::Audit,
            before: Some(UnixMs(700)),
            of_orgs: vec![(OrgId(2), Some(UnixMs(300))), (OrgId(3), None)],
            now: UnixMs(1_000),
            after: 0,
        };
        for (rows, count) in [
            (&[][..], 0),
            (&[(1, 10)], 0),
            (&[(1, 10), (1, 20), (1, 699)], 2),
            (&[(1, 10), (1, 20), (1, 700)], 1),
            (&[(1, 10), (2, 20), (1, 500), (2, 300), (1, 600)], 2),
            (&[(1, 10), (1, 5_000), (1, 6_000), (1, 600), (1, 800)], 3),
            (&[(1, 10), (1, 5_000), (1, 800)], 0),
            (&[(1, 10), (1, 5_000)], 0),
            // What keeps its rows for longer keeps them also where their instant tells nothing.
            (&[(1, 10), (2, 5_000), (1, 600), (1, 650)], 0),
            (&[(1, 10), (2, 5_000), (1, 200), (1, 600)], 3),
            (&[(1, 10), (3, 5_000), (1, 600), (1, 650)], 0),
        ] {
            let given = rows.iter().map(|(org, at)| (OrgId(*org), UnixMs(*at)));
            assert_eq!(forgettable(given, &what), count, "{rows:?}");
        }
    }
}
