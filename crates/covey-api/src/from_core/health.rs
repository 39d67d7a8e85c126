//! How the parts of a server are.

use std::borrow::Cow;

use covey_core::health as core;

use crate::{Readiness, ServerPart};

impl Readiness {
    /// What a server says that can do its work.
    #[must_use]
    pub fn of(health: &core::Health) -> Self {
        Self { status: Cow::Borrowed("ok"), parts: ServerPart::all_of(health) }
    }
}

impl ServerPart {
    /// How the parts look: the store and its room, then the links.
    #[must_use]
    pub fn all_of(health: &core::Health) -> Vec<Self> {
        let store = Self {
            part: Cow::Borrowed("store"),
            name: None,
            state: Cow::Borrowed(if health.store_fault.is_some() { "down" } else { "up" }),
            why: health.store_fault.map(|fault| Cow::Owned(fault.to_string())),
        };
        let disk = Self {
            part: Cow::Borrowed("disk"),
            name: None,
            state: Cow::Borrowed(health.room.name()),
            why: health.room.why().map(Cow::Borrowed),
        };
        let links = health.links.iter().map(|link| Self {
            part: Cow::Borrowed("link"),
            name: Some(Cow::Borrowed(link.name)),
            state: Cow::Borrowed(link.state.status.name()),
            why: link.state.status.why().map(Cow::Borrowed),
        });
        [store, disk].into_iter().chain(links).collect()
    }
}
