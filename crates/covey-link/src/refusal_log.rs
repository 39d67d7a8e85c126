//! Counts and logs what devices send and the server refuses. How many of these lines there may be is for
//! `covey-log` to say, which bounds all that are about one device.

use std::sync::Arc;

use covey_core::id::Sn;
use covey_core::port::{Event, Observer, Refusal};
use covey_wire::Uplink;

use crate::dispatch::Refused;

/// The refusals of one link.
pub(crate) struct RefusalLog {
    observer: Arc<dyn Observer>,
}

impl RefusalLog {
    pub(crate) fn new(observer: Arc<dyn Observer>) -> Self {
        Self { observer }
    }

    /// Counts a refusal that is logged elsewhere.
    pub(crate) fn count(&self, refusal: Refusal) {
        self.observer.happened(Event::Refused(refusal));
    }

    /// Counts a refused message, unless the core has, and logs it.
    pub(crate) fn refused(&self, sn: &Sn, uplink: Option<Uplink>, refused: &Refused) {
        let Refused { refusal, why, .. } = refused;
        if let Some(refusal) = refusal {
            self.count(*refusal);
        }
        let topic = uplink.map_or("unknown", Uplink::level);
        tracing::warn!(%sn, topic, why, "message refused");
    }
}
