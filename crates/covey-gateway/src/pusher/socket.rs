//! `/app/{key}`: a client, from its first message to its last.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use covey_core::access::{Caller, Rights};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use super::channels::ConnectionId;
use super::error::Refusal;
use super::line::{Line, WAITING_BYTES_MAX};
use super::message::{self, FromClient, NoMessage};
use super::session::{self, ACTIVITY_TIMEOUT_S, Due, Session};
use super::{App, Pusher, socket_id};
use crate::broker::{answer_close, say_goodbye, send_all, send_last};
use crate::web::Held;
use crate::web::upgrade::Below;

/// Largest message of a Pusher client, in bytes.
/// Limit for each message: the connection is closed (1009).
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// How a WebSocket is set up.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .read_buffer_size(4 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(4 * WAITING_BYTES_MAX)
}

/// Says why there is no connection, and ends it. The protocol has the reason in a message and in the code of the close.
pub(super) async fn refuse(mut socket: WebSocketStream<Below>, refusal: Refusal) {
    goodbye(&mut socket, &refusal).await;
}

async fn goodbye<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, refusal: &Refusal) {
    if send_last(socket, Message::Text(message::error(refusal))).await {
        let code = CloseCode::from(refusal.code.unwrap_or(4000));
        say_goodbye(socket, code, &refusal.text).await;
    }
}

/// Why a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Gone,
    /// The client closes the connection.
    Left,
    Refused(Refusal),
    Closed(CloseCode, &'static str),
}

/// A connection of an app.
struct Connection {
    pusher: Arc<Pusher>,
    app: Arc<App>,
    id: ConnectionId,
    address: IpAddr,
    socket_id: Arc<str>,
    line: Arc<Line>,
}

/// Its place is free when it has ended, however it does.
impl Drop for Connection {
    fn drop(&mut self) {
        self.app.leave(self.id);
    }
}

/// Serves a client of an app; `held` is its place among the streams of the app's key.
pub(super) async fn serve(
    pusher: Arc<Pusher>,
    app: Arc<App>,
    mut socket: WebSocketStream<Below>,
    address: IpAddr,
    held: Held,
) {
    let (id, socket_id) = (pusher.next_connection(), socket_id());
    let line = match app.enter(id, &socket_id, pusher.now_ms()) {
        Ok(line) => line,
        Err(refusal) => return refuse(socket, refusal).await,
    };
    line.push(message::established(&socket_id, ACTIVITY_TIMEOUT_S));
    let connection = Connection { pusher, app, id, address, socket_id, line };
    let end = connection.run(&mut socket).await;
    let app = Arc::clone(&connection.app);
    drop(connection);
    match end {
        End::Gone => {}
        End::Left => answer_close(&mut socket).await,
        End::Refused(refusal) => {
            if refusal != Refusal::RESTART {
                tracing::info!(%address, app = %app.config.id, code = refusal.code, "a Pusher client is closed: {}", refusal.text);
            }
            goodbye(&mut socket, &refusal).await;
        }
        End::Closed(code, reason) => {
            tracing::info!(%address, app = %app.config.id, code = u16::from(code), "a Pusher client is closed: {reason}");
            say_goodbye(&mut socket, code, reason).await;
        }
    }
    drop(held);
}

/// Sends what waits for a client. Answers why the connection ends, if it does.
async fn tell<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    line: &Line,
    stop: &CancellationToken,
) -> Option<End> {
    let (texts, closed) = line.take();
    let sent = tokio::select! {
        biased;
        sent = send_all(socket, texts.into_iter().map(Message::Text)) => sent,
        () = line.until_closed(), if closed.is_none() => {
            // What it was being sent may be cut in the middle.
            return Some(End::Gone);
        }
        () = stop.cancelled() => return Some(End::Refused(Refusal::RESTART)),
    };
    match closed {
        _ if !sent => Some(End::Gone),
        Some(refusal) => Some(End::Refused(refusal)),
        None => None,
    }
}

impl Connection {
    async fn run(&self, socket: &mut WebSocketStream<Below>) -> End {
        let stop = self.pusher.stop.child_token();
        let mut session = Session::new(self.pusher.now_ms());
        loop {
            let due = self.pusher.began + Duration::from_millis(session.due_ms());
            // In no order: who is told much is heard, too.
            tokio::select! {
                () = stop.cancelled() => return End::Refused(Refusal::RESTART),
                () = self.line.news() => {
                    if let Some(end) = tell(socket, &self.line, &stop).await {
                        return end;
                    }
                }
                () = tokio::time::sleep_until(due) => match session.due(self.pusher.now_ms()) {
                    Due::Nothing => {}
                    Due::Ask => self.line.push(message::ping()),
                    Due::Gone => return End::Refused(Refusal::NO_PONG),
                },
                message = socket.next() => {
                    let heard = session.heard(self.pusher.now_ms());
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            if let Err(refusal) = heard {
                                return End::Refused(refusal);
                            }
                            self.hear(&text).await;
                        }
                        Some(Ok(Message::Binary(_))) => {
                            return End::Closed(CloseCode::Unsupported, "not a text message");
                        }
                        // The library answers a ping itself.
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) if heard.is_ok() => {}
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => return End::Refused(Refusal::FLOOD),
                        Some(Err(Error::Capacity(_))) => {
                            return End::Closed(CloseCode::Size, "a message has at most 32 KiB");
                        }
                        Some(Err(Error::Utf8(_))) => return End::Closed(CloseCode::Invalid, "not UTF-8"),
                        Some(Ok(Message::Close(_))) => return End::Left,
                        Some(Ok(Message::Frame(_)) | Err(_)) | None => return End::Gone,
                    }
                }
            }
        }
    }

    /// Takes a message of the client.
    async fn hear(&self, text: &str) {
        let done = match message::from_client(text) {
            Ok(FromClient::Ping) => {
                self.line.push(message::pong());
                Ok(())
            }
            Ok(FromClient::Pong) => Ok(()),
            Ok(FromClient::Subscribe { channel, auth, channel_data }) => {
                let subscribed = self.subscribe(&channel, auth.as_deref(), channel_data.as_deref()).await;
                if let Err(refusal) = subscribed {
                    tracing::info!(address = %self.address, app = %self.app.config.id, %channel, "a subscription was refused: {}", refusal.text);
                    self.line.push(message::subscription_error(&channel, &refusal));
                }
                Ok(())
            }
            Ok(FromClient::Unsubscribe { channel }) => {
                if let Ok(channel) = Channel::parse(&channel) {
                    self.app.change(|channels, effects| channels.unsubscribe(self.id, &channel, effects));
                }
                Ok(())
            }
            Ok(FromClient::Event { channel, event, data }) => match Channel::parse(&channel) {
                Ok(channel) => {
                    let now_ms = self.pusher.now_ms();
                    self.app.change(|channels, effects| {
                        channels.client_event(self.id, &channel, &event, &data, now_ms, effects)
                    })
                }
                Err(_) => Err(Refusal::NO_CHANNEL),
            },
            Ok(FromClient::Signin) => Err(Refusal::NO_SIGNIN),
            Ok(FromClient::Unknown { .. }) => Err(Refusal::UNKNOWN_EVENT),
            Err(NoMessage(text)) => Err(Refusal::no_message(text)),
        };
        if let Err(refusal) = done {
            self.line.push(message::error(&refusal));
        }
    }

    async fn subscribe(
        &self,
        channel: &str,
        auth: Option<&str>,
        channel_data: Option<&str>,
    ) -> Result<(), Refusal> {
        let channel = Channel::parse(channel).map_err(|_| Refusal::NO_CHANNEL)?;
        let member = session::authorise(&self.app.config, &self.socket_id, &channel, auth, channel_data)?;
        let enter = |member| {
            self.app.change(|channels, effects| channels.subscribe(self.id, &channel, member, effects))
        };
        if !channel.is_ours() {
            return enter(member);
        }
        let owner = self.pusher.owner(&self.app).await?;
        self.pusher.may_hear(&owner, &channel).await?;
        // Until the client is subscribed nobody decides that there is nobody to follow for.
        let _following = self.pusher.follow_devices(&self.app, &owner).await?;
        enter(member)
    }
}

impl Pusher {
    /// Whether a caller may hear what Covey tells in a channel of a device.
    pub(super) async fn may_hear(&self, caller: &Caller, channel: &Channel) -> Result<(), Refusal> {
        caller.require(Rights::EVENTS_READ).map_err(|_| Refusal::FORBIDDEN)?;
        let sn = channel.device().ok_or(Refusal::NO_DEVICE)?;
        match self.parts.engine.server().device_of_name(&sn).await {
            Ok(Some(device)) if device.identity.org == caller.org => Ok(()),
            Ok(_) => Err(Refusal::NO_DEVICE),
            Err(error) => {
                tracing::warn!(%error, "a device cannot be looked up");
                Err(Refusal::UNAVAILABLE)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::time::Instant;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::broker::GOODBYE_MS_MAX;

    /// A connection whose client reads nothing of what waits for it.
    async fn unread() -> (WebSocketStream<DuplexStream>, DuplexStream, Line) {
        let (below, client) = tokio::io::duplex(64);
        let line = Line::default();
        line.push("x".repeat(1024).into());
        (WebSocketStream::from_raw_socket(below, Role::Server, Some(config())).await, client, line)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_does_not_keep_the_server_from_ending() {
        let (mut socket, _client, line) = unread().await;
        let stop = CancellationToken::new();
        let began = Instant::now();
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            stop.cancel();
        };
        let (end, ()) = tokio::join!(tell(&mut socket, &line, &stop), stopping);
        assert_eq!(end, Some(End::Refused(Refusal::RESTART)));
        assert_eq!(began.elapsed(), Duration::from_millis(10));
        goodbye(&mut socket, &Refusal::RESTART).await;
        assert!(began.elapsed() <= Duration::from_millis(10 + GOODBYE_MS_MAX + 1));
    }
}
