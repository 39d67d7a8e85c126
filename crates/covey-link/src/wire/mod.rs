//! The wire form of device-rpc, without I/O: topics, correlation, what devices
//! send and what they are sent.

mod correlation;
mod envelope;
mod inbound;
mod outbound;
mod topic;

pub use correlation::Correlation;
pub use inbound::{Inbound, Malformed, Properties};
pub use outbound::{Outbound, Qos};
pub use topic::{Channel, Downlink, parse_publish, subscription_matches};
