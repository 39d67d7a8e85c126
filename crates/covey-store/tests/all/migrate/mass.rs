//! A site with many tasks, written into its file at once.

use std::path::Path;

use rusqlite::{Connection, params};
use uuid::{Builder, Uuid};

use super::random::Random;
use crate::world::parts::BEGIN;
use crate::world::sqlite::SqliteBackend;
use crate::world::{World, spec};

/// Every so many tasks one is open.
const OPEN_EVERY: u64 = 20;

/// Fills a new file with so many tasks, each final one with a result.
pub fn fill(path: &Path, tasks: u64) {
    let world = World::new(SqliteBackend::at(covey_store::sqlite::Options::new(path)));
    let device = world.device(0);
    world.create(spec(&device));
    drop(world);
    let mut random = Random(tasks);
    let mut connection = Connection::open(path).unwrap();
    let begin = u64::try_from(BEGIN.0).unwrap();
    let transaction = connection.transaction().unwrap();
    let (org, key): (i64, i64) = transaction
        .query_row("SELECT org_id, id FROM devices", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    for number in 0..tasks {
        // Some three years, so that there are many partitions.
        let at = begin + number * (3 * 365 * 86_400_000 / tasks);
        let bits = random.next().to_be_bytes();
        let id: Uuid =
            Builder::from_unix_timestamp_millis(at, &[&bits[..], &bits[..2]].concat().try_into().unwrap())
                .into_uuid();
        let is_open = number % OPEN_EVERY == 0;
        let status = if is_open { 0 } else { 3 };
        let timeline = if is_open {
            format!(r#"[[{at},0,"created"]]"#)
        } else {
            format!(
                r#"[[{at},0,"created"],[{},1,"acknowledged"],[{},2,"taken"],[{},3,"result"]]"#,
                at + 5,
                at + 9,
                at + 70
            )
        };
        let at = i64::try_from(at).unwrap();
        let mut statement = transaction
            .prepare_cached(
                "INSERT INTO tasks (id, org_id, device_key, device_id, sn, ext_task_id, method_code, method, \
                 priority, push_only, created_at, expires_at, status, pending_at, locked_at, lease_until, \
                 deliveries, results, timeline, payload) SELECT ?1, ?2, ?3, device_id, sn, ?4, 20, NULL, 0, 0, ?5, \
                 ?5 + 600000, ?6, ?5 + 5, ?5 + 9, NULL, 1, ?7, ?8, ?9 FROM devices WHERE id = ?3",
            )
            .unwrap();
        let payload = format!(
            r#"{{"dt":[{{"cl":{number}}}],"note":"a payload of some hundred bytes, as they are in use"}}"#
        );
        let seq = statement
            .insert(params![
                id.as_bytes(),
                org,
                key,
                format!("order-{number}"),
                at,
                status,
                i64::from(!is_open),
                timeline,
                payload
            ])
            .unwrap();
        if !is_open {
            let mut statement = transaction
                .prepare_cached(
                    "INSERT INTO results (task_seq, org_id, ext_id, status_code, body_hash, received_at, body_kind, \
                     body) VALUES (?1, ?2, 0, 200, ?3, ?4, 1, ?5)",
                )
                .unwrap();
            let body = format!(r#"{{"cells":[{number}],"state":"open","volts":12.5}}"#);
            statement.insert(params![seq, org, random.next().cast_signed(), at + 70, body]).unwrap();
        }
    }
    let count = "INSERT OR REPLACE INTO task_counts SELECT org_id, status, count(*) FROM tasks GROUP BY 1, 2";
    transaction.execute_batch(count).unwrap();
    transaction.commit().unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}
