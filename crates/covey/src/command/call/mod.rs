//! `covey call`: asks a device to do something, and waits for the answer.

mod offline;
mod request;

use std::borrow::Cow;
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Args;
use covey_client::{Error, Task, TaskRequest, TaskStatus, Whole};
use indicatif::{ProgressBar, ProgressStyle};

use crate::command::connection::{Connection, Target, shell_word};
use crate::command::device::DeviceName;
use crate::command::{json_text, moment};

/// The exit code when the wait ended before the task did.
const STILL_OPEN_EXIT_CODE: u8 = 3;
/// How long to wait unless told otherwise, in seconds.
pub const WAIT_DEFAULT_S: u64 = 30;
/// The same as it is typed.
const WAIT_DEFAULT: &str = "30";
/// Longest wait: a week, in seconds.
pub const WAIT_MAX_S: u64 = 7 * 24 * 3600;
/// Longest life of a task, in minutes (rest-api "Tasks").
pub const TTL_MINUTES_MAX: u64 = 44_639;

/// `covey call`.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    covey call lamp-1 blink '{\"times\":3}'\n  \
    covey call lamp-1 20 '{\"dt\":[{\"cl\":5}]}' --wait 60 --priority 9\n  \
    covey call lamp-1 firmware @firmware.json --no-wait --ttl 1440\n\n\
    Exit code: 0 done, 1 failed, expired or deleted (or the call could not be made), 2 no server or no \
    valid key, 3 still open when the wait ended.")]
pub struct CallArgs {
    #[command(flatten)]
    pub target: Target,
    /// Serial number of the device; id:7 is the one with number 7
    #[arg(value_name = "SN")]
    device: DeviceName,
    /// What to do: a number (method code, 0 to 65534) or a name
    #[arg(value_name = "METHOD")]
    method: request::Method,
    /// Parameters: a JSON object; - reads standard input, @FILE reads a file
    #[arg(value_name = "JSON")]
    payload: Option<request::PayloadSource>,
    /// How long to wait until the task is final
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_value = WAIT_DEFAULT,
        default_missing_value = WAIT_DEFAULT,
        value_parser = clap::value_parser!(u64).range(1..=WAIT_MAX_S)
    )]
    wait: u64,
    /// Do not wait: print the task's id
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Time to live; 0: now or never, push only. Without it, as long as the wait, at least a minute
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(0..=TTL_MINUTES_MAX as i64))]
    ttl: Option<u32>,
    /// Priority, 0 to 9; higher goes first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// Your own id for the task, to find it again
    #[arg(long, value_name = "TEXT")]
    ext_task_id: Option<String>,
    /// The same key with the same arguments gives the same task, for 24 hours. Without it, the command makes
    /// a key for this call
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// Runs `covey call`.
pub async fn run(args: CallArgs, connection: &Connection) -> Result<ExitCode> {
    let request = build(&args, connection).await?;
    let result = if args.no_wait {
        create(&request, connection).await
    } else {
        wait(&request, Duration::from_secs(args.wait), connection).await
    };
    result.map_err(|error| explained(error, &args, &request, connection))
}

async fn build(args: &CallArgs, connection: &Connection) -> Result<TaskRequest> {
    let payload = args.payload.as_ref().map(request::PayloadSource::read).transpose()?;
    let mut request = match &args.device {
        DeviceName::Sn(sn) => TaskRequest::for_sn(sn),
        DeviceName::Id(id) => TaskRequest::for_device_id(*id),
        DeviceName::Either(..) => TaskRequest::for_device_id(args.device.find(connection).await?.device_id),
    };
    match &args.method {
        request::Method::Code(code) => request.task.method_code = Some(Whole((*code).into())),
        request::Method::Name(name) => request.task.method = Some(name.clone()),
    }
    request.task.payload = payload.map(Cow::Owned);
    request.task.priority = args.priority.map(|priority| Whole(priority.into()));
    let ttl = args.ttl.or_else(|| (!args.no_wait).then(|| ttl_for(args.wait)));
    request.task.ttl = ttl.map(|minutes| Whole(minutes.into()));
    request.task.ext_task_id = args.ext_task_id.clone().unwrap_or_default();
    let key = args.idempotency_key.clone();
    request.idempotency_key = Some(key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()));
    Ok(request)
}

/// For how many minutes a task lives that is waited for: one that ends before would be of little use.
pub fn ttl_for(wait_s: u64) -> u32 {
    u32::try_from(wait_s.div_ceil(60).clamp(1, TTL_MINUTES_MAX)).unwrap_or(1)
}

async fn create(request: &TaskRequest, connection: &Connection) -> Result<ExitCode> {
    let created = connection.client.task_create(request).await?;
    let output = connection.output;
    if output.json {
        output.json(&created.task)?;
    } else {
        output.text(&created.task.id.to_string())?;
        let follow = connection.command(&format!("task watch {}", created.task.id));
        output.note(&format!(
            "{}; follow it: {follow}",
            if created.is_replayed { "created before" } else { "created" }
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Calls, waits, and prints what came of it.
///
/// # Errors
/// A refusal, or the transport's.
pub async fn wait(request: &TaskRequest, wait: Duration, connection: &Connection) -> Result<ExitCode> {
    let began = Instant::now();
    let spinner = spinner();
    let mut calling = pin!(connection.client.call(request, wait));
    let outcome = tokio::select! {
        outcome = &mut calling => outcome,
        note = offline::note(request, wait, connection) => {
            if let Some(note) = note {
                spinner.suspend(|| connection.output.note(&note));
            }
            calling.await
        }
    };
    spinner.finish_and_clear();
    let outcome = outcome?;
    let (task, output) = (&outcome.task, connection.output);
    if output.json {
        output.json(task)?;
    } else if let Some(result) = task.results.first().and_then(|newest| newest.result.as_ref()) {
        output.text(&json_text::in_lines(result.get()))?;
    }
    let again = if outcome.is_replayed { " (called before with this key)" } else { "" };
    output.note(&format!(
        "{} after {}{again}  (task {})",
        told(task),
        moment::measured(began.elapsed()),
        task.id
    ));
    if !outcome.is_final() {
        let show = connection.command(&format!("task show {}", task.id));
        output.note(&format!("{} Look again: {show}", open_because(task)));
    }
    Ok(exit_code(task.status))
}

/// The exit code for the state in which a task was last seen.
pub fn exit_code(status: TaskStatus) -> ExitCode {
    match status {
        TaskStatus::Done => ExitCode::SUCCESS,
        status if status.is_final() => ExitCode::FAILURE,
        _ => ExitCode::from(STILL_OPEN_EXIT_CODE),
    }
}

/// State and status code of a task in a line.
fn told(task: &Task) -> String {
    let newest = task.results.first();
    let code = newest.map(|result| format!(" {}", result.status_code)).unwrap_or_default();
    let parts = task.results.iter().filter(|result| result.is_partial()).count();
    let or_more = if task.results_next.is_some() { " or more" } else { "" };
    let parts = if parts > 0 { format!(", {parts}{or_more} partial results") } else { String::new() };
    format!("{}{code}{parts}", task.status)
}

/// What a task that is still open waits for.
fn open_because(task: &Task) -> &'static str {
    match task.status {
        TaskStatus::Ready => "The device has not seen it yet: is it connected?",
        TaskStatus::Pending => "The device knows of it and has not taken it yet.",
        _ => "The device has taken it and not answered yet.",
    }
}

/// Turns on standard error while somebody looks.
fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message("waiting for the device");
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// Adds what is special about a call to an error of the client.
fn explained(
    error: anyhow::Error,
    args: &CallArgs,
    request: &TaskRequest,
    connection: &Connection,
) -> anyhow::Error {
    match error.downcast_ref::<Error>() {
        Some(Error::Interrupted { .. }) if args.idempotency_key.is_none() => {
            let key = request.idempotency_key.as_deref().unwrap_or_default();
            anyhow!("{error}: call again with --idempotency-key {key}, and it is not done twice")
        }
        Some(refused) if refused.is_not_found() => {
            let by_number = request.task.device_id.map(|Whole(id)| format!("with number {id}"));
            let name = request.task.device_sn.clone().or(by_number);
            let name = name.unwrap_or_default();
            let add = connection.command(&format!("device add {}", shell_word(&name)));
            let list = connection.command("device list");
            if request.task.device_sn.is_some() {
                anyhow!("there is no device {name}: register it with \"{add}\", or see \"{list}\"")
            } else {
                anyhow!("there is no device {name}: see \"{list}\"")
            }
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_lives_at_least_as_long_as_somebody_waits_for_it() {
        for (wait_s, minutes) in [(1, 1), (30, 1), (60, 1), (61, 2), (3_600, 60), (u64::MAX, 44_639)] {
            assert_eq!(ttl_for(wait_s), minutes, "{wait_s} s");
        }
    }
}
