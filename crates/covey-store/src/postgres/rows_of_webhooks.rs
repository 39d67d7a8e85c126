//! Between rows and what is known of webhooks.

use std::sync::Arc;

use covey_core::id::{DeviceId, DeviceKey, OrgId, RecordNumber, UnixMs};
use covey_core::webhook::circuit::CircuitState;
use covey_core::webhook::{
    AttemptLog, Claim, Claimable, DeadLetter, Endpoint, EndpointId, EndpointSpec, EndpointState,
    HeldEndpoint, Letter, LetterState, LoggedAttempt, Outcome, StoredLane, StoredLetter, WebhookFormat,
    WebhookSecret, WebhookType, WebhookUrl,
};
use tokio_postgres::Row;

use crate::encoding_of_webhooks as encoding;
use crate::postgres::reader_of_records::{RECORD_COLUMNS, record_from};
use crate::postgres::rows::{Damaged, Read, get, instant, number};

/// How many columns an endpoint has.
const ENDPOINT_COLUMNS: usize = 16;

/// An endpoint, from `endpoint_columns!`.
pub(super) fn endpoint(row: &Row) -> Read<Endpoint> {
    let unknown = |column| Damaged::Value(column, "value that this version knows");
    let concurrency: i32 = get(row, 10)?;
    let spec = EndpointSpec {
        webhook_type: WebhookType::from_name(get(row, 2)?).ok_or(unknown(2))?,
        url: WebhookUrl(get(row, 5)?),
        headers: encoding::headers_from(get(row, 6)?).ok_or(unknown(6))?,
        is_active: get(row, 7)?,
        filter: encoding::filter_from(get(row, 8)?).ok_or(unknown(8))?,
        format: WebhookFormat::from_name(get(row, 9)?).ok_or(unknown(9))?,
        concurrency: u32::try_from(concurrency).map_err(|_| unknown(10))?,
    };
    let old_secret = get::<Option<&str>>(row, 12)?.map(WebhookSecret::new);
    Ok(Endpoint {
        id: EndpointId(get(row, 0)?),
        org: OrgId(get(row, 1)?),
        is_default: get(row, 3)?,
        version: get(row, 4)?,
        spec,
        secret: WebhookSecret::new(get(row, 11)?),
        old_secret: old_secret.zip(instant(row, 13)?),
        created_at: UnixMs(get(row, 14)?),
        updated_at: UnixMs(get(row, 15)?),
    })
}

/// An endpoint with how it fares.
pub(super) fn endpoint_and_state(row: &Row) -> Read<(Endpoint, EndpointState)> {
    Ok((endpoint(row)?, state_at(row, ENDPOINT_COLUMNS)?))
}

/// How an endpoint fares, after its number.
pub(super) fn id_and_state(row: &Row) -> Read<(EndpointId, EndpointState)> {
    Ok((EndpointId(get(row, 0)?), state_at(row, 1)?))
}

fn state_at(row: &Row, at: usize) -> Read<EndpointState> {
    Ok(EndpointState {
        position: RecordNumber(get(row, at)?),
        parked: number(row, at + 1)?,
        dead: number(row, at + 2)?,
        circuit: circuit_at(row, at + 3)?,
        last_error: get(row, at + 5)?,
        last_delivered_at: instant(row, at + 6)?,
        server: get(row, at + 7)?,
    })
}

fn circuit_at(row: &Row, at: usize) -> Read<CircuitState> {
    Ok(CircuitState { open_since: instant(row, at)?, failures: number(row, at + 1)? })
}

/// An endpoint that is held.
pub(super) fn held(row: &Row) -> Read<HeldEndpoint> {
    let beyond: Vec<i64> = get(row, ENDPOINT_COLUMNS + 4)?;
    Ok(HeldEndpoint {
        endpoint: endpoint(row)?,
        position: RecordNumber(get(row, ENDPOINT_COLUMNS)?),
        stored_before: beyond.into_iter().map(RecordNumber).collect(),
        circuit: circuit_at(row, ENDPOINT_COLUMNS + 1)?,
        resends: get(row, ENDPOINT_COLUMNS + 3)?,
    })
}

/// Who holds an endpoint.
pub(super) fn claimable(row: &Row) -> Read<Claimable> {
    let holder = get::<Option<String>>(row, 3)?.zip(get::<Option<i64>>(row, 4)?);
    Ok(Claimable {
        id: EndpointId(get(row, 0)?),
        version: get(row, 1)?,
        resends: get(row, 2)?,
        holder: holder.map(|(server, nonce)| Claim { server, nonce }),
        until: UnixMs(get(row, 5)?),
    })
}

/// A device that has letters waiting.
pub(super) fn lane(row: &Row) -> Read<StoredLane> {
    let (first, until) = (RecordNumber(get(row, 1)?), RecordNumber(get(row, 2)?));
    Ok(StoredLane { device: DeviceKey(get(row, 0)?), first, until })
}

/// A letter, from `letter_columns!`.
pub(super) fn letter(row: &Row) -> Read<Letter> {
    letter_at(row, 0)
}

fn letter_at(row: &Row, at: usize) -> Read<Letter> {
    Ok(Letter {
        number: RecordNumber(get(row, at)?),
        device: DeviceKey(get(row, at + 1)?),
        device_id: DeviceId(get(row, at + 2)?),
        deadline: UnixMs(get(row, at + 3)?),
        attempts: number(row, at + 4)?,
        next_at: UnixMs(get(row, at + 5)?),
    })
}

/// A dead letter with what it tells.
pub(super) fn dead_letter(row: &Row) -> Read<DeadLetter> {
    let at = RECORD_COLUMNS;
    let letter = StoredLetter {
        letter: letter_at(row, at)?,
        state: LetterState::Dead,
        status: status_at(row, at + 6)?,
        error: get::<Option<&str>>(row, at + 7)?.map(Arc::from),
    };
    Ok(DeadLetter { letter, died_at: instant(row, at + 8)?.unwrap_or_default(), record: record_from(row)? })
}

fn status_at(row: &Row, at: usize) -> Read<Option<u16>> {
    let status = get::<Option<i32>>(row, at)?.map(u16::try_from);
    status.transpose().map_err(|_| Damaged::Value(at, "status"))
}

/// A row of the log, from `log_columns!`.
pub(super) fn logged(row: &Row) -> Read<LoggedAttempt> {
    let attempt = AttemptLog {
        number: get::<Option<i64>>(row, 1)?.map(RecordNumber),
        device_id: get::<Option<i64>>(row, 2)?.map(DeviceId),
        attempt: number(row, 3)?,
        at: UnixMs(get(row, 4)?),
        duration_ms: get(row, 5)?,
        status: status_at(row, 6)?,
        error: get::<Option<&str>>(row, 7)?.map(Arc::from),
        outcome: Outcome::from_name(get(row, 8)?).ok_or(Damaged::Value(8, "outcome"))?,
    };
    Ok(LoggedAttempt { seq: get(row, 0)?, attempt })
}
