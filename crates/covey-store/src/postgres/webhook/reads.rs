//! The reads of webhooks.

use std::collections::HashMap;

use covey_core::access::Caller;
use covey_core::id::{DeviceKey, RecordNumber, UnixMs};
use covey_core::port::{Found, LIST_BYTES_MAX, ReadKind, Turn};
use covey_core::record::Record;
use covey_core::webhook::{
    AttemptsFrom, Claim, Claimable, DeadLetter, Delivery, Endpoint, EndpointId, EndpointState,
    EndpointTrouble, HeldEndpoint, LoggedAttempt, QueuedDeliveries, StoredDeviceQueue, WebhookReader,
};

use crate::postgres::Postgres;
use crate::postgres::pipeline::values;
use crate::postgres::record::RECORD_COLUMNS;
use crate::postgres::record::reads::record_from;
use crate::rows::{self, Columns, Damaged, Read};

impl WebhookReader for Postgres {
    fn webhook_list(&self, caller: &Caller) -> Found<'_, Vec<(Endpoint, EndpointState)>> {
        let org = caller.org;
        self.rows(
            ReadKind::WebhookList,
            Turn::Org(org),
            |sql| &sql.webhook.webhook_list,
            values![org.0],
            rows::endpoint_and_state,
        )
    }

    fn webhook_attempts(
        &self,
        caller: &Caller,
        id: EndpointId,
        from: AttemptsFrom,
    ) -> Found<'_, Vec<LoggedAttempt>> {
        let org = caller.org;
        let outcome = from.outcome.map(|outcome| outcome.name());
        let values = values![id.0, org.0, from.bound(), outcome, i64::from(from.limit)];
        match from.after {
            Some(_) => self.rows(
                ReadKind::WebhookLog,
                Turn::Org(org),
                |sql| &sql.webhook.webhook_log_after,
                values,
                rows::logged,
            ),
            None => self.rows(
                ReadKind::WebhookLog,
                Turn::Org(org),
                |sql| &sql.webhook.webhook_log_before,
                values,
                rows::logged,
            ),
        }
    }

    fn webhook_dead_letters(
        &self,
        caller: &Caller,
        id: EndpointId,
        from: AttemptsFrom,
    ) -> Found<'_, Vec<DeadLetter>> {
        let org = caller.org;
        let bytes_max = i64::try_from(LIST_BYTES_MAX).unwrap_or(i64::MAX);
        let values = values![id.0, org.0, from.bound(), i64::from(from.limit), bytes_max];
        match from.after {
            Some(_) => self.rows(
                ReadKind::WebhookDead,
                Turn::Org(org),
                |sql| &sql.webhook.webhook_dead_after,
                values,
                dead_letter,
            ),
            None => self.rows(
                ReadKind::WebhookDead,
                Turn::Org(org),
                |sql| &sql.webhook.webhook_dead_before,
                values,
                dead_letter,
            ),
        }
    }

    fn webhook_dead_letter(
        &self,
        caller: &Caller,
        id: EndpointId,
        number: RecordNumber,
    ) -> Found<'_, Option<DeadLetter>> {
        let org = caller.org;
        let values = values![id.0, org.0, number.0];
        self.row(
            ReadKind::WebhookDead,
            Turn::Org(org),
            |sql| &sql.webhook.webhook_dead_one,
            values,
            dead_letter,
        )
    }

    fn webhook_claimable_of_every_org(&self) -> Found<'_, Vec<Claimable>> {
        self.rows(
            ReadKind::WebhookClaimable,
            Turn::Server,
            |sql| &sql.webhook.webhook_claimable,
            Vec::new(),
            rows::claimable,
        )
    }

    fn webhook_held_of_every_org(&self, claim: Claim, ids: Vec<EndpointId>) -> Found<'_, Vec<HeldEndpoint>> {
        let ids: Vec<i64> = ids.into_iter().map(|id| id.0).collect();
        let values = values![ids, claim.server, claim.nonce];
        self.rows(ReadKind::WebhookHeld, Turn::Server, |sql| &sql.webhook.webhook_held, values, held)
    }

    fn webhook_device_queues_of_every_org(&self, id: EndpointId) -> Found<'_, Vec<StoredDeviceQueue>> {
        self.rows(
            ReadKind::WebhookQueue,
            Turn::Server,
            |sql| &sql.webhook.webhook_device_queues,
            values![id.0],
            rows::device_queue,
        )
    }

    fn webhook_queued_deliveries_of_every_org(
        &self,
        id: EndpointId,
        device_queues: Vec<(DeviceKey, RecordNumber)>,
        limit: u32,
    ) -> Found<'_, Vec<QueuedDeliveries>> {
        let devices: Vec<i64> = device_queues.iter().map(|(device, _)| device.0).collect();
        let after: Vec<i64> = device_queues.iter().map(|(_, after)| after.0).collect();
        let values = values![id.0, devices, after, i64::from(limit)];
        let found = self.rows(
            ReadKind::WebhookQueue,
            Turn::Server,
            |sql| &sql.webhook.webhook_queued_deliveries,
            values,
            rows::delivery,
        );
        Box::pin(async move {
            let mut by_device: HashMap<DeviceKey, Vec<Delivery>> = HashMap::new();
            for delivery in found.await? {
                by_device.entry(delivery.device).or_default().push(delivery);
            }
            let of_device_queue = |(device, after)| {
                let deliveries = by_device.remove(&device).unwrap_or_default();
                let is_more = deliveries.len() == limit as usize;
                QueuedDeliveries { device, after, deliveries, is_more }
            };
            Ok(device_queues.into_iter().map(of_device_queue).collect())
        })
    }

    fn webhook_record_of_every_org(&self, id: EndpointId, number: RecordNumber) -> Found<'_, Option<Record>> {
        let values = values![id.0, number.0];
        let found = self.row(
            ReadKind::WebhookRecord,
            Turn::Server,
            |sql| &sql.webhook.webhook_delivery,
            values,
            record_from,
        );
        Box::pin(async move { Ok(found.await?.flatten()) })
    }

    fn webhook_states_of_every_org(&self) -> Found<'_, Vec<(EndpointId, EndpointState)>> {
        self.rows(
            ReadKind::WebhookStates,
            Turn::Server,
            |sql| &sql.webhook.webhook_states,
            Vec::new(),
            rows::id_and_state,
        )
    }

    fn webhook_troubles_of_every_org(&self) -> Found<'_, Vec<EndpointTrouble>> {
        self.rows(
            ReadKind::WebhookStates,
            Turn::Server,
            |sql| &sql.webhook.webhook_troubles,
            Vec::new(),
            rows::trouble,
        )
    }
}

/// An endpoint that is held, with the deliveries that are stored beyond its position.
fn held(row: &dyn Columns) -> Read<HeldEndpoint> {
    let beyond: Vec<i64> = serde_json::from_str(rows::get(row, rows::ENDPOINT_COLUMNS + 4)?)
        .map_err(|_| Damaged::Value(rows::ENDPOINT_COLUMNS + 4, "numbers"))?;
    Ok(HeldEndpoint { stored_before: beyond.into_iter().map(RecordNumber).collect(), ..rows::held(row)? })
}

/// A dead letter with what it tells.
fn dead_letter(row: &dyn Columns) -> Read<DeadLetter> {
    let delivery = rows::dead_letter_at(row, RECORD_COLUMNS)?;
    let died_at = rows::get::<Option<UnixMs>>(row, RECORD_COLUMNS + 8)?.unwrap_or_default();
    Ok(DeadLetter { delivery, died_at, record: record_from(row)? })
}
