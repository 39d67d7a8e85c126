//! `covey cert`: the certificates of devices.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use covey_client::{Certificate, CertificateFilter, PageRequest, RevocationNew};
use covey_core::certificate::{CertificateState, RevocationReason};
use covey_sim::parse_duration;

use crate::command::connection::{Connection, Target};
use crate::command::device::DeviceName;
use crate::command::moment;
use crate::command::output::cell;

/// `covey cert`.
#[derive(Args)]
pub struct CertArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Subcommand)]
enum CertCommand {
    /// List certificates of devices, those that end first in front
    #[command(after_help = "Examples:\n  \
        covey cert list --state valid --expires-within 30d\n  \
        covey cert list --sn lamp-1 --json | jq -r .serial")]
    List(ListArgs),
    /// Show a certificate
    #[command(
        after_help = "Example: covey cert show $(openssl x509 -in cert.pem -noout -serial | cut -d= -f2)"
    )]
    Show {
        /// Its serial number in hexadecimal digits
        #[arg(value_name = "SERIAL")]
        serial: String,
    },
    /// Revoke a certificate, or with --device all of a device: its holder is cut off and not let in again
    ///
    /// Other certificates of the device stay valid, and the device stays registered. It cannot be taken back. With the reason
    /// key_compromise those are revoked, too, that were got by showing it (renewed), and by showing these.
    #[command(after_help = "Examples:\n  \
        covey cert revoke 5f0c2b7a9d3e41c68b12f7a0c4d5e6f7 --reason key_compromise\n  \
        covey cert revoke --device lamp-1 --reason superseded")]
    Revoke(RevokeArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Only those of the device with this serial number, also where it was registered before
    #[arg(long)]
    sn: Option<String>,
    /// Only those in this state
    #[arg(long, value_parser = PossibleValuesParser::new(CertificateState::NAMES.map(|(_, name)| name)))]
    state: Option<String>,
    /// Only those that end within this time, such as 12h or 90d; those that have ended, too
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expires_within: Option<Duration>,
    /// Number of the page
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,
    /// Certificates per page
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    size: u32,
}

#[derive(Args)]
struct RevokeArgs {
    /// Its serial number in hexadecimal digits
    #[arg(value_name = "SERIAL", required_unless_present = "device", conflicts_with = "device")]
    serial: Option<String>,
    /// All certificates of this device: its serial number, or number; sn:… and id:… say which of the two is meant
    #[arg(long, value_name = "SN|ID")]
    device: Option<DeviceName>,
    /// Why, in the words of RFC 5280
    #[arg(
        long,
        default_value = RevocationReason::Unspecified.name(),
        value_parser = PossibleValuesParser::new(RevocationReason::NAMES.map(|(_, name)| name))
    )]
    reason: String,
}

/// Runs `covey cert`.
pub async fn run(args: CertArgs, connection: &Connection) -> Result<ExitCode> {
    match args.command {
        CertCommand::List(args) => list(connection, args).await?,
        CertCommand::Show { serial } => {
            show(connection, &connection.client.certificate(&serial).await.map_err(unknown(&serial))?)?;
        }
        CertCommand::Revoke(args) => revoke(connection, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(connection: &Connection, args: ListArgs) -> Result<()> {
    let filter = CertificateFilter {
        sn: args.sn,
        state: args.state,
        expires_before: args.expires_within.map(moment::after),
        ..CertificateFilter::default()
    };
    let page = PageRequest { page: args.page, size: args.size };
    let found = connection.client.certificate_list(&filter, page).await?;
    let columns = ["SERIAL", "SN", "STATE", "ISSUED", "EXPIRES", "REVOKED", "REASON"];
    connection.output.list(&columns, &found.items, |one| {
        vec![
            cell(&*one.serial),
            cell(&*one.sn),
            cell(&*one.state),
            cell(moment::of(one.issued_at)),
            cell(moment::of(one.expires_at)),
            cell(one.revoked_at.map(moment::of).unwrap_or_default()),
            cell(one.reason.as_deref().unwrap_or_default()),
        ]
    })?;
    let shown = found.items.len() as u64;
    if let Some(total) = found.total.filter(|total| *total > shown) {
        connection.output.note(&format!("{shown} of {total} certificates; --page and --size show others"));
    }
    Ok(())
}

fn show(connection: &Connection, certificate: &Certificate) -> Result<()> {
    if connection.output.json {
        return Ok(connection.output.json(certificate)?);
    }
    let mut lines = vec![
        format!("serial   {}", certificate.serial),
        format!("device   {} (number {})", certificate.sn, certificate.device_id),
        format!("state    {}", certificate.state),
        format!("issued   {}", moment::of(certificate.issued_at)),
        format!("expires  {}", moment::of(certificate.expires_at)),
    ];
    if let (Some(at), Some(reason)) = (certificate.revoked_at, &certificate.reason) {
        lines.push(format!("revoked  {}, {reason}", moment::of(at)));
    }
    Ok(connection.output.text(&lines.join("\n"))?)
}

async fn revoke(connection: &Connection, args: RevokeArgs) -> Result<()> {
    let request = RevocationNew { reason: Some(args.reason) };
    if let Some(serial) = args.serial {
        let revoked = connection.client.certificate_revoke(&serial, &request).await;
        return show(connection, &revoked.map_err(unknown(&serial))?);
    }
    let Some(device) = args.device else {
        return Err(anyhow!("name a certificate, or a device with --device"));
    };
    let found = device.find(connection).await?;
    let revoked = connection.client.device_certificates_revoke(found.device_id, &request).await?;
    if connection.output.json {
        return Ok(connection.output.json(&revoked)?);
    }
    let text = match revoked.serials.len() {
        0 => format!("{} has no certificate that was not revoked before", revoked.sn),
        count => format!("{count} of {} revoked: {}", revoked.sn, revoked.serials.join(" ")),
    };
    Ok(connection.output.text(&text)?)
}

fn unknown(serial: &str) -> impl FnOnce(covey_client::Error) -> anyhow::Error {
    let serial = serial.to_owned();
    move |error| match error {
        error if error.is_not_found() => {
            anyhow!("no certificate of a device has the serial number {serial:?}")
        }
        error => error.into(),
    }
}
