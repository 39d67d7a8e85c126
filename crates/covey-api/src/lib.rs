//! The JSON of the REST API, of streams and of webhooks, described once: the
//! server writes answers with these types and clients read them; clients write
//! requests and the server reads them.
//!
//! The server fills a type with borrowed texts, and a client gets it with owned
//! ones (`Task<'static>`). Payloads, results and twin values are JSON text that
//! passes through byte for byte ([`RawValue`]). Names out of a fixed set, such
//! as the cause of a state, are texts, so that a client can read a name that is
//! newer than itself.
//!
//! The feature `core` adds the conversions from the types of the domain, and
//! `openapi` the schemas. A client needs neither.

mod access;
mod audit;
mod by_name;
mod certificate;
mod claim;
mod cloud_event;
mod device;
mod event;
#[cfg(feature = "core")]
mod from_core;
mod grant;
mod health;
mod instant;
mod limits;
mod node;
mod number;
mod org;
mod person;
mod problem;
mod record;
#[cfg(feature = "proptest")]
pub mod record_strategy;
mod request;
mod retention;
#[cfg(feature = "openapi")]
mod schema;
mod task;
mod token;
mod twin;
mod unit;
mod usage;
mod webhook;

pub use access::{AccessExplanation, AccessReason, Account, ApiKey, ApiKeyMade, ApiKeyRevoked, Whoami};
pub use audit::{AuditActor, AuditChain, AuditChains, AuditEntry, AuditPage, AuditRow, AuditRows};
pub use certificate::{Certificate, DeviceCertificatesRevoked};
pub use claim::{
    Claim, ClaimMade, ClaimPage, ClaimSerial, ClaimSerialPage, ClaimSerialReleased, ClaimSerialsAdded,
};
pub use cloud_event::{CloudEvent, ResultMessage};
pub use device::{
    Device, DeviceConnection, DeviceDer, DeviceNode, DeviceRegistered, DeviceRetired, DeviceTag, TagPut,
};
pub use event::{DeviceEvent, DeviceEventPage, DeviceGauges, FieldValue, GaugePage, Series, SeriesBucket};
pub use grant::{Grant, GrantMethod};
pub use health::{Finding, Findings, Health, Readiness, ServerPart};
pub use instant::{SECONDS_MAX, Time};
pub use limits::{KeyLimits, KeyLimitsReport, OrgLimits, OrgLimitsReport};
pub use node::{Node, NodePage, NodeRenamed};
pub use number::Whole;
pub use org::{Org, OrgNamed, OrgPage};
pub use person::{
    InvitationTaken, Login, Session, SessionEnded, SessionPage, User, UserLinked, UserNew, UserPage,
    UserRemoved, UserRole,
};
pub use problem::{Problem, UnknownName};
pub use record::{PresenceChange, Record, ResultChange, StreamEnd, TaskStateChange, TwinChange};
#[cfg(feature = "openapi")]
pub use request::TaskNewSchema;
pub use request::{
    ApiKeyNew, BundleWanted, CertificateWanted, ClaimNew, ClaimRelease, ClaimSerialsNew, DeviceNew,
    DeviceTags, NodeNew, NodeRename, RetentionChange, RevocationNew, SecretRotation, TaskNew, TwinPatch,
    UnitChange, UnitNew, WebhookChange, WebhookNew, WebhookSet,
};
pub use retention::{Retention, RetentionRun};
#[cfg(feature = "openapi")]
pub use schema::{
    AuditDays, AuditOutcomeName, CallerKindName, CertificateStateName, GrantableRightName, NodeStateName,
    RecordKindName, RevocationReasonName, RightName, RoleName, SerialNumber, UnitKindName,
};
pub use serde_json::value::RawValue;
pub use task::{
    Task, TaskChange, TaskCreated, TaskDeleted, TaskHeader, TaskItem, TaskPage, TaskResult, TaskStatus,
};
pub use token::{TokenKey, TokenKeys, TokenMade, TokenNew};
pub use twin::{Twin, TwinDesired, TwinDesiredValue, TwinReported, TwinReportedValue};
pub use unit::{Unit, UnitPage};
pub use usage::{Day, UsageDay, UsageReport, UsageTotal};
pub use webhook::{
    DeadLettersResent, Webhook, WebhookDeadLetter, WebhookDeleted, WebhookDelivery, WebhookFilter,
    WebhookState, WebhookTested,
};
