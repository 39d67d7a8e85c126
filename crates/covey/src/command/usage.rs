//! `covey usage`: what an organisation has used.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use covey_client::Day;

use crate::command::connection::{Connection, Target};
use crate::command::org;
use crate::command::output::cell;

/// `covey usage`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    covey usage\n  \
    covey usage --from 2026-11-01 --to 2026-11-30 --org acme\n  \
    covey usage --total --json | jq .bytes_in\n\n\
    It is kept for 400 days; days begin at midnight by UTC. The key needs the right audit:read.")]
pub struct UsageArgs {
    #[command(flatten)]
    pub target: Target,
    /// The first day, such as 2026-11-01; without it, 29 days before the last one
    #[arg(long, value_name = "DAY")]
    from: Option<Day>,
    /// The last day; without it, today
    #[arg(long, value_name = "DAY")]
    to: Option<Day>,
    /// Another organisation, by its number or its name, which needs the right orgs:admin
    #[arg(long, value_name = "ORG")]
    org: Option<String>,
    /// Only the sums over these days
    #[arg(long)]
    total: bool,
}

/// Runs `covey usage`.
pub async fn run(args: UsageArgs, connection: &Connection) -> Result<ExitCode> {
    let org = match &args.org {
        Some(org) => Some(org::find(connection, org).await?.id),
        None => None,
    };
    let report = connection.client.usage(org, args.from, args.to).await?;
    let (output, total) = (connection.output, report.total);
    if output.json {
        match args.total {
            true => output.json(&total)?,
            false => output.json(&report)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let columns = ["DAY", "TASKS", "FINISHED", "EVENTS", "BYTES", "DEVICES"];
    let of_total = (
        "total".to_owned(),
        [total.tasks_created, total.tasks_finished, total.events, total.bytes_in, total.device_days],
    );
    let of_days = report.days.iter().map(|day| {
        let used = [day.tasks_created, day.tasks_finished, day.events, day.bytes_in, day.active_devices];
        (day.day.to_string(), used)
    });
    let days: Vec<_> = of_days.filter(|_| !args.total).chain([of_total]).collect();
    output.list(&columns, &days, |(day, used)| {
        let used = used.iter().map(|number| cell(number.to_string()));
        [cell(day.clone())].into_iter().chain(used).collect()
    })?;
    Ok(ExitCode::SUCCESS)
}
