//! `covey key fernet`: the key file that a node broker and its gateways share.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use covey_gateway::broker::fernet::{Keys, default_path};
use serde_json::json;

use crate::command::output::Output;
use crate::fault;

/// Shown below the options.
pub const EXAMPLES: &str = "Examples:\n  \
    covey key fernet\n  \
    covey key fernet --out ./node-keys\n\n\
    Start the server with: covey up --node-broker 0.0.0.0:8000 --node-keys FILE\n\
    Copy the file to each gateway (scp -p), and start it with: covey gateway websocket --broker ws://SERVER:8000 \
    --key-file FILE\n\
    Whoever has the file may speak for nodes. Gateways of others read it, too. Make a new one to shut somebody out.";

/// `covey key fernet`.
#[derive(Args)]
pub struct FernetArgs {
    /// The file to write; it must not exist yet [default: ~/.pyaiot/keys, where programs of others look for it]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs `covey key fernet`.
pub fn run(args: &FernetArgs, as_json: bool) -> Result<ExitCode> {
    let path = args.out.clone().or_else(default_path);
    let path =
        path.ok_or_else(|| fault::setup("there is no home folder: say where to write with --out FILE"))?;
    Keys::generate().write(&path).map_err(fault::setup)?;
    let output = Output::new(as_json);
    if as_json {
        output.json(&json!({ "file": path }))?;
    } else {
        output.text(&path.display().to_string())?;
        output.note("a secret and a Fernet key, for the node broker and its gateways alone (0600)");
    }
    Ok(ExitCode::SUCCESS)
}
