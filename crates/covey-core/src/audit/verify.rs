//! Whether a chain is as it was written.

use crate::audit::{AuditChain, AuditHead, AuditRow};
use crate::id::UnixMs;

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
}

impl AuditVerifier {
    /// One that has looked at no row yet. `kept` are rows of whichever chain whose hash is known from elsewhere.
    #[must_use]
    pub fn new(chain: AuditChain, kept: impl IntoIterator<Item = AuditHead>) -> Self {
        let kept = kept.into_iter().filter(|kept| kept.chain == chain.head.chain).collect();
        let last = AuditHead { chain: chain.head.chain, number: chain.anchor, hash: chain.anchor_hash };
        Self { chain, kept, rows: 0, last }
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
        if self.kept.iter().any(|kept| kept.number == row.number && kept.hash != row.hash) {
            return Err(flaw(row.number, FlawKind::Kept));
        }
        if row.number == self.chain.head.number && row.hash != self.chain.head.hash {
            return Err(flaw(row.number, FlawKind::Head));
        }
        self.last = AuditHead { chain: row.chain, number: row.number, hash: row.hash };
        self.rows += 1;
        Ok(())
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
        Ok(Verified { rows: self.rows, head: self.last })
    }
}
