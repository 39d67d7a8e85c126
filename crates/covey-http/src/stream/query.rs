//! What a stream is asked for.

use std::str::FromStr;

use axum::http::HeaderMap;
use covey_api::RecordKindName;
use covey_core::id::RecordNumber;
use covey_core::record::{RecordFilter, RecordKind};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::device_events::TypeCode;
use crate::problem::Problem;
use crate::wire::{DeviceNumber, TagWanted, from_text, from_texts};

/// The header in which a browser sends the last `id` it saw (WHATWG HTML §9.2.4).
const LAST_EVENT_ID: &str = "last-event-id";

/// Which changes are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Those of the device with this number; may be given up to 1,000 times.
    #[serde(default, deserialize_with = "from_texts")]
    #[param(value_type = Vec<DeviceNumber>, inline, required = false, max_items = 1000)]
    device_id: Vec<DeviceNumber>,
    /// Those of devices with this tag, `name`, `name:value` or `name=value`; may be given several times.
    #[serde(default, deserialize_with = "from_texts")]
    #[param(value_type = Vec<String>, required = false, max_items = 1000)]
    tag: Vec<TagWanted>,
    /// Those of this kind; may be given several times.
    #[serde(default, deserialize_with = "from_texts")]
    #[param(value_type = Vec<RecordKindName>, required = false)]
    kind: Vec<KindName>,
    /// Of events, those of this type; may be given several times. A device's
    /// coming and going is of the kind `presence`.
    #[serde(default, deserialize_with = "from_texts")]
    #[param(value_type = Vec<i32>, required = false, max_items = 1000)]
    event_type_code: Vec<TypeCode>,
    /// Go on after this cursor, the `id` of a message. Without it, and without
    /// `Last-Event-ID`: what happens from now on. 0: all that is kept.
    #[serde(default, deserialize_with = "from_text")]
    #[param(nullable = false, pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
    /// The API key, for browsers, which cannot send it as a header here. It
    /// ends up in the logs of proxies: make one for this use with `events:read` alone.
    #[serde(default, rename = "api_key")]
    #[param(rename = "api_key", nullable = false)]
    _api_key: Option<String>,
}

/// A kind of change in a query.
struct KindName(RecordKind);

impl FromStr for KindName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        RecordKind::from_name(text).map(Self).ok_or("must be task, result, event, presence or twin")
    }
}

impl StreamQuery {
    /// After which record to begin. A browser that connects again sends the
    /// header, and it knows better than the address that it began with.
    pub(super) fn cursor(&self, headers: &HeaderMap) -> Result<Option<RecordNumber>, Problem> {
        let of_header =
            headers.get(LAST_EVENT_ID).map(|value| ("Last-Event-ID", value.to_str().unwrap_or("?")));
        let of_query = self.cursor.as_deref().map(|text| ("cursor", text));
        let Some((field, text)) = of_header.filter(|(_, text)| !text.is_empty()).or(of_query) else {
            return Ok(None);
        };
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse().ok()).map(RecordNumber);
        number.map(Some).ok_or_else(|| Problem::invalid(field, "was never issued by this server"))
    }

    pub(super) fn into_filter(self) -> RecordFilter {
        RecordFilter {
            devices: self.device_id.into_iter().map(|DeviceNumber(id)| id).collect(),
            tags: self.tag.into_iter().map(TagWanted::into_pair).collect(),
            kinds: self.kind.into_iter().map(|KindName(kind)| kind).collect(),
            event_types: self.event_type_code.into_iter().map(|TypeCode(code)| code).collect(),
            granted: None,
        }
    }
}
