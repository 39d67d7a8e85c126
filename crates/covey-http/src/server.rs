//! Listeners: HTTP and HTTPS on a socket that is already bound, HTTP/1.1 and
//! HTTP/2, until a token says to stop. Requests that run then get their
//! answers, within a time of grace.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Request, Response, StatusCode};
use covey_net::{Files, Gate, HalfOpen, Limits, Place, Stay};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::answer::{Answer, MadeFrom, Sent};
use crate::app::App;
use crate::arriving::Arriving;
use crate::client_certificate::Peer;
use crate::connection::{Connection, STALL_MS_MAX};
use crate::door::PeerAddress;
use crate::ended::Ended;
use crate::http2;
use crate::outgoing::Entered;
use crate::stalled_write::StalledWrite;

/// How long requests that run when the server stops may still take, in milliseconds.
pub const SHUTDOWN_GRACE_MS: u64 = 10_000;

/// How many connections a listener holds; for more, strangers' end, and those that have been idle longest.
/// Limit for each listener: the one that has been idle longest is closed.
pub const CONNECTIONS_MAX: usize = 10_000;
/// How many connections may come from one address, unless it is loopback or that of a trusted proxy.
/// Limit for each address: the one that has been idle longest is closed.
const CONNECTIONS_PER_ADDRESS_MAX: usize = CONNECTIONS_MAX / 2;
/// How long a TLS handshake may take, in milliseconds.
/// Limit for each connection: it is closed.
const HANDSHAKE_MS_MAX: u64 = 10_000;
/// How long a connection may take to send the head of its next request, idle
/// time included, in milliseconds. It bounds how long a stranger who sends
/// nothing holds a place.
/// Limit for each connection: it is closed.
const HEAD_MS_MAX: u64 = 30_000;
/// Largest head of a request over HTTP/1.1, in bytes.
/// Limit for each request: 431.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How much an encrypted connection keeps that the system does not take yet, in bytes: a piece of an answer.
/// What is more waits where it is counted.
/// Limit for each connection: the answer waits.
const TLS_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// How long a connection whose end was announced may take to end, while no request is open, in milliseconds.
/// Limit for each connection: it is cut.
const FINISH_MS_MAX: u64 = 5_000;
/// Pause after a connection could not be accepted, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 50;

/// Serves plain HTTP until `shutdown`, with at most so many open files. For the
/// loopback address, because keys travel unencrypted, and for [`App::measurements`].
///
/// # Errors
/// A listener that does not tell its own address.
pub async fn serve_http(
    listener: TcpListener,
    app: App,
    files: Option<Files>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve(listener, None, app, files, shutdown).await
}

/// Serves HTTPS until `shutdown`, with at most so many open files. The certificate is the business of the
/// resolver in `tls`, which may change it at any time. HTTP/2 and HTTP/1.1 are
/// offered by ALPN (RFC 7301) if `tls` names no protocols itself. Where `tls`
/// asks clients for a certificate, its verifier must have them prove that they
/// hold the key: a registered certificate is then as good as an API key.
///
/// # Errors
/// A listener that does not tell its own address.
pub async fn serve_https(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    app: App,
    files: Option<Files>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let tls = if tls.alpn_protocols.is_empty() {
        let mut with_protocols = ServerConfig::clone(&tls);
        with_protocols.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(with_protocols)
    } else {
        tls
    };
    serve(listener, Some(tls), app, files, shutdown).await
}

async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    app: App,
    files: Option<Files>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, tls = tls.is_some(), "serving HTTP");
    let gate = Gate::new(limits(files));
    let connections = TaskTracker::new();
    let server = Connections {
        http1: over_http1(),
        app,
        gate,
        tls,
        shutdown: shutdown.clone(),
        cut: CancellationToken::new(),
    };
    let server = Arc::new(server);
    while let Some((stream, place, half_open)) = next(&listener, &server, &shutdown).await {
        let server = Arc::clone(&server);
        connections.spawn(async move {
            let ended = server.run(stream, half_open, place).await;
            server.app.api.metrics.connection_ended(ended);
        });
    }
    // Closed first, so that a client that connects now is refused at once.
    drop(listener);
    connections.close();
    if timeout(Duration::from_millis(SHUTDOWN_GRACE_MS), connections.wait()).await.is_err() {
        tracing::warn!(%address, open = connections.len(), "cutting connections that did not end in time");
        server.cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

/// What a listener bears, of the open files that it may have.
fn limits(files: Option<Files>) -> Limits {
    Limits {
        connections_max: CONNECTIONS_MAX,
        connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
        files,
        half_open_ms_max: HANDSHAKE_MS_MAX,
        ..Limits::default()
    }
}

/// The next connection that gets a place; none at the end.
async fn next(
    listener: &TcpListener,
    server: &Connections,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, Place, HalfOpen)> {
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => match server.gate.admit(address.ip()).await {
                    Ok((place, half_open)) => return (stream, place, half_open),
                    Err(refused) => {
                        tracing::debug!(%address, %refused, "a connection was not let in");
                        server.app.api.metrics.connection_ended(Ended::Refused);
                    }
                },
                Err(error) => {
                    // Out of file descriptors, or a connection that is gone already.
                    tracing::debug!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        accepted = accept => Some(accepted),
    }
}

fn over_http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_MS_MAX))
        .max_buf_size(HEAD_BYTES_MAX);
    builder
}

/// What is spoken on a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    /// HTTP/1.1.
    Plain,
    /// HTTP/1.1 over TLS.
    Encrypted,
    /// HTTP/2 over TLS.
    Http2,
}

/// What the connections of a listener share.
struct Connections {
    /// What is spoken unless HTTP/2 was agreed on by ALPN. Which of the two it is
    /// is never guessed from the first bytes: nothing would bound the wait for them.
    http1: http1::Builder,
    app: App,
    gate: Arc<Gate>,
    tls: Option<Arc<ServerConfig>>,
    shutdown: CancellationToken,
    /// Ends connections that outlive the time of grace.
    cut: CancellationToken,
}

/// The life of a connection, and why it ended.
type Life<'a> = BoxFuture<'a, Ended>;

// What is dropped at the end is dropped in the reverse order of the parameters: the place first, so that who
// waits for it finds it free when nobody is leaving any more.
impl Connections {
    async fn run(&self, stream: TcpStream, half_open: HalfOpen, place: Place) -> Ended {
        // Answers are small and wanted at once.
        let address = match stream.set_nodelay(true).and_then(|()| stream.peer_addr()) {
            Ok(address) => PeerAddress(address),
            Err(error) => {
                tracing::debug!(%error, "a connection is gone already");
                return Ended::Broken;
            }
        };
        let connection = match &self.tls {
            None => self.speak(stream, Spoken::Plain, None, address, half_open, place),
            // In a place of its own, which is free again when the connection begins.
            Some(tls) => {
                match Box::pin(self.begin_tls(stream, Arc::clone(tls), address, half_open, place)).await {
                    Ok(connection) => connection,
                    Err(ended) => return ended,
                }
            }
        };
        connection.await
    }

    async fn begin_tls(
        &self,
        stream: TcpStream,
        tls: Arc<ServerConfig>,
        address: PeerAddress,
        half_open: HalfOpen,
        place: Place,
    ) -> Result<Life<'_>, Ended> {
        let handshake = timeout(self.gate.half_open_time(), shake_hands(stream, tls, &half_open));
        // A child, because all that wait on one token share one lock.
        let shutdown = self.shutdown.child_token();
        let shaken = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(Ended::Stopped),
            shaken = handshake => shaken,
            () = half_open.until_displaced() => {
                tracing::debug!("a TLS handshake had not begun when others needed its place");
                return Err(Ended::Displaced);
            }
        };
        let mut stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                return Err(Ended::Handshake);
            }
            Err(_) => {
                tracing::debug!("a TLS handshake took too long");
                return Err(Ended::Handshake);
            }
        };
        let session = stream.get_mut().1;
        session.set_buffer_limit(Some(TLS_BUFFER_BYTES_MAX));
        let peer = session.peer_certificates().and_then(Peer::of);
        let spoken = if session.alpn_protocol() == Some(b"h2") { Spoken::Http2 } else { Spoken::Encrypted };
        Ok(self.speak(stream, spoken, peer, address, half_open, place))
    }

    /// Serves what comes on a connection, from a client that has shown this certificate.
    fn speak<S>(
        &self,
        stream: S,
        spoken: Spoken,
        peer: Option<Peer>,
        address: PeerAddress,
        half_open: HalfOpen,
        place: Place,
    ) -> Life<'_>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let api = &self.app.api;
        let is_tls = spoken != Spoken::Plain;
        let connection = Connection::new(is_tls, spoken == Spoken::Http2, peer, Arc::clone(&api.outgoing));
        let stay = self.gate.last(half_open, Arc::clone(&connection) as _);
        if let (Some(peer), Some(proxies)) = (&connection.peer, &api.proxies)
            && peer.is_proxy(proxies, api.engine.now())
        {
            stay.trust();
        }
        let known = (api.outgoing.enter(&connection), stay);
        let (stream, service) =
            (bounded(stream, place, &connection), answered(self.app.router.clone(), &connection, address));
        if spoken == Spoken::Http2 {
            let served = Box::pin(http2::over(&connection).serve_connection(stream, service));
            let finish = hyper::server::conn::http2::Connection::graceful_shutdown;
            Box::pin(self.until_ended(known, connection, finish, served))
        } else {
            let served = Box::pin(self.http1.serve_connection(stream, service).with_upgrades());
            let finish = http1::UpgradeableConnection::graceful_shutdown;
            Box::pin(self.until_ended(known, connection, finish, served))
        }
    }

    /// Runs a connection to its end; if the server stops, to that of the requests under way.
    ///
    /// The connection is in a place of its own, made for its kind: as a part of
    /// what runs it, it would take that place several times over.
    async fn until_ended<C>(
        &self,
        _known: (Entered, Stay),
        connection: Arc<Connection>,
        finish: fn(Pin<&mut C>),
        mut served: Pin<Box<C>>,
    ) -> Ended
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let shutdown = self.shutdown.child_token();
        let announced = tokio::select! {
            biased;
            ended = served.as_mut() => return why(ended, &connection),
            () = shutdown.cancelled() => Ended::Stopped,
            () = connection.until_idle() => Ended::Idle,
            cut_for = connection.until_cut() => return cut_for,
        };
        finish(served.as_mut());
        tokio::select! {
            biased;
            ended = served.as_mut() => match why(ended, &connection) {
                Ended::Done => announced,
                ended => ended,
            },
            () = self.cut.cancelled() => Ended::Stopped,
            cut_for = connection.until_cut() => cut_for,
            () = over(&connection) => announced,
        }
    }
}

/// Why a connection ended that ended by itself.
fn why(ended: hyper::Result<()>, connection: &Connection) -> Ended {
    if let Some(cut_for) = connection.cut_why() {
        return cut_for;
    }
    ended.err().map_or(Ended::Done, |error| {
        tracing::debug!(%error, "a connection ended with an error");
        Ended::by(&error, connection.is_in_use())
    })
}

/// Waits until a connection whose end was announced has had its time, and there is nothing to wait for.
async fn over(connection: &Connection) {
    loop {
        sleep(Duration::from_millis(FINISH_MS_MAX)).await;
        if connection.is_over() {
            return;
        }
    }
}

/// What answers the requests of a connection.
fn answered(
    router: Router,
    connection: &Arc<Connection>,
    address: PeerAddress,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Sent>,
    Error = Infallible,
    Future: Send + 'static,
>
+ Send
+ 'static
+ use<> {
    let connection = Arc::clone(connection);
    service_fn(move |mut request: Request<Incoming>| {
        let open = connection.open();
        connection.head_over();
        let answer = connection.is_http2().then(|| Answer::new(&connection));
        if let Some(answer) = &answer {
            connection.call(answer);
        }
        request.extensions_mut().insert(Arc::clone(&connection));
        request.extensions_mut().insert(address);
        // A router is always ready.
        let response = router.clone().call(request);
        async move {
            let mut response: Response<axum::body::Body> = response.await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                open.connection().upgraded();
            }
            let made_from = MadeFrom::bytes(&mut response);
            Ok::<_, Infallible>(response.map(|body| Sent::new(body, open, answer, made_from)))
        }
    })
}

/// The TLS handshake. What the client said first has an answer when it is whole.
async fn shake_hands(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    half_open: &HalfOpen,
) -> io::Result<TlsStream<TcpStream>> {
    let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    half_open.begun();
    begun.into_stream(tls).await
}

/// A connection that is given up if nothing comes, or nothing is taken, for too long. It has its place for as
/// long as it is open, whatever is spoken on it at last.
fn bounded<S>(
    stream: S,
    place: Place,
    connection: &Arc<Connection>,
) -> TokioIo<Arriving<StalledWrite<S>, Place>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = StalledWrite::within(Duration::from_millis(STALL_MS_MAX), stream);
    TokioIo::new(Arriving::within(Duration::from_millis(HEAD_MS_MAX), stream, Arc::clone(connection), place))
}
