//! MQTT-SN 1.2: MQTT for nodes that have UDP and little memory (`docs/adr/0027-mqtt-sn.md`).
//!
//! | part | what it is |
//! | --- | --- |
//! | [`packet`] | the messages as bytes, from `covey-wire` |
//! | [`session`] | a gateway with all its clients, as a state machine without sockets, tasks and clocks |
//! | [`socket`] | the UDP socket around it, one task with one timer |
//! | [`nodes`] | what its clients say, as nodes |
//!
//! Sections (`§6.14`) are those of "MQTT For Sensor Networks (MQTT-SN) Protocol Specification Version 1.2", 2013.

pub mod nodes;
pub mod session;
pub mod socket;

pub use covey_wire::mqtt_sn as packet;
