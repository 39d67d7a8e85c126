//! `/ws`: web clients. Each follows the board; what it sets becomes a task.

use std::net::SocketAddr;
use std::sync::Arc;

use covey_core::twin;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use crate::broker::board::TooSlow;
use crate::broker::messages::{FromClient, NoMessage, Set, from_client};
use crate::broker::{Broker, say_goodbye, send_all};

/// How many of a client's `update`s may be on their way into the store.
/// Limit for each web client: it is not read until one is there.
const SETS_MAX: usize = 16;
/// How many bytes are taken at once of what waits for a client.
const TAKE_BYTES: usize = 64 * 1024;
/// Why a client is closed by the broker.
struct Closed {
    code: CloseCode,
    reason: &'static str,
}

/// A client, from its first message to its last; it is closed when it is `revoked`.
pub(super) async fn connection<S>(
    broker: Arc<Broker>,
    mut socket: WebSocketStream<S>,
    address: SocketAddr,
    revoked: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let uid: Arc<str> = uuid::Uuid::new_v4().to_string().into();
    let mut follower = broker.audience.board.follow();
    broker.audience.clients.insert(Arc::clone(&uid), follower.number());
    let stop = broker.stop.child_token();
    let mut sets = FuturesUnordered::new();
    let mut messages = Vec::new();
    let closed = loop {
        tokio::select! {
            () = stop.cancelled() => {
                break Some(Closed { code: CloseCode::Restart, reason: "the broker ends" });
            }
            () = revoked.cancelled() => {
                break Some(Closed { code: CloseCode::Policy, reason: "the key is not valid any more" });
            }
            () = follower.news() => {
                if follower.take(TAKE_BYTES, &mut messages) == Err(TooSlow) {
                    tracing::warn!(address = %address.ip(), "a web client did not take what it was sent, and is cut off");
                    break None;
                }
                let sent = tokio::select! {
                    biased;
                    sent = send_all(&mut socket, messages.drain(..).map(Message::Text)) => sent,
                    () = follower.until_cut() => {
                        tracing::warn!(address = %address.ip(), "a web client did not take what it was sent, and is cut off");
                        false
                    }
                };
                if !sent {
                    break None;
                }
            }
            Some(()) = sets.next(), if !sets.is_empty() => {}
            message = socket.next(), if sets.len() < SETS_MAX => match message {
                Some(Ok(Message::Text(text))) => match from_client(&text) {
                    Ok(FromClient::New) => {
                        follower.ask(&uid);
                        broker.realms.iter().for_each(|(_, nodes)| nodes.ask(&uid));
                    }
                    Ok(FromClient::Set(set)) => sets.extend(broker.set(set, address)),
                    Ok(FromClient::Nothing) => {}
                    Err(NoMessage(reason)) => break Some(Closed { code: CloseCode::Unsupported, reason }),
                },
                Some(Ok(Message::Binary(_))) => {
                    break Some(Closed { code: CloseCode::Unsupported, reason: "not a text message" });
                }
                Some(Ok(_)) => {}
                Some(Err(Error::Capacity(_))) => {
                    break Some(Closed { code: CloseCode::Size, reason: "a message has at most 64 KiB" });
                }
                Some(Err(Error::Utf8(_))) => {
                    break Some(Closed { code: CloseCode::Invalid, reason: "not UTF-8" });
                }
                Some(Err(_)) | None => break None,
            }
        }
    };
    broker.audience.clients.remove(&uid);
    drop(follower);
    if let Some(Closed { code, reason }) = closed {
        if code != CloseCode::Restart {
            tracing::warn!(address = %address.ip(), code = u16::from(code), "a web client is closed: {reason}");
        }
        say_goodbye(&mut socket, code, reason).await;
    }
    // What was asked for is done all the same.
    while sets.next().await.is_some() {}
}

impl Broker {
    /// What a client sets becomes a task; nothing, if there is no such node. The future is begun in the order in which it
    /// was made.
    fn set(&self, set: Set, address: SocketAddr) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Set { uid, endpoint, payload } = set;
        let Some(node) = self.audience.board.key_of(&uid) else {
            tracing::info!(address = %address.ip(), %uid, "a web client sets a resource of a node that is not there");
            return None;
        };
        if let Err(error) = twin::validate(&endpoint, &payload) {
            tracing::warn!(address = %address.ip(), %uid, %error, "a web client sets what no resource can be");
            return None;
        }
        let setting = self.wishes.set(node, &endpoint, &payload);
        Some(async move {
            if let Err(error) = setting.await {
                tracing::warn!(address = %address.ip(), %uid, %error, "what a web client sets was not stored");
            }
        })
    }
}
