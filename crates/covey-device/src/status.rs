//! What a program can watch of its device: the connection's status, and counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::refusal::Refusal;

/// The state of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Not connected; connecting, or waiting to try again.
    Connecting,
    /// Connected and subscribed: calls can arrive.
    Connected,
    /// The server said no. It is tried again at the slow rate, unless
    /// [`stop_when_refused`](crate::DeviceBuilder::stop_when_refused) is on.
    Refused(Refusal),
    /// [`Device::run`](crate::Device::run) has ended.
    Stopped,
}

/// A handle on a device's counters. Cheap to clone; reads never block the device.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    connects: AtomicU64,
    calls_executed: AtomicU64,
    duplicates_suppressed: AtomicU64,
    partials_sent: AtomicU64,
    results_sent: AtomicU64,
    results_committed: AtomicU64,
    events_accepted: AtomicU64,
    events_sent: AtomicU64,
    events_acknowledged: AtomicU64,
    events_refused: AtomicU64,
    events_dropped: AtomicU64,
    events_superseded: AtomicU64,
}

/// The counters at one instant, each since the device was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountersSnapshot {
    /// Times the device was connected and subscribed.
    pub connects: u64,
    /// Calls whose handler ran to its answer.
    pub calls_executed: u64,
    /// Announcements and deliveries of a task already running, queued or finished.
    pub duplicates_suppressed: u64,
    /// Partial results (206) handed to the connection, repetitions included.
    pub partials_sent: u64,
    /// Final results handed to the connection, repetitions included.
    pub results_sent: u64,
    /// Final results the server has committed.
    pub results_committed: u64,
    /// Events queued.
    pub events_accepted: u64,
    /// Events handed to the connection, repetitions included.
    pub events_sent: u64,
    /// Events the server has.
    pub events_acknowledged: u64,
    /// Events the server will not take, given up.
    pub events_refused: u64,
    /// Events that had to make room for newer ones.
    pub events_dropped: u64,
    /// Gauges whose place a newer one took before they were sent.
    pub events_superseded: u64,
}

impl Counters {
    /// Reads all counters.
    #[must_use]
    pub fn snapshot(&self) -> CountersSnapshot {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        CountersSnapshot {
            connects: read(&self.0.connects),
            calls_executed: read(&self.0.calls_executed),
            duplicates_suppressed: read(&self.0.duplicates_suppressed),
            partials_sent: read(&self.0.partials_sent),
            results_sent: read(&self.0.results_sent),
            results_committed: read(&self.0.results_committed),
            events_accepted: read(&self.0.events_accepted),
            events_sent: read(&self.0.events_sent),
            events_acknowledged: read(&self.0.events_acknowledged),
            events_refused: read(&self.0.events_refused),
            events_dropped: read(&self.0.events_dropped),
            events_superseded: read(&self.0.events_superseded),
        }
    }

    pub(crate) fn connected(&self) {
        add(&self.0.connects);
    }

    pub(crate) fn executed(&self) {
        add(&self.0.calls_executed);
    }

    pub(crate) fn duplicate(&self) {
        add(&self.0.duplicates_suppressed);
    }

    pub(crate) fn sent(&self, partial: bool) {
        add(if partial { &self.0.partials_sent } else { &self.0.results_sent });
    }

    pub(crate) fn committed(&self) {
        add(&self.0.results_committed);
    }

    pub(crate) fn event_accepted(&self) {
        add(&self.0.events_accepted);
    }

    pub(crate) fn event_sent(&self) {
        add(&self.0.events_sent);
    }

    pub(crate) fn event_acknowledged(&self) {
        add(&self.0.events_acknowledged);
    }

    pub(crate) fn event_refused(&self) {
        add(&self.0.events_refused);
    }

    pub(crate) fn events_dropped(&self, count: usize) {
        self.0.events_dropped.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn events_superseded(&self, count: usize) {
        self.0.events_superseded.fetch_add(count as u64, Ordering::Relaxed);
    }
}

fn add(cell: &AtomicU64) {
    cell.fetch_add(1, Ordering::Relaxed);
}

/// The sending end of the status; tells watchers of changes only.
#[derive(Debug)]
pub(crate) struct StatusSender(watch::Sender<Status>);

impl StatusSender {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Status::Connecting))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Status> {
        self.0.subscribe()
    }

    pub(crate) fn set(&self, status: Status) {
        self.0.send_if_modified(|current| {
            let changed = *current != status;
            if changed {
                *current = status;
            }
            changed
        });
    }
}
