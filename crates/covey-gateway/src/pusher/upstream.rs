//! In a base unit's place: hears the requests of a dashboard over its Pusher service, and makes writes of units of them. The
//! rules are in `client.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use covey_core::access::{Caller, Rights};
use futures_util::{SinkExt, StreamExt};
use rand::RngExt;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Pusher;
use super::channel::REQUESTS;
use super::client::{Action, Again, Client, again};
use super::config::ServiceConfig;
use super::outgoing::{Method, ToSend, shown};
use super::requests::{UpdateRequest, Whose};
use crate::broker::dial::{self, DIAL_MS_MAX, Stream};
use crate::broker::{GOODBYE_MS_MAX, answer_close};

/// Largest message of a dashboard's Pusher service, in bytes.
/// Limit for each message: the connection is closed, and made again.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// How long a dashboard's Pusher service may take no byte, in milliseconds.
/// Limit for each connection to a service: it is closed, and made again.
const STALL_MS_MAX: u64 = 30_000;
/// The first pause before a service is tried again, in milliseconds; each is twice as long as the one before.
const PAUSE_MS: u64 = 1_000;
/// Longest pause before a Pusher service is connected to again, in milliseconds.
/// Limit for each service: it is tried again after so long.
const PAUSE_MS_MAX: u64 = 60_000;

/// Follows the requests of a service, until it says that this is of no use.
pub async fn follow(pusher: Arc<Pusher>, service: Arc<ServiceConfig>) {
    let host = service.url.host_str().unwrap_or_default().to_owned();
    let tls = match service.url.scheme() {
        "wss" => match dial::connector(service.ca.as_deref()) {
            Ok(tls) => Some(tls),
            Err(error) => {
                tracing::error!(%host, %error, "requests of a dashboard are not heard");
                return;
            }
        },
        _ => None,
    };
    let following = Following { pusher, service, tls, host };
    let mut pause_ms = PAUSE_MS;
    loop {
        let (code, was_subscribed) = following.connection().await;
        if was_subscribed {
            pause_ms = PAUSE_MS;
        }
        match again(code) {
            Again::Never => {
                tracing::error!(host = %following.host, code, "requests of a dashboard are not heard: its Pusher service says that connecting again is of no use; correct --pusher and start again");
                return;
            }
            // Who was not even greeted would come again and again.
            Again::AtOnce if was_subscribed => {}
            Again::AtOnce | Again::AfterPause => {
                let quarter = pause_ms / 4;
                let jittered = rand::rng().random_range(pause_ms - quarter..=pause_ms + quarter);
                sleep(Duration::from_millis(jittered)).await;
                pause_ms = (2 * pause_ms).min(PAUSE_MS_MAX);
            }
        }
    }
}

/// Closes a connection. A code that the service itself closes it with, because of what it said before, counts; an answer has
/// none, as there was none.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Option<u16> {
    let closing = async {
        socket.close(None).await.ok()?;
        loop {
            if let Message::Close(frame) = socket.next().await?.ok()? {
                return frame.map(|frame| u16::from(frame.code));
            }
        }
    };
    timeout(Duration::from_millis(GOODBYE_MS_MAX), closing).await.ok().flatten()
}

struct Following {
    pusher: Arc<Pusher>,
    service: Arc<ServiceConfig>,
    tls: Option<TlsConnector>,
    host: String,
}

impl Following {
    /// A connection from its beginning to its end: with which code it was closed, and whether requests were heard.
    async fn connection(&self) -> (Option<u16>, bool) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let headers = concat!("User-Agent: covey/", env!("CARGO_PKG_VERSION"), "\r\n");
        let rule = Some(&self.pusher.parts.rule);
        let opening = dial::open(&self.service.url, self.tls.as_ref(), rule, headers, config);
        let mut socket = match timeout(Duration::from_millis(DIAL_MS_MAX), opening).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => {
                tracing::warn!(host = %self.host, %error, "no connection to the Pusher service of a dashboard");
                return (None, false);
            }
            Err(_) => {
                tracing::warn!(host = %self.host, "the Pusher service of a dashboard does not answer in time");
                return (None, false);
            }
        };
        let mut client = Client::new(self.pusher.now_ms());
        let code = self.speak(&mut client, &mut socket).await;
        tracing::info!(host = %self.host, code, "the connection to the Pusher service of a dashboard has ended");
        (code, client.is_subscribed())
    }

    async fn speak(&self, client: &mut Client, socket: &mut WebSocketStream<Stream>) -> Option<u16> {
        // A service that says why may close without a code.
        let mut told = None;
        loop {
            let due = self.pusher.began + Duration::from_millis(client.due_ms());
            let action = tokio::select! {
                () = sleep_until(due) => client.due(self.pusher.now_ms()),
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => client.hear(&text, self.pusher.now_ms()),
                    Some(Ok(Message::Close(frame))) => {
                        answer_close(socket).await;
                        return frame.map(|frame| u16::from(frame.code)).or(told);
                    }
                    Some(Ok(_)) => {
                        client.heard(self.pusher.now_ms());
                        None
                    }
                    Some(Err(error)) => {
                        tracing::debug!(host = %self.host, %error, "a connection to a Pusher service broke");
                        return told;
                    }
                    None => return told,
                },
            };
            let text = match action {
                None => continue,
                Some(Action::Send(text)) => text,
                Some(Action::Authorise { socket_id }) => match self.authorise(&socket_id).await {
                    Ok(auth) => client.authorised(&auth, self.pusher.now_ms()),
                    Err(why) => {
                        tracing::warn!(host = %self.host, "the channel {REQUESTS} was not opened: {why}");
                        return close(socket).await;
                    }
                },
                Some(Action::Subscribed) => {
                    tracing::info!(host = %self.host, "requests of a dashboard are heard");
                    continue;
                }
                Some(Action::Request(request)) => {
                    self.request(&request).await;
                    continue;
                }
                Some(Action::Refused { code, text, is_of_channel: true }) => {
                    tracing::warn!(host = %self.host, code, said = text, "the channel {REQUESTS} was not opened: the Pusher service of a dashboard refuses it");
                    return close(socket).await;
                }
                Some(Action::Refused { code, text, is_of_channel: false }) => {
                    tracing::warn!(host = %self.host, code, said = text, "the Pusher service of a dashboard refuses something");
                    told = code.filter(|code| (4000..4300).contains(code)).or(told);
                    continue;
                }
                Some(Action::Close(why)) => {
                    tracing::warn!(host = %self.host, "the Pusher service of a dashboard is left: {why}");
                    return close(socket).await;
                }
            };
            let sending = timeout(Duration::from_millis(STALL_MS_MAX), socket.send(Message::Text(text)));
            if !matches!(sending.await, Ok(Ok(()))) {
                return told;
            }
        }
    }

    /// Asks the dashboard for a signature.
    async fn authorise(&self, socket_id: &str) -> Result<String, String> {
        #[derive(Deserialize)]
        struct Signed {
            auth: String,
        }
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("channel_name", REQUESTS)
            .append_pair("socket_id", socket_id)
            .finish();
        let request = ToSend {
            method: Method::Post,
            url: self.service.auth.clone(),
            headers: vec![
                ("authorization", self.service.token.bearer()),
                ("content-type", "application/x-www-form-urlencoded".to_owned()),
                ("accept", "application/json".to_owned()),
            ],
            body: Bytes::from(form),
        };
        let answer = self.pusher.parts.outgoing.send(request).await?;
        if !answer.is_success() {
            return Err(format!("the dashboard answers {} at {}", answer.status, shown(&self.service.auth)));
        }
        let signed: Result<Signed, _> = serde_json::from_slice(&answer.body);
        signed.map(|signed| signed.auth).map_err(|_| "the dashboard's answer has no auth".to_owned())
    }

    async fn request(&self, request: &UpdateRequest) {
        let parts = &self.pusher.parts;
        // The file is the operator's, so what it names may write the server's own units, and nothing else.
        let caller = Caller::server(parts.org, "pusher", Rights::TASKS_WRITE);
        match self.pusher.request(&caller, std::slice::from_ref(request), Whose::Ours).await {
            Ok(1..) => {}
            Ok(0) => tracing::debug!(unit = %request.ip, "a dashboard asks for a unit that is not here"),
            Err(error) => {
                tracing::warn!(unit = %request.ip, %error, "a dashboard's request for a unit was not stored");
            }
        }
    }
}
