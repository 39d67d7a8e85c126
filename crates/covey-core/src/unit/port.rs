//! What operations and callers ask the store of units.

use std::net::SocketAddr;

use crate::access::Caller;
use crate::id::{OrgId, UnitId, UnixMs};
use crate::node::NodeName;
use crate::port::{Found, Page, PageRequest, TxResult};
use crate::unit::{Unit, UnitFilter, UnitPlace};

/// A unit to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUnit {
    /// Its organisation.
    pub org: OrgId,
    /// Its name.
    pub name: NodeName,
    /// Where it is, and what it does.
    pub place: UnitPlace,
    /// Now.
    pub at: UnixMs,
}

/// The steps on units inside a transaction.
pub trait UnitSteps {
    /// A unit of an organisation.
    fn unit(&mut self, org: OrgId, id: UnitId) -> TxResult<Option<Unit>>;
    /// The unit of this name.
    fn unit_of_name(&mut self, org: OrgId, name: &NodeName) -> TxResult<Option<Unit>>;
    /// The unit at this address.
    fn unit_at(&mut self, org: OrgId, address: SocketAddr) -> TxResult<Option<Unit>>;
    /// Whether an organisation has at least this many units.
    fn units_reach(&mut self, org: OrgId, count: u32) -> TxResult<bool>;
    /// Stores a new unit.
    fn unit_insert(&mut self, unit: &NewUnit) -> TxResult<UnitId>;
    /// Stores where a unit is, and what it does.
    fn unit_update(&mut self, id: UnitId, place: &UnitPlace) -> TxResult<()>;
    /// Forgets a unit.
    fn unit_remove(&mut self, id: UnitId) -> TxResult<()>;
    /// Gives the units of an organisation to a server until an instant, unless another has them at `now`; answers
    /// whether it did.
    fn unit_gateway_claim(&mut self, org: OrgId, server: &str, until: UnixMs, now: UnixMs) -> TxResult<bool>;
}

/// The reads of units.
pub trait UnitReader {
    /// Units of the caller's organisation, in the order of their numbers.
    fn unit_list(&self, caller: &Caller, filter: UnitFilter, page: PageRequest) -> Found<'_, Page<Unit>>;

    /// All units of an organisation, which the server speaks with.
    fn units_to_speak_with(&self, org: OrgId) -> Found<'_, Vec<Unit>>;
}
