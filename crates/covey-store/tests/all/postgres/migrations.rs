//! Several programs, and several versions of them, on one database.

use std::sync::Arc;

use covey_store::StoreError;
use covey_store::postgres::{Options, Postgres};

use crate::database::{PostgresBackend, say};
use crate::world::parts::{Counts, TestClock};

fn open(url: &str, server: &str) -> Result<Postgres, StoreError> {
    let options = Options::new(url, server).unwrap();
    Postgres::open(&options, Arc::new(TestClock::default()), Arc::new(Counts::default()))
}

#[test]
fn servers_that_start_together_migrate_once() {
    let backend = PostgresBackend::empty();
    let url = backend.url();
    let stores: Vec<_> = std::thread::scope(|scope| {
        let opening: Vec<_> = (0..8)
            .map(|number| {
                let url = url.clone();
                scope.spawn(move || open(&url, &format!("server-{number}")).unwrap())
            })
            .collect();
        opening.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(stores.len(), 8);
    // From the second on all need a server that knows of it.
    let versions: Vec<_> =
        (1..=25).map(|version: u32| vec![version.to_string(), version.min(2).to_string()]).collect();
    assert_eq!(say(&url, &["SELECT version, requires FROM covey_schema"]), versions);
    let slots = "SELECT count(*) FROM pg_locks WHERE classid = 1131378181 \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(say(&url, &[slots])[0][0], "8", "each writer has a slot of its own");
}

#[test]
fn a_newer_database_is_used_unless_it_demands_a_newer_program() {
    let backend = PostgresBackend::new();
    let url = backend.url();
    say(&url, &["INSERT INTO covey_schema (version, requires) VALUES (98, 1)"]);
    drop(open(&url, "a").unwrap());
    say(&url, &["INSERT INTO covey_schema (version, requires) VALUES (99, 99)"]);
    let refused = open(&url, "b").err();
    assert!(matches!(refused, Some(StoreError::TooOld { found: 99, requires: 99, .. })), "{refused:?}");
}

#[test]
fn a_database_of_something_else_is_left_alone() {
    let backend = PostgresBackend::empty();
    let url = backend.url();
    say(&url, &["CREATE TABLE theirs (id int)"]);
    let refused = open(&url, "a").err();
    assert!(matches!(refused, Some(StoreError::Unsuitable { .. })), "{refused:?}");
    assert_eq!(say(&url, &["SELECT count(*) FROM pg_class WHERE relname LIKE 'covey%'"])[0][0], "0");
}

#[test]
fn a_database_that_cannot_be_had_is_refused_with_the_reason() {
    let backend = PostgresBackend::new();
    let refusal = |url: &str| {
        let mut options = Options::new(url, "a").unwrap();
        options.open_timeout = std::time::Duration::from_millis(300);
        let opened = Postgres::open(&options, Arc::new(TestClock::default()), Arc::new(Counts::default()));
        opened.err().unwrap().to_string()
    };
    let unknown = refusal(&backend.url().replace("test_", "nothing_"));
    assert!(unknown.contains("nothing_") && unknown.contains("does not exist"), "{unknown}");
    let nobody = refusal("postgres://u:secret@127.0.0.1:1/d");
    assert!(nobody.contains("127.0.0.1:1/d") && !nobody.contains("secret"), "{nobody}");
}
