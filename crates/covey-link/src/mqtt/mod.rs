//! The link over any MQTT 5 broker, which several servers may share.
//!
//! Servers are clients of the broker like devices are. Each message of a device reaches one
//! server, over shared subscriptions (MQTT 5 §4.8.2); what the broker says about connections of
//! devices reaches every server. The broker checks certificates and topics;
//! docs/mqtt-brokers.md says how to configure it.

mod accounts;
mod announcer;
mod broker_log;
mod client_events;
mod connection;
mod dynamic_security;
mod error;
mod intake;
mod link;
mod options;
mod presence;
mod presence_writer;
mod publisher;
mod resync;
mod running;
mod session_store;
mod state;

pub use error::MqttError;
pub use link::{MqttLink, NAME};
pub use options::Options;
pub use running::Running;
