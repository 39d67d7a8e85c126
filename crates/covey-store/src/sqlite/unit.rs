//! TCP units.

use std::net::SocketAddr;

use covey_core::access::Caller;
use covey_core::id::{OrgId, UnitId, UnixMs};
use covey_core::node::NodeName;
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn, TxResult};
use covey_core::unit::{NewUnit, Unit, UnitFilter, UnitPlace, UnitReader, UnitSteps};
use rusqlite::{Connection, params};

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::conditions::Conditions;
use crate::sqlite::transaction::SqliteTransaction;

impl UnitReader for Sqlite {
    fn unit_list(&self, caller: &Caller, filter: UnitFilter, page: PageRequest) -> Found<'_, Page<Unit>> {
        let org = caller.org;
        self.read(ReadKind::UnitList, Turn::Org(org), move |connection| {
            unit_page(connection, org, &filter, page)
        })
    }

    fn units_to_speak_with(&self, org: OrgId) -> Found<'_, Vec<Unit>> {
        self.rows(ReadKind::UnitList, Turn::Server, rows::UNITS_OF, [org.0], rows::unit)
    }
}

fn unit_page(
    connection: &Connection,
    org: OrgId,
    filter: &UnitFilter,
    page: PageRequest,
) -> rusqlite::Result<Page<Unit>> {
    let mut conditions = Conditions::default();
    conditions.add("u.org_id = ?", org.0);
    conditions.add_if("u.id = ?", filter.id.map(|id| id.0));
    conditions.add_if("u.name = ?", filter.name.clone());
    let clause = conditions.clause();
    let snapshot = connection.unchecked_transaction()?;
    let total = conditions.total(&snapshot, &format!("SELECT count(*) FROM units u WHERE {clause}"))?;
    let sql = format!(
        "SELECT {} FROM {} WHERE {clause} ORDER BY u.id LIMIT {} OFFSET {}",
        rows::unit_columns!(),
        rows::units!(),
        page.size,
        page.offset()
    );
    Ok(Page { items: conditions.rows(&snapshot, &sql, rows::unit)?, total, is_cut: false })
}

impl UnitSteps for SqliteTransaction<'_> {
    fn unit(&mut self, org: OrgId, id: UnitId) -> TxResult<Option<Unit>> {
        self.row(rows::UNIT, (org.0, id.0), rows::unit)
    }

    fn unit_of_name(&mut self, org: OrgId, name: &NodeName) -> TxResult<Option<Unit>> {
        self.row(rows::UNIT_OF_NAME, (org.0, name.uid()), rows::unit)
    }

    fn unit_at(&mut self, org: OrgId, address: SocketAddr) -> TxResult<Option<Unit>> {
        let (address, port) = rows::unit_address_columns(address);
        self.row(rows::UNIT_AT, (org.0, address, port), rows::unit)
    }

    fn units_reach(&mut self, org: OrgId, count: u32) -> TxResult<bool> {
        let Some(skip) = count.checked_sub(1) else { return Ok(true) };
        self.exists(rows::UNITS_REACH, (org.0, skip))
    }

    fn unit_insert(&mut self, unit: &NewUnit) -> TxResult<UnitId> {
        let [name, kind, resource] = rows::unit_texts(unit);
        let (address, port) = rows::unit_address_columns(unit.place.address);
        let values = params![unit.org.0, name, address, port, kind, resource, unit.at.0];
        self.only(rows::UNIT_INSERT, values, rows::first).map(UnitId)
    }

    fn unit_update(&mut self, id: UnitId, place: &UnitPlace) -> TxResult<()> {
        let (address, port) = rows::unit_address_columns(place.address);
        let values = (address, port, place.kind.name(), &place.resource, id.0);
        self.change(rows::UNIT_UPDATE, values).map(drop)
    }

    fn unit_remove(&mut self, id: UnitId) -> TxResult<()> {
        self.change(rows::UNIT_REMOVE, [id.0]).map(drop)
    }

    fn unit_gateway_claim(&mut self, org: OrgId, server: &str, until: UnixMs, now: UnixMs) -> TxResult<bool> {
        self.change(rows::UNIT_GATEWAY_CLAIM, (org.0, server, until.0, now.0)).map(|count| count > 0)
    }
}
