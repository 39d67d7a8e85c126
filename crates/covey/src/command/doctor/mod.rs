//! `covey doctor`: what is wrong with a server, running or stopped, and what to do about it.

mod running;
mod stopped;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use covey_client::Finding;
use covey_core::finding::{self as core, Code};
use covey_core::port::Clock;
use serde::Serialize;
use tokio::time::timeout;

use crate::command::connection::{Target, shell_word};
use crate::command::output::{Output, printable};
use crate::doctor::{HadCa, Surroundings, whole};
use crate::fault;
use crate::serve::data_dir::DataDir;
use crate::serve::parts::SystemClock;
use crate::settings::{Options, Settings};

/// How long files are waited for.
const FILES_TIMEOUT: Duration = Duration::from_secs(10);
/// How long everything that a stopped server needs is waited for: each part of it is, for less.
const STOPPED_TIMEOUT: Duration = Duration::from_secs(120);
/// What says that it could not be looked; of everything else nothing is known then.
const NOT_LOOKED: [Code; 3] = [Code::NotAsked, Code::ServerStarting, Code::DataMissing];

/// The settings of `covey up` that `--help` shows here, too; it takes all of them.
const SHOWN: [&str; 14] = [
    "config",
    "url",
    "key",
    "ca",
    "json",
    "data",
    "http",
    "https",
    "mqtts",
    "metrics",
    "store",
    "link",
    "disk_free_min",
    "backup_days_max",
];

/// Arguments of `covey doctor`.
///
/// It looks at clocks, ports, certificates, modes of files, the database, the broker, the disk, the last backup and
/// webhooks. A server that runs is asked what it sees; of one that is stopped the settings and the data directory are
/// looked at. Nothing is changed.
#[derive(Args)]
#[command(mut_args(|arg| {
    let is_shown = SHOWN.contains(&arg.get_id().as_str());
    arg.hide(!is_shown)
}))]
#[command(after_help = "Examples:\n  \
    covey doctor                                     (the server of ./covey-data, running or not)\n  \
    covey doctor --config /etc/covey/covey.toml      (with the settings that the server has)\n  \
    covey doctor --url https://covey.example:8443    (a server elsewhere)\n  \
    covey doctor --json | jq -r '.findings[] | .code + \": \" + .remedy'\n\n\
    Give it the settings that the server has: by --config, in the environment, or as options of covey up, all of which \
    it takes. Each finding has a code that stays the same, a severity, what was seen, and what to type or do \
    (docs/operating.md lists the codes).\n\n\
    Exit code: 0 if there is no finding of severity error, 1 if there is one, 2 if there is none and it could not look \
    (settings that are wrong, no data directory, a server that does not answer or takes no key: not_asked).")]
pub struct DoctorArgs {
    /// Configuration file of the server in TOML
    #[arg(long, env = "COVEY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of a server elsewhere, which is asked and nothing else
    #[arg(long, env = "COVEY_URL", value_name = "URL", help_heading = "Server")]
    url: Option<String>,
    /// API key with the rights metrics:read and orgs:admin (without that, no details); without it, the first key of the
    /// server on this machine
    #[arg(long, env = "COVEY_KEY", value_name = "KEY", hide_env_values = true, help_heading = "Server")]
    key: Option<String>,
    /// CA certificate of the server elsewhere (PEM)
    #[arg(long, env = "COVEY_CA", value_name = "FILE", help_heading = "Server")]
    ca: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    options: Box<Options>,
}

/// How the server was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It runs, and answered.
    Running,
    /// It runs, or has begun to, and did not answer.
    Silent,
    /// It does not run.
    Stopped,
}

/// What is printed for programs.
#[derive(Serialize)]
struct Document<'a> {
    status: &'a str,
    server: State,
    findings: &'a [Finding<'static>],
}

/// Runs `covey doctor`.
pub async fn run(args: DoctorArgs) -> Result<ExitCode> {
    let output = Output::new(args.json);
    if let Some(url) = args.url.clone().filter(|url| !url.is_empty()) {
        let target = Target {
            url: Some(url),
            discover: None,
            key: args.key,
            ca: args.ca,
            data: PathBuf::new(),
            json: args.json,
        };
        let found = running::of_server_elsewhere(&target).await?;
        return told(output, State::Running, found, "a server elsewhere: only what it sees itself");
    }
    let settings = Settings::settle(*args.options, args.config.as_deref())?;
    let data = settings.data.clone();
    let is_held = is_held(&data).await?;
    let mut found = around(&settings).await?;
    let key = args.key.filter(|key| !key.is_empty());
    let running = match is_held {
        true => running::of_this_machine(key, &settings).await?,
        false => None,
    };
    let (state, more) = match running {
        Some(running) => running,
        None => stopped(&settings).await?,
    };
    found.extend(more);
    let shown = data.display();
    let looked = match state {
        State::Running => format!("the server of {shown} runs"),
        State::Silent => format!("a process holds {shown}, and was not heard"),
        State::Stopped => format!("no server runs on {shown}: its settings and files were looked at"),
    };
    told(output, state, found, &looked)
}

/// Whether a server, or a command in its place, holds the data directory.
async fn is_held(data: &Path) -> Result<bool> {
    let path = data.to_owned();
    let looked = timeout(FILES_TIMEOUT, tokio::task::spawn_blocking(move || DataDir::is_held(&path))).await;
    let Ok(looked) = looked else {
        let (shown, seconds) = (data.display(), FILES_TIMEOUT.as_secs());
        return Err(fault::setup(format!(
            "{shown} does not answer in {seconds} seconds: see its disk (dmesg)"
        )));
    };
    looked?.map_err(|error| {
        let shown = data.display();
        fault::setup(format!("cannot look into {shown}: {error}; run this as the user of the server"))
    })
}

/// What is around the server, whether it runs or not.
async fn around(settings: &Settings) -> Result<Vec<Finding<'static>>> {
    let (surroundings, data) = (Surroundings::of(settings), settings.data.clone());
    let now_s = SystemClock::start().now().seconds();
    let look = move || match data.exists() {
        true => surroundings.look(now_s, HadCa::NotKnown).0,
        // Whoever looks at a stopped server says so.
        false => surroundings.configuration().into_iter().collect(),
    };
    let mut found = bounded(FILES_TIMEOUT, &settings.data, look).await?;
    found.extend(running::clock_of_system().await);
    Ok(of_core(found))
}

/// What would keep a stopped server from starting and from its work, unless one has been started meanwhile.
async fn stopped(settings: &Settings) -> Result<(State, Vec<Finding<'static>>)> {
    let of_stopped = settings.clone();
    let found = bounded(STOPPED_TIMEOUT, &settings.data, move || stopped::findings(&of_stopped)).await?;
    if is_held(&settings.data).await? {
        let starting = running::starting(&settings.data, "it was started a moment ago");
        return Ok((State::Silent, of_core(vec![starting])));
    }
    Ok((State::Stopped, of_core(found)))
}

/// What a look that waits for disks and networks found, or that it does not end.
async fn bounded<F>(longest: Duration, data: &Path, look: F) -> Result<Vec<core::Finding>>
where
    F: FnOnce() -> Vec<core::Finding> + Send + 'static,
{
    match timeout(longest, tokio::task::spawn_blocking(look)).await {
        Ok(found) => Ok(found?),
        Err(_) => {
            let seen = format!("a look at it did not end in {} seconds", longest.as_secs());
            let place = whole(data);
            let remedy = format!(
                "its disk does not answer: see the log of the system (dmesg), and where it is: findmnt -T {}",
                shell_word(&place.to_string_lossy())
            );
            Ok(vec![core::Finding::error(Code::LookStale, place.display(), seen, remedy)])
        }
    }
}

/// Findings of ours, in the form in which a server tells its own.
fn of_core(found: Vec<core::Finding>) -> Vec<Finding<'static>> {
    let one = |core::Finding { code, severity, about, seen, remedy, .. }| Finding {
        code: Cow::Borrowed(code.name()),
        severity: Cow::Borrowed(severity.name()),
        about: about.into(),
        seen: seen.into(),
        remedy: remedy.into(),
    };
    found.into_iter().map(one).collect()
}

/// Prints findings, the most severe first, none twice; the exit code says whether one is an error.
fn told(output: Output, server: State, mut found: Vec<Finding<'static>>, looked: &str) -> Result<ExitCode> {
    let error = core::Severity::Error.name();
    found.sort_by(|a, b| {
        (a.severity != error, &a.code, &a.about).cmp(&(b.severity != error, &b.code, &b.about))
    });
    found.dedup_by(|a, b| (&a.code, &a.about) == (&b.code, &b.about));
    // Of what the server keeps from this key more was seen here.
    let known: Vec<_> =
        found.iter().filter(|one| one.about != core::WITHHELD).map(|one| one.code.clone()).collect();
    found.retain(|one| one.about != core::WITHHELD || !known.contains(&one.code));
    let errors = found.iter().filter(|one| one.severity == error).count();
    let was_looked = !found.iter().any(|one| NOT_LOOKED.iter().any(|code| code.name() == one.code));
    if output.json {
        let status = match (errors, was_looked, found.len()) {
            (1.., ..) => error,
            (0, false, _) => "unknown",
            (0, true, 0) => "ok",
            (0, true, _) => core::Severity::Warning.name(),
        };
        output.json(&Document { status, server, findings: &found })?;
    } else {
        for one in &found {
            let Finding { code, severity, about, seen, remedy } = one;
            output.text(&printable(&format!("{severity}  {code}  {about}")))?;
            output.text(&format!("  seen: {}\n  do:   {}", printable(seen), printable(remedy)))?;
        }
    }
    let count = match found.len() {
        0 => "nothing is wrong".to_owned(),
        all => format!("{}, {}", counted(errors, "error"), counted(all - errors, "warning")),
    };
    output.note(&format!("{count}; {looked}"));
    Ok(match (errors, was_looked) {
        (0, true) => ExitCode::SUCCESS,
        (0, false) => ExitCode::from(fault::SETUP_EXIT_CODE),
        _ => ExitCode::FAILURE,
    })
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    #[test]
    fn help_shows_few_settings_and_all_are_taken() {
        let mut command = DoctorArgs::augment_args(Command::new("doctor"));
        let help = command.render_long_help().to_string();
        for shown in SHOWN {
            let option = format!("--{} ", shown.replace('_', "-"));
            assert!(
                help.contains(&option) || help.contains(option.trim_end()),
                "{option} is missing in:\n{help}"
            );
        }
        assert!(!help.contains("--sessions-max") && help.contains("Exit code"), "{help}");
        let matches = command.try_get_matches_from(["doctor", "--sessions-max", "7", "--data", "d"]);
        let args = matches.ok().and_then(|matches| DoctorArgs::from_arg_matches(&matches).ok());
        assert_eq!(args.and_then(|args| args.options.sessions_max), Some(7));
    }
}
