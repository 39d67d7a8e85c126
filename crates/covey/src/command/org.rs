//! `covey org`: organisations.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use covey_client::{Org, PageRequest};

use crate::command::connection::{Connection, Target};
use crate::command::limits::{self, OrgLimitArgs};
use crate::command::moment;
use crate::command::output::cell;

/// How many organisations are asked for at once.
const PAGE_SIZE: u32 = 1_000;

/// `covey org`.
#[derive(Args)]
pub struct OrgArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: OrgCommand,
}

#[derive(Subcommand)]
enum OrgCommand {
    /// Make an organisation; what belongs to one does not exist for the others
    #[command(after_help = "Example: covey org add acme && covey key add admin --org acme --role admin")]
    Add {
        /// Its name, which no other has
        name: String,
    },
    /// List organisations, with how many devices and keys each has
    #[command(after_help = "Example: covey org list   (with the right orgs:admin all, else your own)")]
    List,
    /// Show and set limits of an organisation's own
    ///
    /// They hold within two seconds on all servers. Setting them needs the right orgs:admin.
    #[command(after_help = "Examples:\n  \
        covey org limit acme\n  \
        covey org limit acme --requests-per-s 200 --streams 50\n  \
        covey org limit acme --streams default")]
    Limit {
        /// Its number or its name
        #[arg(value_name = "ORG")]
        org: String,
        #[command(flatten)]
        limits: OrgLimitArgs,
    },
    /// Give an organisation another name; its devices, keys and tasks stay
    #[command(after_help = "Example: covey org rename acme acme-north")]
    Rename {
        /// Its number or its name
        #[arg(value_name = "ORG")]
        org: String,
        /// Its name from now on
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Runs `covey org`.
pub async fn run(args: OrgArgs, connection: &Connection) -> Result<ExitCode> {
    let output = connection.output;
    match args.command {
        OrgCommand::Add { name } => {
            let org = connection.client.org_add(&name).await?;
            if output.json {
                output.json(&org)?;
            } else {
                output.text(&format!("organisation {} {} is made", org.id, org.name))?;
                let first_key =
                    connection.command(&format!("key add admin --org '{}' --role admin", org.name));
                output.note(&format!("make its first key with: {first_key}"));
            }
        }
        OrgCommand::List => {
            let columns = ["ID", "NAME", "MADE", "DEVICES", "KEYS"];
            output.list(&columns, &all(connection).await?, |org| {
                vec![
                    cell(org.id.to_string()),
                    cell(&*org.name),
                    cell(moment::of(org.created_at)),
                    cell(org.devices.to_string()),
                    cell(org.keys.to_string()),
                ]
            })?;
        }
        OrgCommand::Limit { org, limits } => limits::run_org(connection, &org, &limits).await?,
        OrgCommand::Rename { org, name } => {
            let found = find(connection, &org).await?;
            let renamed = connection.client.org_rename(found.id, &name).await?;
            if output.json {
                output.json(&renamed)?;
            } else {
                output.text(&format!("organisation {} is called {} now", renamed.id, renamed.name))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The organisation with this number or name.
pub async fn find(connection: &Connection, org: &str) -> Result<Org> {
    let is_named = |known: &Org| *known.name == *org || known.id.to_string() == org;
    let found = all(connection).await?.into_iter().find(is_named);
    let list = || connection.command("org list");
    found.ok_or_else(|| anyhow!("there is no organisation {org}: see \"{}\"", list()))
}

/// All organisations that may be seen.
async fn all(connection: &Connection) -> Result<Vec<Org>> {
    let mut orgs = Vec::new();
    loop {
        let page = u32::try_from(orgs.len() / PAGE_SIZE as usize + 1)?;
        let found = connection.client.org_list(PageRequest { page, size: PAGE_SIZE }).await?;
        let is_last = found.items.len() < PAGE_SIZE as usize;
        orgs.extend(found.items);
        if is_last {
            return Ok(orgs);
        }
    }
}
