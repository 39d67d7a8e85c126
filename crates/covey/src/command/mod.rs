//! The commands that speak to a server: one noun, one file. Each says to which
//! server by the same options ([`connection::Target`]).

mod access;
mod audit;
mod audit_verify;
pub mod bench;
pub mod ca;
mod call;
mod cert;
mod claim;
pub mod connection;
mod device;
pub mod discover;
pub mod doctor;
mod events;
pub mod gateway;
mod json_text;
mod key;
mod key_fernet;
mod key_grant;
mod key_psk;
mod key_recover;
mod limits;
mod moment;
mod node;
mod org;
mod output;
pub mod pki;
pub mod rabbitmq;
mod retention;
pub mod sim;
mod sim_nodes;
mod store;
mod task;
mod token;
mod twin;
mod unit;
mod usage;
mod user;
mod user_link;
mod webhooks;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use connection::Connection;

/// The commands that speak to a server.
#[derive(Subcommand)]
pub enum ClientCommand {
    /// Register, list, tag and retire devices
    Device(Box<device::DeviceArgs>),
    /// List, show and revoke certificates of devices
    Cert(Box<cert::CertArgs>),
    /// Make, list and revoke claims, by which the devices of a production enrol
    Claim(Box<claim::ClaimArgs>),
    /// List nodes behind gateways, say which of them may join, and set their values
    Node(Box<node::NodeArgs>),
    /// List, add, change and remove TCP units, which the server connects to
    Unit(Box<unit::UnitArgs>),
    /// Call a device, and wait for the answer
    ///
    /// The server stores the task before it sends anything, so the task reaches the device even if the device
    /// is offline now; it lives for --ttl minutes. Standard output gets the result, standard error the state
    /// of the task.
    Call(Box<call::CallArgs>),
    /// List, show, follow and delete tasks
    Task(Box<task::TaskArgs>),
    /// List events, or follow changes as they happen
    Events(Box<events::EventsArgs>),
    /// Show reported and desired values of devices, and set desired ones
    Twin(Box<twin::TwinArgs>),
    /// Set up webhooks, and see their deliveries
    Webhooks(Box<webhooks::WebhooksArgs>),
    /// Show and set how long things are kept
    Retention(Box<retention::RetentionArgs>),
    /// Make, list and revoke API keys
    Key(Box<key::KeyArgs>),
    /// Make, list and rename organisations
    Org(Box<org::OrgArgs>),
    /// Make, list and remove people who sign in, and end their sessions
    User(Box<user::UserArgs>),
    /// Say why a key may do something, or may not
    Access(Box<access::AccessArgs>),
    /// List who did what, and check that nobody has changed that
    Audit(Box<audit::AuditArgs>),
    /// Say what an organisation has used on each day
    Usage(Box<usage::UsageArgs>),
    /// Make short-lived tokens from an API key, and show what tokens say
    Token(Box<token::TokenArgs>),
}

/// Runs a command that speaks to a server.
pub async fn run(command: ClientCommand) -> Result<ExitCode> {
    if let ClientCommand::Key(args) = &command
        && let Some(recovery) = args.recovery()
    {
        return key_recover::run(recovery, &args.target).await;
    }
    if let ClientCommand::Key(args) = &command
        && let Some(fernet) = args.fernet()
    {
        return key_fernet::run(fernet, args.target.json);
    }
    if let ClientCommand::Key(args) = &command
        && let Some(psk) = args.psk()
    {
        return key_psk::run(psk, args.target.json);
    }
    if let ClientCommand::Audit(args) = &command
        && let Some(verify) = args.offline()
    {
        return audit_verify::run_offline(verify, &args.target).await;
    }
    if let ClientCommand::User(args) = &command
        && let Some(link) = args.offline()
    {
        return user_link::run_offline(link, &args.target).await;
    }
    let mut command = command;
    if let ClientCommand::Token(args) = &mut command {
        args.settle()?;
    }
    let target = match &command {
        ClientCommand::Device(args) => &args.target,
        ClientCommand::Cert(args) => &args.target,
        ClientCommand::Claim(args) => &args.target,
        ClientCommand::Node(args) => &args.target,
        ClientCommand::Unit(args) => &args.target,
        ClientCommand::Call(args) => &args.target,
        ClientCommand::Task(args) => &args.target,
        ClientCommand::Events(args) => &args.target,
        ClientCommand::Twin(args) => &args.target,
        ClientCommand::Webhooks(args) => &args.target,
        ClientCommand::Retention(args) => &args.target,
        ClientCommand::Key(args) => &args.target,
        ClientCommand::Org(args) => &args.target,
        ClientCommand::User(args) => &args.target,
        ClientCommand::Access(args) => &args.target,
        ClientCommand::Audit(args) => &args.target,
        ClientCommand::Usage(args) => &args.target,
        ClientCommand::Token(args) => &args.target,
    };
    let target = discover::settle(target.clone()).await?;
    let connection = Connection::open(&target)?;
    let result = match command {
        ClientCommand::Device(args) => device::run(*args, &connection).await,
        ClientCommand::Cert(args) => cert::run(*args, &connection).await,
        ClientCommand::Claim(args) => claim::run(*args, &connection).await,
        ClientCommand::Node(args) => node::run(*args, &connection).await,
        ClientCommand::Unit(args) => unit::run(*args, &connection).await,
        ClientCommand::Call(args) => call::run(*args, &connection).await,
        ClientCommand::Task(args) => task::run(*args, &connection).await,
        ClientCommand::Events(args) => events::run(*args, &connection).await,
        ClientCommand::Twin(args) => twin::run(*args, &connection).await,
        ClientCommand::Webhooks(args) => webhooks::run(*args, &connection).await,
        ClientCommand::Retention(args) => retention::run(*args, &connection).await,
        ClientCommand::Key(args) => key::run(*args, &connection).await,
        ClientCommand::Org(args) => org::run(*args, &connection).await,
        ClientCommand::User(args) => user::run(*args, &connection).await,
        ClientCommand::Access(args) => access::run(*args, &connection).await,
        ClientCommand::Audit(args) => audit::run(*args, &connection).await,
        ClientCommand::Usage(args) => usage::run(*args, &connection).await,
        ClientCommand::Token(args) => token::run(*args, &connection).await,
    };
    result.map_err(|error| connection.explained(error))
}
