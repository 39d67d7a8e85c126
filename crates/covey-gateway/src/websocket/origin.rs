//! Which web pages may open a WebSocket: any page can reach a loopback address, so a browser's `Origin` (RFC 6454) is
//! looked at. Programs that are no browsers send none.

/// The origins that may, beside those on the host that is asked.
#[derive(Clone, Debug, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// These, each as `https://host` or `https://host:port`.
    #[must_use]
    pub fn new(origins: impl IntoIterator<Item = String>) -> Self {
        Self(origins.into_iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect())
    }

    /// Whether a page of this origin may connect to this host.
    #[must_use]
    pub fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let origin = origin.to_ascii_lowercase();
        if self.0.contains(&origin) {
            return true;
        }
        let own = host.map(|host| host_name(host).to_ascii_lowercase());
        let theirs = origin.split_once("://").map(|(_, rest)| host_name(rest));
        theirs.is_some() && theirs == own.as_deref()
    }
}

/// A host without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !port.is_empty() => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_the_own_host_may_and_others_only_if_they_are_listed() {
        let origins = Origins::new(["https://Dash.example/".to_owned()]);
        for (origin, host, may) in [
            (None, Some("127.0.0.1:8001"), true),
            (Some("http://127.0.0.1:8080"), Some("127.0.0.1:8001"), true),
            (Some("http://[::1]:8080"), Some("[::1]:8001"), true),
            (Some("http://LOCALHOST"), Some("localhost:8001"), true),
            (Some("https://dash.example"), Some("10.0.0.1:8001"), true),
            (Some("https://elsewhere.example"), Some("10.0.0.1:8001"), false),
            (Some("http://127.0.0.1.elsewhere.example"), Some("127.0.0.1"), false),
            (Some("null"), Some("127.0.0.1:8001"), false),
            (Some("http://127.0.0.1"), None, false),
        ] {
            assert_eq!(origins.allow(origin, host), may, "{origin:?} {host:?}");
        }
    }
}
