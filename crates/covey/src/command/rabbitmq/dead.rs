//! `covey rabbitmq dead`: messages that were put aside.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use covey_link::amqp::{DeadLetter, DeadLetters};

use crate::command::output::{Output, cell};
use crate::command::rabbitmq::source::{self, Source};

/// How many messages a list shows unless more are asked for.
const LIST_DEFAULT: u32 = 100;

#[derive(Args)]
pub struct DeadArgs {
    #[command(subcommand)]
    command: DeadCommand,
}

#[derive(Subcommand)]
enum DeadCommand {
    /// List the messages, oldest first
    List {
        #[command(flatten)]
        source: Source,
        /// Messages to list, at most
        #[arg(long, value_name = "N", default_value_t = LIST_DEFAULT)]
        limit: u32,
        /// Print one line of JSON for each message
        #[arg(long)]
        json: bool,
    },
    /// Show one message, with its headers and its body
    Show {
        #[command(flatten)]
        source: Source,
        /// Its place in the list
        #[arg(value_name = "PLACE", value_parser = clap::value_parser!(u32).range(1..))]
        place: u32,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Send messages to the servers again, as the devices sent them
    Redrive {
        #[command(flatten)]
        source: Source,
        /// Places in the list
        #[arg(value_name = "PLACE", required_unless_present = "all", conflicts_with = "all")]
        places: Vec<u32>,
        /// All messages that are there now
        #[arg(long)]
        all: bool,
        /// Print what was done as JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete all messages
    Purge {
        #[command(flatten)]
        source: Source,
        /// Confirm: deleted messages cannot be restored
        #[arg(long, required = true)]
        yes: bool,
        /// Print what was done as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `covey rabbitmq dead`.
pub async fn run(args: DeadArgs) -> Result<ExitCode> {
    match args.command {
        DeadCommand::List { source, limit, json } => list(source, limit, Output::new(json)).await?,
        DeadCommand::Show { source, place, json } => show(source, place, Output::new(json)).await?,
        DeadCommand::Redrive { source, places, all, json } => {
            redrive(source, &places, all, Output::new(json)).await?;
        }
        DeadCommand::Purge { source, yes: _, json } => purge(source, Output::new(json)).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(source: Source) -> Result<DeadLetters> {
    Ok(DeadLetters::open(&source::broker(&source.settle()?)?).await?)
}

async fn list(source: Source, limit: u32, output: Output) -> Result<()> {
    let letters = open(source).await?;
    let (count, listed) = (letters.count().await?, letters.list(limit).await?);
    letters.close().await;
    if output.json {
        return Ok(listed.iter().try_for_each(|letter| output.json(&as_json(letter)))?);
    }
    let rows = listed.iter().map(|letter| {
        vec![
            cell(letter.place.to_string()),
            cell(&letter.routing_key),
            cell(letter.correlation.as_deref().unwrap_or_default()),
            cell(letter.body.len().to_string()),
            cell(&letter.reason),
        ]
    });
    if !listed.is_empty() {
        output.text(&output.table(&["PLACE", "ROUTING KEY", "CORRELATION", "BYTES", "REASON"], rows))?;
    }
    output.note(&format!("{count} in all"));
    Ok(())
}

async fn show(source: Source, place: u32, output: Output) -> Result<()> {
    let letters = open(source).await?;
    let listed = letters.list(place).await?;
    letters.close().await;
    let letter = listed.into_iter().find(|letter| letter.place == place);
    let letter = letter.ok_or_else(|| anyhow!("there is no message at place {place}"))?;
    if output.json {
        return Ok(output.json(&as_json(&letter))?);
    }
    let mut text = format!("{}\n{}\n", letter.routing_key, letter.reason);
    for (name, value) in &letter.headers {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&letter.body));
    let lines: Vec<_> = text.lines().map(crate::command::output::printable).collect();
    Ok(output.text(&lines.join("\n"))?)
}

async fn redrive(source: Source, places: &[u32], all: bool, output: Output) -> Result<()> {
    let letters = open(source).await?;
    let redriven = letters.redrive(|letter| all || places.contains(&letter.place)).await;
    letters.close().await;
    let redriven = redriven?;
    if output.json {
        let done = serde_json::json!({ "sent": redriven.sent, "unroutable": redriven.unroutable });
        return Ok(output.json(&done)?);
    }
    output.text(&format!("{} were sent again", redriven.sent))?;
    if redriven.unroutable > 0 {
        output.note(&format!("{} stay: no queue takes them", redriven.unroutable));
    }
    Ok(())
}

async fn purge(source: Source, output: Output) -> Result<()> {
    let letters = open(source).await?;
    let deleted = letters.purge().await;
    letters.close().await;
    let deleted = deleted?;
    if output.json {
        return Ok(output.json(&serde_json::json!({ "deleted": deleted }))?);
    }
    Ok(output.text(&format!("{deleted} were deleted"))?)
}

fn as_json(letter: &DeadLetter) -> serde_json::Value {
    let headers: serde_json::Map<_, _> =
        letter.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    serde_json::json!({
        "place": letter.place,
        "routing_key": letter.routing_key,
        "reason": letter.reason,
        "correlation": letter.correlation,
        "headers": headers,
        "body": String::from_utf8_lossy(&letter.body),
        "body_bytes": letter.body.len(),
    })
}
