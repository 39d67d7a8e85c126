//! `covey key psk`: a pre-shared key of a CoAP node over DTLS.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use covey_gateway::coap::dtls::Keys;
use serde_json::json;

use crate::command::output::Output;
use crate::fault;

/// Shown below the options.
pub const EXAMPLES: &str = "Examples:\n  \
    covey key psk 1234\n  \
    covey key psk roof --uid 20 --uid 21 --out ./coap-psk\n  \
    covey key psk fleet --uid '*'\n\n\
    Start the server with: covey up --coaps 0.0.0.0:5684 --coap-psk FILE\n\
    Put identity and key, which are a line of the file, into the node. Start the server again after a change of the file.";

/// `covey key psk`.
#[derive(Args)]
pub struct PskArgs {
    /// What the node says that it is, up to 128 bytes without a colon
    identity: String,
    /// Uid of a node that the identity speaks for, once or several times; * for all that no other line is for
    /// [default: the identity]
    #[arg(long = "uid", value_name = "UID")]
    uids: Vec<String>,
    /// The file to add it to; made if it is missing, for its owner alone
    #[arg(long, value_name = "FILE", default_value = "coap-psk")]
    out: PathBuf,
}

/// Runs `covey key psk`.
pub fn run(args: &PskArgs, as_json: bool) -> Result<ExitCode> {
    Keys::add(&args.out, &args.identity, &args.uids).map_err(fault::setup)?;
    let output = Output::new(as_json);
    if as_json {
        output.json(&json!({ "file": args.out, "identity": args.identity }))?;
    } else {
        output.text(&args.out.display().to_string())?;
        output.note(&format!(
            "a key of {} is its last line, for the node and the server alone (0600)",
            args.identity
        ));
    }
    Ok(ExitCode::SUCCESS)
}
