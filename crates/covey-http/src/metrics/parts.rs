//! How the parts of the server are.

use covey_core::health::Health;
use covey_core::port::{LinkStatus, Room};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkName {
    link: &'static str,
}

/// One line for each part: 1 while it is up, else 0.
#[derive(Default)]
pub(super) struct Parts {
    links: Family<LinkName, Gauge>,
    store: Gauge,
    has_room: Gauge,
}

impl Parts {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("covey_link_up", "Whether the link to devices is up", self.links.clone());
        r.register(
            "covey_disk_room",
            "Whether the disk has enough room for what is new",
            self.has_room.clone(),
        );
        r.register("covey_store_writable", "Whether the store takes writes", self.store.clone());
    }

    pub(super) fn set(&self, health: &Health) {
        for link in &health.links {
            let is_up = link.state.status == LinkStatus::Up;
            self.links.get_or_create(&LinkName { link: link.name }).set(is_up.into());
        }
        self.has_room.set((health.room == Room::Enough).into());
        self.store.set(health.store_fault.is_none().into());
    }
}
