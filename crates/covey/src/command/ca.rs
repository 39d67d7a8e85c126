//! `covey ca`: a root that is kept offline, an issuing CA that takes the place of another one, and CAs of others. Nothing here speaks to a
//! server: what goes to another machine goes as a file.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use covey_pki::{Authority, CaOverview, CertificateLifetimes};
use time::OffsetDateTime;

use crate::fault;

/// Largest file that is read: a certificate has a thousandth of it.
/// Limit for each file: it is refused.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// `covey ca`.
#[derive(Args)]
pub struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(Subcommand)]
enum CaCommand {
    /// Make a root alone, on a machine that signs issuing CAs and does nothing else
    #[command(after_help = "Example, on the offline machine: covey ca root --out ./root\n\
        Whoever has ca.key can make certificates that every device and server of the deployment trusts.")]
    Root {
        /// The folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Make the key of an issuing CA, and the request that goes to the root
    ///
    /// For a deployment that has none yet, or for one whose issuing CA another is to take the place of. The server may run:
    /// nothing changes before covey ca install.
    #[command(after_help = "Example: covey ca init --offline-root --pki ./covey-data/pki")]
    Init {
        /// The root's key is on another machine, which signs the request. Without it make the whole CA: covey pki init
        #[arg(long, required = true)]
        offline_root: bool,
        /// The folder of the CA: pki in the data directory of a server
        #[arg(long, value_name = "DIR")]
        pki: PathBuf,
    },
    /// Sign the request of an issuing CA, where the root's key is
    #[command(
        after_help = "Example, on the offline machine: covey ca sign issuing-next.csr --root ./root --out issuing.pem"
    )]
    Sign {
        /// The request
        #[arg(value_name = "FILE")]
        request: PathBuf,
        /// The folder with the root: ca.pem and ca.key
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// The file to write: the issuing CA's certificate and the root's
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Take the certificate that came back: from the next start on the server signs with it
    ///
    /// What the issuing CA of before has signed stays good until that one's end: it goes to former.pem and former.key.
    #[command(after_help = "Example: covey ca install issuing.pem --pki ./covey-data/pki\n\
        Then start the server again; of several servers one after the other, each with the same files in pki.")]
    Install {
        /// What covey ca sign has written
        #[arg(value_name = "FILE")]
        certificate: PathBuf,
        /// The folder of the CA
        #[arg(long, value_name = "DIR")]
        pki: PathBuf,
    },
    /// Trust a CA of others, for the devices that are registered under it and for nobody else
    ///
    /// Then start the server again, and register devices with covey device add --ca NAME --certificate FILE. For the broker in
    /// the server: brokers of others know names and not CAs, so do not let them trust it.
    #[command(after_help = "Example: covey ca import old-ca.pem --name old --pki ./covey-data/pki")]
    Import {
        /// The certificate of the CA, in PEM
        #[arg(value_name = "FILE")]
        certificate: PathBuf,
        /// What it is to be called: small letters, digits and -
        #[arg(long)]
        name: String,
        /// The folder of the CA: pki in the data directory of each server
        #[arg(long, value_name = "DIR")]
        pki: PathBuf,
    },
    /// Trust a CA of others no more: from the next start on none of its devices is let in
    #[command(after_help = "Example: covey ca remove old --pki ./covey-data/pki")]
    Remove {
        /// Its name
        name: String,
        /// The folder of the CA
        #[arg(long, value_name = "DIR")]
        pki: PathBuf,
    },
    /// Show root, issuing CA, those of before and those of others, with their ends
    #[command(after_help = "Example: covey ca list --pki ./covey-data/pki")]
    List {
        /// The folder of the CA
        #[arg(long, value_name = "DIR")]
        pki: PathBuf,
        /// Print JSON: a line for each
        #[arg(long)]
        json: bool,
    },
}

/// Runs `covey ca`.
pub fn run(args: CaArgs) -> Result<()> {
    let (now, lifetimes) = (OffsetDateTime::now_utc(), CertificateLifetimes::default());
    match args.command {
        CaCommand::Root { out } => {
            Authority::create_root(&out, lifetimes, now).map_err(fault::setup)?;
            println!("a new root is in {}; keep ca.key offline and secret", out.display());
        }
        CaCommand::Init { offline_root: _, pki } => {
            let request = Authority::request_issuing(&pki).map_err(fault::setup)?;
            println!("carry {} to the machine with the root, and there: covey ca sign", request.display());
        }
        CaCommand::Sign { request, root, out } => {
            let signed =
                Authority::sign_issuing(&root, &read(&request)?, lifetimes, now).map_err(fault::setup)?;
            write(&out, &signed)?;
            println!("carry {} back, and there: covey ca install", out.display());
        }
        CaCommand::Install { certificate, pki } => {
            Authority::install_issuing(&pki, &read(&certificate)?, now).map_err(fault::setup)?;
            println!("the issuing CA is in {}; start the server again", pki.display());
        }
        CaCommand::Import { certificate, name, pki } => {
            let ca = Authority::import_ca(&pki, &name, &read(&certificate)?, now).map_err(fault::setup)?;
            println!(
                "{} is trusted as {name} until {}; start the server again",
                ca.subject,
                ca.not_after().date()
            );
        }
        CaCommand::Remove { name, pki } => {
            if !Authority::remove_ca(&pki, &name).map_err(fault::setup)? {
                return Err(fault::setup(format!("no CA is imported as {name:?} in {}", pki.display())));
            }
            println!("{name} is trusted no more; start the server again");
        }
        CaCommand::List { pki, json } => list(&pki, json, now)?,
    }
    Ok(())
}

fn list(pki: &Path, as_json: bool, now: OffsetDateTime) -> Result<()> {
    if !pki.join("ca.pem").exists() {
        return Err(fault::setup(format!("there is no CA in {}", pki.display())));
    }
    let found = Authority::overview(pki, now).map_err(fault::setup)?;
    for CaOverview { role, name, fingerprint_sha256, not_after, has_key } in found {
        if as_json {
            let line = serde_json::json!({
                "role": role, "name": name, "sha256": fingerprint_sha256, "has_key": has_key,
                "expires_at": covey_client::Time(not_after.unix_timestamp() * 1_000),
            });
            println!("{line}");
        } else {
            let key = if has_key { "its key is here" } else { "its key is not here" };
            println!("{role:8} {name}, until {}, {key}\n         {fingerprint_sha256}", not_after.date());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    let cannot = |problem: String| fault::setup(format!("cannot read {}: {problem}", path.display()));
    let bytes = fs::metadata(path).map_err(|error| cannot(error.to_string()))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(cannot("it is larger than any certificate".to_owned()));
    }
    fs::read_to_string(path).map_err(|error| cannot(error.to_string()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let written =
        OpenOptions::new().create_new(true).write(true).mode(0o644).open(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| fault::setup(format!("cannot write {}: {error}", path.display())))
}
