//! Signed tokens (JWT, RFC 7519) as credentials: reading one without trusting it, the keys of issuers that the operator
//! trusts and how they are kept fresh, what a token says of its bearer, and the tokens that a server issues itself.
//!
//! Nothing here opens a connection or a database: documents come in through [`Fetch`], the time with each call
//! (`docs/adr/0035-tokens.md`).

mod algorithm;
mod caller_id;
mod compact;
mod fault;
mod instants;
mod issuer;
mod key;
mod key_set;
mod login;
mod mapping;
mod own;
mod refresh;
mod source;

pub use algorithm::Algorithm;
pub use caller_id::caller_id;
pub use compact::{Compact, TOKEN_BYTES_MAX};
pub use fault::TokenFault;
pub use instants::{Instants, LEEWAY_SECONDS_MAX};
pub use issuer::{Issuer, IssuerConfig, KeyState, Verified, has_audience};
pub use key::KeyFault;
pub use key_set::{KEY_SET_BYTES_MAX, KeySet};
pub use login::{Login, LoginFault, Pending};
pub use mapping::{Mapping, OrgFrom, claim, org_of};
pub use own::{OwnKeys, OwnToken, OwnVerified, SigningKey};
pub use refresh::{REFRESH_SECONDS_MAX, REFRESH_SECONDS_MIN, keep_fresh};
pub use source::{Exchange, Fetch, Fetched, KeySource};
