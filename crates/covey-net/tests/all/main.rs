//! Listeners, TLS and MQTT connections against clients that others wrote.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod echo;
mod lifetime;
mod limits;
mod mqtt;
mod panics;
mod pki;
mod tls;
mod tls_bytes;
