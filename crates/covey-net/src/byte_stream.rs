//! A connection as a stream of bytes, for protocols whose library wants one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::{Ended, Transport};

/// How much may wait for the socket before the writer waits, in bytes.
/// Limit for each connection: the writer waits.
const UNSENT_BYTES_MAX: usize = 16 * 1024;

/// A connection as a stream of bytes.
pub struct ByteStream {
    transport: Transport,
    /// What was read and not taken yet.
    unread: Vec<u8>,
    taken: usize,
}

impl ByteStream {
    /// A connection of which this was read already.
    #[must_use]
    pub fn new(transport: Transport, early: Vec<u8>) -> Self {
        Self { transport, unread: early, taken: 0 }
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.taken == this.unread.len() {
            this.unread.clear();
            this.taken = 0;
            match ready!(this.transport.poll_read(context, &mut this.unread)) {
                Ok(()) => {}
                Err(Ended::Closed) => return Poll::Ready(Ok(())),
                Err(ended) => return Poll::Ready(Err(error(ended))),
            }
        }
        let next = &this.unread[this.taken..];
        let count = next.len().min(into.remaining());
        into.put_slice(&next[..count]);
        this.taken += count;
        if this.taken == this.unread.len() {
            // What is idle holds no buffer.
            this.unread = Vec::new();
            this.taken = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.transport.unsent_bytes() >= UNSENT_BYTES_MAX {
            ready!(self.transport.poll_flush(context)).map_err(error)?;
        }
        self.transport.send(bytes).map_err(error)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_flush(context).map_err(error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.transport.poll_flush(context)).map_err(error)?;
        Poll::Ready(self.transport.shut_down_writing())
    }
}

fn error(ended: Ended) -> io::Error {
    match ended {
        Ended::Lost(error) => error,
        Ended::Closed => io::ErrorKind::UnexpectedEof.into(),
        Ended::Tls(error) => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
