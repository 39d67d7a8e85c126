//! MQTT 3.1.1 and 5 with many clients that are mostly idle.
//!
//! The rules of the protocol are in [`covey_wire::mqtt`]: what a packet looks like, and what a session
//! is. Here are the sockets under them. The owner, who implements [`Service`], says who is let in,
//! what becomes of a message, and what may be subscribed to; there is no routing between clients.
//!
//! | what | is in |
//! | --- | --- |
//! | all clients, connected or away | [`Hub`] |
//! | one of them: its session, and the mailbox of its connection | `device.rs` |
//! | from the first byte to CONNACK | `begin.rs` |
//! | a connection that lives: one future without a timer | `connection.rs` |
//! | what it does with a packet | `packets.rs` |
//! | subscriptions that the owner is keeping | `keeping.rs` |
//! | messages that the owner is still working on | `under_way.rs` |
//! | deadlines of all of them, once a second | `sweep.rs` |

mod begin;
mod connection;
mod device;
mod hub;
mod keeping;
mod packets;
mod service;
mod sweep;
mod under_way;

use std::sync::Arc;
use std::time::Duration;

use covey_wire::mqtt::session;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::listener;
use crate::server_tls::ServerTls;
use crate::socket::Incoming;

pub use device::Handle;
pub use hub::Hub;
pub use service::{
    Admitted, Answer, Claim, ConnectionId, Denied, End, Handled, KeptSession, KeptState, Later, Opened,
    Publisher, Service, SessionToKeep,
};

/// What clients may ask of a server, and what it bears.
#[derive(Clone, Debug)]
pub struct MqttLimits {
    /// What is agreed on with a client, and what a session keeps.
    pub session: session::Limits,
    /// Largest CONNECT, in bytes; a larger one is refused with 0x95.
    /// Limit for each connection: 0x95.
    pub connect_bytes_max: usize,
    /// How long the owner may take to let a client in, in milliseconds; then the CONNECT is refused
    /// with 0x88.
    /// Limit for each connection: 0x88.
    pub admit_ms_max: u64,
    /// How many sessions there may be, those of clients that are away included; then a new client is
    /// refused with 0x97.
    pub sessions_max: usize,
    /// How many messages of one client the owner may be working on, those that its ended connections
    /// have left included; while it is as many, nothing more is read from the client.
    /// Limit for each device: its connection is not read.
    pub under_way_max: usize,
    /// How much may wait for a client that does not read, in bytes; then [`Handle::send`] answers that
    /// the client is full, and nothing more is read from it.
    pub unread_bytes_max: usize,
    /// How much may be kept for all clients together, in bytes: what waits for them or is not acknowledged,
    /// what is not written yet, and what came of packets that are not whole. Beyond it those for whom most is kept lose their connections (0x97) and
    /// their sessions, until a sixteenth of it is free.
    pub held_bytes_max: usize,
    /// How long a client may take no byte of what waits for it, in milliseconds; then the connection
    /// is closed.
    /// Limit for each device: the connection is closed.
    pub unread_ms_max: u64,
}

impl Default for MqttLimits {
    fn default() -> Self {
        Self {
            session: session::Limits::default(),
            connect_bytes_max: 16 * 1024,
            admit_ms_max: 10_000,
            sessions_max: 200_000,
            under_way_max: 64,
            unread_bytes_max: 256 * 1024,
            held_bytes_max: 64 * 1024 * 1024,
            unread_ms_max: 10_000,
        }
    }
}

/// A listener that MQTT is spoken on.
pub struct Endpoint<L = TcpListener> {
    /// Where connections come from, as bound by [`listener::bind`].
    pub listener: L,
    /// TLS; without it bytes travel unencrypted and nobody shows a certificate.
    pub tls: Option<Arc<ServerTls>>,
    /// What the listener bears.
    pub limits: listener::Limits,
}

/// Serves clients until `shutdown`. Each is then told (0x8B) and has the endpoint's time to take that
/// in; what the owner is still working on is waited for, within the same time once more. When this
/// returns, no task is left.
pub async fn serve<S: Service, L: Incoming>(
    hub: Arc<Hub<S>>,
    endpoints: Vec<Endpoint<L>>,
    shutdown: CancellationToken,
) {
    let grace_ms = endpoints.iter().map(|endpoint| endpoint.limits.shutdown_ms_max).max().unwrap_or(0);
    let protocol = Arc::new(begin::Mqtt::new(Arc::clone(&hub)));
    let mut listeners = tokio::task::JoinSet::new();
    for Endpoint { listener, tls, limits } in endpoints {
        listeners.spawn(listener::serve(listener, tls, limits, Arc::clone(&protocol), shutdown.clone()));
    }
    let all_served = async { while listeners.join_next().await.is_some() {} };
    tokio::select! {
        () = all_served => {}
        () = sweep::every_second(&hub) => {}
    }
    hub.close_detached();
    let detached = timeout(Duration::from_millis(grace_ms), hub.detached().wait()).await;
    if detached.is_err() {
        tracing::warn!(left = hub.detached().len(), "leaving messages whose fate is not known yet");
    }
}
