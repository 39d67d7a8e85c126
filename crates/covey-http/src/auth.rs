//! Who calls: from the API key in `x-api-key` to a scope. Nothing else of a
//! request says for which organisation it speaks (rest-api "Who calls").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use covey_core::access::{KeyDigest, Scope};
use covey_core::id::UnixMs;
use covey_core::port::{Event, Observer, Refusal};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::app::Api;
use crate::problem::{Kind, Problem};

/// The header that carries the key.
pub(crate) const API_KEY_HEADER: &str = "x-api-key";
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// How long a key that was found valid is taken for valid, in milliseconds. A
/// revoked key is dead after this time on every server.
const REMEMBERED_MS: i64 = 1_000;
/// How many keys are remembered.
const REMEMBERED_MAX: usize = 4_096;

/// The digest under which an API key is kept.
///
/// A key is 256 random bits, so nothing is gained from a slow or salted hash.
#[must_use]
pub fn key_digest(clear_text: &str) -> KeyDigest {
    Sha256::digest(clear_text.as_bytes()).into()
}

/// A caller whose key is valid.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) scope: Scope,
    pub(crate) org_name: Arc<str>,
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let caller = match key_of(&parts.headers) {
            Some(key) => find(api, key).await?,
            None => None,
        };
        caller.ok_or_else(|| {
            api.metrics.happened(Event::Refused(Refusal::Credential));
            Problem::new(Kind::Unauthenticated, "send a valid API key in the header x-api-key")
        })
    }
}

/// The key in the headers; `KEY` and `ApiKey KEY` are both good.
fn key_of(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(API_KEY_HEADER)?.to_str().ok()?.trim_ascii();
    let key = match text.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("apikey") => key.trim_ascii_start(),
        _ => text,
    };
    (1..=KEY_BYTES_MAX).contains(&key.len()).then_some(key)
}

async fn find(api: &Api, key: &str) -> Result<Option<Caller>, Problem> {
    let digest = key_digest(key);
    // Taken before the store is asked, so that the time that takes is counted.
    let now = api.engine.now();
    if let Some(caller) = api.callers.recall(&digest, now) {
        return Ok(Some(caller));
    }
    let Some(found) = api.engine.api_key_check(key).await? else { return Ok(None) };
    let scope = Scope { org: found.org, rights: found.rights };
    let caller = Caller { scope, org_name: Arc::from(found.org_name) };
    api.callers.remember(digest, caller.clone(), now);
    Ok(Some(caller))
}

/// Callers whose keys were found valid a moment ago.
#[derive(Default)]
pub(crate) struct Callers {
    by_digest: Mutex<HashMap<KeyDigest, (Caller, UnixMs)>>,
}

impl Callers {
    fn by_digest(&self) -> MutexGuard<'_, HashMap<KeyDigest, (Caller, UnixMs)>> {
        // Whole at every moment, so a poisoned lock is as good as any.
        self.by_digest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recall(&self, digest: &KeyDigest, now: UnixMs) -> Option<Caller> {
        let known = self.by_digest();
        let (found, (caller, since)) = known.get_key_value(digest)?;
        let is_same = bool::from(found.ct_eq(digest));
        (is_same && is_fresh(*since, now)).then(|| caller.clone())
    }

    fn remember(&self, digest: KeyDigest, caller: Caller, now: UnixMs) {
        let mut known = self.by_digest();
        if known.len() >= REMEMBERED_MAX {
            known.retain(|_, (_, since)| is_fresh(*since, now));
            if known.len() >= REMEMBERED_MAX {
                known.clear();
            }
        }
        known.insert(digest, (caller, now));
    }

    /// Forgets everyone, because a key was revoked.
    pub(crate) fn forget(&self) {
        self.by_digest().clear();
    }
}

/// A clock that was set back makes nothing fresh.
fn is_fresh(since: UnixMs, now: UnixMs) -> bool {
    (0..REMEMBERED_MS).contains(&now.since_ms(since))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use covey_core::access::Rights;
    use covey_core::id::OrgId;

    use super::*;

    fn headers(value: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(API_KEY_HEADER, axum::http::HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[test]
    fn a_key_is_read_with_and_without_its_scheme() {
        for good in ["k-1", "ApiKey k-1", "apikey   k-1", " k-1 "] {
            assert_eq!(key_of(&headers(good.as_bytes())), Some("k-1"), "{good:?}");
        }
        assert_eq!(key_of(&HeaderMap::new()), None);
        for bad in [b"".as_slice(), b"   ", b"k\xff", &[b'k'; 257]] {
            assert_eq!(key_of(&headers(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn a_caller_is_remembered_for_less_than_a_second() {
        let callers = Callers::default();
        let scope = Scope { org: OrgId(1), rights: Rights::ALL };
        let digest = key_digest("k-1");
        callers.remember(digest, Caller { scope, org_name: Arc::from("acme") }, UnixMs(10_000));
        assert!(callers.recall(&digest, UnixMs(10_999)).is_some());
        assert!(callers.recall(&digest, UnixMs(11_000)).is_none());
        assert!(callers.recall(&digest, UnixMs(9_999)).is_none());
        assert!(callers.recall(&key_digest("k-2"), UnixMs(10_000)).is_none());
        callers.forget();
        assert!(callers.recall(&digest, UnixMs(10_000)).is_none());
    }

    #[test]
    fn remembered_callers_are_bounded() {
        let callers = Callers::default();
        let caller =
            Caller { scope: Scope { org: OrgId(1), rights: Rights::ALL }, org_name: Arc::from("acme") };
        for number in 0..2 * REMEMBERED_MAX {
            callers.remember(key_digest(&number.to_string()), caller.clone(), UnixMs(0));
        }
        assert!(callers.by_digest().len() <= REMEMBERED_MAX);
    }
}
