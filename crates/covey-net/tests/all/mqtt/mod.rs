//! MQTT connections: who is let in, what goes both ways, what outlives a connection, and what is bounded.

mod begin;
mod bounds;
mod client;
mod concurrency;
mod deliveries;
mod endings;
mod keeping;
mod messages;
mod owner;
mod raw;
mod take_over;
