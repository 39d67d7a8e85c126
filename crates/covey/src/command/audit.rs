//! `covey audit`: who did what.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use covey_client::{AuditEntry, AuditFilter, Time};

use crate::command::audit_verify::{self, VerifyArgs};
use crate::command::connection::{Connection, Target};
use crate::command::moment;
use crate::command::output::cell;

/// How many entries are asked for at once.
const PAGE: u32 = 1_000;

/// `covey audit`.
#[derive(Args)]
pub struct AuditArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// List who did what, newest first
    #[command(after_help = "Examples:\n  \
        covey audit list --device locker-1 --on tuesday --text '\"cell\":5'\n  \
        covey audit list --since 2026-11-24 --actor 'front desk' --action task\n  \
        covey audit list --since 2h --outcome refused --json | jq -r .from")]
    List(Box<ListArgs>),
    /// Check that nobody has changed the audit log by hand
    ///
    /// Each row has a hash of the row before it and of itself. This reads all of them, and prints the last hash of each
    /// chain; keep it elsewhere, and give it with --head later: so it is also found out if all was written anew.
    #[command(after_help = "Examples:\n  \
        covey audit verify\n  \
        covey audit verify --head 1:4711:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n  \
        covey audit verify --offline --data ./covey-data     (the server is stopped)\n\n\
        The exit code is 1 if something was changed, removed or inserted. A running server needs a key with audit:read \
        and orgs:admin.")]
    Verify(Box<VerifyArgs>),
}

#[derive(Args)]
struct ListArgs {
    /// Only what was done from this instant on: 90m, 2h, 7d, tuesday, 2026-11-24, 2026-11-24T08:00
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    since: Option<Time>,
    /// Only what was done before this instant
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    until: Option<Time>,
    /// Only what was done on this day: tuesday, yesterday, 2026-11-24
    #[arg(long, value_name = "DAY", conflicts_with_all = ["since", "until"], value_parser = moment::parse_day)]
    on: Option<(Time, Time)>,
    /// Only what this credential did: its name, "key 7", or all of a kind (key, token, person, command, stranger)
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// Only this action, such as task.create, or all that begin so, such as task
    #[arg(long)]
    action: Option<String>,
    /// Only what was done with this device: serial number, or number
    #[arg(long, value_name = "SN|ID")]
    device: Option<String>,
    /// Only what was done with this thing, such as "key 7", or with all of a kind, such as key
    #[arg(long, value_name = "THING")]
    object: Option<String>,
    /// Only what was done, or what was refused
    #[arg(long, value_parser = ["done", "refused"])]
    outcome: Option<String>,
    /// Only what has this text in a name or a detail, such as '"cell":5' in the parameters of a task
    #[arg(long)]
    text: Option<String>,
    /// Of all organisations, which needs the right orgs:admin
    #[arg(long)]
    all: bool,
    /// Entries to list, at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl AuditArgs {
    /// What is to be verified without a server, if that was asked for.
    pub fn offline(&self) -> Option<&VerifyArgs> {
        match &self.command {
            AuditCommand::Verify(args) if args.is_offline() => Some(args),
            _ => None,
        }
    }
}

/// Runs `covey audit`.
pub async fn run(args: AuditArgs, connection: &Connection) -> Result<ExitCode> {
    match args.command {
        AuditCommand::List(args) => list(*args, connection).await,
        AuditCommand::Verify(args) => audit_verify::run(&args, connection).await,
    }
}

async fn list(args: ListArgs, connection: &Connection) -> Result<ExitCode> {
    let (since, until) = match args.on {
        Some((begin, end)) => (Some(begin), Some(end)),
        None => (args.since, args.until),
    };
    let text = |at: Option<Time>| at.map(|at| at.to_string());
    let filter = AuditFilter {
        since: text(since),
        until: text(until),
        actor: args.actor,
        action: args.action,
        device: args.device,
        object: args.object,
        outcome: args.outcome,
        text: args.text,
        all: args.all,
    };
    let (mut entries, mut cursor) = (Vec::<AuditEntry>::new(), None);
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    loop {
        let left = u32::try_from(limit - entries.len()).unwrap_or(PAGE).min(PAGE);
        let page = connection.client.audit_list(&filter, cursor.as_deref(), left).await?;
        entries.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() || entries.len() >= limit {
            break;
        }
    }
    let output = connection.output;
    if entries.is_empty() && !output.json {
        output.note("nothing of that kind was done");
        return Ok(ExitCode::SUCCESS);
    }
    let columns = ["WHEN", "WHO", "FROM", "ACTION", "OUTCOME", "DEVICE", "OBJECT", "DETAILS"];
    output.list(&columns, &entries, |entry| {
        let outcome = if entry.count == 1 {
            entry.outcome.to_string()
        } else {
            format!("{} x{}", entry.outcome, entry.count)
        };
        let details: Vec<_> = entry.details.iter().map(|(name, text)| format!("{name}={text}")).collect();
        vec![
            cell(moment::local(entry.at)),
            cell(who(entry)),
            cell(entry.from.as_deref().unwrap_or_default()),
            cell(&*entry.action),
            cell(outcome),
            cell(entry.sn.as_deref().unwrap_or_default()),
            cell(&*entry.object),
            cell(details.join(" ")),
        ]
    })?;
    if cursor.is_some() && !output.json {
        output.note(&format!("the newest {} are shown; --limit shows more", entries.len()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Who it was: the name, with kind and number where there is one.
fn who(entry: &AuditEntry) -> String {
    let by = &entry.by;
    match (by.id, by.name.is_empty()) {
        (0, true) => by.kind.to_string(),
        (0, false) => format!("{} ({})", by.name, by.kind),
        (id, _) => format!("{} ({} {id})", by.name, by.kind),
    }
}
