//! Steps on webhooks.

use covey_core::id::{OrgId, RecordNumber, UnixMs};
use covey_core::port::TxResult;
use covey_core::webhook::{
    AttemptLog, Claim, DeliveryState, Endpoint, EndpointId, EndpointSpec, LOG_ROWS_MAX, Progress,
    ProgressSaved, StoredDelivery, WebhookSecret, WebhookSteps, WebhookType,
};
use tokio_postgres::Row;

use crate::postgres::locks::LockClass;
use crate::postgres::pipeline::{Reply, Step, Value, column, values};
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows::{self, Columns, Read};

impl WebhookSteps for PostgresTransaction<'_> {
    fn webhook(&mut self, org: OrgId, id: EndpointId) -> TxResult<Option<Endpoint>> {
        self.ask_first(|sql| &sql.webhook.webhook, values![id.0, org.0], rows::endpoint)
    }

    fn webhook_default(&mut self, org: OrgId, webhook_type: WebhookType) -> TxResult<Option<Endpoint>> {
        let step = self.query(|sql| &sql.webhook.webhook_default, values![org.0, webhook_type.name()]);
        let rows = self.ask_alone(org, step)?;
        self.first(&rows, rows::endpoint)
    }

    fn webhook_count(&mut self, org: OrgId) -> TxResult<u32> {
        let rows = self.ask_alone(org, self.query(|sql| &sql.webhook.webhook_count, values![org.0]))?;
        let count: i64 = self.only(&rows, rows::first)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn webhook_insert(
        &mut self,
        org: OrgId,
        spec: &EndpointSpec,
        secret: &WebhookSecret,
        is_default: bool,
    ) -> TxResult<EndpointId> {
        let values = values![
            org.0,
            spec.webhook_type.name(),
            is_default,
            spec.url.0.clone(),
            rows::headers_text(&spec.headers),
            spec.is_active,
            rows::filter_text(&spec.filter),
            spec.format.name(),
            concurrency(spec),
            spec.device_id_in_path,
            secret.exposed().to_owned(),
            self.now.0
        ];
        self.write_only(|sql| &sql.webhook.webhook_insert, values, |row| rows::get(row, 0).map(EndpointId))
    }

    fn webhook_update(&mut self, endpoint: &Endpoint, begins_anew: bool) -> TxResult<()> {
        let spec = &endpoint.spec;
        let old = endpoint.old_secret.as_ref();
        let values = values![
            spec.url.0.clone(),
            rows::headers_text(&spec.headers),
            spec.is_active,
            rows::filter_text(&spec.filter),
            spec.format.name(),
            concurrency(spec),
            spec.device_id_in_path,
            endpoint.secret.exposed().to_owned(),
            old.map(|(secret, _)| secret.exposed().to_owned()),
            old.map(|(_, until)| until.0),
            self.now.0,
            endpoint.id.0
        ];
        self.write(|sql| &sql.webhook.webhook_update, values)?;
        if begins_anew {
            self.write(|sql| &sql.webhook.webhook_begin_anew, values![endpoint.id.0])?;
        }
        Ok(())
    }

    fn webhook_delete(&mut self, org: OrgId, id: EndpointId) -> TxResult<bool> {
        Ok(self.write(|sql| &sql.webhook.webhook_delete, values![self.now.0, id.0, org.0])? > 0)
    }

    fn webhook_claim(&mut self, claim: &Claim, ids: &[EndpointId], until: UnixMs) -> TxResult<()> {
        let values = values![
            ids.iter().map(|id| id.0).collect::<Vec<i64>>(),
            claim.server.clone(),
            claim.nonce,
            until.0,
            self.now.0
        ];
        self.write(|sql| &sql.webhook.webhook_claim, values).map(drop)
    }

    fn webhook_release(&mut self, claim: &Claim) -> TxResult<()> {
        let values = values![claim.server.clone(), claim.nonce];
        self.write(|sql| &sql.webhook.webhook_release, values).map(drop)
    }

    fn webhook_progress(
        &mut self,
        claim: &Claim,
        id: EndpointId,
        until: UnixMs,
        progress: &Progress,
    ) -> TxResult<ProgressSaved> {
        let logged = i64::try_from(progress.attempts.len()).unwrap_or(i64::MAX);
        let values = values![
            id.0,
            claim.server.clone(),
            claim.nonce,
            progress.position.0,
            until.0,
            progress.circuit.open_since.map(|at| at.0),
            i64::from(progress.circuit.failures),
            progress.last_error.as_deref().map(str::to_owned),
            progress.last_delivered_at.map(|at| at.0),
            logged
        ];
        let read = |row: &dyn Columns| Ok((rows::get(row, 0)?, rows::get::<i64>(row, 1)?));
        let held = self.write_first(|sql| &sql.webhook.webhook_progress, values, read)?;
        let Some((resends, log_head)) = held else { return Ok(ProgressSaved::Lost) };
        self.write_deliveries(id, progress, log_head - logged)?;
        Ok(ProgressSaved::Saved { resends })
    }

    fn webhook_log(&mut self, id: EndpointId, attempt: &AttemptLog) -> TxResult<()> {
        let head =
            self.write_first(|sql| &sql.webhook.webhook_next_log, values![id.0], rows::first::<i64>)?;
        // It may have been deleted in the meantime, and its log with it.
        let Some(head) = head else { return Ok(()) };
        let steps = self.log_steps(id, head - 1, std::slice::from_ref(attempt));
        self.trip(steps).map(drop)
    }

    fn webhook_resend(
        &mut self,
        id: EndpointId,
        number: Option<RecordNumber>,
        deadline: UnixMs,
        limit: u32,
    ) -> TxResult<u64> {
        let values = values![id.0, deadline.0, number.map(|number| number.0), i64::from(limit)];
        let count =
            self.write_first(|sql| &sql.webhook.webhook_resend, values, |row| rows::number(row, 0))?;
        Ok(count.unwrap_or(0))
    }

    fn webhook_forget(&mut self, logged: UnixMs, died: UnixMs, limit: u32) -> TxResult<u64> {
        let limit = i64::from(limit);
        let steps = vec![
            self.execute(|sql| &sql.webhook.webhook_forget_log, values![logged.0, limit]),
            self.execute(|sql| &sql.webhook.webhook_forget_deliveries, values![limit]),
            self.execute(|sql| &sql.webhook.webhook_forget_logs, values![limit]),
            self.query(|sql| &sql.webhook.webhook_forget_dead, values![died.0, limit]),
            self.query(|sql| &sql.webhook.webhook_forget_endpoints, values![limit]),
        ];
        self.has_written = true;
        let mut count = 0_u64;
        for reply in self.trip(steps)? {
            count += reply.changed();
            let rows = reply.rows();
            count += self.first(&rows, |row| rows::number::<u64>(row, 0))?.unwrap_or(0);
        }
        Ok(count)
    }
}

impl<'s> PostgresTransaction<'s> {
    /// Asks after all others who are changing which endpoints an organisation has.
    fn ask_alone(&mut self, org: OrgId, step: Step<'s>) -> TxResult<Vec<Row>> {
        let values = values![LockClass::Webhooks.number(), org.0];
        self.ask_last(vec![self.query(|sql| &sql.webhook.webhook_lock, values), step])
    }

    /// Writes deliveries and the log, in one trip, and in a second one by how much
    /// the numbers of deliveries have changed.
    fn write_deliveries(&mut self, id: EndpointId, progress: &Progress, log_head: i64) -> TxResult<()> {
        let mut steps = Vec::new();
        let numbers: Vec<i64> = progress.deliveries.keys().map(|number| number.0).collect();
        if !numbers.is_empty() {
            let gone = progress.deliveries.iter().filter(|(_, kept)| kept.is_none());
            let gone: Vec<i64> = gone.map(|(number, _)| number.0).collect();
            let kept: Vec<&StoredDelivery> = progress.deliveries.values().flatten().collect();
            let kept = delivery_values(id, &kept, self.now);
            let count =
                || self.query(|sql| &sql.webhook.webhook_delivery_counts, values![id.0, numbers.clone()]);
            steps.push(count());
            steps.push(self.execute(|sql| &sql.webhook.webhook_remove_deliveries, values![id.0, gone]));
            steps.push(self.execute(|sql| &sql.webhook.webhook_put_deliveries, kept));
            steps.push(count());
        }
        let delivery_steps = steps.len();
        steps.extend(self.log_steps(id, log_head, &progress.attempts));
        if steps.is_empty() {
            return Ok(());
        }
        let mut replies = self.trip(steps)?;
        replies.truncate(delivery_steps);
        if replies.is_empty() {
            return Ok(());
        }
        let after = replies.pop().map(Reply::rows).unwrap_or_default();
        let before = replies.into_iter().next().map(Reply::rows).unwrap_or_default();
        let counts = |row: &dyn Columns| -> Read<(i64, i64)> { Ok((rows::get(row, 0)?, rows::get(row, 1)?)) };
        let (before, after) = (self.only(&before, counts)?, self.only(&after, counts)?);
        if before == after {
            return Ok(());
        }
        let values = values![id.0, after.0 - before.0, after.1 - before.1];
        self.write(|sql| &sql.webhook.webhook_count_deliveries, values).map(drop)
    }

    /// Rows of the log after `head`, and the removal of as many at its end.
    fn log_steps(&self, id: EndpointId, head: i64, attempts: &[AttemptLog]) -> Vec<Step<'s>> {
        if attempts.is_empty() {
            return Vec::new();
        }
        let last = head.saturating_add(i64::try_from(attempts.len()).unwrap_or(i64::MAX));
        vec![
            self.execute(|sql| &sql.webhook.webhook_insert_log, log_values(id, head, attempts)),
            self.execute(|sql| &sql.webhook.webhook_trim_log, values![id.0, last - LOG_ROWS_MAX]),
        ]
    }
}

fn delivery_values<'v>(id: EndpointId, kept: &[&StoredDelivery], now: UnixMs) -> Vec<Value<'v>> {
    vec![
        Box::new(id.0),
        column(kept, |kept| kept.delivery.number.0),
        column(kept, |kept| rows::delivery_state(kept.state)),
        column(kept, |kept| kept.delivery.deadline.0),
        column(kept, |kept| i64::from(kept.delivery.attempts)),
        column(kept, |kept| kept.delivery.next_at.0),
        column(kept, |kept| kept.status.map(i32::from)),
        column(kept, |kept| kept.error.as_deref().map(str::to_owned)),
        column(kept, |kept| (kept.state == DeliveryState::Dead).then_some(now.0)),
    ]
}

fn log_values<'v>(id: EndpointId, head: i64, attempts: &[AttemptLog]) -> Vec<Value<'v>> {
    vec![
        Box::new(id.0),
        Box::new(head),
        column(attempts, |attempt| attempt.number.map(|number| number.0)),
        column(attempts, |attempt| attempt.device_id.map(|device| device.0)),
        column(attempts, |attempt| i64::from(attempt.attempt)),
        column(attempts, |attempt| attempt.at.0),
        column(attempts, |attempt| attempt.duration_ms),
        column(attempts, |attempt| attempt.status.map(i32::from)),
        column(attempts, |attempt| attempt.error.as_deref().map(str::to_owned)),
        column(attempts, |attempt| attempt.outcome.name()),
    ]
}

fn concurrency(spec: &EndpointSpec) -> i32 {
    i32::try_from(spec.concurrency).unwrap_or(i32::MAX)
}
