//! The API over real sockets, on a real engine and a real store.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod browsers;
mod certificates;
mod contract;
mod limits;
mod nodes;
mod people;
mod server;
mod stage;
mod tasks;
mod units;
mod walk;
