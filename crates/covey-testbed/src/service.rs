//! The services by their names, and starting them.

use anyhow::Result;

use crate::pki::Pki;
use crate::rabbitmq::{self, Size};
use crate::shape::{Link, Shape, Store};
use crate::state::Locked;
use crate::{mosquitto, nginx, postgresql};

/// The name of a deployment when none is given.
pub const DEFAULT_DEPLOYMENT: &str = "default";

/// A service that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Service {
    /// PostgreSQL, with a database for each deployment
    #[value(alias = "postgres")]
    Postgresql,
    /// One node of RabbitMQ 4, with a vhost for each deployment
    Rabbitmq,
    /// Three nodes that make one broker
    RabbitmqCluster,
    /// Mosquitto; each deployment has one of its own
    Mosquitto,
    /// nginx, an empty front door
    Nginx,
}

impl Service {
    /// What is started when no names are given. A cluster of three nodes is
    /// wanted by few, and costs three times the memory.
    pub const USUAL: [Self; 4] = [Self::Postgresql, Self::Rabbitmq, Self::Mosquitto, Self::Nginx];

    /// What all deployments of a shape share.
    pub fn of_shape(shape: Shape) -> Vec<Self> {
        let store = (shape.store == Store::Postgres).then_some(Self::Postgresql);
        let link = match shape.link {
            // A deployment's Mosquitto is started with the deployment.
            Link::Embedded | Link::Mosquitto | Link::MosquittoPlain => None,
            Link::Rabbitmq => Some(Self::Rabbitmq),
            Link::RabbitmqCluster => Some(Self::RabbitmqCluster),
        };
        store.into_iter().chain(link).collect()
    }

    /// Installs what it needs and is missing.
    pub fn install(self) -> Result<()> {
        match self {
            Self::Postgresql => postgresql::install().map(drop),
            Self::Rabbitmq | Self::RabbitmqCluster => rabbitmq::install(),
            Self::Mosquitto => mosquitto::install().map(drop),
            Self::Nginx => nginx::install().map(drop),
        }
    }
}

/// Starts services: first all of them, then waits for each, so that the slow ones start side by side.
pub(crate) fn up(locked: &mut Locked, services: &[Service]) -> Result<()> {
    let tls = Pki::open(&locked.state.dir)?.server()?;
    let has = |service: Service| services.contains(&service);
    let brokers = [(Service::Rabbitmq, Size::Single), (Service::RabbitmqCluster, Size::Cluster)];
    // Whatever is missing is said before anything runs.
    services.iter().try_for_each(|service| service.install())?;
    for (service, size) in brokers {
        if has(service) {
            rabbitmq::begin(locked, size, &tls)?;
        }
    }
    if has(Service::Postgresql) {
        postgresql::begin(locked, &tls)?;
    }
    if has(Service::Nginx) {
        nginx::begin(locked, &tls)?;
        nginx::wait(locked)?;
    }
    if has(Service::Mosquitto) {
        let process = mosquitto::start(locked, DEFAULT_DEPLOYMENT, mosquitto::Rights::Accounts, &tls)?;
        locked.state.deployments.entry(DEFAULT_DEPLOYMENT.to_owned()).or_default().mosquitto = Some(process);
        locked.save()?;
    }
    if has(Service::Postgresql) {
        postgresql::wait(locked)?;
    }
    for (service, size) in brokers {
        if has(service) {
            rabbitmq::wait(locked, size)?;
        }
    }
    Ok(())
}
