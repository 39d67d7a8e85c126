//! The lines of the events' file: one JSON object each. Every line that accepts an event says
//! where counting goes on, so that a number is not given twice after a restart.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::events::event::{Event, EventOrder};

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// An event was accepted; the next one has this number.
    Accepted { order: EventOrder, next_number: u32, event: Event },
    /// An event is the server's, or has been given up.
    Ended { order: EventOrder },
    /// The next event has this order and this number.
    Counted { order: EventOrder, next_number: u32 },
}

#[derive(Default, Serialize, Deserialize)]
struct Line<'a> {
    #[serde(rename = "is")]
    kind: Cow<'a, str>,
    order: EventOrder,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    type_code: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
}

pub(crate) fn push_accepted(out: &mut Vec<u8>, order: EventOrder, next_number: u32, event: &Event) {
    push(
        out,
        &Line {
            kind: Cow::Borrowed("event"),
            order,
            next: Some(next_number),
            number: Some(event.number),
            type_code: Some(event.type_code),
            time: Some(event.time_s),
            correlation: event.correlation.map(|id| Cow::Owned(id.to_string())),
            body: Some(String::from_utf8_lossy(&event.body)),
        },
    );
}

pub(crate) fn push_ended(out: &mut Vec<u8>, order: EventOrder) {
    push(out, &Line { kind: Cow::Borrowed("end"), order, ..Line::default() });
}

/// A new file: the next event's order and number, then the queued events.
pub(crate) fn snapshot<'a>(
    next_order: EventOrder,
    next_number: u32,
    entries: impl Iterator<Item = (EventOrder, &'a Event)>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let next = Some(next_number);
    push(&mut out, &Line { kind: Cow::Borrowed("next"), order: next_order, next, ..Line::default() });
    for (order, event) in entries {
        push_accepted(&mut out, order, next_number, event);
    }
    out
}

fn push(out: &mut Vec<u8>, line: &Line<'_>) {
    // Writing strings and numbers into memory cannot fail; if it did, the line is left out, and
    // the event would not survive a restart.
    let begin = out.len();
    match serde_json::to_writer(&mut *out, line) {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(begin),
    }
}

/// Reads one line. `None` if it is torn or not of the events.
pub(crate) fn parse(line: &[u8]) -> Option<Record> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let order = line.order;
    match line.kind.as_ref() {
        "event" => {
            let correlation = match line.correlation {
                Some(text) => Some(Uuid::parse_str(&text).ok()?),
                None => None,
            };
            let event = Event {
                number: line.number?,
                type_code: line.type_code?,
                time_s: line.time?,
                correlation,
                body: Bytes::from(line.body?.into_owned()),
            };
            Some(Record::Accepted { order, next_number: line.next?, event })
        }
        "end" => Some(Record::Ended { order }),
        "next" => Some(Record::Counted { order, next_number: line.next? }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_as_written_and_a_torn_one_not_at_all() {
        let event = Event {
            number: u32::MAX,
            type_code: 13,
            time_s: 1_700_000_000,
            correlation: Some(Uuid::from_u128(7)),
            body: Bytes::from_static("{\"a\":\n \"ü\"}".as_bytes()),
        };
        let mut out = Vec::new();
        push_accepted(&mut out, 9, 1, &event);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let whole = &out[..out.len() - 1];
        assert_eq!(parse(whole), Some(Record::Accepted { order: 9, next_number: 1, event }));
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None, "torn at {end}");
        }
    }
}
