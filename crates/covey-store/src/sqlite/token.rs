//! The keys of servers for tokens, and what tokens name.

use covey_core::access::ApiKey;
use covey_core::port::{Found, ReadKind, Turn, TxResult};
use covey_core::token::{NamedOrg, OrgWanted, TokenKey, TokenReader, TokenSteps};

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::transaction::SqliteTransaction;

impl TokenReader for Sqlite {
    fn token_keys_of_every_org(&self) -> Found<'_, Vec<TokenKey>> {
        self.rows(ReadKind::TokenKeys, Turn::Server, rows::TOKEN_KEYS, [], rows::token_key)
    }

    fn org_of_every_org(&self, wanted: OrgWanted) -> Found<'_, Option<NamedOrg>> {
        match wanted {
            OrgWanted::Number(id) => {
                self.row(ReadKind::Org, Turn::Server, rows::ORG_OF_NUMBER, [id.0], rows::named_org)
            }
            OrgWanted::Name(name) => {
                self.row(ReadKind::Org, Turn::Server, rows::ORG_OF_NAME, [name], rows::named_org)
            }
        }
    }

    fn api_key_of_number_of_every_org(&self, id: i64) -> Found<'_, Option<ApiKey>> {
        self.row(ReadKind::ApiKeyOfNumber, Turn::Server, rows::API_KEY_OF_ID, [id], rows::api_key)
    }
}

impl TokenSteps for SqliteTransaction<'_> {
    fn token_key_count(&mut self) -> TxResult<i64> {
        self.only(rows::TOKEN_KEY_COUNT, [], rows::first)
    }

    fn token_key_insert(&mut self, key: &TokenKey) -> TxResult<()> {
        let (id, server, jwk) = (key.id.as_str(), key.server.as_str(), key.jwk.as_str());
        let values = (id, server, jwk, key.made_at.0, key.signs_until.0, key.valid_until.0);
        self.change(rows::TOKEN_KEY_INSERT, values).map(drop)
    }

    fn token_keys_forget(&mut self) -> TxResult<()> {
        self.change(rows::TOKEN_KEYS_FORGET, [self.now.0]).map(drop)
    }
}
