//! The domain of Covey: types, rules and operations, over ports.
//!
//! Nothing here knows a runtime, a database, a protocol or a wire format.
//! Time, randomness, storage, the link to devices and the issuing of
//! certificates come in through the traits of [`port`], so that a test can run
//! a day in a millisecond and replay a seed.
//!
//! The way of every request is the same: an entry (HTTP handler, broker hook)
//! calls one method of [`Engine`], the engine submits one [`Operation`] to the
//! store, the store runs it inside a transaction that many operations share,
//! and the answer goes out after the commit.

pub mod access;
pub mod address;
pub mod announcer;
pub mod audit;
pub mod background;
pub mod budget;
pub mod certificate;
pub mod device;
pub mod device_session;
mod engine;
pub mod enrolment;
pub mod error;
pub mod event;
pub mod feed;
pub mod finding;
pub mod health;
pub mod id;
pub mod json;
pub mod limits;
pub mod links;
pub mod microcontroller;
mod named;
pub mod node;
pub mod operation;
pub mod own_limits;
pub mod person;
pub mod port;
pub mod presence;
pub mod quota;
pub mod record;
pub mod retention;
pub mod task;
pub mod token;
pub mod twin;
pub mod unit;
pub mod usage;
pub mod watch;
pub mod webhook;

pub use engine::{Engine, ForCaller, ForDevice, ForServer, Parts};
pub use error::{Error, Result};
pub use operation::Operation;
