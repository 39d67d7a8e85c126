//! Steps on units.

use std::net::SocketAddr;

use covey_core::id::{OrgId, UnitId, UnixMs};
use covey_core::node::NodeName;
use covey_core::port::TxResult;
use covey_core::unit::{NewUnit, Unit, UnitPlace, UnitSteps};

use crate::postgres::pipeline::values;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

impl UnitSteps for PostgresTransaction<'_> {
    fn unit(&mut self, org: OrgId, id: UnitId) -> TxResult<Option<Unit>> {
        self.ask_first(|sql| &sql.unit.unit, values![org.0, id.0], rows::unit)
    }

    fn unit_of_name(&mut self, org: OrgId, name: &NodeName) -> TxResult<Option<Unit>> {
        self.ask_first(|sql| &sql.unit.unit_of_name, values![org.0, name.uid().to_owned()], rows::unit)
    }

    fn unit_at(&mut self, org: OrgId, address: SocketAddr) -> TxResult<Option<Unit>> {
        let (address, port) = rows::unit_address_columns(address);
        self.ask_first(|sql| &sql.unit.unit_at, values![org.0, address, port], rows::unit)
    }

    fn units_reach(&mut self, org: OrgId, count: u32) -> TxResult<bool> {
        let Some(skip) = count.checked_sub(1) else { return Ok(true) };
        let step = self.query(|sql| &sql.unit.units_reach, values![org.0, i64::from(skip)]);
        Ok(!self.ask(step)?.is_empty())
    }

    fn unit_insert(&mut self, unit: &NewUnit) -> TxResult<UnitId> {
        let [name, kind, resource] = rows::unit_texts(unit);
        let (address, port) = rows::unit_address_columns(unit.place.address);
        let values = values![unit.org.0, name, address, port, kind, resource, unit.at.0];
        self.write_only(|sql| &sql.unit.unit_insert, values, rows::first).map(UnitId)
    }

    fn unit_update(&mut self, id: UnitId, place: &UnitPlace) -> TxResult<()> {
        let (address, port) = rows::unit_address_columns(place.address);
        let values = values![address, port, place.kind.name(), place.resource.clone(), id.0];
        self.write(|sql| &sql.unit.unit_update, values).map(drop)
    }

    fn unit_remove(&mut self, id: UnitId) -> TxResult<()> {
        self.write(|sql| &sql.unit.unit_remove, values![id.0]).map(drop)
    }

    fn unit_gateway_claim(&mut self, org: OrgId, server: &str, until: UnixMs, now: UnixMs) -> TxResult<bool> {
        let values = values![org.0, server.to_owned(), until.0, now.0];
        self.write(|sql| &sql.unit.unit_gateway_claim, values).map(|count| count > 0)
    }
}
