//! Which server a command speaks to, and what to do when it does not answer as
//! hoped for.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::Args;
use covey_client::{Client, Error, LocalServer};

use crate::command::output::Output;
use crate::fault;

/// Where a server on this machine keeps its data unless told otherwise.
pub const DATA_DEFAULT: &str = "./covey-data";
/// The port of the broker for devices unless the server was told otherwise.
pub const MQTTS_PORT: u16 = 8883;

/// Which server to speak to. Without --url it is the one on this machine.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Address of the server, such as https://covey.example:8443; without it, the server on this machine
    #[arg(long, env = "COVEY_URL", value_name = "URL", global = true, help_heading = "Server")]
    pub url: Option<String>,
    /// Find the server on the local network, where one announces itself (covey up --mdns); with =NAME, one of several. It
    /// must prove itself by --ca. Not looked at with --url
    #[arg(
        long,
        env = "COVEY_DISCOVER",
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = super::discover::ANY,
        global = true,
        help_heading = "Server"
    )]
    pub discover: Option<String>,
    /// API key; without it, the first key of the server on this machine. Other users of this machine can see
    /// command lines: better put the key in COVEY_KEY
    #[arg(
        long,
        env = "COVEY_KEY",
        value_name = "KEY",
        hide_env_values = true,
        global = true,
        help_heading = "Server"
    )]
    pub key: Option<String>,
    /// CA certificate of the server (PEM); without it, the CAs that this machine trusts
    #[arg(long, env = "COVEY_CA", value_name = "FILE", global = true, help_heading = "Server")]
    pub ca: Option<PathBuf>,
    /// Data directory of the server on this machine
    #[arg(
        long,
        env = "COVEY_DATA",
        value_name = "DIR",
        default_value = DATA_DEFAULT,
        global = true,
        help_heading = "Server"
    )]
    pub data: PathBuf,
    /// Print JSON for programs: one document, or one line for each item of a list
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
}

/// A server to speak to.
pub struct Connection {
    /// Speaks to it.
    pub client: Client,
    /// How to print what it says.
    pub output: Output,
    local: Option<LocalServer>,
    /// The options that the next command needs to speak to the same server.
    options: String,
}

impl Connection {
    /// Finds the server. Nothing is sent yet.
    ///
    /// # Errors
    /// One line that says what to do: no server, no key, a file that cannot be read.
    pub fn open(target: &Target) -> Result<Self> {
        // A variable of the environment that is empty is none.
        let url = target.url.as_deref().filter(|url| !url.is_empty());
        let key = target.key.as_deref().filter(|key| !key.is_empty());
        let (client, local) = match (url, key) {
            (Some(url), Some(key)) => {
                let ca_pem = target.ca.as_deref().filter(|path| !path.as_os_str().is_empty());
                let ca_pem = ca_pem.map(read_ca).transpose()?;
                (Client::new(url, key, ca_pem.as_deref()).map_err(told)?, None)
            }
            (Some(url), None) => {
                return Err(fault::setup(format!("give the API key for {url} with --key or COVEY_KEY")));
            }
            (None, key) => {
                let local = LocalServer::find(&target.data).map_err(told)?;
                let key = key.map_or_else(|| local.admin_key(), |key| Ok(key.to_owned())).map_err(told)?;
                (Client::of_local(&local, &key).map_err(told)?, Some(local))
            }
        };
        Ok(Self { client, output: Output::new(target.json), local, options: options(target) })
    }

    /// A command to type next, for the same server.
    pub fn command(&self, words: &str) -> String {
        format!("covey {words}{}", self.options)
    }

    /// Where devices connect, as `host` and `port`, and whether that is known
    /// and not just usual.
    pub fn broker(&self) -> Broker {
        let written = self.local.as_ref().and_then(|local| local.addresses.mqtts.as_deref());
        let known = written.and_then(|url| host_and_port(url.strip_prefix("mqtts://")?));
        match known {
            Some((host, port)) => Broker { host, port, is_known: true },
            None => {
                let url = self.client.base_url();
                let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next());
                let authority = authority.unwrap_or_default();
                let host = host_and_port(authority).map_or_else(|| authority.to_owned(), |(host, _)| host);
                Broker { host, port: MQTTS_PORT, is_known: false }
            }
        }
    }

    /// Says in one line what to do about an error of the client.
    pub fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let error = match error.downcast::<Error>() {
            Ok(error) => error,
            Err(other) => return other,
        };
        let because = error.root_cause().map(|cause| format!(" ({cause})")).unwrap_or_default();
        match &error {
            Error::Unreachable { .. } if self.local.is_some() => {
                fault::setup(format!("{error}{because}: start it with \"covey up\", or give --url and --key"))
            }
            Error::Unreachable { .. } => {
                fault::setup(format!("{error}{because}: check the address, and that the server runs"))
            }
            Error::Untrusted { .. } => fault::setup(format!(
                "{error}{because}: give the CA certificate of the server with --ca (a Covey server keeps it in \
                 pki/ca.pem of its data directory)"
            )),
            Error::Interrupted { .. } => {
                anyhow!("{error}{because}: look at what was done before you try again")
            }
            Error::Refused { status: 401, detail, .. } => fault::setup(format!(
                "{} does not accept the API key{}: give a valid one with --key or COVEY_KEY",
                self.client.base_url(),
                // Of one that it knows it says why.
                detail
                    .strip_prefix("this API key")
                    .or_else(|| detail.strip_prefix("the token"))
                    .map(|why| format!(", which{why}"))
                    .unwrap_or_default()
            )),
            Error::Refused { status: 403, detail, .. } => anyhow!(
                "{detail}: give a key that has it, or make one with \"{}\"",
                self.command("key add NAME --right RIGHT")
            ),
            Error::Refused { status: 507, detail, .. } => anyhow!(
                "{detail}: make room on the disk of the server, or delete tasks (\"{}\"); trying again does not help",
                self.command("task rm ID")
            ),
            Error::Refused { status: 429 | 503, detail, .. } => {
                anyhow!("{detail}: try again in a few seconds")
            }
            Error::Refused { status: 500.., request_id: Some(id), .. } => {
                anyhow!("{error}: the log of the server has more under request {id}")
            }
            Error::Refused { status: 422 | 409, detail, .. } => anyhow!("{detail}"),
            _ => anyhow!("{error}{because}"),
        }
    }
}

/// Where devices connect.
#[derive(Debug, PartialEq, Eq)]
pub struct Broker {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether the server has said so; if not, it is the usual port.
    pub is_known: bool,
}

/// Splits `host:port`; an IPv6 address loses its brackets.
pub fn host_and_port(authority: &str) -> Option<(String, u16)> {
    let (host, port) = authority.trim_end_matches('/').rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port.parse().ok()?))
}

fn told(error: Error) -> anyhow::Error {
    let because = match &error {
        Error::LocalFile { source, .. } => format!(" ({source})"),
        Error::Tls { source } => format!(" ({source})"),
        _ => String::new(),
    };
    fault::setup(format!("{error}{because}"))
}

/// Reads a CA certificate.
pub fn read_ca(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| fault::setup(format!("cannot read the CA certificate {}: {error}", path.display())))
}

/// The options that were typed and must be typed again; what the environment
/// holds is there the next time too. The key is never shown.
fn options(target: &Target) -> String {
    let is_set = |name: &str, value: &str| std::env::var(name).is_ok_and(|held| held == value);
    let mut options = String::new();
    let mut add = |option: &str, name: &str, value: &str| {
        if !value.is_empty() && !is_set(name, value) {
            options.push_str(&format!(" {option} {}", shell_word(value)));
        }
    };
    match target.url.as_deref().filter(|url| !url.is_empty()) {
        Some(url) => {
            add("--url", "COVEY_URL", url);
            add("--ca", "COVEY_CA", &target.ca.as_deref().unwrap_or(Path::new("")).to_string_lossy());
        }
        None if target.data != Path::new(DATA_DEFAULT) => {
            add("--data", "COVEY_DATA", &target.data.to_string_lossy());
        }
        None => {}
    }
    options
}

/// A text as one word of a shell.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:@%+=,[]".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn target(data: &Path) -> Target {
        Target { url: None, discover: None, key: None, ca: None, data: data.to_owned(), json: false }
    }

    #[test]
    fn a_local_server_is_found_and_the_next_command_finds_it_too() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Connection::open(&target(dir.path())).err().unwrap().to_string();
        assert!(missing.contains("covey up"), "{missing}");
        let addresses = r#"{"http":"http://127.0.0.1:1","mqtts":"mqtts://[::1]:2"}"#;
        std::fs::write(dir.path().join("addresses.json"), addresses).unwrap();
        std::fs::write(dir.path().join("admin.key"), "k\n").unwrap();
        let connection = Connection::open(&target(dir.path())).unwrap();
        assert_eq!(connection.broker(), Broker { host: "::1".to_owned(), port: 2, is_known: true });
        let next = connection.command("task list");
        assert_eq!(next, format!("covey task list --data {}", dir.path().display()));
    }

    #[test]
    fn a_distant_server_needs_a_key_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut target = target(dir.path());
        target.url = Some("https://covey.example:8443".to_owned());
        let error = Connection::open(&target).err().unwrap().to_string();
        assert_eq!(error, "give the API key for https://covey.example:8443 with --key or COVEY_KEY");
        target.key = Some("secret".to_owned());
        let connection = Connection::open(&target).unwrap();
        let broker = Broker { host: "covey.example".to_owned(), port: 8883, is_known: false };
        assert_eq!(connection.broker(), broker);
        assert_eq!(connection.command("key list"), "covey key list --url https://covey.example:8443");
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("./lamp-1"), "./lamp-1");
        assert_eq!(shell_word("a b'c"), r"'a b'\''c'");
        assert_eq!(shell_word(""), "''");
    }
}
