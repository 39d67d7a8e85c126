//! The device SDK of Covey: register handlers, be called, answer once.
//!
//! A device is a certificate. It keeps one MQTT 5 connection over mutual TLS to the server, is
//! told of its tasks, runs a handler for each, and sends the answer until the server has it.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use covey_device::{Answer, Call, CallError, Device};
//! use serde_json::json;
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example() -> Result<(), covey_device::Error> {
//! let stop = CancellationToken::new();
//! let device = Device::builder()
//!     .server("mqtts://localhost:8883")
//!     .identity_dir("./lamp-1") // as `covey device add lamp-1 --out ./lamp-1` writes it
//!     .journal_dir("./lamp-1")
//!     .on(51, |call: Call| async move {
//!         let parameters: serde_json::Value = call.json()?;
//!         Ok::<_, CallError>(Answer::ok(json!({ "set": parameters })))
//!     })
//!     .on_method("blink", |call: Call| async move {
//!         for done in 1..=3 {
//!             tokio::time::sleep(Duration::from_secs(1)).await;
//!             call.progress(done, json!({ "blinks": done })).await?;
//!         }
//!         Ok::<_, CallError>(Answer::empty())
//!     })
//!     .build()?;
//! device.run(stop).await
//! # }
//! ```
//!
//! # What is promised
//!
//! - **A task runs at most once**, however often it is delivered: before a handler runs, the
//!   start is written to the journal; a repeated delivery gets the recorded result. A task cut
//!   off by a crash of the device is answered with 500 `{"error":"interrupted"}` and not run
//!   again, unless [`rerun_interrupted`](DeviceBuilder::rerun_interrupted) is on. This needs
//!   [`journal_dir`](DeviceBuilder::journal_dir); without it the journal is in memory and covers
//!   everything but a restart of the device itself.
//! - **A result is sent until the server has committed it**, over reconnects and (with a journal
//!   folder) restarts, for as long as its task lives: first after 10 s, then after growing waits
//!   up to 5 minutes, at most 12 times on one connection.
//! - **One at a time, in the server's order** (priority first), unless
//!   [`concurrent_calls_max`](DeviceBuilder::concurrent_calls_max) says otherwise. A task is
//!   asked for only when it can run.
//! - **The connection comes back** by itself, for ever. What the server refuses is told through
//!   [`Device::status`] and tried again slowly, or ends [`Device::run`] with
//!   [`stop_when_refused`](DeviceBuilder::stop_when_refused).
//!
//! # Answers the SDK gives by itself
//!
//! | status | body | when |
//! | --- | --- | --- |
//! | 400 | `{"error": …}` | [`Call::json`] failed and the handler passed the error on with `?` |
//! | 413 | `{"error": …}` | the result is larger than the server's largest packet |
//! | 500 | `{"error":"the handler panicked"}` | it did |
//! | 500 | `{"error":"interrupted"}` | the device died while the call ran |
//! | 500 | `{"error":"the device's journal cannot be written"}` | the call was not executed |
//! | 404 | `{"error": …}` | a value is desired of a resource that has no handler |
//! | 501 | `{"error":"unknown method", …}` | no handler and no fallback |
//!
//! # Events
//!
//! An event is what a device tells unasked. It is numbered, stamped with the time, and queued:
//! [`EventDraft::send`] returns when it is in the queue to stay, whether the device is connected
//! or not. It is sent in order with those before it, and kept until the server has it, over
//! reconnects and (with a journal folder) restarts; the server stores what it gets twice once.
//!
//! ```no_run
//! # use covey_device::{Device, EventOutcome, HEALTH_CHECK};
//! # use serde_json::json;
//! # async fn example(device: Device) -> Result<(), covey_device::EventError> {
//! let events = device.events(); // works on while the device runs
//! events.event(13).payload(json!({ "300": [{ "310": 21.5 }] })).send().await?;
//! events.event(HEALTH_CHECK).payload(json!({ "uptime_s": 60 })).send().await?;
//!
//! let ticket = events.report("led", 1).send().await?; // {"reported": {"led": 1}}
//! if let EventOutcome::Refused { reason } = ticket.outcome().await {
//!     eprintln!("the server does not take it: 0x{reason:02X}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - The queue is bounded ([`event_queue_entries_max`](DeviceBuilder::event_queue_entries_max),
//!   [`event_queue_bytes_max`](DeviceBuilder::event_queue_bytes_max)). When it is full, a new
//!   event is refused, or takes the place of the oldest with [`EventOverflow::DropOldest`].
//! - Of a gauge's type ([`gauge_type_codes`](DeviceBuilder::gauge_type_codes)) only the newest
//!   waits: a device that is offline for a day does not fill its queue with health checks.
//! - When the server has too much to do (0x97), events are sent again after a pause that grows
//!   from 0.5 s to 30 s. What it cannot read (0x99) is given up, counted and told by
//!   [`EventTicket::outcome`].
//!
//! # Twin
//!
//! What an application wants a resource of the device to be comes to the handler of that
//! resource ([`Handlers::on_desired`]); what the resource is then is reported as an event.
//!
//! # Handlers
//!
//! A handler is an async closure from [`Call`] to [`Answer`] (or to anything that becomes one,
//! like `Result<Answer, CallError>`). It runs on the device's own task: what blocks or computes
//! for long belongs into [`tokio::task::spawn_blocking`]. A call longer than the server's lease
//! (60 s by default) should report [`progress`](Call::progress) now and then.
//!
//! # Finding the server
//!
//! With the feature `discover` the server is found on the local network, where it announces itself (`covey up --mdns`):
//! `discover(&identity, None).await?` answers what [`DeviceBuilder::server`] takes. What was found is trusted no more than
//! an address that was typed: the server proves itself by the identity's CA.
//!
//! # Renewing the certificate
//!
//! With the feature `renew`, [`DeviceBuilder::renew_from`] names the server's HTTPS listener. When a third of the life of its
//! certificate is left, the device makes a new key, gets a certificate for it, and stores both in `renewed.pem` in its
//! folder; from the next connection on it shows that one. A certificate that has ended is renewed as long as the server allows it.
//!
//! # Many devices in one process
//!
//! Share the handlers ([`DeviceBuilder::handlers`]) and the trusted roots ([`TlsRoots`]). A
//! device is one tokio task. Keep the journal in memory and small
//! ([`DeviceBuilder::journal_entries_max`]), or switch
//! [`journal_sync`](DeviceBuilder::journal_sync) off.
//!
//! # What this crate does not do
//!
//! It installs no process-wide TLS provider, keeps no MQTT session between connections (the
//! server announces again by itself), and knows nothing of the server's code.

mod answer;
mod builder;
mod call;
mod clock;
mod device;
#[cfg(feature = "discover")]
mod discover;
mod error;
mod events;
mod handlers;
mod identity;
mod journal;
mod log;
mod refusal;
#[cfg(feature = "renew")]
mod renewal;
mod session;
mod status;
mod twin;
mod wire;

pub use answer::Answer;
pub use builder::DeviceBuilder;
pub use call::{Call, CallError};
pub use covey_wire::parse_correlation;
pub use device::Device;
#[cfg(feature = "discover")]
pub use discover::discover;
pub use error::Error;
pub use events::{
    EVENT_BODY_BYTES_MAX, EVENT_TYPE_CODE_MAX, EventDraft, EventError, EventOutcome, EventOverflow,
    EventTicket, Events, HEALTH_CHECK,
};
pub use handlers::Handlers;
pub use identity::{Identity, SN_CHARS_MAX, TlsRoots, is_sn};
pub use refusal::Refusal;
#[cfg(feature = "renew")]
pub use renewal::RenewalError;
pub use status::{Counters, CountersSnapshot, Status};
pub use tokio_util::sync::CancellationToken;
pub use twin::{Applied, Desired};
