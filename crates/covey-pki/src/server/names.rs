//! The names and addresses under which clients reach the server.

use std::collections::HashSet;
use std::net::IpAddr;

use rcgen::SanType;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::error::{PkiError, shortened};

/// Octets of a DNS name at most, in text (RFC 1035 section 2.3.4, less length byte and root).
const DNS_NAME_CHARS_MAX: usize = 253;

/// Octets of one label at most (RFC 1035 section 2.3.4).
const DNS_LABEL_CHARS_MAX: usize = 63;

/// What the server certificate is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// DNS names, also `*.example.org`. Upper and lower case are the same.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ip: Vec<IpAddr>,
}

impl ServerNames {
    /// Sorts hosts as they stand in a configuration into addresses and names. Brackets around an
    /// IPv6 address are dropped.
    pub fn from_hosts<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names = Self::default();
        for host in hosts {
            let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
            match bare.parse() {
                Ok(address) => names.ip.push(address),
                Err(_) => names.dns.push(host.to_owned()),
            }
        }
        names
    }

    /// All of them as text.
    pub fn hosts(&self) -> impl Iterator<Item = String> + '_ {
        self.dns.iter().cloned().chain(self.ip.iter().map(ToString::to_string))
    }

    pub(crate) fn check(&self) -> Result<(), PkiError> {
        if self.dns.is_empty() && self.ip.is_empty() {
            return Err(PkiError::ServerNamesEmpty);
        }
        match self.dns.iter().find(|name| !is_dns_name(name)) {
            Some(name) => Err(PkiError::ServerName { name: shortened(name) }),
            None => Ok(()),
        }
    }

    pub(crate) fn alternative_names(&self) -> Result<Vec<SanType>, PkiError> {
        let mut names = Vec::with_capacity(self.dns.len() + self.ip.len());
        for name in &self.dns {
            names.push(SanType::DnsName(name.to_ascii_lowercase().try_into()?));
        }
        names.extend(self.ip.iter().copied().map(SanType::IpAddress));
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(names)
    }

    /// Whether the certificate has every one of these names, each by itself (a wildcard in the
    /// certificate stands for itself only).
    pub(super) fn are_covered_by(&self, certificate: &X509Certificate<'_>) -> bool {
        let Ok(Some(extension)) = certificate.subject_alternative_name() else {
            return false;
        };
        let present = &extension.value.general_names;
        let has_dns = |wanted: &String| {
            present
                .iter()
                .any(|name| matches!(name, GeneralName::DNSName(dns) if dns.eq_ignore_ascii_case(wanted)))
        };
        let has_ip = |wanted: &IpAddr| {
            let octets = match wanted {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            present.iter().any(|name| matches!(name, GeneralName::IPAddress(ip) if *ip == octets))
        };
        self.dns.iter().all(has_dns) && self.ip.iter().all(has_ip)
    }
}

/// Host names as they are in use: letters, digits, `-` and `_`, in labels; `*` as the first label.
fn is_dns_name(name: &str) -> bool {
    let host = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        (1..=DNS_LABEL_CHARS_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= DNS_NAME_CHARS_MAX && name.parse::<IpAddr>().is_err() && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn hosts_are_sorted_into_names_and_addresses() {
        let names = ServerNames::from_hosts(["covey.example", "10.1.2.3", "[::1]", "fe80::1"]);
        assert_eq!(names.dns, ["covey.example"]);
        assert_eq!(names.ip.len(), 3);
        assert!(names.hosts().eq(["covey.example", "10.1.2.3", "::1", "fe80::1"]));
        let twice = ServerNames::from_hosts(["::1", "Covey.example", "covey.example", "::1"]);
        assert_eq!(twice.alternative_names().unwrap().len(), 2, "each once");
    }

    #[test]
    fn names_that_no_client_could_verify_are_refused() {
        for name in ["localhost", "a.b-c.example", "*.example.org", "pi_4.local"] {
            assert!(is_dns_name(name), "{name}");
        }
        for name in ["", ".", "a..b", "a b", "*.", "a.*.b", "bücher.example", "10.0.0.1", "a/b"] {
            assert!(!is_dns_name(name), "{name}");
        }
        assert!(!is_dns_name(&"a".repeat(64)));
        assert!(matches!(ServerNames::default().check(), Err(PkiError::ServerNamesEmpty)));
    }
}
