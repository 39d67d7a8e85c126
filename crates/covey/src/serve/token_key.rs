//! The key with which this server signs tokens, and its successor: each in a file that nobody else reads, its public half known to
//! all servers.

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::Result;
use covey_core::Engine;
use covey_core::id::UnixMs;
use covey_core::token::TokenKey;
use covey_http::Tokens;
use covey_token::SigningKey;

use crate::fault;
use crate::serve::data_dir::write_private;

/// For how long a server signs with a key.
const SIGNS_MS: i64 = 30 * DAY_MS;
/// For how long its successor is known before it signs with that: so that whoever keeps the keys for a while has it in time.
const KNOWN_BEFORE_MS: i64 = DAY_MS;
/// How long after the last signature a key is known: longer than any token is valid.
const KNOWN_AFTER_MS: i64 = DAY_MS + 3_600_000;
const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// The files of the key, and of its successor.
const KEY: &str = "token.key";
const NEXT_KEY: &str = "token-next.key";

/// The key of a server.
pub struct OwnKey {
    server: String,
    folder: PathBuf,
}

impl OwnKey {
    /// That of the server of this name, in this folder.
    pub fn new(server: String, folder: PathBuf) -> Self {
        Self { server, folder }
    }

    /// Signs with the key whose time it is, and makes its successor when that is due.
    ///
    /// # Errors
    /// The store's, the disk's, or too many keys; what was signed with before is used until its time is over.
    pub async fn look(&self, tokens: &Tokens, engine: &Engine) -> Result<()> {
        let now = engine.now();
        let known = engine.server().token_keys().await?;
        let (key, ends_at) = match self.living(KEY, &known, now)? {
            Some(current) => current,
            None => self.replace(engine, &known, now).await?,
        };
        // Before all that may fail with its successor.
        tokens.sign_with(key, ends_at);
        if ends_at.since_ms(now) <= KNOWN_BEFORE_MS && self.living(NEXT_KEY, &known, now)?.is_none() {
            let (next, _) = self.make(engine, NEXT_KEY, ends_at).await?;
            tracing::info!(kid = next.id(), "the next key to sign tokens with is made");
        }
        Ok(())
    }

    /// The next key from now on, or one that is made now.
    async fn replace(
        &self,
        engine: &Engine,
        known: &[TokenKey],
        now: UnixMs,
    ) -> Result<(SigningKey, UnixMs)> {
        let current = match self.living(NEXT_KEY, known, now)? {
            Some(next) => {
                std::fs::rename(self.folder.join(NEXT_KEY), self.folder.join(KEY))?;
                next
            }
            None => self.make(engine, KEY, now).await?,
        };
        tracing::info!(kid = current.0.id(), "tokens are signed with another key");
        Ok(current)
    }

    /// The key in a file, and until when it signs. None if there is none, or its time is over; nor if nobody knows it, so that no old
    /// file and none from a backup begins anew.
    fn living(&self, name: &str, known: &[TokenKey], now: UnixMs) -> Result<Option<(SigningKey, UnixMs)>> {
        let path = self.folder.join(name);
        let pem = match std::fs::read(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault::setup(format!("cannot read {}: {error}", path.display()))),
        };
        let Some(key) = SigningKey::read_pem(&String::from_utf8_lossy(&pem)) else {
            tracing::warn!(file = %path.display(), "the file holds no P-256 key, and is replaced");
            return Ok(None);
        };
        let ends_at = known.iter().find(|known| known.id == key.id()).map(|known| known.signs_until);
        Ok(ends_at.filter(|end| *end > now).map(|end| (key, end)))
    }

    /// A key with which this server signs from an instant on, known to all; and until when. What fails leaves a file that nobody
    /// knows, which the next one replaces.
    async fn make(&self, engine: &Engine, name: &str, from: UnixMs) -> Result<(SigningKey, UnixMs)> {
        let pem = SigningKey::generate_pem().ok_or_else(|| fault::setup("the system gives no randomness"))?;
        let key = SigningKey::read_pem(&pem).ok_or_else(|| fault::setup("a new key cannot be read"))?;
        write_private(&self.folder.join(name), pem.as_bytes())?;
        let signs_until = from.plus_ms(SIGNS_MS);
        let row = TokenKey {
            id: key.id().to_owned(),
            server: self.server.clone(),
            jwk: key.jwk(),
            made_at: engine.now(),
            signs_until,
            valid_until: signs_until.plus_ms(KNOWN_AFTER_MS),
        };
        engine.server().token_key_add(row).await?;
        Ok((key, signs_until))
    }
}

#[cfg(test)]
mod tests;
