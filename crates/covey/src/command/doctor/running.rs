//! A server that runs: what it sees itself, and what only somebody beside it can see.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use covey_client::{Client, Error, Finding, Findings, LocalServer};
use covey_core::error::StorageFault;
use covey_core::finding::{self as core, Code};
use covey_core::port::Clock;
use covey_doctor::clock::{self, Offset};
use covey_doctor::{parts, ports};
use tokio::time::timeout;

use super::{State, of_core};
use crate::command::connection::{Connection, Target, shell_word};
use crate::doctor::whole;
use crate::fault;
use crate::serve::findings::place;
use crate::serve::parts::SystemClock;
use crate::settings::{EMBEDDED, Settings};

/// How long a server on this machine is waited for: for an answer, and for word of where it listens.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one elsewhere is.
const ELSEWHERE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server that has just started is waited for to look at itself.
const FIRST_LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is looked whether what is waited for is there.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the program that knows the clock's state is waited for.
const TIMEDATECTL_TIMEOUT: Duration = Duration::from_secs(2);
/// The listeners of `addresses.json` that are TCP.
const TCP_LISTENERS: [&str; 7] =
    ["http", "https", "mqtts", "metrics", "mqtt_nodes", "websocket_nodes", "node_broker"];

/// What a server elsewhere says of itself.
///
/// # Errors
/// One line that says what to do: nothing was looked at.
pub(super) async fn of_server_elsewhere(target: &Target) -> Result<Vec<Finding<'static>>> {
    let connection = Connection::open(target)?;
    match timeout(ELSEWHERE_TIMEOUT, ask(&connection.client)).await {
        Ok(asked) => asked.map_err(|error| fault::setup(format!("{:#}", connection.explained(error.into())))),
        Err(_) => Err(fault::setup(format!(
            "{} does not answer in {} seconds: see that the server runs",
            connection.client.base_url(),
            ELSEWHERE_TIMEOUT.as_secs()
        ))),
    }
}

/// What the server that holds the data directory says of itself, and whether its listeners answer; none if it has ended.
pub(super) async fn of_this_machine(
    key: Option<String>,
    settings: &Settings,
) -> Result<Option<(State, Vec<Finding<'static>>)>> {
    let began = Instant::now();
    loop {
        let problem = match LocalServer::find(&settings.data) {
            Ok(local) => return of_local(&local, key, settings).await.map(Some),
            Err(Error::NoServer { .. }) => {
                "it does not say where it listens: it is being started, ends, or hangs".to_owned()
            }
            Err(error) => whole_story(&error),
        };
        if began.elapsed() >= ANSWER_TIMEOUT {
            return Ok(Some((State::Silent, of_core(vec![starting(&settings.data, &problem)]))));
        }
        tokio::time::sleep(PAUSE).await;
        if !super::is_held(&settings.data).await? {
            return Ok(None);
        }
    }
}

/// A process holds the data directory, and cannot be asked.
pub(super) fn starting(data: &Path, problem: &str) -> core::Finding {
    let data = whole(data);
    let remedy = format!(
        "ask again in a moment; if this is said again, look into its log, and see who holds the data directory: fuser -v {}/lock",
        shell_word(&data.to_string_lossy())
    );
    let seen = format!("a process holds the data directory, and cannot be asked: {problem}");
    core::Finding::warning(Code::ServerStarting, data.display(), seen, remedy)
}

/// What a server on this machine says of itself, and whether its listeners answer.
async fn of_local(
    local: &LocalServer,
    key: Option<String>,
    settings: &Settings,
) -> Result<(State, Vec<Finding<'static>>)> {
    let known = key.map_or_else(|| local.admin_key(), Ok);
    let client = Client::of_local(local, known.as_deref().unwrap_or_default());
    let client = client.map_err(|error| fault::setup(whole_story(&error)))?;
    let asked = match known {
        Ok(_) => timeout(ANSWER_TIMEOUT, ask(&client)).await,
        Err(error) => Ok(Err(error)),
    };
    let (state, mut found) = match asked {
        Ok(Ok(told)) => (State::Running, told),
        Ok(Err(error)) if !is_silence(&error) => {
            let (state, more) = of_anybody(&client, settings).await;
            let not_asked = (state == State::Running).then(|| not_asked(&client, &error));
            (state, of_core(not_asked.into_iter().chain(more).collect()))
        }
        Ok(Err(error)) => (State::Silent, of_core(vec![silent(&said(&error), &client, settings)])),
        Err(_) => (State::Silent, of_core(vec![silent(&no_answer(), &client, settings)])),
    };
    let listeners = listeners(settings);
    let look = move || {
        let found = listeners.iter().filter_map(|(name, address)| ports::unreachable(name, address));
        found.collect::<Vec<_>>()
    };
    found.extend(of_core(tokio::task::spawn_blocking(look).await?));
    Ok((state, found))
}

/// What anybody may know, without a key that the server takes, or without a database to look it up in.
async fn of_anybody(client: &Client, settings: &Settings) -> (State, Vec<core::Finding>) {
    match timeout(ANSWER_TIMEOUT, client.ready()).await {
        Ok(Err(Error::Refused { status: 503, detail, .. })) => {
            (State::Running, of_readiness(&detail, settings))
        }
        Ok(Err(error)) if is_silence(&error) => {
            (State::Silent, vec![silent(&said(&error), client, settings)])
        }
        Ok(_) => (State::Running, Vec::new()),
        Err(_) => (State::Silent, vec![silent(&no_answer(), client, settings)]),
    }
}

fn is_silence(error: &Error) -> bool {
    matches!(error, Error::Unreachable { .. } | Error::Interrupted { .. })
}

fn said(error: &Error) -> String {
    error.root_cause().unwrap_or_else(|| error.to_string())
}

fn whole_story(error: &Error) -> String {
    error.root_cause().map_or_else(|| error.to_string(), |cause| format!("{error} ({cause})"))
}

fn no_answer() -> String {
    format!("no answer in {} seconds", ANSWER_TIMEOUT.as_secs())
}

/// What a server finds, and whether its clock is that of this machine.
async fn ask(client: &Client) -> Result<Vec<Finding<'static>>, Error> {
    let (own, asking) = (SystemClock::start(), Instant::now());
    loop {
        let began = own.now();
        let Findings { mut findings, server_time, looked_at, .. } = client.findings().await?;
        let trip_ms = own.now().0.saturating_sub(began.0);
        if looked_at.is_none() && asking.elapsed() < FIRST_LOOK_TIMEOUT {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let ahead_ms = server_time.0.saturating_sub(began.0.saturating_add(trip_ms / 2));
        let offset = Offset { ours: "this machine", other: "the server", ahead_ms, error_ms: trip_ms / 2 };
        findings.extend(of_core(offset.finding().into_iter().collect()));
        if looked_at.is_none() {
            let seen = "the server has not looked at itself since it was started";
            let remedy = "ask again in a moment; if this is said again, its disk does not answer (dmesg)";
            findings.extend(of_core(vec![core::Finding::warning(
                Code::NotAsked,
                client.base_url(),
                seen,
                remedy,
            )]));
        }
        return Ok(findings);
    }
}

/// A server that runs was not asked what it sees.
fn not_asked(client: &Client, error: &Error) -> core::Finding {
    let (remedy, seen) = match error {
        Error::LocalFile { .. } | Error::Refused { status: 401 | 403, .. } => (
            "give a key with metrics:read and orgs:admin in COVEY_KEY: covey key add doctor --right metrics:read --right orgs:admin",
            whole_story(error),
        ),
        error => ("see what else is found, and the log of the server; then ask again", said(error)),
    };
    let seen = format!("it was not asked what it sees itself, only what /readyz says is known: {seen}");
    core::Finding::warning(Code::NotAsked, client.base_url(), seen, remedy)
}

fn silent(why: &str, client: &Client, settings: &Settings) -> core::Finding {
    let data = shell_word(&whole(&settings.data).to_string_lossy());
    core::Finding::error(
        Code::ServerUnreachable,
        client.base_url(),
        format!("a server holds the data directory and does not answer: {why}"),
        format!(
            "look into its log; see who holds it: fuser -v {data}/lock; end that process and start it again"
        ),
    )
}

/// What of `/readyz` is a finding, by the words in which it names what is wrong.
fn of_readiness(detail: &str, settings: &Settings) -> Vec<core::Finding> {
    const FAULTS: [StorageFault; 4] =
        [StorageFault::ReadOnly, StorageFault::Damaged, StorageFault::Io, StorageFault::Unreachable];
    let place = place(settings);
    let finding = |problem: &str| {
        if let Some(why) = problem.strip_prefix("store: ") {
            let fault = FAULTS.into_iter().find(|fault| fault.to_string() == why)?;
            return parts::store(fault, &place);
        }
        let (name, why) = problem.strip_prefix("link ")?.split_once(": ")?;
        let remedy = parts::link_remedy(&settings.link.to_string(), false);
        Some(core::Finding::error(Code::LinkDown, name, why, remedy))
    };
    detail.split("; ").filter_map(finding).collect()
}

/// Where the server says that it listens, as name and `host:port`. Where devices connect to somebody else, that is not
/// its listener.
fn listeners(settings: &Settings) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(settings.data.join("addresses.json")).unwrap_or_default();
    let addresses: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
    let is_own = |name: &str| {
        let devices_here = settings.link.scheme() == EMBEDDED && settings.devices_url.is_none();
        name == "mcu_http" || (TCP_LISTENERS.contains(&name) && (name != "mqtts" || devices_here))
    };
    let own = addresses.into_iter().filter(|(name, _)| is_own(name));
    own.filter_map(|(name, url)| Some((name, url.split_once("://")?.1.trim_end_matches('/').to_owned())))
        .collect()
}

/// What the system says of its clock, where a file does not say it already.
pub(super) async fn clock_of_system() -> Option<core::Finding> {
    if clock::is_synchronised().is_some() {
        return None;
    }
    let ask = || {
        let mut command = Command::new("timedatectl");
        command
            .args(["show", "--property=NTPSynchronized", "--value"])
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command.output().ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let said = timeout(TIMEDATECTL_TIMEOUT, tokio::task::spawn_blocking(ask)).await.ok()?.ok()??;
    clock::finding_of_state(match said.as_str() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::health::Health;
    use covey_core::links::LinkHealth;
    use covey_core::port::{LinkState, LinkStatus, Room};

    use super::*;
    use crate::settings::Options;

    #[test]
    fn what_readyz_says_is_understood_whatever_is_wrong() {
        let settings = Settings::settle(Options::default(), None).unwrap();
        let link =
            LinkHealth { name: "mqtt", state: LinkState { status: LinkStatus::Down, is_ready: false } };
        for (fault, code) in [
            (StorageFault::ReadOnly, Code::StoreReadOnly),
            (StorageFault::Unreachable, Code::StoreUnreachable),
            (StorageFault::Damaged, Code::StoreFault),
            (StorageFault::Io, Code::StoreFault),
        ] {
            let health = Health { store_fault: Some(fault), room: Room::Enough, links: vec![link] };
            let detail = health.problems().collect::<Vec<_>>().join("; ");
            let found = of_readiness(&detail, &settings);
            assert_eq!(
                found.iter().map(|found| found.code).collect::<Vec<_>>(),
                [code, Code::LinkDown],
                "{detail}"
            );
        }
        assert_eq!(of_readiness("the server is stopping", &settings), []);
    }
}
