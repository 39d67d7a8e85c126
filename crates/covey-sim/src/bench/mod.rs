//! The benchmark: real devices over mutual TLS, real callers over REST, and
//! what both and the server say of it.

mod bed;
mod calls;
mod connect;
mod events;
mod latency;
mod load;
mod machine;
mod organisations;
mod own_server;
mod plot;
mod report;
mod server_work;
mod suite;
mod table;

pub use bed::Bed;
pub use calls::{CallsOptions, CallsResult, calls};
pub use connect::{ConnectOptions, ConnectResult, connect};
pub use events::{EventsOptions, EventsResult, StreamsOptions, StreamsResult, Verification, events, streams};
pub use latency::{CurvePoint, LatencySummary};
pub use machine::Machine;
pub use organisations::{OrganisationsOptions, OrganisationsResult, organisations};
pub use own_server::OwnServer;
pub use plot::plot;
pub use report::{Header, Measurement, Report, redacted_command_line};
pub use server_work::{Memory, ServerWork, StepWork};
pub use suite::{Planned, SuiteFolder, SuiteOptions, suite};
