//! The stream over WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::stream::open_stream::{CHUNK_BYTES, Next, OpenStream};

/// Largest message from a reader, in bytes. Nothing that a reader sends is used.
/// Limit for each WebSocket: it is closed (1009).
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// How many bytes may wait for the network before the stream waits too.
/// Limit for each WebSocket: it is closed.
const WRITE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a reader may accept no bytes before the connection is closed.
/// Limit for each WebSocket: it is closed.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How many pings in a row may stay unanswered before the connection is closed.
/// Limit for each WebSocket: it is closed.
const PINGS_MAX: u32 = 2;

/// Answers with the upgrade; the stream begins after it.
pub(super) fn answer(upgrade: WebSocketUpgrade, open: OpenStream) -> Response {
    upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(MESSAGE_BYTES_MAX)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BYTES_MAX)
        .on_upgrade(async move |socket| run(socket, open).await)
}

async fn run(socket: WebSocket, mut open: OpenStream) {
    let (mut writing, mut reading) = socket.split();
    let streams = Arc::clone(&open.streams);
    let mut unanswered = 0;
    loop {
        let next = tokio::select! {
            next = open.next() => next,
            received = reading.next() => match received {
                // Any message proves that the reader is there.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Binary(_))) => {
                    unanswered = 0;
                    continue;
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
        };
        let sent = match next {
            Next::Records(batch) => {
                let cut = CancellationToken::new();
                let bytes: usize = batch.records.iter().map(|record| record.bytes()).sum();
                let _on_its_way = (bytes > CHUNK_BYTES).then(|| streams.on_their_way.begin(bytes, &cut));
                let sending = async {
                    for record in &batch.records {
                        // JSON is UTF-8, so this never fails.
                        let json =
                            Utf8Bytes::try_from(streams.frames.of(record).await.json).unwrap_or_default();
                        writing.feed(Message::Text(json)).await?;
                    }
                    writing.flush().await
                };
                let sent = timeout(STALL_MAX, cut.run_until_cancelled(sending)).await;
                open.take(batch.cursor);
                match sent {
                    Ok(Some(sent)) => Ok(sent),
                    Ok(None) => return,
                    Err(elapsed) => Err(elapsed),
                }
            }
            Next::Heartbeat(_) if unanswered >= PINGS_MAX => return,
            Next::Heartbeat(_) => {
                unanswered += 1;
                timeout(STALL_MAX, writing.send(Message::Ping(bytes::Bytes::new()))).await
            }
            Next::End(end) => {
                let last = async {
                    writing
                        .send(Message::text(format!("{{\"kind\":\"end\",\"end\":{}}}", end.to_json())))
                        .await?;
                    let code = match &*end.reason {
                        "shutdown" => close_code::RESTART,
                        "unauthorized" => close_code::POLICY,
                        _ => close_code::AGAIN,
                    };
                    writing
                        .send(Message::Close(Some(CloseFrame { code, reason: end.reason.as_ref().into() })))
                        .await
                };
                let _ = timeout(STALL_MAX, last).await;
                return;
            }
        };
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}
