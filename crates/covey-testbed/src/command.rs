//! The command line of `covey-testbed`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use serde_json::json;

use crate::process::ProcessId;
use crate::service::{DEFAULT_DEPLOYMENT, Service};
use crate::shape::Shape;
use crate::state::Locked;
use crate::testbed::Testbed;
use crate::{deployment, package, report, workspace};

/// A deployment's name goes into names of databases, which have 63 bytes at most.
const DEPLOYMENT_NAME_BYTES_MAX: usize = 40;

/// Runs PostgreSQL, RabbitMQ 4, Mosquitto and nginx on free ports of loopback, for tests and for trying things out.
#[derive(Debug, Parser)]
#[command(
    name = "covey-testbed",
    after_help = "Try a distributed shape:\n  \
        eval \"$(cargo xtask services env --shape postgres+rabbitmq)\"\n  \
        covey up --data ./covey-data\n  \
        cargo xtask services down --purge\n\n\
        Tests need none of this: they start what they need, and end it. A set of services is a folder; \
        several run side by side. Its file services.json tells everything, passwords too."
)]
pub struct Arguments {
    /// The folder of the set of services [default: target/services]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The set that the tests of this work tree share
    #[arg(long, global = true, conflicts_with = "dir")]
    shared: bool,
    /// End the services, and remove their data, when this process has ended and no other uses them; without it
    /// they run until `down`
    #[arg(long = "while", global = true, value_name = "PID")]
    user: Option<u32>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start services, installing what is missing; all but the cluster when no name is given
    #[command(after_help = "Example: cargo xtask services up postgresql rabbitmq")]
    Up { services: Vec<Service> },
    /// End all services
    #[command(after_help = "Example: cargo xtask services down --purge")]
    Down {
        /// Remove their data too
        #[arg(long)]
        purge: bool,
    },
    /// Say what runs, and on which ports
    Status {
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Start what a shape needs, make a deployment in it, and print its environment for `covey up`
    #[command(after_help = "Example: eval \"$(cargo xtask services env --shape postgres+rabbitmq)\"\n\n\
        A deployment has a database, a vhost of RabbitMQ or a Mosquitto of its own. \
        The JSON tells more: all nodes of a cluster, and certificates for brokers, servers and a proxy.")]
    Env {
        /// STORE+LINK. Stores: sqlite postgres; links: embedded rabbitmq rabbitmq-cluster mosquitto mosquitto-plain
        #[arg(long, value_name = "SHAPE")]
        shape: Shape,
        /// The deployment's name, made when it is new
        #[arg(long = "for", value_name = "NAME", default_value = DEFAULT_DEPLOYMENT, value_parser = deployment_name)]
        deployment: String,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a deployment's data everywhere
    Drop {
        #[arg(value_name = "NAME")]
        deployment: String,
    },
    /// End a process of `status` at once, as a power cut would (SIGKILL)
    Kill { process: String },
    /// End a process in good order
    Stop { process: String },
    /// Start a process again on its data and ports, and wait until it serves
    Start { process: String },
    /// Install what services and the conformance suite need: with apt-get where we are root on Debian or Ubuntu,
    /// else say what is missing
    Install,
}

impl Arguments {
    /// Does what they say.
    ///
    /// # Errors
    /// What is missing on this machine, or which service did not start, with the end of its log.
    pub fn run(self) -> Result<()> {
        let user = match self.user {
            Some(pid) => Some(ProcessId::of(pid).with_context(|| format!("there is no process {pid}"))?),
            None => None,
        };
        if let Action::Install = self.action {
            [Service::Postgresql, Service::Rabbitmq, Service::Mosquitto, Service::Nginx]
                .into_iter()
                .try_for_each(Service::install)?;
            return package::install_for_conformance();
        }
        let testbed = self.testbed(user)?;
        match self.action {
            Action::Up { services } => {
                testbed.up(if services.is_empty() { &Service::USUAL } else { &services })?;
                print!("{}", report::table(&testbed.open_existing()?.state));
                Ok(())
            }
            Action::Down { purge } => testbed.down(purge),
            Action::Status { json } => status(&testbed, json),
            Action::Env { shape, deployment, json } => {
                let environment = deployment::make(testbed.dir(), &deployment, shape, user)?;
                if json {
                    println!("{:#}", environment.json(deployment::certificates(&testbed.open()?.state.dir)?));
                } else {
                    print!("{}", environment.shell());
                }
                Ok(())
            }
            Action::Drop { deployment } => {
                testbed.open_existing()?;
                deployment::remove(testbed.dir(), &deployment)
            }
            Action::Kill { process } => testbed.kill(&process),
            Action::Stop { process } => testbed.stop(&process),
            Action::Start { process } => testbed.start(&process),
            Action::Install => Ok(()),
        }
    }

    /// The set that they speak of, which those that start something use from now on.
    fn testbed(&self, user: Option<ProcessId>) -> Result<Testbed> {
        let starts = matches!(self.action, Action::Up { .. } | Action::Env { .. });
        if self.shared {
            return match user {
                Some(user) if starts => Testbed::shared_by(user),
                None if starts => bail!("--shared needs --while PID: the set ends with those who use it"),
                _ => Ok(Testbed::at(&Testbed::shared_dir())),
            };
        }
        let testbed = Testbed::at(&self.dir.clone().unwrap_or_else(|| workspace().join("target/services")));
        if starts {
            let mut locked = testbed.open()?;
            match user {
                Some(user) => locked.use_by(user)?,
                None => locked.keep()?,
            }
        }
        Ok(testbed)
    }
}

fn status(testbed: &Testbed, json: bool) -> Result<()> {
    match (Locked::open_existing(testbed.dir())?, json) {
        (Some(locked), false) => print!("{}", report::table(&locked.state)),
        (Some(locked), true) => println!("{:#}", report::json(&locked.state)),
        (None, false) => println!("no services in {}", testbed.dir().display()),
        (None, true) => {
            println!("{:#}", json!({"dir": testbed.dir(), "processes": {}, "deployments": []}));
        }
    }
    Ok(())
}

/// A deployment's name, which becomes part of names in PostgreSQL, in paths and of processes.
fn deployment_name(text: &str) -> Result<String> {
    let is_good = (1..=DEPLOYMENT_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_good {
        bail!("a deployment's name has 1 to {DEPLOYMENT_NAME_BYTES_MAX} of a-z, 0-9 and _: {text:?} has not");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    fn parse(text: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["covey-testbed"].into_iter().chain(text.split_whitespace()))
    }

    #[test]
    fn options_of_the_set_stand_anywhere() {
        Arguments::command().debug_assert();
        let before = parse("--dir /d --while 7 env --shape postgres+rabbitmq --for ci_1 --json").unwrap();
        let after = parse("env --json --for=ci_1 --shape=postgres+rabbitmq --while=7 --dir=/d").unwrap();
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        assert_eq!(before.dir, Some(PathBuf::from("/d")));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "fly",
            "up mysql",
            "env",
            "env --shape sqlite",
            "env --shape sqlite+embedded --for A",
            "env --shape sqlite+embedded --for ../x",
            "kill",
            "up --shared --dir /d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for name in ["", "A", "a-b", "a;b", "../a", "a b'", "é", &"a".repeat(41)] {
            let words = ["env", "--shape", "sqlite+embedded", "--for", name];
            assert!(
                Arguments::try_parse_from(["covey-testbed"].iter().chain(&words)).is_err(),
                "a name that could break out: {name}"
            );
        }
        assert!(!Service::USUAL.contains(&Service::RabbitmqCluster));
    }
}
