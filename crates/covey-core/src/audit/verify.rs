//! Whether a chain is as it was written.

use crate::audit::{AuditChain, AuditHash, AuditHead, AuditRow};
use crate::id::UnixMs;
use crate::retention::{AUDIT_DAYS_MIN, DAY_MS};

/// How old the first row is at least behind what was forgotten, as a clock says that may be another one.
const FORGOTTEN_MS_MIN: i64 = (AUDIT_DAYS_MIN as i64 - 1) * DAY_MS;

/// In which way a chain is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlawKind {
    /// Rows are missing before this one.
    Missing,
    /// A row of this number is there twice, or out of its order.
    Inserted,
    /// The row was changed, or it was put there by somebody else, or the one before it was.
    Changed,
    /// Rows are missing at the end.
    Shortened,
    /// The end of the chain is not the one that the store knows.
    Head,
    /// The row is not the one that was kept elsewhere.
    Kept,
    /// What was kept elsewhere is of a row that was forgotten since.
    Forgotten,
    /// The rows before this one were forgotten, though it is too young for that.
    Early,
    /// All rows were forgotten; where they were too old, the last of them stays.
    Emptied,
}

/// The first place at which a chain is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFlaw {
    /// Which chain.
    pub chain: i64,
    /// The number of the row at which it shows; of rows that are missing, the first of them.
    pub number: i64,
    /// The instant of the row, if there is one.
    pub at: Option<UnixMs>,
    /// In which way.
    pub kind: FlawKind,
}

impl std::fmt::Display for AuditFlaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { chain, number, kind, .. } = self;
        match kind {
            FlawKind::Missing => write!(f, "chain {chain}: row {number} was removed"),
            FlawKind::Inserted => write!(f, "chain {chain}: row {number} was inserted"),
            FlawKind::Changed => write!(f, "chain {chain}: row {number} was changed or inserted"),
            FlawKind::Shortened => write!(f, "chain {chain}: row {number} and all behind it were removed"),
            FlawKind::Kept => write!(f, "chain {chain}: row {number} is not the one whose hash was kept"),
            FlawKind::Forgotten => {
                write!(f, "chain {chain}: row {number} was forgotten: its head proves nothing")
            }
            FlawKind::Early => {
                let days = AUDIT_DAYS_MIN;
                write!(
                    f,
                    "chain {chain}: the rows before row {number} are gone, which is younger than {days} days"
                )
            }
            FlawKind::Emptied => {
                write!(
                    f,
                    "chain {chain}: row {number} and all before it are gone, and retention leaves the last one"
                )
            }
            FlawKind::Head => {
                write!(f, "chain {chain}: row {number} is the last, and not as the store knows it")
            }
        }
    }
}

/// What was found of a chain without a flaw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many rows were looked at.
    pub rows: u64,
    /// Its end. Whoever keeps it elsewhere finds out later whether what is before it was written anew.
    pub head: AuditHead,
}

/// Looks at the rows of a chain, one after the other.
#[derive(Debug)]
pub struct AuditVerifier {
    chain: AuditChain,
    /// Rows whose hash is known from elsewhere.
    kept: Vec<AuditHead>,
    rows: u64,
    /// The last row that was looked at, or the anchor.
    last: AuditHead,
    /// Now.
    now: UnixMs,
    /// Whether a row was looked at that is not of later than now.
    is_dated: bool,
}

impl AuditVerifier {
    /// One that has looked at no row yet. `kept` are rows of whichever chain whose hash is known from elsewhere.
    #[must_use]
    pub fn new(chain: AuditChain, kept: impl IntoIterator<Item = AuditHead>, now: UnixMs) -> Self {
        let kept = kept.into_iter().filter(|kept| kept.chain == chain.head.chain).collect();
        let last = AuditHead { chain: chain.head.chain, number: chain.anchor, hash: chain.anchor_hash };
        Self { chain, kept, rows: 0, last, now, is_dated: false }
    }

    /// Behind which number the next rows are wanted.
    #[must_use]
    pub fn after(&self) -> i64 {
        self.last.number
    }

    /// Looks at the next row.
    ///
    /// # Errors
    /// The first place at which the chain is not as it was written.
    pub fn row(&mut self, row: &AuditRow) -> Result<(), AuditFlaw> {
        let flaw = |number, kind| AuditFlaw { chain: row.chain, number, at: Some(row.at), kind };
        let next = self.last.number + 1;
        if row.number > next {
            return Err(flaw(next, FlawKind::Missing));
        }
        if row.number < next || row.chain != self.last.chain {
            return Err(flaw(row.number, FlawKind::Inserted));
        }
        if row.hash_behind(&self.last.hash) != row.hash {
            return Err(flaw(row.number, FlawKind::Changed));
        }
        if self.is_not_kept(row.number, row.hash) {
            return Err(flaw(row.number, FlawKind::Kept));
        }
        // A row of later than now says nothing: a clock was ahead.
        if !self.is_dated && row.at <= self.now {
            self.is_dated = true;
            if self.chain.anchor > 0 && self.now.since_ms(row.at) < FORGOTTEN_MS_MIN {
                return Err(flaw(row.number, FlawKind::Early));
            }
        }
        if row.number == self.chain.head.number && row.hash != self.chain.head.hash {
            return Err(flaw(row.number, FlawKind::Head));
        }
        self.last = AuditHead { chain: row.chain, number: row.number, hash: row.hash };
        self.rows += 1;
        Ok(())
    }

    /// Whether another hash of this row was kept elsewhere.
    fn is_not_kept(&self, number: i64, hash: AuditHash) -> bool {
        self.kept.iter().any(|kept| kept.number == number && kept.hash != hash)
    }

    /// No more rows came.
    ///
    /// # Errors
    /// The end is not there.
    pub fn done(self) -> Result<Verified, AuditFlaw> {
        let flaw = |number, kind| AuditFlaw { chain: self.last.chain, number, at: None, kind };
        if self.last.number < self.chain.head.number {
            return Err(flaw(self.last.number + 1, FlawKind::Shortened));
        }
        if let Some(kept) = self.kept.iter().find(|kept| kept.number > self.last.number) {
            return Err(flaw(kept.number, FlawKind::Shortened));
        }
        if self.rows == 0 && self.last.hash != self.chain.head.hash {
            return Err(flaw(self.last.number, FlawKind::Head));
        }
        let anchor = self.chain.anchor;
        if self.is_not_kept(anchor, self.chain.anchor_hash) {
            return Err(flaw(anchor, FlawKind::Kept));
        }
        if anchor > 0 && !self.is_dated {
            return Err(flaw(anchor, FlawKind::Emptied));
        }
        if let Some(kept) = self.kept.iter().find(|kept| kept.number < anchor) {
            return Err(flaw(kept.number, FlawKind::Forgotten));
        }
        Ok(Verified { rows: self.rows, head: self.last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::HASH_OF_NOTHING;
    use crate::id::OrgId;

    const NOW: UnixMs = UnixMs(1_000 * DAY_MS);

    /// Rows so many days old, as a chain whose first ones were forgotten: so many.
    fn chain(days: &[i64], forgotten: usize) -> (AuditChain, Vec<AuditRow>) {
        let mut head = AuditHead { chain: 3, number: 0, hash: HASH_OF_NOTHING };
        let (mut anchor, mut rows) = (head, Vec::new());
        for (place, days) in days.iter().enumerate() {
            let (at, number) = (NOW.plus_ms(-days * DAY_MS), head.number + 1);
            let mut row = AuditRow {
                chain: 3,
                number,
                org: OrgId(1),
                at,
                entries: String::new(),
                hash: HASH_OF_NOTHING,
            };
            row.hash = row.hash_behind(&head.hash);
            head = AuditHead { chain: 3, number, hash: row.hash };
            if place < forgotten {
                anchor = head;
            }
            rows.push(row);
        }
        let chain =
            AuditChain { server: String::new(), anchor: anchor.number, anchor_hash: anchor.hash, head };
        (chain, rows)
    }

    fn verify(days: &[i64], forgotten: usize, kept: &[AuditHead]) -> Result<Verified, (FlawKind, i64)> {
        let (chain, rows) = chain(days, forgotten);
        let mut verifier = AuditVerifier::new(chain, kept.iter().copied(), NOW);
        let mut looked = rows.iter().skip(forgotten);
        let outcome = looked.try_for_each(|row| verifier.row(row)).and_then(|()| verifier.done());
        outcome.map_err(|flaw| (flaw.kind, flaw.number))
    }

    #[test]
    fn a_log_that_was_wiped_by_moving_its_anchor_is_found() {
        let days = [50, 40, 35, 1, 0];
        assert_eq!(verify(&days, 2, &[]).map(|found| found.rows), Ok(3));
        assert_eq!(verify(&days, 3, &[]), Err((FlawKind::Early, 4)));
        assert_eq!(verify(&days, 5, &[]), Err((FlawKind::Emptied, 5)));
        // A row of later than now is not what was left of old ones.
        assert_eq!(verify(&[50, -1], 1, &[]), Err((FlawKind::Emptied, 1)));
        assert_eq!(verify(&[50, 45, -1, 40, 0], 2, &[]).map(|found| found.rows), Ok(3));
        assert_eq!(verify(&[0], 0, &[]).map(|found| found.rows), Ok(1));
    }

    #[test]
    fn a_head_that_was_kept_is_compared_with_the_anchor_and_proves_nothing_before_it() {
        let days = [50, 45, 40, 35, 0];
        let (_, rows) = chain(&days, 0);
        let kept = |number: i64| {
            let row = rows.iter().find(|row| row.number == number);
            AuditHead { chain: 3, number, hash: row.map_or(HASH_OF_NOTHING, |row| row.hash) }
        };
        assert!(verify(&days, 2, &[kept(2), kept(3), kept(5)]).is_ok());
        let other = AuditHead { hash: [7; 32], ..kept(2) };
        assert_eq!(verify(&days, 2, &[other]), Err((FlawKind::Kept, 2)));
        assert_eq!(verify(&days, 2, &[kept(3), kept(1)]), Err((FlawKind::Forgotten, 1)));
        assert_eq!(verify(&days, 2, &[AuditHead { chain: 4, ..kept(1) }]).map(|found| found.rows), Ok(3));
        assert!(verify(&days, 0, &[kept(0)]).is_ok());
    }
}
