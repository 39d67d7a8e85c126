//! Gateways: nodes that know nothing of Covey, in the protocols of their world, as devices
//! (`docs/adr/0025-nodes-are-devices-that-a-gateway-speaks-for.md`).

pub mod broker;
pub mod coap;
pub mod engine;
pub mod gateway;
pub mod mqtt_node;
pub mod mqtt_sn;
pub mod node;
pub mod port;
pub mod pusher;
pub mod unit;
pub mod value;
pub mod web;
pub mod websocket;
