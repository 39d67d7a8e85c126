//! CoAP over DTLS 1.2 (RFC 7252 §9, RFC 6347) with pre-shared keys (RFC 4279).
//!
//! [`keys`] says who may come and as which node, `hello` proves an address before anything is kept of it,
//! [`sessions`] holds the sessions without sockets, tasks and clocks, `provider` lends the library the cryptography
//! that is in the program already. `docs/adr/0033-coap-over-dtls.md` says why it is so.

mod hello;
pub mod keys;
mod provider;
pub mod sessions;

pub use keys::{Identity, KeyFileError, Keys};
pub use sessions::{Dropped, Event, Output, Sessions};

/// The port of CoAP over DTLS (RFC 7252 §6.2).
pub const PORT: u16 = 5684;
