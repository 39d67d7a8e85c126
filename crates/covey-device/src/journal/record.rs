//! The lines of the journal file: one JSON object each. A finished task needs one line only, so
//! a compacted file has a line per task.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::index::{Index, State};
use crate::answer::Answer;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Begin { task_id: Uuid, keep_until: u64 },
    Finish { task_id: Uuid, keep_until: u64, answer: Answer, committed: bool },
    Commit { task_id: Uuid },
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    id: Cow<'a, str>,
    #[serde(rename = "is")]
    kind: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ext_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    committed: bool,
}

pub(crate) fn push_begin(out: &mut Vec<u8>, task_id: Uuid, keep_until: u64) {
    push(out, task_id, "begin", |line| line.until = Some(keep_until));
}

pub(crate) fn push_finish(
    out: &mut Vec<u8>,
    task_id: Uuid,
    keep_until: u64,
    answer: &Answer,
    committed: bool,
) {
    push(out, task_id, "finish", |line| {
        line.until = Some(keep_until);
        line.status = Some(answer.status);
        line.ext_id = Some(answer.ext_id);
        line.body = Some(String::from_utf8_lossy(&answer.body));
        line.committed = committed;
    });
}

pub(crate) fn push_commit(out: &mut Vec<u8>, task_id: Uuid) {
    push(out, task_id, "commit", |_| ());
}

/// The whole of what is remembered, as a new file would begin.
pub(crate) fn snapshot(index: &Index) -> Vec<u8> {
    let mut out = Vec::new();
    for (task_id, entry) in index.iter() {
        match &entry.state {
            State::Running => push_begin(&mut out, task_id, entry.keep_until),
            State::Finished { answer, committed } => {
                push_finish(&mut out, task_id, entry.keep_until, answer, *committed);
            }
        }
    }
    out
}

fn push<'a>(out: &mut Vec<u8>, task_id: Uuid, kind: &'a str, fill: impl FnOnce(&mut Line<'a>)) {
    let mut id = String::with_capacity(36);
    let _ = write!(id, "{task_id}");
    let mut line = Line {
        id: Cow::Owned(id),
        kind: Cow::Borrowed(kind),
        until: None,
        status: None,
        ext_id: None,
        body: None,
        committed: false,
    };
    fill(&mut line);
    // Writing strings and numbers into memory cannot fail; if it did, the line is left out and
    // the task counts as interrupted, which is safe.
    let begin = out.len();
    match serde_json::to_writer(&mut *out, &line) {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(begin),
    }
}

/// Reads one line. `None` if it is torn or not of the journal.
pub(crate) fn parse(line: &[u8]) -> Option<Record> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let task_id = Uuid::parse_str(&line.id).ok()?;
    match line.kind.as_ref() {
        "begin" => Some(Record::Begin { task_id, keep_until: line.until? }),
        "finish" => Some(Record::Finish {
            task_id,
            keep_until: line.until?,
            answer: Answer {
                status: line.status?,
                ext_id: line.ext_id?,
                body: Bytes::from(line.body?.into_owned()),
                is_sent_twice: false,
            },
            committed: line.committed,
        }),
        "commit" => Some(Record::Commit { task_id }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_as_written_and_a_torn_one_not_at_all() {
        let task_id = Uuid::from_u128(7);
        let answer = Answer::ok("line\nbreak \"quoted\"").with_ext_id(-4);
        let mut out = Vec::new();
        push_finish(&mut out, task_id, 99, &answer, true);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let whole = &out[..out.len() - 1];
        let expected = Record::Finish { task_id, keep_until: 99, answer, committed: true };
        assert_eq!(parse(whole), Some(expected));
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None, "torn at {end}");
        }
    }
}
