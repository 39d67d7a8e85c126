//! Servers and units of Covey on the local network: DNS-SD (RFC 6763) over multicast DNS (RFC 6762).
//!
//! What is announced is in [`Announcement`], what was found in [`Found`]. Nothing that was found is trusted: an address is
//! a place to connect to, and whoever is there must prove itself by the CA that the client has (`docs/discovery.md`).
//!
//! What this crate does not do: it connects to nobody, writes no log, and knows nothing of what it announces. Its rules
//! ([`found`], [`choose`]) do no I/O; [`look`] and [`Announcer`] are thin drivers of the library `mdns-sd`.

mod announce;
mod choice;
mod error;
mod fingerprint;
pub mod found;
mod look;
mod service;

pub use announce::{Announcer, CACHED_RECORDS_MAX, Happened};
pub use choice::{NotChosen, choose};
pub use error::DiscoveryError;
pub use fingerprint::{fingerprint, fingerprints};
pub use found::{Found, Refused};
pub use look::{FOUND_MAX, LOOK_MS, LOOK_MS_MAX, Looked, look, reachable};
pub use service::{Announcement, Kind, Reach, Txt, host_name, instance_name};
