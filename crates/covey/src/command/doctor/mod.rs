//! `covey doctor`: what is wrong with a server, running or stopped, and what to do about it.

mod running;
mod stopped;

use std::borrow::Cow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use covey_client::{Finding, LocalServer};
use covey_core::finding as core;
use covey_core::port::Clock;
use serde::Serialize;

use crate::command::connection::Target;
use crate::command::output::{Output, printable};
use crate::doctor::Surroundings;
use crate::fault;
use crate::serve::data_dir::DataDir;
use crate::serve::parts::SystemClock;
use crate::settings::{Options, Settings};

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
    Exit code: 0 if there is no finding of severity error, 1 if there is one, 2 if it could not look (settings that \
    are wrong, a server elsewhere that does not answer).")]
pub struct DoctorArgs {
    /// Configuration file of the server in TOML
    #[arg(long, env = "COVEY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of a server elsewhere, which is asked and nothing else
    #[arg(long, env = "COVEY_URL", value_name = "URL", help_heading = "Server")]
    url: Option<String>,
    /// API key with the right metrics:read; without it, the first key of the server on this machine
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
    let is_held = DataDir::is_held(&data).map_err(|error| {
        fault::setup(format!(
            "cannot look into {}: {error}; run this as the user of the server",
            data.display()
        ))
    })?;
    let mut found = around(&settings).await?;
    let state = match (is_held, LocalServer::find(&data)) {
        (true, Ok(local)) => {
            let key = args.key.filter(|key| !key.is_empty());
            let (state, more) = running::of_local(&local, key, &settings).await?;
            found.extend(more);
            state
        }
        (true, Err(_)) => State::Silent,
        (false, _) => {
            let look = move || stopped::findings(&settings);
            found.extend(of_core(tokio::task::spawn_blocking(look).await?));
            State::Stopped
        }
    };
    let shown = data.display();
    let looked = match state {
        State::Running => format!("the server of {shown} runs"),
        State::Silent => {
            format!("a server holds {shown}, and does not say where it listens: it is being started, or ends")
        }
        State::Stopped => format!("no server runs on {shown}: its settings and files were looked at"),
    };
    told(output, state, found, &looked)
}

/// What is around the server, whether it runs or not.
async fn around(settings: &Settings) -> Result<Vec<Finding<'static>>> {
    if !settings.data.exists() {
        return Ok(Vec::new());
    }
    let surroundings = Surroundings::of(settings);
    let now_s = SystemClock::start().now().seconds();
    let mut found = tokio::task::spawn_blocking(move || surroundings.look(now_s).0).await?;
    found.extend(running::clock_of_system().await);
    Ok(of_core(found))
}

/// Findings of ours, in the form in which a server tells its own.
fn of_core(found: Vec<core::Finding>) -> Vec<Finding<'static>> {
    let one = |core::Finding { code, severity, about, seen, remedy }| Finding {
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
    let errors = found.iter().filter(|one| one.severity == error).count();
    if output.json {
        let status = match (errors, found.len()) {
            (0, 0) => "ok",
            (0, _) => core::Severity::Warning.name(),
            _ => error,
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
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
