//! PeerMessage as text: a line each, a message of lines for each notification.

use covey_core::id::{DeviceKey, OrgId, Sn, TaskId};
use covey_core::node::{GatewayName, NodeName};
use covey_core::port::PeerMessage;
use uuid::Uuid;

/// The channel on which all servers of a database speak.
pub(super) const CHANNEL: &str = "covey";
/// Longest message (PostgreSQL "NOTIFY": shorter than 8,000 bytes).
const MESSAGE_BYTES_MAX: usize = 7_900;
/// Says that a server has come.
const HELLO: &str = "h";
/// Says that a server could not tell all.
const GAP: &str = "!";

/// What another server's message says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// The number of the server that sent it.
    pub(super) from: i32,
    pub(super) news: Vec<PeerMessage>,
    /// Whether there was more than could be told.
    pub(super) has_gap: bool,
}

/// One line of a message.
pub(super) fn line(news: &PeerMessage) -> String {
    match news {
        PeerMessage::Opened(device) => format!("o{}", device.0),
        PeerMessage::Announced(device, task) => format!("a{} {}", device.0, task.0.simple()),
        PeerMessage::Answered(device, task) => format!("t{} {}", device.0, task.0.simple()),
        PeerMessage::Finished(task) => format!("f{}", task.0.simple()),
        PeerMessage::Recorded => "w".to_owned(),
        PeerMessage::Revoked(sn) => format!("r{sn}"),
        PeerMessage::RevokedCertificate(sn, serial_hex) => format!("c{sn} {serial_hex}"),
        // No control character is in a name, and so no end of a line.
        PeerMessage::NodeChanged(org, name) => format!("n{} {} {}", org.0, name.gateway(), name.uid()),
    }
}

/// The messages that say all of this.
pub(super) fn messages(from: i32, lines: &[String], has_gap: bool) -> Vec<String> {
    let mut messages = Vec::new();
    let begin = from.to_string();
    let mut message = begin.clone();
    let gap = has_gap.then(|| GAP.to_owned());
    for line in lines.iter().chain(&gap) {
        if message.len() + 1 + line.len() > MESSAGE_BYTES_MAX {
            messages.push(std::mem::replace(&mut message, begin.clone()));
        }
        message.push('\n');
        message.push_str(line);
    }
    if message.len() > begin.len() {
        messages.push(message);
    }
    messages
}

/// The message of a server that has come.
pub(super) fn hello(from: i32) -> String {
    format!("{from}\n{HELLO}")
}

/// Reads a message. A line that this version does not know is a gap: it may
/// have said anything.
pub(super) fn read(text: &str) -> Option<Message> {
    let mut lines = text.lines();
    let from = lines.next()?.parse().ok()?;
    let mut message = Message { from, ..Message::default() };
    for line in lines.filter(|line| *line != HELLO) {
        match one(line) {
            Some(news) => message.news.push(news),
            None => message.has_gap = true,
        }
    }
    Some(message)
}

fn one(line: &str) -> Option<PeerMessage> {
    let (kind, rest) = line.split_at_checked(1)?;
    let device = |text: &str| text.parse().ok().map(DeviceKey);
    let task = |text: &str| Uuid::try_parse(text).ok().map(TaskId);
    let both = || {
        let (first, second) = rest.split_once(' ')?;
        Some((device(first)?, task(second)?))
    };
    match kind {
        "o" => device(rest).map(PeerMessage::Opened),
        "a" => both().map(|(device, task)| PeerMessage::Announced(device, task)),
        "t" => both().map(|(device, task)| PeerMessage::Answered(device, task)),
        "f" => task(rest).map(PeerMessage::Finished),
        "w" => Some(PeerMessage::Recorded),
        "r" => Sn::parse(rest).ok().map(PeerMessage::Revoked),
        "c" => {
            let (sn, serial_hex) = rest.split_once(' ')?;
            Some(PeerMessage::RevokedCertificate(Sn::parse(sn).ok()?, serial_hex.to_owned()))
        }
        "n" => {
            let mut parts = rest.splitn(3, ' ');
            let org = OrgId(parts.next()?.parse().ok()?);
            let gateway = GatewayName::parse(parts.next()?).ok()?;
            Some(PeerMessage::NodeChanged(org, NodeName::listed(gateway, parts.next()?).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_told_is_heard_however_much_it_is() {
        let task = TaskId(Uuid::from_u128(7 << 100));
        let kinds = [
            PeerMessage::Opened(DeviceKey(1)),
            PeerMessage::Announced(DeviceKey(i64::MAX), task),
            PeerMessage::Answered(DeviceKey(3), task),
            PeerMessage::Finished(task),
            PeerMessage::Revoked(Sn::parse(&"x".repeat(64)).unwrap()),
            PeerMessage::RevokedCertificate(Sn::parse(&"x".repeat(64)).unwrap(), "7f".repeat(20)),
            PeerMessage::NodeChanged(
                OrgId(7),
                NodeName::listed(GatewayName::parse("coap").unwrap(), " a  ü ").unwrap(),
            ),
        ];
        let told: Vec<_> = kinds.iter().cycle().take(1_000).cloned().collect();
        let lines: Vec<_> = told.iter().map(line).collect();
        let messages = messages(42, &lines, true);
        assert!(messages.len() > 1 && messages.iter().all(|message| message.len() < 8_000));
        let heard: Vec<_> = messages.iter().map(|message| read(message).unwrap()).collect();
        assert!(heard.iter().all(|message| message.from == 42));
        assert_eq!(heard.iter().map(|message| message.has_gap).filter(|gap| *gap).count(), 1);
        assert_eq!(heard.into_iter().flat_map(|message| message.news).collect::<Vec<_>>(), told);
        assert_eq!(read(&hello(1)).unwrap(), Message { from: 1, ..Message::default() });
        assert!(read("1\nz").unwrap().has_gap && read("x\no1").is_none() && read("").is_none());
        assert!(super::messages(1, &[], false).is_empty());
    }
}
