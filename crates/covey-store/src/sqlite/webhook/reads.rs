//! The reads of webhooks.

use covey_core::access::Caller;
use covey_core::error::Result;
use covey_core::id::{DeviceKey, RecordNumber, UnixMs};
use covey_core::port::{Filling, Found, ReadKind, Turn};
use covey_core::record::Record;
use covey_core::webhook::{
    AttemptsFrom, Claim, Claimable, DeadLetter, Endpoint, EndpointId, EndpointState, EndpointTrouble,
    HeldEndpoint, LoggedAttempt, QueuedDeliveries, StoredDeviceQueue, WebhookReader,
};
use rusqlite::Connection;

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::record::record_of_delivery;
use crate::sqlite::statement::Ask;

/// Which endpoints a caller may see.
const OF_ORG: &str =
    "EXISTS (SELECT 1 FROM webhooks w WHERE w.id = ?1 AND w.org_id = ?2 AND w.deleted_at IS NULL)";

impl WebhookReader for Sqlite {
    fn webhook_list(&self, caller: &Caller) -> Found<'_, Vec<(Endpoint, EndpointState)>> {
        let org = caller.org;
        let kind = ReadKind::WebhookList;
        self.rows(kind, Turn::Org(org), rows::WEBHOOK_LIST, [org.0], rows::endpoint_and_state)
    }

    fn webhook_attempts(
        &self,
        caller: &Caller,
        id: EndpointId,
        from: AttemptsFrom,
    ) -> Found<'_, Vec<LoggedAttempt>> {
        let org = caller.org;
        self.read(ReadKind::WebhookLog, Turn::Org(org), move |connection| {
            let (range, order) = range("seq", &from);
            let sql = format!(
                "SELECT {} FROM webhook_deliveries WHERE webhook_id = ?1 AND {OF_ORG} AND {range} \
                 AND (?4 IS NULL OR outcome = ?4) ORDER BY seq {order} LIMIT ?5",
                rows::log_columns!()
            );
            let outcome = from.outcome.map(|outcome| outcome.name());
            connection.rows(&sql, (id.0, org.0, from.bound(), outcome, from.limit), rows::logged)
        })
    }

    fn webhook_dead_letters(
        &self,
        caller: &Caller,
        id: EndpointId,
        from: AttemptsFrom,
    ) -> Found<'_, Vec<DeadLetter>> {
        let org = caller.org;
        self.read(ReadKind::WebhookDead, Turn::Org(org), move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let (range, order) = range("number", &from);
            let sql = format!(
                "SELECT number FROM webhook_letters WHERE webhook_id = ?1 AND {OF_ORG} AND state = 1 \
                 AND {range} ORDER BY number {order} LIMIT ?4"
            );
            let numbers = snapshot.rows(&sql, (id.0, org.0, from.bound(), from.limit), rows::first)?;
            let mut filling = Filling::default();
            for number in numbers {
                let Some(dead) = dead_letter(&snapshot, id, number)? else { continue };
                let bytes = dead.record.as_ref().map_or(0, Record::bytes);
                if !filling.add(dead, bytes) {
                    break;
                }
            }
            Ok(filling.done().items)
        })
    }

    fn webhook_dead_letter(
        &self,
        caller: &Caller,
        id: EndpointId,
        number: RecordNumber,
    ) -> Found<'_, Option<DeadLetter>> {
        let org = caller.org;
        self.read(ReadKind::WebhookDead, Turn::Org(org), move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let is_theirs = snapshot.only(&format!("SELECT {OF_ORG}"), (id.0, org.0), rows::first)?;
            if is_theirs { dead_letter(&snapshot, id, number) } else { Ok(None) }
        })
    }

    fn webhook_claimable_of_every_org(&self) -> Found<'_, Vec<Claimable>> {
        self.rows(ReadKind::WebhookClaimable, Turn::Server, rows::WEBHOOK_CLAIMABLE, [], rows::claimable)
    }

    fn webhook_held_of_every_org(&self, claim: Claim, ids: Vec<EndpointId>) -> Found<'_, Vec<HeldEndpoint>> {
        self.read(ReadKind::WebhookHeld, Turn::Server, move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let held = ids.into_iter().map(|id| held(&snapshot, &claim, id));
            held.filter_map(Result::transpose).collect()
        })
    }

    fn webhook_device_queues_of_every_org(&self, id: EndpointId) -> Found<'_, Vec<StoredDeviceQueue>> {
        self.rows(
            ReadKind::WebhookQueue,
            Turn::Server,
            "SELECT device_key, min(number), max(number) FROM webhook_letters \
             INDEXED BY webhook_letters_lanes WHERE webhook_id = ?1 AND state = 0 GROUP BY device_key",
            [id.0],
            rows::device_queue,
        )
    }

    fn webhook_queued_deliveries_of_every_org(
        &self,
        id: EndpointId,
        device_queues: Vec<(DeviceKey, RecordNumber)>,
        limit: u32,
    ) -> Found<'_, Vec<QueuedDeliveries>> {
        self.read(ReadKind::WebhookQueue, Turn::Server, move |connection| {
            let snapshot = connection.unchecked_transaction()?;
            let sql = format!(
                "SELECT {} FROM webhook_letters l INDEXED BY webhook_letters_lanes WHERE webhook_id = ?1 \
                 AND device_key = ?2 AND number > ?3 AND state = 0 ORDER BY number LIMIT ?4",
                rows::delivery_columns!()
            );
            let mut found = Vec::with_capacity(device_queues.len());
            for (device, after) in device_queues {
                let deliveries = snapshot.rows(&sql, (id.0, device.0, after.0, limit), rows::delivery)?;
                let is_more = deliveries.len() == limit as usize;
                found.push(QueuedDeliveries { device, after, deliveries, is_more });
            }
            Ok(found)
        })
    }

    fn webhook_record_of_every_org(&self, id: EndpointId, number: RecordNumber) -> Found<'_, Option<Record>> {
        self.read(ReadKind::WebhookRecord, Turn::Server, move |connection| {
            record_of_delivery(&*connection.unchecked_transaction()?, id, number)
        })
    }

    fn webhook_states_of_every_org(&self) -> Found<'_, Vec<(EndpointId, EndpointState)>> {
        self.rows(ReadKind::WebhookStates, Turn::Server, rows::WEBHOOK_STATES, [], rows::id_and_state)
    }

    fn webhook_troubles_of_every_org(&self) -> Found<'_, Vec<EndpointTrouble>> {
        self.rows(ReadKind::WebhookStates, Turn::Server, rows::WEBHOOK_TROUBLES, [], rows::trouble)
    }
}

/// The condition and the order of a page; its bound is the third parameter.
fn range(column: &str, from: &AttemptsFrom) -> (String, &'static str) {
    match from.after {
        Some(_) => (format!("{column} > ?3"), "ASC"),
        None => (format!("{column} < ?3"), "DESC"),
    }
}

fn held(connection: &Connection, claim: &Claim, id: EndpointId) -> rusqlite::Result<Option<HeldEndpoint>> {
    let sql = concat!(
        "SELECT ",
        rows::endpoint_columns!(),
        ", p.position, p.open_since, p.failures, p.resends \
         FROM webhooks w JOIN webhook_progress p ON p.webhook_id = w.id \
         WHERE w.id = ?1 AND w.is_active = 1 AND w.deleted_at IS NULL AND p.holder = ?2 AND p.holder_nonce = ?3"
    );
    let found = connection.row(sql, (id.0, &claim.server, claim.nonce), rows::held)?;
    let Some(mut found) = found else { return Ok(None) };
    let sql = "SELECT number FROM webhook_letters WHERE webhook_id = ?1 AND number > ?2";
    let numbers = connection.rows(sql, (id.0, found.position.0), rows::first)?;
    found.stored_before = numbers.into_iter().collect();
    Ok(Some(found))
}

fn dead_letter(
    connection: &Connection,
    id: EndpointId,
    number: RecordNumber,
) -> rusqlite::Result<Option<DeadLetter>> {
    let sql = concat!(
        "SELECT ",
        rows::delivery_columns!(),
        ", l.last_status, l.last_error, l.died_at FROM webhook_letters l \
         WHERE l.webhook_id = ?1 AND l.number = ?2 AND l.state = 1"
    );
    let found = connection.row(sql, (id.0, number.0), |row| {
        let died_at = rows::get::<Option<UnixMs>>(row, 8)?.unwrap_or_default();
        Ok(DeadLetter { delivery: rows::dead_letter_at(row, 0)?, died_at, record: None })
    });
    let Some(mut delivery) = found? else { return Ok(None) };
    delivery.record = record_of_delivery(connection, id, number)?;
    Ok(Some(delivery))
}
