//! `covey access`: who may do what.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use covey_client::{AccessExplanation, AccessQuestion, DeviceFilter};

use crate::command::connection::{Connection, Target};
use crate::command::key_grant;

/// `covey access`.
#[derive(Args)]
pub struct AccessArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: AccessCommand,
}

#[derive(Subcommand)]
enum AccessCommand {
    /// Say whether a key may do something, and by which right or grant
    ///
    /// Nothing is done. The exit code is 0 if the key may, and 1 if it may not.
    #[command(after_help = "Examples:\n  \
        covey access explain 3 POST /device-tasks --device lamp-1\n  \
        covey access explain 3 POST /device-tasks --device lamp-1 --method open\n  \
        covey access explain own GET /stream")]
    Explain {
        /// Number of the key, as covey key list shows it; own for the one that asks
        #[arg(value_name = "KEY")]
        key_id: String,
        /// Method of the operation, such as POST
        #[arg(value_name = "METHOD", value_parser = ["GET", "POST", "PUT", "PATCH", "DELETE"], ignore_case = true)]
        verb: String,
        /// Path of the operation, such as /device-tasks; names in braces or values stand for parameters
        #[arg(value_name = "PATH")]
        path: String,
        /// Serial number or number of the device that it would be about
        #[arg(long, value_name = "DEVICE")]
        device: Option<String>,
        /// Of a task, its method: a number or a name. Without it: 20
        #[arg(long, value_name = "METHOD")]
        method: Option<String>,
        /// Of an event, its type
        #[arg(long, value_name = "NUMBER")]
        event_type: Option<i64>,
    },
}

/// Runs `covey access`.
pub async fn run(args: AccessArgs, connection: &Connection) -> Result<ExitCode> {
    let AccessCommand::Explain { key_id, verb, path, device, method, event_type } = args.command;
    let key_id = match key_id.as_str() {
        "own" => None,
        number => {
            Some(number.parse().map_err(|_| anyhow!("a key is its number, or own: {number} is neither"))?)
        }
    };
    let device_id = match device {
        Some(device) => Some(number_of(connection, device).await?),
        None => None,
    };
    let (method_code, method) = match method.map(|method| (method.parse().ok(), method)) {
        None => (None, None),
        Some((Some(code), _)) => (Some(code), None),
        Some((None, name)) => (None, Some(name)),
    };
    let operation = format!("{} {path}", verb.to_ascii_uppercase());
    let question =
        AccessQuestion { operation, key_id, device_id, method_code, method, event_type_code: event_type };
    let explained = connection.client.access_explain(&question).await?;
    if connection.output.json {
        connection.output.json(&explained)?;
    } else {
        connection.output.text(&told(&explained))?;
    }
    Ok(if explained.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The number of a device by its serial number, or by its number.
async fn number_of(connection: &Connection, device: String) -> Result<i64> {
    let filter = DeviceFilter { sn: Some(device.clone()), ..DeviceFilter::default() };
    let found = connection.client.device_list(&filter, covey_client::PageRequest::default()).await?;
    match (found.items.first(), device.parse()) {
        (Some(found), _) => Ok(found.device_id),
        (None, Ok(number)) => Ok(number),
        (None, Err(_)) => Err(anyhow!("there is no device {device} that you may see")),
    }
}

fn told(explained: &AccessExplanation) -> String {
    let AccessExplanation { allowed, operation, key_id, key, expired, addresses, tags, rights } = explained;
    let verdict = if *allowed { "may" } else { "may not" };
    let mut lines = vec![format!("key {key_id} {key} {verdict} {operation}")];
    if *expired {
        lines.push("  the key has expired".to_owned());
    }
    for reason in rights {
        let has = if reason.has { "yes" } else { "no " };
        lines.push(format!("  {has} {}: {}", reason.right, reason.why));
        lines.extend(reason.grant.iter().map(|grant| format!("      {}", key_grant::words(grant))));
    }
    if !tags.is_empty() {
        let tags: Vec<_> = tags.iter().map(|tag| format!("{}={}", tag.tag, tag.value)).collect();
        lines.push(format!("  tags of the device: {}", tags.join(" ")));
    }
    if !addresses.is_empty() {
        lines.push(format!("  from {} alone", addresses.join(", ")));
    }
    lines.join("\n")
}
