//! Steps on webhooks: endpoints, who holds them, what was delivered and what is forgotten.

use covey_core::id::{OrgId, RecordNumber, UnixMs};
use covey_core::port::TxResult;
use covey_core::webhook::{
    AttemptLog, Claim, Endpoint, EndpointId, EndpointSpec, Progress, ProgressSaved, WebhookSecret,
    WebhookSteps, WebhookType,
};
use rusqlite::params;

use crate::rows;
use crate::sqlite::transaction::SqliteTransaction;
use crate::sqlite::webhook::deliveries::Counts;

impl WebhookSteps for SqliteTransaction<'_> {
    fn webhook(&mut self, org: OrgId, id: EndpointId) -> TxResult<Option<Endpoint>> {
        let sql = concat!(
            "SELECT ",
            rows::endpoint_columns!(),
            " FROM webhooks w WHERE w.id = ?1 AND w.org_id = ?2 AND w.deleted_at IS NULL"
        );
        self.row(sql, (id.0, org.0), rows::endpoint)
    }

    fn webhook_default(&mut self, org: OrgId, webhook_type: WebhookType) -> TxResult<Option<Endpoint>> {
        let sql = concat!(
            "SELECT ",
            rows::endpoint_columns!(),
            " FROM webhooks w WHERE w.org_id = ?1 AND w.event_type = ?2 AND w.is_default = 1 \
             AND w.deleted_at IS NULL"
        );
        self.row(sql, (org.0, webhook_type.name()), rows::endpoint)
    }

    fn webhook_count(&mut self, org: OrgId) -> TxResult<u32> {
        self.only(rows::WEBHOOK_COUNT, [org.0], |row| rows::number(row, 0))
    }

    fn webhook_insert(
        &mut self,
        org: OrgId,
        spec: &EndpointSpec,
        secret: &WebhookSecret,
        is_default: bool,
    ) -> TxResult<EndpointId> {
        let position = self.last_number()?;
        let id: EndpointId = self.only(
            "INSERT INTO webhooks (org_id, event_type, is_default, version, url, headers, is_active, filter, \
             format, concurrency, device_id_in_path, secret, created_at, updated_at) \
             VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12) RETURNING id",
            params![
                org.0,
                spec.webhook_type.name(),
                is_default,
                spec.url.0,
                rows::headers_text(&spec.headers),
                spec.is_active,
                rows::filter_text(&spec.filter),
                spec.format.name(),
                spec.concurrency,
                spec.device_id_in_path,
                secret.exposed(),
                self.now.0,
            ],
            rows::first,
        )?;
        let sql = "INSERT INTO webhook_progress (webhook_id, position) VALUES (?1, ?2)";
        self.change(sql, (id.0, position.0))?;
        Ok(id)
    }

    fn webhook_update(&mut self, endpoint: &Endpoint, begins_anew: bool) -> TxResult<()> {
        let spec = &endpoint.spec;
        let old = endpoint.old_secret.as_ref();
        self.change(
            rows::WEBHOOK_UPDATE,
            params![
                spec.url.0,
                rows::headers_text(&spec.headers),
                spec.is_active,
                rows::filter_text(&spec.filter),
                spec.format.name(),
                spec.concurrency,
                spec.device_id_in_path,
                endpoint.secret.exposed(),
                old.map(|(secret, _)| secret.exposed()),
                old.map(|(_, until)| until.0),
                self.now.0,
                endpoint.id.0,
            ],
        )?;
        if begins_anew {
            let position = self.last_number()?;
            let sql = "UPDATE webhook_progress SET position = ?2 WHERE webhook_id = ?1";
            self.change(sql, (endpoint.id.0, position.0))?;
        }
        Ok(())
    }

    fn webhook_delete(&mut self, org: OrgId, id: EndpointId) -> TxResult<bool> {
        Ok(self.change(rows::WEBHOOK_DELETE, (self.now.0, id.0, org.0))? > 0)
    }

    fn webhook_claim(&mut self, claim: &Claim, ids: &[EndpointId], until: UnixMs) -> TxResult<()> {
        ids.iter().try_for_each(|id| {
            let claimed = self.change(
                "UPDATE webhook_progress SET holder = ?2, holder_nonce = ?3, held_until = ?4 \
                 WHERE webhook_id = ?1 AND (holder IS NULL OR holder = ?2 OR held_until <= ?5) AND EXISTS \
                 (SELECT 1 FROM webhooks w WHERE w.id = ?1 AND w.is_active = 1 AND w.deleted_at IS NULL)",
                params![id.0, claim.server, claim.nonce, until.0, self.now.0],
            );
            claimed.map(drop)
        })
    }

    fn webhook_release(&mut self, claim: &Claim) -> TxResult<()> {
        self.change(rows::WEBHOOK_RELEASE, (&claim.server, claim.nonce)).map(drop)
    }

    fn webhook_progress(
        &mut self,
        claim: &Claim,
        id: EndpointId,
        until: UnixMs,
        progress: &Progress,
    ) -> TxResult<ProgressSaved> {
        let logged = i64::try_from(progress.attempts.len()).unwrap_or(i64::MAX);
        let held = self.row(
            "UPDATE webhook_progress SET position = max(position, ?4), held_until = ?5, open_since = ?6, \
             failures = ?7, last_error = ?8, last_delivered_at = coalesce(?9, last_delivered_at), \
             log_head = log_head + ?10 \
             WHERE webhook_id = ?1 AND holder = ?2 AND holder_nonce = ?3 AND EXISTS \
             (SELECT 1 FROM webhooks w WHERE w.id = ?1 AND w.deleted_at IS NULL) RETURNING resends, log_head",
            params![
                id.0,
                claim.server,
                claim.nonce,
                progress.position.0,
                until.0,
                progress.circuit.open_since.map(|at| at.0),
                progress.circuit.failures,
                progress.last_error,
                progress.last_delivered_at.map(|at| at.0),
                logged,
            ],
            |row| Ok((rows::get(row, 0)?, rows::get::<i64>(row, 1)?)),
        )?;
        let Some((resends, log_head)) = held else { return Ok(ProgressSaved::Lost) };
        let mut counts = Counts::default();
        for (number, kept) in &progress.deliveries {
            let before = self.delivery_state_of(id, *number)?;
            let after = match kept {
                Some(kept) => self.write_delivery(id, kept, before.is_some())?,
                None => self.remove_delivery(id, *number)?,
            };
            counts.add(before, -1);
            counts.add(after, 1);
        }
        self.write_counts(id, &counts)?;
        self.write_log(id, log_head - logged, &progress.attempts)?;
        Ok(ProgressSaved::Saved { resends })
    }

    fn webhook_log(&mut self, id: EndpointId, attempt: &AttemptLog) -> TxResult<()> {
        match self.row(rows::WEBHOOK_NEXT_LOG, [id.0], rows::first::<i64>)? {
            Some(head) => self.write_log(id, head - 1, std::slice::from_ref(attempt)),
            // It was deleted in the meantime, and its log with it.
            None => Ok(()),
        }
    }

    fn webhook_resend(
        &mut self,
        id: EndpointId,
        number: Option<RecordNumber>,
        deadline: UnixMs,
        limit: u32,
    ) -> TxResult<u64> {
        let count = self.change(
            "UPDATE webhook_letters SET state = 0, deadline = ?2, attempts = 0, next_at = 0, died_at = NULL \
             WHERE webhook_id = ?1 AND number IN (SELECT number FROM webhook_letters \
             WHERE webhook_id = ?1 AND state = 1 AND (?3 IS NULL OR number = ?3) ORDER BY number LIMIT ?4)",
            (id.0, deadline.0, number.map(|number| number.0), limit),
        )?;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        if count > 0 {
            self.write_counts(id, &Counts { deferred: count, dead: -count })?;
            let sql = "UPDATE webhook_progress SET resends = resends + 1 WHERE webhook_id = ?1";
            self.change(sql, [id.0])?;
        }
        Ok(u64::try_from(count).unwrap_or(0))
    }

    fn webhook_forget(&mut self, logged: UnixMs, died: UnixMs, limit: u32) -> TxResult<u64> {
        let forget = |sql: &str, before: i64| self.change(sql, (before, limit));
        let mut count = forget(
            "DELETE FROM webhook_deliveries WHERE (webhook_id, seq) IN \
             (SELECT webhook_id, seq FROM webhook_deliveries WHERE at < ?1 LIMIT ?2)",
            logged.0,
        )?;
        let deliveries: Vec<EndpointId> = self.rows(
            "DELETE FROM webhook_letters WHERE (webhook_id, number) IN \
             (SELECT webhook_id, number FROM webhook_letters WHERE state = 1 AND died_at < ?1 LIMIT ?2) \
             RETURNING webhook_id",
            (died.0, limit),
            rows::first,
        )?;
        count += deliveries.len();
        for id in deliveries {
            self.write_counts(id, &Counts { deferred: 0, dead: -1 })?;
        }
        let deleted = "SELECT id FROM webhooks WHERE deleted_at IS NOT NULL AND deleted_at >= ?1";
        for (table, key) in [("webhook_letters", "number"), ("webhook_deliveries", "seq")] {
            let sql = format!(
                "DELETE FROM {table} WHERE (webhook_id, {key}) IN \
                 (SELECT webhook_id, {key} FROM {table} WHERE webhook_id IN ({deleted}) LIMIT ?2)"
            );
            count += forget(&sql, 0)?;
        }
        let empty = "NOT EXISTS (SELECT 1 FROM webhook_letters l WHERE l.webhook_id = w.id) AND \
             NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.webhook_id = w.id)";
        let gone = format!(
            "SELECT w.id FROM webhooks w WHERE w.deleted_at IS NOT NULL AND w.deleted_at >= ?1 AND {empty} LIMIT ?2"
        );
        count += forget(&format!("DELETE FROM webhook_progress WHERE webhook_id IN ({gone})"), 0)?;
        let without_progress =
            "NOT EXISTS (SELECT 1 FROM webhook_progress p WHERE p.webhook_id = webhooks.id)";
        count += forget(
            &format!(
                "DELETE FROM webhooks WHERE deleted_at IS NOT NULL AND deleted_at >= ?1 \
                 AND {without_progress} AND id IN (SELECT id FROM webhooks LIMIT ?2)"
            ),
            0,
        )?;
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }
}
