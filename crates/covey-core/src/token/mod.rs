//! Tokens: whose a token is that somebody else has issued, and the keys with which the servers of a deployment sign their own.

mod calls;
mod operation;
mod port;

pub use calls::{TOKEN_SECONDS_DEFAULT, TokenGrant, TokenWanted};
pub use operation::{TOKEN_KEYS_MAX, TokenKeyAdd};
pub use port::{TokenReader, TokenSteps};

use crate::id::{OrgId, UnixMs};

/// An organisation, as a token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrgWanted {
    /// By its number.
    Number(OrgId),
    /// By its name.
    Name(String),
}

/// From what a token of this deployment is made: it ends with that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeFrom {
    /// An API key, by its number.
    Key(i64),
    /// A session of a person, by its number.
    Session(i64),
}

/// An organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedOrg {
    /// Its number.
    pub id: OrgId,
    /// Its name.
    pub name: String,
}

/// The public key of a server, with which it signs tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// Its name (`kid`).
    pub id: String,
    /// The server.
    pub server: String,
    /// The key itself, as a JWK.
    pub jwk: String,
    /// When it was made.
    pub made_at: UnixMs,
    /// Until when tokens are signed with it.
    pub signs_until: UnixMs,
    /// Until when tokens are taken that were signed with it.
    pub valid_until: UnixMs,
}
