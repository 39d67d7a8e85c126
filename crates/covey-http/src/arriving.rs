//! What arrives on a connection: a bound on the wait for its first byte, since the HTTP library begins to count only when a
//! request has begun to arrive; and a count of what comes, since of a head that does not end all is kept.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::connection::Connection;

/// A connection that is given up when nothing comes in time, and that says what was read from it.
pub(crate) struct Arriving<S, P = ()> {
    stream: S,
    connection: Arc<Connection>,
    deadline: Option<Pin<Box<Sleep>>>,
    _place: P,
}

impl<S, P> Arriving<S, P> {
    /// A connection whose first byte must come within `wait_max`. It holds its place
    /// until it is dropped.
    pub(crate) fn within(wait_max: Duration, stream: S, connection: Arc<Connection>, place: P) -> Self {
        Self { stream, connection, deadline: Some(Box::pin(sleep(wait_max))), _place: place }
    }
}

impl<S, P> Drop for Arriving<S, P> {
    fn drop(&mut self) {
        self.connection.head_over();
    }
}

impl<S: AsyncRead + Unpin, P: Unpin> AsyncRead for Arriving<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.connection.read(buffer.filled().len() - before);
        // Nothing more is read from one that is cut.
        if self.connection.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if read.is_ready() {
            self.deadline = None;
        } else if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, P: Unpin> AsyncWrite for Arriving<S, P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::outgoing::Outgoing;

    const LONG: Duration = Duration::from_secs(60);

    fn connection(outgoing: &Arc<Outgoing>) -> Arc<Connection> {
        Connection::new(false, false, None, Arc::clone(outgoing))
    }

    fn arriving(
        wait_max: Duration,
        ours: DuplexStream,
        connection: &Arc<Connection>,
    ) -> Arriving<DuplexStream> {
        Arriving::within(wait_max, ours, Arc::clone(connection), ())
    }

    #[tokio::test]
    async fn silence_ends_and_what_has_begun_goes_on() {
        let (wait_max, outgoing) = (Duration::from_millis(50), Arc::default());
        let (_silent, ours) = duplex(16);
        let error = arriving(wait_max, ours, &connection(&outgoing)).read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut theirs, ours) = duplex(16);
        let mut stream = arriving(wait_max, ours, &connection(&outgoing));
        theirs.write_u8(1).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        let later = async {
            sleep(wait_max * 2).await;
            theirs.write_u8(2).await.unwrap();
        };
        let (read, ()) = tokio::join!(stream.read_u8(), later);
        assert_eq!(read.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_head_counts_until_its_request_begins_and_no_longer_than_its_connection() {
        let outgoing = Arc::new(Outgoing::default());
        let connection = connection(&outgoing);
        let (mut theirs, ours) = duplex(1_024);
        let mut stream = arriving(LONG, ours, &connection);
        let mut read = async |count: usize| {
            theirs.write_all(&vec![0; count]).await.unwrap();
            stream.read_exact(&mut vec![0; count]).await.unwrap();
            outgoing.bytes()
        };
        assert_eq!((read(100).await, read(20).await), (100, 120));
        let open = connection.open();
        connection.head_over();
        assert_eq!(read(50).await, 0, "a body has its own count");
        drop(open);
        assert_eq!((read(30).await, connection.held_bytes()), (30, 30));
        drop(stream);
        assert_eq!((outgoing.bytes(), connection.held_bytes()), (0, 0));
    }

    #[tokio::test]
    async fn where_no_room_is_left_a_stranger_with_a_large_head_is_read_no_more() {
        let outgoing = Arc::new(Outgoing::within(10_000));
        let begun = |has_caller: bool| {
            let connection = connection(&outgoing);
            if has_caller {
                connection.called_by_somebody();
            }
            let (theirs, ours) = duplex(16_384);
            (theirs, arriving(LONG, ours, &connection))
        };
        let (mut theirs, mut stream) = begun(true);
        theirs.write_all(&[0; 9_000]).await.unwrap();
        stream.read_exact(&mut [0; 9_000]).await.unwrap();
        let (mut others, mut stranger) = begun(false);
        others.write_all(&[0; 9_000]).await.unwrap();
        stranger.read_exact(&mut [0; 900]).await.unwrap();
        let error = stranger.read_exact(&mut [0; 8_100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(!stream.connection.is_cut());
    }

    #[tokio::test]
    async fn no_more_counts_than_a_head_may_have_and_nothing_of_another_protocol() {
        let outgoing = Arc::new(Outgoing::default());
        let connection = connection(&outgoing);
        (0..100).for_each(|_| connection.read(1_000));
        assert_eq!(outgoing.bytes(), crate::server::HEAD_BYTES_MAX);
        connection.upgraded();
        connection.read(1_000);
        assert_eq!(outgoing.bytes(), 0);
        let http2 = Connection::new(true, true, None, Arc::clone(&outgoing));
        http2.read(1_000);
        assert_eq!(outgoing.bytes(), 0);
    }
}
