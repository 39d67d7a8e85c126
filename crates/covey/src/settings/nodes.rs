//! Settings of nodes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use covey_core::node::GatewayName;
use serde::{Deserialize, Serialize};

/// Who may join of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admission {
    /// Whoever comes.
    Open,
    /// Those that are listed.
    Known,
    /// Newcomers wait until somebody says yes.
    Approve,
}

impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(covey_core::node::Admission::from(*self).name())
    }
}

impl From<Admission> for covey_core::node::Admission {
    fn from(admission: Admission) -> Self {
        match admission {
            Admission::Open => Self::Open,
            Admission::Known => Self::Known,
            Admission::Approve => Self::Approve,
        }
    }
}

/// After how many seconds of silence a node is out, unless it is said for its gateway.
const DEFAULT_SECONDS: u32 = 120;
/// The longest silence, in seconds.
const SECONDS_MAX: u32 = 30 * 24 * 3600;

/// After how many seconds of silence a node is out: of all gateways, and of some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutAfter {
    all: u32,
    of: BTreeMap<String, u32>,
}

impl Default for OutAfter {
    fn default() -> Self {
        Self { all: DEFAULT_SECONDS, of: BTreeMap::new() }
    }
}

impl OutAfter {
    /// Those of one gateway.
    pub fn of(&self, gateway: &str) -> u32 {
        self.of.get(gateway).copied().unwrap_or(self.all)
    }
}

impl FromStr for OutAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for part in text.split(',') {
            let (gateway, seconds) = part
                .split_once('=')
                .map_or((None, part), |(gateway, seconds)| (Some(gateway.trim()), seconds));
            let seconds = seconds.trim().parse().ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds));
            let seconds = seconds.ok_or_else(|| format!("each number must be 1 to {SECONDS_MAX} seconds"))?;
            match gateway {
                None => parsed.all = seconds,
                Some(gateway @ ("coap" | "mqtt" | "mqttsn")) => {
                    parsed.of.insert(gateway.to_owned(), seconds);
                }
                Some(other) => return Err(format!("{other} is not coap, mqtt or mqttsn")),
            }
        }
        Ok(parsed)
    }
}

impl TryFrom<String> for OutAfter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for OutAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.all)?;
        self.of.iter().try_for_each(|(gateway, seconds)| write!(f, ",{gateway}={seconds}"))
    }
}

impl From<OutAfter> for String {
    fn from(out_after: OutAfter) -> Self {
        out_after.to_string()
    }
}

/// The name of the gateway that all are who have a key file, unless it is said.
const DEFAULT_GATEWAY: &str = "remote";
/// The names of the gateways that run in the server.
const OWN_GATEWAYS: [&str; 6] = ["coap", "mdns", "mqtt", "mqttsn", "unit", "websocket"];

/// A key file, and the name of the gateway that all are who have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeKeys {
    pub gateway: String,
    pub file: PathBuf,
}

impl FromStr for NodeKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A path may have a = of its own.
        let named = text.split_once('=').filter(|(name, _)| GatewayName::parse(name).is_ok());
        let (gateway, file) = named.unwrap_or((DEFAULT_GATEWAY, text));
        if OWN_GATEWAYS.contains(&gateway) {
            return Err(format!(
                "{gateway} is the name of a gateway that runs in the server: choose another"
            ));
        }
        if file.is_empty() {
            return Err(
                "it must be a file, or NAME=FILE with a name of 1 to 16 characters of a-z 0-9".to_owned()
            );
        }
        Ok(Self { gateway: gateway.to_owned(), file: PathBuf::from(file) })
    }
}

impl TryFrom<String> for NodeKeys {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<NodeKeys> for String {
    fn from(NodeKeys { gateway, file }: NodeKeys) -> Self {
        format!("{gateway}={}", file.display())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_number_is_for_all_gateways_and_a_name_for_one() {
        let parsed: OutAfter = "60,mqtt=300".parse().unwrap();
        assert_eq!((parsed.of("coap"), parsed.of("mqtt")), (60, 300));
        assert_eq!(parsed.to_string().parse::<OutAfter>().unwrap(), parsed);
        assert_eq!(OutAfter::default().of("coap"), 120);
        for wrong in ["", "0", "x", "lorawan=3", "mqtt=", "mqtt=-1"] {
            assert!(wrong.parse::<OutAfter>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_file_may_have_a_name() {
        let parsed =
            |text: &str| text.parse::<NodeKeys>().map(|keys| (keys.gateway, keys.file.display().to_string()));
        let keys = |gateway: &str, file: &str| Ok((gateway.to_owned(), file.to_owned()));
        assert_eq!(parsed("keys"), keys("remote", "keys"));
        assert_eq!(parsed("attic=/etc/keys=1"), keys("attic", "/etc/keys=1"));
        assert_eq!(parsed("/etc/A=B"), keys("remote", "/etc/A=B"));
        assert_eq!(String::from("attic=x".parse::<NodeKeys>().unwrap()), "attic=x");
        for wrong in ["", "attic=", "mqtt=x"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
