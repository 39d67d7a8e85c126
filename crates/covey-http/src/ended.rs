//! Why a connection ended, as it is counted.

use std::error::Error;
use std::io;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its client wanted no more, or its protocol did not.
    Done,
    /// It broke, or what came was not HTTP.
    Broken,
    /// It was without a request for too long.
    Idle,
    /// Its client took nothing of an answer for too long.
    Stalled,
    /// It was among those with the most answers that were not taken.
    Unsent,
    /// Somebody else got its place.
    Displaced,
    /// There was no place for it.
    Refused,
    /// Its TLS handshake failed, or took too long.
    Handshake,
    /// The server stopped.
    Stopped,
}

impl Ended {
    /// Each with its name as a label.
    pub(crate) const NAMES: [(Self, &str); 9] = [
        (Self::Done, "done"),
        (Self::Broken, "broken"),
        (Self::Idle, "idle"),
        (Self::Stalled, "stalled"),
        (Self::Unsent, "unsent"),
        (Self::Displaced, "displaced"),
        (Self::Refused, "refused"),
        (Self::Handshake, "handshake"),
        (Self::Stopped, "stopped"),
    ];

    /// By what the HTTP library says of it. The bounds on silence and on bytes that do not leave speak
    /// through it.
    pub(crate) fn by(error: &hyper::Error, is_in_use: bool) -> Self {
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let timed_out = source.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        match (error.is_timeout() || timed_out, is_in_use) {
            (true, false) => Self::Idle,
            (true, true) => Self::Stalled,
            (false, _) => Self::Broken,
        }
    }
}
