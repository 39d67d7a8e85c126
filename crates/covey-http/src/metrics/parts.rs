//! How the parts of the server are.

use std::sync::atomic::Ordering;

use covey_core::health::Health;
use covey_core::port::{LinkStatus, Room};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkName {
    link: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Counted {
    link: &'static str,
    what: &'static str,
}

/// One line for each part: 1 while it is up, else 0.
#[derive(Default)]
pub(super) struct Parts {
    links: Family<LinkName, Gauge>,
    counts: Family<Counted, Counter>,
    store: Gauge,
    has_room: Gauge,
}

impl Parts {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("covey_link_up", "Whether the link to devices is up", self.links.clone());
        r.register("covey_link_messages", "What links have counted, by what it is", self.counts.clone());
        r.register(
            "covey_disk_room",
            "Whether the disk has enough room for what is new",
            self.has_room.clone(),
        );
        r.register("covey_store_writable", "Whether the store takes writes", self.store.clone());
    }

    /// Takes note of what links have counted.
    pub(super) fn count(&self, links: Vec<(&'static str, Vec<(&'static str, u64)>)>) {
        for (link, counts) in links {
            for (what, count) in counts {
                // The link counts, and never backwards.
                self.counts.get_or_create(&Counted { link, what }).inner().store(count, Ordering::Relaxed);
            }
        }
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
