//! A server on this machine, found by its data directory: where it listens, its
//! CA certificate, and the first API key.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

/// Where a server listens, as it writes to `addresses.json` once it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Addresses {
    /// The REST API without TLS, on loopback.
    pub http: Option<String>,
    /// The REST API with TLS.
    pub https: Option<String>,
    /// The broker for devices, as `mqtts://host:port`.
    pub mqtts: Option<String>,
    /// The gateway of nodes that speak CoAP, as `coap://host:port`; as the next ones, if it is switched on.
    pub coap: Option<String>,
    /// That of nodes that speak plain MQTT, as `mqtt://host:port`.
    pub mqtt_nodes: Option<String>,
    /// That of nodes that speak MQTT-SN, as `mqtt-sn://host:port`.
    pub mqtt_sn: Option<String>,
    /// That of nodes that open a WebSocket, as `ws://host:port`.
    pub websocket_nodes: Option<String>,
    /// The listener for client programs of microcontrollers, as `https://host:port`.
    pub mcu_http: Option<String>,
}

/// A server on this machine.
#[derive(Clone, Debug)]
pub struct LocalServer {
    data_dir: PathBuf,
    /// Where it listens.
    pub addresses: Addresses,
}

impl LocalServer {
    /// Looks into a data directory.
    ///
    /// # Errors
    /// [`Error::NoServer`] if none runs there; [`Error::LocalFile`] or
    /// [`Error::LocalAddresses`] for a file that cannot be read or understood.
    pub fn find(data_dir: impl AsRef<Path>) -> Result<Self> {
        let data_dir = data_dir.as_ref().to_owned();
        let path = data_dir.join("addresses.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(Error::NoServer { data_dir });
            }
            Err(source) => return Err(Error::LocalFile { path, source }),
        };
        match serde_json::from_slice(&bytes) {
            Ok(addresses) => Ok(Self { data_dir, addresses }),
            Err(_) => Err(Error::LocalAddresses { path }),
        }
    }

    /// The address of its REST API. The one without TLS is on loopback, where
    /// TLS protects nothing and costs a handshake.
    ///
    /// # Errors
    /// [`Error::LocalAddresses`] if it wrote none.
    pub fn base_url(&self) -> Result<&str> {
        let url = self.addresses.http.as_deref().or(self.addresses.https.as_deref());
        url.ok_or_else(|| Error::LocalAddresses { path: self.data_dir.join("addresses.json") })
    }

    /// The first API key, in clear text.
    ///
    /// # Errors
    /// [`Error::LocalFile`] if the file is missing or only others may read it.
    pub fn admin_key(&self) -> Result<String> {
        self.read("admin.key").map(|text| text.trim().to_owned())
    }

    /// The CA certificate in PEM.
    ///
    /// # Errors
    /// [`Error::LocalFile`] if it cannot be read.
    pub fn ca_pem(&self) -> Result<String> {
        self.read("pki/ca.pem")
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.data_dir.join(name);
        std::fs::read_to_string(&path).map_err(|source| Error::LocalFile { path, source })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_without_a_server_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nowhere");
        let error = LocalServer::find(&missing).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "no server found in {}: start one with \"covey up\", or give --url and --key",
                missing.display()
            )
        );
        std::fs::write(dir.path().join("addresses.json"), "{").unwrap();
        assert!(matches!(LocalServer::find(dir.path()), Err(Error::LocalAddresses { .. })));
    }

    #[test]
    fn addresses_and_key_are_read_as_the_server_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"https":"https://127.0.0.1:2","mqtts":"mqtts://127.0.0.1:3","coap":"coap://x"}"#;
        std::fs::write(dir.path().join("addresses.json"), text).unwrap();
        let server = LocalServer::find(dir.path()).unwrap();
        assert_eq!(server.base_url().unwrap(), "https://127.0.0.1:2");
        assert_eq!(server.addresses.mqtts.as_deref(), Some("mqtts://127.0.0.1:3"));
        assert!(matches!(server.admin_key(), Err(Error::LocalFile { .. })));
        std::fs::write(dir.path().join("admin.key"), "covey_1\n").unwrap();
        assert_eq!(server.admin_key().unwrap(), "covey_1");
    }
}
