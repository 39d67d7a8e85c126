//! The link of the embedded broker.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod broker;
mod calls;
#[path = "../bench/device.rs"]
mod device;
#[macro_use]
#[path = "../bench/events.rs"]
mod events;
mod in_flight;
mod measure;
#[path = "../bench/site.rs"]
mod site;

use crate::broker::Broker;

event_battery!(Broker::start(),);

/// How many commits a site has made.
fn commits(site: &site::Site) -> usize {
    site.watcher.count(|event| matches!(event, covey_core::port::Event::Committed { .. }))
}
