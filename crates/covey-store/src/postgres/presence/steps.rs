//! Steps on presence, and their place in the batch of a group.

use crate::postgres::pipeline::{Step, Value, column, values};
use crate::postgres::presence::CachedPresence;
use crate::postgres::write::transaction::{PostgresTransaction, Prepared};
use crate::rows::{self, Columns};
use covey_core::device::{DeviceIdentity, Presence};
use covey_core::id::DeviceKey;
use covey_core::port::TxResult;
use covey_core::presence::{PresenceSteps, PresenceTold};

impl PresenceSteps for PostgresTransaction<'_> {
    /// Keeps the instant of the last connect when the device goes. Answers
    /// whether it was news.
    fn presence_put(&mut self, device: DeviceKey, presence: &Presence) -> TxResult<bool> {
        if let Some(cached) = self.cache.presences.get_mut(&device)
            && let Some(before) = &cached.presence
        {
            if !is_news(before, presence) {
                return Ok(false);
            }
            let connected_at = presence.connected_at.or(before.connected_at);
            cached.presence = Some(Presence { connected_at, ..presence.clone() });
            cached.has_changed = true;
            self.batch.presences.insert(device);
            return Ok(true);
        }
        let values = values![
            device.0,
            presence.online,
            presence.connected_at.map(|at| at.0),
            presence.checked_at.0,
            rows::details_text(presence),
            presence.session.clone(),
            presence.server.clone(),
            presence.reason.name()
        ];
        self.has_written = true;
        let rows = self.ask_beside(self.query(|sql| &sql.presence.presence_put, values))?;
        let read = |row: &dyn Columns| Ok((rows::get(row, 0)?, rows::told_at(row, 1)?));
        let Some((connected_at, told)) = self.first(&rows, read)? else { return Ok(false) };
        let cached = self
            .cache
            .presences
            .entry(device)
            .or_insert_with(|| CachedPresence { told, ..CachedPresence::default() });
        cached.presence = Some(Presence { connected_at, ..presence.clone() });
        Ok(true)
    }

    fn presence_told(&mut self, device: DeviceKey) -> TxResult<PresenceTold> {
        if let Some(cached) = self.cache.presences.get(&device) {
            return Ok(cached.told);
        }
        let rows = self.ask_beside(self.query(|sql| &sql.presence.presence_told, values![device.0]))?;
        let Some(told) = self.first(&rows, |row| rows::told_at(row, 0))? else {
            return Ok(PresenceTold::default());
        };
        self.cache.presences.insert(device, CachedPresence { told, ..CachedPresence::default() });
        Ok(told)
    }

    fn presence_told_put(&mut self, device: DeviceKey, told: &PresenceTold) -> TxResult<()> {
        let cached = self.cache.presences.entry(device).or_default();
        if cached.told != *told {
            (cached.told, cached.has_told) = (*told, true);
            self.batch.presences.insert(device);
        }
        Ok(())
    }

    fn presences_due_of_every_org(&mut self, limit: u32) -> TxResult<Vec<(DeviceIdentity, Presence)>> {
        let now = Box::new(self.now.0);
        self.read_presences(|sql| &sql.presence.presences_due, now, limit)
    }

    fn presences_of_server_of_every_org(
        &mut self,
        server: &str,
        limit: u32,
    ) -> TxResult<Vec<(DeviceIdentity, Presence)>> {
        let server = Box::new(server.to_owned());
        self.read_presences(|sql| &sql.presence.presences_of_server, server, limit)
    }
}

impl<'s> PostgresTransaction<'s> {
    fn read_presences(
        &mut self,
        statement: Prepared,
        value: Value<'s>,
        limit: u32,
    ) -> TxResult<Vec<(DeviceIdentity, Presence)>> {
        let rows = self.ask(self.query(statement, vec![value, Box::new(i64::from(limit))]))?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = || Ok((rows::identity(row)?, rows::presence_at(row, 4)?, rows::told_at(row, 11)?));
            let (device, presence, told) = self.read(read())?;
            let cached =
                CachedPresence { presence: Some(presence.clone()), told, ..CachedPresence::default() };
            // All that was known had been sent before it was read.
            self.cache.presences.insert(device.device, cached);
            found.push((device, presence));
        }
        Ok(found)
    }

    /// What was gathered of presences, as statements.
    pub(crate) fn send_presences(&mut self, steps: &mut Vec<Step<'s>>) {
        let (mut changed, mut told) = (Vec::new(), Vec::new());
        for device in std::mem::take(&mut self.batch.presences) {
            let Some(cached) = self.cache.presences.get_mut(&device) else { continue };
            if std::mem::take(&mut cached.has_changed)
                && let Some(presence) = &cached.presence
            {
                changed.push((device, presence.clone()));
            }
            if std::mem::take(&mut cached.has_told) {
                told.push((device, cached.told));
            }
        }
        if !changed.is_empty() {
            steps.push(self.execute(|sql| &sql.presence.presences_put, presence_values(&changed)));
        }
        if !told.is_empty() {
            steps.push(self.execute(|sql| &sql.presence.presence_told_put, told_values(&told)));
        }
    }
}

/// Whether a presence tells something new; the condition of `put_presence`.
fn is_news(before: &Presence, now: &Presence) -> bool {
    let is_same_session = before.session == now.session;
    if now.online { !before.online || !is_same_session } else { before.online && is_same_session }
}

fn presence_values<'v>(all: &[(DeviceKey, Presence)]) -> Vec<Value<'v>> {
    vec![
        column(all, |(device, _)| device.0),
        column(all, |(_, presence)| presence.online),
        column(all, |(_, presence)| presence.connected_at.map(|at| at.0)),
        column(all, |(_, presence)| presence.checked_at.0),
        column(all, |(_, presence)| rows::details_text(presence)),
        column(all, |(_, presence)| presence.session.clone()),
        column(all, |(_, presence)| presence.server.clone()),
        column(all, |(_, presence)| presence.reason.name()),
    ]
}

fn told_values<'v>(all: &[(DeviceKey, PresenceTold)]) -> Vec<Value<'v>> {
    vec![
        column(all, |(device, _)| device.0),
        column(all, |(_, told)| told.online),
        column(all, |(_, told)| i64::from(told.changes)),
        column(all, |(_, told)| told.since.0),
        column(all, |(_, told)| told.due.map(|due| due.0)),
    ]
}
