//! The instants of a token: until when it is valid, and from when (RFC 7519 §4.1.4 to §4.1.6).

use covey_core::id::UnixMs;
use serde_json::{Map, Value};

use crate::fault::TokenFault;

/// How much the clock of an issuer may differ, in seconds.
/// Limit for each issuer, set by `leeway_seconds`: the server does not start.
pub const LEEWAY_SECONDS_MAX: u32 = 300;

/// The instants of a token, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instants {
    expires_at: UnixMs,
    not_before: Option<UnixMs>,
}

impl Instants {
    /// Reads them.
    ///
    /// # Errors
    /// [`TokenFault::NoExpiry`], [`TokenFault::Instant`].
    pub fn of(claims: &Map<String, Value>) -> Result<Self, TokenFault> {
        let expires_at = claims.get("exp").and_then(instant).ok_or(TokenFault::NoExpiry)?;
        let mut not_before = None;
        for name in ["nbf", "iat"] {
            if let Some(value) = claims.get(name) {
                not_before = not_before.max(Some(instant(value).ok_or(TokenFault::Instant)?));
            }
        }
        Ok(Self { expires_at, not_before })
    }

    /// Until when the token is taken, if it is taken now by a server whose clock may differ by so much.
    ///
    /// # Errors
    /// [`TokenFault::Expired`], [`TokenFault::NotYet`].
    pub fn check(&self, now: UnixMs, leeway_ms: i64) -> Result<UnixMs, TokenFault> {
        let until = self.expires_at.plus_ms(leeway_ms);
        if until <= now {
            return Err(TokenFault::Expired);
        }
        if self.not_before.is_some_and(|begin| begin > now.plus_ms(leeway_ms)) {
            return Err(TokenFault::NotYet);
        }
        Ok(until)
    }
}

/// A number of seconds since 1970, whole or not (RFC 7519 §2 "NumericDate").
fn instant(value: &Value) -> Option<UnixMs> {
    if let Some(seconds) = value.as_i64() {
        return Some(UnixMs(seconds.saturating_mul(1_000)));
    }
    // A conversion of a number that is too large gives the largest there is.
    #[allow(clippy::cast_possible_truncation)]
    value.as_f64().filter(|seconds| seconds.is_finite()).map(|seconds| UnixMs((seconds * 1_000.0) as i64))
}
