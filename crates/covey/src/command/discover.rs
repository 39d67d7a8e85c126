//! `covey discover`, and `--discover` of other commands: servers that announce themselves on the local network. What was
//! found is a place to connect to; whoever is there must prove itself by the CA that the caller has.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use covey_client::{Client, Error};
use covey_discovery::found::is_local;
use covey_discovery::{
    Found, Kind, LOOK_MS, LOOK_MS_MAX, Looked, NotChosen, choose, fingerprints, look, reachable,
};
use serde::Serialize;

use crate::command::connection::{Target, read_ca, shell_word};
use crate::command::output::{Output, cell};
use crate::fault;

/// What stands for whichever server there is.
pub const ANY: &str = "any";
/// How much of a fingerprint a table shows, in characters.
const FINGERPRINT_SHOWN: usize = 16;

/// `covey discover`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    covey discover --ca ca.pem\n  \
    covey task list --discover --ca ca.pem --key KEY           the only server with that CA\n  \
    covey task list --discover=attic --ca ca.pem --key KEY     one of several\n\n\
    A server announces itself with: covey up --mdns. What is listed is what it says of itself; a command with --discover \
    speaks to it only if it proves itself by the CA certificate (--ca). docs/discovery.md says more.")]
pub struct DiscoverArgs {
    /// CA certificate (PEM), to say which of them announce it
    #[arg(long, env = "COVEY_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How long to wait for answers, in seconds
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=300))]
    seconds: u16,
    /// Print JSON for programs: one line for each server
    #[arg(long)]
    json: bool,
}

/// A server as it is listed.
#[derive(Serialize)]
struct Listed {
    name: String,
    url: String,
    addresses: Vec<String>,
    version: Option<String>,
    /// The fingerprint of its CA, as it announces it.
    ca_sha256: Option<String>,
    /// Whether that is the CA that was given.
    announces_ca: Option<bool>,
    node_broker_port: Option<u16>,
}

impl Listed {
    fn new(found: &Found, trusted: Option<&[String]>) -> Self {
        let text = |key: &str| found.txt(key).map(str::to_owned);
        let ca = text("ca");
        let at: Vec<_> =
            found.addresses.iter().map(|address| SocketAddr::new(*address, found.port).to_string()).collect();
        Self {
            name: found.name.clone(),
            url: at.first().map(|address| format!("https://{address}")).unwrap_or_default(),
            addresses: at,
            version: text("version"),
            announces_ca: trusted.map(|trusted| ca.as_ref().is_some_and(|ca| trusted.contains(ca))),
            ca_sha256: ca,
            node_broker_port: broker_port(found),
        }
    }
}

fn broker_port(found: &Found) -> Option<u16> {
    found.txt("broker")?.parse().ok().filter(|port| *port > 0)
}

/// Runs `covey discover`.
pub async fn run(args: DiscoverArgs) -> Result<ExitCode> {
    let output = Output::new(args.json);
    let ca = args.ca.as_deref().filter(|path| !path.as_os_str().is_empty());
    let trusted = ca.map(|ca| trusted(&read_ca(ca)?, ca)).transpose()?;
    let span = Duration::from_secs(args.seconds.into());
    let looked = look(Kind::Covey, span, span, is_local, |_| false).await.map_err(not_here)?;
    tell_refused(&looked, output);
    let listed: Vec<_> = looked.found.iter().map(|found| Listed::new(found, trusted.as_deref())).collect();
    if listed.is_empty() {
        output.note(&NotChosen::Nobody.to_string());
        if !output.json {
            return Ok(ExitCode::SUCCESS);
        }
    }
    output.list(&["NAME", "URL", "VERSION", "CA", "YOUR CA"], &listed, |server| {
        let ca = server.ca_sha256.as_deref().unwrap_or_default();
        let is_ours = server.announces_ca.map(|is_ours| if is_ours { "yes" } else { "no" });
        vec![
            cell(&server.name),
            cell(&server.url),
            cell(server.version.as_deref().unwrap_or_default()),
            cell(ca.get(..FINGERPRINT_SHOWN).unwrap_or(ca)),
            cell(is_ours.unwrap_or_default()),
        ]
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The same target, with the address of the server that was found where one is to be found.
pub async fn settle(mut target: Target) -> Result<Target> {
    let is_given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if is_given(&target.url) {
        target.discover = None;
    }
    let Some(wanted) = target.discover.take().filter(|name| !name.is_empty()) else { return Ok(target) };
    if !is_given(&target.key) {
        return Err(fault::setup(
            "give the API key of the server that is to be found with --key or COVEY_KEY",
        ));
    }
    let (_, address) = prove(&wanted, target.ca.as_deref(), Output::new(target.json)).await?;
    target.url = Some(format!("https://{address}"));
    Ok(target)
}

/// Finds the node broker of a server that is there, which has proven itself, as `ws://host:port/gw`.
pub async fn node_broker(wanted: &str, ca: Option<&Path>) -> Result<String> {
    let (found, address) = prove(wanted, ca, Output::new(false)).await?;
    let port = broker_port(&found).ok_or_else(|| {
        fault::setup(format!(
            "the server {} announces no node broker: start it with --node-broker 0.0.0.0:8000 --node-keys FILE",
            found.name
        ))
    })?;
    Ok(format!("ws://{}/gw", SocketAddr::new(address.ip(), port)))
}

/// Finds a server, and has it prove itself by a certificate of the CA for its address.
async fn prove(wanted: &str, ca: Option<&Path>, output: Output) -> Result<(Found, SocketAddr)> {
    let Some(ca) = ca.filter(|path| !path.as_os_str().is_empty()) else {
        return Err(fault::setup(
            "give the CA certificate of the server with --ca: whoever is found must prove itself by it. A Covey server \
             keeps it in pki/ca.pem of its data directory; \"covey discover\" lists who is there",
        ));
    };
    let pem = read_ca(ca)?;
    let trusted = trusted(&pem, ca)?;
    let name = (wanted != ANY).then_some(wanted);
    let is_wanted = |found: &Found| name.is_some_and(|name| name.to_lowercase() == found.name.to_lowercase());
    let (at_least, at_most) = (Duration::from_millis(LOOK_MS), Duration::from_millis(LOOK_MS_MAX));
    let looked = look(Kind::Covey, at_least, at_most, is_local, is_wanted).await.map_err(not_here)?;
    tell_refused(&looked, output);
    let found = choose(&looked.found, name, &trusted).map_err(|why| match why {
        NotChosen::Several { ref names } => {
            let first = names.first().map(|name| shell_word(name)).unwrap_or_default();
            fault::setup(format!("{why}; such as --discover={first}"))
        }
        why => fault::setup(why),
    })?;
    let shown = ca.display();
    let address = reachable(found).await.ok_or_else(|| {
        let at: Vec<_> = found.addresses.iter().map(ToString::to_string).collect();
        fault::setup(format!(
            "the server {} announces port {} at {}, and nobody answers there",
            found.name,
            found.port,
            at.join(", ")
        ))
    })?;
    let client = Client::new(&format!("https://{address}"), "", Some(&pem)).map_err(fault::setup)?;
    match client.ready().await {
        Err(Error::Untrusted { .. }) => Err(fault::setup(format!(
            "{address}, which announces itself as {}, does not prove itself by {shown}: nothing was sent. It is another \
             server, or somebody who pretends to be one",
            found.name
        ))),
        Err(error @ (Error::Unreachable { .. } | Error::Interrupted { .. })) => {
            Err(anyhow!(error).context(format!("the server {} cannot be asked", found.name)))
        }
        // Whatever it says: it has the certificate.
        _ => Ok((found.clone(), address)),
    }
}

fn trusted(pem: &str, ca: &Path) -> Result<Vec<String>> {
    fingerprints(pem.as_bytes()).map_err(|error| fault::setup(format!("{}: {error}", ca.display())))
}

fn not_here(error: covey_discovery::DiscoveryError) -> anyhow::Error {
    let because = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    fault::setup(format!("{error}{because}: give the address of the server with --url"))
}

fn tell_refused(looked: &Looked, output: Output) {
    for refused in &looked.refused {
        let at = refused.address.map(|address| format!(" at {address}")).unwrap_or_default();
        output.note(&format!("an answer was refused: \"{}\"{at}: {}", refused.name, refused.why));
    }
    let untold = looked.refused_count.saturating_sub(looked.refused.len() as u64);
    if untold > 0 {
        output.note(&format!("{untold} more answers were refused"));
    }
}
