//! Mosquitto: a process for each deployment, since it knows no vhosts. It
//! starts in some milliseconds and needs two megabytes.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::package;
use crate::pki::Identity;
use crate::process::{Kind, Process};
use crate::secret;
use crate::shape::Link;
use crate::state::Locked;

const START_SECONDS_MAX: Duration = Duration::from_secs(10);
/// Where the files are that a user would take.
const DEPLOYED: &str = "deploy/mosquitto";
/// The accounts and their rights, which Mosquitto rewrites.
const ACCOUNTS: &str = "dynamic-security.json";
/// The rights where there are no accounts.
const ACL: &str = "acl";
/// Servers of a deployment by the CN of their certificates, which is also
/// their client id: each needs its own.
pub const SERVERS: [&str; 4] = ["covey.server", "covey.a", "covey.b", "covey.c"];

/// Where the rights of its clients stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// In accounts, which a plugin keeps and servers change.
    Accounts,
    /// In a file that says the same for all devices: `deploy/mosquitto/acl`.
    File,
}

impl Rights {
    /// Those of a link, if it is Mosquitto.
    pub fn of_link(link: Link) -> Option<Self> {
        match link {
            Link::Mosquitto => Some(Self::Accounts),
            Link::MosquittoPlain => Some(Self::File),
            Link::Embedded | Link::Rabbitmq | Link::RabbitmqCluster => None,
        }
    }
}

/// Installs what is missing, and tells where it is.
pub fn install() -> Result<String> {
    package::program("mosquitto", "mosquitto")
}

/// The name of a deployment's process.
pub fn process_name(deployment: &str) -> String {
    format!("mosquitto-{deployment}")
}

/// Starts a deployment's Mosquitto, making it first if there is none.
pub fn start(locked: &mut Locked, deployment: &str, rights: Rights, tls: &Identity) -> Result<String> {
    let name = process_name(deployment);
    if !locked.state.processes.contains_key(&name) {
        let process = create(locked, &name, rights, tls)?;
        locked.state.processes.insert(name.clone(), process);
        locked.save()?;
    }
    let process = locked.state.process(&name)?;
    if !process.is_running() {
        process.spawn()?;
        locked.save()?;
    }
    wait(locked, &name)?;
    Ok(name)
}

/// Waits until it accepts connections.
pub fn wait(locked: &mut Locked, name: &str) -> Result<()> {
    let process = locked.state.process(name)?;
    let port = port(process)?;
    process.wait_until_ready("Mosquitto", START_SECONDS_MAX, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    })?;
    locked.save()
}

/// The port for devices and for Covey.
pub fn port(process: &Process) -> Result<u16> {
    process.ports.get("mqtts").copied().context("a Mosquitto without a port")
}

/// Removes what a deployment's Mosquitto has on disk.
pub fn remove(locked: &Locked, name: &str) -> Result<()> {
    let folder = locked.state.dir.join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

fn create(locked: &Locked, name: &str, rights: Rights, tls: &Identity) -> Result<Process> {
    let program = install()?;
    let folder = locked.state.dir.join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    secret::folder(&folder)?;
    let port = locked.state.free_ports().take()?;
    let mut configuration = render(&deployed("mosquitto.conf")?, port, &folder, tls)?;
    match rights {
        Rights::Accounts => {
            secret::write(&folder.join(ACCOUNTS), &with_more_servers(&deployed(ACCOUNTS)?)?, 0o600)?;
        }
        Rights::File => {
            secret::write(&folder.join(ACL), &deployed(ACL)?, 0o600)?;
            configuration = with_rights_in_file(&configuration, &folder.join(ACL));
        }
    }
    let conf = folder.join("mosquitto.conf");
    secret::write(&conf, &configuration, 0o600)?;
    Ok(Process {
        kind: Kind::Mosquitto,
        command: vec![program, "-c".to_owned(), conf.display().to_string()],
        environment: BTreeMap::new(),
        log: folder.join("mosquitto.log"),
        folder,
        ports: BTreeMap::from([("mqtts".to_owned(), port)]),
        id: None,
        is_ready: false,
    })
}

/// A file that a user would take.
fn deployed(file: &str) -> Result<String> {
    let path = crate::workspace().join(DEPLOYED).join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The accounts to begin with, with one for each server that a test may start.
fn with_more_servers(accounts: &str) -> Result<String> {
    let mut accounts: Value =
        serde_json::from_str(accounts).with_context(|| format!("{DEPLOYED}/{ACCOUNTS} is no JSON"))?;
    let clients = accounts["clients"].as_array_mut().context("accounts without clients")?;
    let first = clients.iter().find(|client| client["username"] == SERVERS[0]);
    let first = first.with_context(|| format!("{DEPLOYED}/{ACCOUNTS} knows no {}", SERVERS[0]))?.clone();
    for name in &SERVERS[1..] {
        let mut more = first.clone();
        more["username"] = Value::from(*name);
        clients.push(more);
    }
    Ok(accounts.to_string())
}

/// A user's configuration with the places and the port of this machine. All
/// that decides who may do what stays as it is, so that tests test it.
fn render(conf: &str, port: u16, folder: &Path, tls: &Identity) -> Result<String> {
    // As root, it would become another user, who cannot come into the folder.
    let user = if package::is_root() { "user root\n" } else { "" };
    let ours = [
        ("listener", format!("{port} 127.0.0.1")),
        ("cafile", tls.ca.display().to_string()),
        ("certfile", tls.certificate.display().to_string()),
        ("keyfile", tls.key.display().to_string()),
        ("plugin_opt_config_file", folder.join(ACCOUNTS).display().to_string()),
    ];
    let mut rendered = String::from("# Rendered from deploy/mosquitto for this machine\n");
    let mut seen = Vec::new();
    for line in conf.lines() {
        let mut words = line.split_whitespace();
        match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
            // Covey listens to this log; those in files are not for tests.
            ("log_dest", "topic") => rendered.push_str(&format!("{line}\n")),
            ("log_dest" | "persistence_location" | "user" | "pid_file" | "crlfile", _) => {}
            (key, _) => match ours.iter().find(|(ours, _)| *ours == key) {
                Some((key, _)) if seen.contains(key) => {
                    bail!(
                        "{DEPLOYED}/mosquitto.conf has {key} twice; the tests know one listener, for mutual TLS"
                    );
                }
                Some((key, value)) => {
                    rendered.push_str(&format!("{key} {value}\n"));
                    seen.push(*key);
                }
                None => rendered.push_str(&format!("{line}\n")),
            },
        }
    }
    if let Some((missing, _)) = ours.iter().find(|(key, _)| !seen.contains(key)) {
        bail!("{DEPLOYED}/mosquitto.conf has no {missing}: who would be let in?");
    }
    // These belong to no listener and may stand at the end.
    rendered.push_str(&format!("log_dest stderr\npersistence_location {}/\n{user}", folder.display()));
    Ok(rendered)
}

/// Without the plugin and without a log that is published.
fn with_rights_in_file(conf: &str, acl: &Path) -> String {
    let is_kept = |line: &&str| !line.starts_with("plugin") && *line != "log_dest topic";
    let kept: String = conf.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
    format!("{kept}acl_file {}\n", acl.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CONF: &str = "# ours\nlistener 8883\ncafile /a\ncertfile /b\nkeyfile /c\nrequire_certificate true\n\
                        plugin_opt_config_file /d\nlog_dest syslog\nlog_dest topic\ncrlfile /e\n";

    fn rendered(conf: &str) -> Result<String> {
        let tls = Identity { ca: "/our/ca".into(), certificate: "/our/c".into(), key: "/our/k".into() };
        render(conf, 7, Path::new("/f"), &tls)
    }

    #[test]
    fn places_change_and_rules_stay() {
        let text = rendered(CONF).unwrap();
        for line in [
            "listener 7 127.0.0.1",
            "cafile /our/ca",
            "require_certificate true",
            "plugin_opt_config_file /f/dynamic-security.json",
            "persistence_location /f/",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        let logs: Vec<&str> = text.lines().filter(|line| line.starts_with("log_dest")).collect();
        assert_eq!(logs, ["log_dest topic", "log_dest stderr"]);
        assert!(!text.contains("crlfile") && !text.contains("8883"));
        let plain = with_rights_in_file(&text, Path::new("/f/acl"));
        assert!(plain.contains("\nacl_file /f/acl\n") && plain.contains("require_certificate true"));
        assert!(!plain.contains("plugin") && !plain.contains("log_dest topic"));
    }

    #[test]
    fn a_configuration_that_lets_anybody_in_is_refused() {
        for missing in ["listener", "cafile", "keyfile", "plugin_opt_config_file"] {
            let kept: Vec<&str> = CONF.lines().filter(|line| !line.starts_with(missing)).collect();
            assert!(rendered(&kept.join("\n")).is_err(), "{missing}");
        }
        assert!(rendered(&format!("{CONF}listener 1883\n")).is_err());
    }

    #[test]
    fn each_server_of_a_test_has_an_account_with_the_rights_of_the_first() {
        let text = with_more_servers(r#"{"clients":[{"username":"covey.server","roles":[1]}]}"#).unwrap();
        let accounts: Value = serde_json::from_str(&text).unwrap();
        let names: Vec<&str> = accounts["clients"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["username"].as_str().unwrap())
            .collect();
        assert_eq!(names, SERVERS);
        assert_eq!(accounts["clients"][2]["roles"], accounts["clients"][0]["roles"]);
        assert!(with_more_servers(r#"{"clients":[]}"#).is_err());
    }
}
