//! A bound on the wait for the first byte of a connection. The HTTP library
//! begins to count only when a request has begun to arrive.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A connection that is given up when nothing comes in time; once something
/// has come, it is as the connection inside.
pub(crate) struct FirstByte<S, P = ()> {
    stream: S,
    deadline: Option<Pin<Box<Sleep>>>,
    _place: P,
}

impl<S, P> FirstByte<S, P> {
    /// A connection whose first byte must come within `wait_max`. It holds its place
    /// until it is dropped.
    pub(crate) fn within(wait_max: Duration, stream: S, place: P) -> Self {
        Self { stream, deadline: Some(Box::pin(sleep(wait_max))), _place: place }
    }
}

impl<S: AsyncRead + Unpin, P: Unpin> AsyncRead for FirstByte<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
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

impl<S: AsyncWrite + Unpin, P: Unpin> AsyncWrite for FirstByte<S, P> {
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
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn silence_ends_and_what_has_begun_goes_on() {
        let wait_max = Duration::from_millis(50);
        let (_silent, ours) = duplex(16);
        let error = FirstByte::within(wait_max, ours, ()).read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut theirs, ours) = duplex(16);
        let mut stream = FirstByte::within(wait_max, ours, ());
        theirs.write_u8(1).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        let later = async {
            sleep(wait_max * 2).await;
            theirs.write_u8(2).await.unwrap();
        };
        let (read, ()) = tokio::join!(stream.read_u8(), later);
        assert_eq!(read.unwrap(), 2);
    }
}
