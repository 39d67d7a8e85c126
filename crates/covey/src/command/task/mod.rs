//! `covey task`: what was asked of devices, and what became of it.

mod view;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use covey_client::{PageRequest, Task, TaskFilter, TaskStatus};
use uuid::Uuid;

use crate::command::connection::{Connection, Target};
use crate::command::device::DeviceName;

/// `covey task`.
#[derive(Args)]
pub struct TaskArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    command: TaskCommand,
}

#[derive(Subcommand)]
enum TaskCommand {
    /// List tasks, newest first
    #[command(after_help = "Examples:\n  \
        covey task list --device lamp-1 --status failed\n  \
        covey task list --after 2026-02-03T00:00:00Z --json | jq -r .id")]
    List(ListArgs),
    /// Show a task: the call, each state with its instant and cause, and the results
    #[command(after_help = "Example: covey task show 01976f4e-0000-7000-8000-000000000001\n\n\
        States: READY stored, PENDING acknowledged by the device, LOCK taken by the device, then DONE, FAILED, \
        EXPIRED or DELETED.")]
    Show {
        /// The task's id
        #[arg(value_name = "ID", value_parser = read_id)]
        id: Uuid,
    },
    /// Delete a task: the device does not get it any more. What the device has done already stays done
    #[command(after_help = "Example: covey task rm 01976f4e-0000-7000-8000-000000000001")]
    Rm {
        /// The task's id
        #[arg(value_name = "ID", value_parser = read_id)]
        id: Uuid,
    },
    /// Follow a task until it is final; without an id, follow the newest tasks
    #[command(after_help = "Examples:\n  \
        covey task watch 01976f4e-0000-7000-8000-000000000001\n  \
        covey task watch --device lamp-1\n  \
        covey task watch --json   (one line for each change)\n\n\
        Exit code with an id: 0 done, 1 failed, expired or deleted. Ctrl-C ends it; the task goes on.")]
    Watch {
        /// The task's id
        #[arg(value_name = "ID", conflicts_with = "device", value_parser = read_id)]
        id: Option<Uuid>,
        /// Only tasks of this device: serial number, or number
        #[arg(long, value_name = "SN|ID")]
        device: Option<DeviceName>,
        /// Tasks to show
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        size: u32,
        /// Interval between two looks, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
    },
}

#[derive(Args)]
struct ListArgs {
    /// Only tasks of this device: serial number, or number
    #[arg(long, value_name = "SN|ID")]
    device: Option<DeviceName>,
    /// Only tasks in this state: ready, pending, lock, done, expired, deleted, failed
    #[arg(long, value_name = "STATE")]
    status: Option<TaskStatus>,
    /// Only tasks with this id of your own
    #[arg(long, value_name = "TEXT")]
    ext_task_id: Option<String>,
    /// Only tasks created at or after this instant: 2026-02-03T04:05:06Z, or Unix seconds
    #[arg(long, value_name = "TIME")]
    after: Option<String>,
    /// Only tasks created before this instant
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// Number of the page
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,
    /// Tasks per page
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    size: u32,
}

fn read_id(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "a task's id is a UUID of 36 characters, as covey task list shows it")
}

/// Runs `covey task`.
pub async fn run(args: TaskArgs, connection: &Connection) -> Result<ExitCode> {
    match args.command {
        TaskCommand::List(args) => list(args, connection).await?,
        TaskCommand::Show { id } => {
            let task =
                connection.client.task_get(id).await.map_err(|error| explained(error, id, connection))?;
            view::show(connection.output, &with_results_after(0, task, connection).await?)?;
        }
        TaskCommand::Rm { id } => rm(id, connection).await?,
        TaskCommand::Watch { id: Some(id), interval, .. } => {
            return watch::one(id, Duration::from_secs(interval), connection).await;
        }
        TaskCommand::Watch { id: None, device, size, interval } => {
            let filter = filter_of(device.as_ref(), connection).await?;
            watch::newest(&filter, size, Duration::from_secs(interval), connection).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn filter_of(device: Option<&DeviceName>, connection: &Connection) -> Result<TaskFilter> {
    let device_id = match device {
        Some(device) => Some(device.find(connection).await?.device_id),
        None => None,
    };
    Ok(TaskFilter { device_id, ..TaskFilter::default() })
}

async fn list(args: ListArgs, connection: &Connection) -> Result<()> {
    let filter = TaskFilter {
        status: args.status,
        ext_task_id: args.ext_task_id,
        created_after: args.after,
        created_before: args.before,
        ..filter_of(args.device.as_ref(), connection).await?
    };
    let page = PageRequest { page: args.page, size: args.size };
    let found = connection.client.task_list(&filter, page).await?;
    let output = connection.output;
    if output.json {
        return Ok(found.items.iter().try_for_each(|task| output.json(task))?);
    }
    if found.items.is_empty() {
        let text = if found.total == 0 && filter == TaskFilter::default() {
            format!("no tasks yet; make one: {}", connection.command("call SN METHOD"))
        } else {
            "no such tasks".to_owned()
        };
        output.note(&text);
        return Ok(());
    }
    output.text(&view::table(output, &found.items))?;
    if found.pages > 1 {
        output.note(&format!("page {} of {}, {} tasks in all", found.page, found.pages, found.total));
    }
    Ok(())
}

/// A task with all results whose number is larger: an answer of the server has the newest ones alone.
async fn with_results_after(number: i64, mut task: Task, connection: &Connection) -> Result<Task> {
    while let Some(cursor) = task.results_next.as_deref() {
        if task.results.last().is_none_or(|oldest| oldest.id <= number) {
            break;
        }
        let more = connection.client.task_results_before(task.id, cursor).await?;
        task.results.extend(more.results);
        task.results_next = more.results_next;
    }
    Ok(task)
}

async fn rm(id: Uuid, connection: &Connection) -> Result<()> {
    let deleted =
        connection.client.task_delete(id).await.map_err(|error| explained(error, id, connection))?;
    if connection.output.json {
        connection.output.json(&deleted)?;
    } else {
        connection.output.text(&format!("task {id} is deleted"))?;
    }
    Ok(())
}

/// Says what to do about a task that is not there.
fn explained(error: covey_client::Error, id: Uuid, connection: &Connection) -> anyhow::Error {
    if error.is_not_found() {
        anyhow!("there is no task {id}: \"{}\" shows those that there are", connection.command("task list"))
    } else {
        error.into()
    }
}
