//! The contract between Covey and its devices (device-rpc, device-events): topics, properties,
//! correlation, and every message of both sides, which one side encodes and the other decodes.
//!
//! No I/O, no clock, no type of the core: servers, gateways, the device SDK and the simulator
//! use the same code. A message is what MQTT 5 carries (topic, Correlation Data, user
//! properties, body), or one JSON [envelope](mod@downlink) where the protocol has no properties. [`mqtt`] reads
//! and writes the packets that carry it, and keeps a device's session; [`mqtt_sn`] those of MQTT-SN, which nodes speak.
//!
//! | from | topic | encoded by | decoded by |
//! | --- | --- | --- | --- |
//! | device | `dev/<SN>/ack`, `req` | [`uplink::request`] | [`uplink::TaskMessage`] |
//! | device | `dev/<SN>/res` | [`uplink::result`] | [`uplink::TaskMessage`] |
//! | device | `dev/<SN>/evt` | [`uplink::event`] | [`uplink::read_event`] |
//! | server | `srv/<SN>/tsk`, `rsp`, `cmt`, `eva` | [`downlink::DownlinkMessage`] | [`downlink::decode`] |
//!
//! Microcontrollers have topics of their own ([`microcontroller`]).

mod correlation;
pub mod downlink;
mod envelope;
mod json;
pub mod microcontroller;
pub mod mqtt;
pub mod mqtt_sn;
pub mod property;
pub mod reason;
mod topic;
pub mod uplink;

pub use correlation::{Correlation, parse_correlation};
pub use topic::{
    Downlink, DownlinkSet, Uplink, parse_downlink_topic, parse_uplink_topic, subscription_reaches,
};
