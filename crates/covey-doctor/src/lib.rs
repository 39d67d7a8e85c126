//! What is wrong around a server: each module looks at one thing, or judges what others have seen of it, and answers
//! [findings](covey_core::finding::Finding) with what to do.
//!
//! What this crate does not do: it changes nothing but the [trace of a backup](backup::Trace), speaks with no database
//! and no broker, reads no certificate, and reads no clock (`now` always comes in). A server looks every few seconds, so
//! all of it is cheap; what waits for a network says so.

pub mod backup;
pub mod certificate;
pub mod clock;
pub mod disk;
pub mod files;
pub mod parts;
pub mod ports;
pub mod webhooks;
mod words;
