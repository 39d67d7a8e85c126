//! The application of a simulation: it makes tasks, repeats requests, deletes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use covey_core::Engine;
use covey_core::access::Caller;
use covey_core::error::Error;
use covey_core::id::{Sn, TaskId};
use covey_core::task::{DeviceRef, IdempotencyKey, TaskSpec};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use crate::device::{Site, serial_number};

/// Longest parameters of most tasks, in bytes.
const PAYLOAD_BYTES_MAX: usize = 200;
/// Those of a few.
const LARGE_PAYLOAD_BYTES: usize = 20_000;
/// How many of the last tasks an application may delete one of.
const RECENT: usize = 200;

/// The tasks that the server has accepted, in the order of the answers.
#[derive(Clone, Default)]
pub struct Accepted(Arc<Mutex<Vec<TaskId>>>);

impl Accepted {
    fn add(&self, task: TaskId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<TaskId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn recent(&self, random: &mut StdRng) -> Option<TaskId> {
        let accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = accepted.len().saturating_sub(RECENT);
        let recent = &accepted[first..];
        (!recent.is_empty()).then(|| recent[random.random_range(0..recent.len())])
    }
}

/// An application that makes so many requests until the network heals.
pub struct Application {
    /// What it shares with the devices.
    pub site: Site,
    /// The server.
    pub engine: Arc<Engine>,
    /// Its credential.
    pub caller: Caller,
    /// What the server has accepted.
    pub accepted: Accepted,
    /// How many requests it makes.
    pub requests: u64,
}

impl Application {
    /// Makes its requests, one after the other, without waiting for answers.
    pub async fn run(self: Arc<Self>) {
        let mut random = StdRng::seed_from_u64(self.site.seed ^ 0xa991);
        let left = self.site.heals_at.saturating_duration_since(Instant::now());
        let average_us = u64::try_from(left.as_micros()).unwrap_or(u64::MAX) / self.requests.max(1);
        let mut pause_us = 0;
        while Instant::now() < self.site.heals_at {
            pause_us += random.random_range(0..=average_us * 2);
            if pause_us >= 1_000 {
                sleep(Duration::from_micros(std::mem::take(&mut pause_us))).await;
            }
            match random.random_range(0..10) {
                0 => {
                    if let Some(task) = self.accepted.recent(&mut random) {
                        tokio::spawn(Arc::clone(&self).delete(task));
                    }
                }
                1 => {
                    // The same request twice, as after an answer that was lost.
                    let (device, spec, task) = self.draw(&mut random);
                    let key = IdempotencyKey { key: task.to_string(), request_digest: [7; 32] };
                    for _ in 0..2 {
                        let request = (device, spec.clone(), task, Some(key.clone()));
                        tokio::spawn(Arc::clone(&self).create(request));
                    }
                }
                _ => {
                    let (device, spec, task) = self.draw(&mut random);
                    tokio::spawn(Arc::clone(&self).create((device, spec, task, None)));
                }
            }
        }
    }

    fn draw(&self, random: &mut StdRng) -> (u32, TaskSpec, TaskId) {
        let device = random.random_range(0..self.site.devices);
        let bytes = match random.random_range(0..50) {
            0 => LARGE_PAYLOAD_BYTES,
            _ => random.random_range(0..=PAYLOAD_BYTES_MAX),
        };
        let sn = Sn::parse(&serial_number(device)).unwrap_or_else(|_| unreachable!("letters and digits"));
        let spec = TaskSpec {
            device: DeviceRef::Sn(sn),
            ext_task_id: String::new(),
            method_code: random.random_range(0..100),
            method: random.random_bool(0.2).then(|| "blink".to_owned()),
            priority: random.random_range(0..=3),
            ttl_minutes: [0, 1, 2, 10, 60][random.random_range(0..5)],
            payload: random.random_bool(0.8).then(|| format!(r#"{{"x":"{}"}}"#, "y".repeat(bytes)).into()),
        };
        let task = self.engine.task_id();
        self.site.owners.set(task.0, device);
        (device, spec, task)
    }

    async fn create(self: Arc<Self>, request: (u32, TaskSpec, TaskId, Option<IdempotencyKey>)) {
        let (device, spec, task, key) = request;
        match self.engine.for_caller(&self.caller).task_create(task, spec, key).await {
            Ok(created) => {
                if created.task.id != task {
                    self.site.trace.broken(
                        device,
                        "a request makes the task that it names",
                        task.to_string(),
                    );
                }
                if !created.replayed {
                    self.accepted.add(task);
                    let number = crate::server::task_number(task.0);
                    self.site.trace.add(device, "task accepted", number, u64::from(created.task.priority));
                }
            }
            Err(Error::Unavailable { .. } | Error::Exhausted { .. }) => {}
            Err(error) => self.site.trace.broken(device, "a good request is carried out", error.to_string()),
        }
    }

    async fn delete(self: Arc<Self>, task: TaskId) {
        let device = self.site.owners.of(task.0).unwrap_or_default();
        self.site.trace.add(device, "task to be deleted", crate::server::task_number(task.0), 0);
        match self.engine.for_caller(&self.caller).task_delete(task).await {
            Ok(_) | Err(Error::Unavailable { .. }) => {}
            Err(error) => self.site.trace.broken(device, "an accepted task is there", error.to_string()),
        }
    }
}
