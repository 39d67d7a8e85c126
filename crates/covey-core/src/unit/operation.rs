//! What applications do with units, and which server speaks with them.

use crate::access::Caller;
use crate::audit::{AuditAction, AuditEntry};
use crate::error::{Error, Result};
use crate::id::{OrgId, UnitId, UnixMs};
use crate::node::NodeName;
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};
use crate::unit::{NewUnit, UNITS_MAX, Unit, UnitPlace};

const NAME_TAKEN: Error = Error::Conflict { problem: "a unit of this name is listed" };
const ADDRESS_TAKEN: Error =
    Error::Conflict { problem: "a unit at this address and port is listed, and it holds one connection" };

/// Lists a unit.
pub struct UnitAdd {
    /// Who asks.
    pub caller: Caller,
    /// Its name.
    pub name: NodeName,
    /// Where it is, and what it does.
    pub place: UnitPlace,
}

impl Operation for UnitAdd {
    type Output = Unit;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Unit, Abort> {
        let org = self.caller.org;
        if tx.unit_of_name(org, &self.name)?.is_some() {
            return Err(NAME_TAKEN.into());
        }
        if tx.unit_at(org, self.place.address)?.is_some() {
            return Err(ADDRESS_TAKEN.into());
        }
        if tx.units_reach(org, UNITS_MAX)? {
            return Err(Error::Exhausted { limit: "the organisation has 10000 units" }.into());
        }
        let (name, place, at) = (self.name.clone(), self.place.clone(), tx.now());
        let id = tx.unit_insert(&NewUnit { org, name, place, at })?;
        unit_of(tx, org, id)
    }

    fn entries(&self, unit: &Unit) -> Vec<AuditEntry> {
        vec![unit_entry(&self.caller, AuditAction::UnitAdd, unit)]
    }
}

/// What the audit log is told of a unit.
fn unit_entry(caller: &Caller, action: AuditAction, unit: &Unit) -> AuditEntry {
    let entry = AuditEntry::of(caller, action, format!("unit {}", unit.id.0));
    let place = format!("{} at {}", unit.kind.name(), unit.address);
    entry.detail("unit", &unit.name.to_string()).detail("place", &place).detail("resource", &unit.resource)
}

fn unit_of(tx: &mut dyn Transaction, org: OrgId, id: UnitId) -> Result<Unit, Abort> {
    tx.unit(org, id)?.ok_or_else(|| Error::not_found("unit").into())
}

/// Sets where a unit is, and what it does. Its name stays.
pub struct UnitSet {
    /// Who asks.
    pub caller: Caller,
    /// The unit.
    pub id: UnitId,
    /// Where it is, and what it does.
    pub place: UnitPlace,
}

impl Operation for UnitSet {
    type Output = Unit;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Unit, Abort> {
        let org = self.caller.org;
        let unit = unit_of(tx, org, self.id)?;
        if tx.unit_at(org, self.place.address)?.is_some_and(|other| other.id != self.id) {
            return Err(ADDRESS_TAKEN.into());
        }
        tx.unit_update(self.id, &self.place)?;
        let UnitPlace { address, kind, resource } = self.place.clone();
        Ok(Unit { address, kind, resource, ..unit })
    }

    fn entries(&self, unit: &Unit) -> Vec<AuditEntry> {
        vec![unit_entry(&self.caller, AuditAction::UnitSet, unit)]
    }
}

/// Forgets a unit. Its device stays, as that of a node that is out.
pub struct UnitRemove {
    /// Who asks.
    pub caller: Caller,
    /// The unit.
    pub id: UnitId,
}

impl Operation for UnitRemove {
    type Output = Unit;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Unit, Abort> {
        let unit = unit_of(tx, self.caller.org, self.id)?;
        tx.unit_remove(self.id)?;
        Ok(unit)
    }

    fn entries(&self, unit: &Unit) -> Vec<AuditEntry> {
        vec![unit_entry(&self.caller, AuditAction::UnitRemove, unit)]
    }
}

/// A server takes the units of an organisation for itself, again and again, since a unit holds one connection; or gives
/// them back.
pub struct UnitGatewayClaim {
    /// Whose units they are.
    pub org: OrgId,
    /// The server.
    pub server: String,
    /// For how long, in milliseconds; 0 gives them back.
    pub for_ms: i64,
}

impl Operation for UnitGatewayClaim {
    type Output = bool;

    // It writes one row again. A server that may not would let go of units with which nothing is wrong.
    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<bool, Abort> {
        let now = tx.now();
        let until = UnixMs(now.0.saturating_add(self.for_ms));
        Ok(tx.unit_gateway_claim(self.org, &self.server, until, now)?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}
