//! The application of a simulation: it makes tasks, repeats requests, deletes, changes twins.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use covey_core::access::Caller;
use covey_core::error::Error;
use covey_core::id::{DeviceId, Sn, TaskId};
use covey_core::task::{DeviceRef, IdempotencyKey, TaskSpec};
use covey_core::twin::{TTL_MINUTES_DEFAULT, TwinPatch};
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
/// How often a request that has a key is made, until it has an answer.
const TRIES_MAX: usize = 30;
/// The pause between two of them, in milliseconds.
const TRY_AGAIN_MS: u64 = 700;

/// A value that the server has taken as wanted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The device.
    pub device: u32,
    /// Its resource.
    pub resource: &'static str,
    /// The value, as JSON.
    pub value: String,
    /// The version of the twin's wanted side.
    pub version: i64,
}

/// The tasks that the server has accepted, in the order of the answers.
#[derive(Clone, Default)]
pub struct Accepted(Arc<Mutex<Vec<TaskId>>>);

/// The wishes that the server has accepted, in the order of the answers.
#[derive(Clone, Default)]
pub struct Wishes(Arc<Mutex<Vec<Wish>>>);

impl Wishes {
    fn add(&self, wish: Wish) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(wish);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Wish> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

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
    /// Its credential.
    pub caller: Caller,
    /// What the devices' numbers are.
    pub devices: Arc<[DeviceId]>,
    /// What the server has accepted.
    pub accepted: Accepted,
    /// The same of what is wanted of twins.
    pub wishes: Wishes,
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
            match random.random_range(0..12) {
                2 => {
                    let device = random.random_range(0..self.site.devices);
                    let resource = ["r0", "w0"][random.random_range(0..2)];
                    let value = random.random_range(0..1_000_000).to_string();
                    tokio::spawn(Arc::clone(&self).want(device, resource, value));
                }
                0 => {
                    if let Some(task) = self.accepted.recent(&mut random) {
                        tokio::spawn(Arc::clone(&self).delete(task));
                    }
                }
                1 => {
                    // The same request twice, as after an answer that was lost.
                    let Some((device, spec, task)) = self.draw(&mut random) else { continue };
                    let key = IdempotencyKey { key: task.to_string(), request_digest: [7; 32] };
                    for _ in 0..2 {
                        let request = (device, spec.clone(), task, Some(key.clone()));
                        tokio::spawn(Arc::clone(&self).create(request));
                    }
                }
                _ => {
                    let Some((device, spec, task)) = self.draw(&mut random) else { continue };
                    tokio::spawn(Arc::clone(&self).create((device, spec, task, None)));
                }
            }
        }
    }

    /// Draws a request; none while no server is there.
    fn draw(&self, random: &mut StdRng) -> Option<(u32, TaskSpec, TaskId)> {
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
        let task = self.site.door.engine()?.task_id();
        self.site.owners.set(task.0, device);
        Some((device, spec, task))
    }

    async fn create(self: Arc<Self>, request: (u32, TaskSpec, TaskId, Option<IdempotencyKey>)) {
        // Who has a key asks until there is an answer, and makes one task by that.
        let tries = if request.3.is_some() { TRIES_MAX } else { 1 };
        for _ in 0..tries {
            if self.try_create(request.clone()).await {
                return;
            }
            sleep(Duration::from_millis(TRY_AGAIN_MS)).await;
        }
    }

    /// Whether there was an answer.
    async fn try_create(&self, request: (u32, TaskSpec, TaskId, Option<IdempotencyKey>)) -> bool {
        let (device, spec, task, key) = request;
        let Some(engine) = self.site.door.engine() else { return false };
        match engine.for_caller(&self.caller).task_create(task, spec, key).await {
            Ok(created) => {
                if created.task.id != task {
                    self.site.trace.broken(
                        device,
                        "a request makes the task that it names",
                        task.to_string(),
                    );
                }
                self.accepted.add(task);
                if !created.replayed {
                    let number = crate::server::task_number(task.0);
                    self.site.trace.add(device, "task accepted", number, u64::from(created.task.priority));
                }
                true
            }
            Err(Error::Unavailable { .. }) => false,
            Err(Error::Exhausted { .. }) => true,
            Err(error) => {
                self.site.trace.broken(device, "a good request is carried out", error.to_string());
                true
            }
        }
    }

    /// Wants a value of a device's resource.
    async fn want(self: Arc<Self>, device: u32, resource: &'static str, value: String) {
        let Some(engine) = self.site.door.engine() else { return };
        let Some(device_id) = self.devices.get(device as usize).copied() else { return };
        let patch = TwinPatch {
            desired: vec![(resource.to_owned(), Some(value.as_str().into()))],
            ttl_minutes: TTL_MINUTES_DEFAULT,
            ..TwinPatch::default()
        };
        let for_caller = engine.for_caller(&self.caller);
        let mut patched = pin!(for_caller.twin_patch(device_id, patch));
        // The server makes the task's id before it waits for anything.
        let owners = &self.site.owners;
        let begun = poll_fn(|context| {
            owners.server_makes_for(Some(device));
            let polled = patched.as_mut().poll(context);
            owners.server_makes_for(None);
            Poll::Ready(polled)
        });
        let outcome = match begun.await {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => patched.await,
        };
        match outcome {
            Ok(twin) => {
                let wanted = twin.resources.iter().find(|known| known.name == resource);
                let Some(wanted) = wanted.and_then(|known| known.desired.as_ref()) else {
                    let rule = "what is wanted of a twin is there";
                    return self.site.trace.broken(device, rule, format!("{twin:?}"));
                };
                self.accepted.add(wanted.task);
                let version = wanted.version;
                self.wishes.add(Wish { device, resource, value, version });
                self.site.trace.add(device, "wish accepted", version.cast_unsigned(), 0);
            }
            Err(Error::Unavailable { .. } | Error::Exhausted { .. }) => {}
            Err(error) => self.site.trace.broken(device, "a good request is carried out", error.to_string()),
        }
    }

    async fn delete(self: Arc<Self>, task: TaskId) {
        let device = self.site.owners.of(task.0).unwrap_or_default();
        self.site.trace.add(device, "task to be deleted", crate::server::task_number(task.0), 0);
        let Some(engine) = self.site.door.engine() else { return };
        match engine.for_caller(&self.caller).task_delete(task).await {
            Ok(_) | Err(Error::Unavailable { .. }) => {}
            Err(error) => self.site.trace.broken(device, "an accepted task is there", error.to_string()),
        }
    }
}
