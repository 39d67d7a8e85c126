//! The MQTT link against a real Mosquitto, run with the files in
//! `deploy/mosquitto`: the rules of the broker, and the link over it.
//!
//! Mosquitto 2 must be installed (Debian: `apt-get install mosquitto`); each
//! test starts one of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod broker;
#[path = "../bench/device.rs"]
mod device;
#[macro_use]
#[path = "../bench/events.rs"]
mod events;
mod link;
mod measure;
#[path = "../bench/no_certificates.rs"]
mod no_certificates;
mod outage;
mod rules;
#[path = "../bench/site.rs"]
mod site;

use crate::broker::Broker;

event_battery!(Broker::start(),);
