//! An issuer that the operator trusts: its keys as they were read last, and its tokens checked with them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use covey_core::access::Rights;
use covey_core::id::UnixMs;
use covey_core::token::OrgWanted;
use serde_json::{Map, Value};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::compact::Compact;
use crate::fault::TokenFault;
use crate::instants::Instants;
use crate::key_set::KeySet;
use crate::mapping::Mapping;
use crate::source::{Fetch, KeySource};

/// How long it takes at least from one reading of an issuer's keys to the next, whatever tokens come in between.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long a token waits for its key to be read.
/// Limit for each request: 401, or 503 while no keys were read.
const KEYS_WAIT_MAX: Duration = Duration::from_secs(3);
/// How many tokens wait for the keys of an issuer.
/// Limit for each issuer: 401, or 503 while no keys were read.
const WAITING_MAX: usize = 32;

/// What is known of an issuer.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// Its name, as in `iss`.
    pub issuer: String,
    /// Those of whom a token must name one, as in `aud`.
    pub audience: String,
    /// Where its keys are.
    pub keys: KeySource,
    /// How much its clock may differ, in seconds.
    pub leeway_seconds: u32,
    /// How old its keys may become before they are read again, in seconds.
    pub refresh_seconds: u32,
    /// How claims are read.
    pub mapping: Mapping,
}

/// What a token says whose signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who has issued it.
    pub issuer: Arc<str>,
    /// Of whom; empty if it does not say.
    pub subject: Arc<str>,
    /// What its bearer is called.
    pub name: Arc<str>,
    /// In which organisation.
    pub org: OrgWanted,
    /// With which rights.
    pub rights: Rights,
    /// Until when it is taken.
    pub expires_at: UnixMs,
}

/// How the keys of an issuer are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyState {
    /// How many there are.
    pub keys: usize,
    /// How old they are, in seconds; none if they were never read.
    pub age_seconds: Option<u64>,
    /// How often they could not be read.
    pub failures: u64,
    /// How often they were read.
    pub reads: u64,
}

/// An issuer that is trusted.
pub struct Issuer {
    pub(crate) config: IssuerConfig,
    name: Arc<str>,
    held: Mutex<Held>,
    /// Somebody needs the keys anew.
    pub(crate) wanted: Notify,
    /// Counts how often the keys were tried to be read.
    tried: watch::Sender<u64>,
    /// For those who wait for that.
    waiting: Semaphore,
}

#[derive(Default)]
struct Held {
    keys: Option<Arc<KeySet>>,
    read_at: Option<Instant>,
    tried_at: Option<Instant>,
    is_failing: bool,
    failures: u64,
    reads: u64,
}

impl Issuer {
    /// One whose keys are not read yet.
    #[must_use]
    pub fn new(config: IssuerConfig) -> Arc<Self> {
        let name = config.issuer.as_str().into();
        Arc::new(Self {
            config,
            name,
            held: Mutex::default(),
            wanted: Notify::new(),
            tried: watch::Sender::new(0),
            waiting: Semaphore::new(WAITING_MAX),
        })
    }

    /// Its name, as in `iss`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its keys are in a file.
    #[must_use]
    pub fn has_file(&self) -> bool {
        matches!(self.config.keys, KeySource::File(_))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How its keys are.
    #[must_use]
    pub fn state(&self) -> KeyState {
        let held = self.held();
        KeyState {
            keys: held.keys.as_ref().map_or(0, |keys| keys.count()),
            age_seconds: held.read_at.map(|at| at.elapsed().as_secs()),
            failures: held.failures,
            reads: held.reads,
        }
    }

    /// Reads its keys. Those that were read before go on to be used if that fails.
    ///
    /// # Errors
    /// Why that failed, for people.
    pub async fn refresh(&self, fetch: &dyn Fetch) -> Result<(), String> {
        let read = self.config.keys.read(&self.name, fetch).await;
        let (issuer, source) = (&*self.name, self.config.keys.shown());
        let outcome = {
            let mut held = self.held();
            // Now, so that a read that takes long is not tried again at once.
            held.tried_at = Some(Instant::now());
            match read {
                Ok(keys) => {
                    let (count, passed_over) = (keys.count(), keys.passed_over());
                    if held.keys.is_none() || held.is_failing {
                        tracing::info!(
                            issuer,
                            source,
                            keys = count,
                            passed_over,
                            "keys of a token issuer read"
                        );
                    }
                    held.keys = Some(Arc::new(keys));
                    held.read_at = Some(Instant::now());
                    held.is_failing = false;
                    held.reads += 1;
                    Ok(())
                }
                Err(error) => {
                    let age_seconds = held.read_at.map(|at| at.elapsed().as_secs());
                    if !held.is_failing {
                        tracing::warn!(issuer, source, %error, age_seconds, "keys of a token issuer cannot be read; those from before are used");
                    }
                    held.is_failing = true;
                    held.failures += 1;
                    Err(error)
                }
            }
        };
        self.tried.send_modify(|count| *count += 1);
        outcome
    }

    /// Checks a token of this issuer.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn check(&self, token: &Compact<'_>, now: UnixMs) -> Result<Verified, TokenFault> {
        let expires_at = self.check_signed(token, now).await?;
        let (claims, mapping) = (&token.claims, &self.config.mapping);
        Ok(Verified {
            issuer: Arc::clone(&self.name),
            subject: claims.get("sub").and_then(Value::as_str).unwrap_or("").into(),
            name: Mapping::name(claims),
            org: mapping.org(claims)?,
            rights: mapping.rights(claims),
            expires_at,
        })
    }

    /// Checks that a token is of this issuer, for this audience and in its time, whatever else it says; answers until when.
    ///
    /// # Errors
    /// Why it is not taken.
    pub async fn check_signed(&self, token: &Compact<'_>, now: UnixMs) -> Result<UnixMs, TokenFault> {
        let expires_at = self.check_claims(token, now)?;
        // Before the look at the keys, so that none that come meanwhile are missed.
        let mut tried = self.tried.subscribe();
        let is_signed = match self.is_signed(token)? {
            Some(is_signed) => is_signed,
            None if self.may_read_again() => {
                let _waiting = self.waiting.try_acquire().map_err(|_| self.without_key())?;
                self.wanted.notify_one();
                let _ = timeout(KEYS_WAIT_MAX, tried.changed()).await;
                self.is_signed(token)?.ok_or_else(|| self.without_key())?
            }
            None => return Err(self.without_key()),
        };
        if is_signed { Ok(expires_at) } else { Err(TokenFault::Signature) }
    }

    /// What costs nothing to check; answers until when the token is taken.
    fn check_claims(&self, token: &Compact<'_>, now: UnixMs) -> Result<UnixMs, TokenFault> {
        token.algorithm()?;
        if token.issuer() != Some(&*self.name) {
            return Err(TokenFault::Issuer);
        }
        if !has_audience(&token.claims, &self.config.audience) {
            return Err(TokenFault::Audience);
        }
        Instants::of(&token.claims)?.check(now, i64::from(self.config.leeway_seconds) * 1_000)
    }

    /// Whether its key has signed a token; none if that key is not known.
    fn is_signed(&self, token: &Compact<'_>) -> Result<Option<bool>, TokenFault> {
        let (algorithm, id) = (token.algorithm()?, token.key_id()?);
        let keys = self.held().keys.clone();
        Ok(keys.and_then(|keys| keys.key(algorithm, id).map(|key| key.has_signed(token))))
    }

    fn without_key(&self) -> TokenFault {
        if self.held().keys.is_some() { TokenFault::Key } else { TokenFault::NoKeys }
    }

    fn may_read_again(&self) -> bool {
        self.held().tried_at.is_none_or(|at| at.elapsed() >= AGAIN_AFTER)
    }
}

/// Whether a token is for this audience: the only one, or one of a list (RFC 7519 §4.1.3).
#[must_use]
pub fn has_audience(claims: &Map<String, Value>, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(only)) => only == audience,
        Some(Value::Array(list)) => list.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}
