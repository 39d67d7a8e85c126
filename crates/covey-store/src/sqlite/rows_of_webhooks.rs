//! Between rows and what is known of webhooks.

use std::sync::Arc;

use covey_core::id::{DeviceId, DeviceKey, OrgId, RecordNumber, UnixMs};
use covey_core::webhook::circuit::CircuitState;
use covey_core::webhook::{
    AttemptLog, Endpoint, EndpointId, EndpointSpec, EndpointState, Letter, LoggedAttempt, Outcome,
    WebhookFormat, WebhookSecret, WebhookType, WebhookUrl,
};
use rusqlite::Row;
use rusqlite::types::Type;

use crate::encoding_of_webhooks as encoding;
use crate::sqlite::rows::{damaged, instant, number};

/// The columns of an endpoint, in the order that [`endpoint`] reads them.
pub(super) const ENDPOINT_COLUMNS: &str = "w.id, w.org_id, w.event_type, w.is_default, w.version, w.url, \
     w.headers, w.is_active, w.filter, w.format, w.concurrency, w.secret, w.old_secret, w.old_secret_until, \
     w.created_at, w.updated_at";
/// Where the columns of [`STATE_COLUMNS`] begin behind [`ENDPOINT_COLUMNS`].
pub(super) const STATE_COLUMN: usize = 16;
/// How an endpoint fares, in the order that [`state`] reads it.
pub(super) const STATE_COLUMNS: &str = "p.position, p.parked, p.dead, p.open_since, p.failures, p.last_error, \
     p.last_delivered_at, p.holder";
/// The columns of a letter, in the order that [`letter`] reads them.
pub(super) const LETTER_COLUMNS: &str = "number, device_key, device_id, deadline, attempts, next_at";
/// The columns of the log, in the order that [`logged`] reads them.
pub(super) const LOG_COLUMNS: &str =
    "seq, number, device_id, attempt, at, duration_ms, status, error, outcome";

/// An endpoint, from [`ENDPOINT_COLUMNS`].
pub(super) fn endpoint(row: &Row<'_>) -> rusqlite::Result<Endpoint> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    let unknown = |column: usize| damaged(column, Type::Text, "not known to this version");
    let old_secret = row.get::<_, Option<String>>(12)?;
    let spec = EndpointSpec {
        webhook_type: WebhookType::from_name(text(2)?).ok_or_else(|| unknown(2))?,
        url: WebhookUrl(row.get(5)?),
        headers: encoding::headers_from(text(6)?).ok_or_else(|| unknown(6))?,
        is_active: row.get(7)?,
        filter: encoding::filter_from(text(8)?).ok_or_else(|| unknown(8))?,
        format: WebhookFormat::from_name(text(9)?).ok_or_else(|| unknown(9))?,
        concurrency: number(row, 10)?,
    };
    Ok(Endpoint {
        id: EndpointId(row.get(0)?),
        org: OrgId(row.get(1)?),
        is_default: row.get(3)?,
        version: row.get(4)?,
        spec,
        secret: WebhookSecret::new(text(11)?),
        old_secret: old_secret.map(|secret| WebhookSecret::new(&secret)).zip(instant(row, 13)?),
        created_at: UnixMs(row.get(14)?),
        updated_at: UnixMs(row.get(15)?),
    })
}

/// How an endpoint fares, from [`STATE_COLUMNS`] that begin at `first`.
pub(super) fn state(row: &Row<'_>, first: usize) -> rusqlite::Result<EndpointState> {
    Ok(EndpointState {
        position: RecordNumber(row.get(first)?),
        parked: number(row, first + 1)?,
        dead: number(row, first + 2)?,
        circuit: circuit(row, first + 3)?,
        last_error: row.get(first + 5)?,
        last_delivered_at: instant(row, first + 6)?,
        server: row.get(first + 7)?,
    })
}

/// A circuit breaker, from `open_since, failures` that begin at `first`.
pub(super) fn circuit(row: &Row<'_>, first: usize) -> rusqlite::Result<CircuitState> {
    Ok(CircuitState { open_since: instant(row, first)?, failures: number(row, first + 1)? })
}

/// A letter, from [`LETTER_COLUMNS`].
pub(super) fn letter(row: &Row<'_>) -> rusqlite::Result<Letter> {
    Ok(Letter {
        number: RecordNumber(row.get(0)?),
        device: DeviceKey(row.get(1)?),
        device_id: DeviceId(row.get(2)?),
        deadline: UnixMs(row.get(3)?),
        attempts: number(row, 4)?,
        next_at: UnixMs(row.get(5)?),
    })
}

/// A row of the log, from [`LOG_COLUMNS`].
pub(super) fn logged(row: &Row<'_>) -> rusqlite::Result<LoggedAttempt> {
    let outcome = Outcome::from_name(row.get_ref(8)?.as_str()?);
    let attempt = AttemptLog {
        number: row.get::<_, Option<i64>>(1)?.map(RecordNumber),
        device_id: row.get::<_, Option<i64>>(2)?.map(DeviceId),
        attempt: number(row, 3)?,
        at: UnixMs(row.get(4)?),
        duration_ms: row.get(5)?,
        status: row.get::<_, Option<u16>>(6)?,
        error: row.get::<_, Option<Arc<str>>>(7)?,
        outcome: outcome.ok_or_else(|| damaged(8, Type::Text, "no outcome"))?,
    };
    Ok(LoggedAttempt { seq: row.get(0)?, attempt })
}
