//! A socket with or without TLS, and no buffer that lives while nothing is under way.
//!
//! What is read and encrypted goes through buffers of the thread. A connection keeps only what the
//! socket did not take.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::certificate::{PeerCertificate, sha256_hex};
use crate::imported::Issuers;
use crate::server_tls::ServerTls;
use crate::socket::Socket;
use crate::tls::{Peer, Tls};

/// How much is read from a socket at a time, in bytes: one TLS record of the largest kind.
const READ_BYTES: usize = 17 * 1024;
/// Room for ciphertext that a thread keeps between two connections, in bytes.
/// Limit for each thread: what is larger is given back.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// How long a client that is being left may take for the last words to it, in milliseconds.
/// Limit for each connection: it is cut.
const FINISH_MS_MAX: u64 = 1_000;
/// How much of what such a client still sends is thrown away before the socket is closed, in bytes.
/// While there is unread data a close is a reset, which may overtake the last words.
/// Limit for each connection: it is cut.
const FINISH_BYTES_MAX: usize = 1024 * 1024;

struct Scratch {
    read: Box<[u8]>,
    ciphertext: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        RefCell::new(Scratch { read: vec![0; READ_BYTES].into_boxed_slice(), ciphertext: Vec::new() });
}

/// Why nothing more can be read or written.
#[derive(Debug)]
pub enum Ended {
    /// The client has closed the connection.
    Closed,
    /// The connection was lost: a reset, or a client that is not there any more.
    Lost(io::Error),
    /// TLS failed; the client has been sent an alert that says why.
    Tls(rustls::Error),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => formatter.write_str("closed by the client"),
            Self::Lost(error) => write!(formatter, "connection lost: {error}"),
            Self::Tls(error) => write!(formatter, "TLS failed: {error}"),
        }
    }
}

/// A connection to a client.
pub struct Transport {
    socket: Socket,
    tls: Option<Tls>,
    /// The client has said that nothing follows; what it said before has been read.
    has_ended: bool,
    /// Something of the handshake was answered.
    has_answered: bool,
    /// What the socket did not take yet; encrypted, if there is TLS.
    unsent: Vec<u8>,
}

impl Transport {
    /// A socket on which TLS, if any, begins.
    ///
    /// # Errors
    /// A configuration that rustls cannot use.
    pub(crate) fn new(socket: Socket, tls: Option<&ServerTls>) -> Result<Self, rustls::Error> {
        let tls = tls.map(Tls::new).transpose()?;
        Ok(Self { socket, tls, has_ended: false, has_answered: false, unsent: Vec::new() })
    }

    /// Whether the TLS handshake is not over yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::is_handshaking)
    }

    /// Whose certificate the client has shown; none without TLS, and where it `is_optional`.
    ///
    /// # Errors
    /// What the certificate lacks.
    pub(crate) fn peer_certificate(
        &self,
        is_optional: bool,
        issuers: Option<&Issuers>,
    ) -> Result<Option<PeerCertificate>, &'static str> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let shown = match tls.peer_certificates() {
            [] if is_optional => return Ok(None),
            [] => return Err("no certificate was shown"),
            shown => shown,
        };
        let mut certificate = PeerCertificate::read(&shown[0])?;
        if let Some(prefix) = issuers.map(|issuers| issuers.prefix_of(shown)).transpose()?.flatten() {
            certificate.serial_hex = format!("{prefix}{}", sha256_hex(&shown[0])).into();
        }
        Ok(Some(certificate))
    }

    /// Whether something of the handshake was answered.
    pub(crate) fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Reads once, adding what the client said to `plain`: nothing, if it was part of a record or of
    /// a handshake. Answers to a handshake are sent.
    ///
    /// # Errors
    /// The end of what the client says.
    pub fn poll_read(&mut self, context: &mut Context<'_>, plain: &mut Vec<u8>) -> Poll<Result<(), Ended>> {
        if self.has_ended {
            return Poll::Ready(Err(Ended::Closed));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let count = ready!(self.socket.poll_read(context, &mut scratch.read)).map_err(Ended::Lost)?;
            if count == 0 {
                return Poll::Ready(Err(Ended::Closed));
            }
            let read = &mut scratch.read[..count];
            let Some(tls) = &mut self.tls else {
                plain.extend_from_slice(read);
                return Poll::Ready(Ok(()));
            };
            scratch.ciphertext.clear();
            let received = tls.receive(read, plain, &mut scratch.ciphertext);
            self.has_answered |= !scratch.ciphertext.is_empty();
            write(&self.socket, &mut self.unsent, &scratch.ciphertext).map_err(Ended::Lost)?;
            self.has_ended = received.map_err(Ended::Tls)? == Peer::Closed;
            Poll::Ready(Ok(()))
        })
    }

    /// Encrypts and writes as much as the socket takes; the rest waits for [`Self::poll_flush`].
    /// All of `plain` that fits goes into one record.
    ///
    /// # Errors
    /// A connection that has ended.
    pub fn send(&mut self, plain: &[u8]) -> Result<(), Ended> {
        let Some(tls) = &mut self.tls else {
            return write(&self.socket, &mut self.unsent, plain).map_err(Ended::Lost);
        };
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.ciphertext.clear();
            let sealed = tls.send(plain, &mut scratch.ciphertext).map_err(Ended::Tls);
            let written = write(&self.socket, &mut self.unsent, &scratch.ciphertext).map_err(Ended::Lost);
            if scratch.ciphertext.capacity() > KEPT_BYTES_MAX {
                scratch.ciphertext = Vec::new();
            }
            sealed.and(written)
        })
    }

    /// How many bytes the socket did not take yet.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Writes what waits; ready when nothing does.
    ///
    /// # Errors
    /// A connection that was lost.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while !self.unsent.is_empty() {
            ready!(self.socket.poll_write_ready(context)).map_err(Ended::Lost)?;
            let unsent = std::mem::take(&mut self.unsent);
            write(&self.socket, &mut self.unsent, &unsent).map_err(Ended::Lost)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Acknowledges at once what was read; to be called when there is no answer to carry that.
    pub(crate) fn acknowledge(&self) {
        self.socket.acknowledge();
    }

    /// Has the system find out whether the client is still there, for a protocol that does not.
    pub fn watch_for_death(&self) {
        self.socket.watch_for_death();
    }

    /// Says that nothing follows.
    pub(crate) fn shut_down_writing(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            let mut last = Vec::new();
            tls.close(&mut last);
            write(&self.socket, &mut self.unsent, &last)?;
        }
        self.socket.shutdown_write()
    }

    /// Ends the connection so that the last words reach the client: they are written, nothing
    /// follows, and what the client still sends is thrown away.
    pub async fn finish(mut self) {
        if let Some(tls) = &mut self.tls {
            let mut last = Vec::new();
            tls.close(&mut last);
            if write(&self.socket, &mut self.unsent, &last).is_err() {
                return;
            }
        }
        let said = async {
            poll_fn(|context| self.poll_flush(context)).await.ok()?;
            self.socket.shutdown_write().ok()?;
            let mut thrown_away = 0;
            while thrown_away < FINISH_BYTES_MAX {
                let read = poll_fn(|context| {
                    SCRATCH.with_borrow_mut(|scratch| self.socket.poll_read(context, &mut scratch.read))
                });
                match read.await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => thrown_away += count,
                }
            }
            Some(())
        };
        // However it went, the socket is closed now.
        let _ = tokio::time::timeout(Duration::from_millis(FINISH_MS_MAX), said).await;
    }
}

/// Writes what the socket takes of `unsent` and then of `bytes`, and keeps the rest in `unsent`.
fn write(socket: &Socket, unsent: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    let mut at = 0;
    // What waits goes first, when the socket takes something again.
    while unsent.is_empty() && at < bytes.len() {
        match socket.try_write(&bytes[at..]) {
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    unsent.extend_from_slice(&bytes[at..]);
    Ok(())
}
