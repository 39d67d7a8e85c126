//! `covey retention`: for how long things are kept.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use covey_client::{Retention, RetentionChange, Whole};

use crate::command::connection::{Connection, Target};
use crate::command::output::cell;

/// `covey retention`.
#[derive(Args)]
pub struct RetentionArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: RetentionCommand,
}

#[derive(Subcommand)]
enum RetentionCommand {
    /// Show how many days things are kept
    #[command(after_help = "Example: covey retention show\n\n\
        The operator sets the defaults for all organisations with options of covey up: --retention-days, \
        --event-retention-days, --record-retention-days, --twin-retention-days, --audit-retention-days.")]
    Show,
    /// Set how many days your organisation keeps something
    #[command(after_help = "Examples:\n  \
        covey retention set events=30 tasks=365\n  \
        covey retention set events=0         (for ever)\n  \
        covey retention set events=default   (the operator's default)")]
    Set {
        /// tasks, events, records, twin_history or audit with a number of days; repeat for more
        #[arg(value_name = "WHAT=DAYS", required = true, value_parser = read_days)]
        days: Vec<(String, Option<u32>)>,
    },
    /// Delete now what is too old, instead of within ten minutes
    #[command(after_help = "Example: covey retention run")]
    Run,
}

fn read_days(text: &str) -> Result<(String, Option<u32>), &'static str> {
    let (name, days) = text.split_once('=').ok_or("must be WHAT=DAYS, such as events=30")?;
    if !["tasks", "events", "records", "twin_history", "audit"].contains(&name) {
        return Err("known are tasks, events, records, twin_history and audit");
    }
    let number = match days {
        "default" => None,
        "never" | "forever" => Some(0),
        days => Some(days.parse().map_err(|_| "the days must be a number, or default")?),
    };
    Ok((name.to_owned(), number))
}

/// Runs `covey retention`.
pub async fn run(args: RetentionArgs, connection: &Connection) -> Result<ExitCode> {
    match args.command {
        RetentionCommand::Show => show(&connection.client.retention_get().await?, connection)?,
        RetentionCommand::Set { days } => {
            show(&connection.client.retention_put(&change(days)).await?, connection)?;
        }
        RetentionCommand::Run => forget(connection).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the server is asked for; of a name that is given twice the last counts.
fn change(days: Vec<(String, Option<u32>)>) -> RetentionChange {
    let mut change = RetentionChange::default();
    for (name, days) in days {
        let days = Some(days.map(|days| Whole(days.into())));
        match name.as_str() {
            "tasks" => change.tasks = days,
            "events" => change.events = days,
            "records" => change.records = days,
            "audit" => change.audit = days,
            _ => change.twin_history = days,
        }
    }
    change
}

fn show(retention: &Retention, connection: &Connection) -> Result<()> {
    let output = connection.output;
    if output.json {
        return Ok(output.json(retention)?);
    }
    let rows = retention.in_force.iter().map(|(name, days)| {
        let days = if *days == 0 { "for ever".to_owned() } else { format!("{days} days") };
        let by = if retention.own.contains_key(name) { "this organisation" } else { "the operator" };
        vec![cell(&**name), cell(days), cell(by)]
    });
    Ok(output.text(&output.table(&["WHAT", "KEPT", "SET BY"], rows))?)
}

async fn forget(connection: &Connection) -> Result<()> {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        let run = connection.client.retention_run().await?;
        for (name, count) in &run.forgotten {
            *all.entry(name.to_string()).or_default() += count;
        }
        if !run.is_more {
            break;
        }
        connection.output.note(&format!("forgotten so far: {}", text(&all)));
    }
    if connection.output.json {
        return Ok(connection.output.json(&serde_json::json!({ "forgotten": all }))?);
    }
    Ok(connection.output.text(&format!("forgotten: {}", text(&all)))?)
}

fn text(counts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    parts.join(", ")
}
