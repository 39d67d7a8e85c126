//! What somebody does to the audit log with another program is refused, or found; and each server has a chain of its own.

use crate::battery::audit::{tampered, verify};
use crate::database::{Another, PostgresBackend, say, try_say};
use crate::world::{World, spec};

const UNGUARD: &str = "ALTER TABLE audit DISABLE TRIGGER ALL";

#[test]
fn what_was_changed_removed_or_inserted_by_hand_is_found_at_its_place() {
    tampered(|| {
        let backend = PostgresBackend::new();
        let url = backend.url();
        let say = move |sql: &str| try_say(&url, if sql == "unguard" { UNGUARD } else { sql });
        (World::new(backend), Box::new(say))
    });
}

#[test]
fn no_chain_is_emptied_or_taken_back() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let world = World::new(backend);
    world.device(0);
    for sql in [
        "TRUNCATE audit",
        "TRUNCATE audit_chains",
        "UPDATE audit_chains SET number = number - 1",
        "UPDATE audit_chains SET anchor = number + 1",
        "DELETE FROM audit_chains",
    ] {
        assert!(!try_say(&url, sql), "{sql}");
    }
    assert!(verify(&**world.store(), world.now()).is_ok());
}

#[test]
fn servers_write_beside_each_other_each_into_a_chain_of_its_own() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    let another = Another::new(&url, "server-2");
    let first = World::new(backend);
    let second = World::on_what_is_there(another, 1_000_000);
    let device = first.device(0);
    std::thread::scope(|scope| {
        for world in [&first, &second] {
            let device = &device;
            scope.spawn(move || (0..50).for_each(|_| drop(world.create(spec(device)))));
        }
    });
    let mut rows: Vec<_> =
        verify(&**first.store(), first.now()).unwrap().iter().map(|one| one.rows).collect();
    rows.retain(|rows| *rows > 0);
    assert!(rows.len() == 2 && rows.iter().all(|rows| *rows >= 50), "{rows:?}");
    // Somebody else has gone on with the chain, as two writers of one name would: the group is run again behind it.
    say(&url, &["UPDATE audit_chains SET number = number + 1 WHERE server = 'server-2'"]);
    second.create(spec(&device));
    let flaw = verify(&**first.store(), first.now()).unwrap_err();
    assert!(flaw.to_string().contains("was removed"), "{flaw}");
}
