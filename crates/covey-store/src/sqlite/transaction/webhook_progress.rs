//! Steps on webhooks: what was delivered, what waits, and what is forgotten.

use covey_core::id::{RecordNumber, UnixMs};
use covey_core::port::TxResult;
use covey_core::webhook::{
    AttemptLog, Claim, EndpointId, LOG_ROWS_MAX, LetterState, Progress, ProgressSaved, StoredLetter,
};
use rusqlite::{OptionalExtension, params};

use crate::encoding_of_webhooks::letter_state;
use crate::sqlite::transaction::SqliteTransaction;

/// By how much the numbers of letters have changed.
#[derive(Default)]
struct Counts {
    parked: i64,
    dead: i64,
}

impl Counts {
    fn add(&mut self, state: Option<i16>, change: i64) {
        match state {
            Some(state) if state == letter_state(LetterState::Parked) => self.parked += change,
            Some(_) => self.dead += change,
            None => {}
        }
    }
}

impl SqliteTransaction<'_> {
    pub(super) fn write_progress(
        &mut self,
        claim: &Claim,
        id: EndpointId,
        until: UnixMs,
        progress: &Progress,
    ) -> TxResult<ProgressSaved> {
        let logged = i64::try_from(progress.attempts.len()).unwrap_or(i64::MAX);
        let held = self.sql(
            "UPDATE webhook_progress SET position = max(position, ?4), held_until = ?5, open_since = ?6, \
             failures = ?7, last_error = ?8, last_delivered_at = coalesce(?9, last_delivered_at), \
             log_head = log_head + ?10 \
             WHERE webhook_id = ?1 AND holder = ?2 AND holder_nonce = ?3 AND EXISTS \
             (SELECT 1 FROM webhooks w WHERE w.id = ?1 AND w.deleted_at IS NULL) RETURNING resends, log_head",
            |statement| {
                let values = params![
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
                ];
                let row = statement.query_row(values, |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)));
                row.optional()
            },
        )?;
        let Some((resends, log_head)) = held else { return Ok(ProgressSaved::Lost) };
        let mut counts = Counts::default();
        for (number, kept) in &progress.letters {
            let before = self.letter_state_of(id, *number)?;
            let after = match kept {
                Some(kept) => self.write_letter(id, kept, before.is_some())?,
                None => self.remove_letter(id, *number)?,
            };
            counts.add(before, -1);
            counts.add(after, 1);
        }
        self.write_counts(id, &counts)?;
        self.write_log(id, log_head - logged, &progress.attempts)?;
        Ok(ProgressSaved::Saved { resends })
    }

    fn letter_state_of(&self, id: EndpointId, number: RecordNumber) -> TxResult<Option<i16>> {
        self.sql("SELECT state FROM webhook_letters WHERE webhook_id = ?1 AND number = ?2", |statement| {
            statement.query_row((id.0, number.0), |row| row.get(0)).optional()
        })
    }

    fn remove_letter(&self, id: EndpointId, number: RecordNumber) -> TxResult<Option<i16>> {
        self.sql("DELETE FROM webhook_letters WHERE webhook_id = ?1 AND number = ?2", |statement| {
            statement.execute((id.0, number.0)).map(|_| None)
        })
    }

    /// Answers the state in which the letter is stored now.
    fn write_letter(&self, id: EndpointId, kept: &StoredLetter, is_stored: bool) -> TxResult<Option<i16>> {
        let StoredLetter { letter, state, status, error } = kept;
        let state_number = letter_state(*state);
        let died_at = (*state == LetterState::Dead).then_some(self.now.0);
        let sql = if is_stored {
            "UPDATE webhook_letters SET state = ?3, deadline = ?4, attempts = ?5, next_at = ?6, \
             last_status = ?7, last_error = ?8, died_at = ?9 WHERE webhook_id = ?1 AND number = ?2"
        } else {
            "INSERT INTO webhook_letters (webhook_id, number, state, deadline, attempts, next_at, last_status, \
             last_error, died_at, org_id, device_key, device_id, sn, at, kind, task_id, result_id, status, \
             name, version, value) \
             SELECT ?1, number, ?3, ?4, ?5, ?6, ?7, ?8, ?9, org_id, device_key, device_id, sn, at, kind, \
             task_id, result_id, status, name, version, value FROM records WHERE number = ?2"
        };
        self.sql(sql, |statement| {
            let changed = statement.execute(params![
                id.0,
                letter.number.0,
                state_number,
                letter.deadline.0,
                letter.attempts,
                letter.next_at.0,
                status,
                error,
                died_at,
            ])?;
            Ok((changed > 0).then_some(state_number))
        })
    }

    fn write_counts(&self, id: EndpointId, counts: &Counts) -> TxResult<()> {
        if counts.parked == 0 && counts.dead == 0 {
            return Ok(());
        }
        self.sql(
            "UPDATE webhook_progress SET parked = parked + ?2, dead = dead + ?3 WHERE webhook_id = ?1",
            |statement| statement.execute((id.0, counts.parked, counts.dead)).map(drop),
        )
    }

    /// Writes rows of the log after `head`, and removes as many at its end.
    pub(super) fn write_log(&self, id: EndpointId, head: i64, attempts: &[AttemptLog]) -> TxResult<()> {
        if attempts.is_empty() {
            return Ok(());
        }
        let mut last = head;
        for (seq, attempt) in (head + 1..).zip(attempts) {
            last = seq;
            self.sql(
                "INSERT INTO webhook_deliveries (webhook_id, seq, number, device_id, attempt, at, duration_ms, \
                 status, error, outcome) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                |statement| {
                    statement.execute(params![
                        id.0,
                        seq,
                        attempt.number.map(|number| number.0),
                        attempt.device_id.map(|device| device.0),
                        attempt.attempt,
                        attempt.at.0,
                        attempt.duration_ms,
                        attempt.status,
                        attempt.error,
                        attempt.outcome.name(),
                    ])
                },
            )?;
        }
        self.sql("DELETE FROM webhook_deliveries WHERE webhook_id = ?1 AND seq <= ?2", |statement| {
            statement.execute((id.0, last - LOG_ROWS_MAX)).map(drop)
        })
    }

    pub(super) fn write_resend(
        &self,
        id: EndpointId,
        number: Option<RecordNumber>,
        deadline: UnixMs,
        limit: u32,
    ) -> TxResult<u64> {
        let count = self.sql(
            "UPDATE webhook_letters SET state = 0, deadline = ?2, attempts = 0, next_at = 0, died_at = NULL \
             WHERE webhook_id = ?1 AND number IN (SELECT number FROM webhook_letters \
             WHERE webhook_id = ?1 AND state = 1 AND (?3 IS NULL OR number = ?3) ORDER BY number LIMIT ?4)",
            |statement| statement.execute((id.0, deadline.0, number.map(|number| number.0), limit)),
        )?;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        if count > 0 {
            self.write_counts(id, &Counts { parked: count, dead: -count })?;
            self.sql(
                "UPDATE webhook_progress SET resends = resends + 1 WHERE webhook_id = ?1",
                |statement| statement.execute([id.0]).map(drop),
            )?;
        }
        Ok(u64::try_from(count).unwrap_or(0))
    }

    pub(super) fn write_forgetting(&self, logged: UnixMs, died: UnixMs, limit: u32) -> TxResult<u64> {
        let execute = |sql: &str, before: i64| self.sql(sql, |statement| statement.execute((before, limit)));
        let mut count = execute(
            "DELETE FROM webhook_deliveries WHERE (webhook_id, seq) IN \
             (SELECT webhook_id, seq FROM webhook_deliveries WHERE at < ?1 LIMIT ?2)",
            logged.0,
        )?;
        let letters = self.sql(
            "DELETE FROM webhook_letters WHERE (webhook_id, number) IN \
             (SELECT webhook_id, number FROM webhook_letters WHERE state = 1 AND died_at < ?1 LIMIT ?2) \
             RETURNING webhook_id",
            |statement| {
                let rows = statement.query_map((died.0, limit), |row| row.get(0).map(EndpointId))?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            },
        )?;
        count += letters.len();
        for id in letters {
            self.write_counts(id, &Counts { parked: 0, dead: -1 })?;
        }
        let deleted = "SELECT id FROM webhooks WHERE deleted_at IS NOT NULL AND deleted_at >= ?1";
        for (table, key) in [("webhook_letters", "number"), ("webhook_deliveries", "seq")] {
            let sql = format!(
                "DELETE FROM {table} WHERE (webhook_id, {key}) IN \
                 (SELECT webhook_id, {key} FROM {table} WHERE webhook_id IN ({deleted}) LIMIT ?2)"
            );
            count += execute(&sql, 0)?;
        }
        let empty = "NOT EXISTS (SELECT 1 FROM webhook_letters l WHERE l.webhook_id = w.id) AND \
             NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.webhook_id = w.id)";
        let gone = format!(
            "SELECT w.id FROM webhooks w WHERE w.deleted_at IS NOT NULL AND w.deleted_at >= ?1 AND {empty} LIMIT ?2"
        );
        count += execute(&format!("DELETE FROM webhook_progress WHERE webhook_id IN ({gone})"), 0)?;
        let without_progress =
            "NOT EXISTS (SELECT 1 FROM webhook_progress p WHERE p.webhook_id = webhooks.id)";
        count += execute(
            &format!(
                "DELETE FROM webhooks WHERE deleted_at IS NOT NULL AND deleted_at >= ?1 \
                 AND {without_progress} AND id IN (SELECT id FROM webhooks LIMIT ?2)"
            ),
            0,
        )?;
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }
}
