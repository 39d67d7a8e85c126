//! Tokens, as the settings have them: the issuers that are trusted and the way to their keys, and this server's own key.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use covey_core::Engine;
use covey_core::token::TokenKey;
use covey_core::webhook::address::AddressRule;
use covey_http::Tokens;
use covey_pki::Authority;
use covey_token::{Fetch, Fetched, Issuer, KEY_SET_BYTES_MAX, SigningKey, keep_fresh};
use covey_webhook::GuardedClient;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::fault;
use crate::serve::data_dir::DataDir;
use crate::settings::Settings;

/// For how long a server signs with a key.
const SIGNS_MS: i64 = 30 * DAY_MS;
/// For how long its successor is known before it signs with that: so that whoever keeps the keys for a while has it in time.
const KNOWN_BEFORE_MS: i64 = DAY_MS;
/// How long after the last signature a key is known: longer than any token is valid.
const KNOWN_AFTER_MS: i64 = DAY_MS + 3_600_000;
const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// How often the keys of other servers are read, and it is looked whether this server's own is due.
const LOOK_EACH: Duration = Duration::from_secs(60);
/// The files of this server's key, and of its successor.
const KEY: &str = "token.key";
const NEXT_KEY: &str = "token-next.key";

/// Documents over HTTPS.
struct Documents(Arc<GuardedClient>);

impl Fetch for Documents {
    fn get(&self, url: Url) -> Fetched {
        let client = Arc::clone(&self.0);
        Box::pin(async move {
            let answer = client.get(url.as_str(), "application/json", KEY_SET_BYTES_MAX + 1).await?;
            match answer.status {
                200 => Ok(answer.body),
                status => Err(format!("{} answers {status}", url.host_str().unwrap_or_default())),
            }
        })
    }
}

/// What keeps tokens going.
pub struct TokenWork {
    tokens: Arc<Tokens>,
    issuers: Vec<Arc<Issuer>>,
    documents: Arc<Documents>,
    server: String,
    data: std::path::PathBuf,
}

/// Makes it ready. Keys in files are read at once; those of others when the server runs, which may come before them.
pub async fn open(settings: &Settings, data: &DataDir, authority: &Authority) -> Result<TokenWork> {
    let issuers = settings.token_issuers.iter().map(|issuer| issuer.config().map(Issuer::new));
    let issuers: Vec<_> = issuers.collect::<Result<_, _>>().map_err(fault::setup)?;
    // The operator names the URLs, so they may lead anywhere.
    let rule = AddressRule::parse(["all"]).map_err(fault::setup)?;
    let client = GuardedClient::new(rule, settings.token_ca.as_deref()).map_err(fault::setup)?;
    let documents = Arc::new(Documents(Arc::new(client)));
    for issuer in issuers.iter().filter(|issuer| issuer.has_file()) {
        let read = issuer.refresh(&*documents).await;
        read.map_err(|error| {
            fault::setup(format!("the keys of the token issuer {}: {error}", issuer.name()))
        })?;
    }
    let deployment = format!("urn:covey:{}", covey_discovery::fingerprint(authority.root_der()));
    let tokens = Tokens::new(issuers.clone(), Some(deployment), settings.token_cookie.as_deref());
    let tokens = Arc::new(tokens.map_err(fault::setup)?);
    let (server, data) = (settings.server_name.clone(), data.pki_path());
    Ok(TokenWork { tokens, issuers, documents, server, data })
}

impl TokenWork {
    /// What the HTTP server takes and issues.
    pub fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens)
    }

    /// Begins, until it is told to stop.
    pub async fn start(self, engine: &Arc<Engine>, running: &TaskTracker, stop: &CancellationToken) {
        for issuer in &self.issuers {
            let documents: Arc<dyn Fetch> = self.documents.clone();
            running.spawn(keep_fresh(Arc::clone(issuer), documents, stop.clone()));
        }
        self.look(engine).await;
        let (engine, stop) = (Arc::clone(engine), stop.clone());
        running.spawn(async move {
            let looking = async {
                loop {
                    sleep(LOOK_EACH).await;
                    self.look(&engine).await;
                }
            };
            stop.run_until_cancelled(looking).await;
        });
    }

    /// Looks after this server's own key, and reads those of all servers.
    async fn look(&self, engine: &Engine) {
        if let Err(error) = self.rotate(engine).await {
            tracing::warn!(%error, "this server has no new key to sign tokens with; trying again");
        }
        if let Err(error) = self.tokens.read_own_keys(engine).await {
            tracing::warn!(%error, "the keys with which servers sign tokens were not read; trying again");
        }
    }

    async fn rotate(&self, engine: &Engine) -> Result<()> {
        let now = engine.now();
        let known = engine.server().token_keys().await?;
        let of = |key: &SigningKey| known.iter().find(|known| known.id == key.id());
        let current = self.read(KEY)?;
        let ends_at = match current.as_ref().map(|key| (key, of(key))) {
            Some((_, Some(known))) => Some(known.signs_until),
            // Made before a crash, or the database is older than the folder.
            Some((key, None)) => Some(self.publish(engine, key, now).await?),
            None => None,
        };
        match ends_at {
            Some(ends_at) if ends_at.since_ms(now) > KNOWN_BEFORE_MS => {}
            Some(ends_at) if ends_at > now => {
                let next = match self.read(NEXT_KEY)? {
                    Some(next) => next,
                    None => self.make(NEXT_KEY)?,
                };
                if of(&next).is_none() {
                    self.publish(engine, &next, ends_at).await?;
                    tracing::info!(kid = next.id(), "the next key to sign tokens with is made");
                }
            }
            _ => {
                let next = match self.read(NEXT_KEY)? {
                    Some(next) => {
                        std::fs::rename(self.data.join(NEXT_KEY), self.data.join(KEY))?;
                        next
                    }
                    None => self.make(KEY)?,
                };
                if of(&next).is_none() {
                    self.publish(engine, &next, now).await?;
                }
                tracing::info!(kid = next.id(), "tokens are signed with another key");
                self.tokens.sign_with(next);
                return Ok(());
            }
        }
        if let Some(key) = current {
            self.tokens.sign_with(key);
        }
        Ok(())
    }

    /// Makes a key known to all servers, with which this one signs from an instant on; answers until when.
    async fn publish(
        &self,
        engine: &Engine,
        key: &SigningKey,
        from: covey_core::id::UnixMs,
    ) -> Result<covey_core::id::UnixMs> {
        let signs_until = from.plus_ms(SIGNS_MS);
        let (id, server, jwk) = (key.id().to_owned(), self.server.clone(), key.jwk());
        let (made_at, valid_until) = (engine.now(), signs_until.plus_ms(KNOWN_AFTER_MS));
        engine
            .server()
            .token_key_add(TokenKey { id, server, jwk, made_at, signs_until, valid_until })
            .await?;
        Ok(signs_until)
    }

    fn read(&self, name: &str) -> Result<Option<SigningKey>> {
        let path = self.data.join(name);
        match std::fs::read_to_string(&path) {
            Ok(pem) => {
                let key = SigningKey::read_pem(&pem);
                Ok(Some(key.ok_or_else(|| fault::setup(format!("{} is no P-256 key", path.display())))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault::setup(format!("cannot read {}: {error}", path.display()))),
        }
    }

    fn make(&self, name: &str) -> Result<SigningKey> {
        let pem = SigningKey::generate_pem().ok_or_else(|| fault::setup("the system gives no randomness"))?;
        crate::serve::data_dir::write_private(&self.data.join(name), pem.as_bytes())?;
        SigningKey::read_pem(&pem).ok_or_else(|| fault::setup("a new key cannot be read"))
    }
}
