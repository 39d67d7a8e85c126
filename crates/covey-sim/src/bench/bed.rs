//! What every benchmark needs: a server, and devices at work.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use covey_client::Client;
use tokio_util::sync::CancellationToken;

use crate::behaviour::Behaviour;
use crate::error::{Error, Result};
use crate::fleet::{Fleet, FleetOptions, JoinOptions, JoinReport, Simulation, SimulationOptions};
use crate::open_files::allow_open_files;

/// How long a device may take to connect.
const CONNECT_WAIT: Duration = Duration::from_secs(60);

/// The server that is measured, and where the identities of its devices are.
#[derive(Clone, Debug)]
pub struct Bed {
    /// Its REST API.
    pub client: Client,
    /// Where its devices connect, `mqtts://host:port`.
    pub mqtts: String,
    /// Its CA, if known.
    pub ca_pem: Option<String>,
    /// The folder for the identities.
    pub identities: PathBuf,
    /// What the SNs begin with.
    pub prefix: String,
    /// Told when the benchmark is to stop.
    pub stop: CancellationToken,
}

/// Devices that have identities and are not connected.
pub(crate) struct Crew {
    pub(crate) fleet: Fleet,
    pub(crate) simulation: Simulation,
}

impl Bed {
    /// Devices without latency and without faults.
    pub(crate) async fn crew(&self, devices: NonZeroU32, callers: usize) -> Result<Crew> {
        allow_open_files(u64::from(devices.get()) + callers as u64)?;
        let options = FleetOptions {
            count: devices,
            prefix: self.prefix.clone(),
            identities: self.identities.clone(),
            ca_pem: self.ca_pem.clone(),
        };
        let fleet = tokio::select! {
            fleet = Fleet::prepare(&self.client, &options) => fleet?,
            () = self.stop.cancelled() => return Err(Error::Stopped),
        };
        let options =
            SimulationOptions { server: self.mqtts.clone(), behaviour: Behaviour::default(), seed: 0 };
        let simulation = Simulation::new(&fleet.members, options)?;
        Ok(Crew { fleet, simulation })
    }
}

impl Crew {
    /// Connects all devices; it is an error if one does not come.
    pub(crate) async fn connect(
        &self,
        concurrency: usize,
        per_second: Option<f64>,
        stop: &CancellationToken,
    ) -> Result<JoinReport> {
        let options = JoinOptions { concurrency, per_second, wait_max: CONNECT_WAIT };
        let report = self.simulation.join(options, stop).await?;
        match report.missing.first() {
            None => Ok(report),
            Some((sn, why)) => Err(Error::NotConnected {
                missing: report.missing.len(),
                count: self.fleet.members.len(),
                sn: sn.to_string(),
                why: why.clone(),
                waited: CONNECT_WAIT,
            }),
        }
    }
}
