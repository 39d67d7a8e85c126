//! TCP units. Steps on them are rare, so each is a statement of its own; what is to be changed is held first, so that no
//! other server changes it meanwhile.

mod reads;
mod steps;

use crate::postgres::prepared::prepared;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// A unit by its number: organisation, number.
        unit: concat!("SELECT ", rows::unit_columns!(), " FROM ", rows::units!(),
            " WHERE u.org_id = $1 AND u.id = $2 FOR UPDATE OF u");
        /// A unit by its name: organisation, name.
        unit_of_name: rows::UNIT_OF_NAME;
        /// A unit by its address: organisation, address, port.
        unit_at: rows::UNIT_AT;
        /// Whether there are more than so many: organisation, number to skip.
        units_reach: rows::UNITS_REACH;
        /// A new unit.
        unit_insert: rows::UNIT_INSERT;
        /// What can change of a unit.
        unit_update: rows::UNIT_UPDATE;
        /// Forgets a unit.
        unit_remove: rows::UNIT_REMOVE;
        /// Gives the units of an organisation to a server, unless another has them.
        unit_gateway_claim: rows::UNIT_GATEWAY_CLAIM;
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// All units of an organisation.
        units_of: rows::UNITS_OF;
    }
}
