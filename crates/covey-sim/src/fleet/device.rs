//! One simulated device: online, offline or rebooting, until it is stopped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use covey_device::{Counters, CountersSnapshot, Device, Handlers, Identity, Status, TlsRoots};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::behaviour::Stretch;
use crate::behaviour::methods::{DeviceState, Shared};
use crate::error::Result;
use crate::fleet::register::Member;

/// How long a device stays away when it reboots.
const REBOOT_PAUSE: Duration = Duration::from_secs(2);
/// How long a device that leaves waits for its results to be committed.
const LEAVE_GRACE: Duration = Duration::from_secs(1);
/// Tasks that a simulated device remembers.
const JOURNAL_ENTRIES: usize = 64;
/// Calls that a device with lost answers works on at a time: a lost one keeps
/// its place until its task expires.
const CONCURRENT_CALLS_DROPPING: usize = 64;
/// A swarm is patient: its server may be busy with the handshakes of the others.
const RECONNECT_MAX: Duration = Duration::from_secs(10);

/// What the devices of a simulation are made from.
pub(crate) struct Workshop {
    pub(crate) server: String,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) shared: Arc<Shared>,
}

/// A device's place in a simulation. The device itself comes and goes.
pub(crate) struct Slot {
    pub(crate) member: Member,
    pub(crate) roots: TlsRoots,
    state: Arc<DeviceState>,
    present: Mutex<Option<Present>>,
    /// Counted by devices that have gone from this place.
    connects: AtomicU64,
    duplicates: AtomicU64,
}

/// A device that is here now.
struct Present {
    status: watch::Receiver<Status>,
    counters: Counters,
}

impl Slot {
    pub(crate) fn new(member: Member, roots: TlsRoots, state: Arc<DeviceState>) -> Self {
        Self {
            member,
            roots,
            state,
            present: Mutex::new(None),
            connects: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
        }
    }

    /// The status of the device that is here now.
    pub(crate) fn status(&self) -> Option<watch::Receiver<Status>> {
        self.present().as_ref().map(|present| present.status.clone())
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.present().as_ref().is_some_and(|present| *present.status.borrow() == Status::Connected)
    }

    /// Connections and suppressed duplicates so far.
    pub(crate) fn connects_and_duplicates(&self) -> (u64, u64) {
        let now =
            self.present().as_ref().map_or_else(CountersSnapshot::default, |now| now.counters.snapshot());
        (
            self.connects.load(Ordering::Relaxed) + now.connects,
            self.duplicates.load(Ordering::Relaxed) + now.duplicates_suppressed,
        )
    }

    fn present(&self) -> MutexGuard<'_, Option<Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device for this place, not yet connected.
    pub(crate) fn build(&self, workshop: &Workshop) -> Result<Device> {
        let Member { ca_pem, certificate_pem, private_key_pem, .. } = &self.member;
        let identity =
            Identity::from_pem(ca_pem.as_bytes(), certificate_pem.as_bytes(), private_key_pem.as_bytes())?;
        let behaviour = &workshop.shared.behaviour;
        let mut builder = Device::builder()
            .server(workshop.server.as_str())
            .identity(identity)
            .tls_roots(&self.roots)
            .handlers(Arc::clone(&workshop.handlers))
            .journal_entries_max(JOURNAL_ENTRIES)
            .reconnect_delay(Duration::from_millis(200), RECONNECT_MAX)
            .shutdown_grace(LEAVE_GRACE);
        if let Some(interval) = behaviour.poll {
            builder = builder.poll_every(interval);
        }
        if behaviour.drop_rate.share() > 0.0 {
            builder = builder.concurrent_calls_max(CONCURRENT_CALLS_DROPPING);
        }
        let device = builder.build()?;
        *self.present() = Some(Present { status: device.status(), counters: device.counters() });
        Ok(device)
    }

    fn gone(&self) {
        if let Some(gone) = self.present().take() {
            let last = gone.counters.snapshot();
            self.connects.fetch_add(last.connects, Ordering::Relaxed);
            self.duplicates.fetch_add(last.duplicates_suppressed, Ordering::Relaxed);
        }
    }
}

/// Runs the devices of a place until it is told to stop, beginning with
/// `first`. A device leaves in an orderly way, also when it goes offline: its
/// journal is in memory, and what is cut off would count as a failure of its own.
pub(crate) async fn run(slot: Arc<Slot>, workshop: Arc<Workshop>, first: Device, stop: CancellationToken) {
    let pattern = workshop.shared.behaviour.offline;
    let mut stretches = pattern.map(|pattern| pattern.stretches(slot.state.fates.phase()));
    let mut next = Some(first);
    while !stop.is_cancelled() {
        let online = match stretches.as_mut().and_then(Iterator::next) {
            Some(Stretch::Offline(offline)) => {
                pause(offline, &stop).await;
                continue;
            }
            Some(Stretch::Online(online)) => Some(online),
            None => None,
        };
        online_for(&slot, &workshop, &mut next, online, &stop).await;
    }
    slot.gone();
}

/// Stays online for so long, or until it is stopped; reboots whenever it is told to.
async fn online_for(
    slot: &Slot,
    workshop: &Workshop,
    next: &mut Option<Device>,
    online: Option<Duration>,
    stop: &CancellationToken,
) {
    let end = online.map(|online| tokio::time::Instant::now() + online);
    loop {
        let device = match next.take().map_or_else(|| slot.build(workshop), Ok) {
            Ok(device) => device,
            Err(error) => {
                // It could be built before, so this is not expected to pass.
                tracing::error!(sn = %slot.member.sn, %error, "the device cannot be simulated any more");
                stop.cancelled().await;
                return;
            }
        };
        workshop.shared.started(&slot.state);
        let leave = stop.child_token();
        let mut running = std::pin::pin!(device.run(leave.clone()));
        let is_reboot = tokio::select! {
            // Ends by itself only when it is stopped.
            _ = &mut running => return,
            () = until(end) => false,
            () = slot.state.reboot.notified() => true,
        };
        leave.cancel();
        let _ = running.await;
        slot.gone();
        if !is_reboot {
            return;
        }
        pause(REBOOT_PAUSE, stop).await;
        if stop.is_cancelled() || end.is_some_and(|end| tokio::time::Instant::now() >= end) {
            return;
        }
    }
}

async fn until(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

async fn pause(duration: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = sleep(duration) => {}
        () = stop.cancelled() => {}
    }
}
