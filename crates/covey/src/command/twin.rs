//! `covey twin`: what devices say their values are, and what is wanted.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use covey_client::{RawValue, StreamFilter, Time, Twin, TwinPatch, Whole};

use crate::command::connection::{Connection, Target};
use crate::command::device::DeviceName;
use crate::command::events::{RETRY_PAUSE, is_refusal};
use crate::command::moment;
use crate::command::output::cell;

/// `covey twin`.
#[derive(Args)]
pub struct TwinArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: TwinCommand,
}

#[derive(Subcommand)]
enum TwinCommand {
    /// Show a device's values: what it reported, and what is wanted
    #[command(after_help = "Examples:\n  covey twin get lamp-1\n  covey twin get lamp-1 --follow --json")]
    Get {
        /// Serial number, or number
        #[arg(value_name = "SN|ID")]
        device: DeviceName,
        /// Show the twin again whenever it changes. Ctrl-C ends it
        #[arg(short, long)]
        follow: bool,
    },
    /// Set desired values of a device: each becomes a task that the device gets as soon as it can be reached
    #[command(after_help = "Examples:\n  \
        covey twin set lamp-1 led=1 name=\\\"hall\\\"\n  \
        covey twin set lamp-1 led=null   (withdraws the desired value)\n  \
        covey twin set lamp-1 led=1 --if-match '\"d3\"'   (only if nobody else has changed the desired side since)")]
    Set {
        /// Serial number, or number
        #[arg(value_name = "SN|ID")]
        device: DeviceName,
        /// A resource with a value: JSON, otherwise text; repeat for more
        #[arg(value_name = "RESOURCE=VALUE", required = true, value_parser = read_value)]
        values: Vec<(String, Box<RawValue>)>,
        /// Report the values on behalf of the device instead of setting desired ones
        #[arg(long, conflicts_with_all = ["ttl", "priority"])]
        reported: bool,
        /// Time to live of the tasks, in minutes [default: 44639, that is 31 days]
        #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=44639))]
        ttl: Option<u32>,
        /// Priority of the tasks, 0 to 9
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
        priority: Option<u8>,
        /// Only if the twin has this version, as its ETag says: "r3-d1", or one side of it, "d1"
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
}

/// Reads `resource=value`; what is no JSON is meant as text.
fn read_value(text: &str) -> Result<(String, Box<RawValue>), String> {
    let (name, value) = text.split_once('=').ok_or("must be RESOURCE=VALUE")?;
    let json = serde_json::from_str::<Box<RawValue>>(value);
    let json = json.or_else(|_| serde_json::value::to_raw_value(value)).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), json))
}

/// Runs `covey twin`.
pub async fn run(args: TwinArgs, connection: &Connection) -> Result<ExitCode> {
    match args.command {
        TwinCommand::Get { device, follow } => get(&device, follow, connection).await?,
        TwinCommand::Set { device, values, reported, ttl, priority, if_match } => {
            let device = device.find(connection).await?;
            let mut by_name = BTreeMap::new();
            for (name, value) in values {
                if by_name.insert(name.clone(), Cow::Owned(value)).is_some() {
                    bail!("the resource {name} is given twice");
                }
            }
            let patch = if reported {
                TwinPatch { reported: by_name, ..TwinPatch::default() }
            } else {
                let (ttl, priority) = (ttl.map(|n| Whole(n.into())), priority.map(|n| Whole(n.into())));
                TwinPatch { desired: by_name, ttl, priority, ..TwinPatch::default() }
            };
            let twin = connection.client.twin_patch(device.device_id, &patch, if_match.as_deref()).await?;
            show(&twin, connection)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn get(device: &DeviceName, is_followed: bool, connection: &Connection) -> Result<()> {
    let device_id = device.find(connection).await?.device_id;
    if !is_followed {
        return show(&connection.client.twin_get(device_id).await?, connection);
    }
    let mut is_known = false;
    loop {
        match follow(device_id, &mut is_known, connection).await {
            Ok(()) => connection.output.note("the server ended the stream; connecting again"),
            // Whoever was never let in will not be; a server that was there comes back.
            Err(error) if !is_known || is_refusal(&error) => return Err(error),
            Err(error) => connection.output.note(&format!("{error}; connecting again")),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Shows a twin now and after each change, until the stream of changes ends.
async fn follow(device_id: i64, is_known: &mut bool, connection: &Connection) -> Result<()> {
    let kinds = vec!["twin".to_owned()];
    let filter = StreamFilter { device_ids: vec![device_id], kinds, ..StreamFilter::default() };
    // Opened before the first look, so that nothing changes unseen in between.
    let mut stream = connection.client.stream(&filter, None).await?;
    *is_known = true;
    loop {
        show(&connection.client.twin_get(device_id).await?, connection)?;
        if stream.next().await?.is_none_or(|told| told.kind == "end") {
            return Ok(());
        }
    }
}

fn show(twin: &Twin, connection: &Connection) -> Result<()> {
    let output = connection.output;
    if output.json {
        return Ok(output.json(twin)?);
    }
    let (reported, desired) = (&twin.reported.resources, &twin.desired.resources);
    let names: BTreeSet<_> = reported.keys().chain(desired.keys()).collect();
    let rows = names.into_iter().map(|name| {
        let (is, wanted) = (reported.get(name), desired.get(name));
        vec![
            cell(&**name),
            // A device may take a value back.
            cell(is.map_or("", |is| is.value.as_deref().map_or("null", RawValue::get))),
            cell(at(is.map(|is| is.at))),
            cell(wanted.map_or("", |wanted| wanted.value.get())),
            cell(at(wanted.map(|wanted| wanted.at))),
        ]
    });
    output.text(&output.table(&["RESOURCE", "REPORTED", "AT", "DESIRED", "SINCE"], rows))?;
    output.note(&format!("{}: version r{}-d{}", twin.sn, twin.reported.version, twin.desired.version));
    Ok(())
}

fn at(instant: Option<Time>) -> String {
    instant.map(moment::of).unwrap_or_default()
}
