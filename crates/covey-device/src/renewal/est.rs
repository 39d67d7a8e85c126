//! One renewal over EST: two requests on HTTPS, each on a connection of its own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cms::cert::CertificateChoices;
use cms::cert::x509::Certificate;
use cms::cert::x509::der::pem::LineEnding;
use cms::cert::x509::der::{Decode, Encode, EncodePem};
use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::error::Error;

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer, in bytes.
/// Limit for each renewal: it fails, and is tried again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How many headers an answer may have.
/// Limit for each renewal: it fails, and is tried again.
const HEADERS_MAX: usize = 64;
/// Longest part of a refusal that is told.
const DETAIL_CHARS_MAX: usize = 300;
/// The port of HTTPS.
const HTTPS_PORT: u16 = 443;

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewalError {
    /// The server cannot be reached, or is another one.
    #[error("the server cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("the server did not answer within 30 s")]
    Timeout,
    /// The server refused.
    #[error("the server refused with {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        detail: String,
    },
    /// What came is no certificate for this device's key.
    #[error("the server's answer is not a certificate for the key that was asked for")]
    Answer,
    /// The server does not show the CA that issues certificates, without which nobody could verify the next one.
    #[error("the server does not show the certificate of the CA that issues those of devices")]
    Issuer,
    /// A key or a request could not be made.
    #[error("no key could be made: {0}")]
    Key(#[from] rcgen::Error),
    /// The TLS library does not take the certificate.
    #[error("the certificate cannot be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The certificate could not be stored: the one before stays in use.
    #[error("cannot write {}: {source}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Where EST is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    host: String,
    port: u16,
}

impl Place {
    /// Reads `https://host[:port][/]`; an IPv6 address in brackets.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = || Error::RenewalAddress { given: url.to_owned() };
        let rest = url.strip_prefix("https://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(v6) => v6.split_once(']').ok_or_else(wrong)?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => HTTPS_PORT,
            digits => {
                digits.and_then(|digits| digits.parse().ok()).filter(|port| *port > 0).ok_or_else(wrong)?
            }
        };
        ServerName::try_from(host).map_err(|_| wrong())?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A new key with its certificate and those that issued it.
pub(super) struct Renewed {
    pub(super) chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    /// The key, then the chain.
    pub(super) pem: String,
}

impl Renewed {
    /// As TLS needs it.
    pub(super) fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, RenewalError> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        Ok(CertifiedKey::from_der(self.chain.clone(), key, provider)?)
    }
}

/// The CAs that issue certificates of devices, or have issued them before.
pub(super) async fn issuers(
    place: &Place,
    tls: &Arc<ClientConfig>,
) -> Result<Vec<Certificate>, RenewalError> {
    let mut authority = ask(place, tls, "GET", "cacerts", "").await?;
    authority.retain(|one| one.tbs_certificate.issuer != one.tbs_certificate.subject);
    if authority.is_empty() { Err(RenewalError::Issuer) } else { Ok(authority) }
}

/// Asks for a certificate for a new key, which one of these issues.
pub(super) async fn renew(
    sn: &str,
    place: &Place,
    tls: &Arc<ClientConfig>,
    issuers: &[Certificate],
) -> Result<Renewed, RenewalError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, sn);
    let request = STANDARD.encode(params.serialize_request(&key)?.der());
    let issued = ask(place, tls, "POST", "simplereenroll", &request).await?;
    let spki = key.subject_public_key_info();
    let is_ours = |certificate: &&Certificate| {
        let info = &certificate.tbs_certificate.subject_public_key_info;
        info.to_der().is_ok_and(|info| info == spki)
    };
    let leaf = issued.iter().find(is_ours).ok_or(RenewalError::Answer)?;
    let info = &leaf.tbs_certificate;
    let is_issuer = |one: &&Certificate| one.tbs_certificate.subject == info.issuer;
    let issuers: Vec<_> = issuers.iter().filter(is_issuer).collect();
    if issuers.is_empty() {
        return Err(RenewalError::Issuer);
    }
    let (mut chain, mut pem) = (Vec::new(), key.serialize_pem());
    for certificate in std::iter::once(leaf).chain(issuers) {
        chain.push(CertificateDer::from(certificate.to_der().map_err(|_| RenewalError::Answer)?));
        pem.push_str(&certificate.to_pem(LineEnding::LF).map_err(|_| RenewalError::Answer)?);
    }
    Ok(Renewed { chain, key, pem })
}

/// One request; the certificates in its answer.
async fn ask(
    place: &Place,
    tls: &Arc<ClientConfig>,
    method: &str,
    operation: &str,
    body: &str,
) -> Result<Vec<Certificate>, RenewalError> {
    let answer = timeout(REQUEST_TIMEOUT, exchange(place, tls, method, operation, body));
    let body = answer.await.map_err(|_| RenewalError::Timeout)??;
    let text: Vec<u8> = body.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(text).map_err(|_| RenewalError::Answer)?;
    let read = || {
        let content = ContentInfo::from_der(&der)?;
        content.content.decode_as::<SignedData>()
    };
    let signed = read().map_err(|_| RenewalError::Answer)?;
    let certificates = signed.certificates.map(|set| set.0.into_vec()).unwrap_or_default();
    Ok(certificates
        .into_iter()
        .filter_map(|choice| match choice {
            CertificateChoices::Certificate(certificate) => Some(certificate),
            CertificateChoices::Other(_) => None,
        })
        .collect())
}

async fn exchange(
    Place { host, port }: &Place,
    tls: &Arc<ClientConfig>,
    method: &str,
    operation: &str,
    body: &str,
) -> Result<Vec<u8>, RenewalError> {
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host.as_str(), *port)).await?;
    let mut stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let request = format!(
        "{method} /.well-known/est/{operation} HTTP/1.1\r\nHost: {shown}:{port}\r\nConnection: close\r\n\
         Content-Type: application/pkcs10\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    loop {
        if let Some(body) = whole(&answer)? {
            return Ok(body);
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await?;
        if count == 0 || answer.len() + count > ANSWER_BYTES_MAX {
            return Err(RenewalError::Answer);
        }
        answer.extend_from_slice(&piece[..count]);
    }
}

/// The body of an answer, once it is whole. The server says how long it is.
fn whole(answer: &[u8]) -> Result<Option<Vec<u8>>, RenewalError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = parsed.parse(answer) else {
        return if answer.len() < ANSWER_BYTES_MAX / 2 { Ok(None) } else { Err(RenewalError::Answer) };
    };
    let status = parsed.code.ok_or(RenewalError::Answer)?;
    let length = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
    let length = length.ok_or(RenewalError::Answer)?;
    let Some(body) = answer.get(head..head.saturating_add(length)) else { return Ok(None) };
    if status == 200 {
        return Ok(Some(body.to_vec()));
    }
    let said = String::from_utf8_lossy(body);
    let detail = said.chars().filter(|char| !char.is_control()).take(DETAIL_CHARS_MAX).collect();
    Err(RenewalError::Refused { status, detail })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        for (url, host, port) in [
            ("https://covey.example", "covey.example", 443),
            ("https://localhost:8443/", "localhost", 8443),
            ("https://[::1]:8443", "::1", 8443),
            ("https://10.0.0.1:1", "10.0.0.1", 1),
        ] {
            assert_eq!(Place::parse(url).unwrap(), Place { host: host.to_owned(), port }, "{url}");
        }
        for url in [
            "",
            "http://a",
            "https://",
            "https://a:",
            "https://a:0",
            "https://a:x",
            "https://a/b",
            "https://[::1",
        ] {
            assert!(matches!(Place::parse(url), Err(Error::RenewalAddress { .. })), "{url}");
        }
    }

    proptest! {
        #[test]
        fn an_answer_is_whole_when_all_of_it_has_come(cut in 0_usize..100, rubbish: Vec<u8>) {
            let text = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX: y\r\n\r\nbody";
            let came = &text[..cut.min(text.len())];
            let expected = (came.len() == text.len()).then(|| b"body".to_vec());
            prop_assert_eq!(whole(came).unwrap(), expected);
            let _ = whole(&rubbish);
        }
    }

    #[test]
    fn a_refusal_says_what_the_server_said() {
        let error = whole(b"HTTP/1.1 409 Conflict\r\nContent-Length: 3\r\n\r\nno\n").unwrap_err();
        assert!(matches!(error, RenewalError::Refused { status: 409, detail } if detail == "no"));
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "its length is not said");
    }
}
