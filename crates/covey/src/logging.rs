//! Where log lines go and how they look.

use std::io::IsTerminal;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::fault;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to log to standard error.
pub fn start(filter: &str, format: LogFormat) -> Result<()> {
    // Anything may be a target for the parser, which would leave a slip without an answer.
    let is_path =
        |target: &str| target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte));
    if let Some(wrong) = filter.split(',').find(|one| !is_path(one.split('=').next().unwrap_or(one).trim())) {
        return Err(fault::setup(format!(
            "the log filter is wrong: {wrong:?} is no level, and no target with one; such as info,covey_link=debug"
        )));
    }
    // The client of RabbitMQ tells of each message that nobody listened for, with all that is in it, and TLS of what each
    // stranger says wrong; our own lines are those that count.
    let filter = format!("lapin=off,rustls=off,{filter}")
        .parse::<Targets>()
        .map_err(|error| fault::setup(format!("the log filter is wrong: {error}")))?;
    let has_colours = std::io::stderr().is_terminal();
    let form = match format {
        LogFormat::Text => covey_log::Form::Text,
        LogFormat::Json => covey_log::Form::Json,
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(has_colours)
        .event_format(covey_log::Lines::new(form));
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(())
}
