//! Links between Covey and its devices.
//!
//! [`wire`] holds the form of the messages (device-rpc), once and without I/O,
//! for all links. [`embedded`] is the MQTT broker inside the process.

pub mod embedded;
pub mod wire;
