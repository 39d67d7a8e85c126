//! TLS of one connection without buffers of its own: the only file that knows rustls' unbuffered
//! interface.
//!
//! A connection that is idle keeps its keys and nothing else. Ciphertext comes in through a buffer
//! that belongs to the thread and goes out through one that belongs to the caller; what stays
//! between two reads is a record, or a handshake message, that is not complete yet.
//!
//! Two rules of the interface that its types do not show:
//! - What was not discarded has been decrypted in place, and rustls remembers how much of it. Each
//!   later call must therefore be given those bytes again, also a call that is only to write: with
//!   an empty buffer it would reach beyond its end.
//! - After an error rustls has an alert to send (RFC 8446 §6.2), which comes out of the next call. No
//!   call may follow that: it would fail over the same bytes again and have a second alert to send,
//!   which a debug assertion of rustls forbids.

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls_pki_types::CertificateDer;

use crate::server_tls::ServerTls;

/// How much ciphertext may wait for the rest of its record or handshake message, in bytes. A record
/// has at most 16 KiB and 256 bytes (RFC 8446 §5.2); a client's certificates are far smaller.
/// Limit for each connection: it is closed.
pub const INCOMPLETE_BYTES_MAX: usize = 32 * 1024;

/// Room that a record needs beside its plaintext, in bytes: header, nonce, tag, content type. One
/// that needs more says so.
const RECORD_OVERHEAD_BYTES: usize = 32;
/// Plaintext of a record as the listener sends it, in bytes.
const RECORD_BYTES: usize = crate::server_tls::RECORD_BYTES_MAX - 5;
/// Room for an alert or a handshake message, in bytes. One that needs more says so.
const MESSAGE_BYTES: usize = 512;

/// The server's side of TLS with one client.
pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    /// The beginning of a record or handshake message; empty most of the time.
    incomplete: Vec<u8>,
    /// After an error nothing more is asked of rustls.
    has_failed: bool,
}

/// Whether more can come from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Open,
    /// It has said that nothing follows (close_notify).
    Closed,
}

impl Tls {
    /// # Errors
    /// A configuration that rustls cannot use.
    pub(crate) fn new(server: &ServerTls) -> Result<Self, rustls::Error> {
        let connection = UnbufferedServerConnection::new(server.current())?;
        Ok(Self { connection, incomplete: Vec::new(), has_failed: false })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The certificate that the client has shown and proved to hold, and what it has sent of those that lead to its CA.
    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }

    /// Takes ciphertext, which is changed in place; what the client said is added to `plain`, what
    /// must be sent to it to `out`, after an error too.
    ///
    /// # Errors
    /// A handshake that fails, or bytes that are no TLS. The connection is of no further use.
    pub(crate) fn receive(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Peer, rustls::Error> {
        let received;
        if self.incomplete.is_empty() {
            let (used, result) = process(&mut self.connection, ciphertext, plain, out);
            received = result;
            self.incomplete.extend_from_slice(&ciphertext[used..]);
        } else {
            let mut together = std::mem::take(&mut self.incomplete);
            together.extend_from_slice(ciphertext);
            let (used, result) = process(&mut self.connection, &mut together, plain, out);
            received = result;
            if used < together.len() {
                together.drain(..used);
                self.incomplete = together;
            }
        }
        if received.is_err() {
            self.has_failed = true;
            self.last_words(out);
        } else if self.incomplete.len() > INCOMPLETE_BYTES_MAX {
            self.has_failed = true;
            return Err(rustls::Error::General(format!(
                "a TLS message is larger than {INCOMPLETE_BYTES_MAX} bytes"
            )));
        }
        received
    }

    /// Encrypts: one record for up to 4 KiB of `plain`, added to `out`.
    ///
    /// # Errors
    /// A connection on which nothing can be said (any more).
    pub(crate) fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        self.write(out, |writer, out| {
            let records = plain.len().div_ceil(RECORD_BYTES);
            let room = plain.len() + records * RECORD_OVERHEAD_BYTES;
            with_room(out, room, |room| match writer.encrypt(plain, room) {
                Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
                other => other.map_err(|_| None),
            })
        })
    }

    /// Says that nothing follows (close_notify, RFC 8446 §6.1).
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) {
        // Where nothing can be said, the end of the socket says it.
        let _ = self.write(out, |writer, out| {
            with_room(out, MESSAGE_BYTES, |room| match writer.queue_close_notify(room) {
                Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
                other => other.map_err(|_| None),
            })
        });
    }

    /// Lets `say` speak once all that was said before is in `out`, such as the answer to a key update.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        mut say: impl FnMut(&mut rustls::unbuffered::WriteTraffic<'_, ServerSide>, &mut Vec<u8>) -> Option<()>,
    ) -> Result<(), rustls::Error> {
        let mute = || rustls::Error::General("nothing can be sent on this connection".into());
        if self.has_failed {
            return Err(mute());
        }
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut self.incomplete);
            let said = match state? {
                ConnectionState::EncodeTlsData(mut message) => encode(&mut message, out).map(|()| false),
                ConnectionState::TransmitTlsData(message) => {
                    message.done();
                    Some(false)
                }
                // Told once, also by a call that only writes; the socket's end follows.
                ConnectionState::PeerClosed => Some(false),
                ConnectionState::WriteTraffic(mut writer) => say(&mut writer, out).map(|()| true),
                _ => None,
            };
            self.incomplete.drain(..discard);
            match said {
                Some(false) => {}
                Some(true) => return Ok(()),
                None => return Err(mute()),
            }
        }
    }

    /// After an error: the alert that tells the client why.
    fn last_words(&mut self, out: &mut Vec<u8>) {
        let next = self.connection.process_tls_records(&mut self.incomplete).state;
        if let Ok(ConnectionState::EncodeTlsData(mut message)) = next {
            // One that has no room for it says nothing.
            let _ = encode(&mut message, out);
        }
    }
}

type ServerSide = rustls::server::ServerConnectionData;

/// Works on `ciphertext` until more is needed; answers how much of it is used up.
fn process(
    connection: &mut UnbufferedServerConnection,
    ciphertext: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> (usize, Result<Peer, rustls::Error>) {
    let mut used = 0;
    loop {
        let UnbufferedStatus { mut discard, state, .. } =
            connection.process_tls_records(&mut ciphertext[used..]);
        let mut end = None;
        match state {
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                if encode(&mut message, out).is_none() {
                    end = Some(Err(rustls::Error::EncryptError));
                }
            }
            Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            plain.extend_from_slice(record.payload);
                            discard += record.discard;
                        }
                        Err(error) => {
                            end = Some(Err(error));
                            break;
                        }
                    }
                }
            }
            Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => {
                end = Some(Ok(Peer::Open));
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => end = Some(Ok(Peer::Closed)),
            // Data before the end of the handshake, which this server never offers to take.
            Ok(_) => end = Some(Err(rustls::Error::HandshakeNotComplete)),
            Err(error) => end = Some(Err(error)),
        }
        used += discard;
        if let Some(end) = end {
            return (used, end);
        }
    }
}

/// Adds a handshake message or an alert to `out`; none if rustls has none.
fn encode(message: &mut rustls::unbuffered::EncodeTlsData<'_, ServerSide>, out: &mut Vec<u8>) -> Option<()> {
    with_room(out, MESSAGE_BYTES, |room| match message.encode(room) {
        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
        other => other.map_err(|_| None),
    })
}

/// Has something written at the end of `out`, into as much room as is guessed or, failing that, needed.
fn with_room(
    out: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Option<()> {
    let before = out.len();
    let mut room = guess;
    // The second time it has the room that it asked for.
    for _ in 0..2 {
        out.resize(before + room, 0);
        match write(&mut out[before..]) {
            Ok(written) => {
                out.truncate(before + written);
                return Some(());
            }
            Err(Some(required)) => room = required,
            Err(None) => break,
        }
    }
    out.truncate(before);
    None
}
