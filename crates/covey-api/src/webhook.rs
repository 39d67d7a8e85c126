//! Webhooks: where the server sends changes, and what became of each message.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Record, Time};

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Webhook<'a> {
    /// Its number.
    pub id: i64,
    /// The organisation's number.
    pub org_id: i64,
    /// What it is told of.
    #[cfg_attr(feature = "openapi", schema(example = "msg-event"))]
    pub event_type: Cow<'static, str>,
    /// Whether it is the one that its type names in a path.
    pub is_default: bool,
    /// Where it is.
    pub url: Cow<'a, str>,
    /// What is sent with each message, by name.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, String>))]
    pub headers: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// Whether it is told anything.
    pub is_active: bool,
    /// Which changes are wanted, beside the type.
    pub filter: WebhookFilter,
    /// In which form: `contract` or `cloudevents`.
    pub format: Cow<'static, str>,
    /// How many requests may be under way at once.
    pub concurrency: u32,
    /// Whether the device's number is appended to the path of the URL: of `msg-event` alone.
    pub device_id_in_path: bool,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// Until when the secret before this one is valid, too, if it is.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub old_secret_until: Option<Time>,
    /// The secret that messages are signed with. Shown when it is made and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub secret: Option<Cow<'a, str>>,
    /// How it fares.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub state: Option<WebhookState<'a>>,
}

/// How a webhook fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookState<'a> {
    /// `closed` if messages are sent; `open` if, after failures in a row, there are only probes.
    #[cfg_attr(feature = "openapi", schema(example = "closed"))]
    pub circuit: Cow<'static, str>,
    /// Since when it is open.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub open_since: Option<Time>,
    /// How many failures there were in a row.
    pub failures: u32,
    /// What the last failure was.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub last_error: Option<Cow<'a, str>>,
    /// When a message was last delivered.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub last_delivered_at: Option<Time>,
    /// Up to this number of a change everything is settled: delivered, not wanted, waiting for another try, or
    /// given up.
    pub position: i64,
    /// The number of the newest change.
    pub head: i64,
    /// How many messages wait for another try.
    pub waiting: u64,
    /// How many messages were given up.
    pub dead: u64,
    /// The server that sends its messages.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub server: Option<Cow<'a, str>>,
}

/// Which changes a webhook wants. Each list that is empty lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WebhookFilter {
    /// Those of devices with these numbers.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub device_id: Vec<i64>,
    /// Those of devices with one of these tags: `name`, `name:value` or `name=value`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub tag: Vec<String>,
    /// Of events, those of these types. A device's coming and going is told as `msg-presence`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub event_type_code: Vec<i64>,
}

/// A webhook that was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookDeleted {
    /// That it was.
    #[cfg_attr(feature = "openapi", schema(example = "Webhook deleted"))]
    pub message: Cow<'static, str>,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookTested<'a> {
    /// Whether the receiver answered 2xx.
    pub delivered: bool,
    /// The id under which the sample was sent, as in its header `webhook-id`.
    #[cfg_attr(feature = "openapi", schema(example = "test_01982f3a-7a00-7000-8000-000000000000"))]
    pub message_id: Cow<'a, str>,
    /// When it was sent.
    pub at: Time,
    /// How long the receiver took, in milliseconds.
    pub duration_ms: i64,
    /// The status that it answered with, if it answered.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub status: Option<u16>,
    /// What went wrong, if anything did.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub error: Option<Cow<'a, str>>,
}

/// An attempt to deliver a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookDelivery<'a> {
    /// Its number in this log; later ones are larger.
    pub id: i64,
    /// The number of the change; null of a test.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub number: Option<i64>,
    /// The device's number; null of a test.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub device_id: Option<i64>,
    /// Which try it was.
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub attempt: u32,
    /// When it began.
    pub at: Time,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// The status that the receiver answered with, if it answered.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub status: Option<u16>,
    /// What went wrong, if anything did.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub error: Option<Cow<'a, str>>,
    /// What became of it: `delivered`, `retry`, `dead`, `test_passed`, `test_failed`.
    #[cfg_attr(feature = "openapi", schema(example = "delivered"))]
    pub outcome: Cow<'static, str>,
}

/// A message that was given up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookDeadLetter<'a> {
    /// The number of the change.
    pub number: i64,
    /// The device's number.
    pub device_id: i64,
    /// How often it was tried.
    pub attempts: u32,
    /// The status of the last answer, if there was one.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub last_status: Option<u16>,
    /// What went wrong last.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub last_error: Option<Cow<'a, str>>,
    /// When it was given up.
    pub died_at: Time,
    /// The change; null if it has been forgotten, and cannot be sent again then.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub record: Option<Record<'a>>,
}

/// What is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadLettersResent {
    /// How many messages will be tried again, for another day.
    pub resent: u64,
}
