//! CoAP (RFC 7252, 7641, 7959): the protocol of constrained nodes.
//!
//! [`message`] has the bytes, [`exchange`] what becomes of messages over time, [`socket`] and [`driver`] the
//! datagrams and the task, [`link_format`] what nodes say of their resources. What a node is, and what a request
//! means, is the matter of the [`driver::Owner`]. `docs/adr/0026-coap.md` says why it is so.

pub mod driver;
pub mod dtls;
pub mod exchange;
pub mod link_format;
pub mod message;
pub mod nodes;
pub mod socket;
