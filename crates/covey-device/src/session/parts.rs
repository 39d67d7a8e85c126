//! What a device at work is made of.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::events::StopsEvents;
use crate::handlers::Handlers;
use crate::journal::Journal;
use crate::session::backoff::Delays;
use crate::session::connection::Address;
use crate::status::{Counters, StatusSender};

/// How a device behaves; see the builder for each.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) sn: Arc<str>,
    pub(crate) address: Address,
    pub(crate) concurrent_calls_max: usize,
    pub(crate) events_in_flight_max: u16,
    pub(crate) announce_ack: bool,
    pub(crate) request_at_most_once: bool,
    /// `None`: push mode.
    pub(crate) poll_interval: Option<Duration>,
    pub(crate) delays: Delays,
    pub(crate) stop_when_refused: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) packet_bytes_max: u32,
    pub(crate) shutdown_grace: Duration,
}

/// The parts of a device that outlive a connection.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) status: Arc<StatusSender>,
    pub(crate) counters: Counters,
    pub(crate) events: StopsEvents,
}
