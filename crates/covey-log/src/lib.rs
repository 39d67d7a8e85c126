//! The log as a resource: how a line looks, and how many there are.
//!
//! All lines go through [`Lines`], whoever writes them. So whatever a device, an application or a stranger
//! does, the log grows no faster than the bounds below say, and nobody can forge a line:
//!
//! | what | bound | beyond |
//! | --- | --- | --- |
//! | lines of one place in the code about one peer | [`PEER_LINES_MAX`] at once, then one in [`PEER_LINE_MS`] | left out |
//! | lines of one place in the code | [`PLACE_LINES_MAX`] at once, then one in [`PLACE_LINE_MS`] | left out |
//! | lines about peers in all | [`ALL_PEERS_LINES_MAX`] at once, then one in [`ALL_PEERS_LINE_MS`] | left out |
//! | a value | [`VALUE_CHARS_MAX`] characters, of a text of the server's own [`TEXT_CHARS_MAX`] | cut, `…` behind it |
//!
//! The next line of the same place says how many were left out (`left_out`). A peer is what stands in the
//! field `sn`, `address` (without its port) or `client_id`, the first of these that there is. Lines at the
//! levels debug and trace, which nobody has unless he asks for them, are bounded by their place alone, at
//! [`DETAIL_LINES_MAX`] and [`DETAIL_LINE_MS`].

mod bounds;
mod fields;
mod lines;

pub use bounds::{
    ALL_PEERS_LINE_MS, ALL_PEERS_LINES_MAX, DETAIL_LINE_MS, DETAIL_LINES_MAX, PEER_LINE_MS, PEER_LINES_MAX,
    PEERS_MAX, PLACE_LINE_MS, PLACE_LINES_MAX,
};
pub use fields::{TEXT_CHARS_MAX, VALUE_CHARS_MAX};
pub use lines::{Form, Lines};
