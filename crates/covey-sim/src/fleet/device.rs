//! One simulated device: online, offline or rebooting, until it is stopped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use covey_device::{Counters, Device, Handlers, Identity, Status, TlsRoots};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::behaviour::methods::{DeviceState, Shared};
use crate::behaviour::{EventBehaviour, Stretch};
use crate::error::Result;
use crate::fleet::register::Member;
use crate::fleet::telling::tell;

/// How long a device stays away when it reboots.
const REBOOT_PAUSE: Duration = Duration::from_secs(2);
/// How long a device that leaves waits for its results to be committed.
const LEAVE_GRACE: Duration = Duration::from_secs(1);
/// Tasks that a simulated device remembers.
const JOURNAL_ENTRIES: usize = 64;
/// Events that wait in a simulated device, at least.
const EVENTS_WAITING: usize = 1_000;
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
    gone: Mutex<Counted>,
}

/// What the devices of a place have counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) connects: u64,
    pub(crate) duplicates_suppressed: u64,
    pub(crate) events_sent: u64,
    pub(crate) events_acknowledged: u64,
    pub(crate) events_refused: u64,
}

impl Counted {
    fn add(&mut self, counters: &Counters) {
        let now = counters.snapshot();
        self.connects += now.connects;
        self.duplicates_suppressed += now.duplicates_suppressed;
        self.events_sent += now.events_sent;
        self.events_acknowledged += now.events_acknowledged;
        self.events_refused += now.events_refused;
    }
}

/// A device that is here now.
struct Present {
    status: watch::Receiver<Status>,
    counters: Counters,
}

impl Slot {
    pub(crate) fn new(member: Member, roots: TlsRoots, state: Arc<DeviceState>) -> Self {
        Self { member, roots, state, present: Mutex::new(None), gone: Mutex::default() }
    }

    /// The status of the device that is here now.
    pub(crate) fn status(&self) -> Option<watch::Receiver<Status>> {
        self.present().as_ref().map(|present| present.status.clone())
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.present().as_ref().is_some_and(|present| *present.status.borrow() == Status::Connected)
    }

    /// What was counted so far.
    pub(crate) fn counted(&self) -> Counted {
        // Both at once: a device that goes meanwhile would count twice, or not at all.
        let present = self.present();
        let mut counted = *self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = present.as_ref() {
            counted.add(&present.counters);
        }
        counted
    }

    fn present(&self) -> MutexGuard<'_, Option<Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device for this place, not yet connected.
    pub(crate) fn build(&self, workshop: &Workshop) -> Result<Device> {
        let Member { ca_pem, certificate_pem, private_key_pem, renewal, .. } = &self.member;
        let behaviour = &workshop.shared.behaviour;
        let mut builder = Device::builder()
            .server(workshop.server.as_str())
            .tls_roots(&self.roots)
            .handlers(Arc::clone(&workshop.handlers))
            .journal_entries_max(JOURNAL_ENTRIES)
            .event_queue_entries_max(self.event_queue_entries(&behaviour.events))
            .reconnect_delay(Duration::from_millis(200), RECONNECT_MAX)
            .shutdown_grace(LEAVE_GRACE);
        builder = match renewal {
            Some((dir, url)) => builder.identity_dir(dir).renew_from(&**url),
            None => {
                let (ca, certificate) = (ca_pem.as_bytes(), certificate_pem.as_bytes());
                builder.identity(Identity::from_pem(ca, certificate, private_key_pem.as_bytes())?)
            }
        };
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

    /// Room for two bursts.
    fn event_queue_entries(&self, behaviour: &EventBehaviour) -> usize {
        let burst = behaviour.burst.map_or(0, |burst| burst.events.get() as usize);
        EVENTS_WAITING.max(burst.saturating_mul(2))
    }

    fn leave(&self) {
        let mut present = self.present();
        if let Some(gone) = present.take() {
            self.gone.lock().unwrap_or_else(PoisonError::into_inner).add(&gone.counters);
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
    slot.leave();
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
        let events = device.events();
        let mut running = std::pin::pin!(device.run(leave.clone()));
        let is_reboot = tokio::select! {
            // Ends by itself only when it is stopped.
            _ = &mut running => return,
            () = tell(&workshop.shared, &slot.state, events) => false,
            () = until(end) => false,
            () = slot.state.reboot.notified() => true,
        };
        leave.cancel();
        let _ = running.await;
        slot.leave();
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
