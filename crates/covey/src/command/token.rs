//! `covey token`: tokens in place of an API key.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use covey_client::{Error, TokenNew, Whole};
use covey_core::access::RIGHT_NAMES;
use covey_sim::parse_duration;
use serde_json::{Value, json};

use crate::command::connection::{Connection, Target};
use crate::command::moment;

/// `covey token`.
#[derive(Args)]
pub struct TokenArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a short-lived token from the API key: it may do no more, and ends with the key
    ///
    /// Standard output gets the token and nothing else.
    #[command(after_help = "Examples:\n  \
        covey token make --right devices:read --expires 1h\n  \
        curl -H \"Authorization: Bearer $(covey token make)\" http://127.0.0.1:8080/api/v1/devices")]
    Make {
        /// A right of the token; repeat for more. Without any: those of the key
        #[arg(long = "right", value_name = "RIGHT", value_parser = PossibleValuesParser::new(RIGHT_NAMES))]
        rights: Vec<String>,
        /// For how long it is valid, 10s to 24h [default: 15m]
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        expires: Option<Duration>,
    },
    /// Show what a token says, and whether the server takes it, or why not
    ///
    /// What it says is decoded here and not verified; the server verifies it.
    #[command(after_help = "Example: covey token show eyJhbGciOi…")]
    Show {
        /// The token
        #[arg(value_name = "TOKEN")]
        token: String,
    },
}

impl TokenArgs {
    /// A token that is asked about is the credential that is shown to the server, if it can be one at all.
    ///
    /// # Errors
    /// It cannot.
    pub fn settle(&mut self) -> Result<()> {
        if let TokenCommand::Show { token } = &self.command {
            decode(token)?;
            self.target.key = Some(token.trim().to_owned());
        }
        Ok(())
    }
}

/// Runs `covey token`.
pub async fn run(args: TokenArgs, connection: &Connection) -> Result<ExitCode> {
    match args.command {
        TokenCommand::Make { rights, expires } => make(connection, rights, expires).await,
        TokenCommand::Show { token } => show(connection, &token).await,
    }
}

async fn make(connection: &Connection, rights: Vec<String>, expires: Option<Duration>) -> Result<ExitCode> {
    let rights = (!rights.is_empty()).then(|| rights.into_iter().map(Into::into).collect());
    let expires_in = expires.map(|span| Whole(i64::try_from(span.as_secs()).unwrap_or(i64::MAX)));
    let made = connection.client.token_make(&TokenNew { rights, expires_in }).await?;
    let output = connection.output;
    if output.json {
        output.json(&made)?;
    } else {
        output.text(&made.access_token)?;
        let (rights, until) = (made.rights.join(", "), moment::of(made.expires_at));
        output.note(&format!("it may {rights}, until {until}, and ends with its API key"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Header and claims of a token, unverified.
fn decode(token: &str) -> Result<(Value, Value)> {
    let part = |text: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    let parts: Vec<&str> = token.trim().split('.').collect();
    let read = match parts.as_slice() {
        [header, claims, _] => part(header).zip(part(claims)),
        _ => None,
    };
    read.ok_or_else(|| anyhow!("this is no token: one is three parts in base64url with a dot between two"))
}

async fn show(connection: &Connection, token: &str) -> Result<ExitCode> {
    let (header, claims) = decode(token)?;
    let (caller, refusal) = match connection.client.whoami().await {
        Ok(caller) => (Some(caller), None),
        Err(Error::Refused { status: 401, detail, .. }) => (None, Some(detail)),
        Err(other) => return Err(other.into()),
    };
    let (output, is_taken) = (connection.output, caller.is_some());
    if output.json {
        output.json(&json!({"header": header, "claims": claims, "caller": caller, "refused": refusal}))?;
    } else {
        let mut lines = vec![format!("header   {header}"), "claims".to_owned()];
        for (name, value) in claims.as_object().into_iter().flatten() {
            let at = value.as_i64().filter(|_| matches!(name.as_str(), "exp" | "iat" | "nbf"));
            let at = at.map(|seconds| format!("  ({})", moment::of_unix(seconds))).unwrap_or_default();
            lines.push(format!("  {name}: {value}{at}"));
        }
        lines.push(match (&caller, &refusal) {
            (Some(caller), _) => format!(
                "{} takes it: {} of {} may {}",
                connection.client.base_url(),
                caller.name,
                caller.org,
                if caller.rights.is_empty() { "nothing".to_owned() } else { caller.rights.join(", ") },
            ),
            (None, refusal) => {
                let why = refusal.as_deref().unwrap_or_default();
                format!("{} refuses it: {why}", connection.client.base_url())
            }
        });
        // What a stranger has signed is not given to a terminal with control characters.
        let text: String = lines.join("\n").chars().filter(|c| !c.is_control() || *c == '\n').collect();
        output.text(&text)?;
    }
    Ok(if is_taken { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
