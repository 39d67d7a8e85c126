//! The contract as others see it: its bytes, and that each side understands the other.
#![allow(clippy::unwrap_used)]

mod bytes;
mod decode;
mod mqtt;
mod round_trip;
