//! Who asks for a certificate: by an API key, as the password of HTTP Basic too, or by a certificate of this CA.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use covey_core::access::Caller;
use covey_core::port::{Event, Observer, Refusal};

use crate::api::Api;
use crate::auth;
use crate::auth::credential::{API_KEY_HEADER, shows_key};
use crate::client_certificate::handed_on_der;
use crate::connection::Connection;
use crate::est::{Est, EstClient};
use crate::problem::{Kind, Problem};
use crate::shares::Slot;

/// Who asks.
pub(super) enum Asker {
    /// The holder of an API key, with its place among the requests that run.
    Caller(Caller, Slot),
    /// Who has shown a certificate of this CA: in its time, or that of a device not too long past its end.
    Certificate(EstClient),
}

/// Who asks with this request. An API key decides if there is one.
pub(super) async fn of(parts: &mut Parts, api: &Arc<Api>, est: &Est) -> Result<Asker, Problem> {
    if auth::is_cross_origin(parts, api) {
        let detail = "a page of another site must not enrol with this browser's credentials";
        return Err(refused(api, Kind::Forbidden, detail));
    }
    take_basic(&mut parts.headers);
    if shows_key(&parts.headers) {
        let (caller, running) = auth::visitor(parts, api).await?;
        return Ok(Asker::Caller(caller, running));
    }
    let client = shown(parts, api, est).ok_or_else(|| {
        let detail = "show a client certificate of this CA, or send an API key as the password of HTTP Basic or as a bearer token";
        refused(api, Kind::Unauthenticated, detail)
    })?;
    let now = api.engine.now();
    // Of a device the core knows how long ago it may have ended.
    if now < *client.valid.start() || (client.is_claim && now > *client.valid.end()) {
        return Err(refused(api, Kind::Unauthenticated, "the client certificate is not in its time"));
    }
    if let Some(connection) = parts.extensions.get::<Arc<Connection>>() {
        connection.called_by_somebody();
    }
    Ok(Asker::Certificate(client))
}

/// From where a request comes, if that is known.
pub(super) fn address(parts: &Parts, api: &Api) -> Option<IpAddr> {
    auth::address_of(parts, api, api.engine.now())
}

fn refused(api: &Api, kind: Kind, detail: &'static str) -> Problem {
    api.metrics.happened(Event::Refused(Refusal::Credential));
    Problem::new(kind, detail)
}

/// Whom the certificate of the connection stands for, or that which a trusted proxy hands on.
fn shown(parts: &Parts, api: &Api, est: &Est) -> Option<EstClient> {
    let peer = parts.extensions.get::<Arc<Connection>>()?.peer.as_ref()?;
    let now = api.engine.now();
    let is_proxy = api.proxies.as_ref().is_some_and(|trust| peer.is_proxy(trust, now));
    if !is_proxy {
        return est.forms.client(peer.chain());
    }
    let own = peer.certificate().filter(|own| own.is_valid_at(now));
    own.and_then(|_| handed_on_der(&parts.headers)).and_then(|leaf| est.forms.client(&[leaf]))
}

/// Puts the password of HTTP Basic (RFC 7617 §2) where an API key stands. The user's name says nothing.
fn take_basic(headers: &mut HeaderMap) {
    if shows_key(headers) {
        return;
    }
    let Some(key) = headers.get(AUTHORIZATION).and_then(|value| basic_password(value.as_bytes())) else {
        return;
    };
    if let Ok(mut key) = HeaderValue::try_from(key) {
        key.set_sensitive(true);
        headers.insert(API_KEY_HEADER, key);
    }
}

fn basic_password(value: &[u8]) -> Option<String> {
    let (scheme, token) = value.split_at_checked(b"basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(token.trim_ascii()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_basic_is_a_key_and_what_is_no_basic_is_none() {
        let password = |text: &str| basic_password(text.as_bytes());
        // est:covey_1, and ":" with a colon in the password.
        assert_eq!(password("Basic ZXN0OmNvdmV5XzE=").as_deref(), Some("covey_1"));
        assert_eq!(password("basic  OmE6Yg==").as_deref(), Some("a:b"));
        for bad in ["", "Basic", "Basic ", "Basic !!!", "Basic ZXN0", "Bearer ZXN0OmNvdmV5XzE=", "Basic /w=="]
        {
            assert_eq!(password(bad), None, "{bad}");
        }
    }
}
