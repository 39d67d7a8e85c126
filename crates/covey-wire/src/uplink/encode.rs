//! What a device puts into the properties of its messages. Bodies go out as they are.

use uuid::Uuid;

use crate::property;

/// The properties of a message of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkProperties {
    /// The native Correlation Data, 36 characters.
    pub correlation_data: Option<String>,
    /// The user properties, in this order.
    pub user: Vec<(&'static str, String)>,
}

/// Properties of `ack` and `req`: the task, or the nil UUID for "whatever is next".
#[must_use]
pub fn request(task: Uuid) -> UplinkProperties {
    UplinkProperties { correlation_data: Some(task.to_string()), user: Vec::new() }
}

/// Properties of `res`: its task, how it went on the scale of HTTP, and the device's own number
/// of the result.
#[must_use]
pub fn result(task: Uuid, status_code: u16, ext_id: i64) -> UplinkProperties {
    let task = task.to_string();
    UplinkProperties {
        user: vec![
            (property::STATUS_CODE, status_code.to_string()),
            (property::EXT_ID, ext_id.to_string()),
            (property::CORRELATION_DATA, task.clone()),
        ],
        correlation_data: Some(task),
    }
}

/// Properties of `evt`: its type, its number on the device, its time in Unix seconds, and what
/// it belongs to.
#[must_use]
pub fn event(
    type_code: u32,
    dev_event_id: u32,
    dev_timestamp_s: u64,
    correlation: Option<Uuid>,
) -> UplinkProperties {
    let mut user = vec![
        (property::EVENT_TYPE_CODE, type_code.to_string()),
        (property::DEV_EVENT_ID, dev_event_id.to_string()),
        (property::DEV_TIMESTAMP, dev_timestamp_s.to_string()),
    ];
    user.extend(correlation.map(|id| (property::CORRELATION_ID, id.to_string())));
    UplinkProperties { correlation_data: None, user }
}
