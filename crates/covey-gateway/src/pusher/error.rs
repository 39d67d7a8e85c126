//! What can go wrong towards a client, with the codes of the protocol (Pusher Channels Protocol, "Error codes"): 4000 to
//! 4099 mean that it is of no use to connect again, 4100 to 4199 that one should wait, 4200 to 4299 that one may at once.

use std::borrow::Cow;

/// Why something was not done. With a code below 4300 the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code of the protocol; none where the protocol has none for it.
    pub code: Option<u16>,
    /// The status that says the same in HTTP.
    pub status: u16,
    /// For people.
    pub text: Cow<'static, str>,
}

impl Refusal {
    const fn new(code: Option<u16>, status: u16, text: &'static str) -> Self {
        Self { code, status, text: Cow::Borrowed(text) }
    }

    /// There is no app with this key.
    pub const NO_APP: Self = Self::new(Some(4001), 404, "there is no app with this key");
    /// The API key to which the app belongs is not valid.
    pub const DISABLED: Self =
        Self::new(Some(4003), 403, "the API key to which this app belongs is not valid");
    /// The app has as many connections as it may.
    pub const TOO_MANY: Self = Self::new(Some(4004), 429, "this app has as many connections as it may");
    /// The protocol's version is no number.
    pub const NO_NUMBER: Self = Self::new(Some(4006), 400, "the parameter protocol must be a number");
    /// The protocol's version is not known.
    pub const WRONG_PROTOCOL: Self = Self::new(Some(4007), 400, "protocols 5, 6 and 7 are spoken here");
    /// There is none.
    pub const NO_PROTOCOL: Self = Self::new(Some(4008), 400, "the parameter protocol is missing");
    /// No signature, or one of something else.
    pub const SIGNATURE: Self = Self::new(
        Some(4009),
        401,
        "the signature is not that of this connection, channel and data; it is HMAC-SHA256 in hexadecimal digits",
    );
    /// The API key of the app may not read it.
    pub const FORBIDDEN: Self = Self::new(
        Some(4009),
        403,
        "the API key to which this app belongs may not read what this channel tells",
    );
    /// The caller may not read it.
    pub const KEY_FORBIDDEN: Self =
        Self::new(None, 403, "this key needs the right events:read, for private-requests tasks:read");
    /// What the caller signs outlasts its key.
    pub const KEY_BOUND: Self = Self::new(
        None,
        403,
        "this key expires, or is valid from some addresses alone: subscriptions need one without such bounds",
    );
    /// The caller's organisation has no such app.
    pub const NO_APP_OF_KEY: Self =
        Self::new(None, 403, "no app of this key's organisation has a connection with this socket_id");
    /// There is no such device.
    pub const NO_DEVICE: Self = Self::new(Some(4009), 404, "there is no device with this serial number");
    /// The server cannot look it up now.
    pub const UNAVAILABLE: Self = Self::new(Some(4100), 503, "the server is not able to look this up now");
    /// Not the name of a channel.
    pub const NO_CHANNEL: Self = Self::new(
        Some(4009),
        400,
        "a channel has a name of 1 to 200 characters of A-Z a-z 0-9 _ - = @ , . ;",
    );
    /// Not who somebody is.
    pub const NO_MEMBER: Self = Self::new(
        Some(4009),
        400,
        "channel_data must be JSON with user_id, of at most 128 bytes, and user_info, of at most 1024 bytes",
    );
    /// There are enough members.
    pub const TOO_MANY_MEMBERS: Self =
        Self::new(Some(4100), 429, "this presence channel has as many members as it may");
    /// There are enough channels.
    pub const TOO_MANY_CHANNELS: Self =
        Self::new(Some(4100), 429, "this connection, or this app, has as many channels as it may");
    /// A client tells others something where it may not.
    pub const NOT_SUBSCRIBED: Self = Self::new(
        None,
        403,
        "events of clients are for private and presence channels to which the client is subscribed",
    );
    /// Covey alone writes the channel.
    pub const OURS: Self = Self::new(None, 403, "Covey alone writes this channel");
    /// More than a client may.
    pub const TOO_FAST: Self = Self::new(Some(4301), 429, "a client may send 10 events a second");
    /// Too large.
    pub const TOO_LARGE: Self =
        Self::new(None, 413, "an event has a name of at most 200 bytes and data of at most 10240 bytes");
    /// Signing in is not offered.
    pub const NO_SIGNIN: Self = Self::new(None, 404, "signing in is not offered here");
    /// Nobody knows such an event.
    pub const UNKNOWN_EVENT: Self = Self::new(
        None,
        400,
        "clients send pusher:ping, pusher:pong, pusher:subscribe, pusher:unsubscribe and client-*",
    );
    /// It does not say that it is there.
    pub const NO_PONG: Self = Self::new(Some(4201), 408, "no pong was received in time");
    /// The server ends.
    pub const RESTART: Self = Self::new(Some(4200), 503, "the server ends; connect again");
    /// It does not take what it is sent.
    pub const TOO_SLOW: Self =
        Self::new(Some(4100), 503, "more came than was taken; connect again after a pause");
    /// It says too much.
    pub const FLOOD: Self =
        Self::new(Some(4100), 429, "a client may send 50 messages a second, and 150 at once");

    /// A message that cannot be understood.
    #[must_use]
    pub const fn no_message(text: &'static str) -> Self {
        Self::new(None, 400, text)
    }
}
