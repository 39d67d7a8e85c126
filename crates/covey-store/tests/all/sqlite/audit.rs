//! What somebody does to the audit log with another program is refused, or found.

use rusqlite::Connection;

use crate::battery::audit::tampered;
use crate::world::World;
use crate::world::sqlite::SqliteBackend;

const UNGUARD: &str =
    "DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete; DROP TRIGGER audit_no_replace";

#[test]
fn what_was_changed_removed_or_inserted_by_hand_is_found_at_its_place() {
    tampered(|| {
        let backend = SqliteBackend::new();
        let path = backend.options.path.clone();
        let say = move |sql: &str| {
            let connection = Connection::open(&path).unwrap();
            connection.execute_batch(if sql == "unguard" { UNGUARD } else { sql }).is_ok()
        };
        (World::new(backend), Box::new(say))
    });
}

#[test]
fn no_row_takes_the_place_of_another() {
    let backend = SqliteBackend::new();
    let path = backend.options.path.clone();
    let world = World::new(backend);
    world.device(0);
    let connection = Connection::open(path).unwrap();
    for sql in [
        "INSERT OR REPLACE INTO audit SELECT number, chain, org_id, at, 'nothing', hash FROM audit WHERE number = 1",
        "UPDATE audit_chains SET number = number - 1",
        "UPDATE audit_chains SET anchor = number + 1",
        "DELETE FROM audit_chains",
    ] {
        let refused = connection.execute_batch(sql).unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{sql}: {refused}");
    }
}
