//! A server that is stopped: whether it could start, and do its work then.

use std::fs::OpenOptions;
use std::io::ErrorKind;

use covey_core::error::StorageFault;
use covey_core::finding::{Code, Finding};
use covey_doctor::clock::Offset;
use covey_doctor::ports::{self, Listener, Transport};
use covey_doctor::{disk, files, parts};
use covey_pki::CaFiles;
use covey_store::sqlite::DiskRoom;
use covey_store::{StoreError, postgres, sqlite};

use crate::doctor::whole;
use crate::serve::data_dir::PKI;
use crate::serve::findings::place;
use crate::serve::first_start;
use crate::settings::{EMBEDDED, SQLITE, Settings};

/// Looks at ports, disk, database and broker. Waits for each that does not answer, for some seconds.
pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let mut found: Vec<_> = listeners(settings).into_iter().filter_map(Listener::finding).collect();
    let data = whole(&settings.data);
    if settings.store.scheme() == SQLITE {
        found.extend(of_sqlite(settings));
        let free_min = settings.disk_free_min.map(|bytes| bytes.0);
        if let Ok(DiskRoom { free_bytes, free_min_bytes }) = DiskRoom::of(&settings.data, free_min) {
            found.extend(disk::finding(&data, free_bytes, free_min_bytes));
        }
    } else {
        if first_start::keys(&settings.data).is_empty() && !waits(settings) {
            found.push(files::no_data(&data, settings.data.exists()));
        }
        found.extend(of_postgres(settings));
    }
    found.extend(of_broker(settings));
    found
}

fn listeners(settings: &Settings) -> Vec<Listener> {
    use Transport::{Tcp, Udp};
    let is_embedded = settings.link.scheme() == EMBEDDED;
    let all = [
        ("--http", Some(settings.http), Tcp),
        ("--https", Some(settings.https), Tcp),
        ("--mqtts", Some(settings.mqtts).filter(|_| is_embedded), Tcp),
        ("--metrics", settings.metrics, Tcp),
        ("--coap", settings.coap, Udp),
        ("--coaps", settings.coaps, Udp),
        ("--mqtt-nodes", settings.mqtt_nodes, Tcp),
        ("--mqtt-sn", settings.mqtt_sn, Udp),
        ("--websocket-nodes", settings.websocket_nodes, Tcp),
        ("--node-broker", settings.node_broker, Tcp),
        ("--mcu-http", settings.mcu_http, Tcp),
    ];
    let listener = |(option, address, transport)| Some(Listener { option, address: address?, transport });
    all.into_iter().filter_map(listener).collect()
}

/// Whether the CA of a server that was never started waits for its certificate.
fn waits(settings: &Settings) -> bool {
    matches!(CaFiles::in_folder(&settings.data.join(PKI)), Ok(CaFiles::Waiting(_)))
}

/// The database is not there, or nothing was ever put into it: a first start, unless keys say that there was one.
fn without_database(settings: &Settings, how: &str) -> Option<Finding> {
    if first_start::keys(&settings.data).is_empty() {
        let is_first = !waits(settings);
        return is_first.then(|| files::no_data(&whole(&settings.data), settings.data.exists()));
    }
    let seen = format!("there are keys of a deployment, and its database is {how}");
    let remedy = "put covey.db back, or restore a backup into a new folder: covey restore --from DIR --data NEW_DIR; covey \
                  up --new begins without its devices, tasks and keys";
    Some(Finding::error(Code::StoreMissing, place(settings), seen, remedy))
}

fn of_sqlite(settings: &Settings) -> Option<Finding> {
    let (path, place) = (sqlite::file_in(&settings.data), place(settings));
    match OpenOptions::new().write(true).open(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return without_database(settings, "missing"),
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            let remedy = parts::read_only_remedy(&place);
            return Some(Finding::error(
                Code::StoreReadOnly,
                place,
                format!("it cannot be written: {error}"),
                remedy,
            ));
        }
        Err(error) => {
            let remedy = "look at the disk: dmesg; restore the last backup if it is lost: covey restore";
            return Some(Finding::error(Code::StoreFault, place, error, remedy));
        }
    }
    match sqlite::look(&path) {
        Ok(look) if look.is_empty => without_database(settings, "empty"),
        // What is there of a CA that is not whole is told of for running servers, too.
        Ok(look) if look.has_keys => {
            let pki = whole(&settings.data).join(PKI);
            let is_gone = CaFiles::in_folder(&pki).is_ok_and(|found| found == CaFiles::None);
            is_gone.then(|| files::keys_missing(&pki, &[]))
        }
        Ok(_) => None,
        // The error says itself what to do.
        Err(error) => {
            let remedy = "as it says; if the file is damaged, restore the last backup: covey restore";
            Some(Finding::error(Code::StoreFault, place, error, remedy))
        }
    }
}

fn of_postgres(settings: &Settings) -> Vec<Finding> {
    let place = settings.store.to_string();
    let looked = postgres::Options::new(settings.store.exposed(), &settings.server_name)
        .and_then(|options| postgres::look(&options));
    let look = match looked {
        Ok(look) => look,
        Err(StoreError::Unreachable { problem, .. }) => {
            let found = parts::store(StorageFault::Unreachable, &place);
            return found.map(|found| Finding { seen: problem, ..found }).into_iter().collect();
        }
        Err(error) => {
            let remedy = "see the address in --store, and the log of the database";
            return vec![Finding::error(Code::StoreFault, place, error, remedy)];
        }
    };
    let mut found = Vec::new();
    if look.is_read_only {
        found.extend(parts::store(StorageFault::ReadOnly, &place));
    }
    if !look.may_create {
        let seen =
            "its user may not make tables in the schema public: a new version cannot bring it up to date";
        let remedy =
            "as the owner of the database: GRANT USAGE, CREATE ON SCHEMA public TO the user of --store";
        found.push(Finding::error(Code::StoreRights, &place, seen, remedy));
    }
    if !look.closed_tables.is_empty() {
        let seen = format!("its user may not read and write: {}", look.closed_tables.join(", "));
        let remedy =
            "have the user of --store own the tables: REASSIGN OWNED BY the former owner TO that user";
        found.push(Finding::error(Code::StoreRights, format!("tables of {place}"), seen, remedy));
    }
    let (ahead_ms, error_ms) = (look.ahead_ms, look.error_ms);
    found.extend(Offset { ours: "this machine", other: "the database", ahead_ms, error_ms }.finding());
    found
}

/// Whether somebody answers at one of the addresses of the broker.
fn of_broker(settings: &Settings) -> Option<Finding> {
    let usual_port = match settings.link.scheme() {
        "amqp" => 5672,
        "amqps" => 5671,
        "mqtt" => 1883,
        "mqtts" => 8883,
        _ => return None,
    };
    let mut problems = Vec::new();
    for host in settings.link.host_and_port().split(',') {
        // An IPv6 address without a port has colons within its brackets alone.
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if has_port { host.to_owned() } else { format!("{host}:{usual_port}") };
        match ports::reach(&host) {
            Ok(()) => return None,
            Err(problem) => problems.push(problem),
        }
    }
    let broker = settings.link.to_string();
    let remedy = parts::link_remedy(&broker, false);
    Some(Finding::error(Code::LinkDown, broker, problems.join("; "), remedy))
}
