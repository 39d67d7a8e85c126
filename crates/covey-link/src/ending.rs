//! Why a connection ended: from the words in which a link tells it to
//! applications, to the reasons of the core.

use covey_core::presence::Reason;

/// The words of all links.
const WORDS: [(&str, Reason); 9] = [
    ("disconnected by the device or the server", Reason::Clean),
    ("disconnected by the device", Reason::Clean),
    ("keep-alive timed out", Reason::KeepAlive),
    ("not heard of for a while", Reason::KeepAlive),
    ("taken over by another connection", Reason::TakenOver),
    ("not authorised", Reason::Revoked),
    ("connection lost", Reason::Lost),
    ("timed out", Reason::Lost),
    ("protocol error", Reason::Violation),
];

/// The reason that some words stand for.
pub(crate) fn reason(words: &str) -> Reason {
    WORDS.iter().find(|(known, _)| *known == words).map_or(Reason::Unknown, |(_, reason)| *reason)
}
