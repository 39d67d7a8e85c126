//! Reads of the audit log.

use covey_core::access::Caller;
use covey_core::audit::{AuditChain, AuditFilter, AuditPage, AuditReader, AuditRequest, AuditRow, AuditScan};
use covey_core::port::{Filling, Found, LIST_BYTES_MAX, ReadKind, Turn};
use tokio_postgres::types::Type;

use crate::postgres::Postgres;
use crate::postgres::lists::Conditions;
use crate::postgres::pool::ReadSession;
use crate::rows::{self, Read};

/// How many rows are read at once.
const ROWS_AT_ONCE: u32 = 32;

impl AuditReader for Postgres {
    fn audit_list(&self, caller: &Caller, request: AuditRequest) -> Found<'_, AuditPage> {
        let filter = AuditFilter { org: Some(caller.org), ..request.filter };
        self.audit_page(Turn::Org(caller.org), AuditRequest { filter, ..request })
    }

    fn audit_list_of_every_org(&self, request: AuditRequest) -> Found<'_, AuditPage> {
        self.audit_page(Turn::Server, request)
    }

    fn audit_chains_of_every_org(&self) -> Found<'_, Vec<AuditChain>> {
        self.rows(
            ReadKind::AuditChains,
            Turn::Server,
            |sql| &sql.audit.audit_chains,
            Vec::new(),
            rows::audit_chain,
        )
    }

    fn audit_rows_of_every_org(&self, chain: i64, after: i64, limit: u32) -> Found<'_, Vec<AuditRow>> {
        self.reads.read(ReadKind::AuditRows, Turn::Server, move |session| {
            Box::pin(async move {
                let mut filling = Filling::up_to(LIST_BYTES_MAX);
                let (mut after, mut left) = (after, limit);
                while left > 0 {
                    let at_once = i64::from(left.min(ROWS_AT_ONCE));
                    let found = session
                        .client
                        .query(&session.sql.audit.audit_rows, &[&chain, &after, &at_once])
                        .await?;
                    for row in rows::each(&found, rows::audit_row)? {
                        after = row.number;
                        left -= 1;
                        let bytes = row.entries.len();
                        if !filling.add(row, bytes) {
                            return Ok(filling.done().items);
                        }
                    }
                    if i64::try_from(found.len()).is_ok_and(|count| count < at_once) {
                        break;
                    }
                }
                Ok(filling.done().items)
            })
        })
    }
}

impl Postgres {
    fn audit_page(&self, turn: Turn, request: AuditRequest) -> Found<'_, AuditPage> {
        self.reads.read(ReadKind::AuditList, turn, move |session| {
            let request = request.clone();
            Box::pin(async move { page(session, request).await })
        })
    }
}

async fn page(session: &ReadSession, request: AuditRequest) -> Read<AuditPage> {
    let mut scan = AuditScan::new(request.clone());
    let mut before = request.before.map(|before| (before.at.0, before.chain, before.number, true));
    loop {
        let mut conditions = Conditions::default();
        let AuditFilter { org, since, until, .. } = &request.filter;
        conditions.number("a.org_id = #", org.map(|org| org.0));
        conditions.number("a.at >= #", since.map(|at| at.0));
        conditions.number("a.at < #", until.map(|at| at.0));
        if let Some((at, chain, number, is_with_it)) = before {
            // The numbers of this statement's values are those of their order.
            let sign = if is_with_it { "<=" } else { "<" };
            conditions.add(
                &format!("(a.at, a.chain, a.number) {sign} (#::int8, {chain}::int8, {number}::int8)"),
                at,
                Type::INT8,
            );
        }
        let clause = if conditions.sql.is_empty() { "true".to_owned() } else { conditions.clause() };
        let sql = format!(
            "SELECT {} FROM audit a WHERE {clause} ORDER BY at DESC, chain DESC, number DESC LIMIT {ROWS_AT_ONCE}",
            rows::audit_columns!()
        );
        let found = conditions.query(&session.client, &sql).await?.rows();
        for row in rows::each(&found, rows::audit_row)? {
            before = Some((row.at.0, row.chain, row.number, false));
            if !scan.row(&row) {
                return Ok(scan.done());
            }
        }
        if found.len() < ROWS_AT_ONCE as usize {
            return Ok(scan.done());
        }
    }
}
