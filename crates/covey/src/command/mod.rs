//! The commands that speak to a server: one noun, one file. Each says to which
//! server by the same options ([`connection::Target`]).

mod call;
pub mod connection;
mod device;
mod json_text;
mod key;
mod moment;
mod output;
mod task;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use connection::Connection;

/// The commands that speak to a server.
#[derive(Subcommand)]
pub enum ClientCommand {
    /// Register devices, look at them, tag them, retire them
    Device(device::DeviceArgs),
    /// Ask a device to do something, and wait for the answer
    Call(call::CallArgs),
    /// Look at tasks, follow them, delete them
    Task(task::TaskArgs),
    /// Make API keys for applications, and revoke them
    Key(key::KeyArgs),
}

/// Runs a command that speaks to a server.
pub async fn run(command: ClientCommand) -> Result<ExitCode> {
    let target = match &command {
        ClientCommand::Device(args) => &args.target,
        ClientCommand::Call(args) => &args.target,
        ClientCommand::Task(args) => &args.target,
        ClientCommand::Key(args) => &args.target,
    };
    let connection = Connection::open(target)?;
    let result = match command {
        ClientCommand::Device(args) => device::run(args, &connection).await,
        ClientCommand::Call(args) => call::run(args, &connection).await,
        ClientCommand::Task(args) => task::run(args, &connection).await,
        ClientCommand::Key(args) => key::run(args, &connection).await,
    };
    result.map_err(|error| connection.explained(error))
}
