//! The deliveries of one device on their way to one endpoint.

use std::collections::BTreeMap;

use crate::id::{RecordNumber, UnixMs};
use crate::webhook::Delivery;

/// A device queue.
#[derive(Default)]
pub(super) struct DeviceQueue {
    /// The first deliveries that wait, in their order.
    pub(super) deliveries: BTreeMap<RecordNumber, Delivery>,
    /// Which deliveries are in the store, if any are: then all are.
    pub(super) stored: Option<Stored>,
    pub(super) sending: Option<OnItsWay>,
    /// When one was last sent.
    pub(super) tried_at: UnixMs,
    /// Where the queue has it.
    pub(super) place: Option<Place>,
}

/// Which deliveries of a device queue are in the store.
#[derive(Clone, Copy)]
pub(super) struct Stored {
    /// The last of them.
    pub(super) until: RecordNumber,
    /// Those up to this one are in memory, or settled.
    pub(super) loaded: RecordNumber,
}

/// A delivery that is being sent.
#[derive(Clone, Copy)]
pub(super) struct OnItsWay {
    pub(super) delivery: Delivery,
    pub(super) is_probe: bool,
    pub(super) is_again: bool,
    pub(super) began_at: UnixMs,
}

/// Where a device queue that sends nothing is to be found.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Fresh(RecordNumber),
    Again(RecordNumber),
    Later(UnixMs),
    Unread,
}

impl DeviceQueue {
    pub(super) fn first(&self) -> Option<Delivery> {
        self.deliveries.values().next().copied()
    }

    pub(super) fn is_unread(&self) -> bool {
        self.stored.is_some_and(|stored| stored.loaded < stored.until)
    }

    /// Keeps the first `max` deliveries of those that are stored: the others are read again.
    pub(super) fn cut(&mut self, max: usize) {
        let Some(stored) = &mut self.stored else { return };
        while self.deliveries.len() > max {
            self.deliveries.pop_last();
            stored.loaded = self.deliveries.keys().last().copied().unwrap_or_default();
        }
    }
}
