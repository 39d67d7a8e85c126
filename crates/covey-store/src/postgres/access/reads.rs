//! Reads of organisations and API keys.

use covey_core::access::{AccessReader, ApiKey, KeyDigest};
use covey_core::port::{Found, ReadKind, Turn};

use crate::postgres::Postgres;
use crate::postgres::pipeline::values;
use crate::rows;

impl AccessReader for Postgres {
    fn api_key_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<ApiKey>> {
        self.row(
            ReadKind::ApiKey,
            Turn::Server,
            |sql| &sql.access.api_key,
            values![digest.to_vec()],
            rows::api_key,
        )
    }

    fn api_key_list_of_every_org(&self) -> Found<'_, Vec<ApiKey>> {
        self.rows(
            ReadKind::ApiKeyList,
            Turn::Server,
            |sql| &sql.access.api_key_list,
            Vec::new(),
            rows::api_key,
        )
    }
}
