//! The HTTP client underneath: which certificates are trusted, how connections
//! are kept, and how long anything may take.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::BuilderVerifierExt;

use crate::error::{Error, Result};

/// How long making a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept. Shorter than what servers and proxies
/// commonly allow, so that they seldom close one that is being taken.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// The header that carries the key (rest-api "Who calls").
const API_KEY_HEADER: &str = "x-api-key";
/// How requests are to be handled (RFC 7240 §4.4): a name that the server does not know is a
/// mistake, or means that the server is older than its caller, and is better refused.
const PREFER_HEADER: &str = "prefer";

/// Builds the HTTP client for one server.
pub(crate) fn http_client(base: &Url, api_key: &str, ca_pem: Option<&str>) -> Result<reqwest::Client> {
    let mut headers = HeaderMap::new();
    headers.insert(PREFER_HEADER, HeaderValue::from_static("handling=strict"));
    if !api_key.is_empty() {
        let (name, value) = if is_token(api_key) {
            (AUTHORIZATION, HeaderValue::try_from(format!("Bearer {api_key}")))
        } else {
            (HeaderName::from_static(API_KEY_HEADER), HeaderValue::try_from(api_key))
        };
        let mut value = value.map_err(|_| Error::ApiKey)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls_config(base, ca_pem)?)
        .http1_only()
        .tcp_nodelay(true)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        // A redirection would carry the key to another server.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("covey/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers);
    if is_loopback(base) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|source| Error::Setup { source })
}

/// Whether it is a token (JWT) and no key: it has three parts with a dot between two.
fn is_token(credential: &str) -> bool {
    !credential.starts_with("covey_") && credential.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// A given CA certificate is trusted alone; without one, those that this
/// machine trusts are.
fn tls_config(base: &Url, ca_pem: Option<&str>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = |source| Error::Tls { source };
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(tls)?;
    let config = match ca_pem {
        Some(pem) => config.with_root_certificates(roots(pem)?),
        None if base.scheme() == "https" => config.with_platform_verifier().map_err(tls)?,
        // Reading the machine's certificates takes longer than a whole call.
        None => config.with_root_certificates(RootCertStore::empty()),
    };
    Ok(config.with_no_client_auth())
}

fn roots(pem: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| Error::Ca)?;
        roots.add(certificate).map_err(|_| Error::Ca)?;
    }
    if roots.is_empty() { Err(Error::Ca) } else { Ok(roots) }
}

/// Reads the address of a server: with or without the path of the API.
pub(crate) fn base_url(text: &str) -> Result<Url> {
    let not_understood = || Error::BaseUrl { url: text.to_owned() };
    let mut url = Url::parse(text.trim()).map_err(|_| not_understood())?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none();
    if !is_plain {
        return Err(not_understood());
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/api/v1").unwrap_or(path).to_owned();
    url.set_path(&path);
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_taken_with_and_without_the_path_of_the_api() {
        for text in ["http://h:1", "http://h:1/", "http://h:1/api/v1", " http://h:1/api/v1/?x#y\n"] {
            assert_eq!(base_url(text).unwrap().as_str(), "http://h:1/", "{text:?}");
        }
        assert_eq!(base_url("https://h/covey/api/v1").unwrap().as_str(), "https://h/covey");
        for text in ["", "h:1", "localhost:8080", "mqtts://h:1", "http://", "https://user:word@h"] {
            assert!(matches!(base_url(text), Err(Error::BaseUrl { .. })), "{text:?}");
        }
    }

    #[test]
    fn only_addresses_of_this_machine_are_kept_from_proxies() {
        for text in ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://localhost"] {
            assert!(is_loopback(&base_url(text).unwrap()), "{text}");
        }
        for text in ["http://10.0.0.1", "http://[2001:db8::1]", "https://localhost.example"] {
            assert!(!is_loopback(&base_url(text).unwrap()), "{text}");
        }
    }

    #[test]
    fn a_key_or_ca_that_cannot_be_used_is_told_as_such() {
        let base = base_url("https://127.0.0.1:1").unwrap();
        assert!(matches!(http_client(&base, "a\nb", None), Err(Error::ApiKey)));
        for pem in ["", "no pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(http_client(&base, "k", Some(pem)), Err(Error::Ca)), "{pem:?}");
        }
    }
}
