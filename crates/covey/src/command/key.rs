//! `covey key`: API keys for applications.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use covey_client::{ApiKeyNew, Grant};
use covey_core::access::{RIGHT_NAMES, Role};
use covey_core::address::parse_range;
use covey_sim::parse_duration;

use crate::command::connection::{Connection, Target};
use crate::command::limits::{self, LimitArgs};
use crate::command::output::cell;
use crate::command::{key_fernet, key_grant, key_psk, key_recover, moment};

/// What an application needs to call devices; more must be asked for.
const RIGHTS_DEFAULT: [&str; 3] = ["tasks:read", "tasks:write", "devices:read"];

/// `covey key`.
#[derive(Args)]
pub struct KeyArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make an API key; it is printed once, and only a digest of it is kept
    ///
    /// An application sends the key in the header x-api-key. Standard output gets the key and nothing else, so
    /// that it can go straight into a file or a variable.
    #[command(after_help = "Examples:\n  \
        covey key add dashboard --right tasks:read --right devices:read\n  \
        covey key add dashboard --certificate dashboard.pem\n  \
        covey key add visitor --expires 30d --address 10.1.0.0/16\n  \
        covey key add berlin --grant 'tasks:read,tasks:write tag:site=berlin method:20' --grant 'events:read tag:site=berlin'\n  \
        COVEY_KEY=$(covey key add ci)")]
    Add {
        /// Name of the key, so that you know later what it is for
        name: String,
        /// Organisation of the key, made if it does not exist; without it, your own
        #[arg(long, value_name = "ORG")]
        org: Option<String>,
        /// A right of the key; repeat for more. Without any, without role and grants: tasks:read, tasks:write and devices:read
        #[arg(long = "right", value_name = "RIGHT", value_parser = PossibleValuesParser::new(RIGHT_NAMES))]
        rights: Vec<String>,
        /// Rights that go together: viewer, integrator, operator, or admin of the organisation
        #[arg(long, value_name = "ROLE", value_parser = PossibleValuesParser::new(Role::NAMES.map(|(_, name)| name)))]
        role: Option<String>,
        /// Rights for some devices, methods or kinds of data alone, such as "tasks:write tag:site=berlin method:20";
        /// repeat for more
        #[arg(long = "grant", value_name = "GRANT", value_parser = key_grant::parse)]
        grants: Vec<Grant>,
        /// The same for many: a file with a JSON array, as the REST API takes it
        #[arg(long, value_name = "FILE")]
        grants_file: Option<PathBuf>,
        /// Register this client certificate (PEM) in place of a key: whoever shows it over HTTPS and holds its
        /// private key is let in. Standard output gets nothing then
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// After which time the key is not valid any more, such as 12h or 90d; without it, it does not expire
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        expires: Option<Duration>,
        /// An address, or a range such as 10.1.0.0/16, from which the key is valid; repeat for more. Without any: from
        /// anywhere
        #[arg(long = "address", value_name = "RANGE", value_parser = address_range)]
        addresses: Vec<String>,
    },
    /// List API keys with their rights and last use (never the keys themselves)
    #[command(after_help = "Example: covey key list")]
    List,
    /// Show and set limits of a key's own, none above that of its organisation
    ///
    /// They hold within two seconds on all servers.
    #[command(after_help = "Examples:\n  \
        covey key limit 3\n  \
        covey key limit 3 --requests-per-s 20 --streams 5\n  \
        covey key limit 3 --streams default")]
    Limit {
        /// Its number
        #[arg(value_name = "ID")]
        id: i64,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// Revoke an API key: within a second no server accepts it any more
    #[command(after_help = "Example: covey key rm 3   (the number is the one that covey key list shows)")]
    Rm {
        /// Its number
        #[arg(value_name = "ID")]
        id: i64,
    },
    /// Make a key with all rights where all of them are lost; the server must be stopped
    ///
    /// Whoever can write the data directory, or has the address of the PostgreSQL store, may do so. All other
    /// keys with keys:write or orgs:admin are revoked: whoever found a lost one cannot go on with it.
    #[command(after_help = key_recover::EXAMPLES)]
    Recover(key_recover::RecoverArgs),
    /// Make the key file that a node broker and its gateways share
    #[command(after_help = key_fernet::EXAMPLES)]
    Fernet(key_fernet::FernetArgs),
    /// Make a pre-shared key of a CoAP node over DTLS, and add it to a key file
    #[command(after_help = key_psk::EXAMPLES)]
    Psk(key_psk::PskArgs),
}

impl KeyArgs {
    /// What is to be done without a server, if it is that.
    pub fn recovery(&self) -> Option<&key_recover::RecoverArgs> {
        if let KeyCommand::Recover(args) = &self.command { Some(args) } else { None }
    }

    /// The same for a key file.
    pub fn fernet(&self) -> Option<&key_fernet::FernetArgs> {
        if let KeyCommand::Fernet(args) = &self.command { Some(args) } else { None }
    }

    /// The same for a pre-shared key.
    pub fn psk(&self) -> Option<&key_psk::PskArgs> {
        if let KeyCommand::Psk(args) = &self.command { Some(args) } else { None }
    }
}

/// Runs `covey key`.
pub async fn run(args: KeyArgs, connection: &Connection) -> Result<ExitCode> {
    let KeyArgs { target, command } = args;
    match command {
        KeyCommand::Add {
            name,
            org,
            rights,
            role,
            mut grants,
            grants_file,
            certificate,
            expires,
            addresses,
        } => {
            if let Some(file) = &grants_file {
                grants.extend(key_grant::read(file)?);
            }
            let is_bare = rights.is_empty() && role.is_none() && grants.is_empty();
            let rights = if is_bare { RIGHTS_DEFAULT.map(str::to_owned).to_vec() } else { rights };
            let certificate_pem = certificate.as_deref().map(read_certificate).transpose()?;
            let expires_at = expires.map(moment::after);
            let request =
                ApiKeyNew { name, org, rights, role, grants, certificate_pem, expires_at, addresses };
            add(connection, request).await?;
        }
        KeyCommand::List => list(connection).await?,
        KeyCommand::Limit { id, limits } => limits::run_key(connection, id, &limits).await?,
        KeyCommand::Rm { id } => rm(connection, id).await?,
        KeyCommand::Recover(args) => return key_recover::run(&args, &target).await,
        KeyCommand::Fernet(args) => return key_fernet::run(&args, target.json),
        KeyCommand::Psk(args) => return key_psk::run(&args, target.json),
    }
    Ok(ExitCode::SUCCESS)
}

/// A range of addresses, as it was said.
fn address_range(text: &str) -> Result<String, String> {
    parse_range(text)
        .map(|range| range.to_string())
        .ok_or_else(|| "must be an address, or a range such as 10.1.0.0/16".to_owned())
}

fn read_certificate(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| anyhow!("cannot read the certificate {}: {error}", path.display()))
}

async fn add(connection: &Connection, request: ApiKeyNew) -> Result<()> {
    let made = connection.client.api_key_add(&request).await?;
    let output = connection.output;
    if output.json {
        return Ok(output.json(&made)?);
    }
    let how = match (&made.key, &made.certificate_sha256) {
        (Some(key), _) => {
            output.text(key)?;
            "it is shown this once".to_owned()
        }
        (None, Some(sha256)) => format!("it is the certificate with the SHA-256 {sha256}"),
        (None, None) => return Err(anyhow!("the server answered neither a key nor a certificate")),
    };
    let key = &made;
    output.note(&format!(
        "key {} of {} may {}; {how}. Revoke it with: {}",
        key.id,
        key.org,
        key_grant::shown(&key.rights, &key.grants),
        connection.command(&format!("key rm {}", key.id))
    ));
    Ok(())
}

async fn list(connection: &Connection) -> Result<()> {
    let keys = connection.client.api_key_list().await?;
    let columns = ["ID", "NAME", "ORG", "MADE", "USED", "EXPIRES", "FROM", "RIGHTS"];
    Ok(connection.output.list(&columns, &keys, |key| {
        vec![
            cell(key.id.to_string()),
            cell(&*key.name),
            cell(&*key.org),
            cell(moment::of(key.created_at)),
            cell(key.last_used_at.map_or_else(|| "never".to_owned(), moment::of)),
            cell(key.expires_at.map_or_else(|| "never".to_owned(), moment::of)),
            cell(if key.addresses.is_empty() { "anywhere".to_owned() } else { key.addresses.join(" ") }),
            cell(key_grant::shown(&key.rights, &key.grants)),
        ]
    })?)
}

async fn rm(connection: &Connection, id: i64) -> Result<()> {
    connection.client.api_key_revoke(id).await.map_err(|error| match error {
        error if error.is_not_found() => {
            anyhow!("there is no key {id}: \"{}\" shows those that there are", connection.command("key list"))
        }
        error => error.into(),
    })?;
    if connection.output.json {
        connection.output.json(&serde_json::json!({"id": id, "revoked": true}))?;
    } else {
        connection.output.text(&format!("key {id} is revoked"))?;
    }
    Ok(())
}
