//! What an application says of a webhook.

use std::collections::BTreeMap;
use std::fmt;

use covey_api::WebhookFilter;
use covey_core::id::DeviceId;
use covey_core::record::RecordFilter;
use covey_core::webhook::{
    EndpointSpec, WebhookFormat, WebhookHeaders, WebhookSecret, WebhookType, WebhookUrl,
};
use covey_core::{Error, Result};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::wire::{TagWanted, Whole};

/// Makes the body of a request that sets a webhook: what is its own, and the members that are the
/// same however it is set. Those are written out in each, because a reader that flattens them
/// cannot tell which names it did not know.
macro_rules! webhook_body {
    ($(#[$about:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(Deserialize, ToSchema)]
        pub(super) struct $name {
            $($own)*
            /// Which changes are wanted, beside the type.
            #[serde(default, deserialize_with = "filter")]
            filter: Option<WebhookFilter>,
            /// In which form: `contract`, or `cloudevents` for CloudEvents 1.0 in structured mode.
            #[serde(default)]
            #[schema(pattern = "^(contract|cloudevents)$", example = "contract")]
            format: Option<String>,
            /// How many requests may be under way at once; of one device it is always one.
            #[serde(default)]
            #[schema(value_type = Option<i64>, minimum = 1, maximum = 64, default = 8)]
            concurrency: Option<Whole>,
            /// The secret that messages are signed with (Standard Webhooks): `whsec_` and then 24 to 64 bytes in
            /// base64. One is made if none is given.
            #[serde(default)]
            #[schema(max_length = 128)]
            secret: Option<String>,
        }

        impl $name {
            /// The secret that was given.
            pub(super) fn secret(&self) -> Option<WebhookSecret> {
                self.secret.as_deref().map(WebhookSecret::new)
            }

            /// Sets what is the same however a webhook is set. What is left out stays as it is.
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
    };
}

webhook_body! {
    /// A webhook that is added to those that there are.
    WebhookNew {
        /// What it is told of.
        #[schema(
            pattern = "^(msg-event|msg-task-result|msg-task|msg-presence|msg-twin)$",
            example = "msg-event"
        )]
        event_type: String,
        /// Where it is.
        #[schema(min_length = 1, max_length = 2048, example = "https://receiver.example/covey")]
        url: String,
        /// What is sent with each message, by name.
        #[serde(default)]
        #[schema(value_type = Option<BTreeMap<String, String>>)]
        headers: Option<BTreeMap<String, String>>,
        /// Whether it is told anything; its URL is probed if so.
        #[serde(default)]
        #[schema(default = true)]
        is_active: Option<bool>,
    }
}

webhook_body! {
    /// The default webhook of a type, or all of one by its number.
    WebhookSet {
        /// Where it is.
        #[schema(min_length = 1, max_length = 2048, example = "https://receiver.example/covey")]
        url: String,
        /// What is sent with each message, by name; none if left out.
        #[serde(default)]
        #[schema(value_type = Option<BTreeMap<String, String>>)]
        headers: Option<BTreeMap<String, String>>,
        /// Whether it is told anything; its URL is probed if so.
        #[serde(default)]
        #[schema(default = true)]
        is_active: Option<bool>,
    }
}

webhook_body! {
    /// A change of a webhook. What is left out stays as it is.
    WebhookChange {
        /// Where it is.
        #[serde(default)]
        #[schema(min_length = 1, max_length = 2048)]
        url: Option<String>,
        /// What is sent with each message, by name.
        #[serde(default)]
        #[schema(value_type = Option<BTreeMap<String, String>>)]
        headers: Option<BTreeMap<String, String>>,
        /// Whether it is told anything; its URL is probed if so.
        #[serde(default)]
        is_active: Option<bool>,
    }
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
    struct FilterVisitor;

    impl<'de> Visitor<'de> for FilterVisitor {
        type Value = Option<WebhookFilter>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<M: MapAccess<'de>>(self, members: M) -> std::result::Result<Self::Value, M::Error> {
            WebhookFilter::deserialize(MapAccessDeserializer::new(members)).map(Some)
        }
    }

    deserializer.deserialize_any(FilterVisitor)
}

/// As the core has it.
fn record_filter(filter: WebhookFilter) -> RecordFilter {
    RecordFilter {
        devices: filter.device_id.into_iter().map(DeviceId).collect(),
        tags: filter.tag.iter().map(|text| TagWanted::read(text).into_pair()).collect(),
        kinds: Vec::new(),
        event_types: filter.event_type_code,
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
        spec.headers = headers(self.headers.clone().unwrap_or_default());
        spec.is_active = self.is_active.unwrap_or(true);
        self.apply(&mut spec)?;
        Ok(spec)
    }
}

impl WebhookSet {
    /// What the core is asked for, of what there is, or of the defaults of a type.
    pub(super) fn onto(self, known: Option<&EndpointSpec>, of: Option<WebhookType>) -> Result<EndpointSpec> {
        let new = || of.map(|webhook_type| EndpointSpec::new(webhook_type, ""));
        let mut spec = known.cloned().or_else(new).ok_or(Error::not_found("webhook"))?;
        spec.url = WebhookUrl(self.url.clone());
        spec.headers = headers(self.headers.clone().unwrap_or_default());
        spec.is_active = self.is_active.unwrap_or(true);
        self.apply(&mut spec)?;
        Ok(spec)
    }
}

impl WebhookChange {
    /// What the core is asked for, of what there is.
    pub(super) fn onto(self, known: Option<&EndpointSpec>) -> Result<EndpointSpec> {
        let mut spec = known.cloned().ok_or(Error::not_found("webhook"))?;
        if let Some(url) = &self.url {
            spec.url = WebhookUrl(url.clone());
        }
        if let Some(given) = &self.headers {
            spec.headers = headers(given.clone());
        }
        spec.is_active = self.is_active.unwrap_or(spec.is_active);
        self.apply(&mut spec)?;
        Ok(spec)
    }
}
