//! Steps on the keys of servers for tokens.

use covey_core::port::TxResult;
use covey_core::token::{TokenKey, TokenSteps};

use crate::postgres::pipeline::values;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

impl TokenSteps for PostgresTransaction<'_> {
    fn token_key_count(&mut self) -> TxResult<i64> {
        self.ask_only(|sql| &sql.token.token_key_count, Vec::new(), rows::first)
    }

    fn token_key_insert(&mut self, key: &TokenKey) -> TxResult<()> {
        let (id, server, jwk) = (key.id.clone(), key.server.clone(), key.jwk.clone());
        let values = values![id, server, jwk, key.made_at.0, key.signs_until.0, key.valid_until.0];
        self.write(|sql| &sql.token.token_key_insert, values).map(drop)
    }

    fn token_keys_forget(&mut self) -> TxResult<()> {
        self.write(|sql| &sql.token.token_keys_forget, values![self.now.0]).map(drop)
    }
}
