//! The audit log: who did what.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Time;

/// One thing that was done, or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry<'a> {
    /// When.
    pub at: Time,
    /// In which organisation, by its number; 0 for none.
    pub org: i64,
    /// Who.
    pub by: AuditActor<'a>,
    /// From which address, if that is known.
    #[cfg_attr(feature = "openapi", schema(required = true, example = "192.168.1.9"))]
    pub from: Option<Cow<'a, str>>,
    /// What, such as `task.create`; `request.refuse` for what was refused.
    #[cfg_attr(feature = "openapi", schema(example = "task.create"))]
    pub action: Cow<'a, str>,
    /// What came of it.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::AuditOutcomeName))]
    pub outcome: Cow<'a, str>,
    /// How often, where several are told as one.
    pub count: u64,
    /// With which device, by its number.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub device_id: Option<i64>,
    /// With which device, by its serial number.
    #[cfg_attr(feature = "openapi", schema(required = true, example = "locker-1"))]
    pub sn: Option<Cow<'a, str>>,
    /// With which thing: its kind, and what it is known by.
    #[cfg_attr(feature = "openapi", schema(example = "key 7"))]
    pub object: Cow<'a, str>,
    /// What else is known, by name; each text is cut at 512 bytes. A secret is never in it.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, String>))]
    pub details: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// In which chain of rows it is.
    pub chain: i64,
    /// In which row of it.
    pub number: i64,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditActor<'a> {
    /// By what somebody is known: `key`, `token`, `person`, `server`, `command` for the command line on the server's
    /// machine, `stranger` for nobody who is known.
    #[cfg_attr(feature = "openapi", schema(example = "key"))]
    pub kind: Cow<'a, str>,
    /// The number of the credential; 0 if there is none.
    pub id: i64,
    /// What the credential is called; of a stranger the beginning of what was shown, if that may be told.
    #[cfg_attr(feature = "openapi", schema(example = "front desk"))]
    pub name: Cow<'a, str>,
}

/// Entries of the audit log, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditPage<'a> {
    /// The entries. There may be fewer than asked for, and none, where many had to be looked at: the cursor goes on.
    pub items: Vec<AuditEntry<'a>>,
    /// What to give as `cursor` for the next page; null if there are no older ones.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub next_cursor: Option<String>,
}

/// A chain of rows: each has the hash of the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditChain<'a> {
    /// Its number.
    pub chain: i64,
    /// The server that writes it; empty where there is only one.
    pub server: Cow<'a, str>,
    /// The number of the last row that was forgotten because it was too old; 0 if none was.
    pub anchor: i64,
    /// The hash of that one, in hexadecimal digits.
    pub anchor_hash: Cow<'a, str>,
    /// The number of its last row; 0 if there is none.
    pub head: i64,
    /// The hash of that one.
    pub head_hash: Cow<'a, str>,
}

/// The chains of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditChains<'a> {
    #[allow(missing_docs)] // its type says what it is, and the OpenAPI document refers to that
    pub items: Vec<AuditChain<'a>>,
}

/// A row of a chain: the entries of an organisation out of a group of operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRow<'a> {
    /// Its place in the chain, from 1.
    pub number: i64,
    /// Whose.
    pub org: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The entries, as they are stored: a line of JSON for each.
    pub entries: Cow<'a, str>,
    /// SHA-256 over the hash of the row before it, then chain, number, organisation and instant with 8 bytes each, the
    /// highest first, then the entries; in hexadecimal digits.
    pub hash: Cow<'a, str>,
}

/// Rows of a chain, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRows<'a> {
    /// The rows; none if there are no more.
    pub items: Vec<AuditRow<'a>>,
}
