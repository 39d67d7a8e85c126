//! Steps on webhooks.

use covey_core::id::{OrgId, RecordNumber, UnixMs};
use covey_core::port::TxResult;
use covey_core::webhook::{
    AttemptLog, Claim, DeliveryState, Endpoint, EndpointId, EndpointSpec, LOG_ROWS_MAX, Progress,
    ProgressSaved, StoredDelivery, WebhookSecret, WebhookSteps, WebhookType,
};
use tokio_postgres::Row;

use crate::postgres::locks::LockClass;
use crate::postgres::pipeline::{Reply, Step, Value, execute, query};
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows::{self, Columns, Read};

impl WebhookSteps for PostgresTransaction<'_> {
    fn webhook(&mut self, org: OrgId, id: EndpointId) -> TxResult<Option<Endpoint>> {
        let values = vec![Box::new(id.0) as _, Box::new(org.0) as _];
        let rows = self.ask(query(&self.session.client, &self.session.sql.webhook.webhook, values))?;
        self.first(&rows, rows::endpoint)
    }

    fn webhook_default(&mut self, org: OrgId, webhook_type: WebhookType) -> TxResult<Option<Endpoint>> {
        let values = vec![Box::new(org.0) as _, Box::new(webhook_type.name()) as _];
        let step = query(&self.session.client, &self.session.sql.webhook.webhook_default, values);
        let rows = self.ask_alone(org, step)?;
        self.first(&rows, rows::endpoint)
    }

    fn webhook_count(&mut self, org: OrgId) -> TxResult<u32> {
        let step =
            query(&self.session.client, &self.session.sql.webhook.webhook_count, vec![Box::new(org.0)]);
        let rows = self.ask_alone(org, step)?;
        let count: i64 = self.only(&rows, |row| rows::get(row, 0))?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn webhook_insert(
        &mut self,
        org: OrgId,
        spec: &EndpointSpec,
        secret: &WebhookSecret,
        is_default: bool,
    ) -> TxResult<EndpointId> {
        let values: Vec<Value<'_>> = vec![
            Box::new(org.0),
            Box::new(spec.webhook_type.name()),
            Box::new(is_default),
            Box::new(spec.url.0.clone()),
            Box::new(rows::headers_text(&spec.headers)),
            Box::new(spec.is_active),
            Box::new(rows::filter_text(&spec.filter)),
            Box::new(spec.format.name()),
            Box::new(concurrency(spec)),
            Box::new(secret.exposed().to_owned()),
            Box::new(self.now.0),
        ];
        let rows = self.write_and_ask(query(
            &self.session.client,
            &self.session.sql.webhook.webhook_insert,
            values,
        ))?;
        self.only(&rows, |row| rows::get(row, 0).map(EndpointId))
    }

    fn webhook_update(&mut self, endpoint: &Endpoint, begins_anew: bool) -> TxResult<()> {
        let spec = &endpoint.spec;
        let old = endpoint.old_secret.as_ref();
        let values: Vec<Value<'_>> = vec![
            Box::new(spec.url.0.clone()),
            Box::new(rows::headers_text(&spec.headers)),
            Box::new(spec.is_active),
            Box::new(rows::filter_text(&spec.filter)),
            Box::new(spec.format.name()),
            Box::new(concurrency(spec)),
            Box::new(endpoint.secret.exposed().to_owned()),
            Box::new(old.map(|(secret, _)| secret.exposed().to_owned())),
            Box::new(old.map(|(_, until)| until.0)),
            Box::new(self.now.0),
            Box::new(endpoint.id.0),
        ];
        self.write(execute(&self.session.client, &self.session.sql.webhook.webhook_update, values))?;
        if begins_anew {
            let values = vec![Box::new(endpoint.id.0) as _];
            self.write(execute(&self.session.client, &self.session.sql.webhook.webhook_begin_anew, values))?;
        }
        Ok(())
    }

    fn webhook_delete(&mut self, org: OrgId, id: EndpointId) -> TxResult<bool> {
        let values = vec![Box::new(self.now.0) as _, Box::new(id.0) as _, Box::new(org.0) as _];
        Ok(self.write(execute(&self.session.client, &self.session.sql.webhook.webhook_delete, values))? > 0)
    }

    fn webhook_claim(&mut self, claim: &Claim, ids: &[EndpointId], until: UnixMs) -> TxResult<()> {
        let values: Vec<Value<'_>> = vec![
            Box::new(ids.iter().map(|id| id.0).collect::<Vec<i64>>()),
            Box::new(claim.server.clone()),
            Box::new(claim.nonce),
            Box::new(until.0),
            Box::new(self.now.0),
        ];
        self.write(execute(&self.session.client, &self.session.sql.webhook.webhook_claim, values)).map(drop)
    }

    fn webhook_release(&mut self, claim: &Claim) -> TxResult<()> {
        let values = vec![Box::new(claim.server.clone()) as _, Box::new(claim.nonce) as _];
        self.write(execute(&self.session.client, &self.session.sql.webhook.webhook_release, values)).map(drop)
    }

    fn webhook_progress(
        &mut self,
        claim: &Claim,
        id: EndpointId,
        until: UnixMs,
        progress: &Progress,
    ) -> TxResult<ProgressSaved> {
        let logged = i64::try_from(progress.attempts.len()).unwrap_or(i64::MAX);
        let values: Vec<Value<'_>> = vec![
            Box::new(id.0),
            Box::new(claim.server.clone()),
            Box::new(claim.nonce),
            Box::new(progress.position.0),
            Box::new(until.0),
            Box::new(progress.circuit.open_since.map(|at| at.0)),
            Box::new(i64::from(progress.circuit.failures)),
            Box::new(progress.last_error.as_deref().map(str::to_owned)),
            Box::new(progress.last_delivered_at.map(|at| at.0)),
            Box::new(logged),
        ];
        let rows = self.write_and_ask(query(
            &self.session.client,
            &self.session.sql.webhook.webhook_progress,
            values,
        ))?;
        let held = self.first(&rows, |row| Ok((rows::get(row, 0)?, rows::get::<i64>(row, 1)?)))?;
        let Some((resends, log_head)) = held else { return Ok(ProgressSaved::Lost) };
        self.write_deliveries(id, progress, log_head - logged)?;
        Ok(ProgressSaved::Saved { resends })
    }

    fn webhook_log(&mut self, id: EndpointId, attempt: &AttemptLog) -> TxResult<()> {
        let (client, sql) = (&self.session.client, &self.session.sql);
        let rows = self.write_and_ask(query(client, &sql.webhook.webhook_next_log, vec![Box::new(id.0)]))?;
        let head = self.first(&rows, |row| rows::get::<i64>(row, 0))?;
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
        let values: Vec<Value<'_>> = vec![
            Box::new(id.0),
            Box::new(deadline.0),
            Box::new(number.map(|number| number.0)),
            Box::new(i64::from(limit)),
        ];
        let rows = self.write_and_ask(query(
            &self.session.client,
            &self.session.sql.webhook.webhook_resend,
            values,
        ))?;
        let count = self.first(&rows, |row| rows::number(row, 0))?;
        Ok(count.unwrap_or(0))
    }

    fn webhook_forget(&mut self, logged: UnixMs, died: UnixMs, limit: u32) -> TxResult<u64> {
        let (client, sql) = (&self.session.client, &self.session.sql);
        let limit = || Box::new(i64::from(limit)) as Value<'_>;
        let steps = vec![
            execute(client, &sql.webhook.webhook_forget_log, vec![Box::new(logged.0), limit()]),
            execute(client, &sql.webhook.webhook_forget_deliveries, vec![limit()]),
            execute(client, &sql.webhook.webhook_forget_logs, vec![limit()]),
            query(client, &sql.webhook.webhook_forget_dead, vec![Box::new(died.0), limit()]),
            query(client, &sql.webhook.webhook_forget_endpoints, vec![limit()]),
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
        let class = LockClass::Webhooks.number();
        let values: Vec<Value<'_>> = vec![Box::new(class), Box::new(org.0)];
        let lock = query(&self.session.client, &self.session.sql.webhook.webhook_lock, values);
        let mut replies = self.trip(vec![lock, step])?;
        Ok(replies.pop().map(Reply::rows).unwrap_or_default())
    }

    /// Writes deliveries and the log, in one trip, and in a second one by how much
    /// the numbers of deliveries have changed.
    fn write_deliveries(&mut self, id: EndpointId, progress: &Progress, log_head: i64) -> TxResult<()> {
        let (client, sql) = (&self.session.client, &self.session.sql);
        let mut steps = Vec::new();
        let numbers: Vec<i64> = progress.deliveries.keys().map(|number| number.0).collect();
        if !numbers.is_empty() {
            let gone = progress.deliveries.iter().filter(|(_, kept)| kept.is_none());
            let gone: Vec<i64> = gone.map(|(number, _)| number.0).collect();
            let kept: Vec<&StoredDelivery> = progress.deliveries.values().flatten().collect();
            let count = || {
                query(
                    client,
                    &sql.webhook.webhook_delivery_counts,
                    vec![Box::new(id.0), Box::new(numbers.clone())],
                )
            };
            steps.push(count());
            steps.push(execute(
                client,
                &sql.webhook.webhook_remove_deliveries,
                vec![Box::new(id.0), Box::new(gone)],
            ));
            steps.push(execute(
                client,
                &sql.webhook.webhook_put_deliveries,
                delivery_values(id, &kept, self.now),
            ));
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
        let values: Vec<Value<'_>> =
            vec![Box::new(id.0), Box::new(after.0 - before.0), Box::new(after.1 - before.1)];
        self.write(execute(client, &sql.webhook.webhook_count_deliveries, values)).map(drop)
    }

    /// Rows of the log after `head`, and the removal of as many at its end.
    fn log_steps(&self, id: EndpointId, head: i64, attempts: &[AttemptLog]) -> Vec<Step<'s>> {
        if attempts.is_empty() {
            return Vec::new();
        }
        let (client, sql) = (&self.session.client, &self.session.sql);
        let last = head.saturating_add(i64::try_from(attempts.len()).unwrap_or(i64::MAX));
        vec![
            execute(client, &sql.webhook.webhook_insert_log, log_values(id, head, attempts)),
            execute(
                client,
                &sql.webhook.webhook_trim_log,
                vec![Box::new(id.0), Box::new(last - LOG_ROWS_MAX)],
            ),
        ]
    }
}

fn delivery_values<'v>(id: EndpointId, kept: &[&StoredDelivery], now: UnixMs) -> Vec<Value<'v>> {
    let numbers = |of: fn(&StoredDelivery) -> i64| -> Value<'v> {
        Box::new(kept.iter().map(|kept| of(kept)).collect::<Vec<i64>>())
    };
    let died = |kept: &&StoredDelivery| (kept.state == DeliveryState::Dead).then_some(now.0);
    let error = |kept: &&StoredDelivery| kept.error.as_deref().map(str::to_owned);
    vec![
        Box::new(id.0),
        numbers(|kept| kept.delivery.number.0),
        Box::new(kept.iter().map(|kept| rows::delivery_state(kept.state)).collect::<Vec<i16>>()),
        numbers(|kept| kept.delivery.deadline.0),
        numbers(|kept| i64::from(kept.delivery.attempts)),
        numbers(|kept| kept.delivery.next_at.0),
        Box::new(kept.iter().map(|kept| kept.status.map(i32::from)).collect::<Vec<Option<i32>>>()),
        Box::new(kept.iter().map(error).collect::<Vec<Option<String>>>()),
        Box::new(kept.iter().map(died).collect::<Vec<Option<i64>>>()),
    ]
}

fn log_values<'v>(id: EndpointId, head: i64, attempts: &[AttemptLog]) -> Vec<Value<'v>> {
    let numbers = |of: fn(&AttemptLog) -> Option<i64>| -> Value<'v> {
        Box::new(attempts.iter().map(of).collect::<Vec<Option<i64>>>())
    };
    let error = |attempt: &AttemptLog| attempt.error.as_deref().map(str::to_owned);
    vec![
        Box::new(id.0),
        Box::new(head),
        numbers(|attempt| attempt.number.map(|number| number.0)),
        numbers(|attempt| attempt.device_id.map(|device| device.0)),
        numbers(|attempt| Some(i64::from(attempt.attempt))),
        numbers(|attempt| Some(attempt.at.0)),
        numbers(|attempt| Some(attempt.duration_ms)),
        Box::new(attempts.iter().map(|attempt| attempt.status.map(i32::from)).collect::<Vec<Option<i32>>>()),
        Box::new(attempts.iter().map(error).collect::<Vec<Option<String>>>()),
        Box::new(attempts.iter().map(|attempt| attempt.outcome.name()).collect::<Vec<&'static str>>()),
    ]
}

fn concurrency(spec: &EndpointSpec) -> i32 {
    i32::try_from(spec.concurrency).unwrap_or(i32::MAX)
}
