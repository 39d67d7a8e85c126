//! `covey rabbitmq config`: the broker's files, written.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use covey_link::amqp::{Deployment, DeploymentFile, Passwords};

use crate::fault;

#[derive(Args)]
pub struct ConfigArgs {
    /// The folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder with ca.pem, server.pem and server.key, as the broker sees it
    #[arg(long, value_name = "DIR", default_value = "/etc/rabbitmq/tls")]
    tls: String,
    /// Folder of the written files, as the broker sees it
    #[arg(long, value_name = "DIR", default_value = "/etc/rabbitmq")]
    config_dir: String,
    /// Host name by which servers and devices reach the broker
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    host: String,
    /// The virtual host of the deployment
    #[arg(long, value_name = "NAME", default_value = "covey")]
    vhost: String,
    /// Listener for devices: MQTT over mutual TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8883")]
    listen_mqtts: SocketAddr,
    /// Listener for servers: AMQP over mutual TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:5671")]
    listen_amqps: SocketAddr,
    /// Listener for the management API, over TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:15671")]
    listen_management: SocketAddr,
    /// User of the servers; its name has a dot, so no device can have it
    #[arg(long, value_name = "NAME", default_value = "covey.server")]
    user: String,
    /// User of the servers for the management API
    #[arg(long, value_name = "NAME", default_value = "covey.admin")]
    admin: String,
    /// A node of the cluster, such as rabbit@mq1; repeat for each node
    #[arg(long = "cluster-node", value_name = "NODE")]
    cluster_nodes: Vec<String>,
    /// Connections, at most
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    connections_max: u32,
}

/// Runs `covey rabbitmq config`.
pub fn run(args: &ConfigArgs) -> Result<ExitCode> {
    let deployment = Deployment {
        vhost: args.vhost.clone(),
        host: args.host.clone(),
        mqtts: args.listen_mqtts,
        amqps: args.listen_amqps,
        management: args.listen_management,
        tls_dir: args.tls.clone(),
        config_dir: args.config_dir.clone(),
        user: args.user.clone(),
        admin: args.admin.clone(),
        cluster_nodes: args.cluster_nodes.clone(),
        connections_max: args.connections_max,
    };
    let mut salt = [0; 8];
    getrandom::fill(&mut salt)?;
    let passwords = Passwords { user: password()?, admin: password()?, salt };
    let files = deployment.files(&passwords).map_err(fault::setup)?;
    let cannot =
        |error: std::io::Error| fault::setup(format!("cannot write to {}: {error}", args.out.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&args.out).map_err(cannot)?;
    if let Some(file) = files.iter().find(|file| args.out.join(file.name).exists()) {
        // Other passwords in the file than in the broker would lock servers out.
        let shown = args.out.join(file.name);
        return Err(fault::setup(format!("{} is there already; name another folder", shown.display())));
    }
    for file in &files {
        write(&args.out, file).map_err(cannot)?;
    }
    let names: Vec<_> = files.iter().map(|file| file.name).collect();
    println!("{} are in {}; covey.env holds passwords", names.join(", "), args.out.display());
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, file: &DeploymentFile) -> std::io::Result<()> {
    let mode = if file.is_secret { 0o600 } else { 0o644 };
    let mut out = OpenOptions::new().create_new(true).write(true).mode(mode).open(folder.join(file.name))?;
    out.write_all(file.text.as_bytes())?;
    out.sync_all()
}

fn password() -> Result<String> {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
