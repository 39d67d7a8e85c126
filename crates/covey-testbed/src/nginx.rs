//! nginx: an empty front door, to which a test adds its sites.
//!
//! A file put into `nginx/sites` in the folder of the services becomes part of
//! its `http` block after SIGHUP to its pid.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::package;
use crate::pki::Identity;
use crate::process::{Kind, Process};
use crate::secret;
use crate::state::Locked;

pub const PROCESS: &str = "nginx";
const START_SECONDS_MAX: Duration = Duration::from_secs(10);

/// Installs what is missing, and tells where it is.
pub fn install() -> Result<String> {
    package::program("nginx", "nginx")
}

/// Starts it, if it does not run, without waiting for it.
pub fn begin(locked: &mut Locked, tls: &Identity) -> Result<()> {
    if !locked.state.processes.contains_key(PROCESS) {
        let process = create(locked, tls)?;
        locked.state.processes.insert(PROCESS.to_owned(), process);
    }
    let process = locked.state.process(PROCESS)?;
    if !process.is_running() {
        process.spawn()?;
    }
    locked.save()
}

/// Waits until it accepts connections.
pub fn wait(locked: &mut Locked) -> Result<()> {
    let process = locked.state.process(PROCESS)?;
    let port = process.ports.get("https").copied().context("an nginx without a port")?;
    process.wait_until_ready("nginx", START_SECONDS_MAX, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    })?;
    locked.save()
}

fn create(locked: &Locked, tls: &Identity) -> Result<Process> {
    let program = install()?;
    let folder = locked.state.dir.join(PROCESS);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    secret::folder(&folder)?;
    fs::create_dir(folder.join("sites"))?;
    fs::create_dir(folder.join("temporary"))?;
    let port = locked.state.free_ports().take()?;
    let conf = folder.join("nginx.conf");
    secret::write(&conf, &configuration(&folder, port, tls, package::is_root()), 0o600)?;
    let log = locked.state.dir.join("nginx.log");
    let mut command = vec![program, "-e".to_owned(), "stderr".to_owned(), "-p".to_owned()];
    command.extend([folder.display().to_string(), "-c".to_owned(), conf.display().to_string()]);
    Ok(Process {
        kind: Kind::Nginx,
        command,
        environment: BTreeMap::new(),
        folder,
        log,
        ports: BTreeMap::from([("https".to_owned(), port)]),
        id: None,
        is_ready: false,
    })
}

fn configuration(folder: &Path, port: u16, tls: &Identity, is_root: bool) -> String {
    // As root, workers would become another user, who cannot come into the folder.
    let user = if is_root { "user root;\n" } else { "" };
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path \"{folder}/temporary/{kind}\";\n"))
        .collect();
    format!(
        "{user}daemon off;\n\
         pid \"{folder}/nginx.pid\";\n\
         error_log stderr notice;\n\
         worker_processes 2;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
         {temporary}    \
             access_log \"{folder}/access.log\";\n    \
             ssl_protocols TLSv1.2 TLSv1.3;\n    \
             ssl_certificate \"{certificate}\";\n    \
             ssl_certificate_key \"{key}\";\n    \
             server {{\n        \
                 listen 127.0.0.1:{port} ssl http2 default_server;\n        \
                 location / {{ return 503; }}\n    \
             }}\n    \
             include \"{folder}/sites/*.conf\";\n\
         }}\n",
        certificate = tls.certificate.display(),
        key = tls.key.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_on_loopback_and_keeps_its_files_in_its_folder() {
        let tls = Identity { ca: "/ca".into(), certificate: "/c".into(), key: "/k".into() };
        let text = configuration(Path::new("/f"), 7, &tls, false);
        assert!(text.contains("listen 127.0.0.1:7 ssl http2"));
        assert_eq!(text.matches("_temp_path \"/f/temporary/").count(), 5);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        assert!(
            !text.contains("user root")
                && configuration(Path::new("/f"), 7, &tls, true).contains("user root;")
        );
    }
}
