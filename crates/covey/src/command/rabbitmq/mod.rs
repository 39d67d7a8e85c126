//! `covey rabbitmq`: RabbitMQ as a deployment needs it, looked after.

mod audit;
mod config;
mod dead;
mod source;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// What to do with RabbitMQ.
#[derive(Args)]
pub struct RabbitmqArgs {
    #[command(subcommand)]
    command: RabbitmqCommand,
}

#[derive(Subcommand)]
enum RabbitmqCommand {
    /// Write RabbitMQ's configuration files for a deployment
    #[command(after_help = "Example: covey rabbitmq config --out ./rabbitmq --host mq.example\n\
        Writes rabbitmq.conf, enabled_plugins, definitions.json and covey.env; the last holds the passwords that \
        were made, as settings for servers. Certificates for --tls come from: covey pki server")]
    Config(config::ConfigArgs),
    /// Compare the accounts of devices in RabbitMQ with the devices that are registered
    ///
    /// Reads the server's settings (COVEY_LINK, COVEY_RABBITMQ_MANAGEMENT, COVEY_STORE, COVEY_DATA) and may run
    /// beside the server. The exit code is 1 if something differs and was not repaired.
    #[command(after_help = "Example: covey rabbitmq audit --repair")]
    Audit(audit::AuditArgs),
    /// Show messages of devices that could not be understood, and redrive them
    #[command(after_help = "Examples:\n  covey rabbitmq dead list\n  covey rabbitmq dead redrive --all")]
    Dead(dead::DeadArgs),
}

/// Runs `covey rabbitmq`.
pub async fn run(args: RabbitmqArgs) -> Result<ExitCode> {
    match args.command {
        RabbitmqCommand::Config(args) => config::run(&args),
        RabbitmqCommand::Audit(args) => audit::run(args).await,
        RabbitmqCommand::Dead(args) => dead::run(args).await,
    }
}
