//! `docs/limits.md`, made from the constants that are limits. The end of such a constant's comment says
//! who has it, whether a setting changes it, and what happens at it:
//!
//! ```text
//! /// How many streams there may be.
//! /// Limit for the server, set by `--streams-max`: 503, as long as none ends.
//! ```

mod source;
mod value;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::limits::source::{Constant, Source};
use crate::limits::value::Value;

/// Where limits are, by what a reader looks for: the longest that a path begins with.
const SECTIONS: [(&str, &str); 26] = [
    ("crates/covey-http/", "REST API"),
    ("crates/covey-core/src/limits.rs", "Tasks"),
    ("crates/covey-core/src/task/", "Tasks"),
    ("crates/covey-core/src/event/", "Events"),
    ("crates/covey-core/src/twin/", "Twins"),
    ("crates/covey-core/src/feed", "Streams"),
    ("crates/covey-core/src/webhook/", "Webhooks"),
    ("crates/covey-webhook/", "Webhooks"),
    ("crates/covey-core/src/budget/", "Budgets of devices, keys and organisations"),
    ("crates/covey-core/", "Devices, keys and lists"),
    ("crates/covey-gateway/src/coap/", "Nodes over CoAP"),
    ("crates/covey-gateway/", "Nodes and gateways"),
    ("crates/covey-token/", "Tokens"),
    ("crates/covey-core/src/microcontroller/", "Microcontrollers"),
    ("crates/covey-http/src/microcontrollers/", "Microcontrollers"),
    ("crates/covey-link/src/embedded/microcontrollers/", "Microcontrollers"),
    ("crates/covey-discovery/", "Local network"),
    ("crates/covey-link/src/embedded/", "Devices' connections, embedded broker"),
    ("crates/covey-net/", "Devices' connections, embedded broker"),
    ("crates/covey-wire/", "Devices' connections, embedded broker"),
    ("crates/covey-link/", "RabbitMQ and other brokers"),
    ("crates/covey-log/", "Log"),
    ("crates/covey-store/", "Store"),
    ("crates/covey-core/src/finding/", "Server"),
    ("crates/covey-doctor/", "Server"),
    ("crates/covey/", "Server"),
];
/// What bounds the program at the command line, not the server.
const NOT_THE_SERVER: [&str; 2] = ["crates/covey/src/command/", "crates/covey/src/cli.rs"];
/// Where peers are met: a constant there that is named like a limit must say what follows.
const FRONT: [&str; 17] = [
    "crates/covey-core/",
    "crates/covey-discovery/",
    "crates/covey-gateway/src/broker/",
    "crates/covey-gateway/src/coap/dtls/",
    "crates/covey-gateway/src/coap/exchange/",
    "crates/covey-gateway/src/coap/nodes.rs",
    "crates/covey-gateway/src/engine.rs",
    "crates/covey-gateway/src/mqtt_node/",
    "crates/covey-gateway/src/mqtt_sn/",
    "crates/covey-gateway/src/node.rs",
    "crates/covey-gateway/src/unit/",
    "crates/covey-gateway/src/websocket/",
    "crates/covey-http/",
    "crates/covey-link/src/embedded/",
    "crates/covey-net/",
    "crates/covey-token/",
    "crates/covey-webhook/",
];

/// A limit, as the document tells it.
struct Limit {
    section: &'static str,
    /// What it bounds.
    what: String,
    default: String,
    /// Who has one.
    holder: String,
    setting: Option<String>,
    /// What happens at it.
    then: String,
    name: String,
    file: String,
}

/// Compares the document with the code.
pub fn check(root: &Path) -> Result<()> {
    let written = std::fs::read_to_string(path(root)).context("cannot read docs/limits.md")?;
    if written != document(root)? {
        bail!("docs/limits.md is not what the code says; look at the difference after: cargo xtask limits");
    }
    Ok(())
}

/// Writes the document anew.
pub fn write(root: &Path) -> Result<()> {
    Ok(std::fs::write(path(root), document(root)?)?)
}

fn path(root: &Path) -> PathBuf {
    root.join("docs/limits.md")
}

fn document(root: &Path) -> Result<String> {
    let limits = limits(root)?;
    let mut text = String::from(HEAD);
    let mut sections: Vec<&str> = SECTIONS.iter().map(|(_, title)| *title).collect();
    sections.dedup();
    for section in sections {
        let rows: Vec<&Limit> = limits.iter().filter(|limit| limit.section == section).collect();
        if rows.is_empty() {
            continue;
        }
        write!(text, "\n## {section}\n| what | default | for each | at the limit | set by | counted in |\n")?;
        text.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for row in rows {
            let Limit { what, default, holder, then, name, file, .. } = row;
            let setting = row.setting.as_deref().unwrap_or("fixed");
            writeln!(text, "| {what} | {default} | {holder} | {then} | {setting} | `{file}` {name} |")?;
        }
    }
    Ok(text)
}

const HEAD: &str = "# Limits
Everything that a peer can make the server hold or do has a bound. This page is made from the code by `cargo
xtask limits`, and CI compares the two: a constant that is a limit says what follows when it is reached.

*for each*: who has one of it; \"server\" means one process. *at the limit*: what the one hears who reaches it; a
number such as 429 is the status of the answer over HTTP, one such as 0x97 the reason code over MQTT. *set by*: the
setting of `covey up` that changes it (`covey up --help` also names the variable of the environment).
";

fn limits(root: &Path) -> Result<Vec<Limit>> {
    let source = Source::read(root)?;
    let mut limits = Vec::new();
    let mut problems = Vec::new();
    for constant in source.constants() {
        let found = SECTIONS.iter().filter(|(folder, _)| constant.file.starts_with(folder));
        let Some((_, section)) = found.max_by_key(|(folder, _)| folder.len()) else { continue };
        if NOT_THE_SERVER.iter().any(|folder| constant.file.starts_with(folder)) {
            continue;
        }
        match limit(&source, constant, section) {
            Ok(Some(limit)) => limits.push(limit),
            Ok(None) if is_missing(constant) => problems.push(format!(
                "{}: {} says not for whom it is a limit, and what happens at it",
                constant.file, constant.name
            )),
            Ok(None) => {}
            Err(error) => problems.push(format!("{}: {}: {error:#}", constant.file, constant.name)),
        }
    }
    if problems.is_empty() {
        return Ok(limits);
    }
    bail!("limits that docs/limits.md cannot tell of:\n  {}", problems.join("\n  "))
}

/// Whether a constant that says nothing must say something.
fn is_missing(constant: &Constant) -> bool {
    constant.is_named_like_a_limit() && FRONT.iter().any(|folder| constant.file.starts_with(folder))
}

/// None for a constant that is no limit.
fn limit(source: &Source, constant: &Constant, section: &'static str) -> Result<Option<Limit>> {
    let Some((what, end)) = constant.comment.split_once("Limit for ") else {
        return Ok(None);
    };
    let (holder, then) = end.split_once(": ").context("a colon is missing after who has the limit")?;
    let (holder, setting) = match holder.split_once(", set by ") {
        Some((holder, setting)) => (holder, Some(setting.to_owned())),
        None => (holder, None),
    };
    let holder = holder.trim_start_matches("each ").trim_start_matches("the ");
    let value = Value::of(source, constant)?;
    Ok(Some(Limit {
        section,
        what: plain(what),
        default: value.told(&constant.name),
        holder: holder.to_owned(),
        setting,
        then: plain(then),
        name: constant.name.clone(),
        file: constant.file.replace("crates/", ""),
    }))
}

/// A sentence without its full stop, without links of rustdoc and without the unit, which is told with the
/// number, in one cell of a table.
fn plain(text: &str) -> String {
    let mut text =
        text.trim().trim_end_matches('.').replace("[`", "`").replace("`]", "`").replace('|', "\\|");
    for unit in ["bytes", "milliseconds", "seconds", "characters", "minutes", "days"] {
        for end in [",", ":", ".", ";"] {
            text = text.replace(&format!(", in {unit}{end}"), end);
        }
        text = text.strip_suffix(&format!(", in {unit}")).map_or(text.clone(), str::to_owned);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(comment: &str, code: &str) -> Result<Option<Limit>> {
        let mut source = Source::default();
        source.add("crates/covey-http/src/a.rs", &format!("{comment}\n{code}"))?;
        limit(&source, source.constants().last().unwrap(), "REST API")
    }

    #[test]
    fn a_comment_tells_who_has_the_limit_what_sets_it_and_what_follows() {
        let comment = "/// Largest body, in bytes.\n/// Limit for each request, set by `--body`: 413.";
        let limit = told(comment, "pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024;").unwrap().unwrap();
        assert_eq!(limit.what, "Largest body");
        assert_eq!(limit.default, "256 KiB");
        assert_eq!((limit.holder.as_str(), limit.setting.as_deref()), ("request", Some("`--body`")));
        assert_eq!(limit.then, "413");
    }

    #[test]
    fn a_constant_is_worked_out_from_others_and_from_lengths_of_time() {
        let code = "const PEERS: u32 = 10_000;\n/// Half. Limit for each address: 503.\nconst A_MAX: u32 = PEERS / 2;";
        assert_eq!(told("", code).unwrap().unwrap().default, "5,000");
        let code = "const WAIT_MAX: Duration = Duration::from_millis(1_500);";
        assert_eq!(told("/// A wait. Limit for each call: 503.", code).unwrap().unwrap().default, "1.5 s");
        assert!(told("/// A wait. Limit for each call: 503.", "const A: u32 = made_up();").is_err());
    }
}
