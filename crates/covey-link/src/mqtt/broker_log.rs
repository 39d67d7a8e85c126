//! Lines about clients in Mosquitto's log, which it also publishes
//! (`log_dest topic`): on `$SYS/broker/log/N` who came and went, on
//! `$SYS/broker/log/M/subscribe` who subscribed. Mosquitto 2.0.11 writes:
//!
//! ```text
//! 1795268484: New client connected from 127.0.0.1:43454 as dev1 (p5, c1, k60, u'dev1').
//! 1795268485: Client dev1 disconnected.
//! 1795268485: Client dev1 closed its connection.
//! 1795268485: Client dev1 has exceeded timeout, disconnecting.
//! 1795268485: Client dev1 been disconnected by administrative action.
//! 1795268484: dev1 1 srv/dev1/tsk
//! ```
//!
//! `p5` is MQTT 5, `p2` 3.1.1; `c1` a clean start, `c0` a session that may go on;
//! a will adds `p1, w0, ` or the like nowhere in this line.
//!
//! A device must not be able to forge a line. A line is taken only if it
//! matches as a whole, if its client id is a serial number (no blank, no
//! control character can be in one), and, for a connect, if the client id is
//! also the user name, which the broker takes from the certificate.

use covey_core::id::Sn;

use crate::disconnect_reason::DisconnectReason;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A device has connected.
    Connected {
        sn: Sn,
        /// Address and port, and the second: the same text for every server that reads it.
        session: String,
        address: &'a str,
        /// `5` for MQTT 5, `2` for 3.1.1, `1` for 3.1.
        level: u8,
        is_clean: bool,
    },
    /// A device's connection has ended.
    Gone { sn: Sn, reason: DisconnectReason },
    /// A device has subscribed.
    Subscribed { sn: Sn, filter: &'a str },
}

/// How a line about an ended connection goes on after the client id, and what it means.
/// "disconnected: " with what TLS or the system said
/// follows the same way.
const ENDINGS: [(&str, DisconnectReason); 10] = [
    (" disconnected.", DisconnectReason::ByDevice),
    (" closed its connection.", DisconnectReason::ConnectionLost),
    (" has exceeded timeout, disconnecting.", DisconnectReason::KeepAlive),
    (" been disconnected by administrative action.", DisconnectReason::NotAuthorised),
    (" disconnected, not authorised.", DisconnectReason::NotAuthorised),
    (" disconnected due to protocol error.", DisconnectReason::ProtocolError),
    (" disconnected due to malformed packet.", DisconnectReason::ProtocolError),
    (" disconnected due to oversize packet.", DisconnectReason::ProtocolError),
    (" disconnected due to out of memory.", DisconnectReason::ConnectionLost),
    (" disconnected: Protocol error.", DisconnectReason::ProtocolError),
];

/// Reads a line of `$SYS/broker/log/N`, as text.
pub(super) fn notice(line: &str) -> Option<Line<'_>> {
    let (at, text) = stamped(line)?;
    if let Some(rest) = text.strip_prefix("New client connected from ") {
        return connected(at, rest);
    }
    let rest = text.strip_prefix("Client ")?;
    let (sn, _) = rest.split_once([' ', ':', ','])?;
    let ending = rest.strip_prefix(sn)?;
    let sn = Sn::parse(sn).ok()?;
    let reason = match ENDINGS.iter().find(|(known, _)| *known == ending) {
        Some((_, reason)) => *reason,
        // The rest is what TLS said, which no client writes.
        None if ending.starts_with(" disconnected: ") => DisconnectReason::ConnectionLost,
        None => return None,
    };
    Some(Line::Gone { sn, reason })
}

/// Reads a line of `$SYS/broker/log/M/subscribe`, as text.
pub(super) fn subscription(line: &str) -> Option<Line<'_>> {
    let (_, text) = stamped(line)?;
    let mut parts = text.splitn(3, ' ');
    let sn = Sn::parse(parts.next()?).ok()?;
    let is_qos = matches!(parts.next()?, "0" | "1" | "2");
    let filter = parts.next().filter(|filter| !filter.is_empty())?;
    is_qos.then_some(Line::Subscribed { sn, filter })
}

/// A log without time stamps (`log_timestamp false`) gives none, and one that
/// is formatted has blanks: neither is taken.
fn stamped(line: &str) -> Option<(&str, &str)> {
    let (at, text) = line.split_once(": ")?;
    let is_stamp = !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit());
    is_stamp.then_some((at, text))
}

fn connected<'a>(at: &str, rest: &'a str) -> Option<Line<'a>> {
    let (peer, rest) = rest.split_once(" as ")?;
    let (client_id, rest) = rest.split_once(" (p")?;
    let sn = Sn::parse(client_id).ok()?;
    let (level, rest) = rest.split_once(", c")?;
    let (clean, rest) = rest.split_once(", k")?;
    let (keep_alive, rest) = rest.split_once(", u'")?;
    let is_own_name = rest.strip_suffix("').") == Some(client_id);
    let are_numbers = keep_alive.bytes().all(|byte| byte.is_ascii_digit());
    if !is_own_name || !are_numbers || peer.contains(' ') {
        return None;
    }
    let level = match level {
        "5" => 5,
        "2" => 2,
        "1" => 1,
        _ => return None,
    };
    let is_clean = match clean {
        "1" => true,
        "0" => false,
        _ => return None,
    };
    let (address, _) = peer.rsplit_once(':')?;
    Some(Line::Connected { sn, session: format!("{peer} {at} p{level}"), address, level, is_clean })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sn(text: &str) -> Sn {
        Sn::parse(text).unwrap()
    }

    #[test]
    fn a_connect_is_read_as_mosquitto_writes_it() {
        let line = "1795268484: New client connected from 127.0.0.1:43454 as dev1 (p5, c1, k60, u'dev1').";
        let expected = Line::Connected {
            sn: sn("dev1"),
            session: "127.0.0.1:43454 1795268484 p5".to_owned(),
            address: "127.0.0.1",
            level: 5,
            is_clean: true,
        };
        assert_eq!(notice(line), Some(expected));
        let resumed = "7: New client connected from ::1:9 as a (p2, c0, k0, u'a').";
        assert!(matches!(
            notice(resumed),
            Some(Line::Connected { level: 2, is_clean: false, address: "::1", .. })
        ));
    }

    #[test]
    fn every_ending_is_read() {
        for (ending, reason) in ENDINGS {
            let line = format!("1: Client dev1{ending}");
            assert_eq!(notice(&line), Some(Line::Gone { sn: sn("dev1"), reason }), "{line}");
        }
        let tls = "1: Client dev1 disconnected: The connection was lost.";
        assert_eq!(
            notice(tls),
            Some(Line::Gone { sn: sn("dev1"), reason: DisconnectReason::ConnectionLost })
        );
    }

    #[test]
    fn a_subscription_is_read() {
        let read = subscription("1: dev1 1 srv/dev1/tsk");
        assert_eq!(read, Some(Line::Subscribed { sn: sn("dev1"), filter: "srv/dev1/tsk" }));
        for other in
            ["1: covey.server 1 dev/+/res", "dev1 1 x", "1: dev1 3 x", "1: dev1 1", "1: dev1 1 ", ": a 1 x"]
        {
            assert_eq!(subscription(other), None, "{other}");
        }
    }

    #[test]
    fn a_client_cannot_forge_a_line_by_its_client_id() {
        for forged in [
            // Client ids that hold the text of a line, with another's user name or none.
            "1: New client connected from 1.2.3.4:5 as x (p5, c1, k60, u'dev1').",
            "1: New client connected from 1.2.3.4:5 as dev1 (p5, c1, k60).",
            "1: New client connected from 1.2.3.4:5 as dev1 (p5, c1, k60, u'x'). (p5, c1, k60, u'dev1').",
            "1: New client connected from 1.2.3.4:5 as a as dev1 (p5, c1, k60, u'dev1').",
            "1: New client connected from 1.2.3.4:5 as dev1 (p5, c1, k6x, u'dev1').",
            "1: Client dev1 disconnected. disconnected.",
            "1: Client x\n1: Client dev1 disconnected.",
            "1: Client  disconnected.",
            "1: Client covey.server disconnected.",
            "1: Client dev1 already connected, closing old connection.",
            "Client dev1 disconnected.",
            "2026-11-21T12: Client dev1 disconnected.",
        ] {
            assert_eq!(notice(forged), None, "{forged}");
        }
    }

    proptest::proptest! {
        #[test]
        fn rubbish_never_panics(line in ".*") {
            let _ = (notice(&line), subscription(&line));
        }
    }
}
