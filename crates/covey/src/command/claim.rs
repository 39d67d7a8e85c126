//! `covey claim`: claims, by which the devices of a production enrol.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use covey_client::{Claim, ClaimMade, ClaimNew, ClaimSerialsNew, PageRequest, Time, Whole};
use covey_sim::parse_duration;
use serde_json::json;

use crate::command::connection::{Connection, Target};
use crate::command::device::{CA_FILE, CERTIFICATE_FILE, IdentityFolder, KEY_FILE};
use crate::command::moment;
use crate::command::output::{cell, printable};
use crate::fault;

/// How many serial numbers are sent at a time.
const SERIALS_AT_ONCE: usize = 2_000;

/// `covey claim`.
#[derive(Args)]
pub struct ClaimArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: ClaimCommand,
}

#[derive(Subcommand)]
enum ClaimCommand {
    /// Make a claim: one certificate with its key for a whole production, which may enrol devices and do nothing else
    ///
    /// A device shows it over EST, with a request for a key of its own, and gets its own certificate
    /// (docs/certificates.md). Each serial number enrols once, unless it is released.
    #[command(after_help = "Examples:\n  \
        covey claim add 'line 4' --serials serials.txt --expires 90d --out ./claim\n  \
        covey claim add 'line 5' --serial 'LAMP-*' --limit 500 --expires 30d --out ./claim\n\n\
        Writes ca.pem, cert.pem and key.pem. The key is shown once and kept nowhere else.")]
    Add(AddArgs),
    /// List claims
    #[command(after_help = "Example: covey claim list --json | jq -r .name")]
    List(Paging),
    /// List the serial numbers of a claim, with the devices that have enrolled
    #[command(after_help = "Example: covey claim serials 1 --json | jq -r 'select(.used_at == null).sn'")]
    Serials {
        /// The claim's number
        #[arg(value_name = "CLAIM")]
        id: i64,
        #[command(flatten)]
        paging: Paging,
    },
    /// List more serial numbers that may enrol
    #[command(after_help = "Example: covey claim allow 1 --serials more.txt")]
    Allow {
        /// The claim's number
        #[arg(value_name = "CLAIM")]
        id: i64,
        /// File with a serial number a line; - reads standard input
        #[arg(long, value_name = "FILE")]
        serials: PathBuf,
    },
    /// Let a serial number enrol once more, such as that of a device that was repaired
    #[command(after_help = "Example: covey claim release 1 LAMP-0007\n\
        With its next enrolment the certificates are revoked that it had before.")]
    Release {
        /// The claim's number
        #[arg(value_name = "CLAIM")]
        id: i64,
        /// The serial number
        sn: String,
    },
    /// Revoke a claim: nobody enrols by it any more; the devices that have stay
    #[command(after_help = "Example: covey claim rm 1")]
    Rm {
        /// The claim's number
        #[arg(value_name = "CLAIM")]
        id: i64,
    },
}

#[derive(Args)]
struct AddArgs {
    /// What it is to be called
    name: String,
    /// File with a serial number a line; - reads standard input
    #[arg(long, value_name = "FILE", required_unless_present = "serial")]
    serials: Option<PathBuf>,
    /// Serial numbers that may enrol beside those: * stands for any number of characters, ? for one
    #[arg(long, value_name = "PATTERN", requires = "limit")]
    serial: Option<String>,
    /// How many devices it is for [default: as many as are listed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    limit: Option<i64>,
    /// After which time its certificate ends, such as 12h or 90d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    expires: Duration,
    /// Folder for ca.pem, cert.pem and key.pem, made if missing, readable for you alone
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
struct Paging {
    /// Number of the page
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,
    /// Entries per page
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    size: u32,
}

impl From<Paging> for PageRequest {
    fn from(Paging { page, size }: Paging) -> Self {
        Self { page, size }
    }
}

/// Runs `covey claim`.
pub async fn run(args: ClaimArgs, connection: &Connection) -> Result<ExitCode> {
    let (client, output) = (&connection.client, connection.output);
    match args.command {
        ClaimCommand::Add(args) => add(args, connection).await?,
        ClaimCommand::List(paging) => list(paging.into(), connection).await?,
        ClaimCommand::Serials { id, paging } => serials(id, paging.into(), connection).await?,
        ClaimCommand::Allow { id, serials } => {
            let serials = read_serials(&serials)?;
            let added =
                allow(connection, id, &serials).await.map_err(|error| explained(error, id, connection))?;
            if output.json {
                output.json(&json!({"added": added}))?;
            } else {
                output.text(&format!("{added} serial numbers more may enrol"))?;
            }
        }
        ClaimCommand::Release { id, sn } => {
            let released = client.claim_serial_release(id, &sn).await;
            released.map_err(|error| explained(error, id, connection))?;
            if output.json {
                output.json(&json!({"sn": sn}))?;
            } else {
                output.text(&format!("{} may enrol once more", printable(&sn)))?;
            }
        }
        ClaimCommand::Rm { id } => {
            let claim = client.claim_revoke(id).await.map_err(|error| explained(error, id, connection))?;
            if output.json {
                output.json(&claim)?;
            } else {
                output.text(&format!("{} (number {id}) is revoked", printable(&claim.name)))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a refusal means for this claim.
fn explained(error: covey_client::Error, id: i64, connection: &Connection) -> anyhow::Error {
    if error.is_not_found() {
        let list = connection.command("claim list");
        return anyhow!(
            "{error}: \"{list}\" and \"{}\" show what there is",
            connection.command(&format!("claim serials {id}"))
        );
    }
    error.into()
}

async fn add(args: AddArgs, connection: &Connection) -> Result<()> {
    let serials = args.serials.as_deref().map(read_serials).transpose()?.unwrap_or_default();
    let names = [CA_FILE, CERTIFICATE_FILE, KEY_FILE];
    let folder = IdentityFolder::reserve(&args.out, &names, args.force).map_err(fault::setup)?;
    let (first, rest) = serials.split_at(serials.len().min(SERIALS_AT_ONCE));
    let request = ClaimNew {
        name: args.name,
        serials: first.to_vec(),
        pattern: args.serial,
        // Also of those that are sent after the first.
        limit: args.limit.or_else(|| i64::try_from(serials.len()).ok()).map(Whole),
        expires_at: moment::after(args.expires),
    };
    let made = connection.client.claim_add(&request).await?;
    let id = made.claim.id;
    folder.write(&[
        (CA_FILE, made.ca_pem.as_bytes()),
        (CERTIFICATE_FILE, made.certificate_pem.as_bytes()),
        (KEY_FILE, made.private_key_pem.as_bytes()),
    ])?;
    allow(connection, id, rest).await.map_err(|error| {
        anyhow!(
            "{error}: the claim is made, and not all serial numbers are listed; give them again with \"{}\"",
            connection.command(&format!("claim allow {id} --serials FILE"))
        )
    })?;
    tell_made(connection, &made, &args.out)
}

fn tell_made(connection: &Connection, made: &ClaimMade, out: &Path) -> Result<()> {
    let (claim, output) = (&made.claim, connection.output);
    if output.json {
        return Ok(output.json(&json!({"claim": claim, "out": out}))?);
    }
    output.text(&format!(
        "{} is claim number {}, for {} devices, until {}; in {}: {CA_FILE}, {CERTIFICATE_FILE}, {KEY_FILE}",
        printable(&claim.name),
        claim.id,
        claim.limit,
        moment::of(claim.expires_at),
        out.display()
    ))?;
    Ok(())
}

/// Lists serial numbers, some at a time; answers how many are new.
async fn allow(connection: &Connection, id: i64, serials: &[String]) -> covey_client::Result<u64> {
    let mut added = 0;
    for some in serials.chunks(SERIALS_AT_ONCE) {
        let request = ClaimSerialsNew { serials: some.to_vec() };
        added += u64::from(connection.client.claim_serials_add(id, &request).await?);
    }
    Ok(added)
}

/// A serial number a line, without blank lines; each once.
fn read_serials(path: &Path) -> Result<Vec<String>> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        fs::read_to_string(path)
    };
    let text = text.map_err(|error| {
        fault::setup(format!("cannot read the serial numbers in {}: {error}", path.display()))
    })?;
    let mut known = HashSet::new();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && known.insert(*line));
    let serials: Vec<_> = lines.map(str::to_owned).collect();
    if serials.is_empty() {
        return Err(fault::setup(format!("there is no serial number in {}", path.display())));
    }
    Ok(serials)
}

async fn list(page: PageRequest, connection: &Connection) -> Result<()> {
    let found = connection.client.claim_list(page).await?;
    let output = connection.output;
    if found.items.is_empty() && !output.json {
        output.note("no claims: covey claim add NAME --serials FILE --expires 90d --out DIR");
        return Ok(());
    }
    let columns = ["ID", "NAME", "PATTERN", "USED", "LIMIT", "UNTIL", "REVOKED"];
    output.list(&columns, &found.items, |claim: &Claim| {
        vec![
            cell(claim.id.to_string()),
            cell(&*claim.name),
            cell(claim.pattern.as_deref().unwrap_or_default()),
            cell(claim.used.to_string()),
            cell(claim.limit.to_string()),
            cell(moment::of(claim.expires_at)),
            cell(shown(claim.revoked_at)),
        ]
    })?;
    remark(connection, found.items.len(), found.total, "claims");
    Ok(())
}

async fn serials(id: i64, page: PageRequest, connection: &Connection) -> Result<()> {
    let found = connection.client.claim_serial_list(id, page).await;
    let found = found.map_err(|error| explained(error, id, connection))?;
    let columns = ["SN", "DEVICE", "ENROLLED", "RELEASED"];
    connection.output.list(&columns, &found.items, |serial| {
        vec![
            cell(&*serial.sn),
            cell(serial.device_id.map(|id| id.to_string()).unwrap_or_default()),
            cell(shown(serial.used_at)),
            cell(shown(serial.released_at)),
        ]
    })?;
    remark(connection, found.items.len(), found.total, "serial numbers");
    Ok(())
}

fn shown(at: Option<Time>) -> String {
    at.map(moment::of).unwrap_or_default()
}

/// Says that there are more.
fn remark(connection: &Connection, shown: usize, total: u64, what: &str) {
    if total > shown as u64 && !connection.output.json {
        connection.output.note(&format!("{shown} of {total} {what}; --page and --size show others"));
    }
}
