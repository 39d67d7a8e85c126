//! How an entry is written: one line of JSON, whose members have a fixed order.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::audit::{AuditActor, AuditEntry, AuditOutcome};
use crate::id::OrgId;
use crate::json;

/// How many bytes each detail of an entry has at most, such as the parameters of a task.
/// Limit for each detail of an entry: it is cut, and `…` stands at its end.
pub const DETAIL_BYTES_MAX: usize = 512;
const CUT: char = '…';

/// The beginning of a text that is too long.
#[must_use]
pub fn cut(text: &str) -> String {
    cut_at(text, DETAIL_BYTES_MAX)
}

/// The same of one that has more than so many bytes: as many, with what stands at its end.
#[must_use]
pub fn cut_at(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max.saturating_sub(CUT.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut cut = text.get(..end).unwrap_or_default().to_owned();
    cut.push(CUT);
    cut
}

/// The same of JSON text without the spaces between its parts, so that it is found however it was written.
pub(super) fn cut_json(text: &str) -> String {
    let (mut in_string, mut is_escaped) = (false, false);
    let mut short = String::with_capacity(text.len().min(DETAIL_BYTES_MAX + 4));
    for character in text.chars() {
        let is_space = !in_string && matches!(character, ' ' | '\t' | '\n' | '\r');
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if in_string => is_escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        if !is_space {
            short.push(character);
        }
        if short.len() > DETAIL_BYTES_MAX {
            return cut(&short);
        }
    }
    short
}

impl AuditEntry {
    /// Writes the entry at the end of a text, as one line; of which organisation and when is not in it.
    pub fn write(&self, line: &mut String) {
        line.push_str("{\"action\":");
        json::quote(&self.action, line);
        line.push_str(",\"by\":");
        json::quote(&self.actor.kind, line);
        if self.actor.id != 0 {
            // Writing to a string cannot fail, here and below.
            let _ = write!(line, ",\"id\":{}", self.actor.id);
        }
        line.push_str(",\"name\":");
        json::quote(&self.actor.name, line);
        if let Some(from) = self.from {
            let _ = write!(line, ",\"from\":\"{from}\"");
        }
        line.push_str(",\"outcome\":");
        json::quote(self.outcome.name(), line);
        if self.count != 1 {
            let _ = write!(line, ",\"count\":{}", self.count);
        }
        if let Some((id, sn)) = &self.device {
            let _ = write!(line, ",\"device_id\":{id},\"sn\":");
            json::quote(sn, line);
        }
        line.push_str(",\"object\":");
        json::quote(&self.object, line);
        if !self.details.is_empty() {
            line.push_str(",\"details\":{");
            for (place, (name, text)) in self.details.iter().enumerate() {
                if place > 0 {
                    line.push(',');
                }
                json::quote(name, line);
                line.push(':');
                json::quote(text, line);
            }
            line.push('}');
        }
        line.push_str("}\n");
    }

    /// Reads a line; none of one that was not written so.
    #[must_use]
    pub fn read(org: OrgId, line: &str) -> Option<Self> {
        let mut entry = Self {
            org,
            action: Cow::Borrowed(""),
            actor: AuditActor { kind: Cow::Borrowed(""), id: 0, name: Arc::from("") },
            from: None,
            outcome: AuditOutcome::Done,
            count: 1,
            device: None,
            object: String::new(),
            details: Vec::new(),
        };
        let (mut device_id, mut sn) = (0, None);
        for (name, value) in json::members(line)? {
            match name.as_str() {
                "action" => entry.action = Cow::Owned(text(value)?),
                "by" => entry.actor.kind = Cow::Owned(text(value)?),
                "id" => entry.actor.id = value.parse().ok()?,
                "name" => entry.actor.name = Arc::from(text(value)?),
                "from" => entry.from = Some(text(value)?.parse().ok()?),
                "outcome" => entry.outcome = AuditOutcome::from_name(&text(value)?)?,
                "count" => entry.count = value.parse().ok()?,
                "device_id" => device_id = value.parse().ok()?,
                "sn" => sn = Some(text(value)?),
                "object" => entry.object = text(value)?,
                "details" => {
                    for (name, value) in json::members(value)? {
                        entry.details.push((Cow::Owned(name), text(value)?));
                    }
                }
                // Of a newer version.
                _ => {}
            }
        }
        entry.device = sn.map(|sn| (device_id, sn));
        Some(entry)
    }
}

fn text(value: &str) -> Option<String> {
    json::unescaped(value.strip_prefix('"')?.strip_suffix('"')?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again_and_is_one_line(
            name in ".*", object in ".*", sn in proptest::option::of(".*"), payload in ".{0,600}",
            id in any::<i64>(), count in 1_u64.., from in proptest::option::of(any::<std::net::IpAddr>()),
        ) {
            let entry = AuditEntry {
                org: OrgId(7),
                action: Cow::Borrowed("task.create"),
                actor: AuditActor { kind: Cow::Borrowed("key"), id, name: Arc::from(name) },
                from,
                outcome: AuditOutcome::Refused,
                count,
                device: sn.map(|sn| (9, sn)),
                object,
                details: Vec::new(),
            };
            let entry = entry.detail("payload", &payload);
            let mut line = String::new();
            entry.write(&mut line);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            prop_assert_eq!(AuditEntry::read(OrgId(7), &line).unwrap(), entry);
        }

        #[test]
        fn a_detail_is_never_too_long(text in ".{0,900}") {
            prop_assert!(cut(&text).len() <= DETAIL_BYTES_MAX && cut_json(&text).len() <= DETAIL_BYTES_MAX);
        }
    }

    #[test]
    fn json_is_found_however_it_was_written() {
        assert_eq!(cut_json("{ \"cell\" : 5,\n\t\"say\": \"a \\\" b\" }"), r#"{"cell":5,"say":"a \" b"}"#);
        assert_eq!(cut_json(&format!("\"{}\"", " ".repeat(600))).chars().last(), Some(CUT));
    }
}
