//! The way of a group of jobs into the database: what decides how fast the store is.
//!
//! The writer's thread takes the jobs that wait, reads what they said they would
//! look at in one trip, runs them in memory, and sends everything with the commit
//! in a second trip (`docs/adr/0006-postgresql-in-two-trips.md`).

pub(super) mod cross_group_cache;
pub(super) mod group_statement;
pub(super) mod outbox_batch;
pub(super) mod prefetch;
pub(super) mod transaction;
pub(super) mod transaction_cache;
pub(super) mod write_batch;
pub(super) mod writer;
