//! The listener for client programs of microcontrollers, where the settings switch it on.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use covey_core::id::OrgId;
use covey_http::{App, MicrocontrollerHosts, MicrocontrollerKey, MicrocontrollerOptions};
use covey_pki::ServerNames;
use tokio::net::TcpListener;

use crate::fault;
use crate::serve::bind;
use crate::settings::Settings;

/// How much of a key file is read, in bytes: more than any key has.
const KEY_FILE_BYTES_MAX: u64 = 1_024;

/// The listener, with what its requests must show.
pub struct Microcontrollers {
    pub socket: TcpListener,
    key: Option<MicrocontrollerKey>,
}

impl Microcontrollers {
    /// Opens the listener.
    pub fn bind(settings: &Settings) -> Result<Option<Self>> {
        let Some(address) = settings.mcu_http else { return Ok(None) };
        let key = settings.mcu_http_key_file.as_deref().map(read_key).transpose()?;
        let socket = bind("clients of microcontrollers", "--mcu-http", address)?;
        Ok(Some(Self { socket, key }))
    }

    /// Under which hosts it is reached: by the names that the server's certificate has.
    pub fn hosts(&self, names: &ServerNames) -> Result<MicrocontrollerHosts> {
        Ok(MicrocontrollerHosts::new(names.hosts(), self.socket.local_addr()?.port()))
    }

    /// What it serves.
    pub fn app(&self, app: &App, settings: &Settings, hosts: MicrocontrollerHosts) -> App {
        app.microcontrollers(MicrocontrollerOptions {
            org: OrgId(settings.nodes_org),
            hosts,
            key: self.key.clone(),
        })
    }
}

/// Reads a key that nobody but its owner may read.
fn read_key(path: &Path) -> Result<MicrocontrollerKey> {
    let wrong = |why: String| fault::setup(format!("the key file {}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mode = file.metadata().map_err(|error| wrong(error.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(format!("others may read it (mode {:03o}); chmod 600 it", mode & 0o777)));
    }
    let mut text = String::new();
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    MicrocontrollerKey::parse(&text).map_err(|must| wrong(format!("it must hold {must}")))
}
