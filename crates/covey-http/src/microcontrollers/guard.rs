//! Who may ask on the listener of microcontrollers: its clients send no credential, so that a page in a browser on the
//! same machine must not be taken for one.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use covey_core::port::{Event, Observer, Refusal};
use subtle::ConstantTimeEq;

use crate::auth::credential::key_of;
use crate::connection::Connection;
use crate::microcontrollers::Shared;
use crate::problem::{Kind, Problem};

/// The port of a host that names none (RFC 9110 §4.2.2).
const DEFAULT_PORT: u16 = 443;
/// Shortest key, in bytes.
/// Limit for the key file: the server does not start.
const KEY_BYTES_MIN: usize = 16;
/// Longest key, in bytes.
/// Limit for the key file: the server does not start.
const KEY_BYTES_MAX: usize = 256;

/// The hosts under which a listener is reached; clones have the same ones at any time.
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Arc<RwLock<HashSet<String>>>,
    port: u16,
}

impl Hosts {
    /// These names and addresses, at this port.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>, port: u16) -> Self {
        let hosts = Self { names: Arc::default(), port };
        hosts.replace(names);
        hosts
    }

    /// From now on these names and addresses, at the same port.
    pub fn replace(&self, names: impl IntoIterator<Item = String>) {
        let names = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        // What it guards is whole at every moment.
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Whether a client that names this host means the listener.
    fn has(&self, authority: &Authority) -> bool {
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        // However an address is written.
        let host = host.parse::<IpAddr>().map_or_else(|_| host.to_owned(), |address| address.to_string());
        let has_user = authority.as_str().contains('@');
        let is_named = || self.names.read().unwrap_or_else(PoisonError::into_inner).contains(&host);
        !has_user && authority.port_u16().unwrap_or(DEFAULT_PORT) == self.port && is_named()
    }

    /// Whether all that a request says of its host means the listener.
    fn are_named(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let named = headers.get_all(HOST).iter().map(|host| Authority::try_from(host.as_bytes()).ok());
        let mut all = uri.authority().cloned().map(Some).into_iter().chain(named).peekable();
        all.peek().is_some() && all.all(|host| host.is_some_and(|host| self.has(&host)))
    }
}

/// The key that a request must show.
#[derive(Clone)]
pub struct Key(Arc<str>);

impl Key {
    /// Reads a key, around which there may be blanks and line ends.
    ///
    /// # Errors
    /// What it must be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let key = text.trim_ascii();
        let is_good =
            (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        if is_good { Ok(Self(Arc::from(key))) } else { Err("a key of 16 to 256 visible ASCII characters") }
    }

    fn is_shown(&self, headers: &HeaderMap) -> bool {
        key_of(headers).is_some_and(|key| key.as_bytes().ct_eq(self.0.as_bytes()).into())
    }
}

/// Lets a request through that comes from a client program, and shows the key if there is one.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let refused = refusal(&shared.hosts, shared.key.as_ref(), &request);
    if let Some(problem) = refused {
        shared.api.metrics.happened(Event::Refused(Refusal::Credential));
        tracing::warn!(why = %problem.detail, "a request to the listener of microcontrollers was refused");
        return problem.into_response();
    }
    if let Some(connection) = request.extensions().get::<Arc<Connection>>() {
        connection.called_by_somebody();
    }
    // Else it would be answered as GET, and call a device.
    if *request.method() == Method::HEAD {
        return Problem::new(Kind::MethodNotAllowed, "no path here answers HEAD").into_response();
    }
    next.run(request).await
}

fn refusal(hosts: &Hosts, key: Option<&Key>, request: &Request) -> Option<Problem> {
    let headers = request.headers();
    if headers.contains_key(ORIGIN) {
        return Some(Problem::new(Kind::Foreign, "no page may call here: the request has an Origin"));
    }
    if !hosts.are_named(request.uri(), headers) {
        return Some(Problem::new(Kind::Foreign, "the Host of the request is not that of this listener"));
    }
    if key.is_some_and(|key| !key.is_shown(headers)) {
        let how = "this listener has a key: Authorization: Bearer KEY, or x-api-key: KEY";
        return Some(Problem::new(Kind::Unauthenticated, how));
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;

    use super::*;

    fn status(key: Option<&str>, uri: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let hosts = Hosts::new(["localhost", "127.0.0.1", "::1", "MCU.example"].map(str::to_owned), 4443);
        let key = key.map(|key| Key::parse(key).unwrap());
        let refused = refusal(&hosts, key.as_ref(), &request.body(Body::empty()).unwrap());
        refused.map(|problem| problem.into_response().status().as_u16())
    }

    #[test]
    fn a_listener_is_reached_under_the_names_of_the_moment() {
        let hosts = Hosts::new(["192.0.2.7".to_owned()], 4443);
        let shared = hosts.clone();
        hosts.replace(["192.0.2.8".to_owned()]);
        let has = |host: &'static str| shared.has(&Authority::from_static(host));
        assert!(has("192.0.2.8:4443") && !has("192.0.2.7:4443"));
    }

    #[test]
    fn a_request_names_the_listener_and_has_no_origin() {
        for host in [
            "localhost:4443",
            "LOCALHOST:4443",
            "127.0.0.1:4443",
            "[::1]:4443",
            "[0::1]:4443",
            "mcu.example:4443",
        ] {
            assert_eq!(status(None, "/", &[("host", host)]), None, "{host}");
        }
        for host in [
            "localhost",
            "localhost:443",
            "attacker.example:4443",
            "u@localhost:4443",
            "localhost:4443/x",
            "",
            "a b",
        ] {
            assert_eq!(status(None, "/", &[("host", host)]), Some(403), "{host}");
        }
        let good = ("host", "localhost:4443");
        assert_eq!(status(None, "/", &[]), Some(403));
        assert_eq!(status(None, "/", &[good, ("host", "attacker.example:4443")]), Some(403));
        assert_eq!(status(None, "https://localhost:4443/", &[]), None);
        assert_eq!(status(None, "https://attacker.example:4443/", &[good]), Some(403));
        for origin in ["https://localhost:4443", "null", ""] {
            assert_eq!(status(None, "/", &[good, ("origin", origin)]), Some(403), "{origin}");
        }
    }

    #[test]
    fn a_listener_with_a_key_wants_to_see_it() {
        let key = "0123456789abcdef";
        let good = ("host", "localhost:4443");
        for shown in ["Bearer 0123456789abcdef", "bearer 0123456789abcdef"] {
            assert_eq!(status(Some(key), "/", &[good, ("authorization", shown)]), None, "{shown}");
        }
        for shown in
            ["Bearer 0123456789abcdeF", "Bearer 0123456789abcdef0", "Bearer ", "Basic 0123456789abcdef", key]
        {
            assert_eq!(status(Some(key), "/", &[good, ("authorization", shown)]), Some(401), "{shown}");
        }
        assert_eq!(status(Some(key), "/", &[good, ("x-api-key", key)]), None);
        assert_eq!(status(Some(key), "/", &[good]), Some(401));
        for bad in ["", "short", &"x".repeat(257), "0123456789 abcdef", "0123456789abcdef\n0123456789abcdef"]
        {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
        assert!(Key::parse(" 0123456789abcdef\n").is_ok());
    }
}
