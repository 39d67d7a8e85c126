//! The stores: what the core's tests ask of every store, on each of them; what only one of them promises;
//! and moving a site from one to the other.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
#[path = "../../../covey-core/tests/all/battery/mod.rs"]
mod battery;
mod child;
mod database;
mod migrate;
#[macro_use]
#[path = "../../../covey-core/tests/all/model/mod.rs"]
mod model;
mod offsets;
mod postgres;
mod sqlite;
#[path = "../../../covey-core/tests/all/world/mod.rs"]
mod world;

mod battery_on {
    battery!(sqlite, crate::world::sqlite::SqliteBackend::new());
    battery!(postgres, crate::database::PostgresBackend::new().with_odd_settings());
}

mod model_on {
    model!(sqlite, crate::world::sqlite::SqliteBackend::new(), 100);
    // Each begins with a database of its own, which takes a while.
    model!(postgres, crate::database::PostgresBackend::new(), 30);
}
