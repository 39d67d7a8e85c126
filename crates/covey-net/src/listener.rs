//! Accepting connections: bound, counted, taken through the TLS handshake and handed to a protocol.
//!
//! | limit | when it is reached |
//! | --- | --- |
//! | [`Limits::connections_max`] | one of a stranger or an idle one leaves, if there is one; else the new connection is closed at once |
//! | [`Limits::files`] | the same |
//! | [`Limits::connections_per_address_max`] | the same, for those of the address |
//! | [`Limits::half_open_max`] | the oldest of the address with the most leaves, after a time of grace (`gate.rs`); the listener accepts no more until then: the rest waits in the system's backlog |
//! | [`Limits::half_open_per_address_max`] | the oldest of the address leaves, if its time of grace is over; else the new connection is closed at once |
//! | [`Limits::half_open_ms_max`] | the connection is closed |
//! | [`BACKLOG`] | the system lets the client's attempt be repeated |
//! | [`Limits::shutdown_ms_max`] | what is left is cut |
//!
//! Half-open is a connection whose protocol has not begun: no handshake yet, or no CONNECT. Who is
//! not let in is told to the protocol's owner ([`Protocol::refused`]).

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::certificate::PeerCertificate;
use crate::error::NetError;
use crate::gate::{Files, Gate, HalfOpen, Place};
use crate::handshake::shake_hands;
use crate::refusal::{Refusal, Refused, Told};
use crate::server_tls::ServerTls;
use crate::socket::{Accepted, Incoming};
use crate::transport::Transport;

/// How many connections the system keeps for a listener that does not accept at the moment; Linux
/// also has a bound of its own (`net.core.somaxconn`, 4,096 since 5.4).
pub const BACKLOG: u32 = 4096;
/// Pause after a connection could not be accepted, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 50;
/// How often refusals that were not told one by one are told together, in milliseconds.
const TELL_MS: u64 = 1_000;

/// How many connections of a listener may be half-open, unless it is told otherwise.
/// Limit for each listener that is told no other number: the oldest of the address with most is closed.
const HALF_OPEN_MAX: usize = 2_048;

/// What a listener bears.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many connections there may be, half-open ones included.
    pub connections_max: usize,
    /// The open files that they may have; without them as many as there may be connections.
    pub files: Option<Files>,
    /// How many of those that give way while they are idle may come from one address, unless it is loopback or
    /// that of a proxy; of IPv6, from one network of 64 bits.
    pub connections_per_address_max: usize,
    /// How many half-open connections there may be.
    pub half_open_max: usize,
    /// How many of them may come from one address; of IPv6, from one network of 64 bits.
    pub half_open_per_address_max: usize,
    /// How long a connection may be half-open, in milliseconds.
    pub half_open_ms_max: u64,
    /// How long connections may take to end when the listener stops, in milliseconds.
    pub shutdown_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            files: None,
            connections_per_address_max: usize::MAX,
            half_open_max: HALF_OPEN_MAX,
            half_open_per_address_max: HALF_OPEN_MAX / 2,
            half_open_ms_max: 15_000,
            shutdown_ms_max: 5_000,
        }
    }
}

/// A connection whose TLS handshake, if any, is done.
pub struct Established {
    /// The connection.
    pub transport: Transport,
    /// What the client said together with the end of its handshake.
    pub early: Vec<u8>,
    /// Whose certificate it has shown; none without TLS.
    pub certificate: Option<PeerCertificate>,
    /// Where it comes from.
    pub address: SocketAddr,
}

/// The life of a connection whose protocol has begun. It ends soon after [`Protocol::shutdown`];
/// where it does not, it is dropped.
pub type Life = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is spoken on the connections of a listener.
pub trait Protocol: Send + Sync + 'static {
    /// Begins: until this is done the connection is half-open. It is dropped when the time for that
    /// is over, and when the listener stops.
    ///
    /// What it answers is small and lives long, so that the room needed to begin is free again. It is
    /// none if the connection is over and there is nothing to tell.
    fn begin(&self, established: Established) -> impl Future<Output = Result<Option<Life>, Refused>> + Send;

    /// Connections were not let in, or did not begin. Told at most
    /// [`REFUSALS_TOLD_MAX`](crate::REFUSALS_TOLD_MAX) times a second for each kind, and then together.
    fn refused(&self, refusal: Refusal);

    /// The listener stops: every life is to end by itself.
    fn shutdown(&self);
}

/// Binds an address, port 0 for any that is free. A server that was killed may start again at once:
/// connections of its past that the system still remembers do not keep the port (`SO_REUSEADDR`).
/// A port on which somebody listens is refused.
///
/// # Errors
/// [`NetError::Bind`] for an address that is taken or may not be used.
pub fn bind(address: SocketAddr) -> Result<TcpListener, NetError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // On Windows it means something else: to take over a port that is in use.
        if cfg!(unix) {
            socket.set_reuseaddr(true)?;
        }
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|source| NetError::Bind { address, source })
}

/// Accepts connections until `shutdown`, then ends them, and returns when all tasks are over.
///
/// Without `tls` bytes travel unencrypted and nobody shows a certificate.
pub async fn serve<P: Protocol, L: Incoming>(
    listener: L,
    tls: Option<Arc<ServerTls>>,
    limits: Limits,
    protocol: Arc<P>,
    shutdown: CancellationToken,
) {
    let shutdown_ms_max = limits.shutdown_ms_max;
    let gate = Gate::new(limits);
    let server = Arc::new(Server { gate, tls, protocol, told: Told::new(), shutdown });
    let mut tasks = JoinSet::new();
    let mut tell = interval(Duration::from_millis(TELL_MS));
    tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut accepting = Accepting { listener, can_accept: true };
    loop {
        // Kept over the other branches, so that a connection that waits for its place is not lost.
        let mut next = std::pin::pin!(accepting.next(&server.gate));
        let accepted = loop {
            tokio::select! {
                biased;
                () = server.shutdown.cancelled() => break None,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => told_if_panicked(ended),
                _ = tell.tick() => server.tell_rest(),
                accepted = &mut next => break Some(accepted),
            }
        };
        let Some((accepted, admitted)) = accepted else { break };
        match admitted {
            Ok((place, half_open)) => {
                tasks.spawn(Arc::clone(&server).connection(accepted, half_open, place));
            }
            Err(refused) => server.refused(accepted.address, refused),
        }
    }
    // Closed first, so that a client that connects now is refused at once.
    drop(accepting);
    server.protocol.shutdown();
    end(tasks, shutdown_ms_max).await;
    server.tell_rest();
}

/// Waits until all connections are over, and cuts those that take too long.
async fn end(mut tasks: JoinSet<()>, ms_max: u64) {
    let all_ended = async {
        while let Some(ended) = tasks.join_next().await {
            told_if_panicked(ended);
        }
    };
    if timeout(Duration::from_millis(ms_max), all_ended).await.is_err() {
        tracing::warn!(open = tasks.len(), "cutting connections that did not end in time");
        tasks.shutdown().await;
    }
}

fn told_if_panicked(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a fault of this server");
    }
}

/// Where connections come from.
struct Accepting<L> {
    listener: L,
    /// Whether the last attempt was good, so that the log tells of an outage once.
    can_accept: bool,
}

impl<L: Incoming> Accepting<L> {
    /// The next connection, and its place.
    async fn next(&mut self, gate: &Arc<Gate>) -> (Accepted, Result<(Place, HalfOpen), Refused>) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.can_accept = true;
                    let admitted = gate.admit(accepted.address.ip()).await;
                    return (accepted, admitted);
                }
                Err(error) => {
                    // Out of file descriptors, or a connection that is gone already.
                    if std::mem::take(&mut self.can_accept) {
                        tracing::warn!(%error, "a connection could not be accepted");
                    }
                    sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            }
        }
    }
}

/// What the connections of a listener share.
struct Server<P> {
    gate: Arc<Gate>,
    tls: Option<Arc<ServerTls>>,
    protocol: Arc<P>,
    told: Told,
    shutdown: CancellationToken,
}

impl<P: Protocol> Server<P> {
    /// One connection from its first byte to its last. The place is dropped first, as the last of the
    /// parameters.
    async fn connection(self: Arc<Self>, accepted: Accepted, half_open: HalfOpen, place: Place) {
        // In a place of its own, which is free again when the protocol has begun.
        let life = Box::pin(self.begin(accepted, &half_open)).await;
        // Shared no more: a connection that lives needs nothing of the listener but its place.
        drop(self);
        let Some(life) = life else { return };
        drop(half_open);
        life.await;
        drop(place);
    }

    async fn begin(&self, accepted: Accepted, half_open: &HalfOpen) -> Option<Life> {
        let address = accepted.address;
        let begun = async {
            let established = shake_hands(accepted, self.tls.as_deref(), half_open).await?;
            match established {
                Some(established) => self.protocol.begin(established).await,
                None => Ok(None),
            }
        };
        let begun = timeout(self.gate.half_open_time(), begun);
        let begun = tokio::select! {
            biased;
            // A child, because all that wait on one token share one lock.
            () = self.shutdown.child_token().cancelled_owned() => return None,
            begun = begun => begun.unwrap_or(Err(Refused::Timeout)),
            () = half_open.until_displaced() => Err(Refused::Displaced),
        };
        begun.unwrap_or_else(|refused| {
            self.refused(address, refused);
            None
        })
    }

    fn refused(&self, address: SocketAddr, why: Refused) {
        if let Some(refusal) = self.told.add(address, why) {
            self.protocol.refused(refusal);
        }
    }

    fn tell_rest(&self) {
        for refusal in self.told.rest() {
            self.protocol.refused(refusal);
        }
    }
}
