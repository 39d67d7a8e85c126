//! A server that runs: what it sees itself, and what only somebody beside it can see.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

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
use crate::serve::findings::place;
use crate::serve::parts::SystemClock;
use crate::settings::{EMBEDDED, Settings};

/// How long a server on this machine is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the program that knows the clock's state is waited for.
const TIMEDATECTL_TIMEOUT: Duration = Duration::from_secs(2);
/// The listeners of `addresses.json` that are TCP.
const TCP_LISTENERS: [&str; 7] =
    ["http", "https", "mqtts", "metrics", "mqtt_nodes", "websocket_nodes", "node_broker"];

/// What a server elsewhere says of itself.
///
/// # Errors
/// One line that says what to do.
pub(super) async fn of_server_elsewhere(target: &Target) -> Result<Vec<Finding<'static>>> {
    let connection = Connection::open(target)?;
    let asked = ask(&connection.client).await;
    asked.map_err(|error| connection.explained(error.into()))
}

/// What a server on this machine says of itself, and whether its listeners answer.
pub(super) async fn of_local(
    local: &LocalServer,
    key: Option<String>,
    settings: &Settings,
) -> Result<(State, Vec<Finding<'static>>)> {
    let known = key.map_or_else(|| local.admin_key(), Ok);
    let client = Client::of_local(local, known.as_deref().unwrap_or_default())?;
    let (mut state, mut found) = (State::Running, Vec::new());
    let asked = match known {
        Ok(_) => timeout(ANSWER_TIMEOUT, ask(&client)).await,
        Err(error) => Ok(Err(error)),
    };
    let silence = match asked {
        Ok(Ok(told)) => {
            found = told;
            None
        }
        Err(_) => Some(format!("no answer in {} seconds", ANSWER_TIMEOUT.as_secs())),
        Ok(Err(error @ (Error::Unreachable { .. } | Error::Interrupted { .. }))) => {
            Some(error.root_cause().unwrap_or_else(|| error.to_string()))
        }
        // Without a key that is known, or without a database to look it up in: what anybody may know.
        Ok(Err(error)) => {
            eprintln!("covey: {error}; only what /readyz says is known of what the server sees");
            let ready = timeout(ANSWER_TIMEOUT, client.ready()).await;
            if let Ok(Err(Error::Refused { status: 503, detail, .. })) = ready {
                found = of_core(of_readiness(&detail, settings));
            }
            None
        }
    };
    if let Some(why) = silence {
        state = State::Silent;
        found = of_core(vec![silent(&why, &client, settings)]);
    }
    let listeners = listeners(settings);
    let look = move || {
        let found = listeners.iter().filter_map(|(name, address)| ports::unreachable(name, address));
        found.collect::<Vec<_>>()
    };
    found.extend(of_core(tokio::task::spawn_blocking(look).await?));
    Ok((state, found))
}

/// What a server finds, and whether its clock is that of this machine.
async fn ask(client: &Client) -> Result<Vec<Finding<'static>>, Error> {
    let own = SystemClock::start();
    let began = own.now();
    let Findings { findings, server_time, .. } = client.findings().await?;
    let trip_ms = own.now().0.saturating_sub(began.0);
    let ahead_ms = server_time.0.saturating_sub(began.0.saturating_add(trip_ms / 2));
    let offset = Offset { ours: "this machine", other: "the server", ahead_ms, error_ms: trip_ms / 2 };
    Ok(findings.into_iter().chain(of_core(offset.finding().into_iter().collect())).collect())
}

fn silent(why: &str, client: &Client, settings: &Settings) -> core::Finding {
    let data = shell_word(&settings.data.to_string_lossy());
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
