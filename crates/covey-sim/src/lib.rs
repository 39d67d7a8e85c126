//! Simulated devices, faults, load and the benchmark of Covey.
//!
//! Everything here is a user of Covey like any other: devices are those of the
//! SDK (`covey-device`) with certificates of their own, applications speak REST
//! (`covey-client`). Nothing of the server's code is used.
//!
//! - [`Fleet`] gets the identities of many devices, [`Simulation`] runs them,
//!   [`Behaviour`] says how they behave, [`behaviour::methods`] what they can do.
//! - [`nodes`] are devices that know nothing of Covey, and speak protocols of the field to its gateways.
//! - [`bench`](mod@bench) measures a server with such devices, and reports.

pub mod behaviour;
pub mod bench;
mod error;
mod fleet;
pub mod nodes;
mod open_files;
mod quantity;
mod seed;

pub use behaviour::{Behaviour, Burst, EventBehaviour, Fate, Latency, OfflinePattern, Sensor};
pub use error::{Error, Result};
pub use fleet::{
    Fleet, FleetOptions, JoinOptions, JoinReport, Member, Simulation, SimulationOptions, Summary,
    discover_broker,
};
pub use open_files::allow_open_files;
pub use quantity::{Rate, WrongQuantity, parse_duration};
