//! What a connection may do before it is asked for anything, and how long it may be silent. No I/O and no clock.

use super::channel::{Channel, Kind};
use super::channels::{CHANNELS_PER_CONNECTION_MAX, Member};
use super::config::AppConfig;
use super::error::Refusal;
use super::rate::Rate;
use super::signature::{is_same, of_subscription};

/// After how many seconds of silence of the server a client asks whether it is there.
pub const ACTIVITY_TIMEOUT_S: u64 = 120;
/// After how long a silence of a client the server asks whether it is there, in milliseconds.
const SILENCE_MS: u64 = 150_000;
/// How long a Pusher client may take to say that it is there, in milliseconds.
/// Limit for each connection: 4201.
const PONG_MS_MAX: u64 = 30_000;
/// How many messages a Pusher client may send in a second.
/// Limit for each connection: 4100.
pub const MESSAGES_PER_SECOND_MAX: u64 = 50;
/// How many messages a Pusher client may send at once: libraries subscribe to all channels together when they are back.
/// Limit for each connection: 4100.
pub const MESSAGES_AT_ONCE_MAX: u64 = CHANNELS_PER_CONNECTION_MAX as u64 + MESSAGES_PER_SECOND_MAX;
/// The versions of the protocol that are spoken.
const PROTOCOLS: std::ops::RangeInclusive<u32> = 5..=7;

/// Checks the version of the protocol that a client wants to speak. What the server sends is the same in all three.
///
/// # Errors
/// A version that is not known, is none, or is missing.
pub fn check_protocol(query: &str) -> Result<(), Refusal> {
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    let (_, version) = parameters.find(|(name, _)| name == "protocol").ok_or(Refusal::NO_PROTOCOL)?;
    let version: u32 = version.parse().map_err(|_| Refusal::NO_NUMBER)?;
    if PROTOCOLS.contains(&version) { Ok(()) } else { Err(Refusal::WRONG_PROTOCOL) }
}

/// Decides by its signature whether a connection may subscribe to a channel of an app; as whom, to a presence channel.
///
/// # Errors
/// A signature of something else, or none; or data that say nobody.
pub fn authorise(
    app: &AppConfig,
    socket_id: &str,
    channel: &Channel,
    auth: Option<&str>,
    channel_data: Option<&str>,
) -> Result<Option<Member>, Refusal> {
    let channel_data = match channel.kind() {
        Kind::Public => return Ok(None),
        // It is signed if it is sent.
        Kind::Private => channel_data,
        Kind::Presence => Some(channel_data.ok_or(Refusal::NO_MEMBER)?),
    };
    let (key, signature) = auth.and_then(|auth| auth.split_once(':')).ok_or(Refusal::SIGNATURE)?;
    let signed = of_subscription(socket_id, channel.as_str(), channel_data);
    if !is_same(key, &app.key) || !app.secret.has_signed(signed.as_bytes(), signature) {
        return Err(Refusal::SIGNATURE);
    }
    match (channel.kind(), channel_data) {
        (Kind::Presence, Some(data)) => Member::parse(data).map(Some),
        _ => Ok(None),
    }
}

/// How long a connection has been silent, and how much it says.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    heard_ms: u64,
    asked_ms: Option<u64>,
    messages: Rate,
}

/// What a silence asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// The client is asked whether it is there.
    Ask,
    /// It is not.
    Gone,
}

impl Session {
    /// One that begins now.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        let messages = Rate::new(MESSAGES_PER_SECOND_MAX, MESSAGES_AT_ONCE_MAX, now_ms);
        Self { heard_ms: now_ms, asked_ms: None, messages }
    }

    /// Something came.
    ///
    /// # Errors
    /// [`Refusal::FLOOD`].
    pub fn heard(&mut self, now_ms: u64) -> Result<(), Refusal> {
        self.heard_ms = now_ms;
        self.asked_ms = None;
        if self.messages.take(now_ms) { Ok(()) } else { Err(Refusal::FLOOD) }
    }

    /// When it is to be looked at again, in milliseconds.
    #[must_use]
    pub const fn due_ms(&self) -> u64 {
        match self.asked_ms {
            None => self.heard_ms + SILENCE_MS,
            Some(asked_ms) => asked_ms + PONG_MS_MAX,
        }
    }

    /// What is due now.
    pub fn due(&mut self, now_ms: u64) -> Due {
        if now_ms < self.due_ms() {
            return Due::Nothing;
        }
        if self.asked_ms.is_some() {
            return Due::Gone;
        }
        self.asked_ms = Some(now_ms);
        Due::Ask
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pusher::signature::Secret;

    #[test]
    fn three_versions_are_spoken_and_others_are_refused_with_their_codes() {
        for version in [5, 6, 7] {
            assert_eq!(check_protocol(&format!("client=js&protocol={version}&version=8")), Ok(()));
        }
        for (query, code) in [
            ("", 4008),
            ("version=5", 4008),
            ("protocol=", 4006),
            ("protocol=x", 4006),
            ("protocol=7.0", 4006),
            ("protocol=4", 4007),
            ("protocol=8", 4007),
        ] {
            assert_eq!(check_protocol(query).unwrap_err().code, Some(code), "{query}");
        }
    }

    #[test]
    fn a_client_that_is_silent_is_asked_once_and_then_gone() {
        let mut session = Session::new(0);
        assert_eq!(session.due(SILENCE_MS - 1), Due::Nothing);
        assert_eq!(session.due(SILENCE_MS), Due::Ask);
        assert_eq!(session.due(SILENCE_MS + PONG_MS_MAX - 1), Due::Nothing);
        session.heard(SILENCE_MS + PONG_MS_MAX - 1).unwrap();
        assert_eq!(session.due(SILENCE_MS + PONG_MS_MAX), Due::Nothing);
        let again_ms = session.due_ms();
        assert_eq!(session.due(again_ms), Due::Ask);
        assert_eq!(session.due(again_ms + PONG_MS_MAX), Due::Gone);
    }

    #[test]
    fn a_client_may_subscribe_to_all_its_channels_at_once_and_may_not_go_on_like_that() {
        let mut session = Session::new(0);
        assert!((0..CHANNELS_PER_CONNECTION_MAX).all(|_| session.heard(1).is_ok()));
        let more = (0..1_000).filter(|_| session.heard(1_001).is_ok()).count() as u64;
        assert_eq!(more, 2 * MESSAGES_PER_SECOND_MAX);
        assert_eq!(session.heard(1_001), Err(Refusal::FLOOD));
    }

    #[test]
    fn a_signature_opens_what_it_was_made_for_and_nothing_else() {
        let app = AppConfig::for_tests();
        let channel = |name| Channel::parse(name).unwrap();
        let auth = |socket: &str, name: &str, data: Option<&str>| {
            format!("{}:{}", app.key, app.secret.sign(of_subscription(socket, name, data).as_bytes()))
        };
        assert_eq!(authorise(&app, "1.1", &channel("news"), None, None), Ok(None));
        let good = auth("1.1", "private-a", None);
        assert_eq!(authorise(&app, "1.1", &channel("private-a"), Some(&good), None), Ok(None));
        let other = Secret::new("another").sign(b"1.1:private-a");
        for (socket, name, shown) in [
            ("1.2", "private-a", good.clone()),
            ("1.1", "private-b", good.clone()),
            ("1.1", "private-a", good.replace("key", "kex")),
            ("1.1", "private-a", format!("{}:{other}", app.key)),
            ("1.1", "private-a", String::new()),
            ("1.1", "private-a", good.split_once(':').unwrap().1.to_owned()),
        ] {
            let refused = authorise(&app, socket, &channel(name), Some(&shown), None);
            assert_eq!(refused, Err(Refusal::SIGNATURE), "{socket} {name} {shown}");
        }
        let data = r#"{"user_id":7,"user_info":{"n":1}}"#;
        let signed = auth("1.1", "presence-a", Some(data));
        let member = authorise(&app, "1.1", &channel("presence-a"), Some(&signed), Some(data)).unwrap();
        assert_eq!(member.unwrap().user_id.as_ref(), "7");
        let changed = data.replace('7', "8");
        for (data, expected) in [(Some(changed.as_str()), Refusal::SIGNATURE), (None, Refusal::NO_MEMBER)] {
            assert_eq!(authorise(&app, "1.1", &channel("presence-a"), Some(&signed), data), Err(expected));
        }
        for nobody in ["{}", "7", r#"{"user_id":null}"#, r#"{"user_id":""}"#, r#"{"user_id":{"a":1}}"#] {
            let signed = auth("1.1", "presence-a", Some(nobody));
            let refused = authorise(&app, "1.1", &channel("presence-a"), Some(&signed), Some(nobody));
            assert_eq!(refused, Err(Refusal::NO_MEMBER), "{nobody}");
        }
    }
}
