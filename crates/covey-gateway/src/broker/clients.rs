//! `/ws`: web clients. Each follows the board; what it sets becomes a task.

use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;

use covey_core::twin;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use crate::broker::board::{Follower, TooSlow};
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
                match tell(&mut socket, &follower, &mut messages, &stop, &revoked).await {
                    Told::All => {}
                    Told::Closing => continue,
                    Told::Lost => break None,
                    Told::TooSlow => {
                        tracing::warn!(address = %address.ip(), "a web client did not take what it was sent, and is cut off");
                        break None;
                    }
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

/// What has become of messages to a client.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    All,
    /// It is to be closed, which does not wait for what it has not taken.
    Closing,
    Lost,
    TooSlow,
}

async fn tell<S, K>(
    socket: &mut WebSocketStream<S>,
    follower: &Follower<K>,
    messages: &mut Vec<Utf8Bytes>,
    stop: &CancellationToken,
    revoked: &CancellationToken,
) -> Told
where
    S: AsyncRead + AsyncWrite + Unpin,
    K: Eq + Hash + Clone,
{
    tokio::select! {
        biased;
        sent = send_all(socket, messages.drain(..).map(Message::Text)) => if sent { Told::All } else { Told::Lost },
        () = follower.until_cut() => Told::TooSlow,
        () = stop.cancelled() => Told::Closing,
        () = revoked.cancelled() => Told::Closing,
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::broker::board::Board;
    use crate::broker::config;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_does_not_keep_the_broker_from_ending() {
        let (below, _client) = tokio::io::duplex(64);
        let mut socket = WebSocketStream::from_raw_socket(below, Role::Server, Some(config())).await;
        let follower = Arc::new(Board::<u64>::new()).follow();
        let mut messages = vec!["x".repeat(1024).into()];
        let (stop, revoked) = (CancellationToken::new(), CancellationToken::new());
        let began = Instant::now();
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            stop.cancel();
        };
        let telling = tell(&mut socket, &follower, &mut messages, &stop, &revoked);
        let (told, ()) = tokio::join!(telling, stopping);
        assert_eq!((told, began.elapsed()), (Told::Closing, Duration::from_millis(10)));
    }
}
