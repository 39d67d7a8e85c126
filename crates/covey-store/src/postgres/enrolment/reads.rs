//! Reads of claims.

use covey_core::access::Caller;
use covey_core::enrolment::{Claim, ClaimSerial, EnrolmentReader};
use covey_core::id::{ClaimId, Sn};
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn};

use crate::postgres::Postgres;
use crate::postgres::lists::{Conditions, page};
use crate::postgres::pipeline::values;
use crate::postgres::pool::ReadSession;
use crate::rows::{self, Columns, Read};

impl EnrolmentReader for Postgres {
    fn claim_of_certificate_of_every_org(&self, serial_hex: String) -> Found<'_, Option<Claim>> {
        self.row(
            ReadKind::ClaimOfCertificate,
            Turn::Server,
            |sql| &sql.enrolment.claim_of_certificate,
            values![serial_hex],
            rows::claim,
        )
    }

    fn claim_list(&self, caller: &Caller, id: Option<ClaimId>, page: PageRequest) -> Found<'_, Page<Claim>> {
        let org = caller.org;
        self.reads.read(ReadKind::ClaimList, Turn::Org(org), move |session| {
            Box::pin(async move {
                let mut conditions = Conditions::default();
                conditions.number("c.org_id = #", Some(org.0));
                conditions.number("c.id = #", id.map(|id| id.0));
                let list = (rows::claim_columns!(), "claims c", "c.id");
                of_page(session, &conditions, list, page, rows::claim).await
            })
        })
    }

    fn claim_serial_list(
        &self,
        caller: &Caller,
        claim: ClaimId,
        sn: Option<Sn>,
        page: PageRequest,
    ) -> Found<'_, Page<ClaimSerial>> {
        let org = caller.org;
        self.reads.read(ReadKind::ClaimSerialList, Turn::Org(org), move |session| {
            let sn = sn.clone();
            Box::pin(async move {
                let mut conditions = Conditions::default();
                conditions.number("c.org_id = #", Some(org.0));
                conditions.number("s.claim_id = #", Some(claim.0));
                conditions.text("s.sn = #", sn.as_ref().map(Sn::as_str));
                let list = (rows::CLAIM_SERIAL_COLUMNS, rows::CLAIM_SERIALS, "s.sn");
                of_page(session, &conditions, list, page, rows::claim_serial).await
            })
        })
    }
}

/// A page of a list: which columns, from where, in which order.
async fn of_page<T>(
    session: &ReadSession,
    conditions: &Conditions,
    (columns, from, order): (&str, &str, &str),
    request: PageRequest,
    read: fn(&dyn Columns) -> Read<T>,
) -> Read<Page<T>> {
    let clause = conditions.clause();
    let total = format!("SELECT count(*) FROM {from} WHERE {clause}");
    let (size, offset) = (request.size, request.offset());
    let items =
        format!("SELECT {columns} FROM {from} WHERE {clause} ORDER BY {order} LIMIT {size} OFFSET {offset}");
    let (total, found) = page(session, conditions, &total, &items).await?;
    Ok(Page { items: rows::each(&found, read)?, total, is_cut: false })
}
