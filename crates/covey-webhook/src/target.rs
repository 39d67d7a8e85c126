//! Where a URL leads, as far as can be told without asking anyone.

use covey_core::Error;
use covey_core::webhook::address::AddressRule;
use reqwest::Url;

/// The URL of an endpoint that can be sent to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) is_tls: bool,
}

const INVALID: Error = Error::invalid("url", "must be a URL such as https://receiver.example/covey");
const CHARACTERS: Error =
    Error::invalid("url", "must have only printable ASCII characters, and neither spaces nor backslashes");
const SCHEME: Error = Error::invalid("url", "must begin with https:// (or http://)");
const CREDENTIALS: Error = Error::invalid("url", "must not hold a user or password: send them in headers");
const FRAGMENT: Error = Error::invalid("url", "must not have a fragment");
const PORT: Error = Error::invalid("url", "must not have port 0");
const FORBIDDEN: Error = Error::invalid(
    "url",
    "leads to an address that webhooks may not go to (loopback, private, link-local or special); an operator \
     can allow ranges with --webhook-allow",
);
const PLAIN: Error = Error::invalid(
    "url",
    "must begin with https://: plain HTTP only goes to addresses that the operator allows with --webhook-allow",
);

/// Reads the URL of an endpoint. A literal address, however it is spelled, is
/// checked here; that of a name when it is connected to.
pub(crate) fn target(text: &str, rule: &AddressRule) -> Result<Target, Error> {
    // Readers of URLs drop some characters and take others for a slash, so
    // that what is checked would not be what is written.
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err(CHARACTERS);
    }
    let url = Url::parse(text).map_err(|_| INVALID)?;
    let is_tls = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err(SCHEME),
    };
    let authority = text.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err(INVALID);
    }
    if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
        return Err(CREDENTIALS);
    }
    if url.fragment().is_some() {
        return Err(FRAGMENT);
    }
    if url.port() == Some(0) {
        return Err(PORT);
    }
    if !is_tls && !rule.admits_plain_http() {
        return Err(PLAIN);
    }
    match url.host() {
        None => return Err(INVALID),
        Some(url::Host::Ipv4(address)) if !rule.admits(address.into(), is_tls) => {
            return Err(refusal(address.into(), rule));
        }
        Some(url::Host::Ipv6(address)) if !rule.admits(address.into(), is_tls) => {
            return Err(refusal(address.into(), rule));
        }
        Some(_) => {}
    }
    Ok(Target { url, is_tls })
}

fn refusal(address: std::net::IpAddr, rule: &AddressRule) -> Error {
    if rule.admits(address, true) { PLAIN } else { FORBIDDEN }
}

/// The URL with one more segment at the end of its path.
pub(crate) fn with_segment(url: &Url, segment: &str) -> Url {
    let mut longer = url.clone();
    // Only of URLs without a host there are no segments.
    if let Ok(mut segments) = longer.path_segments_mut() {
        segments.pop_if_empty().push(segment);
    }
    longer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(text: &str, rule: &AddressRule) -> Option<Error> {
        target(text, rule).err()
    }

    #[test]
    fn every_spelling_of_an_address_is_the_address() {
        let rule = AddressRule::default();
        for host in [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "0x7f.0x0.0x0.0x1",
            "127.0.0.1.",
            "2130706433.",
            "0",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
            "0xa9fea9fe",
            "2852039166",
            "[fd00:ec2::254]",
            "10.0.0.1",
            "[fe80::1]",
            "%31%32%37.0.0.1",
            "192.168.0.1",
            "100.100.100.200",
        ] {
            assert_eq!(refused(&format!("https://{host}/x"), &rule), Some(FORBIDDEN), "{host}");
            assert_eq!(refused(&format!("https://{host}:8443/x"), &rule), Some(FORBIDDEN), "{host}");
        }
        for url in ["https://１２７.0.0.1/", "https://127。0。0。1/", "https://ⓔxample.com/"] {
            assert_eq!(refused(url, &rule), Some(CHARACTERS), "{url}");
        }
    }

    #[test]
    fn only_plain_urls_over_http_are_taken() {
        let rule = AddressRule::default();
        for (url, error) in [
            ("", INVALID),
            ("receiver.example", INVALID),
            ("//receiver.example", INVALID),
            ("https://", INVALID),
            ("https:///x", INVALID),
            ("https:receiver.example", INVALID),
            ("https://a:99999/", INVALID),
            ("https://[::1/", INVALID),
            ("ftp://receiver.example", SCHEME),
            ("file:///etc/passwd", SCHEME),
            ("gopher://receiver.example", SCHEME),
            ("javascript:alert(1)", SCHEME),
            ("unix:///run/docker.sock", SCHEME),
            ("https://user@receiver.example", CREDENTIALS),
            ("https://user:word@receiver.example", CREDENTIALS),
            ("https://receiver.example@127.0.0.1/", CREDENTIALS),
            ("https://@receiver.example/", CREDENTIALS),
            ("https://receiver.example/#x", FRAGMENT),
            ("https://receiver.example:0/", PORT),
            ("https://receiver.example\\@127.0.0.1/", CHARACTERS),
            ("https://rece\niver.example/", CHARACTERS),
            ("https://receiver.example/\r\nx", CHARACTERS),
            (" https://receiver.example/", CHARACTERS),
            ("http://receiver.example/", PLAIN),
            ("http://1.1.1.1/", PLAIN),
        ] {
            assert_eq!(refused(url, &rule), Some(error), "{url:?}");
        }
        for url in ["https://receiver.example", "HTTPS://Receiver.Example:8443/a/b?c=d", "https://1.1.1.1/"] {
            assert_eq!(refused(url, &rule), None, "{url}");
        }
        let rule = AddressRule::parse(["loopback"]).unwrap();
        assert_eq!(refused("http://127.0.0.1:1/", &rule), None);
        assert_eq!(refused("http://localhost/", &rule), None, "its address is looked at when connecting");
        assert_eq!(refused("http://1.1.1.1/", &rule), Some(PLAIN));
        assert_eq!(refused("http://10.0.0.1/", &rule), Some(FORBIDDEN));
    }

    #[test]
    fn a_segment_goes_to_the_end_of_the_path() {
        let longer = |text: &str| with_segment(&Url::parse(text).unwrap(), "a/b").to_string();
        assert_eq!(longer("https://r.example"), "https://r.example/a%2Fb");
        assert_eq!(longer("https://r.example/hook/?x=1"), "https://r.example/hook/a%2Fb?x=1");
    }
}
