//! `covey user link --offline`: a link for a person who is locked out, by whoever holds the store.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use covey_core::id::UnixMs;
use covey_core::person::{OWN_LINK_MS_MAX, link_digest, recovery};
use covey_core::port::{Clock, Ids};
use serde_json::json;

use crate::command::connection::{DATA_DEFAULT, Target};
use crate::command::output::Output;
use crate::command::store;
use crate::fault;
use crate::serve::data_dir::DataDir;
use crate::serve::parts::{RandomIds, SystemClock};
use crate::settings::{Options, SQLITE, ServiceUrl, Settings};

/// Shown below the options.
pub const EXAMPLES: &str = "Examples:\n  \
    covey user link ada@example.com\n  \
    covey user link admin --offline --data ./covey-data        (the server is stopped)\n  \
    covey user link admin --offline --store postgres://covey:PASSWORD@db/covey\n\n\
    A link is good for 7 days, one that was made with --offline for 15 minutes after that. Standard output gets the link and \
    nothing else.";

/// `covey user link`.
#[derive(Args)]
pub struct LinkArgs {
    /// The person's name, or its number
    #[arg(value_name = "USER")]
    user: String,
    /// Write into the store itself: no key is needed. With SQLite the server is stopped
    #[arg(long)]
    offline: bool,
    /// With --offline: where tasks are stored, as the server was told: sqlite (in the data directory) or
    /// postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, env = "COVEY_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<ServiceUrl>,
    /// With --offline: configuration file of the server in TOML
    #[arg(long, env = "COVEY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl LinkArgs {
    /// Whether the store is written to, and not a server asked.
    pub const fn is_offline(&self) -> bool {
        self.offline
    }

    /// Whom it is about.
    pub fn user(&self) -> &str {
        &self.user
    }
}

/// Runs `covey user link --offline`.
pub async fn run_offline(args: &LinkArgs, target: &Target) -> Result<ExitCode> {
    let data = Some(target.data.clone()).filter(|data| data != Path::new(DATA_DEFAULT));
    let options = Options { data, store: args.store.clone(), ..Options::default() };
    let settings = Settings::settle(options, args.config.as_deref())?;
    // A server on this folder has the database for itself, if that is in there.
    let _held = match settings.store.scheme() == SQLITE {
        true => {
            let shown = settings.data.display();
            let runs = || fault::setup(format!("a server runs on {shown}; stop it, or leave out --offline"));
            Some(DataDir::hold(&settings.data)?.ok_or_else(runs)?)
        }
        false => None,
    };
    let opened = store::open(&settings).await?;
    let clear_text = RandomIds.secret();
    let until: UnixMs = SystemClock::start().now().plus_ms(OWN_LINK_MS_MAX);
    let link = (link_digest(covey_http::key_digest, &clear_text), until);
    let person = recovery::person_link(&*opened, &args.user, link).await.map_err(fault::setup)?;
    let origin = match &settings.public_url {
        Some(url) => url.clone(),
        None => format!("http://{}", settings.http),
    };
    let link = format!("{}/invite#{clear_text}", origin.trim_end_matches('/'));
    let output = Output::new(target.json);
    if output.json {
        output.json(&json!({"user": {"id": person.id.0, "name": person.name}, "link": link}))?;
    } else {
        output.text(&link)?;
        let name = &person.name;
        output.note(&format!("start the server; {name} sets a password there, once, within 15 minutes"));
    }
    Ok(ExitCode::SUCCESS)
}
