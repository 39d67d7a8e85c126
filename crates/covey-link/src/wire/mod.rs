//! The wire form of device-rpc and device-events, without I/O: topics,
//! correlation, what devices send and what they are sent.

mod correlation;
mod envelope;
mod event;
mod event_body;
mod event_time;
#[cfg(test)]
mod golden;
mod inbound;
mod outbound;
mod received;
mod topic;

pub use correlation::Correlation;
pub use event::{EventHead, Unread, read_event};
pub use inbound::{Inbound, Malformed};
pub use outbound::{EventStatus, Outbound, Qos};
pub use received::{Carrier, Properties, Received};
pub use topic::{Channel, DOWNLINKS, Downlink, parse_publish, subscription_matches};
