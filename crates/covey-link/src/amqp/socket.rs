//! The socket to RabbitMQ, with TLS or without, as the AMQP library wants it.
//!
//! The library has TLS of its own, but only together with readers of PKCS #12 and all their ciphers: 25
//! crates for a kind of file that is not taken here.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use async_compat::Compat;
use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::{Stream, TryFutureExt};
use lapin::AsyncTcpStream;
use lapin::uri::{AMQPScheme, AMQPUri};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// Plain, or with TLS.
type Socket = Compat<Either<TcpStream, Box<TlsStream<TcpStream>>>>;

/// Timers and sockets of the present runtime.
#[derive(Clone, Debug)]
pub(super) struct Sockets(Tokio);

/// The present runtime, for a connection over such a socket.
pub(super) fn runtime() -> Runtime<RuntimeParts<Tokio, Sockets>> {
    Runtime::new(RuntimeParts::new(Tokio::current(), Sockets(Tokio::current())))
}

/// Connects to the first address of the URI's host that answers, and shakes hands over TLS if the URI asks
/// for it.
///
/// # Errors
/// A name that is not known, nobody who answers, or a handshake that fails.
pub(super) async fn connect(uri: &AMQPUri, tls: Option<&TlsConnector>) -> io::Result<AsyncTcpStream<Socket>> {
    let host = uri.authority.host.as_str();
    let stream = TcpStream::connect((host, uri.authority.port)).await?;
    let socket = match tls {
        Some(tls) if uri.scheme == AMQPScheme::AMQPS => {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            Either::Right(Box::new(tls.connect(name, stream).await?))
        }
        _ => Either::Left(stream),
    };
    Ok(AsyncTcpStream::Plain(Compat::new(socket)))
}

impl Reactor for Sockets {
    type TcpStream = Socket;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, period: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(period)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        TcpStream::connect(address).map_ok(|stream| Compat::new(Either::Left(stream)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use covey_pki::{Authority, CertificateLifetimes, ServerNames};
    use futures_util::future::poll_fn;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use time::OffsetDateTime;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::tls::{TlsFiles, client_config};

    /// Writes 4 bytes and reads as many.
    async fn talk(mut stream: AsyncTcpStream<Socket>) -> [u8; 4] {
        let mut said = std::pin::Pin::new(&mut stream);
        let written = poll_fn(|context| said.as_mut().poll_write(context, b"ping")).await;
        assert_eq!(written.unwrap(), 4);
        poll_fn(|context| said.as_mut().poll_flush(context)).await.unwrap();
        let mut heard = [0; 4];
        let read = poll_fn(|context| said.as_mut().poll_read(context, &mut heard)).await;
        assert_eq!(read.unwrap(), 4);
        heard
    }

    #[tokio::test]
    async fn the_scheme_decides_whether_tls_is_spoken() {
        let (folder, now) = (tempfile::tempdir().unwrap(), OffsetDateTime::now_utc());
        let authority =
            Authority::open_or_create(folder.path(), CertificateLifetimes::default(), now).unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let client = authority.issue_service_client("covey.test", now).unwrap();
        let files = TlsFiles {
            ca: write("ca.pem", authority.root_pem()),
            certificate: write("client.pem", &client.certificate_pem),
            key: write("client.key", client.private_key_pem.expose()),
        };
        let connector = TlsConnector::from(Arc::new(client_config(Some(&files)).unwrap()));
        let made = authority.issue_service_server(&ServerNames::from_hosts(["127.0.0.1"]), now).unwrap();
        let chain = CertificateDer::pem_slice_iter(made.certificate_pem.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.private_key_pem.expose().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider);
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(server.with_single_cert(chain, key).unwrap()));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let uri =
            |scheme: &str| format!("{scheme}://user:word@127.0.0.1:{port}/x").parse::<AMQPUri>().unwrap();
        for scheme in ["amqps", "amqp"] {
            let served = async {
                let mut plain = listener.accept().await.unwrap().0;
                let mut heard = [0; 4];
                if scheme == "amqps" {
                    let mut secret = acceptor.accept(plain).await.unwrap();
                    secret.read_exact(&mut heard).await.unwrap();
                    secret.write_all(&heard).await.unwrap();
                    secret.flush().await.unwrap();
                } else {
                    plain.read_exact(&mut heard).await.unwrap();
                    plain.write_all(&heard).await.unwrap();
                }
            };
            let uri = uri(scheme);
            let asked = async { talk(connect(&uri, Some(&connector)).await.unwrap()).await };
            assert_eq!(tokio::join!(asked, served).0, *b"ping", "{scheme}");
        }
    }
}
