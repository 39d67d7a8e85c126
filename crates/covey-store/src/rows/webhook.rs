//! Webhooks: endpoints, how they fare, deliveries and the log.

use covey_core::id::DeviceId;
use covey_core::record::RecordFilter;
use covey_core::webhook::circuit::CircuitState;
use covey_core::webhook::{
    AttemptLog, Claim, Claimable, Delivery, DeliveryState, Endpoint, EndpointId, EndpointSpec, EndpointState,
    EndpointTrouble, HeldEndpoint, LoggedAttempt, Outcome, StoredDelivery, StoredDeviceQueue, WebhookFormat,
    WebhookHeaders, WebhookSecret, WebhookType, WebhookUrl,
};

use crate::rows::{Columns, Damaged, Read, get, number};

/// The columns of an endpoint `w`, in the order that [`endpoint`] reads them.
macro_rules! endpoint_columns {
    () => {
        "w.id, w.org_id, w.event_type, w.is_default, w.version, w.url, w.headers, w.is_active, w.filter, \
         w.format, w.concurrency, w.secret, w.old_secret, w.old_secret_until, w.created_at, w.updated_at, \
         w.device_id_in_path"
    };
}
pub(crate) use endpoint_columns;

/// How many columns that are.
pub(crate) const ENDPOINT_COLUMNS: usize = 17;

/// How an endpoint fares, in the order that [`id_and_state`] reads it.
macro_rules! state_columns {
    () => {
        "p.position, p.parked, p.dead, p.open_since, p.failures, p.last_error, p.last_delivered_at, p.holder"
    };
}

/// The columns of a delivery `l`, in the order that [`delivery`] reads them.
macro_rules! delivery_columns {
    () => {
        "l.number, l.device_key, l.device_id, l.deadline, l.attempts, l.next_at"
    };
}
pub(crate) use delivery_columns;

/// The columns of the log, in the order that [`logged`] reads them.
macro_rules! log_columns {
    () => {
        "seq, number, device_id, attempt, at, duration_ms, status, error, outcome"
    };
}
pub(crate) use log_columns;

/// How many endpoints an organisation has.
pub(crate) const WEBHOOK_COUNT: &str =
    "SELECT count(*) FROM webhooks WHERE org_id = $1 AND deleted_at IS NULL";
/// An endpoint that has changed.
pub(crate) const WEBHOOK_UPDATE: &str = "UPDATE webhooks SET version = version + 1, url = $1, headers = $2, \
     is_active = $3, filter = $4, format = $5, concurrency = $6, device_id_in_path = $7, secret = $8, \
     old_secret = $9, old_secret_until = $10, updated_at = $11 WHERE id = $12";
/// Takes an endpoint out of every list: now, number, organisation.
pub(crate) const WEBHOOK_DELETE: &str = "UPDATE webhooks SET deleted_at = $1, secret = '', old_secret = NULL, \
     headers = '[]' WHERE id = $2 AND org_id = $3 AND deleted_at IS NULL";
/// Lets go of all endpoints: server, nonce.
pub(crate) const WEBHOOK_RELEASE: &str = "UPDATE webhook_progress SET holder = NULL, holder_nonce = NULL, \
     held_until = 0 WHERE holder = $1 AND holder_nonce = $2";
/// The next number of the log: endpoint.
pub(crate) const WEBHOOK_NEXT_LOG: &str =
    "UPDATE webhook_progress SET log_head = log_head + 1 WHERE webhook_id = $1 RETURNING log_head";
/// Forgets the oldest rows of a log: endpoint, up to which.
pub(crate) const WEBHOOK_TRIM_LOG: &str =
    "DELETE FROM webhook_deliveries WHERE webhook_id = $1 AND seq <= $2";
/// The endpoints of an organisation with how they fare.
pub(crate) const WEBHOOK_LIST: &str = concat!(
    "SELECT ",
    endpoint_columns!(),
    ", ",
    state_columns!(),
    " FROM webhooks w JOIN webhook_progress p ON p.webhook_id = w.id \
     WHERE w.org_id = $1 AND w.deleted_at IS NULL ORDER BY w.id"
);
/// All endpoints that are active, and who holds them.
pub(crate) const WEBHOOK_CLAIMABLE: &str = "SELECT w.id, w.version, p.resends, p.holder, p.holder_nonce, \
     p.held_until FROM webhooks w JOIN webhook_progress p ON p.webhook_id = w.id \
     WHERE w.is_active AND w.deleted_at IS NULL ORDER BY w.id";
/// How all active endpoints fare.
pub(crate) const WEBHOOK_STATES: &str = concat!(
    "SELECT w.id, ",
    state_columns!(),
    " FROM webhooks w JOIN webhook_progress p ON p.webhook_id = w.id \
     WHERE w.is_active AND w.deleted_at IS NULL ORDER BY w.id"
);
/// How those of them fare whose receivers do not take what they are sent, and whose they are.
pub(crate) const WEBHOOK_TROUBLES: &str = concat!(
    "SELECT w.id, ",
    state_columns!(),
    ", w.org_id FROM webhooks w JOIN webhook_progress p ON p.webhook_id = w.id \
     WHERE w.is_active AND w.deleted_at IS NULL AND (p.open_since IS NOT NULL OR p.dead > 0) ORDER BY w.id"
);

/// An endpoint, from `endpoint_columns!`.
pub(crate) fn endpoint(row: &dyn Columns) -> Read<Endpoint> {
    let unknown = |column| Damaged::Value(column, "value that this version knows");
    let spec = EndpointSpec {
        webhook_type: WebhookType::from_name(get(row, 2)?).ok_or(unknown(2))?,
        url: WebhookUrl(get(row, 5)?),
        headers: headers_from(get(row, 6)?).ok_or(unknown(6))?,
        is_active: get(row, 7)?,
        filter: filter_from(get(row, 8)?).ok_or(unknown(8))?,
        format: WebhookFormat::from_name(get(row, 9)?).ok_or(unknown(9))?,
        concurrency: number(row, 10)?,
        device_id_in_path: get(row, 16)?,
    };
    let old_secret = get::<Option<&str>>(row, 12)?.map(WebhookSecret::new);
    Ok(Endpoint {
        id: get(row, 0)?,
        org: get(row, 1)?,
        is_default: get(row, 3)?,
        version: get(row, 4)?,
        spec,
        secret: WebhookSecret::new(get(row, 11)?),
        old_secret: old_secret.zip(get(row, 13)?),
        created_at: get(row, 14)?,
        updated_at: get(row, 15)?,
    })
}

/// An endpoint with how it fares.
pub(crate) fn endpoint_and_state(row: &dyn Columns) -> Read<(Endpoint, EndpointState)> {
    Ok((endpoint(row)?, state_at(row, ENDPOINT_COLUMNS)?))
}

/// How an endpoint fares, after its number.
pub(crate) fn id_and_state(row: &dyn Columns) -> Read<(EndpointId, EndpointState)> {
    Ok((get(row, 0)?, state_at(row, 1)?))
}

/// One of [`WEBHOOK_TROUBLES`].
pub(crate) fn trouble(row: &dyn Columns) -> Read<EndpointTrouble> {
    let (id, state) = id_and_state(row)?;
    Ok(EndpointTrouble { org: get(row, 9)?, id, state })
}

fn state_at(row: &dyn Columns, at: usize) -> Read<EndpointState> {
    Ok(EndpointState {
        position: get(row, at)?,
        deferred: number(row, at + 1)?,
        dead: number(row, at + 2)?,
        circuit: circuit_at(row, at + 3)?,
        last_error: get(row, at + 5)?,
        last_delivered_at: get(row, at + 6)?,
        server: get(row, at + 7)?,
    })
}

fn circuit_at(row: &dyn Columns, at: usize) -> Read<CircuitState> {
    Ok(CircuitState { open_since: get(row, at)?, failures: number(row, at + 1)? })
}

/// An endpoint that is held, without what was stored before: from
/// `endpoint_columns!` and then `position, open_since, failures, resends`.
pub(crate) fn held(row: &dyn Columns) -> Read<HeldEndpoint> {
    Ok(HeldEndpoint {
        endpoint: endpoint(row)?,
        position: get(row, ENDPOINT_COLUMNS)?,
        stored_before: Default::default(),
        circuit: circuit_at(row, ENDPOINT_COLUMNS + 1)?,
        resends: get(row, ENDPOINT_COLUMNS + 3)?,
    })
}

/// Who holds an endpoint, from [`WEBHOOK_CLAIMABLE`].
pub(crate) fn claimable(row: &dyn Columns) -> Read<Claimable> {
    let holder = get::<Option<String>>(row, 3)?.zip(get(row, 4)?);
    Ok(Claimable {
        id: get(row, 0)?,
        version: get(row, 1)?,
        resends: get(row, 2)?,
        holder: holder.map(|(server, nonce)| Claim { server, nonce }),
        until: get(row, 5)?,
    })
}

/// A device that has deliveries waiting, from `device_key, first, last`.
pub(crate) fn device_queue(row: &dyn Columns) -> Read<StoredDeviceQueue> {
    Ok(StoredDeviceQueue { device: get(row, 0)?, first: get(row, 1)?, until: get(row, 2)? })
}

/// A delivery, from `delivery_columns!`.
pub(crate) fn delivery(row: &dyn Columns) -> Read<Delivery> {
    delivery_at(row, 0)
}

fn delivery_at(row: &dyn Columns, at: usize) -> Read<Delivery> {
    Ok(Delivery {
        number: get(row, at)?,
        device: get(row, at + 1)?,
        device_id: get(row, at + 2)?,
        deadline: get(row, at + 3)?,
        attempts: number(row, at + 4)?,
        next_at: get(row, at + 5)?,
    })
}

/// A delivery that is dead, from `delivery_columns!` and then `last_status, last_error`
/// from a column on.
pub(crate) fn dead_letter_at(row: &dyn Columns, at: usize) -> Read<StoredDelivery> {
    let (delivery, state) = (delivery_at(row, at)?, DeliveryState::Dead);
    Ok(StoredDelivery { delivery, state, status: status_at(row, at + 6)?, error: get(row, at + 7)? })
}

fn status_at(row: &dyn Columns, at: usize) -> Read<Option<u16>> {
    let status = get::<Option<i64>>(row, at)?.map(u16::try_from);
    status.transpose().map_err(|_| Damaged::Value(at, "status"))
}

/// A row of the log, from `log_columns!`.
pub(crate) fn logged(row: &dyn Columns) -> Read<LoggedAttempt> {
    let attempt = AttemptLog {
        number: get(row, 1)?,
        device_id: get(row, 2)?,
        attempt: number(row, 3)?,
        at: get(row, 4)?,
        duration_ms: get(row, 5)?,
        status: status_at(row, 6)?,
        error: get(row, 7)?,
        outcome: Outcome::from_name(get(row, 8)?).ok_or(Damaged::Value(8, "outcome"))?,
    };
    Ok(LoggedAttempt { seq: get(row, 0)?, attempt })
}

/// Headers as JSON: `[["name", "value"], …]`.
pub(crate) fn headers_text(headers: &WebhookHeaders) -> String {
    serde_json::to_string(&headers.0).unwrap_or_default()
}

fn headers_from(text: &str) -> Option<WebhookHeaders> {
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

fn filter_from(text: &str) -> Option<RecordFilter> {
    let (devices, tags, event_types): FilterParts = serde_json::from_str(text).ok()?;
    let devices = devices.into_iter().map(DeviceId).collect();
    Some(RecordFilter { devices, tags, kinds: Vec::new(), event_types, granted: None })
}

/// The state of a delivery as a number.
pub(crate) const fn delivery_state(state: DeliveryState) -> i16 {
    match state {
        DeliveryState::Deferred => 0,
        DeliveryState::Dead => 1,
    }
}
