//! A node that opens a WebSocket, and is there as long as it is open.

use std::io;
use std::sync::atomic::Ordering;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::node::Node;

/// The question for all values, letter by letter: nodes in the field compare the text.
const DISCOVER: &str = r#"{"request": "discover"}"#;

/// A value that is to be set.
#[derive(Deserialize)]
struct Set {
    endpoint: String,
    payload: String,
}

type Socket = WebSocketStream<TcpStream>;

/// Lives until `stop`, or until the connection ends.
pub(super) async fn run(shared: &Shared, node: &Node, stop: &CancellationToken) -> io::Result<()> {
    let stream = TcpStream::connect(shared.gateway()?).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{}/node", shared.options.gateway);
    let (mut socket, _) = client_async(url, stream).await.map_err(io::Error::other)?;
    let _counted = shared.connected();
    let interval = shared.options.interval;
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return socket.close(None).await.map_err(io::Error::other),
            _ = ticks.tick() => {
                let (name, value) = node.change();
                say(shared, &mut socket, [(name, value)]).await?;
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) if *text == *DISCOVER => {
                    say(shared, &mut socket, node.values()).await?;
                }
                Some(Ok(Message::Text(text))) => {
                    let Ok(Set { endpoint, payload }) = serde_json::from_str(&text) else { continue };
                    if let Ok(name) = node.set(&endpoint, payload.as_bytes()) {
                        shared.tally.writes.fetch_add(1, Ordering::Relaxed);
                        say(shared, &mut socket, [(name, payload)]).await?;
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map_or_else(String::new, |frame| frame.reason.to_string());
                    return Err(io::Error::other(format!("the gateway closed the connection: {why}")));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
        }
    }
}

async fn say(
    shared: &Shared,
    socket: &mut Socket,
    values: impl IntoIterator<Item = (&'static str, String)>,
) -> io::Result<()> {
    let data: Map<String, Value> =
        values.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
    shared.tally.said(data.len());
    let message = json!({"type": "update", "data": data}).to_string();
    socket.send(Message::text(message)).await.map_err(io::Error::other)
}
