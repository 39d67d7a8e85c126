//! Reads of organisations and API keys.

use covey_core::access::{AccessReader, ApiKey, KeyDigest};
use covey_core::error::Result;
use covey_core::port::BoxFuture;

use crate::postgres::Postgres;
use crate::rows;

impl AccessReader for Postgres {
    fn api_key_of_every_org(&self, digest: KeyDigest) -> BoxFuture<'_, Result<Option<ApiKey>>> {
        self.row(|sql| &sql.access.api_key, vec![Box::new(digest.to_vec())], rows::api_key)
    }

    fn api_key_list_of_every_org(&self) -> BoxFuture<'_, Result<Vec<ApiKey>>> {
        self.rows(|sql| &sql.access.api_key_list, Vec::new(), rows::api_key)
    }
}
