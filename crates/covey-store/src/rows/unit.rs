//! TCP units.

use std::net::SocketAddr;

use covey_core::id::{UnitId, UnixMs};
use covey_core::unit::{NewUnit, Unit, UnitKind, UnitPlace, unit_address, unit_name};

use crate::rows::{Columns, Damaged, Read, get};

/// The columns of a unit `u` with the server `g` that has those of its organisation, in the order that [`unit`] reads them.
macro_rules! unit_columns {
    () => {
        "u.id, u.name, u.address, u.port, u.kind, u.resource, u.created_at, g.server, g.until"
    };
}
pub(crate) use unit_columns;

/// Units, each with the server that has those of its organisation.
macro_rules! units {
    () => {
        "units u LEFT JOIN unit_gateways g ON g.org_id = u.org_id"
    };
}
pub(crate) use units;

/// A unit, from `unit_columns!`.
pub(crate) fn unit(row: &dyn Columns) -> Read<Unit> {
    let address: &str = get(row, 2)?;
    let address = address.parse().map_err(|_| Damaged::Value(2, "address of a unit"))?;
    let port = u16::try_from(get::<i64>(row, 3)?).map_err(|_| Damaged::Value(3, "port"))?;
    let server: Option<String> = get(row, 7)?;
    Ok(Unit {
        id: UnitId(get(row, 0)?),
        name: unit_name(get(row, 1)?).map_err(|_| Damaged::Value(1, "name of a unit"))?,
        address: unit_address(address, port),
        kind: UnitKind::from_name(get(row, 4)?).ok_or(Damaged::Value(4, "kind of a unit"))?,
        resource: get(row, 5)?,
        created_at: get(row, 6)?,
        speaker: server.zip(get::<Option<i64>>(row, 8)?.map(UnixMs)),
    })
}

/// An address as it is stored: address, port.
pub(crate) fn unit_address_columns(address: SocketAddr) -> (String, i64) {
    (address.ip().to_string(), address.port().into())
}

/// The texts of a new unit: name, kind, resource.
pub(crate) fn unit_texts(unit: &NewUnit) -> [String; 3] {
    let UnitPlace { kind, resource, .. } = &unit.place;
    [unit.name.uid(), kind.name(), resource].map(ToOwned::to_owned)
}

/// A unit by its number: organisation, number.
pub(crate) const UNIT: &str =
    concat!("SELECT ", unit_columns!(), " FROM ", units!(), " WHERE u.org_id = $1 AND u.id = $2");
/// A unit by its name: organisation, name.
pub(crate) const UNIT_OF_NAME: &str =
    concat!("SELECT ", unit_columns!(), " FROM ", units!(), " WHERE u.org_id = $1 AND u.name = $2");
/// A unit by its address: organisation, address, port.
pub(crate) const UNIT_AT: &str = concat!(
    "SELECT ",
    unit_columns!(),
    " FROM ",
    units!(),
    " WHERE u.org_id = $1 AND u.address = $2 AND u.port = $3"
);
/// Whether an organisation has more than so many units: organisation, number to skip.
pub(crate) const UNITS_REACH: &str = "SELECT 1 FROM units WHERE org_id = $1 LIMIT 1 OFFSET $2";
/// A new unit: organisation, name, address, port, kind, resource, now.
pub(crate) const UNIT_INSERT: &str = "INSERT INTO units (org_id, name, address, port, kind, resource, created_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id";
/// What can change of a unit: address, port, kind, resource; its number.
pub(crate) const UNIT_UPDATE: &str =
    "UPDATE units SET address = $1, port = $2, kind = $3, resource = $4 WHERE id = $5";
/// Forgets a unit.
pub(crate) const UNIT_REMOVE: &str = "DELETE FROM units WHERE id = $1";
/// Gives the units of an organisation to a server, unless another has them: organisation, server, until, now.
pub(crate) const UNIT_GATEWAY_CLAIM: &str = "INSERT INTO unit_gateways (org_id, server, until) VALUES ($1, $2, $3) ON CONFLICT (org_id) DO UPDATE \
     SET server = excluded.server, until = excluded.until \
     WHERE unit_gateways.server = excluded.server OR unit_gateways.until <= $4";
/// All units of an organisation, of which there are not too many.
pub(crate) const UNITS_OF: &str =
    concat!("SELECT ", unit_columns!(), " FROM ", units!(), " WHERE u.org_id = $1 ORDER BY u.id");
