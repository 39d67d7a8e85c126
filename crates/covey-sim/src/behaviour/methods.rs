//! What a simulated device can do, and how its faults get into it.
//!
//! | code | name | parameters | answer |
//! | --- | --- | --- | --- |
//! | 20 | `hello` | any | `{"hello": SN, "uptime_s", "method_code": 20}` |
//! | 21 | `reboot` | any | `{"rebooting": true, "method_code": 21}`; then it disconnects, and is back after a moment with a new uptime |
//! | 51 | `open_cell` | `{"dt": [{"cl": 5}]}` | `{"cl": 5, "result": "ok", "accepted": true, "method_code": 51}` |
//! | 51 | `open_cell` | several cells | `{"result": "ok", "accepted": true, "method_code": 51, "cells": [{"cl": 5, "result": "ok"}, …]}`, an extension |
//! | 1000 | `echo` | any | the parameters, unchanged |
//! | 1001 | `progress` | `{"steps": 3, "pause_ms": 100}`, both optional | partial results `{"step": 1, "of": 3}` …, then `{"steps": 3, "done": true}` |
//! | 65000 | `twin.set` | `{"resource": "lamp", "value": 1}` | the same; the resource, whatever it is, becomes the value, and an event reports it |
//!
//! Parameters that do not fit are answered with 400, anything else with 501.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use covey_device::{Answer, Call, CallError, Handlers};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::behaviour::events::Doors;
use crate::behaviour::{Behaviour, Fates};

/// Says hello.
pub const HELLO: u16 = 20;
/// Reboots.
pub const REBOOT: u16 = 21;
/// Opens a cell of a locker.
pub const OPEN_CELL: u16 = 51;
/// Gives the parameters back.
pub const ECHO: u16 = 1000;
/// Reports progress.
pub const PROGRESS: u16 = 1001;
/// Sets a resource of the twin.
pub const TWIN_SET: u16 = 65_000;

/// Cells that are opened with one call.
const CELLS_MAX: usize = 64;
/// Partial results of one call.
const STEPS_MAX: u32 = 1_000;
/// Pause between two partial results, in milliseconds.
const PAUSE_MS_MAX: u64 = 60_000;
/// How long a task without a known end is kept without an answer.
const DROPPED: Duration = Duration::from_secs(31 * 24 * 3600);

/// What a simulated device remembers between its calls.
#[derive(Debug)]
pub(crate) struct DeviceState {
    pub(crate) sn: Arc<str>,
    pub(crate) fates: Fates,
    calls: AtomicU64,
    /// When it was last started, in milliseconds since the simulation began.
    started_ms: AtomicU64,
    /// Told when the device is to reboot.
    pub(crate) reboot: Notify,
    pub(crate) doors: Doors,
    /// The number of its next event.
    next_event: AtomicU32,
}

impl DeviceState {
    /// Counts events from 1, over all reboots.
    pub(crate) fn event_number(&self) -> u32 {
        self.next_event.fetch_add(1, Ordering::Relaxed)
    }
}

/// What all devices of a simulation share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) behaviour: Behaviour,
    pub(crate) tally: Tally,
    begin: Instant,
    devices: HashMap<Arc<str>, Arc<DeviceState>>,
}

/// What happened to the calls and events so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) sent_twice: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) events_sent_twice: AtomicU64,
    /// Those for which the device's queue had no room.
    pub(crate) events_not_queued: AtomicU64,
}

impl Shared {
    pub(crate) fn new<'a>(behaviour: Behaviour, seed: u64, sns: impl Iterator<Item = &'a Arc<str>>) -> Self {
        let device = |sn: &Arc<str>| DeviceState {
            sn: Arc::clone(sn),
            fates: Fates::new(seed, sn),
            calls: AtomicU64::new(0),
            started_ms: AtomicU64::new(0),
            reboot: Notify::new(),
            doors: Doors::default(),
            next_event: AtomicU32::new(1),
        };
        let devices = sns.map(|sn| (Arc::clone(sn), Arc::new(device(sn)))).collect();
        Self { behaviour, tally: Tally::default(), begin: Instant::now(), devices }
    }

    pub(crate) fn device(&self, sn: &str) -> Option<&Arc<DeviceState>> {
        self.devices.get(sn)
    }

    pub(crate) fn started(&self, device: &DeviceState) {
        device.started_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn uptime_s(&self, device: &DeviceState) -> u64 {
        self.now_ms().saturating_sub(device.started_ms.load(Ordering::Relaxed)) / 1000
    }
}

/// The methods of every device of a simulation.
pub(crate) fn handlers(shared: &Arc<Shared>) -> Handlers {
    let mut handlers = Handlers::new();
    handlers = add(handlers, shared, HELLO, "hello", |shared, device, _| async move {
        Ok(Answer::ok(Hello { hello: &device.sn, uptime_s: shared.uptime_s(&device), method_code: HELLO }))
    });
    handlers = add(handlers, shared, REBOOT, "reboot", |_, device, _| async move {
        device.reboot.notify_one();
        Ok(Answer::ok(Rebooting { rebooting: true, method_code: REBOOT }))
    });
    handlers = add(handlers, shared, OPEN_CELL, "open_cell", |shared, device, call| async move {
        open_cell(&shared, &device, &call)
    });
    handlers = add(handlers, shared, ECHO, "echo", |_, _, call| async move {
        Ok(Answer::ok(call.json::<Box<RawValue>>()?))
    });
    handlers = add(handlers, shared, PROGRESS, "progress", |_, _, call| progress(call));
    add(handlers, shared, TWIN_SET, "twin.set", |_, device, call| twin_set(device, call))
}

/// Registers a method by code and name, with the device's faults around it.
fn add<F, R>(handlers: Handlers, shared: &Arc<Shared>, code: u16, name: &str, method: F) -> Handlers
where
    F: Fn(Arc<Shared>, Arc<DeviceState>, Call) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Answer, CallError>> + Send + 'static,
{
    let shared = Arc::clone(shared);
    let handler = move |call: Call| {
        let (shared, method) = (Arc::clone(&shared), method.clone());
        async move {
            match shared.device(call.sn()).cloned() {
                Some(device) => with_faults(shared, device, call, method).await,
                // Not reached: only members of the fleet run these methods.
                None => Answer::error(500, "this device is not simulated"),
            }
        }
    };
    handlers.on(code, handler.clone()).on_method(name, handler)
}

async fn with_faults<F, R>(shared: Arc<Shared>, device: Arc<DeviceState>, call: Call, method: F) -> Answer
where
    F: Fn(Arc<Shared>, Arc<DeviceState>, Call) -> R,
    R: Future<Output = Result<Answer, CallError>>,
{
    let fate = device.fates.of(&shared.behaviour, device.calls.fetch_add(1, Ordering::Relaxed));
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    count(&shared.tally.calls);
    if fate.is_dropped {
        count(&shared.tally.dropped);
        // The task is over then, and nobody hears what is said of it.
        tokio::time::sleep(until_expiry(&call)).await;
        return Answer::error(500, "simulated loss");
    }
    if !fate.latency.is_zero() {
        tokio::time::sleep(fate.latency).await;
    }
    let answer = if fate.fails {
        Answer::error(500, "simulated failure")
    } else {
        method(Arc::clone(&shared), device, call).await.into()
    };
    if answer.status() >= 400 {
        count(&shared.tally.failures);
    }
    if !fate.is_duplicated {
        return answer;
    }
    count(&shared.tally.sent_twice);
    answer.sent_twice()
}

fn until_expiry(call: &Call) -> Duration {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    call.expires_at().map_or(DROPPED, |end_s| Duration::from_secs(end_s.saturating_sub(now_s) + 1))
}

#[derive(Serialize)]
struct Hello<'a> {
    hello: &'a str,
    uptime_s: u64,
    method_code: u16,
}

#[derive(Serialize)]
struct Rebooting {
    rebooting: bool,
    method_code: u16,
}

#[derive(Deserialize)]
struct OpenCells {
    dt: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    cl: u32,
}

#[derive(Serialize)]
struct OpenedCell {
    cl: u32,
    result: &'static str,
    accepted: bool,
    method_code: u16,
}

#[derive(Serialize)]
struct OpenedCells {
    result: &'static str,
    accepted: bool,
    method_code: u16,
    cells: Vec<CellResult>,
}

#[derive(Serialize)]
struct CellResult {
    cl: u32,
    result: &'static str,
}

/// Opens cells; their doors tell of it a moment later.
fn open_cell(shared: &Shared, device: &DeviceState, call: &Call) -> Result<Answer, CallError> {
    let cells = match serde_json::from_slice::<OpenCells>(call.payload()) {
        Ok(OpenCells { dt }) => dt,
        Err(error) => {
            let text = format!(r#"write {{"dt":[{{"cl":5}}]}} with the cell's number for 5: {error}"#);
            return Ok(Answer::error(400, text));
        }
    };
    let opened = Instant::now();
    let opens = |cell: &Cell| {
        if !device.doors.opened(cell.cl, &shared.behaviour.events, opened) {
            tracing::warn!(sn = %device.sn, "too many doors move at once; one sends no event");
        }
    };
    Ok(match cells.as_slice() {
        [cell @ Cell { cl }] => {
            opens(cell);
            Answer::ok(OpenedCell { cl: *cl, result: "ok", accepted: true, method_code: OPEN_CELL })
        }
        [] => Answer::error(400, r#""dt" names no cell: write {"dt":[{"cl":5}]}"#),
        cells if cells.len() > CELLS_MAX => {
            Answer::error(400, format!(r#""dt" names {} cells, {CELLS_MAX} at most"#, cells.len()))
        }
        cells => {
            cells.iter().for_each(opens);
            Answer::ok(OpenedCells {
                result: "ok",
                accepted: true,
                method_code: OPEN_CELL,
                cells: cells.iter().map(|cell| CellResult { cl: cell.cl, result: "ok" }).collect(),
            })
        }
    })
}

#[derive(Deserialize, Serialize)]
struct Resource {
    resource: Box<str>,
    value: Box<RawValue>,
}

/// A simulated device has every resource that is wanted of it.
async fn twin_set(device: Arc<DeviceState>, call: Call) -> Result<Answer, CallError> {
    let wanted: Resource = call.json()?;
    if let Err(error) = call.events().report(&wanted.resource, &wanted.value).send().await {
        tracing::warn!(sn = %device.sn, %error, "value set but not reported");
    }
    Ok(Answer::ok(wanted))
}

#[derive(Deserialize)]
#[serde(default)]
struct ProgressOptions {
    steps: u32,
    pause_ms: u64,
}

impl Default for ProgressOptions {
    fn default() -> Self {
        Self { steps: 3, pause_ms: 100 }
    }
}

#[derive(Serialize)]
struct ProgressStep {
    step: u32,
    of: u32,
}

#[derive(Serialize)]
struct ProgressEnd {
    steps: u32,
    done: bool,
}

async fn progress(call: Call) -> Result<Answer, CallError> {
    let ProgressOptions { steps, pause_ms } = call.json()?;
    if steps > STEPS_MAX || pause_ms > PAUSE_MS_MAX {
        let text = format!("at most {STEPS_MAX} steps, and {PAUSE_MS_MAX} ms between them");
        return Ok(Answer::error(400, text));
    }
    for step in 1..=steps {
        call.progress(i64::from(step), ProgressStep { step, of: steps }).await?;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
    Ok(Answer::ok(ProgressEnd { steps, done: true }).with_ext_id(i64::from(steps) + 1))
}
