//! Caches for a second which registered device a serial number belongs to, so that a busy device
//! at a broker costs no query per message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use covey_core::Engine;
use covey_core::device::DeviceIdentity;
use covey_core::error::Result;
use covey_core::id::Sn;
use dashmap::DashMap;

/// For how long an answer holds. A device that another server has retired may
/// still be heard for as long.
const LIFE: Duration = Duration::from_secs(1);
/// How many answers are remembered; beyond, those that hold no longer are dropped.
const REMEMBERED_MAX: usize = 65_536;

/// The answers of the last moment.
#[derive(Default)]
pub(crate) struct Identities {
    remembered: DashMap<Sn, (Instant, Arc<DeviceIdentity>)>,
    /// Counts what was forgotten: an answer that was on its way then is not kept.
    forgotten: AtomicU64,
}

impl Identities {
    /// The device that is registered under a serial number.
    pub(crate) async fn of(&self, engine: &Engine, sn: &Sn) -> Result<Option<Arc<DeviceIdentity>>> {
        if let Some(remembered) = self.remembered.get(sn).filter(|remembered| remembered.0.elapsed() < LIFE) {
            return Ok(Some(Arc::clone(&remembered.1)));
        }
        let (asked_at, forgotten) = (Instant::now(), self.forgotten.load(Ordering::Acquire));
        // That nobody is registered is not remembered: somebody may be a moment later.
        let Some(device) = engine.server().device_of_sn(sn).await?.map(Arc::new) else {
            self.remembered.remove(sn);
            return Ok(None);
        };
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.retain(|_, remembered| remembered.0.elapsed() < LIFE);
        }
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.insert(sn.clone(), (asked_at, Arc::clone(&device)));
        }
        if self.forgotten.load(Ordering::Acquire) != forgotten {
            self.remembered.remove(sn);
        }
        Ok(Some(device))
    }

    /// Drops the cached answer for a serial number.
    pub(crate) fn forget(&self, sn: &Sn) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.remembered.remove(sn);
    }
}
