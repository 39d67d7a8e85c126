//! A typed client of the REST API of Covey, for the command line, simulated
//! devices, benchmarks, and applications in Rust.
//!
//! ```no_run
//! # async fn example() -> Result<(), covey_client::Error> {
//! use std::time::Duration;
//! use covey_client::{Client, TaskRequest};
//!
//! let client = Client::local("./covey-data")?;
//! let request = TaskRequest::for_sn("lamp-1").with_method("blink").with_payload(r#"{"times":3}"#)?;
//! let outcome = client.call(&request, Duration::from_secs(30)).await?;
//! println!("{}", outcome.task.status);
//! # Ok(())
//! # }
//! ```
//!
//! A call is one POST that waits and one small parse of its answer; payloads
//! and results pass through as JSON text, unread. Nothing is repeated unless
//! asked for ([`Client::with_refused_retry`]), and there is no global state:
//! the crypto provider is passed to TLS, not installed.

mod access;
mod api_key;
mod audit;
mod certificate;
mod claim;
mod client;
mod device;
mod error;
mod event;
mod health;
mod limits;
mod local;
mod microcontroller;
mod node;
mod org;
mod person;
mod retention;
mod stream;
mod task;
mod token;
mod transport;
mod twin;
mod unit;
mod usage;
mod webhook;

pub use access::{AccessExplanation, AccessQuestion};
pub use api_key::{ApiKey, MadeApiKey};
pub use audit::{AuditChain, AuditEntry, AuditFilter, AuditPage, AuditRow};
pub use certificate::{Certificate, CertificateFilter, CertificatePage, DeviceCertificatesRevoked};
pub use claim::{Claim, ClaimMade, ClaimPage, ClaimSerial, ClaimSerialPage};
pub use client::Client;
pub use covey_api::{
    ApiKeyNew, CertificateWanted, ClaimNew, ClaimSerialsNew, Day, DeviceNew, DeviceTag, DeviceTags, Finding,
    Findings, Grant, GrantMethod, KeyLimits, KeyLimitsReport, NodeNew, OrgLimits, OrgLimitsReport, Readiness,
    Record, Retention, RetentionChange, RetentionRun, RevocationNew, SecretRotation, ServerPart, TaskChange,
    TaskCreated, TaskDeleted, TaskNew, TaskStatus, Time, TokenNew, TwinDesiredValue, TwinPatch,
    TwinReportedValue, UnitChange, UnitNew, UsageReport, UserNew, UserRole, WebhookFilter, WebhookNew,
    WebhookSet, Whole,
};
pub use device::{Connection, Device, DeviceFilter, DevicePage, Registered, Tag};
pub use error::{Error, Result};
pub use event::{Event, EventFilter, Events};
pub use health::metric_value;
pub use local::{Addresses, LocalServer};
pub use microcontroller::MicrocontrollerKeys;
pub use node::{Node, NodeFilter, NodePage};
pub use org::{Org, OrgPage};
pub use person::{Session, SessionPage, User, UserLinked, UserPage};
pub use serde_json::value::RawValue;
pub use stream::{Stream, StreamFilter, Told};
pub use task::{
    Created, PageRequest, Task, TaskFilter, TaskHeader, TaskOutcome, TaskPage, TaskRequest, TaskResult,
    TaskRow, WAIT_SECONDS_MAX,
};
pub use token::{MadeToken, Whoami};
pub use twin::Twin;
pub use unit::{Unit, UnitFilter, UnitPage};
pub use webhook::{DeadLetter, Delivery, DeliveryFilter, Webhook, WebhookState, WebhookTested};
