//! Operations on what is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::AuditEntry;
use crate::error::Result;
use crate::id::{DeviceKey, OrgId};
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};
use crate::quota::{Counted, DayKept, LeftBehind, PARTS, part_of};
use crate::retention::RetentionClass;

/// Marks the place among the records up to which is counted in memory what was stored: by the time it is
/// completed, everything before it is, and nothing behind it.
pub struct KeptMark;

impl Operation for KeptMark {
    type Output = ();

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        Ok(tx.kept_mark()?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Writes what was counted in some of the parts, once.
pub struct KeptAdd {
    /// Of devices.
    pub of_devices: Vec<(DeviceKey, DayKept)>,
    /// Of organisations.
    pub of_orgs: Vec<(OrgId, DayKept)>,
    /// The first part.
    pub from: u8,
    /// The first part behind it.
    pub to: u8,
}

impl Operation for KeptAdd {
    type Output = ();

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        // It may be stored already, and its answer have been lost.
        if tx.kept_advance(self.from, self.to)? {
            tx.kept_add(&self.of_devices, &self.of_orgs)?;
        }
        Ok(())
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// A server stops, and has written all that it has counted.
pub struct KeptLeave;

impl Operation for KeptLeave {
    type Output = ();

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        Ok(tx.kept_leave()?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// How many bytes holders have stored, of each class and day.
type Sums<W> = BTreeMap<(W, RetentionClass, i64), i64>;

fn rows<W>(sums: Sums<W>) -> Vec<(W, DayKept)> {
    sums.into_iter().map(|((of, class, day), bytes)| (of, DayKept { class, day, bytes })).collect()
}

/// Counts what a server had stored that was killed before it wrote what it had counted: some of it.
pub struct KeptRecount {
    /// Which server.
    pub left: LeftBehind,
    /// How many records are looked at, at most.
    pub limit: u32,
}

impl Operation for KeptRecount {
    /// Whether there is more.
    type Output = bool;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<bool, Abort> {
        let Some(known) = tx.kept_counted(self.left)? else { return Ok(false) };
        let found = tx.kept_uncounted(self.left, known.of_all(), self.limit)?;
        let (mut of_devices, mut of_orgs) = (Sums::new(), Sums::new());
        for record in &found {
            let Some(class) = record.class else { continue };
            let DayKept { day, bytes, .. } = DayKept::at(class, record.at, record.bytes);
            if record.number > known.of(part_of(record.device)) {
                *of_devices.entry((record.device, class, day)).or_default() += bytes;
            }
            if record.number > known.of(PARTS) {
                *of_orgs.entry((record.org, class, day)).or_default() += bytes;
            }
        }
        tx.kept_add(&rows(of_devices), &rows(of_orgs))?;
        let last = found.last().filter(|_| found.len() >= self.limit as usize);
        let counted = last.map(|last| Counted {
            counted: last.number,
            marked: known.marked.max(last.number),
            parts: known.parts,
        });
        tx.kept_counted_put(self.left, counted)?;
        Ok(counted.is_some())
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Forgets a day that is over.
pub struct KeptForget {
    /// Of what.
    pub class: RetentionClass,
    /// The day.
    pub day: i64,
    /// For whom it is.
    pub orgs: Arc<[OrgId]>,
    /// How many rows of devices at most.
    pub limit: u32,
}

impl Operation for KeptForget {
    /// How many rows of devices went; there may be more if they are as many as may be.
    type Output = u64;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<u64, Abort> {
        Ok(tx.kept_forget_of_every_org(self.class, self.day, &self.orgs, self.limit)?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}
