//! The services that `cargo xtask test` starts for itself and ends again,
//! beside those that somebody may have running.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::services;
use crate::step::{cargo_command, run, step};

/// The deployment that the tests of the crates use.
const DEPLOYMENT: &str = "crates";
/// What is run for all deployments; a Mosquitto is started for each by itself.
const SHARED: [&str; 2] = ["postgresql", "rabbitmq"];

/// The folder of these services.
pub fn dir() -> PathBuf {
    crate::root().join("target/test-services")
}

/// Does something with the services up; they are ended after it, however it ended.
pub fn with(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let outcome = step("services up", || call(&[&["up"][..], &SHARED].concat())).and_then(|()| work());
    let ended = step("services down", || call(&["down", "--purge"]));
    outcome.and(ended)
}

/// The tests of the crates that need a broker which others wrote.
pub fn run_tests_of_crates() -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["services", "env", "--shape", "sqlite+rabbitmq", "--for", DEPLOYMENT, "--json", "--dir"]);
    let output = command.arg(dir()).output().context("cannot run cargo xtask services")?;
    let facts: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no environment: {}", String::from_utf8_lossy(&output.stderr)))?;
    let variable = |name: &str| facts["environment"][name].as_str().unwrap_or_default().to_owned();
    let devices = variable("COVEY_DEVICES_URL");
    // Without the measurements, which say nothing beside other work.
    let filter = ["--ignored", "--skip", "measure::"];
    let tested = run(cargo_command()
        .args(["test", "--locked", "--quiet", "--package", "covey-link", "--test", "amqp", "--"])
        .args(filter)
        .env("COVEY_TEST_AMQP", variable("COVEY_LINK"))
        .env("COVEY_TEST_RABBITMQ_MANAGEMENT", variable("COVEY_RABBITMQ_MANAGEMENT"))
        .env("COVEY_TEST_MQTTS_PORT", devices.rsplit(':').next().unwrap_or_default())
        .env("COVEY_TEST_PKI", variable("COVEY_PKI_FROM")));
    call(&["env", "--drop", DEPLOYMENT])?;
    tested
}

fn call(arguments: &[&str]) -> Result<()> {
    let dir = dir().to_string_lossy().into_owned();
    let arguments = arguments.iter().map(|one| (*one).to_owned());
    services::run(&arguments.chain(["--dir".to_owned(), dir]).collect::<Vec<_>>())
}
