//! What operations and callers ask the store for tokens.

use crate::access::ApiKey;
use crate::port::{Found, TxResult};
use crate::token::{NamedOrg, OrgWanted, TokenKey};

/// The steps on keys for tokens inside a transaction.
pub trait TokenSteps {
    /// How many keys there are.
    fn token_key_count(&mut self) -> TxResult<i64>;
    /// Stores a key; one of the same name stays as it is.
    fn token_key_insert(&mut self, key: &TokenKey) -> TxResult<()>;
    /// Removes those that are not valid any more.
    fn token_keys_forget(&mut self) -> TxResult<()>;
}

/// The reads for tokens.
pub trait TokenReader {
    /// The keys of all servers, the oldest first.
    fn token_keys_of_every_org(&self) -> Found<'_, Vec<TokenKey>>;
    /// The organisation of a number or a name, if there is one.
    fn org_of_every_org(&self, wanted: OrgWanted) -> Found<'_, Option<NamedOrg>>;
    /// The API key of this number, unless it was revoked; also one that has expired.
    fn api_key_of_number_of_every_org(&self, id: i64) -> Found<'_, Option<ApiKey>>;
}
