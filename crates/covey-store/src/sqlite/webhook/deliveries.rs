//! Deliveries and the log of an endpoint, and how many deliveries there are in each state.

use covey_core::id::RecordNumber;
use covey_core::port::TxResult;
use covey_core::webhook::{AttemptLog, DeliveryState, EndpointId, LOG_ROWS_MAX, StoredDelivery};
use rusqlite::params;

use crate::rows;
use crate::sqlite::transaction::SqliteTransaction;

/// By how much the numbers of deliveries have changed.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) deferred: i64,
    pub(super) dead: i64,
}

impl Counts {
    pub(super) fn add(&mut self, state: Option<i16>, change: i64) {
        match state {
            Some(state) if state == rows::delivery_state(DeliveryState::Deferred) => self.deferred += change,
            Some(_) => self.dead += change,
            None => {}
        }
    }
}

impl SqliteTransaction<'_> {
    pub(super) fn delivery_state_of(&self, id: EndpointId, number: RecordNumber) -> TxResult<Option<i16>> {
        let sql = "SELECT state FROM webhook_letters WHERE webhook_id = ?1 AND number = ?2";
        self.row(sql, (id.0, number.0), |row| rows::number(row, 0))
    }

    pub(super) fn remove_delivery(&self, id: EndpointId, number: RecordNumber) -> TxResult<Option<i16>> {
        let sql = "DELETE FROM webhook_letters WHERE webhook_id = ?1 AND number = ?2";
        self.change(sql, (id.0, number.0)).map(|_| None)
    }

    /// Answers the state in which the delivery is stored now.
    pub(super) fn write_delivery(
        &self,
        id: EndpointId,
        kept: &StoredDelivery,
        is_stored: bool,
    ) -> TxResult<Option<i16>> {
        let StoredDelivery { delivery, state, status, error } = kept;
        let state_number = rows::delivery_state(*state);
        let died_at = (*state == DeliveryState::Dead).then_some(self.now.0);
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
        let values = params![
            id.0,
            delivery.number.0,
            state_number,
            delivery.deadline.0,
            delivery.attempts,
            delivery.next_at.0,
            status,
            error,
            died_at,
        ];
        Ok((self.change(sql, values)? > 0).then_some(state_number))
    }

    pub(super) fn write_counts(&self, id: EndpointId, counts: &Counts) -> TxResult<()> {
        if counts.deferred == 0 && counts.dead == 0 {
            return Ok(());
        }
        let sql = "UPDATE webhook_progress SET parked = parked + ?2, dead = dead + ?3 WHERE webhook_id = ?1";
        self.change(sql, (id.0, counts.deferred, counts.dead)).map(drop)
    }

    /// Writes rows of the log after `head`, and removes as many at its end.
    pub(super) fn write_log(&self, id: EndpointId, head: i64, attempts: &[AttemptLog]) -> TxResult<()> {
        if attempts.is_empty() {
            return Ok(());
        }
        let mut last = head;
        for (seq, attempt) in (head + 1..).zip(attempts) {
            last = seq;
            self.change(
                "INSERT INTO webhook_deliveries (webhook_id, seq, number, device_id, attempt, at, duration_ms, \
                 status, error, outcome) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
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
                ],
            )?;
        }
        self.change(rows::WEBHOOK_TRIM_LOG, (id.0, last - LOG_ROWS_MAX)).map(drop)
    }
}
