//! A socket with or without TLS, and no buffer that lives while nothing is under way.
//!
//! What is read and encrypted goes through buffers of the thread. A connection keeps only what the
//! socket did not take.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::certificate::PeerCertificate;
use crate::server_tls::ServerTls;
use crate::tls::{Peer, Tls};

/// How much is read from a socket at a time, in bytes: one TLS record of the largest kind.
const READ_BYTES: usize = 17 * 1024;
/// Room for ciphertext that a thread keeps between two connections, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// How long a client that is being left may take for the last words to it, in milliseconds.
const FINISH_MS_MAX: u64 = 1_000;
/// How much of what such a client still sends is thrown away before the socket is closed, in bytes.
/// While there is unread data a close is a reset, which may overtake the last words.
const FINISH_BYTES_MAX: usize = 1024 * 1024;
/// After how many seconds without a byte the system asks whether a client is still there, where the
/// protocol does not. Not sooner: the question wakes a device that sleeps.
const PROBE_AFTER_S: u64 = 300;
/// Seconds between such questions.
const PROBE_EVERY_S: u64 = 30;
/// How many remain unanswered until the client is taken for dead.
const PROBES: u32 = 4;

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
    tcp: TcpStream,
    tls: Option<Tls>,
    /// The client has said that nothing follows; what it said before has been read.
    has_ended: bool,
    /// What the socket did not take yet; encrypted, if there is TLS.
    unsent: Vec<u8>,
}

impl Transport {
    /// A socket on which TLS, if any, begins.
    ///
    /// # Errors
    /// A configuration that rustls cannot use.
    pub(crate) fn new(tcp: TcpStream, tls: Option<&ServerTls>) -> Result<Self, rustls::Error> {
        let tls = tls.map(Tls::new).transpose()?;
        Ok(Self { tcp, tls, has_ended: false, unsent: Vec::new() })
    }

    /// Whether the TLS handshake is not over yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::is_handshaking)
    }

    /// Whose certificate the client has shown; none without TLS.
    ///
    /// # Errors
    /// What the certificate lacks.
    pub(crate) fn peer_certificate(&self) -> Result<Option<PeerCertificate>, &'static str> {
        let Some(tls) = &self.tls else { return Ok(None) };
        PeerCertificate::read(tls.peer_certificate().ok_or("no certificate was shown")?).map(Some)
    }

    /// Waits for the first byte, and leaves it there; no if the client leaves before that.
    pub(crate) async fn begins(&self) -> bool {
        // Not `readable`, which may also be ready when there is nothing.
        matches!(self.tcp.peek(&mut [0]).await, Ok(1))
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
            let read = loop {
                ready!(self.tcp.poll_read_ready(context)).map_err(Ended::Lost)?;
                match self.tcp.try_read(&mut scratch.read) {
                    Ok(0) => return Poll::Ready(Err(Ended::Closed)),
                    Ok(count) => break &mut scratch.read[..count],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(Ended::Lost(error))),
                }
            };
            let Some(tls) = &mut self.tls else {
                plain.extend_from_slice(read);
                return Poll::Ready(Ok(()));
            };
            scratch.ciphertext.clear();
            let received = tls.receive(read, plain, &mut scratch.ciphertext);
            write(&self.tcp, &mut self.unsent, &scratch.ciphertext).map_err(Ended::Lost)?;
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
            return write(&self.tcp, &mut self.unsent, plain).map_err(Ended::Lost);
        };
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.ciphertext.clear();
            let sealed = tls.send(plain, &mut scratch.ciphertext).map_err(Ended::Tls);
            let written = write(&self.tcp, &mut self.unsent, &scratch.ciphertext).map_err(Ended::Lost);
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
            ready!(self.tcp.poll_write_ready(context)).map_err(Ended::Lost)?;
            let unsent = std::mem::take(&mut self.unsent);
            write(&self.tcp, &mut self.unsent, &unsent).map_err(Ended::Lost)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Has the system find out whether the client is still there, for a protocol that does not.
    pub fn watch_for_death(&self) {
        let (after, every) = (Duration::from_secs(PROBE_AFTER_S), Duration::from_secs(PROBE_EVERY_S));
        let probes = TcpKeepalive::new().with_time(after).with_interval(every).with_retries(PROBES);
        let socket = SockRef::from(&self.tcp);
        let mut set = socket.set_tcp_keepalive(&probes);
        // What was sent and is not acknowledged counts as a question too; the system would go on for
        // about 15 minutes.
        #[cfg(target_os = "linux")]
        {
            set = set.and_then(|()| socket.set_tcp_user_timeout(Some(after + every * PROBES)));
        }
        if let Err(error) = set {
            tracing::debug!(%error, "a connection is gone already");
        }
    }

    /// Ends the connection so that the last words reach the client: they are written, nothing
    /// follows, and what the client still sends is thrown away.
    pub async fn finish(mut self) {
        if let Some(tls) = &mut self.tls {
            let mut last = Vec::new();
            tls.close(&mut last);
            if write(&self.tcp, &mut self.unsent, &last).is_err() {
                return;
            }
        }
        let said = async {
            poll_fn(|context| self.poll_flush(context)).await.ok()?;
            SockRef::from(&self.tcp).shutdown(Shutdown::Write).ok()?;
            let mut thrown_away = 0;
            while thrown_away < FINISH_BYTES_MAX {
                self.tcp.readable().await.ok()?;
                let read = SCRATCH.with_borrow_mut(|scratch| self.tcp.try_read(&mut scratch.read));
                match read {
                    Ok(0) => break,
                    Ok(count) => thrown_away += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
            Some(())
        };
        // However it went, the socket is closed now.
        let _ = tokio::time::timeout(Duration::from_millis(FINISH_MS_MAX), said).await;
    }
}

/// Writes what the socket takes of `unsent` and then of `bytes`, and keeps the rest in `unsent`.
fn write(tcp: &TcpStream, unsent: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    let mut at = 0;
    // What waits goes first, when the socket takes something again.
    while unsent.is_empty() && at < bytes.len() {
        match tcp.try_write(&bytes[at..]) {
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    unsent.extend_from_slice(&bytes[at..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_system_asks_for_a_client_whose_protocol_does_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let transport = Transport::new(listener.accept().await.unwrap().0, None).unwrap();
        let is_asking = || SockRef::from(&transport.tcp).keepalive().unwrap();
        assert!(!is_asking(), "a device that sleeps is not woken without need");
        transport.watch_for_death();
        let socket = SockRef::from(&transport.tcp);
        assert!(is_asking());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(300));
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(420)));
    }
}
