//! A fleet of simulated devices: getting their identities, and running them.

mod device;
mod identities;
mod register;
mod simulation;
mod telling;

pub use register::{Fleet, FleetOptions, Member, discover_broker};
pub use simulation::{JoinOptions, JoinReport, Simulation, SimulationOptions, Summary};
