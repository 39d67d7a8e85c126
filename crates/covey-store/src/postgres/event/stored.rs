//! Whether an event is stored already.

use crate::postgres::pipeline::{Step, column, query};
use crate::postgres::session::Session;
use crate::rows::{self, Read};
use covey_core::event::EventKey;
use covey_core::id::{DeviceKey, UnixMs};
use tokio_postgres::Row;

/// Asks which of these events are stored.
pub(crate) fn event_is_stored<'s, 'k>(
    session: &'s Session,
    events: impl Iterator<Item = &'k (DeviceKey, EventKey)> + Clone,
) -> Step<'s> {
    let values = vec![
        column(events.clone(), |(device, _)| device.0),
        column(events.clone(), |(_, key)| i64::from(key.dev_event_id)),
        column(events, |(_, key)| key.dev_timestamp.0),
    ];
    query(&session.client, &session.sql.event.events_stored, values)
}

/// An event's key, from what [`event_is_stored`] answers.
pub(crate) fn stored_key(row: &Row) -> Read<(DeviceKey, EventKey)> {
    let dev_event_id = rows::number(row, 1)?;
    let key = EventKey { dev_event_id, dev_timestamp: UnixMs(rows::get(row, 2)?) };
    Ok((DeviceKey(rows::get(row, 0)?), key))
}
