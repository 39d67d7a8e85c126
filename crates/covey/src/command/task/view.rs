//! How tasks are shown.

use std::io;

use covey_client::{Task, TaskChange, TaskResult, TaskRow, Time};
use time::OffsetDateTime;

use crate::command::output::{Output, cell, printable};
use crate::command::{json_text, moment};

/// Tasks as a table.
pub fn table(output: Output, tasks: &[TaskRow]) -> String {
    let rows = tasks.iter().map(|task| {
        vec![
            cell(task.id.to_string()),
            output.status(task.status),
            cell(&*task.device_sn),
            cell(method(task)),
            cell(moment::ago(task.created_at)),
            cell(left(task)),
            cell(if task.priority == 0 { String::new() } else { task.priority.to_string() }),
            cell(task.created_by.as_deref().unwrap_or_default()),
            cell(&*task.ext_task_id),
        ]
    });
    output.table(&["ID", "STATE", "DEVICE", "METHOD", "AGE", "LEFT", "PRIO", "BY", "EXT ID"], rows)
}

/// What is left of the life of a task that is still open.
fn left(task: &TaskRow) -> String {
    if task.status.is_final() {
        return String::new();
    }
    moment::span(task.expires_at.0.div_euclid(1000) - OffsetDateTime::now_utc().unix_timestamp())
}

/// What a task is about: the name of its method, or else its code.
pub fn method(task: &TaskRow) -> String {
    task.method.as_deref().map_or_else(|| task.method_code.to_string(), str::to_owned)
}

/// Prints all that is known of a task.
pub fn show(output: Output, task: &Task) -> io::Result<()> {
    if output.json {
        return output.json(task);
    }
    let mut lines = header(task);
    lines.push(String::new());
    lines.push("timeline".to_owned());
    let mut began = None;
    for change in &task.timeline {
        lines.push(format!("  {}", change_text(change, &mut began)));
    }
    for result in &task.results {
        lines.push(String::new());
        lines.push(result_text(result));
    }
    output.text(&lines.join("\n"))
}

fn header(task: &Task) -> Vec<String> {
    let asked = &task.header;
    let device = format!("{} (number {})", printable(&task.device_sn), asked.device_id);
    let method = match &task.method {
        Some(name) => format!("{} (code {})", printable(name), asked.method_code),
        None => asked.method_code.to_string(),
    };
    let mut rows = vec![
        ("task", task.id.to_string()),
        ("state", task.status.to_string()),
        ("device", device),
        ("method", method),
        ("priority", asked.priority.to_string()),
        ("created", moment::of_unix(task.created_at)),
    ];
    if let Some(name) = &task.created_by {
        rows.push(("by", printable(name)));
    }
    if !task.status.is_final() {
        rows.push(("expires", moment::of_unix(task.expires_at)));
    }
    if !asked.ext_task_id.is_empty() {
        rows.push(("ext id", printable(&asked.ext_task_id)));
    }
    if task.deliveries > 1 {
        rows.push(("given", format!("{} times", task.deliveries)));
    }
    rows.into_iter().map(|(name, value)| format!("{name:<9} {value}")).collect()
}

/// One change of state: the first with its instant, the others by how long
/// after it they came.
pub fn change_text(change: &TaskChange, began: &mut Option<Time>) -> String {
    let when = match began {
        Some(Time(began_ms)) => format!("+ {:.3} s", as_seconds(change.at.0 - *began_ms)),
        None => {
            *began = Some(change.at);
            moment::of(change.at)
        }
    };
    format!("{when:<25} {:<9} {}", change.status, printable(&change.cause).replace('_', " "))
}

#[allow(clippy::cast_precision_loss)] // a task lives for a month
fn as_seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// A result with its status code.
pub fn result_text(result: &TaskResult) -> String {
    let kind = if result.is_partial() { "partial result" } else { "result" };
    let ext =
        if result.ext_id == 0 { String::new() } else { format!(", the device's number {}", result.ext_id) };
    let head = format!("{kind} {} (status {}{ext})", result.id, result.status_code);
    match &result.result {
        Some(json) => format!("{head}\n{}", json_text::in_lines(json.get())),
        None => format!("{head}: empty"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_client::TaskStatus;

    use super::*;

    #[test]
    fn a_timeline_tells_the_instant_once_and_then_how_long_it_took() {
        let change = |at: &str, status: TaskStatus, cause: &'static str| TaskChange {
            at: at.parse().unwrap(),
            status,
            status_name: status.name().into(),
            cause: cause.into(),
        };
        let mut began = None;
        let lines = [
            change("2026-02-03T04:05:06.100Z", TaskStatus::Ready, "created"),
            change("2026-02-03T04:05:06.142Z", TaskStatus::Lock, "taken"),
            change("2026-02-03T04:06:06.100Z", TaskStatus::Expired, "timed_out"),
            change("2026-02-03T04:06:06.100Z", TaskStatus::Deleted, "soon\u{1b}"),
        ]
        .map(|change| change_text(&change, &mut began));
        assert_eq!(lines[0], "2026-02-03 04:05:06 UTC   READY     created");
        assert_eq!(lines[1], "+ 0.042 s                 LOCK      taken");
        assert_eq!(lines[2], "+ 60.000 s                EXPIRED   timed out");
        assert!(!lines[3].contains('\u{1b}'), "{}", lines[3]);
    }
}
