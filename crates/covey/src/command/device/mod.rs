//! `covey device`: the registry of devices.

mod add;
mod bundle;
mod identity_folder;
mod many;
mod many_archive;
mod name;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use covey_client::{DeviceFilter, PageRequest, Tag};

use crate::command::connection::{Connection, Target};
use crate::command::device::bundle::BundleKind;

pub use identity_folder::{CA_FILE, CERTIFICATE_FILE, IdentityFolder, KEY_FILE};
pub use name::DeviceName;

/// `covey device`.
#[derive(Args)]
pub struct DeviceArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: DeviceCommand,
}

#[derive(Subcommand)]
enum DeviceCommand {
    /// Register a device and get its certificate
    ///
    /// A device is its certificate: the serial number (SN) is the certificate's common name and the MQTT
    /// client id. With --out the device's files are written to a folder; without it they are printed. The
    /// private key is shown once and kept nowhere else.
    #[command(after_help = "Examples:\n  \
        covey device add lamp-1 --out ./lamp-1\n  \
        covey device add lamp-2 --tag room=kitchen --tag floor=2 --out ./lamp-2\n  \
        covey device add lamp-3 --csr lamp-3.csr --out ./lamp-3   (the key never leaves the device)\n  \
        covey device add lamp-4 --bundle pkcs12 --out ./lamp-4\n  \
        covey device add --count 10000 --prefix LAMP- --out lamps.tar")]
    Add(AddArgs),
    /// List devices
    #[command(after_help = "Examples:\n  \
        covey device list --online --tag room=kitchen\n  \
        covey device list --json | jq -r .sn")]
    List(ListArgs),
    /// Show a device: tags, gauges, connection
    #[command(after_help = "Examples:\n  covey device show lamp-1\n  covey device show id:7")]
    Show {
        /// Serial number, or number; sn:… and id:… say which of the two is meant
        #[arg(value_name = "SN|ID")]
        device: DeviceName,
    },
    /// Set a tag of a device: a name with a value, to find it again
    #[command(after_help = "Example: covey device tag lamp-1 room kitchen")]
    Tag {
        /// Serial number, or number; sn:… and id:… say which of the two is meant
        #[arg(value_name = "SN|ID")]
        device: DeviceName,
        /// The name, 1 to 64 bytes
        name: String,
        /// The value, at most 1024 bytes
        value: String,
    },
    /// Retire a device: revoke its certificates for ever and disconnect it at once
    #[command(after_help = "Example: covey device rm lamp-1\n\
        You can register it again, with a new certificate; its tasks stay with the old registration.")]
    Rm {
        /// Serial number, or number; sn:… and id:… say which of the two is meant
        #[arg(value_name = "SN|ID")]
        device: DeviceName,
    },
}

#[derive(Args)]
struct AddArgs {
    /// Serial number: 1 to 64 of A-Z a-z 0-9 _ -; without it, the server makes one
    sn: Option<String>,
    /// Number for applications; without it, the next free one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    device_id: Option<i64>,
    /// A tag, as name=value; repeat for more
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = name::read_tag)]
    tags: Vec<Tag>,
    /// Certificate signing request (PEM) made with the device's own key; - reads standard input
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    /// Register a node behind a gateway: it gets no certificate, and cannot connect by itself
    #[arg(long, conflicts_with_all = ["csr", "out"])]
    no_certificate: bool,
    /// The device has a certificate of this CA of others (covey ca import), and gets none
    #[arg(long, value_name = "NAME", requires = "certificate", conflicts_with_all = ["csr", "out", "no_certificate"])]
    ca: Option<String>,
    /// That certificate (PEM), with those that lead to the CA behind it; its common name is the serial number
    #[arg(long, value_name = "FILE", requires = "ca")]
    certificate: Option<PathBuf>,
    /// Folder for ca.pem, cert.pem and key.pem, made if missing, readable for you alone; with --count, the archive
    #[arg(long, value_name = "DIR|FILE")]
    out: Option<PathBuf>,
    /// Replace existing files
    #[arg(long, requires = "out", conflicts_with = "count")]
    force: bool,
    /// In which form certificate and key are written
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        default_value = "pem",
        requires = "out",
        conflicts_with = "count"
    )]
    bundle: BundleKind,
    /// File whose first line is the password of the pkcs12 bundle; without it, one is made and shown once
    #[arg(long, value_name = "FILE", requires = "out")]
    password_file: Option<PathBuf>,
    /// Register so many devices, named PREFIX and a number, and write an archive (tar) with a folder for each and an
    /// index in CSV
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        requires_all = ["prefix", "out"],
        conflicts_with_all = ["sn", "device_id", "csr", "password_file"]
    )]
    count: Option<u32>,
    /// What the serial numbers of --count begin with
    #[arg(long, value_name = "TEXT", requires = "count")]
    prefix: Option<String>,
    /// The first number of --count
    #[arg(long, value_name = "N", default_value_t = 1, requires = "count")]
    from: u32,
    /// Go on with an archive that was left unfinished
    #[arg(long, requires = "count")]
    resume: bool,
}

#[derive(Args)]
struct ListArgs {
    /// Only devices that are connected
    #[arg(long, conflicts_with = "offline")]
    online: bool,
    /// Only devices that are not connected
    #[arg(long)]
    offline: bool,
    /// Only devices with this tag, or with this value of it
    #[arg(long, value_name = "NAME[=VALUE]")]
    tag: Option<String>,
    /// Only the device with this serial number
    #[arg(long)]
    sn: Option<String>,
    /// Number of the page
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,
    /// Devices per page
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    size: u32,
}

impl ListArgs {
    fn filter(&self) -> DeviceFilter {
        DeviceFilter {
            device_id: None,
            sn: self.sn.clone(),
            tag: self.tag.clone(),
            online: (self.online || self.offline).then_some(self.online),
        }
    }
}

/// Runs `covey device`.
pub async fn run(args: DeviceArgs, connection: &Connection) -> Result<ExitCode> {
    match args.command {
        DeviceCommand::Add(args) => add::run(args, connection).await?,
        DeviceCommand::List(args) => {
            let page = PageRequest { page: args.page, size: args.size };
            view::list(connection, &args.filter(), page).await?;
        }
        DeviceCommand::Show { device } => view::show(connection, &device.find(connection).await?)?,
        DeviceCommand::Tag { device, name, value } => tag(connection, &device, name, value).await?,
        DeviceCommand::Rm { device } => rm(connection, &device).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn tag(connection: &Connection, device: &DeviceName, name: String, value: String) -> Result<()> {
    let found = device.find(connection).await?;
    let tag = Tag { tag: name.into(), value: value.into() };
    let tag_id = connection.client.device_tag(found.device_id, &tag).await?;
    if connection.output.json {
        connection.output.json(&serde_json::json!({"tag_id": tag_id}))?;
    } else {
        connection.output.text(&format!("{}: {}", found.sn, view::tag_text(&tag.tag, &tag.value)))?;
    }
    Ok(())
}

async fn rm(connection: &Connection, device: &DeviceName) -> Result<()> {
    let found = device.find(connection).await?;
    connection.client.device_retire(found.device_id).await?;
    if connection.output.json {
        connection.output.json(&serde_json::json!({"device_id": found.device_id, "sn": found.sn}))?;
    } else {
        let text =
            format!("{} (number {}) is retired; its certificates are revoked", found.sn, found.device_id);
        connection.output.text(&text)?;
    }
    Ok(())
}
