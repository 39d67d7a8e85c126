//! In which form `covey device add` writes a device's certificate and key.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use covey_client::Registered;

use crate::command::device::identity_folder::{CA_FILE, CERTIFICATE_FILE, DER_FILES, KEY_FILE, PKCS12_FILE};
use crate::fault;

/// A form, as it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BundleKind {
    /// ca.pem, cert.pem and key.pem
    #[default]
    Pem,
    /// device.p12, locked with a password, and ca.pem
    Pkcs12,
    /// ca.der, cert.der, issuer.der and key.der
    Der,
}

/// A form, ready to be written.
pub enum Bundle {
    Pem,
    Pkcs12 { password: String, is_made: bool },
    Der,
}

/// A file with what it holds.
pub type Content = (&'static str, Vec<u8>);

impl Bundle {
    /// Checked before a device is registered: its key is shown once.
    pub fn of(kind: BundleKind, password_file: Option<&Path>) -> Result<Self> {
        match kind {
            BundleKind::Pem => Ok(Self::Pem),
            BundleKind::Der => Ok(Self::Der),
            BundleKind::Pkcs12 => {
                let (password, is_made) = match password_file {
                    Some(path) => (read_password(path)?, false),
                    None => (made_password()?, true),
                };
                covey_pki::check_bundle_password(&password).map_err(fault::setup)?;
                Ok(Self::Pkcs12 { password, is_made })
            }
        }
    }

    /// The files of a device, with a key of its own or one that was made for it.
    pub fn files(&self, has_own_key: bool) -> &'static [&'static str] {
        match (self, has_own_key) {
            (Self::Pem, true) => &[CA_FILE, CERTIFICATE_FILE],
            (Self::Pem, false) => &[CA_FILE, CERTIFICATE_FILE, KEY_FILE],
            (Self::Pkcs12 { .. }, _) => &[CA_FILE, PKCS12_FILE],
            (Self::Der, true) => &["ca.der", "cert.der", "issuer.der"],
            (Self::Der, false) => &DER_FILES,
        }
    }

    /// The password, if it was made here.
    pub fn made_password(&self) -> Option<&str> {
        match self {
            Self::Pkcs12 { password, is_made: true } => Some(password),
            _ => None,
        }
    }

    /// What the files hold.
    pub fn contents(&self, registered: &Registered) -> Result<Vec<Content>> {
        let text =
            |pem: &Option<std::borrow::Cow<'static, str>>| pem.as_deref().unwrap_or_default().to_owned();
        let (ca, certificate) = (text(&registered.ca_pem), text(&registered.certificate_pem));
        let key = registered.private_key_pem.as_deref();
        Ok(match self {
            Self::Pem => {
                let mut files =
                    vec![(CA_FILE, ca.into_bytes()), (CERTIFICATE_FILE, certificate.into_bytes())];
                files.extend(key.map(|key| (KEY_FILE, key.as_bytes().to_vec())));
                files
            }
            Self::Pkcs12 { password, .. } => {
                let key = key.context("the server sent no private key")?;
                let locked = covey_pki::pkcs12(&registered.device.sn, &certificate, &ca, key, password)?;
                vec![(CA_FILE, ca.into_bytes()), (PKCS12_FILE, locked)]
            }
            Self::Der => {
                let each = covey_pki::certificates_der(&[&ca, &certificate])?;
                let key = key.map(covey_pki::key_der).transpose()?;
                DER_FILES.into_iter().zip(each.into_iter().chain(key)).collect()
            }
        })
    }
}

/// The first line of a file.
fn read_password(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| fault::setup(format!("cannot read the password in {}: {error}", path.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn made_password() -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| fault::setup(format!("the system gives no randomness: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
