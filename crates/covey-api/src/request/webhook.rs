//! A webhook to be made or changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::by_name::ByName;
use crate::{WebhookFilter, Whole};

/// Makes the body of a request that sets a webhook: what is its own, and the members that are the
/// same however it is set. Those are written out in each, because a reader that flattens them
/// cannot tell which names it did not know.
macro_rules! webhook_body {
    ($(#[$about:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name {
            $($own)*
            /// What is sent with each message, by name.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[cfg_attr(feature = "openapi", schema(value_type = Option<BTreeMap<String, String>>))]
            pub headers: Option<BTreeMap<String, String>>,
            /// Which changes are wanted, beside the type.
            #[serde(default, deserialize_with = "filter", skip_serializing_if = "Option::is_none")]
            pub filter: Option<WebhookFilter>,
            /// In which form: `contract`, or `cloudevents` for CloudEvents 1.0 in structured mode.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[cfg_attr(feature = "openapi", schema(pattern = "^(contract|cloudevents)$", example = "contract"))]
            pub format: Option<String>,
            /// How many requests may be under way at once; of one device it is always one.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 1, maximum = 64, default = 8))]
            pub concurrency: Option<Whole>,
            /// Whether events go to `{url}/{device_id}`, the device's number appended to the path. Only with `msg-event`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[cfg_attr(feature = "openapi", schema(default = false))]
            pub device_id_in_path: Option<bool>,
            /// The secret that messages are signed with (Standard Webhooks): `whsec_` and then 24 to 64 bytes in
            /// base64. One is made if none is given.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[cfg_attr(feature = "openapi", schema(max_length = 128))]
            pub secret: Option<String>,
        }
    };
}

webhook_body! {
    /// A webhook that is added to those that there are.
    WebhookNew {
        /// What it is told of.
        #[cfg_attr(feature = "openapi", schema(pattern = "^(msg-event|msg-task-result|msg-task|msg-presence|msg-twin)$", example = "msg-event"))]
        pub event_type: String,
        /// Where it is.
        #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 2048, example = "https://receiver.example/covey"))]
        pub url: String,
        /// Whether it is told anything; its URL is probed if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(default = true))]
        pub is_active: Option<bool>,
    }
}

webhook_body! {
    /// The default webhook of a type, or all of one by its number. Without `headers` it sends none of its own.
    WebhookSet {
        /// Where it is.
        #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 2048, example = "https://receiver.example/covey"))]
        pub url: String,
        /// Whether it is told anything; its URL is probed if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(default = true))]
        pub is_active: Option<bool>,
    }
}

webhook_body! {
    /// A change of a webhook. What is left out stays as it is.
    WebhookChange {
        /// Where it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 2048))]
        pub url: Option<String>,
        /// Whether it is told anything; its URL is probed if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub is_active: Option<bool>,
    }
}

/// A new secret for a webhook. All fields may be left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecretRotation {
    /// The new secret; one is made if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 128))]
    pub secret: Option<String>,
    /// For how long the old one is valid beside it, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>, minimum = 0, maximum = 2_592_000, default = 86_400))]
    pub overlap_seconds: Option<Whole>,
}

/// A filter by the names of its members, and in no other form: what is misread
/// would let everything through.
fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WebhookFilter>, D::Error> {
    Ok(Option::<ByName<WebhookFilter>>::deserialize(deserializer)?.map(|ByName(filter)| filter))
}
