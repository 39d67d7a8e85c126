//! What happened, in order: as a digest, by which two runs are compared, and for each device its last events,
//! which are printed when a rule was broken.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// How many events are kept of all devices together.
const KEPT_MAX: usize = 2_000_000;
/// How many are kept of one device at most.
const KEPT_OF_DEVICE_MAX: usize = 80;

/// Something that happened to a device.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Milliseconds since the beginning.
    at_ms: u64,
    /// What it was.
    what: &'static str,
    /// Two numbers that belong to it, such as a packet identifier and a task.
    numbers: (u64, u64),
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_ms, what, numbers: (one, other) } = self;
        write!(formatter, "{:>9}.{:03} s  {what:<28} {one:>6} {other:>6}", at_ms / 1_000, at_ms % 1_000)
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, thiserror::Error)]
#[error("device {device}: {rule}: {details}")]
pub struct Broken {
    /// The number of the device.
    pub device: u32,
    /// The rule.
    pub rule: &'static str,
    /// In which way it was broken.
    pub details: String,
    /// The last events of the device.
    pub last: Vec<Event>,
}

struct Inner {
    digest: Sha256,
    count: u64,
    devices: Vec<VecDeque<Event>>,
    broken: Option<Broken>,
}

/// The trace of a run.
#[derive(Clone)]
pub struct Trace {
    inner: Arc<Mutex<Inner>>,
    begin: Instant,
    kept_max: usize,
}

impl Trace {
    /// An empty one for so many devices.
    #[must_use]
    pub fn new(devices: u32) -> Self {
        let count = devices as usize;
        let inner =
            Inner { digest: Sha256::new(), count: 0, devices: vec![VecDeque::new(); count], broken: None };
        let kept_max = (KEPT_MAX / count.max(1)).clamp(8, KEPT_OF_DEVICE_MAX);
        Self { inner: Arc::new(Mutex::new(inner)), begin: Instant::now(), kept_max }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the beginning.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Something happened.
    pub fn add(&self, device: u32, what: &'static str, one: u64, other: u64) {
        let event = Event { at_ms: self.now_ms(), what, numbers: (one, other) };
        let mut inner = self.inner();
        inner.count += 1;
        for number in [event.at_ms, u64::from(device), one, other] {
            inner.digest.update(number.to_le_bytes());
        }
        inner.digest.update(what);
        if let Some(kept) = inner.devices.get_mut(device as usize) {
            if kept.len() >= self.kept_max {
                kept.pop_front();
            }
            kept.push_back(event);
        }
    }

    /// Something that is not about one device counts for the digest alone.
    pub fn add_bytes(&self, bytes: &[u8]) {
        self.inner().digest.update(bytes);
    }

    /// A rule was broken. The first one is kept.
    pub fn broken(&self, device: u32, rule: &'static str, details: impl Into<String>) {
        self.add(device, rule, 0, 0);
        let mut inner = self.inner();
        if inner.broken.is_none() {
            let last = inner.devices.get(device as usize).cloned().unwrap_or_default();
            inner.broken = Some(Broken { device, rule, details: details.into(), last: last.into() });
        }
    }

    /// The first rule that was broken.
    #[must_use]
    pub fn first_broken(&self) -> Option<Broken> {
        self.inner().broken.clone()
    }

    /// How many events there were, and their digest in hex.
    #[must_use]
    pub fn digest(&self) -> (u64, String) {
        let inner = self.inner();
        let digest = inner.digest.clone().finalize();
        (inner.count, digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}
