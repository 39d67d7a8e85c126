//! Where the bytes of a transport come from and go to: a socket of the system, or a stream that somebody
//! else has made.
//!
//! The second kind is there for simulations: the same connections, sessions and limits run over a
//! network that loses, delays and cuts as its owner wants.

use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::certificate::PeerCertificate;

/// After how many seconds without a byte the system asks whether a client is still there, where the
/// protocol does not. Not sooner: the question wakes a device that sleeps.
const PROBE_AFTER_S: u64 = 300;
/// Seconds between such questions.
const PROBE_EVERY_S: u64 = 30;
/// How many remain unanswered until the client is taken for dead.
const PROBES: u32 = 4;

/// A stream of bytes in both directions that is no socket of the system. None of this waits.
pub trait Stream: Send + Sync {
    /// Ready when there is something to read, or the end of it.
    ///
    /// # Errors
    /// A stream that was lost.
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads what is there; 0 at the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while there is nothing; any other for a stream that was lost.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Ready when something can be written.
    ///
    /// # Errors
    /// A stream that was lost.
    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Writes what finds room.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while nothing does; any other for a stream that was lost.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Says that nothing follows.
    ///
    /// # Errors
    /// A stream that was lost.
    fn shutdown_write(&self) -> io::Result<()>;

    /// Asked of a stream whose protocol does not find out by itself whether the other side is there:
    /// the stream is to be lost when it is not, as a socket is 420 s after the last byte.
    fn watch_for_death(&self);
}

/// What carries the bytes of a connection.
pub enum Socket {
    /// A socket of the system.
    Tcp(TcpStream),
    /// Something else.
    Stream(Box<dyn Stream>),
}

/// A connection that has just come.
pub struct Accepted {
    /// What carries it.
    pub socket: Socket,
    /// Where it comes from.
    pub address: SocketAddr,
    /// Whose certificate was verified before it came here; none of a socket of the system, whose TLS is
    /// still to begin.
    pub certificate: Option<PeerCertificate>,
}

/// Where connections come from.
pub trait Incoming: Send + Sync + 'static {
    /// The next connection.
    ///
    /// # Errors
    /// None could be accepted; there may be one the next time.
    fn accept(&self) -> impl Future<Output = io::Result<Accepted>> + Send;
}

impl Incoming for TcpListener {
    async fn accept(&self) -> io::Result<Accepted> {
        let (tcp, address) = Self::accept(self).await?;
        Ok(Accepted { socket: Socket::Tcp(tcp), address, certificate: None })
    }
}

impl Socket {
    /// Has small messages go out at once.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.set_nodelay(true),
            Self::Stream(_) => Ok(()),
        }
    }

    /// Waits for the first byte, and leaves it there; no if the client leaves before that.
    pub(crate) async fn begins(&self) -> bool {
        match self {
            // Not `readable`, which may also be ready when there is nothing.
            Self::Tcp(tcp) => matches!(tcp.peek(&mut [0]).await, Ok(1)),
            Self::Stream(stream) => poll_fn(|context| stream.poll_read_ready(context)).await.is_ok(),
        }
    }

    /// Reads what is there; 0 at the end.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            // What does not fill the buffer was all there is, and the runtime asks the system no second
            // time (`try_read` does).
            Self::Tcp(tcp) => {
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(tcp).poll_read(context, &mut read))?;
                Poll::Ready(Ok(read.filled().len()))
            }
            Self::Stream(stream) => loop {
                ready!(stream.poll_read_ready(context))?;
                match stream.try_read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read),
                }
            },
        }
    }

    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_write_ready(context),
            Self::Stream(stream) => stream.poll_write_ready(context),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.try_write(bytes),
            Self::Stream(stream) => stream.try_write(bytes),
        }
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => SockRef::from(tcp).shutdown(Shutdown::Write),
            Self::Stream(stream) => stream.shutdown_write(),
        }
    }

    /// Acknowledges at once what was read. The system would wait up to 40 ms for an answer that carries the
    /// acknowledgement, and a client whose system holds a small segment back until the one before it is
    /// acknowledged (RFC 1122 §4.2.3.4) waits as long with what it has to say next.
    pub(crate) fn acknowledge(&self) {
        // A connection that is gone shows it at the next read.
        #[cfg(target_os = "linux")]
        if let Self::Tcp(tcp) = self {
            let _ = tcp.set_quickack(true);
        }
    }

    pub(crate) fn watch_for_death(&self) {
        let tcp = match self {
            Self::Tcp(tcp) => tcp,
            Self::Stream(stream) => return stream.watch_for_death(),
        };
        let (after, every) = (Duration::from_secs(PROBE_AFTER_S), Duration::from_secs(PROBE_EVERY_S));
        let probes = TcpKeepalive::new().with_time(after).with_interval(every).with_retries(PROBES);
        let socket = SockRef::from(tcp);
        let mut set = socket.set_tcp_keepalive(&probes);
        // What was sent and is not acknowledged counts as a question too; the system would go on for
        // about 15 minutes.
        #[cfg(target_os = "linux")]
        {
            set = set.and_then(|()| socket.set_tcp_user_timeout(Some(after + every * PROBES)));
        }
        if let Err(error) = set {
            tracing::debug!(%error, "a connection is gone already");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    #[cfg(target_os = "linux")]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_has_no_answer_is_acknowledged_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut tcp, _) = TcpListener::accept(&listener).await.unwrap();
        // Questions and answers, after which the system expects another answer.
        for _ in 0..20 {
            client.write_all(b"?").await.unwrap();
            tcp.read_exact(&mut [0]).await.unwrap();
            tcp.write_all(b"!").await.unwrap();
            client.read_exact(&mut [0]).await.unwrap();
        }
        assert!(!tcp.quickack().unwrap());
        client.write_all(b"?").await.unwrap();
        tcp.read_exact(&mut [0]).await.unwrap();
        let socket = Socket::Tcp(tcp);
        socket.acknowledge();
        let Socket::Tcp(tcp) = &socket else { panic!("a socket of the system") };
        assert!(tcp.quickack().unwrap());
    }

    #[tokio::test]
    async fn the_system_asks_for_a_client_whose_protocol_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = Incoming::accept(&listener).await.unwrap().socket;
        let Socket::Tcp(tcp) = &socket else { panic!("a socket of the system") };
        let is_asking = || SockRef::from(tcp).keepalive().unwrap();
        assert!(!is_asking(), "a device that sleeps is not woken without need");
        socket.watch_for_death();
        let options = SockRef::from(tcp);
        assert!(is_asking());
        assert_eq!(options.tcp_keepalive_time().unwrap(), Duration::from_secs(300));
        #[cfg(target_os = "linux")]
        assert_eq!(options.tcp_user_timeout().unwrap(), Some(Duration::from_secs(420)));
    }
}
