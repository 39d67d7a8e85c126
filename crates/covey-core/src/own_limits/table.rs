//! All limits, as this server knows them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::own_limits::{LimitHolder, LimitsStamp, OwnLimits};

type ByHolder = HashMap<LimitHolder, OwnLimits>;

/// All limits. Whoever remembers some of them looks at the version alone as long as that stays.
#[derive(Default)]
pub(crate) struct LimitTable {
    version: AtomicU64,
    known: RwLock<(Option<LimitsStamp>, Arc<ByHolder>)>,
}

impl LimitTable {
    /// Another one after any change.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether this is what the store was known to have.
    pub(crate) fn is_of(&self, stamp: LimitsStamp) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).0 == Some(stamp)
    }

    /// What the store has.
    pub(crate) fn set(&self, stamp: LimitsStamp, all: Arc<ByHolder>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = (Some(stamp), all);
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// The limits of an organisation's or key's own.
    pub(crate) fn of(&self, holder: LimitHolder) -> OwnLimits {
        if self.version() == 0 {
            return OwnLimits::default();
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.1.get(&holder).copied().unwrap_or_default()
    }
}
