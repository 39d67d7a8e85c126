//! `covey user`: people who sign in, and their sessions.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use covey_client::{PageRequest, Session, User, UserLinked, UserNew, UserRole};
use covey_core::access::Role;

use crate::command::connection::{Connection, Target};
use crate::command::output::cell;
use crate::command::{moment, user_link};

/// How many are asked for at once.
const PAGE_SIZE: u32 = 1_000;

/// `covey user`.
#[derive(Args)]
pub struct UserArgs {
    #[command(flatten)]
    pub target: Target,
    /// Of every organisation, which needs the right orgs:admin
    #[arg(long, global = true)]
    all: bool,
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Subcommand)]
enum UserCommand {
    /// Make a person, and print a link with which it sets a password; good once, for 7 days
    ///
    /// Standard output gets the link and nothing else. There is no password before the person has set one.
    #[command(after_help = "Examples:\n  \
        covey user add ada@example.com --role operator\n  \
        covey user add grace --role admin --org acme")]
    Add {
        /// The name with which it signs in, such as an address of e-mail; no other person has it
        name: String,
        /// What it may do: viewer, integrator, operator, or admin of the organisation
        #[arg(long, value_name = "ROLE", value_parser = roles())]
        role: String,
        /// The organisation; without it, your own. Somebody who is there already is in one more organisation then
        #[arg(long, value_name = "ORG")]
        org: Option<String>,
        /// It may also do for every organisation what it may do here (orgs:admin)
        #[arg(long)]
        every_org: bool,
    },
    /// List people, with what they may do and when they have last signed in
    #[command(after_help = "Example: covey user list")]
    List,
    /// Say what a person may do from now on; it signs in again
    #[command(after_help = "Example: covey user role ada@example.com viewer")]
    Role {
        /// Its name, or its number
        #[arg(value_name = "USER")]
        user: String,
        /// viewer, integrator, operator, or admin of the organisation
        #[arg(value_name = "ROLE", value_parser = roles())]
        role: String,
        /// It may also do for every organisation what it may do here (orgs:admin)
        #[arg(long)]
        every_org: bool,
    },
    /// Take a person out of your organisation, with --all out of every one: its sessions end at once
    #[command(visible_alias = "rm", after_help = "Example: covey user remove ada@example.com")]
    Remove {
        /// Its name, or its number
        #[arg(value_name = "USER")]
        user: String,
    },
    /// Print a link with which a person sets another password; good once
    ///
    /// Where nobody can sign in and no API key is left, --offline makes it in the store itself: whoever can write the data
    /// directory, or has the address of the PostgreSQL store, may do so.
    #[command(after_help = user_link::EXAMPLES)]
    Link(user_link::LinkArgs),
    /// List and end sessions
    #[command(subcommand)]
    Session(SessionCommand),
}

#[derive(Subcommand)]
enum SessionCommand {
    /// List who has signed in, from where, and since when
    #[command(after_help = "Example: covey user session list ada@example.com")]
    List {
        /// The name or the number of a person; without it, of all people
        #[arg(value_name = "USER")]
        user: Option<String>,
    },
    /// End a session: within a second no server accepts it any more
    #[command(
        after_help = "Example: covey user session end 7   (the number is the one that covey user session list shows)"
    )]
    End {
        /// Its number
        #[arg(value_name = "ID")]
        id: i64,
    },
}

fn roles() -> PossibleValuesParser {
    PossibleValuesParser::new(Role::NAMES.map(|(_, name)| name))
}

impl UserArgs {
    /// What is to be done without a server, if it is that.
    pub fn offline(&self) -> Option<&user_link::LinkArgs> {
        match &self.command {
            UserCommand::Link(args) if args.is_offline() => Some(args),
            _ => None,
        }
    }
}

/// Runs `covey user`.
pub async fn run(args: UserArgs, connection: &Connection) -> Result<ExitCode> {
    let (output, all) = (connection.output, args.all);
    match args.command {
        UserCommand::Add { name, role, org, every_org } => {
            let made = connection.client.user_add(&UserNew { name, role, org, every_org }).await?;
            tell(connection, &made)?;
        }
        UserCommand::List => {
            let columns = ["ID", "NAME", "ORG", "ROLE", "SIGNED IN", "LINK UNTIL"];
            output.list(&columns, &users(connection, all).await?, |user| {
                let every = if user.every_org { ", every organisation" } else { "" };
                vec![
                    cell(user.id.to_string()),
                    cell(&*user.name),
                    cell(&*user.org),
                    cell(format!("{}{every}", user.role)),
                    cell(user.signed_in_at.map(moment::of).unwrap_or_default()),
                    cell(user.link_until.map(moment::of).unwrap_or_default()),
                ]
            })?;
        }
        UserCommand::Role { user, role, every_org } => {
            let id = number(connection, &user, false).await?;
            let user = connection.client.user_role(id, &UserRole { role, every_org }).await?;
            if output.json {
                output.json(&user)?;
            } else {
                output.text(&format!("{} of {} is {} from now on", user.name, user.org, user.role))?;
            }
        }
        UserCommand::Remove { user } => {
            let id = number(connection, &user, all).await?;
            connection.client.user_remove(id, all).await?;
            done(connection, id, "is removed")?;
        }
        UserCommand::Link(link) => {
            let id = number(connection, link.user(), all).await?;
            tell(connection, &connection.client.user_link(id, all).await?)?;
        }
        UserCommand::Session(SessionCommand::List { user }) => {
            let user = match user {
                Some(user) => Some(number(connection, &user, all).await?),
                None => None,
            };
            let columns = ["ID", "USER", "ORG", "SINCE", "LAST USED", "FROM", "BROWSER"];
            output.list(&columns, &sessions(connection, user, all).await?, |session| {
                vec![
                    cell(session.id.to_string()),
                    cell(&*session.user),
                    cell(&*session.org),
                    cell(moment::of(session.created_at)),
                    cell(moment::of(session.last_used_at)),
                    cell(session.address.clone().unwrap_or_default()),
                    cell(&*session.agent),
                ]
            })?;
        }
        UserCommand::Session(SessionCommand::End { id }) => {
            connection.client.session_end(id, all).await?;
            done(connection, id, "has ended")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn done(connection: &Connection, id: i64, what: &str) -> Result<()> {
    let output = connection.output;
    if output.json {
        output.json(&serde_json::json!({ "id": id }))?;
    } else {
        output.text(&format!("{id} {what}"))?;
    }
    Ok(())
}

/// Prints a link, and what to do with it.
fn tell(connection: &Connection, made: &UserLinked) -> Result<()> {
    let (output, user) = (connection.output, &made.user);
    // A server that does not know its public URL is reached as this command reaches it.
    let link = made.link.as_deref().map(|link| match link.starts_with('/') {
        true => format!("{}{link}", connection.client.base_url()),
        false => link.to_owned(),
    });
    if output.json {
        let link = link.map(Into::into);
        output.json(&UserLinked { link, user: user.clone() })?;
        return Ok(());
    }
    let until = user.link_until.map(moment::of).unwrap_or_default();
    match link {
        Some(link) => {
            output.text(&link)?;
            output.note(&format!("{} sets a password there, once, until {until}", user.name));
        }
        None => output.note(&format!("{} is in {} as {} from now on", user.name, user.org, user.role)),
    }
    Ok(())
}

/// The number of a person of this name or number.
async fn number(connection: &Connection, user: &str, all: bool) -> Result<i64> {
    if let Ok(number) = user.parse() {
        return Ok(number);
    }
    let name = user.trim().to_lowercase();
    let found = users(connection, all).await?.into_iter().find(|known| *known.name == *name);
    found.map(|user| user.id).ok_or_else(|| {
        let list = connection.command("user list");
        anyhow!(
            "there is no person {user} in this organisation: see \"{list}\", with --all those of every one"
        )
    })
}

async fn users(connection: &Connection, all: bool) -> Result<Vec<User>> {
    let (mut users, mut page) = (Vec::new(), 1);
    loop {
        let found = connection.client.user_list(all, PageRequest { page, size: PAGE_SIZE }).await?;
        let is_last = found.items.len() < PAGE_SIZE as usize;
        users.extend(found.items);
        if is_last {
            return Ok(users);
        }
        page += 1;
    }
}

async fn sessions(connection: &Connection, user: Option<i64>, all: bool) -> Result<Vec<Session>> {
    let (mut sessions, mut page) = (Vec::new(), 1);
    loop {
        let found = connection.client.session_list(user, all, PageRequest { page, size: PAGE_SIZE }).await?;
        let is_last = found.items.len() < PAGE_SIZE as usize;
        sessions.extend(found.items);
        if is_last {
            return Ok(sessions);
        }
        page += 1;
    }
}
