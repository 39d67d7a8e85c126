//! What `cargo xtask services` is asked to do, read from its arguments.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::shape::Shape;

/// The name of a deployment when none is given.
pub const DEFAULT_DEPLOYMENT: &str = "default";
/// A deployment's name goes into names of databases, which have 63 bytes at most.
const DEPLOYMENT_NAME_BYTES_MAX: usize = 40;

/// A service that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Postgresql,
    Rabbitmq,
    RabbitmqCluster,
    Mosquitto,
    Nginx,
}

impl Service {
    /// What `up` starts when it is given no names. A cluster of three nodes
    /// is wanted by few, and costs three times the memory.
    pub const USUAL: [Self; 4] = [Self::Postgresql, Self::Rabbitmq, Self::Mosquitto, Self::Nginx];

    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "postgresql" | "postgres" => Self::Postgresql,
            "rabbitmq" => Self::Rabbitmq,
            "rabbitmq-cluster" => Self::RabbitmqCluster,
            "mosquitto" => Self::Mosquitto,
            "nginx" => Self::Nginx,
            _ => bail!(
                "there is no service {text}; there are: postgresql rabbitmq rabbitmq-cluster mosquitto nginx"
            ),
        })
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Up(Vec<Service>),
    Down { purge: bool },
    Status { json: bool },
    Environment { shape: Shape, deployment: String, json: bool },
    Drop { deployment: String },
    Kill(String),
    Stop(String),
    Start(String),
}

/// What to do, and in which folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub dir: Option<PathBuf>,
    pub action: Action,
}

impl Request {
    /// Reads the arguments that follow `services`.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut words = Vec::new();
        let mut dir = None;
        let (mut purge, mut json) = (false, false);
        let (mut shape, mut deployment, mut drop) = (None, None, None);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            let mut value = || {
                inline
                    .clone()
                    .or_else(|| rest.next().cloned())
                    .with_context(|| format!("{name} needs a value"))
            };
            match name {
                "--dir" => dir = Some(PathBuf::from(value()?)),
                "--shape" => shape = Some(Shape::parse(&value()?)?),
                "--for" => deployment = Some(deployment_name(&value()?)?),
                "--drop" => drop = Some(deployment_name(&value()?)?),
                "--purge" => purge = true,
                "--json" => json = true,
                _ if name.starts_with('-') => bail!("unknown option {name}; see: cargo xtask services help"),
                _ => words.push(argument.clone()),
            }
        }
        let (command, names) =
            words.split_first().context("say what to do; see: cargo xtask services help")?;
        let given = [
            ("--purge", purge, "down"),
            ("--json", json, "status env"),
            ("--shape", shape.is_some(), "env"),
            ("--for", deployment.is_some(), "env"),
            ("--drop", drop.is_some(), "env"),
        ];
        for (option, _, commands) in given.into_iter().filter(|(_, is_given, _)| *is_given) {
            if !commands.split(' ').any(|known| known == command) {
                bail!("{option} does not go with {command}");
            }
        }
        let action = match (command.as_str(), names) {
            ("up", []) => Action::Up(Service::USUAL.to_vec()),
            ("up", names) => {
                Action::Up(names.iter().map(|name| Service::parse(name)).collect::<Result<_>>()?)
            }
            ("down", []) => Action::Down { purge },
            ("status", []) => Action::Status { json },
            ("env", []) => match drop {
                Some(deployment) => Action::Drop { deployment },
                None => Action::Environment {
                    shape: shape.context("env needs --shape, such as --shape postgres+rabbitmq")?,
                    deployment: deployment.unwrap_or_else(|| DEFAULT_DEPLOYMENT.to_owned()),
                    json,
                },
            },
            ("kill", [name]) => Action::Kill(name.clone()),
            ("stop", [name]) => Action::Stop(name.clone()),
            ("start", [name]) => Action::Start(name.clone()),
            ("kill" | "stop" | "start", _) => {
                bail!("{command} needs one name; see: cargo xtask services status")
            }
            _ => bail!("cannot read: services {}; see: cargo xtask services help", words.join(" ")),
        };
        Ok(Self { dir, action })
    }
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
    use super::super::shape::{Link, Store};
    use super::*;

    fn parse(text: &str) -> Result<Request> {
        Request::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn up_without_names_starts_all_but_the_cluster() {
        let request = parse("up").unwrap();
        assert_eq!(request, Request { dir: None, action: Action::Up(Service::USUAL.to_vec()) });
        assert!(!Service::USUAL.contains(&Service::RabbitmqCluster));
    }

    #[test]
    fn options_stand_anywhere_and_may_hold_their_value() {
        let wanted = Request {
            dir: Some(PathBuf::from("/d")),
            action: Action::Environment {
                shape: Shape { store: Store::Postgres, link: Link::Rabbitmq },
                deployment: "a_1".to_owned(),
                json: true,
            },
        };
        assert_eq!(parse("--dir /d env --shape postgres+rabbitmq --for a_1 --json").unwrap(), wanted);
        assert_eq!(parse("env --json --for=a_1 --shape=postgres+rabbitmq --dir=/d").unwrap(), wanted);
    }

    #[test]
    fn names_that_could_break_out_are_refused() {
        for name in ["", "A", "a-b", "a;b", "../a", "a b'", "é", &"a".repeat(41)] {
            assert!(deployment_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in
            ["", "up oracle", "down x", "status --purge", "env", "env --shape", "kill", "start a b", "-x"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
