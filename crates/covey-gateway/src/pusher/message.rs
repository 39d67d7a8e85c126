//! Messages between a client and the server: JSON objects with `event`, `data` and `channel` (Pusher Channels Protocol,
//! "Events"). What the server sends has its data as a JSON string that holds JSON, as of protocol 5; an error has an object.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::error::Refusal;

/// Longest name of an event, in bytes.
/// Limit for each event: it is refused (`pusher:error` to a client, 400 over REST).
pub const EVENT_NAME_BYTES_MAX: usize = 200;
/// Longest data of an event, in bytes.
/// Limit for each event: it is refused (`pusher:error` to a client, 413 over REST).
pub const EVENT_DATA_BYTES_MAX: usize = 10 * 1024;
/// How the events of clients begin.
const CLIENT_EVENT: &str = "client-";

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient {
    /// It wants to know whether the server is there.
    Ping,
    /// It is there.
    Pong,
    /// It wants to hear a channel.
    Subscribe {
        /// Which.
        channel: String,
        /// Whose app, and the signature.
        auth: Option<String>,
        /// Who the subscriber is, as JSON text.
        channel_data: Option<String>,
    },
    /// It wants to hear it no longer.
    Unsubscribe {
        /// Which.
        channel: String,
    },
    /// It wants to be known as a user, which is not offered.
    Signin,
    /// It tells the others in a channel something.
    Event {
        /// Where.
        channel: String,
        /// The name, which begins with `client-`.
        event: String,
        /// JSON text.
        data: Box<str>,
    },
    /// It says something that nobody knows.
    Unknown {
        /// Its name.
        event: String,
    },
}

/// Not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMessage(pub &'static str);

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Subscription {
    channel: String,
    auth: Option<String>,
    channel_data: Option<String>,
}

/// Reads a message of a client.
///
/// # Errors
/// [`NoMessage`] with what a message must be.
pub fn from_client(text: &str) -> Result<FromClient, NoMessage> {
    let frame: Frame<'_> = serde_json::from_str(text)
        .map_err(|_| NoMessage("a message is a JSON object with event and data"))?;
    let data = frame.data.map_or("null", RawValue::get);
    Ok(match &*frame.event {
        // Whatever is said with it: there are clients that send text, and clients that send nothing.
        "pusher:ping" => FromClient::Ping,
        "pusher:pong" => FromClient::Pong,
        "pusher:subscribe" => {
            let Subscription { channel, auth, channel_data } =
                object(data).ok_or(NoMessage("the data of pusher:subscribe is an object with channel"))?;
            FromClient::Subscribe { channel, auth, channel_data }
        }
        "pusher:unsubscribe" => {
            let Subscription { channel, .. } =
                object(data).ok_or(NoMessage("the data of pusher:unsubscribe is an object with channel"))?;
            FromClient::Unsubscribe { channel }
        }
        "pusher:signin" => FromClient::Signin,
        event if event.starts_with(CLIENT_EVENT) => {
            let channel = frame.channel.ok_or(NoMessage("an event of a client has a channel"))?.into_owned();
            FromClient::Event { channel, event: event.to_owned(), data: data.into() }
        }
        event => FromClient::Unknown { event: event.to_owned() },
    })
}

/// An object, or a string that holds one: clients differ.
fn object<T: for<'de> Deserialize<'de>>(data: &str) -> Option<T> {
    match serde_json::from_str::<String>(data) {
        Ok(inner) => serde_json::from_str(&inner).ok(),
        Err(_) => serde_json::from_str(data).ok(),
    }
}

#[derive(Serialize)]
struct Sent<'a, D: Serialize> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    data: D,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
}

fn sent<D: Serialize>(event: &str, channel: Option<&str>, data: D, user_id: Option<&str>) -> Utf8Bytes {
    // Texts and raw JSON always become JSON.
    serde_json::to_string(&Sent { event, channel, data, user_id }).unwrap_or_default().into()
}

/// The first message of a connection: its socket id, and after how many seconds of silence its client asks for a sign of
/// life.
#[must_use]
pub fn established(socket_id: &str, activity_timeout_s: u64) -> Utf8Bytes {
    let data = serde_json::json!({"socket_id": socket_id, "activity_timeout": activity_timeout_s});
    sent("pusher:connection_established", None, data.to_string(), None)
}

/// Why something was not done, or the connection is closed.
#[must_use]
pub fn error(refusal: &Refusal) -> Utf8Bytes {
    let data = serde_json::json!({"code": refusal.code, "message": refusal.text});
    sent("pusher:error", None, data, None)
}

/// Why a channel is not subscribed to.
#[must_use]
pub fn subscription_error(channel: &str, refusal: &Refusal) -> Utf8Bytes {
    let data = serde_json::json!({"type": "AuthError", "error": refusal.text, "status": refusal.status});
    sent("pusher:subscription_error", Some(channel), data, None)
}

/// Asks for a sign of life.
#[must_use]
pub fn ping() -> Utf8Bytes {
    sent("pusher:ping", None, "{}", None)
}

/// A sign of life.
#[must_use]
pub fn pong() -> Utf8Bytes {
    sent("pusher:pong", None, "{}", None)
}

/// A subscription begins; with the members of a presence channel, as JSON text.
#[must_use]
pub fn subscribed(channel: &str, data: &str) -> Utf8Bytes {
    sent("pusher_internal:subscription_succeeded", Some(channel), data, None)
}

/// Somebody has come into a presence channel, as JSON text.
#[must_use]
pub fn member_added(channel: &str, data: &str) -> Utf8Bytes {
    sent("pusher_internal:member_added", Some(channel), data, None)
}

/// Somebody has left a presence channel.
#[must_use]
pub fn member_removed(channel: &str, user_id: &str) -> Utf8Bytes {
    let data = serde_json::json!({"user_id": user_id}).to_string();
    sent("pusher_internal:member_removed", Some(channel), data, None)
}

/// An event, whose data is text.
#[must_use]
pub fn event(channel: &str, name: &str, data: &str) -> Utf8Bytes {
    sent(name, Some(channel), data, None)
}

/// An event of another client, whose data is JSON text as that has sent it.
#[must_use]
pub fn client_event(channel: &str, name: &str, data: &str, user_id: Option<&str>) -> Utf8Bytes {
    match serde_json::from_str::<&RawValue>(data) {
        Ok(data) => sent(name, Some(channel), data, user_id),
        Err(_) => sent(name, Some(channel), data, user_id),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_of_clients_in_the_field_are_understood() {
        for (text, expected) in [
            // pysher sends text as the data of a ping, pusher-js an object.
            (r#"{"event": "pusher:ping", "data": ""}"#, FromClient::Ping),
            (r#"{"event":"pusher:ping","data":{}}"#, FromClient::Ping),
            (r#"{"event":"pusher:ping"}"#, FromClient::Ping),
            (r#"{"event":"pusher:pong","data":{}}"#, FromClient::Pong),
            (
                r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"news"}}"#,
                FromClient::Subscribe {
                    channel: "news".to_owned(),
                    auth: Some(String::new()),
                    channel_data: None,
                },
            ),
            (
                r#"{"event":"pusher:subscribe","data":"{\"channel\":\"private-a\",\"auth\":\"k:00\"}"}"#,
                FromClient::Subscribe {
                    channel: "private-a".to_owned(),
                    auth: Some("k:00".to_owned()),
                    channel_data: None,
                },
            ),
            (
                r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#,
                FromClient::Unsubscribe { channel: "news".to_owned() },
            ),
            (
                r#"{"event":"client-typing","channel":"private-a","data":{"n": 1}}"#,
                FromClient::Event {
                    channel: "private-a".to_owned(),
                    event: "client-typing".to_owned(),
                    data: r#"{"n": 1}"#.into(),
                },
            ),
            (r#"{"event":"pusher:signin","data":{"auth":"x"}}"#, FromClient::Signin),
            (r#"{"event":"update.request"}"#, FromClient::Unknown { event: "update.request".to_owned() }),
        ] {
            assert_eq!(from_client(text).unwrap(), expected, "{text}");
        }
        for bad in [
            "",
            "7",
            "[]",
            "{}",
            r#"{"event":7}"#,
            r#"{"event":"pusher:subscribe"}"#,
            r#"{"event":"pusher:subscribe","data":{}}"#,
            r#"{"event":"client-a","data":{}}"#,
            r#"{"event":"pusher:ping"} x"#,
        ] {
            assert!(from_client(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn data_of_the_server_is_a_string_that_holds_json() {
        assert_eq!(
            established("1.2", 120).as_str(),
            r#"{"event":"pusher:connection_established","data":"{\"activity_timeout\":120,\"socket_id\":\"1.2\"}"}"#
        );
        assert_eq!(
            event("a", "b", "{\"c\":1}").as_str(),
            r#"{"event":"b","channel":"a","data":"{\"c\":1}"}"#
        );
        assert_eq!(
            client_event("a", "client-b", "{\"c\": 1}", Some("7")).as_str(),
            r#"{"event":"client-b","channel":"a","data":{"c": 1},"user_id":"7"}"#
        );
        let refusal = Refusal { code: Some(4001), status: 404, text: "no such app".into() };
        assert_eq!(
            error(&refusal).as_str(),
            r#"{"event":"pusher:error","data":{"code":4001,"message":"no such app"}}"#
        );
    }
}
