//! The address at which browsers reach the server: links, cookies and the origin of its own pages follow it.

use std::net::IpAddr;

use axum::http::HeaderValue;
use url::{Host, Url};

/// The address at which browsers reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    header: HeaderValue,
    is_https: bool,
}

impl PublicUrl {
    /// Reads an address such as `https://covey.example:8443`: without a path, and with TLS unless it is on loopback.
    ///
    /// # Errors
    /// What it must be.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str =
            "a public URL must be like https://covey.example:8443, without a path (http:// on loopback only)";
        let url = Url::parse(text).map_err(|_| EXPECTED)?;
        let has_more = url.path() != "/"
            || url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some();
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
            None => false,
        };
        let is_https = url.scheme() == "https";
        if has_more || !(is_https || (url.scheme() == "http" && is_loopback)) {
            return Err(EXPECTED);
        }
        let origin = url.origin().ascii_serialization();
        let header = HeaderValue::try_from(origin.as_str()).map_err(|_| EXPECTED)?;
        Ok(Self { origin, header, is_https })
    }

    /// The origin, as browsers write it.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether this is its origin.
    pub(crate) fn is_origin(&self, origin: &HeaderValue) -> bool {
        self.header == origin
    }

    /// Whether browsers reach it over TLS.
    pub(crate) const fn is_https(&self) -> bool {
        self.is_https
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_has_no_path_and_is_encrypted_unless_it_is_of_this_machine() {
        for (text, origin) in [
            ("https://Covey.Example:443/", "https://covey.example"),
            ("https://covey.example:8443", "https://covey.example:8443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(PublicUrl::read(text).unwrap().origin(), origin);
        }
        for bad in [
            "",
            "covey.example",
            "http://covey.example",
            "https://covey.example/a",
            "https://a@covey.example",
            "ftp://covey.example",
            "https://covey.example?a",
        ] {
            assert!(PublicUrl::read(bad).is_err(), "{bad}");
        }
    }
}
