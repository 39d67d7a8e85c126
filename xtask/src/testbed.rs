//! The program `covey-testbed`, which starts services for tests.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::step::{self, built, run};

/// The program, as cargo builds it.
pub fn binary() -> PathBuf {
    built("covey-testbed")
}

/// Builds it and runs it with arguments: `cargo xtask services`.
pub fn build_and_run(arguments: &[String]) -> Result<()> {
    step::build()?;
    let mut command = Command::new(binary());
    command.args(arguments);
    // What it says of a failure is enough.
    if !command.status().context("cannot run covey-testbed")?.success() {
        bail!("services failed");
    }
    Ok(())
}

/// What it prints.
pub fn output(arguments: &[&str]) -> Result<String> {
    let output = Command::new(binary()).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {}", binary().display()))?;
    if !output.status.success() {
        bail!("services {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Does something while the set of services that all tests share has us as a user, so that what
/// one part of the tests has started is there for the next; ends it afterwards, however that ended.
pub fn while_shared(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let us = std::process::id().to_string();
    run(Command::new(binary()).args(["--shared", "--while", &us, "up", "postgresql", "rabbitmq"]))?;
    let outcome = work();
    outcome.and(run(Command::new(binary()).args(["--shared", "down", "--purge"])))
}
