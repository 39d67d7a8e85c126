//! What a running server knows of its own parts: the store, its room, and the links.

use std::path::Path;

use covey_core::error::StorageFault;
use covey_core::finding::{Code, Finding, Severity};
use covey_core::health::Health;
use covey_core::port::{LinkStatus, Room};

use crate::{disk, words};

/// What is wrong with the parts of a server. `place` is where its store is, `broker` where its link goes, and `problem`
/// what keeps that link from being up.
#[must_use]
pub fn findings(
    health: &Health,
    data: &Path,
    place: &str,
    broker: &str,
    problem: Option<&str>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(health.store_fault.and_then(|fault| store(fault, place)));
    match health.room {
        Room::Enough => {}
        Room::Short => found.push(disk::short(data, Room::Short.why().unwrap_or_default())),
        Room::Full => found.push(disk::full(data)),
    }
    for link in &health.links {
        let Some(why) = link.state.status.why() else { continue };
        let severity = if link.state.is_ready { Severity::Warning } else { Severity::Error };
        let seen = match problem {
            Some(problem) => format!("{why}: {problem}"),
            None => why.to_owned(),
        };
        let is_blocked = link.state.status == LinkStatus::Blocked;
        found.push(Finding::of(severity, Code::LinkDown, link.name, seen, link_remedy(broker, is_blocked)));
    }
    found
}

/// What to do about a broker.
#[must_use]
pub fn link_remedy(broker: &str, is_blocked: bool) -> String {
    let look = "docs/rabbitmq.md, docs/mqtt-brokers.md";
    match is_blocked {
        true => {
            format!("{broker} is there and takes nothing: see its memory, its disk and its accounts; {look}")
        }
        false => format!(
            "start {broker}, and see that it can be reached from here; the server goes on by itself; {look}"
        ),
    }
}

/// What is wrong with a store that has this fault; a full disk is told of where its room is.
#[must_use]
pub fn store(fault: StorageFault, place: &str) -> Option<Finding> {
    let (code, remedy) = match fault {
        StorageFault::Full | StorageFault::Short | StorageFault::Overloaded | StorageFault::Stopped => return None,
        StorageFault::ReadOnly => (Code::StoreReadOnly, read_only_remedy(place)),
        StorageFault::Unreachable => (
            Code::StoreUnreachable,
            format!("start the database at {place}, and see that it can be reached: {}", ready_command(place)),
        ),
        StorageFault::Damaged => (
            Code::StoreFault,
            "stop the server, copy the data directory, look at the disk (dmesg), start again; if it is said again, \
             restore the last backup (covey restore)"
                .to_owned(),
        ),
        StorageFault::Io => (
            Code::StoreFault,
            "look into the log of the server for \"store\", and at the disk (dmesg) or the log of the database".to_owned(),
        ),
    };
    Some(Finding::error(code, place, fault.to_string(), remedy))
}

/// What to type to see whether a database at this address answers; each of its hosts is asked.
fn ready_command(place: &str) -> String {
    let rest = place.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let ask = |host: &str| {
        // An IPv6 address has colons within its brackets.
        let port = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let (host, port) = port.unwrap_or((host, "5432"));
        let host = host.trim_matches(['[', ']']);
        match host {
            "" | "***" => "pg_isready".to_owned(),
            host => format!("pg_isready -h {} -p {port}", words::path(Path::new(host))),
        }
    };
    hosts.split(',').map(ask).collect::<Vec<_>>().join("; ")
}

/// What to do about a database that may only be read.
#[must_use]
pub fn read_only_remedy(place: &str) -> String {
    if place.starts_with("postgres") {
        return "give the address of the primary with --store (target_session_attrs=read-write), or let it be written \
                again: ALTER DATABASE … RESET default_transaction_read_only"
            .to_owned();
    }
    format!(
        "see who may write to {place} (ls -l), and whether its disk is mounted to be read only: findmnt -T {place}"
    )
}

#[cfg(test)]
mod tests {
    use covey_core::links::LinkHealth;
    use covey_core::port::LinkState;

    use super::*;

    #[test]
    fn the_database_is_asked_at_its_own_address() {
        for (place, typed) in [
            ("postgres://covey:***@db.example:6432/covey", "pg_isready -h db.example -p 6432"),
            ("postgres://db/covey", "pg_isready -h db -p 5432"),
            ("postgres://[::1]:7000/covey", "pg_isready -h ::1 -p 7000"),
            ("postgres://[::1]/covey", "pg_isready -h ::1 -p 5432"),
            ("postgres://a:1,b/covey", "pg_isready -h a -p 1; pg_isready -h b -p 5432"),
            ("postgres:///covey", "pg_isready"),
            ("postgres://***", "pg_isready"),
        ] {
            let found = store(StorageFault::Unreachable, place).map(|found| found.remedy).unwrap_or_default();
            assert!(found.ends_with(&format!(": {typed}")), "{place}: {found}");
        }
    }

    #[test]
    fn each_part_that_is_not_well_is_named_with_what_to_do() {
        let link = |status, is_ready| LinkHealth { name: "mqtt", state: LinkState { status, is_ready } };
        let found = |store_fault, room, links| {
            let health = Health { store_fault, room, links };
            let found = findings(
                &health,
                Path::new("data"),
                "postgres://db/covey",
                "mqtts://broker",
                Some("refused"),
            );
            assert!(found.iter().all(|found| !found.remedy.is_empty() && !found.seen.is_empty()));
            found.into_iter().map(|found| (found.code, found.severity)).collect::<Vec<_>>()
        };
        let (up, error) = (link(LinkStatus::Up, true), Severity::Error);
        assert_eq!(found(None, Room::Enough, vec![up]), []);
        for (fault, code) in [
            (StorageFault::ReadOnly, Code::StoreReadOnly),
            (StorageFault::Unreachable, Code::StoreUnreachable),
            (StorageFault::Io, Code::StoreFault),
            (StorageFault::Damaged, Code::StoreFault),
        ] {
            assert_eq!(found(Some(fault), Room::Enough, vec![up]), [(code, error)]);
        }
        assert_eq!(found(Some(StorageFault::Full), Room::Full, vec![]), [(Code::DiskFull, error)]);
        assert_eq!(found(None, Room::Short, vec![]), [(Code::DiskShort, error)]);
        let down = [link(LinkStatus::Down, true), link(LinkStatus::Blocked, false)];
        assert_eq!(
            found(None, Room::Enough, down.to_vec()),
            [(Code::LinkDown, Severity::Warning), (Code::LinkDown, error)]
        );
    }
}
