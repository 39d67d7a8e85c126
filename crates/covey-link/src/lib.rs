//! Links between Covey and its devices.
//!
//! [`embedded`] is the MQTT broker inside the process; [`amqp`] reaches devices through RabbitMQ,
//! [`mqtt`] through any MQTT 5 broker. The form of the messages is in `covey-wire`.

pub mod amqp;
mod conversion;
mod disconnect_reason;
mod dispatch;
pub mod embedded;
mod identities;
pub mod mqtt;
mod outage;
mod per_device_order;
mod refusal_log;
mod tls;

pub use covey_core::port::LinkStatus;
pub use covey_wire::downlink::ResponseForm;
pub use tls::{TlsError, TlsFiles};
