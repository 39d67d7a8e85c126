//! What a benchmark hands over: what was measured, on what, and by which
//! command, for programs as JSON, for people as text or Markdown.

use std::path::Path;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bench::calls::CallsResult;
use crate::bench::connect::ConnectResult;
use crate::bench::events::{EventsResult, StreamsResult};
use crate::bench::machine::Machine;
use crate::bench::organisations::OrganisationsResult;
use crate::error::{Error, Result};

/// What holds for every measurement of this crate.
const SETTING: &str = "devices over MQTT 5 with mutual TLS, callers over REST; devices and callers in one \
    process, the server in another, on the same cores unless it is remote; devices answer at once, with their \
    journal in memory and without fsync";

/// On what and by what was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Header {
    /// When it began, in RFC 3339.
    pub date: String,
    /// Covey's version, that of devices and callers.
    pub version: &'static str,
    /// The machine of devices and callers.
    pub machine: Machine,
    /// The command line, without keys.
    pub command: String,
    /// The server's address; `None`: one was started for each measurement, and
    /// nothing else used it.
    pub server: Option<String>,
    /// What holds for every measurement.
    pub setting: &'static str,
}

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Measurement {
    /// Calls of devices.
    Calls(CallsResult),
    /// Devices that join.
    Connect(ConnectResult),
    /// Events of devices.
    Events(EventsResult),
    /// Open streams.
    Streams(StreamsResult),
    /// Many organisations beside one that floods.
    Organisations(OrganisationsResult),
}

/// All that a benchmark says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// On what.
    pub header: Header,
    /// What.
    pub measurements: Vec<Measurement>,
}

impl Header {
    /// Looks at this machine and the clock.
    #[must_use]
    pub fn now(server: Option<String>) -> Self {
        let words: Vec<String> =
            std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        Self {
            date: OffsetDateTime::now_utc()
                .replace_nanosecond(0)
                .ok()
                .and_then(|now| now.format(&Rfc3339).ok())
                .unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::this(),
            command: redacted_command_line(&words),
            server,
            setting: SETTING,
        }
    }
}

/// A command line as it may be published: the program by its name alone, and
/// no API key.
#[must_use]
pub fn redacted_command_line(words: &[String]) -> String {
    let mut shown = Vec::with_capacity(words.len());
    let mut is_key = false;
    for (position, word) in words.iter().enumerate() {
        let name = Path::new(word).file_name().filter(|_| position == 0);
        if std::mem::take(&mut is_key) {
            shown.push("…".to_owned());
        } else if word.starts_with("--key=") {
            shown.push("--key=…".to_owned());
        } else if let Some(name) = name {
            shown.push(name.to_string_lossy().into_owned());
        } else {
            is_key = word == "--key";
            shown.push(word.clone());
        }
    }
    shown.join(" ")
}

impl Report {
    /// A report without measurements.
    #[must_use]
    pub fn new(header: Header) -> Self {
        Self { header, measurements: Vec::new() }
    }

    /// For programs, indented.
    #[must_use]
    pub fn json(&self) -> String {
        // Fails only for maps with keys that are no texts, and there are none.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|source| Error::Output { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_shown_without_key_and_folders() {
        let line =
            |words: &str| redacted_command_line(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(line("/a/b/covey bench calls --key k --json"), "covey bench calls --key … --json");
        assert_eq!(line("covey bench calls --key=k"), "covey bench calls --key=…");
    }
}
