//! What a role, a database or a server sets for our sessions: it decides nothing,
//! and what stands in the way is told. (The battery runs with odd settings, too.)

use std::sync::Arc;

use covey_core::event::{FieldQuery, SeriesPath, SeriesQuery};
use covey_core::id::UnixMs;
use covey_store::StoreError;
use covey_store::postgres::Postgres;
use futures_executor::block_on;

use super::events::{add, event};
use crate::database::{PostgresBackend, say};
use crate::world::parts::{BEGIN, Counts, TestClock};
use crate::world::{World, result, spec};

#[test]
fn a_database_is_made_and_used_whatever_its_user_has_set() {
    let backend = PostgresBackend::empty().with_odd_settings();
    assert_eq!(
        say(&backend.url(), &["SHOW standard_conforming_strings"]),
        [["off"]],
        "the settings are in force"
    );
    let mut world = World::new(backend);
    let device = world.device(0);
    let task = world.create(spec(&device)).id;
    world.finish(&device, task, result(200, 0, r"back\slash 'quote'")).unwrap();
    add(&world, &device, event(5, 1, r#"{"310":7,"other":"\u0000 \\u0000 \ud83d"}"#));
    world.restart();
    assert_eq!(world.get(task).results.len(), 1);
    let query = FieldQuery::back(device.device_id, 5, "310", 15, 10, world.now()).unwrap();
    let fields = block_on(world.engine().for_caller(world.org(0)).event_fields(query)).unwrap();
    assert_eq!(fields.iter().map(|field| &*field.value).collect::<Vec<_>>(), ["7"]);
    let query = SeriesQuery {
        registration: None,
        device_id: device.device_id,
        type_code: Some(5),
        path: SeriesPath::parse("$.310").unwrap(),
        from: BEGIN,
        until: UnixMs(BEGIN.0 + 60_000),
        width_ms: 60_000,
    };
    let buckets = block_on(world.engine().for_caller(world.org(0)).event_series(query)).unwrap();
    assert_eq!(buckets.iter().map(|bucket| bucket.count).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_user_who_may_only_read_is_refused_with_the_setting_to_change() {
    let backend = PostgresBackend::new();
    backend.set_for_user("default_transaction_read_only", "on");
    let opened =
        Postgres::open(&backend.options, Arc::new(TestClock::default()), Arc::new(Counts::default()));
    let Err(error @ StoreError::Unsuitable { .. }) = opened else { panic!("it may only be read") };
    assert!(error.to_string().contains("default_transaction_read_only is on for this user"), "{error}");
}
