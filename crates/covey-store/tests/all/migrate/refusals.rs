//! What is refused, and what becomes of both sides then.

use std::sync::Arc;

use covey_store::StoreError;
use covey_store::migrate::MigrateError;
use covey_store::postgres::Postgres;
use rusqlite::Connection;

use super::moved::{postgres, site};
use super::{check, migrate};
use crate::database::{PostgresBackend, say};
use crate::world::parts::{Counts, TestClock};

fn open(backend: &PostgresBackend) -> Result<Postgres, StoreError> {
    Postgres::open(&backend.options, Arc::new(TestClock::default()), Arc::new(Counts::default()))
}

#[test]
fn text_that_postgresql_cannot_hold_is_named_and_can_be_corrected() {
    let (_folder, path, history, now) = site(21, 200);
    let spoil = |text: &str| {
        let connection = Connection::open(&path).unwrap();
        let id: Vec<u8> = connection
            .query_row("SELECT id FROM tasks ORDER BY id DESC LIMIT 1 OFFSET 3", [], |row| row.get(0))
            .unwrap();
        connection.execute("UPDATE tasks SET ext_task_id = ?2 WHERE id = ?1", (&id, text)).unwrap();
        uuid::Uuid::from_slice(&id).unwrap().to_string()
    };
    let id = spoil("a\0b");
    let backend = PostgresBackend::new();
    let error = migrate(&path, &backend.url()).unwrap_err();
    assert!(
        matches!(&error, MigrateError::BadRow { table: "tasks", key, column, .. } if *key == id && column == "ext_task_id"),
        "{error}"
    );
    let refused = open(&backend).err().unwrap().to_string();
    assert!(refused.contains("covey migrate-store"), "{refused}");
    spoil("ab");
    assert!(migrate(&path, &backend.url()).unwrap().is_resumed);
    let before = super::seen::all(&*super::moved::sqlite(&path), &history, now);
    super::seen::assert_same(&before, &super::seen::all(&*postgres(&backend), &history, now));
}

#[test]
fn a_target_in_use_is_refused_and_left_as_it_is() {
    let (_folder, path, ..) = site(22, 60);
    let (_other_folder, other, ..) = site(23, 60);
    let backend = PostgresBackend::new();
    let server = postgres(&backend);
    assert!(matches!(migrate(&path, &backend.url()), Err(MigrateError::ServersRun { .. })));
    drop(server);
    assert!(matches!(check(&path, &backend.url()), Err(MigrateError::NotMoved { .. })));
    // Nothing of the refused attempt is left: a server may start, and so may a migration.
    drop(open(&backend).unwrap());
    migrate(&path, &backend.url()).unwrap();
    assert!(matches!(migrate(&path, &backend.url()), Err(MigrateError::Finished { .. })));
    assert!(matches!(migrate(&other, &backend.url()), Err(MigrateError::InUse { .. })));
    assert!(matches!(check(&other, &backend.url()), Err(MigrateError::OtherSource { .. })));
    check(&path, &backend.url()).unwrap();
    drop(open(&backend).unwrap());
}

#[test]
fn an_unfinished_migration_takes_no_other_source() {
    let (_folder, path, ..) = site(24, 100);
    let (_other_folder, other, ..) = site(25, 100);
    let backend = PostgresBackend::new();
    let spoil = "UPDATE devices SET sn = 'a' || char(0) WHERE id = 2";
    Connection::open(&path).unwrap().execute_batch(spoil).unwrap();
    assert!(matches!(migrate(&path, &backend.url()), Err(MigrateError::BadRow { table: "devices", .. })));
    assert!(matches!(migrate(&other, &backend.url()), Err(MigrateError::OtherSource { .. })));
    // The same site after a server has run on it is another source, too.
    Connection::open(&path)
        .unwrap()
        .execute_batch("UPDATE devices SET sn = 'a' WHERE id = 2; UPDATE task_counts SET count = count + 1")
        .unwrap();
    assert!(matches!(migrate(&path, &backend.url()), Err(MigrateError::OtherSource { .. })));
}

#[test]
fn a_difference_is_found_and_named() {
    let (_folder, path, ..) = site(26, 300);
    let id: [u8; 16] = Connection::open(&path)
        .unwrap()
        .query_row("SELECT id FROM tasks WHERE status >= 3 ORDER BY id LIMIT 1 OFFSET 2", [], |row| {
            row.get(0)
        })
        .unwrap();
    let id = uuid::Uuid::from_bytes(id).to_string();
    for (change, table, key, problem) in [
        (
            format!("UPDATE tasks_done SET payload = 'x' WHERE id = '{id}'"),
            "tasks",
            &id,
            "its payload is another",
        ),
        (format!("DELETE FROM tasks_done WHERE id = '{id}'"), "tasks", &id, "missing in PostgreSQL"),
        (
            "DELETE FROM device_tags WHERE id = (SELECT max(id) FROM device_tags)".to_owned(),
            "device_tags",
            &id,
            "missing",
        ),
        (
            "INSERT INTO idempotency VALUES (0, 'x', '', gen_random_uuid(), 1)".to_owned(),
            "idempotency",
            &"0 x".to_owned(),
            "in PostgreSQL alone",
        ),
        (
            "INSERT INTO certificates VALUES ('zz', 1, 1, 1, 1)".to_owned(),
            "certificates",
            &"zz 1".to_owned(),
            "in PostgreSQL alone",
        ),
        (
            "UPDATE task_counts SET count = count + 1 WHERE status = 3".to_owned(),
            "task_counts",
            &"1 3".to_owned(),
            "count",
        ),
    ] {
        let backend = PostgresBackend::new();
        migrate(&path, &backend.url()).unwrap();
        say(&backend.url(), &[&change]);
        match check(&path, &backend.url()).unwrap_err() {
            MigrateError::Differs { table: found, key: at, problem: said } => {
                assert_eq!(found, table, "{change}");
                assert!(said.contains(problem), "{change}: {said}");
                if table != "device_tags" {
                    assert_eq!(at, *key, "{change}");
                }
            }
            other => panic!("{change}: {other}"),
        }
    }
    let backend = PostgresBackend::new();
    migrate(&path, &backend.url()).unwrap();
    say(&backend.url(), &["SELECT setval('result_seq', 1)"]);
    assert!(matches!(
        check(&path, &backend.url()),
        Err(MigrateError::Sequence { sequence: "result_seq", .. })
    ));
}

#[test]
fn a_difference_that_arose_on_the_way_keeps_servers_out() {
    let (_folder, path, ..) = site(27, 200);
    let backend = PostgresBackend::new();
    // Found while rows are still being copied, after those of devices.
    let spoil = |text: &str| {
        let sql = format!("UPDATE tasks SET sn = {text} WHERE id = (SELECT max(id) FROM tasks)");
        Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
    };
    let sn: String = Connection::open(&path)
        .unwrap()
        .query_row("SELECT sn FROM tasks WHERE id = (SELECT max(id) FROM tasks)", [], |row| row.get(0))
        .unwrap();
    spoil("'a' || char(0)");
    assert!(migrate(&path, &backend.url()).is_err());
    spoil(&format!("'{sn}'"));
    say(&backend.url(), &["UPDATE devices SET created_at = 1 WHERE id = 1"]);
    let error = migrate(&path, &backend.url()).unwrap_err();
    assert!(matches!(&error, MigrateError::Differs { table: "devices", key, .. } if key == "1"), "{error}");
    assert!(open(&backend).is_err());
}

#[test]
fn a_source_that_is_missing_foreign_or_old_is_refused() {
    let backend = PostgresBackend::new();
    let folder = tempfile::tempdir().unwrap();
    let missing = migrate(&folder.path().join("none.db"), &backend.url()).unwrap_err();
    assert!(missing.to_string().contains("none.db"), "{missing}");
    let (_folder, path, ..) = site(28, 20);
    Connection::open(&path)
        .unwrap()
        .execute_batch("ALTER TABLE connections DROP COLUMN session; PRAGMA user_version = 1")
        .unwrap();
    let old = migrate(&path, &backend.url()).unwrap_err();
    assert!(matches!(old, MigrateError::OldSource { .. }), "{old}");
}
