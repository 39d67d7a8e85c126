//! The network side of Covey: listeners, TLS, and MQTT connections that need little memory each. It
//! knows no type of the domain; its owner says who is let in and what becomes of a message.
//!
//! A device that is connected and idle is what a server mostly has. So nothing of a connection
//! lives while nothing is under way: buffers belong to threads ([`Transport`]), deadlines to one
//! sweep a second ([`mqtt`]), and what a handshake needs is given back after it.

mod byte_stream;
mod certificate;
mod error;
mod gate;
mod handshake;
mod imported;
pub mod listener;
pub mod mqtt;
mod refusal;
mod server_tls;
mod socket;
mod tls;
mod transport;

pub use byte_stream::ByteStream;
pub use certificate::PeerCertificate;
pub use error::NetError;
pub use gate::{BEGUN_MS, Claim, Files, Gate, HalfOpen, Lasting, Place, SILENT_MS, SharedFiles, Stay};
pub use imported::ImportedCa;
pub use listener::{Established, Life, Limits, Protocol};
pub use refusal::{REFUSALS_TOLD_MAX, Refusal, Refused};
pub use server_tls::{Identity, RECORD_BYTES_MAX, ServerTls, certificates_from_pem};
pub use socket::{Accepted, Incoming, Socket, Stream};
pub use tls::INCOMPLETE_BYTES_MAX;
pub use transport::{Ended, Transport};
