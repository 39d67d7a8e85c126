//! Operations on keys for tokens.

use crate::audit::AuditEntry;
use crate::error::{Error, Result};
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};
use crate::token::TokenKey;

/// How many keys the servers of a deployment may have for tokens, those included that are not signed with any more.
/// Limit for the deployment: a server that has none goes on without, and issues no tokens.
pub const TOKEN_KEYS_MAX: i64 = 1_000;

/// Publishes a server's key, and forgets those whose time is over.
pub struct TokenKeyAdd(pub TokenKey);

impl Operation for TokenKeyAdd {
    type Output = ();

    const NEED: Need = Need::Running;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        // First, so that none whose time is over stands in the way of a new one.
        tx.token_keys_forget()?;
        if tx.token_key_count()? >= TOKEN_KEYS_MAX {
            return Err(Error::Exhausted { limit: "the deployment has 1000 keys for tokens" }.into());
        }
        Ok(tx.token_key_insert(&self.0)?)
    }

    /// The server does that for itself.
    fn entries(&self, (): &()) -> Vec<AuditEntry> {
        Vec::new()
    }
}
