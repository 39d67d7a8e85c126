//! MQTT as bytes: what is written is read again, what breaks a rule is refused by its number, and codecs that
//! others wrote say the same.

mod bytes;
mod foreign;
mod generate;
mod mutation;
mod refused;
mod round_trip;
mod session;
mod statements;
mod tables;
mod taken;
mod three;
