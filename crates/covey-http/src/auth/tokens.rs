//! Tokens as credentials: whose a token is, of an issuer that the operator trusts or of this deployment itself.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use covey_core::Engine;
use covey_core::access::{ApiKey, Caller, CallerKind, KeyBounds};
use covey_core::id::UnixMs;
use covey_core::token::{MadeFrom, TokenGrant};
use covey_token::{
    Compact, Issuer, OwnKeys, OwnToken, OwnVerified, SigningKey, TokenFault, Verified, caller_id,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::cookie;
use crate::problem::{Kind, Problem};

/// How many issuers there may be.
/// Limit for the server, set by `token_issuers`: the server does not start.
const ISSUERS_MAX: usize = 100;
/// How long it takes at least from one look at the keys of all servers to the next, when a token names one that is not known.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Who a token says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Who has issued it.
    pub(crate) issuer: Arc<str>,
    /// Whom the issuer means.
    pub(crate) subject: Arc<str>,
}

/// Whom a token stands for.
pub(super) struct Bearer {
    pub(super) caller: Caller,
    pub(super) identity: Arc<Identity>,
    /// The API key from which the token was made, if it was made from one.
    pub(super) key: Option<ApiKey>,
}

/// What tokens are taken, and issued.
pub struct Tokens {
    issuers: Vec<Arc<Issuer>>,
    /// The cookie that holds a browser's token.
    pub(super) cookie: String,
    own: Option<Own>,
}

/// The tokens of this deployment.
struct Own {
    keys: OwnKeys,
    /// What signs, until when.
    signing: RwLock<Option<(Arc<SigningKey>, UnixMs)>>,
    published: Mutex<Bytes>,
    look: tokio::sync::Mutex<Option<Look>>,
}

/// The last look at the keys of all servers.
#[derive(Clone, Copy)]
struct Look {
    /// When it began.
    at: Instant,
    has_read: bool,
}

impl Default for Tokens {
    /// None are taken.
    fn default() -> Self {
        Self { issuers: Vec::new(), cookie: cookie::COOKIE_DEFAULT.to_owned(), own: None }
    }
}

impl Tokens {
    /// Takes tokens of these issuers, and issues its own under the name of the deployment if that has one. A browser may show one
    /// in a cookie of this name.
    ///
    /// # Errors
    /// What the cookie's name or the issuers must be.
    pub fn new(
        issuers: Vec<Arc<Issuer>>,
        deployment: Option<String>,
        cookie: Option<&str>,
    ) -> Result<Self, &'static str> {
        let cookie = cookie.unwrap_or(cookie::COOKIE_DEFAULT);
        if !cookie::is_name(cookie) {
            return Err(
                "the name of a cookie must be 1 to 64 characters without spaces or any of ()<>@,;:\\\"/[]?={}",
            );
        }
        if issuers.len() > ISSUERS_MAX {
            return Err("at most 100 issuers of tokens");
        }
        let own = deployment.map(|deployment| Own {
            keys: OwnKeys::new(deployment),
            signing: RwLock::default(),
            published: Mutex::new(key_set(&[])),
            look: tokio::sync::Mutex::default(),
        });
        Ok(Self { issuers, cookie: cookie.to_owned(), own })
    }

    /// The issuers that are trusted.
    pub(crate) fn issuers(&self) -> &[Arc<Issuer>] {
        &self.issuers
    }

    /// Signs tokens with this key from now on, until its time is over.
    pub fn sign_with(&self, key: SigningKey, signs_until: UnixMs) {
        if let Some(own) = &self.own {
            let signing = Some((Arc::new(key), signs_until));
            *own.signing.write().unwrap_or_else(PoisonError::into_inner) = signing;
        }
    }

    /// Reads the keys with which the servers of the deployment sign. If that fails, those that were read before go on to be used.
    ///
    /// # Errors
    /// The store's.
    pub async fn read_own_keys(&self, engine: &Engine) -> covey_core::Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        let mut look = own.look.lock().await;
        own.read(engine, &mut look).await
    }

    /// The public keys of all servers, as a JWK set.
    pub(crate) fn own_key_set(&self) -> Bytes {
        let published = |own: &Own| own.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.own.as_ref().map_or_else(|| key_set(&[]), published)
    }

    /// Signs a token; none without a key whose time is not over.
    pub(crate) fn sign(&self, grant: &TokenGrant, caller: &Caller) -> Option<String> {
        let own = self.own.as_ref()?;
        let signing = own.signing.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (key, _) = signing.filter(|(_, signs_until)| *signs_until > grant.now)?;
        key.sign(&OwnToken {
            deployment: own.keys.deployment(),
            made_from: grant.made_from,
            name: &caller.name,
            org: caller.org,
            rights: grant.rights,
            now: grant.now,
            expires_at: grant.expires_at,
            id: Uuid::new_v4().to_string(),
        })
    }

    /// Whether a text says that it is a token of somebody who is trusted. Nothing of that is proved.
    pub(super) fn trusts(&self, text: &str) -> bool {
        let Ok(token) = Compact::read(text) else { return false };
        let is_own = self.own.as_ref().is_some_and(|own| own.keys.has_issued(&token));
        is_own || self.issuer_of(&token).is_some()
    }

    fn issuer_of(&self, token: &Compact<'_>) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| token.issuer() == Some(issuer.name()))
    }

    /// Whom a token stands for.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(super) async fn bearer(&self, text: &str, engine: &Engine, now: UnixMs) -> Result<Bearer, Problem> {
        let token = Compact::read(text)?;
        // Before the issuer, so that `alg: none` is told what it is, whoever is said to have issued it.
        token.algorithm()?;
        if let Some(own) = self.own.as_ref().filter(|own| own.keys.has_issued(&token)) {
            return own.bearer(&token, engine, now).await;
        }
        let verified = self.issuer_of(&token).ok_or(TokenFault::Issuer)?.check(&token, now).await?;
        let Verified { issuer, subject, name, org, rights, expires_at } = verified;
        let org = engine.server().org(org).await?.ok_or(TokenFault::UnknownOrganisation)?;
        let caller = Caller {
            org_name: org.name.as_str().into(),
            id: caller_id(&issuer, &subject, org.id),
            kind: CallerKind::Token,
            bounds: KeyBounds { expires_at: Some(expires_at), ..KeyBounds::default() },
            ..Caller::server(org.id, &name, rights)
        };
        Ok(Bearer { caller, identity: Arc::new(Identity { issuer, subject }), key: None })
    }
}

impl Own {
    async fn read(&self, engine: &Engine, look: &mut Option<Look>) -> covey_core::Result<()> {
        // Before it is read, so that a key that comes meanwhile is looked for again, and a store that fails is not asked for each token.
        let begun = Look { at: Instant::now(), has_read: false };
        *look = Some(begun);
        let keys = engine.server().token_keys().await?;
        *look = Some(Look { has_read: true, ..begun });
        let keys: Vec<&str> = keys.iter().map(|key| key.jwk.as_str()).collect();
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = key_set(&keys);
        self.keys.set(keys);
        Ok(())
    }

    async fn bearer(&self, token: &Compact<'_>, engine: &Engine, now: UnixMs) -> Result<Bearer, Problem> {
        let verified = match self.keys.check(token, now) {
            // Another server may have begun to sign with it.
            Err(TokenFault::Key) => {
                let mut look = self.look.lock().await;
                if look.is_none_or(|look| look.at.elapsed() >= LOOK_AGAIN_AFTER) {
                    self.read(engine, &mut look).await?;
                }
                let has_read = look.is_some_and(|look| look.has_read);
                drop(look);
                let verified = self.keys.check(token, now);
                verified.map_err(|fault| match fault {
                    TokenFault::Key if !has_read => TokenFault::NoKeys,
                    fault => fault,
                })?
            }
            verified => verified?,
        };
        let OwnVerified { made_from, rights, expires_at } = verified;
        let (caller, key) = match made_from {
            MadeFrom::Key(id) => {
                let key = engine.server().api_key_of_number(id).await?.ok_or(TokenFault::KeyGone)?;
                if key.bounds.is_over_at(now) {
                    return Err(TokenFault::KeyGone.into());
                }
                (Caller::of_key_token(&key, rights, expires_at), Some(key))
            }
            MadeFrom::Session(id) => {
                let session = engine.server().person_session_of_number(id).await?;
                let session = session.ok_or(TokenFault::SessionGone)?;
                (Caller::of_session_token(&session, rights, expires_at), None)
            }
        };
        let subject = token.claims.get("sub").and_then(Value::as_str).unwrap_or_default().into();
        let identity = Identity { issuer: self.keys.deployment().into(), subject };
        Ok(Bearer { caller, identity: Arc::new(identity), key })
    }
}

fn key_set(jwks: &[&str]) -> Bytes {
    let keys: Vec<Value> = jwks.iter().filter_map(|jwk| serde_json::from_str(jwk).ok()).collect();
    json!({"keys": keys}).to_string().into()
}

impl From<TokenFault> for Problem {
    fn from(fault: TokenFault) -> Self {
        let kind = if fault == TokenFault::NoKeys { Kind::Unavailable } else { Kind::InvalidToken };
        Self::new(kind, fault.to_string())
    }
}
