//! The coming and going of devices. A presence that was looked at is held, so what
//! comes of it is decided in memory and sent with the group.

use covey_core::device::{DeviceIdentity, Presence};
use covey_core::error::Result;
use covey_core::id::{DeviceKey, UnixMs};
use covey_core::port::{BoxFuture, TxResult};
use covey_core::presence::{PresenceReader, PresenceSteps, PresenceTold};
use tokio_postgres::Statement;

use crate::postgres::Postgres;
use crate::postgres::pipeline::{Step, Value, execute, query};
use crate::postgres::reader::Values;
use crate::postgres::session::Session;
use crate::postgres::statements::prepared;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows::{self, Columns};

/// Devices with their connections and what was told of these, held until the commit.
macro_rules! presences {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.org_id, d.device_id, d.sn, c.online, c.connected_at, c.checked_at, c.details, \
             c.session, c.server, c.reason, c.told_online, c.told_changes, c.told_since, c.told_due \
             FROM connections c JOIN devices d ON d.id = c.device_key WHERE ",
            $rest
        )
    };
}

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Sets a presence if it is news; divides by zero if the news before it would
        /// have a later number ([`crate::postgres::write::group_statement`]). Answers when the device last
        /// connected, and what was told of it.
        presence_put: "INSERT INTO connections AS c (device_key, org_id, online, connected_at, checked_at, \
             details, session, server, reason) SELECT id, org_id, $2::bool, $3::int8, $4::int8, $5::text, $6::text, \
             $7::text, $8::text FROM devices WHERE id = $1 \
             ON CONFLICT (device_key) DO UPDATE SET online = excluded.online, checked_at = excluded.checked_at, \
             details = excluded.details, connected_at = coalesce(excluded.connected_at, c.connected_at), \
             session = excluded.session, server = excluded.server, reason = excluded.reason \
             WHERE CASE WHEN excluded.online THEN NOT c.online OR c.session <> excluded.session \
             ELSE c.online AND c.session = excluded.session END AND 1 / (age(c.xmin) >= 0)::int4 = 1 \
             RETURNING c.connected_at, c.told_online, c.told_changes, c.told_since, c.told_due";
        /// What was told of a device, with the same care.
        presence_told: "SELECT c.told_online, c.told_changes, c.told_since, c.told_due \
             FROM connections c WHERE c.device_key = $1 AND 1 / (age(c.xmin) >= 0)::int4 = 1 FOR UPDATE";
        /// Presences of devices that are held: keys, and a value of each column.
        presences_put: "UPDATE connections c SET online = n.online, connected_at = n.connected_at, \
             checked_at = n.checked_at, details = n.details, session = n.session, server = n.server, \
             reason = n.reason FROM unnest($1::int8[], $2::bool[], $3::int8[], $4::int8[], $5::text[], $6::text[], \
             $7::text[], $8::text[]) AS n (device_key, online, connected_at, checked_at, details, session, \
             server, reason) WHERE c.device_key = n.device_key";
        /// What is told of devices that are held: keys, and a value of each column.
        presence_told_put: "UPDATE connections c SET told_online = n.told_online, told_changes = n.told_changes, \
             told_since = n.told_since, told_due = n.told_due \
             FROM unnest($1::int8[], $2::bool[], $3::int8[], $4::int8[], $5::int8[]) \
             AS n (device_key, told_online, told_changes, told_since, told_due) WHERE c.device_key = n.device_key";
        /// Devices of which something is to be told, as far as nobody else is at them:
        /// now, limit. What changed in a transaction of a later number is left for the
        /// next time, so that it comes first in the outbox.
        presences_due: presences!("c.told_due <= $1 AND age(c.xmin) >= 0 ORDER BY c.told_due LIMIT $2 \
             FOR UPDATE OF c SKIP LOCKED");
        /// Devices that a server holds: the server, limit. Waits for those that others
        /// are at: one that was left out would seem to be connected for ever.
        presences_of_server: presences!("c.online AND c.server = $1 AND 1 / (age(c.xmin) >= 0)::int4 = 1 \
             LIMIT $2 FOR UPDATE OF c");
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// Devices that are connected: after, limit.
        presence_online: "SELECT d.id, d.org_id, d.device_id, d.sn, c.session FROM connections c \
             JOIN devices d ON d.id = c.device_key WHERE c.online AND c.device_key > $1 \
             ORDER BY c.device_key LIMIT $2";
        /// Whether something is to be told of any device: now.
        presence_due: "SELECT EXISTS (SELECT 1 FROM connections c WHERE c.told_due <= $1)";
    }
}

impl PresenceReader for Postgres {
    fn presence_online_of_every_org(
        &self,
        after: DeviceKey,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(DeviceIdentity, String)>>> {
        let values: Values = vec![Box::new(after.0), Box::new(i64::from(limit))];
        self.rows(|sql| &sql.presence.presence_online, values, rows::online)
    }

    fn presence_due_of_every_org(&self, now: UnixMs) -> BoxFuture<'_, Result<bool>> {
        let found = self.row(|sql| &sql.presence.presence_due, vec![Box::new(now.0)], rows::first);
        Box::pin(async move { Ok(found.await?.unwrap_or(false)) })
    }
}

/// What is known of a device that is held.
#[derive(Default)]
pub(crate) struct CachedPresence {
    /// Its presence, if that was looked at.
    presence: Option<Presence>,
    told: PresenceTold,
    /// Whether the presence is to be sent.
    has_changed: bool,
    /// Whether what was told is to be sent.
    has_told: bool,
}

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
