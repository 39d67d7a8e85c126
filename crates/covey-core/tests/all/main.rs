//! The core as a whole, on the store that needs nothing but a file. `covey-store` runs the battery and
//! the model again on all its stores.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
mod battery;
#[macro_use]
mod model;
mod bounds;
mod peers;
mod world;

mod battery_on {
    battery!(sqlite, crate::world::sqlite::SqliteBackend::new());
}

mod model_on {
    model!(sqlite, crate::world::sqlite::SqliteBackend::new(), 100);
}
