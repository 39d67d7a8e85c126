//! Links between Covey and its devices.
//!
//! [`embedded`] is the MQTT broker inside the process; [`amqp`] reaches devices through RabbitMQ,
//! [`mqtt`] through any MQTT 5 broker. The form of the messages is in `covey-wire`.

pub mod amqp;
mod complaints;
mod conversion;
pub mod embedded;
mod ending;
mod identities;
mod lanes;
pub mod mqtt;
mod status;
mod tls;
mod uplink;

pub use status::LinkStatus;
pub use tls::{TlsError, TlsFiles};
