//! Reads of units.

use covey_core::access::Caller;
use covey_core::id::OrgId;
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn};
use covey_core::unit::{Unit, UnitFilter, UnitReader};

use crate::postgres::Postgres;
use crate::postgres::lists::{Conditions, page};
use crate::postgres::pipeline::values;
use crate::postgres::pool::ReadSession;
use crate::rows::{self, Read};

impl UnitReader for Postgres {
    fn unit_list(&self, caller: &Caller, filter: UnitFilter, page: PageRequest) -> Found<'_, Page<Unit>> {
        let org = caller.org;
        self.reads.read(ReadKind::UnitList, Turn::Org(org), move |session| {
            let filter = filter.clone();
            Box::pin(async move { unit_page(session, org, &filter, page).await })
        })
    }

    fn units_to_speak_with(&self, org: OrgId) -> Found<'_, Vec<Unit>> {
        self.rows(ReadKind::UnitList, Turn::Server, |sql| &sql.unit.units_of, values![org.0], rows::unit)
    }
}

async fn unit_page(
    session: &ReadSession,
    org: OrgId,
    filter: &UnitFilter,
    request: PageRequest,
) -> Read<Page<Unit>> {
    let mut conditions = Conditions::default();
    conditions.number("u.org_id = #", Some(org.0));
    conditions.number("u.id = #", filter.id.map(|id| id.0));
    conditions.text("u.name = #", filter.name.as_deref());
    if conditions.is_impossible {
        return Ok(Page { items: Vec::new(), total: 0, is_cut: false });
    }
    let clause = conditions.clause();
    let total = format!("SELECT count(*) FROM units u WHERE {clause}");
    let items = format!(
        "SELECT {} FROM {} WHERE {clause} ORDER BY u.id LIMIT {} OFFSET {}",
        rows::unit_columns!(),
        rows::units!(),
        request.size,
        request.offset()
    );
    let (total, found) = page(session, &conditions, &total, &items).await?;
    Ok(Page { items: rows::each(&found, rows::unit)?, total, is_cut: false })
}
