//! Webhooks: where an application wants to be told of records, and the rules
//! by which it is told.
//!
//! An endpoint names a URL and which records it wants. What is told, in which
//! order and how often it is tried is decided here, without I/O: the order of
//! each device ([`queue`]), the pauses ([`backoff`]), when an endpoint is left
//! alone ([`circuit`]), and where messages may go ([`address`]).

pub mod address;
pub mod backoff;
mod calls;
pub mod circuit;
mod delivery;
pub mod header;
mod operation;
mod port;
pub mod queue;
mod sample;

pub use operation::{
    CLAIM_MS, ChangedEndpoint, WebhookAdd, WebhookClaim, WebhookDelete, WebhookForget, WebhookLog,
    WebhookProgress, WebhookRelease, WebhookResend, WebhookRotate, WebhookSet,
};
pub use port::{
    Claimable, NoWebhooks, QueuedDeliveries, StoredDeviceQueue, WebhookReader, WebhookSender, WebhookSteps,
};

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::{OrgId, RecordNumber, UnixMs};
use crate::named::named;
use crate::record::{RecordFilter, RecordKind};

pub use delivery::{
    Attempt, AttemptLog, AttemptsFrom, Claim, DeadLetter, Delivery, DeliveryState, HeldEndpoint,
    LoggedAttempt, Outcome, Progress, ProgressSaved, StoredDelivery, TestReport,
};
pub use sample::sample;

/// How many endpoints an organisation may have.
/// Limit for each organisation: 429.
pub const ENDPOINTS_MAX: u32 = 100;
/// Longest URL, in bytes.
/// Limit for each webhook: 422.
pub const URL_BYTES_MAX: usize = 2_048;
/// How many requests to one endpoint may be under way unless it says otherwise.
pub const CONCURRENCY_DEFAULT: u32 = 8;
/// How many requests to one endpoint may be under way at most.
/// Limit for each webhook: 422.
pub const CONCURRENCY_MAX: u32 = 64;
/// How long an old secret is valid beside a new one unless the caller says
/// otherwise, in seconds.
pub const SECRET_OVERLAP_S: i64 = 24 * 3_600;
/// How long an old secret may be valid beside a new one, in seconds.
/// Limit for each webhook: 422.
pub const SECRET_OVERLAP_S_MAX: i64 = 30 * 24 * 3_600;
/// How many attempts the log of an endpoint holds.
/// Limit for each webhook: the oldest are forgotten.
pub const LOG_ROWS_MAX: i64 = 10_000;
/// How long an attempt stays in the log, in milliseconds.
pub const LOG_MS: i64 = 7 * 24 * 3_600_000;
/// How long a dead letter is kept, in milliseconds.
pub const DEAD_LETTER_MS: i64 = 30 * 24 * 3_600_000;

/// The number of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub i64);

named! {
    /// What an endpoint is told of. Each type is one kind of records.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum WebhookType {
        /// Events that devices sent.
        Event => "msg-event",
        /// Results of tasks.
        TaskResult => "msg-task-result",
        /// States of tasks.
        Task => "msg-task",
        /// Devices that come and go.
        Presence => "msg-presence",
        /// Values of twins.
        Twin => "msg-twin",
    }
}

impl WebhookType {
    /// The kind of the records that it tells.
    #[must_use]
    pub const fn kind(self) -> RecordKind {
        match self {
            Self::Event => RecordKind::Event,
            Self::TaskResult => RecordKind::Result,
            Self::Task => RecordKind::Task,
            Self::Presence => RecordKind::Presence,
            Self::Twin => RecordKind::Twin,
        }
    }
}

named! {
    /// In which form an endpoint is told.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub enum WebhookFormat {
        /// As the contract has it (rest-api "Webhooks").
        #[default]
        Contract => "contract",
        /// CloudEvents 1.0, structured mode.
        CloudEvents => "cloudevents",
    }
}

/// A secret that messages are signed with, as text. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Arc<str>);

impl WebhookSecret {
    /// A secret from its text, which [`WebhookSender`] checks.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The secret itself. Never log it.
    #[must_use]
    pub fn exposed(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(***)")
    }
}

/// Headers that are sent with each message. They may hold credentials, so
/// they are not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WebhookHeaders(pub Vec<(String, String)>);

impl fmt::Debug for WebhookHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// A URL that may hold credentials in its path or query: only its origin is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(pub String);

impl WebhookUrl {
    /// Its scheme and host, for logs.
    #[must_use]
    pub fn shown(&self) -> &str {
        let host_at = self.0.find("://").map_or(0, |scheme| scheme + 3);
        let end = self.0[host_at..].find(['/', '?', '#']).map_or(self.0.len(), |end| host_at + end);
        &self.0[..end]
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

/// What a caller says of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// What it is told of.
    pub webhook_type: WebhookType,
    /// Where it is.
    pub url: WebhookUrl,
    /// What is sent with each message.
    pub headers: WebhookHeaders,
    /// Whether it is told anything.
    pub is_active: bool,
    /// Which records it wants; the kinds follow from the type.
    pub filter: RecordFilter,
    /// In which form.
    pub format: WebhookFormat,
    /// How many requests may be under way at once.
    pub concurrency: u32,
    /// Whether events go to the URL with the device's number at the end of its path.
    pub device_id_in_path: bool,
}

impl EndpointSpec {
    /// An endpoint that wants everything of a type, in the form of the contract.
    #[must_use]
    pub fn new(webhook_type: WebhookType, url: &str) -> Self {
        Self {
            webhook_type,
            url: WebhookUrl(url.to_owned()),
            headers: WebhookHeaders::default(),
            is_active: true,
            filter: RecordFilter::default(),
            format: WebhookFormat::default(),
            concurrency: CONCURRENCY_DEFAULT,
            device_id_in_path: false,
        }
    }

    /// Checks every field against its range. Where the URL leads is checked by
    /// [`WebhookSender`].
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if self.url.0.is_empty() || self.url.0.len() > URL_BYTES_MAX {
            return Err(Error::invalid("url", "must be 1 to 2048 bytes"));
        }
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            return Err(Error::invalid("concurrency", "must be 1 to 64"));
        }
        if !self.filter.event_types.is_empty() && self.webhook_type != WebhookType::Event {
            return Err(Error::contradiction("filter.event_type_code", "only goes with msg-event"));
        }
        if self.device_id_in_path && self.webhook_type != WebhookType::Event {
            return Err(Error::contradiction("device_id_in_path", "only goes with msg-event"));
        }
        header::validate(&self.headers)?;
        self.filter.validate()
    }

    /// Which records it wants, its type included.
    #[must_use]
    pub fn record_filter(&self) -> RecordFilter {
        RecordFilter { kinds: vec![self.webhook_type.kind()], ..self.filter.clone() }
    }
}

/// An endpoint as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its number.
    pub id: EndpointId,
    /// Its organisation.
    pub org: OrgId,
    /// How often it was changed.
    pub version: i64,
    /// Whether it is the one that its type names (`PUT /webhooks/{event_type}`).
    pub is_default: bool,
    /// What it is told, where and how.
    pub spec: EndpointSpec,
    /// What its messages are signed with.
    pub secret: WebhookSecret,
    /// What they are also signed with, until when.
    pub old_secret: Option<(WebhookSecret, UnixMs)>,
    /// When it was made.
    pub created_at: UnixMs,
    /// When it was last changed.
    pub updated_at: UnixMs,
}

impl Endpoint {
    /// The secrets that are valid at `now`, the newest first.
    pub fn secrets_at(&self, now: UnixMs) -> impl Iterator<Item = &WebhookSecret> {
        let old = self.old_secret.as_ref().filter(|(_, until)| now < *until).map(|(secret, _)| secret);
        std::iter::once(&self.secret).chain(old)
    }
}

/// How an endpoint fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointState {
    /// Up to this record everything is settled: delivered, not wanted, kept
    /// for another try, or dead.
    pub position: RecordNumber,
    /// How many deliveries wait for another try.
    pub deferred: u64,
    /// How many deliveries were given up.
    pub dead: u64,
    /// The circuit breaker.
    pub circuit: circuit::CircuitState,
    /// What the last failure was.
    pub last_error: Option<String>,
    /// When a message was last delivered.
    pub last_delivered_at: Option<UnixMs>,
    /// The server that tells it.
    pub server: Option<String>,
}

/// An endpoint whose receiver does not take what it is sent: its circuit is open, or messages were given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTrouble {
    /// Whose it is.
    pub org: OrgId,
    /// Its number.
    pub id: EndpointId,
    /// How it fares.
    pub state: EndpointState,
}

/// Which endpoint a caller means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointRef {
    /// The one that this type names.
    Default(WebhookType),
    /// The one with this number.
    Id(EndpointId),
}

/// Why a URL did not pass its probe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFault {
    /// It answered with this status.
    #[error("the URL answered a GET with status {0}; it must answer with one below 500")]
    Status(u16),
    /// It did not answer in time.
    #[error("the URL did not answer a GET within 5 seconds")]
    Timeout,
    /// Its name has no address.
    #[error("the host of the URL has no address")]
    Name,
    /// All of its addresses are in ranges that messages may not go to.
    #[error(
        "the host of the URL has no address that webhooks may go to; an operator can allow ranges with \
         --webhook-allow"
    )]
    Forbidden,
    /// It could not prove to be the one that was meant.
    #[error("the URL cannot be reached over TLS: {0}; an operator can trust another CA with --webhook-ca")]
    Tls(String),
    /// No connection, or one that broke.
    #[error("the URL cannot be reached: no connection, or one that broke")]
    Unreachable,
}

/// Why an endpoint was not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// The request was refused.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The URL did not pass its probe; nothing was stored.
    #[error("{0}")]
    Probe(#[from] ProbeFault),
}
