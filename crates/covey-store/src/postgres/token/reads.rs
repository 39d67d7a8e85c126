//! Reads for tokens.

use covey_core::access::ApiKey;
use covey_core::port::{Found, ReadKind, Turn};
use covey_core::token::{NamedOrg, OrgWanted, TokenKey, TokenReader};

use crate::postgres::Postgres;
use crate::postgres::pipeline::values;
use crate::rows;

impl TokenReader for Postgres {
    fn token_keys_of_every_org(&self) -> Found<'_, Vec<TokenKey>> {
        let none = Vec::new();
        self.rows(ReadKind::TokenKeys, Turn::Server, |sql| &sql.token.token_keys, none, rows::token_key)
    }

    fn org_of_every_org(&self, wanted: OrgWanted) -> Found<'_, Option<NamedOrg>> {
        let (kind, turn) = (ReadKind::Org, Turn::Server);
        match wanted {
            OrgWanted::Number(id) => {
                self.row(kind, turn, |sql| &sql.token.org_of_number, values![id.0], rows::named_org)
            }
            OrgWanted::Name(name) => {
                self.row(kind, turn, |sql| &sql.token.org_of_name, values![name], rows::named_org)
            }
        }
    }

    fn api_key_of_number_of_every_org(&self, id: i64) -> Found<'_, Option<ApiKey>> {
        let kind = ReadKind::ApiKeyOfNumber;
        self.row(kind, Turn::Server, |sql| &sql.token.api_key_of_number, values![id], rows::api_key)
    }
}
