//! What can be asked of tokens.

use crate::access::{ApiKey, Caller, CallerKind, Grant, Grants, KeyBounds, Rights};
use crate::audit::{AuditAction, AuditEntry};
use crate::budget::Weight;
use crate::engine::{ForCaller, ForServer};
use crate::error::{Error, Result};
use crate::id::UnixMs;
use crate::token::{MadeFrom, NamedOrg, OrgWanted, TokenKey, TokenKeyAdd};

/// How long a token is valid unless its maker says otherwise, in seconds.
pub const TOKEN_SECONDS_DEFAULT: u32 = 900;
/// How long a token may be valid at most, in seconds.
/// Limit for each token: 422.
const TOKEN_SECONDS_MAX: u32 = 86_400;
/// How long a token must be valid at least, in seconds.
const TOKEN_SECONDS_MIN: u32 = 10;

/// A token that somebody wants.
#[derive(Clone, Copy, Debug)]
pub struct TokenWanted {
    /// What it shall do; all that its maker may, if it does not say. What is had for some devices alone, the token has for those alone.
    pub rights: Option<Rights>,
    /// For how long, in seconds.
    pub seconds: u32,
    /// Until when at most: what its maker shows may end before the API key that it is.
    pub until: Option<UnixMs>,
}

/// A token that somebody gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    /// From what it is made.
    pub made_from: MadeFrom,
    /// What it may do.
    pub rights: Rights,
    /// From when.
    pub now: UnixMs,
    /// Until when.
    pub expires_at: UnixMs,
}

impl std::fmt::Display for MadeFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(id) => write!(f, "key {id}"),
            Self::Session(id) => write!(f, "session {id}"),
        }
    }
}

impl ForCaller<'_> {
    /// Notes that a token was made, before anybody gets it.
    ///
    /// # Errors
    /// The store's.
    pub async fn token_made(self, grant: &TokenGrant) -> Result<()> {
        let entry = AuditEntry::of(self.caller, AuditAction::TokenMake, grant.made_from.to_string());
        let rights: Vec<_> = grant.rights.names().collect();
        let seconds = (grant.expires_at.since_ms(grant.now) / 1_000).to_string();
        self.audit_note(entry.detail("rights", &rights.join(" ")).detail("seconds", &seconds)).await
    }

    /// What a token may be that a caller wants: for no longer and with no other rights than the caller's own. From a token none is
    /// made, so that each ends with its key and within a day.
    ///
    /// # Errors
    /// [`Error::Conflict`] for who has neither an API key nor a session, a right that it lacks, a lifetime out of range, or too many requests.
    pub fn token_grant(self, wanted: TokenWanted) -> Result<TokenGrant> {
        let made_from = match (self.caller.kind, self.caller.signed_in) {
            (CallerKind::Key, _) => MadeFrom::Key(self.caller.id.0),
            (CallerKind::Person, Some(signed_in)) => MadeFrom::Session(signed_in.session),
            _ => {
                return Err(Error::Conflict {
                    problem: "a token is made from an API key or by a person who has signed in, and not from another token",
                });
            }
        };
        let held = Rights(self.caller.rights.0 | self.caller.grants.rights().0);
        let rights = wanted.rights.unwrap_or(held);
        if !held.contains(rights) {
            return Err(Error::Forbidden { right: "of the token to be made" });
        }
        if !(TOKEN_SECONDS_MIN..=TOKEN_SECONDS_MAX).contains(&wanted.seconds) {
            return Err(Error::invalid("expires_in", "must be 10 to 86400 seconds"));
        }
        self.charge(Weight::WRITE)?;
        let now = self.engine.now();
        let expires_at = now.plus_ms(i64::from(wanted.seconds) * 1_000);
        let ends = [self.caller.bounds.expires_at, wanted.until];
        let expires_at = ends.into_iter().flatten().fold(expires_at, UnixMs::min);
        Ok(TokenGrant { made_from, rights, now, expires_at })
    }
}

impl ForServer<'_> {
    /// Publishes a key of this server.
    ///
    /// # Errors
    /// [`Error::Exhausted`], or the store's.
    pub async fn token_key_add(self, key: TokenKey) -> Result<()> {
        self.engine.execute(TokenKeyAdd(key)).await
    }

    /// The keys of all servers with which tokens are signed or were, that are valid now.
    ///
    /// # Errors
    /// The store's.
    pub async fn token_keys(self) -> Result<Vec<TokenKey>> {
        let (mut keys, now) = (self.engine.parts.store.token_keys_of_every_org().await?, self.engine.now());
        keys.retain(|key| key.valid_until > now);
        Ok(keys)
    }

    /// The organisation that a token names.
    ///
    /// # Errors
    /// The store's.
    pub async fn org(self, wanted: OrgWanted) -> Result<Option<NamedOrg>> {
        self.engine.parts.store.org_of_every_org(wanted).await
    }

    /// The API key of a number. Whoever lets somebody in by it looks at its bounds, too.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_key_of_number(self, id: i64) -> Result<Option<ApiKey>> {
        self.engine.parts.store.api_key_of_number_of_every_org(id).await
    }
}

impl Caller {
    /// The caller that a token stands for which was made from an API key: it is the key's in all that is kept and counted for it,
    /// and may no more than both.
    #[must_use]
    pub fn of_key_token(key: &ApiKey, rights: Rights, expires_at: UnixMs) -> Self {
        let within = |held: Rights| Rights(held.0 & rights.0);
        let granted =
            key.grants.list().iter().map(|grant| Grant { rights: within(grant.rights), ..grant.clone() });
        let granted = granted.filter(|grant| grant.rights != Rights::default()).collect();
        let own = Self::of(key);
        let end = key.bounds.expires_at.map_or(expires_at, |end| end.min(expires_at));
        Self {
            kind: CallerKind::Token,
            rights: within(key.rights),
            // Less than what was valid is valid.
            grants: Grants::new(granted).unwrap_or_default(),
            bounds: KeyBounds { expires_at: Some(end), ..own.bounds.clone() },
            ..own
        }
    }
}
