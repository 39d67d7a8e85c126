//! The tests of the crates that take services from the environment.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::step::{self, cargo_command, run};
use crate::testbed;

/// The deployment that the tests of the crates use.
const DEPLOYMENT: &str = "crates";

/// The tests of the crates that need a broker which others wrote.
pub fn run_tests_of_crates() -> Result<()> {
    let us = std::process::id().to_string();
    let arguments =
        ["--shared", "--while", &us, "env", "--shape", "sqlite+rabbitmq", "--for", DEPLOYMENT, "--json"];
    let facts: Value = serde_json::from_str(&testbed::output(&arguments)?).context("no environment")?;
    let variable = |name: &str| facts["environment"][name].as_str().unwrap_or_default().to_owned();
    let devices = variable("COVEY_DEVICES_URL");
    // Without the measurements, which say nothing beside other work.
    let filter = ["--ignored", "--skip", "measure::"];
    let tested = run(cargo_command()
        .args([
            "test",
            "--workspace",
            "--locked",
            "--quiet",
            "--profile",
            step::profile(),
            "--test",
            "amqp",
            "--",
        ])
        .args(filter)
        .env("COVEY_TEST_AMQP", variable("COVEY_LINK"))
        .env("COVEY_TEST_RABBITMQ_MANAGEMENT", variable("COVEY_RABBITMQ_MANAGEMENT"))
        .env("COVEY_TEST_MQTTS_PORT", devices.rsplit(':').next().unwrap_or_default())
        .env("COVEY_TEST_PKI", variable("COVEY_PKI_FROM")));
    testbed::output(&["--shared", "drop", DEPLOYMENT])?;
    tested
}
