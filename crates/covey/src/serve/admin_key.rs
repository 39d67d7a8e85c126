//! The first API key of a deployment: made once, never again; and what the
//! start says where the one in the data directory is no use.

use anyhow::Result;
use covey_core::Engine;
use covey_core::port::Ids;

use crate::command::connection::shell_word;
use crate::serve::data_dir::DataDir;
use crate::serve::parts::RandomIds;
use crate::settings::{SQLITE, Settings};

/// The organisation of the first API key.
pub const FIRST_ORG: &str = "default";
/// What the first API key is called.
pub const FIRST_NAME: &str = "admin";

/// The API key in the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminKey {
    /// It was made just now.
    Made,
    /// It is valid.
    Valid,
    /// It was revoked, or is of another deployment.
    Invalid,
    /// There is none: it was deleted, or this is not the deployment's first server.
    Missing,
}

/// Makes the first API key of a deployment that never had one. Its clear text
/// is written before its digest is stored: a crash in between leaves a file that
/// the next start takes up, and never a key that nobody knows.
pub async fn ensure(data: &DataDir, engine: &Engine) -> Result<AdminKey> {
    let written = data.admin_key()?;
    if written.is_none() && engine.server().api_key_exists().await? {
        return Ok(AdminKey::Missing);
    }
    let clear_text = written.clone().unwrap_or_else(|| RandomIds.api_key());
    if written.is_none() {
        data.write_admin_key(&clear_text)?;
    }
    if engine.server().api_key_first(FIRST_ORG, FIRST_NAME, &clear_text).await? {
        return Ok(AdminKey::Made);
    }
    if written.is_none() {
        // Another server of the deployment came first.
        data.remove_admin_key()?;
        return Ok(AdminKey::Missing);
    }
    let valid = engine.server().api_key_check(&clear_text).await?;
    if valid.is_some_and(|key| !key.bounds.is_over_at(engine.now())) {
        return Ok(AdminKey::Valid);
    }
    tracing::warn!(file = %data.admin_key_path().display(), "the admin key is not valid: it was revoked, or is of another deployment");
    Ok(AdminKey::Invalid)
}

impl AdminKey {
    /// What an operator does who has no key, if the data directory has none that is valid.
    pub fn advice(self, data: &DataDir, settings: &Settings) -> Option<String> {
        let path = data.admin_key_path();
        let problem = match self {
            Self::Made | Self::Valid => return None,
            Self::Invalid => format!("the one in {} is not valid", path.display()),
            Self::Missing if settings.store.scheme() == SQLITE => format!("none in {}", path.display()),
            Self::Missing => "that of the deployment's first server".to_owned(),
        };
        let folder = shell_word(&data.path().to_string_lossy());
        Some(format!(
            "{problem}; give one in COVEY_KEY. If all are lost, stop the server and run: covey key recover --data {folder}"
        ))
    }
}
