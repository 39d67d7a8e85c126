//! How parts of webhooks are written into columns, alike in every store.

use covey_core::id::DeviceId;
use covey_core::record::RecordFilter;
use covey_core::webhook::{LetterState, WebhookHeaders};

/// Headers as JSON: `[["name", "value"], …]`.
pub(crate) fn headers_text(headers: &WebhookHeaders) -> String {
    serde_json::to_string(&headers.0).unwrap_or_default()
}

/// The headers that [`headers_text`] wrote.
pub(crate) fn headers_from(text: &str) -> Option<WebhookHeaders> {
    serde_json::from_str(text).ok().map(WebhookHeaders)
}

/// A filter as JSON: `[[device, …], [["tag", "value" or null], …], [event type, …]]`,
/// without the kinds, which follow from the type.
pub(crate) fn filter_text(filter: &RecordFilter) -> String {
    let devices: Vec<i64> = filter.devices.iter().map(|device| device.0).collect();
    serde_json::to_string(&(devices, &filter.tags, &filter.event_types)).unwrap_or_default()
}

/// What [`filter_text`] wrote.
type FilterParts = (Vec<i64>, Vec<(String, Option<String>)>, Vec<i64>);

/// The filter that [`filter_text`] wrote.
pub(crate) fn filter_from(text: &str) -> Option<RecordFilter> {
    let (devices, tags, event_types): FilterParts = serde_json::from_str(text).ok()?;
    let devices = devices.into_iter().map(DeviceId).collect();
    Some(RecordFilter { devices, tags, kinds: Vec::new(), event_types })
}

/// The state of a letter as a number.
pub(crate) const fn letter_state(state: LetterState) -> i16 {
    match state {
        LetterState::Parked => 0,
        LetterState::Dead => 1,
    }
}
