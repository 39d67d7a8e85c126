//! The letters of one device on their way to one endpoint.

use std::collections::BTreeMap;

use crate::id::{RecordNumber, UnixMs};
use crate::webhook::Letter;

/// A lane.
#[derive(Default)]
pub(super) struct Lane {
    /// The first letters that wait, in their order.
    pub(super) letters: BTreeMap<RecordNumber, Letter>,
    /// Which letters are in the store, if any are: then all are.
    pub(super) stored: Option<Stored>,
    pub(super) sending: Option<OnItsWay>,
    /// When one was last sent.
    pub(super) tried_at: UnixMs,
    /// Where the queue has it.
    pub(super) place: Option<Place>,
}

/// Which letters of a lane are in the store.
#[derive(Clone, Copy)]
pub(super) struct Stored {
    /// The last of them.
    pub(super) until: RecordNumber,
    /// Those up to this one are in memory, or settled.
    pub(super) loaded: RecordNumber,
}

/// A letter that is being sent.
#[derive(Clone, Copy)]
pub(super) struct OnItsWay {
    pub(super) letter: Letter,
    pub(super) is_probe: bool,
    pub(super) is_again: bool,
    pub(super) began_at: UnixMs,
}

/// Where a lane that sends nothing is to be found.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Fresh(RecordNumber),
    Again(RecordNumber),
    Later(UnixMs),
    Unread,
}

impl Lane {
    pub(super) fn first(&self) -> Option<Letter> {
        self.letters.values().next().copied()
    }

    pub(super) fn is_unread(&self) -> bool {
        self.stored.is_some_and(|stored| stored.loaded < stored.until)
    }
}
