//! Callers who were let in a moment ago, so that the store is not asked for every request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use covey_core::Engine;
use covey_core::access::{ApiKey, Caller, KeyDigest, ShownCertificate};
use covey_core::id::UnixMs;
use covey_core::person::PersonSession;
use subtle::ConstantTimeEq;

use crate::auth::tokens::Identity;
use crate::shares::Account;

/// How long a credential that was found valid is taken for valid, in
/// milliseconds. A revoked one is dead after this time on every server.
const REMEMBERED_MS: i64 = 1_000;
/// How many credentials are remembered that were found valid.
/// Limit for the server: others are looked up in the store each time.
const REMEMBERED_MAX: usize = 4_096;

/// A caller, and where it is counted what it takes.
pub(super) type Known = (Caller, Arc<Account>);

/// What a credential was found to be.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) known: Known,
    /// The use of the API key or session that it is, or of the key that it was made from.
    pub(super) key_use: Option<Arc<KeyUse>>,
    /// Who a token says it is.
    pub(super) identity: Option<Arc<Identity>>,
}

/// The use of an API key or a session. It is noted when that lets somebody in, which may be later than it was found.
pub(super) struct KeyUse {
    used: Used,
    is_noted: AtomicBool,
}

/// What is used.
enum Used {
    /// An API key, by a certificate or by its text.
    Key(ApiKey, Option<ShownCertificate>),
    /// A session.
    Session(PersonSession),
}

impl KeyUse {
    pub(super) fn new(key: ApiKey, certificate: Option<ShownCertificate>) -> Arc<Self> {
        Arc::new(Self { used: Used::Key(key, certificate), is_noted: AtomicBool::new(false) })
    }

    pub(super) fn of_session(session: PersonSession) -> Arc<Self> {
        Arc::new(Self { used: Used::Session(session), is_noted: AtomicBool::new(false) })
    }

    /// It has let somebody in.
    pub(super) fn note(&self, engine: &Engine) {
        // Most requests only read it.
        if !self.is_noted.load(Ordering::Relaxed) && !self.is_noted.swap(true, Ordering::Relaxed) {
            match &self.used {
                Used::Key(key, certificate) => engine.server().api_key_used(key, certificate.clone()),
                Used::Session(session) => engine.server().person_session_used(session),
            }
        }
    }
}

type ByDigest = HashMap<KeyDigest, (Found, UnixMs)>;

/// Callers whose credentials were found valid a moment ago.
#[derive(Default)]
pub(crate) struct Callers {
    by_digest: Mutex<ByDigest>,
    /// Counts how often all were forgotten: who was found before is not remembered after.
    forgotten: AtomicU64,
}

impl Callers {
    fn by_digest(&self) -> MutexGuard<'_, ByDigest> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.by_digest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn recall(&self, digest: &KeyDigest, now: UnixMs) -> Option<Found> {
        let callers = self.by_digest();
        let (kept, (found, since)) = callers.get_key_value(digest)?;
        let is_same = bool::from(kept.ct_eq(digest));
        (is_same && is_fresh(*since, now)).then(|| found.clone())
    }

    /// What to give to [`remember`](Self::remember); taken before the store is asked.
    pub(super) fn before(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    pub(super) fn remember(&self, digest: KeyDigest, found: Found, now: UnixMs, before: u64) {
        let mut callers = self.by_digest();
        if self.before() != before {
            return;
        }
        if callers.len() >= REMEMBERED_MAX {
            callers.retain(|_, (_, since)| is_fresh(*since, now));
            if callers.len() >= REMEMBERED_MAX {
                callers.clear();
            }
        }
        callers.insert(digest, (found, now));
    }

    /// Whether this one was found valid once, and not forgotten since, though it may be too long ago to rely
    /// on.
    pub(super) fn has_known(&self, digest: &KeyDigest) -> bool {
        self.by_digest().contains_key(digest)
    }

    /// Forgets one that is not valid any more.
    pub(super) fn forget_one(&self, digest: &KeyDigest) {
        self.by_digest().remove(digest);
    }

    /// Forgets everyone, because a credential was revoked.
    pub(crate) fn forget(&self) {
        let mut callers = self.by_digest();
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        callers.clear();
    }
}

/// A clock that was set back makes nothing fresh.
fn is_fresh(since: UnixMs, now: UnixMs) -> bool {
    (0..REMEMBERED_MS).contains(&now.since_ms(since))
}

#[cfg(test)]
mod tests {
    use covey_core::access::{Grants, KeyBounds, Rights};
    use covey_core::id::OrgId;

    use super::*;
    use crate::auth::key_digest;
    use crate::shares::Shares;

    fn caller() -> Found {
        let key = ApiKey {
            id: 1,
            org: OrgId(1),
            org_name: "acme".to_owned(),
            name: "first".to_owned(),
            rights: Rights::ALL,
            grants: Grants::default(),
            created_at: UnixMs(0),
            last_used_at: None,
            bounds: KeyBounds::default(),
        };
        let caller = Caller::of(&key);
        let account = Shares::default().account(&caller);
        Found { known: (caller, account), key_use: Some(KeyUse::new(key, None)), identity: None }
    }

    #[test]
    fn a_caller_is_remembered_for_less_than_a_second() {
        let callers = Callers::default();
        let digest = key_digest("k-1");
        callers.remember(digest, caller(), UnixMs(10_000), callers.before());
        assert!(callers.recall(&digest, UnixMs(10_999)).is_some());
        assert!(callers.recall(&digest, UnixMs(11_000)).is_none());
        assert!(callers.has_known(&digest) && !callers.has_known(&key_digest("k-2")));
        assert!(callers.recall(&digest, UnixMs(9_999)).is_none());
        assert!(callers.recall(&key_digest("k-2"), UnixMs(10_000)).is_none());
        let before = callers.before();
        callers.forget();
        assert!(callers.recall(&digest, UnixMs(10_000)).is_none());
        callers.remember(digest, caller(), UnixMs(10_000), before);
        assert!(
            callers.recall(&digest, UnixMs(10_000)).is_none(),
            "it may have been revoked since it was found"
        );
    }

    #[test]
    fn remembered_callers_are_bounded() {
        let callers = Callers::default();
        for number in 0..2 * REMEMBERED_MAX {
            callers.remember(key_digest(&number.to_string()), caller(), UnixMs(0), callers.before());
        }
        assert!(callers.by_digest().len() <= REMEMBERED_MAX);
    }
}
