//! The commands.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::command::{self, ClientCommand};
use crate::settings::{Options, Settings};
use crate::{backup, fault, logging, memory, migrate_store, serve};

/// Call any device of a swarm, and receive its events, over networks that fail.
///
/// Start a server with `covey up`; in a second terminal register a device with
/// `covey device add`, run it, and call it with `covey call`.
#[derive(Parser)]
#[command(name = "covey", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server: CA, MQTT broker, task queue and REST API in one process
    #[command(after_help = "Example: covey up --data ./covey-data\n\
        Every option is also a key of the configuration file (--config) and an environment variable.")]
    Up {
        /// Configuration file in TOML
        #[arg(long, env = "COVEY_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// Begin with an empty database although the data directory has keys of a deployment whose database
        /// is missing: without its devices, tasks and API keys. Or with another CA although the one of the
        /// database that is there is missing: its devices must be registered anew
        #[arg(long)]
        new: bool,
        #[command(flatten)]
        options: Box<Options>,
    },
    #[command(flatten)]
    Client(ClientCommand),
    /// List servers that announce themselves on the local network
    Discover(command::discover::DiscoverArgs),
    /// Run a gateway near the nodes, as a program of its own that tells a node broker of them
    Gateway(Box<command::gateway::GatewayArgs>),
    /// Run simulated devices, one or thousands
    Sim(Box<command::sim::SimArgs>),
    /// Measure calls, connects and memory with simulated devices over real sockets
    Bench(Box<command::bench::BenchArgs>),
    /// Make the CA of a deployment, and certificates for its brokers and proxies
    Pki(command::pki::PkiArgs),
    /// Keep the root of a deployment offline, and let an issuing CA take the place of another one
    Ca(command::ca::CaArgs),
    /// Configure RabbitMQ for a deployment, check its accounts, handle its dead letters
    Rabbitmq(Box<command::rabbitmq::RabbitmqArgs>),
    /// Find out what is wrong with a server, running or stopped, and what to do about it
    Doctor(Box<command::doctor::DoctorArgs>),
    /// Check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Back up the data directory, keys included, while the server runs or not
    #[command(after_help = "Example: covey backup --to /backups/covey-2026-11-21\n\
        The copy holds private keys: keep it as safe as the data directory itself.\n\
        What covey doctor knows of the last backup is in backup.json of the data directory. Where another program makes\n\
        backups (pg_dump, snapshots), run this after each: covey backup --made-elsewhere")]
    Backup {
        /// The data directory
        #[arg(long, env = "COVEY_DATA", value_name = "DIR", default_value = "covey-data")]
        data: PathBuf,
        /// The folder to write the backup to; it must not exist yet, or be empty
        #[arg(long, value_name = "DIR", required_unless_present = "made_elsewhere")]
        to: Option<PathBuf>,
        /// Only note that another program has made a backup just now
        #[arg(long, conflicts_with_all = ["to", "json"])]
        made_elsewhere: bool,
        /// Print what was copied as JSON
        #[arg(long)]
        json: bool,
    },
    /// Fill a new data directory from a backup, after checking the backup
    #[command(after_help = "Example: covey restore --from /backups/covey-2026-11-21 --data ./covey-data")]
    Restore {
        /// The folder of the backup
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// The data directory to make; it must not exist yet, or be empty
        #[arg(long, env = "COVEY_DATA", value_name = "DIR", default_value = "covey-data")]
        data: PathBuf,
        /// Print what was copied as JSON
        #[arg(long)]
        json: bool,
    },
    /// Move a site from SQLite to PostgreSQL, with every id, key and instant
    MigrateStore(Box<migrate_store::MigrateStoreArgs>),
    /// Print the OpenAPI document of the REST API
    Openapi,
    /// Write the completion script of a shell to standard output
    #[command(
        after_help = "Example: covey completions bash > ~/.local/share/bash-completion/completions/covey"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the configuration and print the settings that result, as TOML
    Check {
        /// Configuration file in TOML
        #[arg(long, env = "COVEY_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
}

/// Runs a command.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Up { config, new, options } => {
            let settings = Settings::settle(*options, config.as_deref())?;
            logging::start(&settings.log, settings.log_format)?;
            runtime()?.block_on(serve::up(settings, new))?;
        }
        Command::Client(command) => return runtime()?.block_on(command::run(command)),
        Command::Discover(args) => return runtime()?.block_on(command::discover::run(args)),
        Command::Gateway(args) => return runtime()?.block_on(command::gateway::run(*args)),
        Command::Sim(args) => return runtime()?.block_on(command::sim::run(*args)),
        Command::Bench(args) => return runtime()?.block_on(command::bench::run(*args)),
        Command::Pki(args) => command::pki::run(args)?,
        Command::Ca(args) => command::ca::run(args)?,
        Command::Rabbitmq(args) => return runtime()?.block_on(command::rabbitmq::run(*args)),
        Command::Doctor(args) => {
            let runtime = runtime()?;
            let done = runtime.block_on(command::doctor::run(*args));
            // A look at a disk that does not answer never ends.
            runtime.shutdown_background();
            return done;
        }
        Command::Config(ConfigCommand::Check { config, options }) => {
            let settings = Settings::settle(*options, config.as_deref())?;
            print!("{}", toml::to_string(&settings)?);
        }
        Command::Backup { data, to: Some(to), json, .. } => {
            let manifest = backup::backup(&data, &to)?;
            tell_copied(&manifest, "backed up to", &to, json)?;
        }
        // The parser lets none of both be missing.
        Command::Backup { data, to: None, .. } => backup::note_made_elsewhere(&data)?,
        Command::Restore { from, data, json } => {
            let manifest = backup::restore(&from, &data)?;
            tell_copied(&manifest, "restored to", &data, json)?;
        }
        Command::MigrateStore(args) => migrate_store::run(*args)?,
        Command::Openapi => {
            let document = covey_http::openapi().to_pretty_json().map_err(fault::setup)?;
            println!("{document}");
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "covey", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().on_thread_park(memory::give_back).build()?)
}

fn tell_copied(manifest: &backup::Manifest, what: &str, to: &std::path::Path, as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string(manifest)?);
    } else {
        let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
        println!("{} files, {} KiB, {what} {}", manifest.files.len(), bytes / 1024, to.display());
    }
    Ok(())
}
