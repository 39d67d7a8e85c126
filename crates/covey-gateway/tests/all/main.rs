//! Gateways as nodes see them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod coap;
mod engine;
mod mqtt_sn;
mod pusher;
