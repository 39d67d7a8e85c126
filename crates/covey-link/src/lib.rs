//! Links between Covey and its devices.
//!
//! [`wire`] holds the form of the messages (device-rpc, device-events), once and without I/O,
//! for all links. [`embedded`] is the MQTT broker inside the process;
//! [`amqp`] reaches devices through RabbitMQ, [`mqtt`] through any MQTT 5 broker.

pub mod amqp;
mod complaints;
pub mod embedded;
mod ending;
mod identities;
mod lanes;
pub mod mqtt;
mod status;
mod tls;
mod uplink;
pub mod wire;

pub use status::LinkStatus;
pub use tls::{TlsError, TlsFiles};
