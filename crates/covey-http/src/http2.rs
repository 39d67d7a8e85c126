//! HTTP/2: what a connection may have in the server's memory, and the end of a stream whose client takes
//! nothing of it.
//!
//! | what | bound |
//! | --- | --- |
//! | requests at a time | [`STREAMS_MAX`] |
//! | head of a request | [`HEAD_BYTES_MAX`] |
//! | what comes and is not read | [`STREAM_WINDOW_BYTES`], of all streams [`CONNECTION_WINDOW_BYTES`] |
//! | what a stream has to send in the HTTP library | [`SEND_BYTES_MAX`], and a piece of 16 KiB |
//! | what lies of all answers of a connection | 1 MiB, then its next request waits (`outgoing.rs`); bodies count in what all connections have |
//! | a stream of which nothing is taken | 30 s, then RST_STREAM (CANCEL) |
//! | no open stream | 30 s, then GOAWAY |
//! | no answer to a PING | [`PROBE_MS`] and 20 s |

use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;

use crate::connection::Connection;

/// How many requests may be open at a time.
/// Limit for each connection: the stream is refused (REFUSED_STREAM).
const STREAMS_MAX: u32 = 256;
/// Largest head of a request, in bytes, as RFC 9113 §6.5.2 counts them.
/// Limit for each request: 431.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// How much of a request's body a client may send before it is read, in bytes: that of the largest body.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// How much it may send of all, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// How much of an answer the library takes beyond what the client takes, in bytes.
/// Limit for each stream: the answer waits.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// How many streams that the client has reset may wait to be noticed; more end the connection.
/// Limit for each connection: it is closed (ENHANCE_YOUR_CALM).
const RESETS_MAX: usize = 20;
/// How many streams may be reset because of the client's errors; more end the connection.
/// Limit for each connection: it is closed (ENHANCE_YOUR_CALM).
const ERRORS_MAX: usize = 64;
/// How often a quiet connection is probed, in milliseconds.
const PROBE_MS: u64 = 30_000;

/// What speaks HTTP/2 on a connection.
pub(crate) fn over(connection: &Arc<Connection>) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(Streams(Arc::clone(connection)));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(ERRORS_MAX)
        .keep_alive_interval(Duration::from_millis(PROBE_MS));
    builder
}

/// Runs the streams of a connection, each as a task, and ends those that stall.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Connection>);

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let connection = Arc::clone(&self.0);
        // It was called for this very stream.
        let Some(answer) = connection.called() else {
            tokio::spawn(stream);
            return;
        };
        tokio::spawn(async move {
            // Dropped at its end, which resets the stream if that has not ended.
            let has_ended = tokio::select! {
                biased;
                () = stream => true,
                () = answer.until_stalled() => false,
            };
            if !has_ended {
                tracing::debug!("a client took nothing of an answer");
            } else if answer.is_waiting() {
                connection.leave_behind(&answer);
            }
        });
    }
}
