//! Stores for Covey. Each implements [`covey_core::port::Store`] and passes the
//! same battery of tests; none holds a rule of the domain.

mod error;
mod guard;
pub mod migrate;
mod migrations;
pub mod postgres;
mod queue;
mod relief;
mod rows;
pub mod sqlite;
mod write_state;

pub use error::StoreError;
pub use queue::Readers;
