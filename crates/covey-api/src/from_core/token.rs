//! Tokens that a server issues.

use std::borrow::Cow;

use covey_core::token::TokenGrant;

use crate::TokenMade;

impl TokenMade {
    /// How a token looks that was just made.
    #[must_use]
    pub fn of(grant: &TokenGrant, access_token: String) -> Self {
        Self {
            access_token,
            token_type: Cow::Borrowed("Bearer"),
            expires_in: grant.expires_at.since_ms(grant.now) / 1_000,
            expires_at: grant.expires_at.into(),
            rights: grant.rights.names().map(Cow::Borrowed).collect(),
        }
    }
}
