//! What is kept, in bytes.

use covey_core::id::{DeviceKey, OrgId, RecordNumber};
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::quota::{
    Counted, DayKept, FirstDays, LeftBehind, OrgDay, PARTS_ALL, QuotaReader, QuotaSteps, Uncounted,
};
use covey_core::retention::RetentionClass;

use crate::postgres::Postgres;
use crate::postgres::pipeline::{Value, column, execute, values};
use crate::postgres::prepared::prepared;
use crate::postgres::session::Session;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows::{self, Columns};

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Adds to what devices have stored: devices, classes, days, bytes, the writer's slot.
        device_kept_add: "INSERT INTO device_kept_bytes AS k (device_key, kept, day, slot, bytes) \
             SELECT n.device_key, n.kept, n.day, $5, sum(n.bytes)::int8 \
             FROM unnest($1::int8[], $2::int2[], $3::int8[], $4::int8[]) AS n (device_key, kept, day, bytes) \
             GROUP BY n.device_key, n.kept, n.day \
             ON CONFLICT (device_key, kept, day, slot) DO UPDATE SET bytes = k.bytes + excluded.bytes";
        /// The same of organisations.
        org_kept_add: "INSERT INTO org_kept_bytes AS k (org_id, kept, day, slot, bytes) \
             SELECT n.org_id, n.kept, n.day, $5, sum(n.bytes)::int8 \
             FROM unnest($1::int8[], $2::int2[], $3::int8[], $4::int8[]) AS n (org_id, kept, day, bytes) \
             GROUP BY n.org_id, n.kept, n.day \
             ON CONFLICT (org_id, kept, day, slot) DO UPDATE SET bytes = k.bytes + excluded.bytes";
        /// Marks the place of the transaction among the records of a writer: it, the offset of numbers, how many records
        /// the transaction has, all parts.
        kept_mark: "UPDATE kept_counted SET counted = CASE WHEN parts = $4::int2 THEN marked ELSE counted END, \
             marked = ((pg_current_xact_id()::text::int8 + $2::int8) << 16) + $3::int8 - 1, parts = 0 \
             WHERE writer = $1";
        /// Notes which parts of a writer are stored: it, those before, those now.
        kept_advance: "UPDATE kept_counted SET parts = $3 WHERE writer = $1 AND parts = $2";
        /// How far it was counted what a writer has stored.
        kept_counted: "SELECT counted, marked, parts FROM kept_counted WHERE writer = $1 FOR UPDATE SKIP LOCKED";
        /// What a writer has stored: it, after which record, until which, how many are looked at.
        kept_uncounted: concat!("SELECT ", rows::uncounted_columns!(), " FROM (SELECT r.number, r.org_id, \
             r.device_key, r.at, r.task_id, r.result_id, r.value, r.dev_timestamp, r.name, r.status, \
             CASE WHEN r.writer = $1 THEN r.kind ELSE 0 END AS kind FROM records r \
             WHERE r.number > $2 AND r.number <= $3 ORDER BY r.number LIMIT $4) AS r \
             LEFT JOIN LATERAL (SELECT o.payload FROM tasks_open o WHERE o.id = r.task_id UNION ALL \
             SELECT d.payload FROM tasks_done d WHERE d.id = r.task_id LIMIT 1) AS t \
             ON r.kind = 1 AND r.name = 'created' \
             LEFT JOIN LATERAL (SELECT x.body FROM results x WHERE x.task_id = r.task_id AND x.id = r.result_id LIMIT 1) \
             AS x ON r.kind = 2 \
             LEFT JOIN LATERAL (SELECT e.payload FROM events e WHERE e.dev_timestamp = r.dev_timestamp \
             AND e.org_id = r.org_id AND e.id = r.number LIMIT 1) AS e ON r.kind = 3 ORDER BY r.number");
        /// Notes how far it is counted: a writer, up to which record, up to which of some parts, how many those are.
        kept_counted_put: "UPDATE kept_counted SET counted = $2, marked = $3, parts = $4 WHERE writer = $1";
        /// All is counted that a writer has stored.
        kept_counted_remove: "DELETE FROM kept_counted WHERE writer = $1";
        /// Forgets a day of devices: what, which, of which organisations, how many.
        device_kept_forget: "DELETE FROM device_kept_bytes WHERE ctid = ANY (ARRAY( \
             SELECT k.ctid FROM device_kept_bytes k JOIN devices d ON d.id = k.device_key \
             WHERE k.kept = $1 AND k.day = $2 AND d.org_id = ANY ($3::int8[]) LIMIT $4 FOR UPDATE OF k SKIP LOCKED))";
        /// The same of these organisations themselves: what, which, whose.
        org_kept_forget: "DELETE FROM org_kept_bytes WHERE ctid = ANY (ARRAY( \
             SELECT ctid FROM org_kept_bytes WHERE kept = $1 AND day = $2 AND org_id = ANY ($3::int8[]) \
             FOR UPDATE SKIP LOCKED))";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// What devices have stored: devices, and of each class the first day. What one writer takes back may be what
        /// another has counted, so no day is less than nothing, and a writer's part of it may be.
        kept_of_devices: "SELECT coalesce((SELECT sum(greatest(s.bytes, 0)) FROM ( \
             SELECT sum(k.bytes) AS bytes FROM device_kept_bytes k WHERE k.device_key = n.device_key \
             AND k.day >= CASE k.kept WHEN 0 THEN n.tasks WHEN 1 THEN n.events ELSE n.twins END \
             GROUP BY k.kept, k.day) AS s), 0)::int8 \
             FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[]) WITH ORDINALITY \
             AS n (device_key, tasks, events, twins, place) ORDER BY n.place";
        /// What organisations have stored.
        kept_of_orgs: rows::KEPT_OF_ORGS;
        /// Writers that have ended, beside this one: it, its server's name. One of this server's name has ended when its
        /// lock is free; another may have lost its connection for a while, until its mark is forgotten.
        kept_left: "SELECT k.writer FROM kept_counted k LEFT JOIN writers w ON w.id = k.writer WHERE k.writer <> $1 \
             AND (w.id IS NULL OR (w.server = $2 AND NOT EXISTS (SELECT 1 FROM pg_locks l \
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 1131378180::oid \
             AND l.objid::int8 = k.writer \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))))";
    }
}

impl QuotaReader for Postgres {
    fn kept_of_devices_of_every_org(&self, wanted: Vec<(DeviceKey, FirstDays)>) -> Found<'_, Vec<i64>> {
        let first = |place: usize| move |(_, first): &(DeviceKey, FirstDays)| first.of_devices()[place];
        let values = vec![
            column(&wanted, |(device, _)| device.0),
            column(&wanted, first(0)),
            column(&wanted, first(1)),
            column(&wanted, first(2)),
        ];
        self.rows(
            ReadKind::KeptOfDevices,
            Turn::Server,
            |sql| &sql.quota.kept_of_devices,
            values,
            rows::first,
        )
    }

    fn kept_of_orgs_of_every_org(&self) -> Found<'_, Vec<OrgDay>> {
        self.rows(
            ReadKind::KeptOfOrgs,
            Turn::Server,
            |sql| &sql.quota.kept_of_orgs,
            Vec::new(),
            rows::org_day,
        )
    }

    fn kept_left_of_every_org(&self) -> Found<'_, Vec<LeftBehind>> {
        let values = values![self.exchange.writer(), self.connector.options().server.clone()];
        let left = |row: &dyn Columns| {
            Ok(LeftBehind { writer: rows::number(row, 0)?, until: RecordNumber(i64::MAX) })
        };
        self.rows(ReadKind::KeptOfOrgs, Turn::Server, |sql| &sql.quota.kept_left, values, left)
    }
}

impl QuotaSteps for PostgresTransaction<'_> {
    fn kept_add(
        &mut self,
        of_devices: &[(DeviceKey, DayKept)],
        of_orgs: &[(OrgId, DayKept)],
    ) -> TxResult<()> {
        let session = self.session;
        let mut steps = Vec::new();
        if !of_devices.is_empty() {
            let values = kept_values(of_devices, |device| device.0, session);
            steps.push(execute(&session.client, &session.sql.quota.device_kept_add, values));
        }
        if !of_orgs.is_empty() {
            let values = kept_values(of_orgs, |org| org.0, session);
            steps.push(execute(&session.client, &session.sql.quota.org_kept_add, values));
        }
        if steps.is_empty() {
            return Ok(());
        }
        self.has_written = true;
        self.trip(steps).map(drop)
    }

    fn kept_mark(&mut self) -> TxResult<()> {
        let Session { writer, record_offset, .. } = self.session;
        let before = i64::from(self.batch.outbox.records_so_far());
        let values = values![writer.number(), *record_offset, before, i16::from(PARTS_ALL)];
        self.write(|sql| &sql.quota.kept_mark, values).map(drop)
    }

    fn kept_advance(&mut self, from: u8, to: u8) -> TxResult<bool> {
        let values = values![self.session.writer.number(), i16::from(from), i16::from(to)];
        Ok(self.write(|sql| &sql.quota.kept_advance, values)? > 0)
    }

    fn kept_counted(&mut self, left: LeftBehind) -> TxResult<Option<Counted>> {
        self.ask_first(|sql| &sql.quota.kept_counted, values![left.writer], rows::counted)
    }

    fn kept_uncounted(
        &mut self,
        left: LeftBehind,
        after: RecordNumber,
        limit: u32,
    ) -> TxResult<Vec<Uncounted>> {
        let values = values![left.writer, after.0, left.until.0, i64::from(limit)];
        let found = self.ask(self.query(|sql| &sql.quota.kept_uncounted, values))?;
        self.read(rows::each(&found, rows::uncounted))
    }

    fn kept_counted_put(&mut self, left: LeftBehind, counted: Option<Counted>) -> TxResult<()> {
        match counted {
            Some(Counted { counted, marked, parts }) => {
                let values = values![left.writer, counted.0, marked.0, i16::from(parts)];
                self.write(|sql| &sql.quota.kept_counted_put, values)
            }
            None => self.write(|sql| &sql.quota.kept_counted_remove, values![left.writer]),
        }
        .map(drop)
    }

    fn kept_leave(&mut self) -> TxResult<()> {
        self.write(|sql| &sql.quota.kept_counted_remove, values![self.session.writer.number()]).map(drop)
    }

    fn kept_forget_of_every_org(
        &mut self,
        class: RetentionClass,
        day: i64,
        orgs: &[OrgId],
        limit: u32,
    ) -> TxResult<u64> {
        let number = i16::from(class.number());
        let orgs = || orgs.iter().map(|org| org.0).collect::<Vec<_>>();
        let of_devices = values![number, day, orgs(), i64::from(limit)];
        let gone = self.write(|sql| &sql.quota.device_kept_forget, of_devices)?;
        if gone < u64::from(limit) {
            self.write(|sql| &sql.quota.org_kept_forget, values![number, day, orgs()])?;
        }
        Ok(gone)
    }
}

fn kept_values<'v, W: Copy>(
    rows: &[(W, DayKept)],
    number: fn(W) -> i64,
    session: &Session,
) -> Vec<Value<'v>> {
    vec![
        column(rows, |(of, _)| number(*of)),
        column(rows, |(_, kept)| i16::from(kept.class.number())),
        column(rows, |(_, kept)| kept.day),
        column(rows, |(_, kept)| kept.bytes),
        Box::new(session.slot),
    ]
}
