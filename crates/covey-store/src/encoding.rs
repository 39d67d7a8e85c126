//! How parts of tasks and results are written into columns, alike in every store.

use std::sync::Arc;

use covey_core::id::UnixMs;
use covey_core::record::TwinSide;
use covey_core::task::{Cause, Change, ResultBody, TaskStatus};

/// A timeline as JSON: `[[at, status, "cause"], …]`.
pub(crate) fn timeline_text(timeline: &[Change]) -> String {
    let entries: Vec<_> =
        timeline.iter().map(|change| (change.at.0, change.to.number(), change.cause.name())).collect();
    serde_json::to_string(&entries).unwrap_or_default()
}

/// The timeline that [`timeline_text`] wrote.
pub(crate) fn timeline_from(text: &str) -> Option<Vec<Change>> {
    let entries: Vec<(i64, i64, &str)> = serde_json::from_str(text).ok()?;
    let change = |(at, to, cause): (i64, i64, &str)| {
        Some(Change { at: UnixMs(at), to: TaskStatus::from_number(to)?, cause: Cause::from_name(cause)? })
    };
    entries.into_iter().map(change).collect()
}

/// The number under which the kind of a body is stored.
pub(crate) fn body_kind(body: &ResultBody) -> i16 {
    match body {
        ResultBody::Empty => 0,
        ResultBody::Json(_) => 1,
        ResultBody::Text(_) => 2,
    }
}

/// The body of a kind, from its text.
pub(crate) fn body_from(kind: i64, text: impl Into<Arc<str>>) -> Option<ResultBody> {
    match kind {
        0 => Some(ResultBody::Empty),
        1 => Some(ResultBody::Json(text.into())),
        2 => Some(ResultBody::Text(text.into())),
        _ => None,
    }
}

/// A side of a twin as a number.
pub(crate) fn twin_side(side: TwinSide) -> i64 {
    match side {
        TwinSide::Reported => 0,
        TwinSide::Desired => 1,
    }
}

/// The side that a number stands for.
pub(crate) fn twin_side_from(number: i64) -> Option<TwinSide> {
    [TwinSide::Reported, TwinSide::Desired].into_iter().find(|side| twin_side(*side) == number)
}

/// Numbers beyond this are left out of series: no sum of any that are not can
/// be more than a `f64` holds.
pub(crate) const SERIES_NUMBER_MAX: f64 = 1e290;

/// JSON text without the spaces that mean nothing.
pub(crate) fn minified(json: &str) -> String {
    let (mut is_text, mut is_escaped) = (false, false);
    json.chars()
        .filter(|character| {
            let is_kept = is_text || !matches!(character, ' ' | '\t' | '\n' | '\r');
            match character {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = is_text,
                '"' => is_text = !is_text,
                _ => {}
            }
            is_kept
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_spaces_outside_of_texts_mean_nothing() {
        let json = "{ \"a b\\\" c\" :\n[ 1 ,\t\" \\\\\" , \"\" ] }";
        assert_eq!(minified(json), "{\"a b\\\" c\":[1,\" \\\\\",\"\"]}");
    }
}
