//! `covey pki`: the CA of a deployment, and certificates for what stands
//! around its servers.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use covey_pki::{Authority, CertificateLifetimes, IssuedService, ServerNames};
use time::OffsetDateTime;

use crate::fault;

/// What to do with certificates.
#[derive(Args)]
pub struct PkiArgs {
    #[command(subcommand)]
    command: PkiCommand,
}

#[derive(Subcommand)]
enum PkiCommand {
    /// Make the CA of a deployment; servers take it with --pki-from
    #[command(after_help = "Example: covey pki init --out ./covey-pki\n\
        A single server makes its own CA at the first start, in DATA/pki. You can use that folder the same way.")]
    Init {
        /// The folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Make a certificate for a broker or a proxy
    #[command(after_help = "Example: covey pki server --pki ./covey-pki --name mq.example --out ./mq-tls\n\
        Writes server.pem (leaf, then issuing CA), server.key and ca.pem (the root).")]
    Server {
        /// The folder of the CA
        #[arg(long, value_name = "DIR")]
        pki: PathBuf,
        /// A DNS name or an address of the broker or proxy; repeat for more
        #[arg(long = "name", value_name = "HOST", required = true)]
        names: Vec<String>,
        /// The folder to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Make a client certificate for a server or a proxy of the deployment
    #[command(
        after_help = "Example: covey pki client --pki ./covey-pki --name covey.proxy --out ./proxy-tls\n\
        Writes client.pem (leaf, then issuing CA), client.key and ca.pem (the root). The name has a dot, so it \
        can never be a device's serial number."
    )]
    Client {
        /// The folder of the CA
        #[arg(long, value_name = "DIR")]
        pki: PathBuf,
        /// The certificate's CommonName: covey.server for Covey at a broker, covey.proxy for a proxy
        #[arg(long, value_name = "NAME")]
        name: String,
        /// The folder to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: PkiArgs) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    match args.command {
        PkiCommand::Init { out } => {
            if out.join("ca.pem").exists() {
                let shown = out.display();
                return Err(fault::setup(format!("{shown} holds a CA already; name another folder")));
            }
            Authority::open_or_create(&out, CertificateLifetimes::default(), now).map_err(fault::setup)?;
            println!("a new CA is in {}; keep ca.key and issuing.key secret", out.display());
        }
        PkiCommand::Server { pki, names, out } => {
            let names = ServerNames::from_hosts(names.iter().map(String::as_str));
            let issued = open(&pki, now)?.issue_service_server(&names, now).map_err(fault::setup)?;
            write(&out, "server", &issued)?;
        }
        PkiCommand::Client { pki, name, out } => {
            let issued = open(&pki, now)?.issue_service_client(&name, now).map_err(fault::setup)?;
            write(&out, "client", &issued)?;
        }
    }
    Ok(())
}

fn open(pki: &Path, now: OffsetDateTime) -> Result<Authority> {
    if !pki.join("ca.pem").exists() {
        let shown = pki.display();
        return Err(fault::setup(format!(
            "there is no CA in {shown}; make one with: covey pki init --out {shown}"
        )));
    }
    Authority::open_or_create(pki, CertificateLifetimes::default(), now).map_err(fault::setup)
}

/// Writes certificate, key and root.
fn write(out: &Path, name: &str, issued: &IssuedService) -> Result<()> {
    let cannot = |error: std::io::Error| fault::setup(format!("cannot write to {}: {error}", out.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(out).map_err(cannot)?;
    for (file, text, mode) in [
        (format!("{name}.key"), issued.private_key_pem.expose(), 0o600),
        (format!("{name}.pem"), issued.certificate_pem.as_str(), 0o644),
        ("ca.pem".to_owned(), issued.ca_pem.as_str(), 0o644),
    ] {
        let unfinished = out.join(format!(".{file}.new"));
        let written = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&unfinished);
        let written = written.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&unfinished, out.join(&file))).map_err(cannot)?;
    }
    let until = OffsetDateTime::from_unix_timestamp(issued.not_after_s).map(|at| at.date().to_string());
    println!(
        "{name}.pem, {name}.key and ca.pem are in {}, valid until {}",
        out.display(),
        until.unwrap_or_default()
    );
    Ok(())
}
