//! A client of a Pusher service, as it hears the requests of a dashboard: what it says, what it wants done, and when it may
//! connect again. No I/O and no clock.

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::channel::REQUESTS;
use super::message;
use super::requests::{UPDATE_REQUEST, UpdateRequest};

/// After how long a silence of the service it is asked whether it is there, unless it says so, in milliseconds.
const SILENCE_MS: u64 = 120_000;
/// The least that it may say, in seconds.
const SILENCE_S_MIN: u64 = 5;
/// How long a dashboard's Pusher service may take to say that it is there, in milliseconds.
/// Limit for each connection to a service: it is closed, and made again.
const PONG_MS_MAX: u64 = 30_000;
/// How long a dashboard's Pusher service may take until it has greeted, and again until requests are heard, in milliseconds.
/// Limit for each connection to a service: it is closed, and made again.
const GREETING_MS_MAX: u64 = 15_000;

/// A connection to a service.
#[derive(Clone, Debug)]
pub struct Client {
    silence_ms: u64,
    heard_ms: u64,
    asked_ms: Option<u64>,
    /// When what is waited for before requests are heard began.
    step_ms: u64,
    is_greeted: bool,
    is_subscribed: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// This is sent.
    Send(Utf8Bytes),
    /// A signature is asked for, for the connection with this socket id.
    Authorise {
        /// Its socket id.
        socket_id: String,
    },
    /// The requests are heard from now on.
    Subscribed,
    /// A dashboard asks for this.
    Request(UpdateRequest),
    /// The service does not do something.
    Refused {
        /// With this code.
        code: Option<u16>,
        /// And this text.
        text: String,
        /// Whether that was to open the channel: without it the connection is of no use.
        is_of_channel: bool,
    },
    /// The connection is of no use any more, for this reason.
    Close(&'static str),
}

/// Whether it is of use to connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It is not.
    Never,
    /// After a pause.
    AfterPause,
    /// At once.
    AtOnce,
}

/// Whether it is of use to connect again after a connection was closed with this code, or without any.
#[must_use]
pub const fn again(code: Option<u16>) -> Again {
    match code {
        Some(4000..=4099) => Again::Never,
        Some(4200..=4299) => Again::AtOnce,
        _ => Again::AfterPause,
    }
}

#[derive(Deserialize)]
struct Frame<'a> {
    event: String,
    channel: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl Client {
    /// One whose connection begins now.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self {
            silence_ms: SILENCE_MS,
            heard_ms: now_ms,
            asked_ms: None,
            step_ms: now_ms,
            is_greeted: false,
            is_subscribed: false,
        }
    }

    /// Whether it hears requests.
    #[must_use]
    pub const fn is_subscribed(&self) -> bool {
        self.is_subscribed
    }

    /// Something came that is no message, such as a ping of the WebSocket.
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.asked_ms = None;
    }

    /// Takes a message of the service. What cannot be understood is passed over.
    pub fn hear(&mut self, text: &str, now_ms: u64) -> Option<Action> {
        self.heard(now_ms);
        let frame: Frame<'_> = serde_json::from_str(text).ok()?;
        let data = frame.data.map_or("null", RawValue::get);
        // Most data is a string that holds JSON; services differ in what else they send as an object.
        let data = serde_json::from_str::<String>(data).unwrap_or_else(|_| data.to_owned());
        let is_requests = frame.channel.as_deref() == Some(REQUESTS);
        match frame.event.as_str() {
            "pusher:connection_established" if !self.is_greeted => {
                #[derive(Deserialize)]
                struct Greeting {
                    socket_id: String,
                    activity_timeout: Option<u64>,
                }
                let Greeting { socket_id, activity_timeout } = serde_json::from_str(&data).ok()?;
                self.is_greeted = true;
                self.step_ms = now_ms;
                if let Some(seconds) = activity_timeout {
                    self.silence_ms = seconds.max(SILENCE_S_MIN).saturating_mul(1_000).min(SILENCE_MS);
                }
                Some(Action::Authorise { socket_id })
            }
            "pusher:ping" => Some(Action::Send(message::pong())),
            "pusher_internal:subscription_succeeded" if is_requests => {
                self.is_subscribed = true;
                Some(Action::Subscribed)
            }
            "pusher:error" | "pusher:subscription_error" => {
                #[derive(Deserialize)]
                struct Fault {
                    code: Option<u16>,
                    message: Option<String>,
                    error: Option<String>,
                }
                let fault =
                    serde_json::from_str(&data).unwrap_or(Fault { code: None, message: None, error: None });
                let text = fault.message.or(fault.error).unwrap_or_default();
                let is_of_channel = match frame.event.as_str() {
                    "pusher:subscription_error" => true,
                    // Some services say it so. Nothing else was asked for by then.
                    _ => self.is_greeted && !self.is_subscribed,
                };
                Some(Action::Refused { code: fault.code, text, is_of_channel })
            }
            UPDATE_REQUEST if is_requests && self.is_subscribed => {
                UpdateRequest::parse(&data).map(Action::Request)
            }
            _ => None,
        }
    }

    /// Subscribes with the signature that was asked for.
    #[must_use]
    pub fn authorised(&mut self, auth: &str, now_ms: u64) -> Utf8Bytes {
        self.step_ms = now_ms;
        let data = serde_json::json!({"channel": REQUESTS, "auth": auth});
        serde_json::json!({"event": "pusher:subscribe", "data": data}).to_string().into()
    }

    /// When it is to be looked at again, in milliseconds.
    #[must_use]
    pub const fn due_ms(&self) -> u64 {
        match self.asked_ms {
            // Whatever else the service says meanwhile.
            _ if !self.is_subscribed => self.step_ms + GREETING_MS_MAX,
            Some(asked_ms) => asked_ms + PONG_MS_MAX,
            None => self.heard_ms + self.silence_ms,
        }
    }

    /// What is due now.
    pub fn due(&mut self, now_ms: u64) -> Option<Action> {
        if now_ms < self.due_ms() {
            return None;
        }
        if !self.is_greeted {
            return Some(Action::Close("it did not greet in time"));
        }
        if !self.is_subscribed {
            return Some(Action::Close("it did not open the channel in time"));
        }
        if self.asked_ms.is_some() {
            return Some(Action::Close("it does not say that it is there"));
        }
        self.asked_ms = Some(now_ms);
        Some(Action::Send(message::ping()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pusher::error::Refusal;

    fn greeted() -> Client {
        let mut client = Client::new(0);
        let greeting = message::established("1.2", 30);
        assert_eq!(client.hear(&greeting, 1), Some(Action::Authorise { socket_id: "1.2".to_owned() }));
        client
    }

    #[test]
    fn a_request_is_heard_once_the_channel_is_subscribed_to() {
        let mut client = greeted();
        let request = message::event(REQUESTS, UPDATE_REQUEST, r#"{"ip":"192.0.2.7","payload":"red"}"#);
        assert_eq!(client.hear(&request, 2), None);
        assert_eq!(
            client.authorised("k:00", 2).as_str(),
            r#"{"data":{"auth":"k:00","channel":"private-requests"},"event":"pusher:subscribe"}"#
        );
        assert_eq!(client.hear(&message::subscribed(REQUESTS, "{}"), 3), Some(Action::Subscribed));
        let asked = UpdateRequest { ip: "192.0.2.7".to_owned(), payload: "red".to_owned() };
        assert_eq!(client.hear(&request, 4), Some(Action::Request(asked.clone())));
        // Some services send objects.
        let object = r#"{"event":"update.request","channel":"private-requests","data":{"ip":"192.0.2.7","payload":"red"}}"#;
        assert_eq!(client.hear(object, 5), Some(Action::Request(asked)));
        for other in [
            "",
            "{}",
            "7",
            r#"{"event":"update.request","channel":"private-other","data":"{}"}"#,
            r#"{"event":"update.request","channel":"private-requests","data":"{}"}"#,
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"other","data":"{}"}"#,
        ] {
            assert_eq!(client.hear(other, 6), None, "{other}");
        }
    }

    #[test]
    fn a_service_that_is_silent_is_asked_and_then_left() {
        let mut client = greeted();
        assert_eq!(client.hear(&message::subscribed(REQUESTS, "{}"), 1), Some(Action::Subscribed));
        assert_eq!(client.due(30_000), None);
        assert_eq!(client.due(30_001), Some(Action::Send(message::ping())));
        assert_eq!(client.hear(&message::pong(), 40_000), None);
        assert_eq!(client.due(60_001), None);
        assert_eq!(client.due(70_000), Some(Action::Send(message::ping())));
        assert!(matches!(client.due(100_000), Some(Action::Close(_))));
        assert_eq!(client.hear(&message::ping(), 1), Some(Action::Send(message::pong())));
    }

    #[test]
    fn a_service_that_does_not_greet_or_does_not_open_the_channel_is_left_whatever_else_it_says() {
        let mut mute = Client::new(0);
        assert_eq!(mute.hear(&message::ping(), 14_999), Some(Action::Send(message::pong())));
        assert_eq!(mute.due(14_999), None);
        assert!(matches!(mute.due(15_000), Some(Action::Close(_))));
        let mut deaf = greeted();
        // The dashboard took its time for the signature.
        let _ = deaf.authorised("k:00", 10_000);
        assert_eq!(deaf.hear(&message::ping(), 24_999), Some(Action::Send(message::pong())));
        assert_eq!((deaf.due_ms(), deaf.due(24_999)), (25_000, None));
        assert!(matches!(deaf.due(25_000), Some(Action::Close(_))));
    }

    #[test]
    fn a_channel_that_is_refused_is_told_from_other_things_that_are() {
        let is_of_channel = |client: &mut Client, text: &str| match client.hear(text, 2) {
            Some(Action::Refused { is_of_channel, .. }) => is_of_channel,
            other => panic!("{other:?}"),
        };
        let refused = message::subscription_error(REQUESTS, &Refusal::SIGNATURE);
        let error = message::error(&Refusal::SIGNATURE);
        assert!(is_of_channel(&mut greeted(), &refused));
        assert!(is_of_channel(&mut greeted(), &error));
        // The service closes by itself, and says with which code.
        assert!(!is_of_channel(&mut Client::new(0), &error));
        let mut client = greeted();
        client.hear(&message::subscribed(REQUESTS, "{}"), 2);
        assert!(!is_of_channel(&mut client, &error));
        assert!(is_of_channel(&mut client, &refused));
    }

    #[test]
    fn codes_say_whether_it_is_of_use_to_connect_again() {
        for (code, expected) in [
            (Some(4000), Again::Never),
            (Some(4001), Again::Never),
            (Some(4099), Again::Never),
            (Some(4100), Again::AfterPause),
            (Some(4199), Again::AfterPause),
            (Some(4200), Again::AtOnce),
            (Some(4299), Again::AtOnce),
            (Some(4300), Again::AfterPause),
            (Some(1000), Again::AfterPause),
            (Some(1006), Again::AfterPause),
            (None, Again::AfterPause),
        ] {
            assert_eq!(again(code), expected, "{code:?}");
        }
    }
}
