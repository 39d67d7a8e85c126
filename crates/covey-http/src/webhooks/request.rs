//! What an application says of a webhook.

use std::collections::BTreeMap;

use covey_api::WebhookFilter;
use covey_core::id::DeviceId;
use covey_core::record::RecordFilter;
use covey_core::webhook::{
    EndpointSpec, WebhookFormat, WebhookHeaders, WebhookSecret, WebhookType, WebhookUrl,
};
use covey_core::{Error, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::wire::{TagWanted, Whole};

/// The parts of a webhook that are the same however it is set. What is left
/// out stays as it is, or as it is by default.
#[derive(Default, Deserialize, ToSchema)]
pub(super) struct WebhookParts {
    /// Which changes are wanted, beside the type.
    #[serde(default, deserialize_with = "filter")]
    pub(super) filter: Option<WebhookFilter>,
    /// In which form: `contract`, or `cloudevents` for CloudEvents 1.0 in structured mode.
    #[serde(default, deserialize_with = "format")]
    #[schema(pattern = "^(contract|cloudevents)$", example = "contract")]
    pub(super) format: Option<String>,
    /// How many requests may be under way at once; of one device it is always one.
    #[serde(default, deserialize_with = "concurrency")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 64, default = 8)]
    pub(super) concurrency: Option<Whole>,
    /// The secret that messages are signed with (Standard Webhooks): `whsec_` and then 24 to 64 bytes in base64.
    /// One is made if none is given.
    #[serde(default, deserialize_with = "secret")]
    #[schema(max_length = 128)]
    pub(super) secret: Option<String>,
}

/// A webhook that is added to those that there are.
#[derive(Deserialize, ToSchema)]
pub(super) struct WebhookNew {
    /// What it is told of.
    #[schema(
        pattern = "^(msg-event|msg-task-result|msg-task|msg-presence|msg-twin)$",
        example = "msg-event"
    )]
    pub(super) event_type: String,
    /// Where it is.
    #[schema(min_length = 1, max_length = 2048, example = "https://receiver.example/covey")]
    pub(super) url: String,
    /// What is sent with each message, by name.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub(super) headers: Option<BTreeMap<String, String>>,
    /// Whether it is told anything; its URL is probed if so.
    #[serde(default)]
    #[schema(default = true)]
    pub(super) is_active: Option<bool>,
    #[serde(flatten)]
    pub(super) parts: WebhookParts,
}

/// The default webhook of a type, or all of one by its number.
#[derive(Deserialize, ToSchema)]
pub(super) struct WebhookSet {
    /// Where it is.
    #[schema(min_length = 1, max_length = 2048, example = "https://receiver.example/covey")]
    pub(super) url: String,
    /// What is sent with each message, by name; none if left out.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub(super) headers: Option<BTreeMap<String, String>>,
    /// Whether it is told anything; its URL is probed if so.
    #[serde(default)]
    #[schema(default = true)]
    pub(super) is_active: Option<bool>,
    #[serde(flatten)]
    pub(super) parts: WebhookParts,
}

/// A change of a webhook. What is left out stays as it is.
#[derive(Deserialize, ToSchema)]
pub(super) struct WebhookChange {
    /// Where it is.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 2048)]
    pub(super) url: Option<String>,
    /// What is sent with each message, by name.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub(super) headers: Option<BTreeMap<String, String>>,
    /// Whether it is told anything; its URL is probed if so.
    #[serde(default)]
    pub(super) is_active: Option<bool>,
    #[serde(flatten)]
    pub(super) parts: WebhookParts,
}

/// A new secret for a webhook. All fields may be left out.
#[derive(Default, Deserialize, ToSchema)]
pub(super) struct SecretRotation {
    /// The new secret; one is made if none is given.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub(super) secret: Option<String>,
    /// For how long the old one is valid beside it, in seconds.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 2_592_000, default = 86_400)]
    pub(super) overlap_seconds: Option<Whole>,
}

/// A filter by the names of its members, and in no other form: what is misread
/// would let everything through.
fn filter<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<WebhookFilter>, D::Error> {
    let object = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(deserializer);
    let object = object.map_err(|error| D::Error::custom(format!("filter: {error}")))?;
    let filter = object.map(|object| serde_json::from_value(serde_json::Value::Object(object)));
    filter.transpose().map_err(|error| D::Error::custom(format!("filter: {error}")))
}

/// A value whose refusal says its name, which serde forgets of what it flattens.
macro_rules! named {
    ($($name:ident: $kind:ty),+) => {
        $(fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<$kind>, D::Error> {
            let problem = |error| D::Error::custom(format!(concat!(stringify!($name), ": {}"), error));
            Option::deserialize(deserializer).map_err(problem)
        })+
    };
}
named!(format: String, concurrency: Whole, secret: String);

/// As the core has it.
fn record_filter(filter: WebhookFilter) -> RecordFilter {
    RecordFilter {
        devices: filter.device_id.into_iter().map(DeviceId).collect(),
        tags: filter.tag.iter().map(|text| TagWanted::read(text).into_pair()).collect(),
        kinds: Vec::new(),
        event_types: filter.event_type_code,
    }
}

impl WebhookParts {
    /// The secret that was given.
    pub(super) fn secret(&self) -> Option<WebhookSecret> {
        self.secret.as_deref().map(WebhookSecret::new)
    }

    fn apply(self, spec: &mut EndpointSpec) -> Result<()> {
        if let Some(filter) = self.filter {
            spec.filter = record_filter(filter);
        }
        if let Some(format) = self.format {
            spec.format = WebhookFormat::from_name(&format)
                .ok_or(Error::invalid("format", "must be contract or cloudevents"))?;
        }
        if let Some(Whole(concurrency)) = self.concurrency {
            // What does not fit is left to the core to refuse.
            spec.concurrency = u32::try_from(concurrency).unwrap_or(0);
        }
        Ok(())
    }
}

fn headers(headers: BTreeMap<String, String>) -> WebhookHeaders {
    WebhookHeaders(headers.into_iter().collect())
}

impl WebhookNew {
    /// What the core is asked for.
    pub(super) fn into_spec(self) -> Result<EndpointSpec, Problem> {
        let webhook_type = WebhookType::from_name(&self.event_type).ok_or_else(|| {
            Problem::invalid(
                "event_type",
                "must be msg-event, msg-task-result, msg-task, msg-presence or msg-twin",
            )
        })?;
        let mut spec = EndpointSpec::new(webhook_type, &self.url);
        spec.headers = headers(self.headers.unwrap_or_default());
        spec.is_active = self.is_active.unwrap_or(true);
        self.parts.apply(&mut spec)?;
        Ok(spec)
    }
}

impl WebhookSet {
    /// What the core is asked for, of what there is, or of the defaults of a type.
    pub(super) fn onto(self, known: Option<&EndpointSpec>, of: Option<WebhookType>) -> Result<EndpointSpec> {
        let new = || of.map(|webhook_type| EndpointSpec::new(webhook_type, ""));
        let mut spec = known.cloned().or_else(new).ok_or(Error::not_found("webhook"))?;
        spec.url = WebhookUrl(self.url);
        spec.headers = headers(self.headers.unwrap_or_default());
        spec.is_active = self.is_active.unwrap_or(true);
        self.parts.apply(&mut spec)?;
        Ok(spec)
    }
}

impl WebhookChange {
    /// What the core is asked for, of what there is.
    pub(super) fn onto(self, known: Option<&EndpointSpec>) -> Result<EndpointSpec> {
        let mut spec = known.cloned().ok_or(Error::not_found("webhook"))?;
        if let Some(url) = self.url {
            spec.url = WebhookUrl(url);
        }
        if let Some(given) = self.headers {
            spec.headers = headers(given);
        }
        spec.is_active = self.is_active.unwrap_or(spec.is_active);
        self.parts.apply(&mut spec)?;
        Ok(spec)
    }
}
