//! `covey task watch`: tasks as they change.

use std::collections::HashMap;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use covey_client::{PageRequest, Task, TaskFilter, TaskRow, TaskStatus, Time};
use uuid::Uuid;

use crate::command::call::exit_code;
use crate::command::connection::Connection;
use crate::command::moment;
use crate::command::output::{Output, printable};
use crate::command::task::{explained, view, with_results_after};

/// Puts the cursor to the top and clears what is below (ECMA-48 §8.3.21, §8.3.39).
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Follows one task until it is final.
pub async fn one(id: Uuid, interval: Duration, connection: &Connection) -> Result<ExitCode> {
    let mut told = Told::default();
    // The first look does not wait: it tells what there is already.
    let mut task = connection.client.task_get(id).await.map_err(|error| explained(error, id, connection))?;
    loop {
        task = with_results_after(told.last_result, task, connection).await?;
        told.tell(&task, connection.output)?;
        if task.status.is_final() {
            return Ok(exit_code(task.status));
        }
        // Ends at once when the task does; states before that show at the next look.
        task = connection
            .client
            .task_wait(id, interval)
            .await
            .map_err(|error| explained(error, id, connection))?;
    }
}

/// What was told of a task so far.
#[derive(Default)]
struct Told {
    began: Option<Time>,
    changes: usize,
    last_result: i64,
}

impl Told {
    fn tell(&mut self, task: &Task, output: Output) -> io::Result<()> {
        let fresh: Vec<_> = task.results.iter().take_while(|result| result.id > self.last_result).collect();
        let is_news = task.timeline.len() > self.changes || !fresh.is_empty();
        if output.json && is_news {
            output.json(task)?;
        }
        if !output.json {
            // A result comes before the end that it brings.
            let changes = task.timeline.iter().skip(self.changes);
            let (ends, others): (Vec<_>, Vec<_>) = changes.partition(|change| change.status.is_final());
            for change in others {
                output.text(&view::change_text(change, &mut self.began))?;
            }
            for result in fresh.into_iter().rev() {
                output.text(&view::result_text(result))?;
            }
            for change in ends {
                output.text(&view::change_text(change, &mut self.began))?;
            }
        }
        self.changes = task.timeline.len();
        self.last_result = task.results.first().map_or(self.last_result, |newest| newest.id);
        Ok(())
    }
}

/// Shows the newest tasks, again and again: on a terminal as a table that
/// stays in its place, else as a line for each change.
pub async fn newest(
    filter: &TaskFilter,
    size: u32,
    interval: Duration,
    connection: &Connection,
) -> Result<()> {
    let output = connection.output;
    let page = PageRequest { page: 1, size };
    let mut known = HashMap::new();
    let mut is_first = true;
    loop {
        let found = connection.client.task_list(filter, page).await?;
        if output.is_terminal && !output.json {
            let table = view::table(output, &found.items);
            let count = format!("{} tasks; Ctrl-C ends", found.total);
            output.text(&format!("{CLEAR}{table}\n\n{count}"))?;
        } else {
            changed(&mut known, &found.items, is_first, output)?;
        }
        is_first = false;
        tokio::time::sleep(interval).await;
    }
}

/// Prints the tasks whose state has changed, oldest first.
fn changed(
    known: &mut HashMap<Uuid, TaskStatus>,
    tasks: &[TaskRow],
    is_first: bool,
    output: Output,
) -> io::Result<()> {
    for task in tasks.iter().rev() {
        // What was there before somebody looked is no change.
        let is_news = known.insert(task.id, task.status) != Some(task.status);
        if !is_news || is_first {
            continue;
        }
        if output.json {
            output.json(task)?;
        } else {
            output.text(&line(task))?;
        }
    }
    // Bounded: what has left the page is forgotten.
    known.retain(|id, _| tasks.iter().any(|task| task.id == *id));
    Ok(())
}

fn line(task: &TaskRow) -> String {
    let (device, method) = (printable(&task.device_sn), printable(&view::method(task)));
    format!("{:<9} {}  {device} {method}  {}", task.status, task.id, moment::ago(task.created_at))
}
