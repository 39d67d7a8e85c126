//! How many reads that may cost much an organisation has under way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::id::OrgId;
use crate::port::{Lane, ReadKind};

/// How many searches, series and looks at fields of an organisation may be under way or wait.
/// Limit for each organisation: 429.
pub(crate) const SCANS_PER_ORG_MAX: usize = 16;
const TOO_MANY: &str = "the organisation has 16 searches or series under way; wait for one of them to end";

/// How many each organisation has.
#[derive(Default)]
pub(crate) struct Scans(Mutex<HashMap<OrgId, usize>>);

/// One that is under way, until it is dropped.
pub(crate) struct Scan<'a> {
    scans: &'a Scans,
    org: OrgId,
}

impl Scans {
    fn counts(&self) -> MutexGuard<'_, HashMap<OrgId, usize>> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a read. What costs little is not counted.
    pub(crate) fn begin(&self, org: OrgId, kind: ReadKind) -> Result<Option<Scan<'_>>> {
        if kind.lane() != Lane::Scan {
            return Ok(None);
        }
        let mut counts = self.counts();
        let count = counts.entry(org).or_default();
        if *count >= SCANS_PER_ORG_MAX {
            return Err(Error::Exhausted { limit: TOO_MANY });
        }
        *count += 1;
        Ok(Some(Scan { scans: self, org }))
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        let mut counts = self.scans.counts();
        let left = counts.get(&self.org).map_or(0, |count| count - 1);
        if left == 0 {
            counts.remove(&self.org);
        } else {
            counts.insert(self.org, left);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_organisation_has_a_bound_of_its_own_and_what_ended_counts_no_more() {
        let scans = Scans::default();
        let begin = |org| scans.begin(OrgId(org), ReadKind::EventSeries);
        let mut under_way: Vec<_> = (0..SCANS_PER_ORG_MAX).map(|_| begin(1).unwrap()).collect();
        assert_eq!(begin(1).err(), Some(Error::Exhausted { limit: TOO_MANY }));
        assert!(TOO_MANY.contains(&SCANS_PER_ORG_MAX.to_string()));
        assert!(begin(2).unwrap().is_some());
        assert!(scans.begin(OrgId(1), ReadKind::Task).unwrap().is_none(), "a point is no scan");
        under_way.pop();
        assert!(begin(1).is_ok());
        drop(under_way);
        assert!(scans.counts().is_empty());
    }
}
