//! The stream over WebSocket.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use covey_core::feed::Follower;
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::Api;
use crate::stream::tell::{Told, tell};
use crate::stream::{HEARTBEAT, Place};

/// Largest message from a reader, in bytes: there is nothing to say to a stream.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// How much may wait for the network, in bytes, before a stream waits with it.
const WRITE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a reader may take no bytes before it is given up.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How many pings in a row may stay without a sign of life.
const PINGS_MAX: u32 = 2;

/// Answers with the upgrade; the stream begins after it.
pub(super) fn answer(api: &Api, upgrade: WebSocketUpgrade, follower: Follower, place: Place) -> Response {
    let shutdown = api.shutdown.clone();
    upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(MESSAGE_BYTES_MAX)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BYTES_MAX)
        .on_upgrade(async move |socket| run(socket, follower, place, &shutdown).await)
}

async fn run(socket: WebSocket, mut follower: Follower, mut place: Place, shutdown: &CancellationToken) {
    let (mut writing, mut reading) = socket.split();
    let mut unanswered = 0;
    loop {
        let told = tokio::select! {
            told = tell(&mut follower, &mut place, HEARTBEAT, shutdown) => told,
            heard = reading.next() => match heard {
                // Whatever it says, it lives.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Binary(_))) => {
                    unanswered = 0;
                    continue;
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
        };
        let sent = match told {
            Told::Records(records) => {
                let sending = async {
                    for record in &records {
                        // JSON is UTF-8, so nothing is ever left out here.
                        let json =
                            Utf8Bytes::try_from(place.streams.frames.of(record).json).unwrap_or_default();
                        writing.feed(Message::Text(json)).await?;
                    }
                    writing.flush().await
                };
                timeout(STALL_MAX, sending).await
            }
            Told::Nothing(_) if unanswered >= PINGS_MAX => return,
            Told::Nothing(_) => {
                unanswered += 1;
                timeout(STALL_MAX, writing.send(Message::Ping(bytes::Bytes::new()))).await
            }
            Told::End(end) => {
                let last = async {
                    writing
                        .send(Message::text(format!("{{\"kind\":\"end\",\"end\":{}}}", end.json())))
                        .await?;
                    let code = match end.reason {
                        "shutdown" => close_code::RESTART,
                        "unauthorized" => close_code::POLICY,
                        _ => close_code::AGAIN,
                    };
                    writing.send(Message::Close(Some(CloseFrame { code, reason: end.reason.into() }))).await
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
