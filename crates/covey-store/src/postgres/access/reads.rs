//! Reads of organisations and API keys.

use covey_core::access::{AccessReader, ApiKey, KeyDigest, Org};
use covey_core::id::{OrgId, UnixMs};
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn};

use crate::postgres::Postgres;
use crate::postgres::lists::SNAPSHOT;
use crate::postgres::pipeline::{query, values};
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

    fn api_key_numbers_valid_of_every_org(&self, now: UnixMs) -> Found<'_, Vec<i64>> {
        let kind = ReadKind::ApiKeyList;
        self.rows(kind, Turn::Server, |sql| &sql.access.api_key_numbers_valid, values![now.0], rows::first)
    }

    fn org_list_of_every_org(&self, only: Option<OrgId>, page: PageRequest) -> Found<'_, Page<Org>> {
        self.reads.read(ReadKind::OrgList, Turn::Server, move |session| {
            Box::pin(async move {
                if let Some(OrgId(only)) = only {
                    let found = query(&session.client, &session.sql.access.org, values![only]).await?.rows();
                    let items = rows::each(&found, rows::org)?;
                    return Ok(Page { total: items.len() as u64, items, is_cut: false });
                }
                let values = values![i64::from(page.size), i64::try_from(page.offset()).unwrap_or(i64::MAX)];
                let steps = [
                    session.query(|sql| &sql.access.org_list, values),
                    session.query(|sql| &sql.access.org_count, Vec::new()),
                ];
                let [items, total] = session.at_one_moment(SNAPSHOT, steps).await?;
                let total = total.first().map_or(Ok(0), |row| rows::number(row, 0))?;
                Ok(Page { items: rows::each(&items, rows::org)?, total, is_cut: false })
            })
        })
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
