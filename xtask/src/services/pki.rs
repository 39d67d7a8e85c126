//! The certificates of a set of services: one CA, made by Covey itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::package::output_of;
use crate::conformance::binary;
use crate::step::{cargo, step};

/// Certificates in a folder: `ca.pem` with a certificate and a key.
pub struct Pki {
    dir: PathBuf,
}

/// A certificate with its key, and the root to trust.
pub struct Identity {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pki {
    /// The CA in the folder of the services, made when it is missing.
    pub fn open(services: &Path) -> Result<Self> {
        let pki = Self { dir: services.to_owned() };
        if !pki.authority().join("ca.pem").exists() {
            pki.covey(&["pki", "init", "--out", &pki.authority().to_string_lossy()])?;
        }
        Ok(pki)
    }

    /// The folder of the CA, as `covey up --pki-from` takes it.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The certificate of a server on this machine.
    pub fn server(&self) -> Result<Identity> {
        self.identity("server", "server", &["localhost", "127.0.0.1"])
    }

    /// The certificate of a client with this CN: of a Covey server that comes
    /// to a broker, or of a proxy that comes to a Covey server.
    pub fn client(&self, name: &str) -> Result<Identity> {
        self.identity("client", name, &[name])
    }

    /// A certificate in a folder of its own, made when it is missing.
    fn identity(&self, kind: &str, folder: &str, names: &[&str]) -> Result<Identity> {
        let out = self.dir.join("tls").join(folder);
        let identity = Identity {
            ca: out.join("ca.pem"),
            certificate: out.join(format!("{kind}.pem")),
            key: out.join(format!("{kind}.key")),
        };
        if !(identity.ca.exists() && identity.certificate.exists() && identity.key.exists()) {
            let (authority, out) = (self.authority(), out.to_string_lossy().into_owned());
            let authority = authority.to_string_lossy();
            let mut arguments = vec!["pki", kind, "--pki", &authority, "--out", &out];
            for name in names {
                arguments.extend(["--name", name]);
            }
            self.covey(&arguments)?;
        }
        Ok(identity)
    }

    fn covey(&self, arguments: &[&str]) -> Result<()> {
        let binary = covey_binary()?;
        output_of(Command::new(binary).args(arguments).current_dir(&self.dir)).map(drop)
    }
}

/// The covey binary, built when it is missing.
fn covey_binary() -> Result<PathBuf> {
    let binary = binary();
    if binary.exists() {
        return Ok(binary);
    }
    if std::env::var_os("COVEY_BIN").is_some() {
        bail!("COVEY_BIN names {}, which does not exist", binary.display());
    }
    let target = crate::root().join("target");
    step("building the binary", || {
        cargo(&[
            "build",
            "--package",
            "covey",
            "--locked",
            "--quiet",
            "--target-dir",
            &target.to_string_lossy(),
        ])
    })?;
    Ok(binary)
}
