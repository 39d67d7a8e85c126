//! `covey webhooks`: where the server tells of changes, and what became of that.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use covey_client::{Delivery, DeliveryFilter, Record, Webhook, WebhookFilter, WebhookNew, WebhookSet, Whole};
use covey_core::webhook::{Outcome, WebhookFormat, WebhookType};

use crate::command::connection::{Connection, Target};
use crate::command::device::DeviceName;
use crate::command::events::{RETRY_PAUSE, is_refusal};
use crate::command::moment;
use crate::command::output::{cell, printable};

/// How often is looked for new attempts.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);
/// How many attempts one look takes.
const FOLLOW_MAX: u32 = 1_000;

/// `covey webhooks`.
#[derive(Args)]
pub struct WebhooksArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: WebhooksCommand,
}

#[derive(Subcommand)]
enum WebhooksCommand {
    /// List webhooks with their state
    #[command(after_help = "Example: covey webhooks list")]
    List,
    /// Add a webhook: a URL that the server calls. Its secret is printed once
    ///
    /// The server asks the URL with a GET first; it must answer below 500. Standard output gets the secret with which
    /// messages are signed (Standard Webhooks) and nothing else.
    #[command(after_help = "Examples:\n  \
        covey webhooks add https://receiver.example/covey\n  \
        covey webhooks add https://receiver.example/doors --tag site=north --event-type 13 --event-type 14\n  \
        covey webhooks add https://receiver.example/done --type msg-task-result --header 'Authorization: Bearer x'")]
    Add(AddArgs),
    /// Delete a webhook, with its log and its dead letters
    #[command(after_help = "Example: covey webhooks rm 3   (or a type, for its default webhook)")]
    Rm {
        /// Its number, or a type
        #[arg(value_name = "WEBHOOK")]
        webhook: String,
    },
    /// Send a sample to a webhook, and show the answer
    #[command(after_help = "Example: covey webhooks test msg-event")]
    Test {
        /// Its number, or a type
        #[arg(value_name = "WEBHOOK")]
        webhook: String,
    },
    /// Make a new secret for a webhook; the old one stays valid beside it for a while
    #[command(after_help = "Example: covey webhooks rotate 3 --overlap-seconds 3600")]
    Rotate {
        /// Its number, or a type
        #[arg(value_name = "WEBHOOK")]
        webhook: String,
        /// How long the old secret stays valid, in seconds [default: 86400]
        #[arg(long, value_name = "N")]
        overlap_seconds: Option<u32>,
    },
    /// Show the deliveries of a webhook: what was sent, and the outcome
    #[command(after_help = "Examples:\n  \
        covey webhooks deliveries 3 --follow\n  \
        covey webhooks deliveries msg-event --outcome retry -n 100 --json")]
    Deliveries(DeliveriesArgs),
    /// Show dead letters: messages that were given up
    #[command(after_help = "Example: covey webhooks dead 3")]
    Dead {
        /// Its number, or a type
        #[arg(value_name = "WEBHOOK")]
        webhook: String,
        /// Messages to show, at most
        #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Send dead letters again
    #[command(after_help = "Examples:\n  \
        covey webhooks resend 3 1204   (the number of the change, as covey webhooks dead shows it)\n  \
        covey webhooks resend 3 --all")]
    Resend {
        /// Its number, or a type
        #[arg(value_name = "WEBHOOK")]
        webhook: String,
        /// The number of the change
        #[arg(value_name = "NUMBER", required_unless_present = "all", conflicts_with = "all")]
        number: Option<i64>,
        /// All dead letters of the webhook
        #[arg(long)]
        all: bool,
    },
}

#[derive(Args)]
struct AddArgs {
    /// The receiver: a URL that answers a GET, with a status below 500
    #[arg(value_name = "RECEIVER")]
    receiver: String,
    /// Type of message
    #[arg(long = "type", value_name = "TYPE", default_value = "msg-event",
        value_parser = PossibleValuesParser::new(WebhookType::NAMES.map(|(_, name)| name)))]
    event_type: String,
    /// Set the default webhook of the type instead of adding another one
    #[arg(long)]
    default: bool,
    /// A header to send with each message; repeat for more
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Only changes of this device: serial number, or number; repeat for more
    #[arg(long, value_name = "SN|ID")]
    device: Vec<DeviceName>,
    /// Only changes of devices with this tag; repeat for more
    #[arg(long, value_name = "NAME[=VALUE]")]
    tag: Vec<String>,
    /// Of the events, only those of this type; repeat for more
    #[arg(long = "event-type", value_name = "CODE")]
    event_type_code: Vec<i64>,
    /// Format of the messages
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(WebhookFormat::NAMES.map(|(_, name)| name)))]
    format: Option<String>,
    /// Requests under way at once; for one device it is always one [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: Option<u32>,
    /// Send events to RECEIVER/DEVICE_ID: the device's number appended to the path
    #[arg(long)]
    device_id_in_path: bool,
}

#[derive(Args)]
struct DeliveriesArgs {
    /// Its number, or a type
    #[arg(value_name = "WEBHOOK")]
    webhook: String,
    /// Continue with new attempts
    #[arg(short, long)]
    follow: bool,
    /// Only attempts with this outcome
    #[arg(long, value_name = "OUTCOME", value_parser = PossibleValuesParser::new(Outcome::NAMES.map(|(_, name)| name)))]
    outcome: Option<String>,
    /// Last attempts to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    lines: u32,
}

/// Runs `covey webhooks`.
pub async fn run(args: WebhooksArgs, connection: &Connection) -> Result<ExitCode> {
    let (client, output) = (&connection.client, connection.output);
    match args.command {
        WebhooksCommand::List => list(connection).await?,
        WebhooksCommand::Add(args) => add(args, connection).await?,
        WebhooksCommand::Rm { webhook: key } => {
            client.webhook_delete(&key).await?;
            output.note(&format!("webhook {key} is deleted"));
        }
        WebhooksCommand::Test { webhook: key } => return test(&key, connection).await,
        WebhooksCommand::Rotate { webhook: key, overlap_seconds } => {
            let rotated = client.webhook_rotate(&key, overlap_seconds).await?;
            tell_secret(&rotated, connection)?;
        }
        WebhooksCommand::Deliveries(args) => deliveries(args, connection).await?,
        WebhooksCommand::Dead { webhook: key, limit } => dead(&key, limit, connection).await?,
        WebhooksCommand::Resend { webhook: key, number, .. } => {
            let resent = client.webhook_resend(&key, number).await?;
            if output.json {
                output.json(&serde_json::json!({"resent": resent}))?;
            } else {
                output.note(&format!("{resent} messages will be tried again"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(connection: &Connection) -> Result<()> {
    let webhooks = connection.client.webhook_list().await?;
    let columns = ["ID", "TYPE", "DEFAULT", "STATE", "ONLY", "WAITING", "DEAD", "LAST ERROR", "URL"];
    Ok(connection.output.list(&columns, &webhooks, |webhook| {
        let state = webhook.state.as_ref();
        let fares = match state {
            _ if !webhook.is_active => "inactive",
            Some(state) if state.circuit == "open" => "failing",
            Some(_) | None => "ok",
        };
        let count = |count: Option<u64>| {
            cell(count.filter(|count| *count > 0).map_or(String::new(), |count| count.to_string()))
        };
        vec![
            cell(webhook.id.to_string()),
            cell(&*webhook.event_type),
            cell(if webhook.is_default { "yes" } else { "" }),
            cell(fares),
            cell(wanted(&webhook.filter)),
            count(state.map(|state| state.waiting)),
            count(state.map(|state| state.dead)),
            cell(state.and_then(|state| state.last_error.as_deref()).unwrap_or_default()),
            cell(&*webhook.url),
        ]
    })?)
}

/// What a filter lets through, in a few words; nothing if that is everything.
fn wanted(filter: &WebhookFilter) -> String {
    let WebhookFilter { device_id, tag, event_type_code } = filter;
    let numbers = |numbers: &[i64]| numbers.iter().map(i64::to_string).collect::<Vec<_>>();
    [("device", numbers(device_id)), ("tag", tag.clone()), ("type", numbers(event_type_code))]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| format!("{kind} {}", names.join(",")))
        .collect::<Vec<_>>()
        .join("; ")
}

async fn add(args: AddArgs, connection: &Connection) -> Result<()> {
    let mut filter = WebhookFilter { event_type_code: args.event_type_code, ..WebhookFilter::default() };
    for name in &args.device {
        filter.device_id.push(name.find(connection).await?.device_id);
    }
    filter.tag = args.tag;
    let mut headers = BTreeMap::new();
    for (name, value) in args.headers.iter().map(|header| parse_header(header)).collect::<Result<Vec<_>>>()? {
        if headers.insert(name.clone(), value).is_some() {
            bail!("the header {name} is given twice; join its values with a comma");
        }
    }
    let concurrency = args.concurrency.map(|count| Whole(count.into()));
    let device_id_in_path = args.device_id_in_path.then_some(true);
    let (headers, is_active, filter) = (Some(headers), Some(true), Some(filter));
    let (event_type, url, format, secret) = (args.event_type, args.receiver, args.format, None);
    let made = match args.default {
        true => {
            let set = WebhookSet {
                url,
                headers,
                is_active,
                filter,
                format,
                concurrency,
                device_id_in_path,
                secret,
            };
            connection.client.webhook_set(&event_type, &set).await?
        }
        false => {
            let new = WebhookNew {
                event_type,
                url,
                headers,
                is_active,
                filter,
                format,
                concurrency,
                device_id_in_path,
                secret,
            };
            connection.client.webhook_add(&new).await?
        }
    };
    tell_secret(&made, connection)
}

fn parse_header(text: &str) -> Result<(String, String)> {
    let (name, value) =
        text.split_once(':').ok_or_else(|| anyhow!("a header is NAME: VALUE, and {text} is not"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// The secret goes to standard output, so that it can go straight into a file.
fn tell_secret(webhook: &Webhook, connection: &Connection) -> Result<()> {
    let output = connection.output;
    if output.json {
        return Ok(output.json(webhook)?);
    }
    match &webhook.secret {
        Some(secret) => {
            output.note(&format!("webhook {} is told; its secret, which is not shown again:", webhook.id));
            output.text(secret)?;
        }
        None => output.note(&format!("webhook {} is changed; its secret is as it was", webhook.id)),
    }
    Ok(())
}

async fn test(key: &str, connection: &Connection) -> Result<ExitCode> {
    let output = connection.output;
    let tested = connection.client.webhook_test(key).await?;
    if output.json {
        output.json(&tested)?;
    } else {
        let answer = match (&tested.error, tested.status) {
            (None, Some(status)) => format!("delivered: status {status}"),
            (Some(error), _) => format!("not delivered: {}", printable(error)),
            (None, None) => "delivered".to_owned(),
        };
        output.text(&format!("{answer}, after {} ms", tested.duration_ms))?;
    }
    Ok(if tested.delivered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn deliveries(args: DeliveriesArgs, connection: &Connection) -> Result<()> {
    let DeliveriesArgs { webhook: key, follow, outcome, lines } = args;
    let mut filter = DeliveryFilter { after: None, outcome, limit: lines };
    let mut found = connection.client.webhook_deliveries(&key, &filter).await?;
    found.reverse();
    found.iter().try_for_each(|delivery| show(delivery, connection))?;
    filter.after = Some(found.last().map_or(0, |last| last.id));
    filter.limit = FOLLOW_MAX;
    if !follow {
        return Ok(());
    }
    loop {
        match connection.client.webhook_deliveries(&key, &filter).await.map_err(anyhow::Error::from) {
            Ok(found) => {
                found.iter().try_for_each(|delivery| show(delivery, connection))?;
                filter.after = found.last().map(|last| last.id).or(filter.after);
            }
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) => {
                connection.output.note(&format!("{error}; asking again"));
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
}

fn show(delivery: &Delivery, connection: &Connection) -> Result<()> {
    let output = connection.output;
    if output.json {
        return Ok(output.json(delivery)?);
    }
    let of = match (delivery.number, delivery.device_id) {
        (Some(number), Some(device)) => format!("change {number} of device {device}"),
        _ => "test".to_owned(),
    };
    let answer = match (&delivery.error, delivery.status) {
        (Some(error), _) => printable(error),
        (None, status) => status.map_or(String::new(), |status| format!("status {status}")),
    };
    let line = format!(
        "{}  {:<11}  {of}, try {}: {answer}, {} ms",
        moment::of(delivery.at),
        delivery.outcome,
        delivery.attempt,
        delivery.duration_ms
    );
    Ok(output.text(&line)?)
}

async fn dead(key: &str, limit: u32, connection: &Connection) -> Result<()> {
    let mut letters = connection.client.webhook_dead_letters(key, None, limit).await?;
    // A page of large ones has fewer.
    while let (Some(last), left @ 1..) =
        (letters.last(), limit.saturating_sub(u32::try_from(letters.len()).unwrap_or(u32::MAX)))
    {
        let more = connection.client.webhook_dead_letters(key, Some(last.number), left).await?;
        if more.is_empty() {
            break;
        }
        letters.extend(more);
    }
    let columns = ["NUMBER", "GIVEN UP", "DEVICE", "TRIES", "LAST ERROR", "CHANGE"];
    Ok(connection.output.list(&columns, &letters, |letter| {
        vec![
            cell(letter.number.to_string()),
            cell(moment::of(letter.died_at)),
            cell(letter.device_id.to_string()),
            cell(letter.attempts.to_string()),
            cell(letter.last_error.as_deref().unwrap_or_default()),
            cell(letter.record.as_ref().map_or_else(|| "forgotten".to_owned(), change)),
        ]
    })?)
}

/// A change as it would have been sent.
fn change(record: &Record<'_>) -> String {
    serde_json::to_string(record).unwrap_or_default()
}
