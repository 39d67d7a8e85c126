//! Steps on presence, and their place in the batch of a group.

use covey_core::device::{DeviceIdentity, Presence};
use covey_core::id::DeviceKey;
use covey_core::port::TxResult;
use covey_core::presence::{PresenceSteps, PresenceTold};
use tokio_postgres::Statement;

use crate::postgres::pipeline::{Step, Value, execute, query};
use crate::postgres::presence::CachedPresence;
use crate::postgres::session::Session;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows::{self, Columns};

impl PresenceSteps for PostgresTransaction<'_> {
    /// Keeps the instant of the last connect when the device goes. Answers
    /// whether it was news.
    fn presence_put(&mut self, device: DeviceKey, presence: &Presence) -> TxResult<bool> {
        if let Some(known) = self.cache.presences.get_mut(&device)
            && let Some(before) = &known.presence
        {
            if !is_news(before, presence) {
                return Ok(false);
            }
            let connected_at = presence.connected_at.or(before.connected_at);
            known.presence = Some(Presence { connected_at, ..presence.clone() });
            known.has_changed = true;
            self.batch.presences.insert(device);
            return Ok(true);
        }
        let values = vec![
            Box::new(device.0) as _,
            Box::new(presence.online) as _,
            Box::new(presence.connected_at.map(|at| at.0)) as _,
            Box::new(presence.checked_at.0) as _,
            Box::new(rows::details_text(presence)) as _,
            Box::new(presence.session.clone()) as _,
            Box::new(presence.server.clone()) as _,
            Box::new(presence.reason.name()) as _,
        ];
        self.has_written = true;
        let rows =
            self.ask_beside(query(&self.session.client, &self.session.sql.presence.presence_put, values))?;
        let read = |row: &dyn Columns| Ok((rows::get(row, 0)?, rows::told_at(row, 1)?));
        let Some((connected_at, told)) = self.first(&rows, read)? else { return Ok(false) };
        let known = self
            .cache
            .presences
            .entry(device)
            .or_insert_with(|| CachedPresence { told, ..CachedPresence::default() });
        known.presence = Some(Presence { connected_at, ..presence.clone() });
        Ok(true)
    }

    fn presence_told(&mut self, device: DeviceKey) -> TxResult<PresenceTold> {
        if let Some(known) = self.cache.presences.get(&device) {
            return Ok(known.told);
        }
        let (client, sql) = (&self.session.client, &self.session.sql);
        let rows = self.ask_beside(query(client, &sql.presence.presence_told, vec![Box::new(device.0)]))?;
        let Some(told) = self.first(&rows, |row| rows::told_at(row, 0))? else {
            return Ok(PresenceTold::default());
        };
        self.cache.presences.insert(device, CachedPresence { told, ..CachedPresence::default() });
        Ok(told)
    }

    fn presence_told_put(&mut self, device: DeviceKey, told: &PresenceTold) -> TxResult<()> {
        let known = self.cache.presences.entry(device).or_default();
        if known.told != *told {
            (known.told, known.has_told) = (*told, true);
            self.batch.presences.insert(device);
        }
        Ok(())
    }

    fn presences_due_of_every_org(&mut self, limit: u32) -> TxResult<Vec<(DeviceIdentity, Presence)>> {
        let now = Box::new(self.now.0);
        self.read_presences(&self.session.sql.presence.presences_due, now, limit)
    }

    fn presences_of_server_of_every_org(
        &mut self,
        server: &str,
        limit: u32,
    ) -> TxResult<Vec<(DeviceIdentity, Presence)>> {
        let server = Box::new(server.to_owned());
        self.read_presences(&self.session.sql.presence.presences_of_server, server, limit)
    }
}

impl<'s> PostgresTransaction<'s> {
    fn read_presences(
        &mut self,
        statement: &'s Statement,
        value: Value<'s>,
        limit: u32,
    ) -> TxResult<Vec<(DeviceIdentity, Presence)>> {
        let rows =
            self.ask(query(&self.session.client, statement, vec![value, Box::new(i64::from(limit))]))?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = || Ok((rows::identity(row)?, rows::presence_at(row, 4)?, rows::told_at(row, 11)?));
            let (device, presence, told) = self.read(read())?;
            let known =
                CachedPresence { presence: Some(presence.clone()), told, ..CachedPresence::default() };
            // All that was known had been sent before it was read.
            self.cache.presences.insert(device.device, known);
            found.push((device, presence));
        }
        Ok(found)
    }

    /// What was gathered of presences, as statements.
    pub(crate) fn send_presences(&mut self, steps: &mut Vec<Step<'s>>) {
        let (mut changed, mut told) = (Vec::new(), Vec::new());
        for device in std::mem::take(&mut self.batch.presences) {
            let Some(known) = self.cache.presences.get_mut(&device) else { continue };
            if std::mem::take(&mut known.has_changed)
                && let Some(presence) = &known.presence
            {
                changed.push((device, presence.clone()));
            }
            if std::mem::take(&mut known.has_told) {
                told.push((device, known.told));
            }
        }
        let Session { client, sql, .. } = self.session;
        if !changed.is_empty() {
            steps.push(execute(client, &sql.presence.presences_put, presence_values(&changed)));
        }
        if !told.is_empty() {
            steps.push(execute(client, &sql.presence.presence_told_put, told_values(&told)));
        }
    }
}

/// Whether a presence tells something new; the condition of `put_presence`.
fn is_news(before: &Presence, now: &Presence) -> bool {
    let is_same_session = before.session == now.session;
    if now.online { !before.online || !is_same_session } else { before.online && is_same_session }
}

fn presence_values<'v>(all: &[(DeviceKey, Presence)]) -> Vec<Value<'v>> {
    let presences = || all.iter().map(|(_, presence)| presence);
    vec![
        Box::new(all.iter().map(|(device, _)| device.0).collect::<Vec<i64>>()),
        Box::new(presences().map(|presence| presence.online).collect::<Vec<bool>>()),
        Box::new(presences().map(|one| one.connected_at.map(|at| at.0)).collect::<Vec<Option<i64>>>()),
        Box::new(presences().map(|presence| presence.checked_at.0).collect::<Vec<i64>>()),
        Box::new(presences().map(rows::details_text).collect::<Vec<String>>()),
        Box::new(presences().map(|presence| presence.session.clone()).collect::<Vec<String>>()),
        Box::new(presences().map(|presence| presence.server.clone()).collect::<Vec<String>>()),
        Box::new(presences().map(|presence| presence.reason.name()).collect::<Vec<&str>>()),
    ]
}

fn told_values<'v>(all: &[(DeviceKey, PresenceTold)]) -> Vec<Value<'v>> {
    let told = || all.iter().map(|(_, told)| told);
    vec![
        Box::new(all.iter().map(|(device, _)| device.0).collect::<Vec<i64>>()),
        Box::new(told().map(|told| told.online).collect::<Vec<bool>>()),
        Box::new(told().map(|told| i64::from(told.changes)).collect::<Vec<i64>>()),
        Box::new(told().map(|told| told.since.0).collect::<Vec<i64>>()),
        Box::new(told().map(|told| told.due.map(|due| due.0)).collect::<Vec<Option<i64>>>()),
    ]
}
