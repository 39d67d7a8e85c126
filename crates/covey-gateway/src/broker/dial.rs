//! A WebSocket to a broker, as a gateway opens it. The handshake is our own: brokers need not select one of the subprotocols
//! that carry the token, and the library fails if none is.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use covey_core::webhook::address::AddressRule;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use url::Url;

use crate::broker::fernet::Keys;
use crate::broker::{OUR_GATEWAY, config};

/// How long a connection may take to be there, in milliseconds.
/// Limit for each attempt: it is given up, and made again after a pause.
pub(crate) const DIAL_MS_MAX: u64 = 15_000;
/// Largest head of the answer, in bytes.
/// Limit for each attempt: it is given up, and made again after a pause.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How many headers it may have.
/// Limit for each attempt: it is given up, and made again after a pause.
const HEADERS_MAX: usize = 64;

/// Where a broker is, and what is shown to it.
pub struct Dial {
    url: Url,
    keys: Keys,
    tls: Option<TlsConnector>,
}

/// Why there is no connection to the broker.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// It is no address of a broker.
    #[error(
        "{url} is not an address of a node broker: it must be like ws://broker.example:8000/gw, or wss:// for TLS"
    )]
    Url {
        /// What was given.
        url: String,
    },
    /// The CA file cannot be used.
    #[error("cannot use {} for TLS to the broker: {problem}; it must hold certificates in PEM", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS to the broker: {0}")]
    Tls(#[from] rustls::Error),
    /// It cannot be reached.
    #[error("cannot reach it: {0}")]
    Reach(#[from] io::Error),
    /// It is where it may not be.
    #[error("it has no address that may be connected to; allow it with --webhook-allow")]
    Forbidden,
    /// It does not answer.
    #[error("it does not answer in time")]
    Timeout,
    /// It refuses the token.
    #[error("it refuses the key file (401): this gateway and the broker must have the same one")]
    Keys,
    /// It answers otherwise.
    #[error("it does not speak WebSocket there: {0}")]
    Answer(String),
}

/// A connection with or without TLS.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Dial {
    /// A broker at this address. The certificates in `ca`, in PEM, are trusted alone; without it those that this machine
    /// trusts are.
    ///
    /// # Errors
    /// An address that is none, or a CA file that cannot be used.
    pub fn new(address: &str, keys: Keys, ca: Option<&Path>) -> Result<Self, DialError> {
        let wrong = || DialError::Url { url: address.to_owned() };
        let mut url = Url::parse(address.trim()).map_err(|_| wrong())?;
        let is_plain = matches!(url.scheme(), "ws" | "wss") && url.has_host() && url.username().is_empty();
        if !is_plain || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong());
        }
        if url.path() == "/" {
            url.set_path("/gw");
        }
        let tls = if url.scheme() == "wss" { Some(connector(ca)?) } else { None };
        Ok(Self { url, keys, tls })
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Connects, and shows that this is a gateway.
    pub(super) async fn connect(&self) -> Result<WebSocketStream<Stream>, DialError> {
        let connecting = timeout(Duration::from_millis(DIAL_MS_MAX), self.open());
        connecting.await.unwrap_or(Err(DialError::Timeout))
    }

    async fn open(&self) -> Result<WebSocketStream<Stream>, DialError> {
        let token = self.keys.token();
        let headers = format!("Sec-WebSocket-Protocol: token, {token}\r\nUser-Agent: {OUR_GATEWAY}\r\n");
        open(&self.url, self.tls.as_ref(), None, &headers, config()).await
    }
}

/// Opens a WebSocket, with these lines of headers beside those that each has; where a rule is given, only to an address that
/// it admits.
pub(crate) async fn open(
    url: &Url,
    tls: Option<&TlsConnector>,
    rule: Option<&AddressRule>,
    headers: &str,
    config: WebSocketConfig,
) -> Result<WebSocketStream<Stream>, DialError> {
    let wrong = || DialError::Url { url: url.to_string() };
    let host = url.host_str().ok_or_else(wrong)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().ok_or_else(wrong)?;
    let socket = match rule {
        None => TcpStream::connect((bare, port)).await?,
        Some(rule) => {
            let addresses = tokio::net::lookup_host((bare, port)).await?;
            let admitted: Vec<_> = addresses.filter(|one| rule.admits(one.ip(), tls.is_some())).collect();
            if admitted.is_empty() {
                return Err(DialError::Forbidden);
            }
            TcpStream::connect(&admitted[..]).await?
        }
    };
    // Without it messages only come later.
    let _ = socket.set_nodelay(true);
    let mut stream = match tls {
        None => Stream::Plain(socket),
        Some(tls) => {
            let name = ServerName::try_from(bare.to_owned()).map_err(|_| wrong())?;
            Stream::Tls(Box::new(tls.connect(name, socket).await?))
        }
    };
    let key = generate_key();
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(DialError::Answer("it closed the connection".to_owned()));
        }
        if let Some(length) = upgraded(&read, &key)? {
            let early = read.split_off(length);
            return Ok(WebSocketStream::from_partially_read(stream, early, Role::Client, Some(config)).await);
        }
        if read.len() >= HEAD_BYTES_MAX {
            return Err(DialError::Answer("the head of its answer is too long".to_owned()));
        }
    }
}

/// TLS with the certificates in a file, in PEM, trusted alone; without it those that this machine trusts are.
pub(crate) fn connector(ca: Option<&Path>) -> Result<TlsConnector, DialError> {
    Ok(TlsConnector::from(Arc::new(tls(ca)?)))
}

/// Reads the head of an answer: how long it is, if it is there.
fn upgraded(read: &[u8], key: &str) -> Result<Option<usize>, DialError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(read).map_err(|error| DialError::Answer(error.to_string()))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    match response.code {
        Some(101) => {}
        Some(401) => return Err(DialError::Keys),
        code => return Err(DialError::Answer(format!("it answers {}", code.unwrap_or_default()))),
    }
    let accept =
        response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
    if accept.is_none_or(|accept| accept.value != derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(DialError::Answer("it does not show that it has read the request".to_owned()));
    }
    Ok(Some(length))
}

fn tls(ca: Option<&Path>) -> Result<ClientConfig, DialError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let Some(path) = ca else { return Ok(builder.with_platform_verifier()?.with_no_client_auth()) };
    let unusable = |problem: String| DialError::Ca { path: path.to_owned(), problem };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is none in it".to_owned()));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_those_of_a_broker() {
        let url =
            |address: &str| Dial::new(address, Keys::generate(), None).map(|dial| dial.url().to_owned());
        assert_eq!(url("ws://localhost:8000").unwrap(), "ws://localhost:8000/gw");
        assert_eq!(url("ws://[::1]:8000/gw").unwrap(), "ws://[::1]:8000/gw");
        assert_eq!(url("wss://broker.example/nodes/gw").unwrap(), "wss://broker.example/nodes/gw");
        for bad in [
            "",
            "localhost:8000",
            "http://localhost:8000",
            "ws://",
            "ws://a:b@c",
            "ws://a/gw?x",
            "ws://a/gw#x",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_is_read_when_it_is_there() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(upgraded(format!("{good}rest").as_bytes(), key).unwrap(), Some(good.len()));
        for length in 0..good.len() {
            assert_eq!(upgraded(&good.as_bytes()[..length], key).unwrap(), None);
        }
        assert!(matches!(upgraded(b"HTTP/1.1 401 Unauthorized\r\n\r\n", key), Err(DialError::Keys)));
        for bad in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "SSH-2.0\r\n\r\n"]
        {
            assert!(matches!(upgraded(bad.as_bytes(), key), Err(DialError::Answer(_))), "{bad}");
        }
    }
}
