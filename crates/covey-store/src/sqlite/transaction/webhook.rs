//! Steps on webhooks: endpoints, and who holds them.

use covey_core::id::{OrgId, RecordNumber, UnixMs};
use covey_core::port::TxResult;
use covey_core::webhook::{
    AttemptLog, Claim, Endpoint, EndpointId, EndpointSpec, Progress, ProgressSaved, WebhookSecret,
    WebhookSteps, WebhookType,
};
use rusqlite::{OptionalExtension, params};

use crate::encoding_of_webhooks as encoding;
use crate::sqlite::rows_of_webhooks as rows;
use crate::sqlite::transaction::SqliteTransaction;

impl WebhookSteps for SqliteTransaction<'_> {
    fn webhook(&mut self, org: OrgId, id: EndpointId) -> TxResult<Option<Endpoint>> {
        let columns = rows::ENDPOINT_COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM webhooks w WHERE w.id = ?1 AND w.org_id = ?2 AND w.deleted_at IS NULL"
        );
        self.sql(&sql, |statement| statement.query_row((id.0, org.0), rows::endpoint).optional())
    }

    fn webhook_default(&mut self, org: OrgId, webhook_type: WebhookType) -> TxResult<Option<Endpoint>> {
        let columns = rows::ENDPOINT_COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM webhooks w WHERE w.org_id = ?1 AND w.event_type = ?2 AND w.is_default = 1 \
             AND w.deleted_at IS NULL"
        );
        self.sql(&sql, |statement| {
            statement.query_row((org.0, webhook_type.name()), rows::endpoint).optional()
        })
    }

    fn webhook_count(&mut self, org: OrgId) -> TxResult<u32> {
        self.sql("SELECT count(*) FROM webhooks WHERE org_id = ?1 AND deleted_at IS NULL", |statement| {
            statement.query_row([org.0], |row| row.get(0))
        })
    }

    fn webhook_insert(
        &mut self,
        org: OrgId,
        spec: &EndpointSpec,
        secret: &WebhookSecret,
        is_default: bool,
    ) -> TxResult<EndpointId> {
        let position = self.last_number()?;
        let id = self.sql(
            "INSERT INTO webhooks (org_id, event_type, is_default, version, url, headers, is_active, filter, \
             format, concurrency, secret, created_at, updated_at) \
             VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11) RETURNING id",
            |statement| {
                let values = params![
                    org.0,
                    spec.webhook_type.name(),
                    is_default,
                    spec.url.0,
                    encoding::headers_text(&spec.headers),
                    spec.is_active,
                    encoding::filter_text(&spec.filter),
                    spec.format.name(),
                    spec.concurrency,
                    secret.exposed(),
                    self.now.0,
                ];
                statement.query_row(values, |row| row.get(0).map(EndpointId))
            },
        )?;
        self.sql("INSERT INTO webhook_progress (webhook_id, position) VALUES (?1, ?2)", |statement| {
            statement.execute((id.0, position.0)).map(drop)
        })?;
        Ok(id)
    }

    fn webhook_update(&mut self, endpoint: &Endpoint, begins_anew: bool) -> TxResult<()> {
        let spec = &endpoint.spec;
        self.sql(
            "UPDATE webhooks SET version = version + 1, url = ?2, headers = ?3, is_active = ?4, filter = ?5, \
             format = ?6, concurrency = ?7, secret = ?8, old_secret = ?9, old_secret_until = ?10, \
             updated_at = ?11 WHERE id = ?1",
            |statement| {
                let old = endpoint.old_secret.as_ref();
                statement.execute(params![
                    endpoint.id.0,
                    spec.url.0,
                    encoding::headers_text(&spec.headers),
                    spec.is_active,
                    encoding::filter_text(&spec.filter),
                    spec.format.name(),
                    spec.concurrency,
                    endpoint.secret.exposed(),
                    old.map(|(secret, _)| secret.exposed()),
                    old.map(|(_, until)| until.0),
                    self.now.0,
                ])
            },
        )?;
        if begins_anew {
            let position = self.last_number()?;
            self.sql("UPDATE webhook_progress SET position = ?2 WHERE webhook_id = ?1", |statement| {
                statement.execute((endpoint.id.0, position.0)).map(drop)
            })?;
        }
        Ok(())
    }

    fn webhook_delete(&mut self, org: OrgId, id: EndpointId) -> TxResult<bool> {
        self.sql(
            "UPDATE webhooks SET deleted_at = ?3, secret = '', old_secret = NULL, headers = '[]' \
             WHERE id = ?1 AND org_id = ?2 AND deleted_at IS NULL",
            |statement| Ok(statement.execute((id.0, org.0, self.now.0))? > 0),
        )
    }

    fn webhook_claim(&mut self, claim: &Claim, ids: &[EndpointId], until: UnixMs) -> TxResult<()> {
        ids.iter().try_for_each(|id| {
            self.sql(
                "UPDATE webhook_progress SET holder = ?2, holder_nonce = ?3, held_until = ?4 \
                 WHERE webhook_id = ?1 AND (holder IS NULL OR holder = ?2 OR held_until <= ?5) AND EXISTS \
                 (SELECT 1 FROM webhooks w WHERE w.id = ?1 AND w.is_active = 1 AND w.deleted_at IS NULL)",
                |statement| {
                    let values = params![id.0, claim.server, claim.nonce, until.0, self.now.0];
                    statement.execute(values).map(drop)
                },
            )
        })
    }

    fn webhook_release(&mut self, claim: &Claim) -> TxResult<()> {
        self.sql(
            "UPDATE webhook_progress SET holder = NULL, holder_nonce = NULL, held_until = 0 \
             WHERE holder = ?1 AND holder_nonce = ?2",
            |statement| statement.execute((&claim.server, claim.nonce)).map(drop),
        )
    }

    fn webhook_progress(
        &mut self,
        claim: &Claim,
        id: EndpointId,
        until: UnixMs,
        progress: &Progress,
    ) -> TxResult<ProgressSaved> {
        self.write_progress(claim, id, until, progress)
    }

    fn webhook_log(&mut self, id: EndpointId, attempt: &AttemptLog) -> TxResult<()> {
        let head = self.sql(
            "UPDATE webhook_progress SET log_head = log_head + 1 WHERE webhook_id = ?1 RETURNING log_head",
            |statement| statement.query_row([id.0], |row| row.get::<_, i64>(0)).optional(),
        )?;
        match head {
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
        self.write_resend(id, number, deadline, limit)
    }

    fn webhook_forget(&mut self, logged: UnixMs, died: UnixMs, limit: u32) -> TxResult<u64> {
        self.write_forgetting(logged, died, limit)
    }
}
