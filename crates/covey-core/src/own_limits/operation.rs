//! Operations on limits.

use crate::access::{ApiKey, Caller, Rights};
use crate::audit::{AuditAction, AuditEntry};
use crate::error::Error;
use crate::id::{CallerId, OrgId};
use crate::operation::{Abort, Operation};
use crate::own_limits::{LimitHolder, OwnLimits};
use crate::port::{Transaction, Turn};

/// Sets the limits of an organisation, which is there.
pub struct OrgLimitsPut {
    /// Who asks.
    pub caller: Caller,
    /// Which organisation.
    pub org: OrgId,
    /// Its limits from now on.
    pub limits: OwnLimits,
}

/// What the audit log is told of limits.
fn entry_with(entry: AuditEntry, limits: &OwnLimits) -> AuditEntry {
    limits.set().fold(entry, |entry, (name, limit)| entry.detail(name.name(), &limit.to_string()))
}

impl Operation for OrgLimitsPut {
    type Output = ();

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        Ok(tx.limits_put(LimitHolder::Org(self.org), &self.limits)?)
    }

    fn entries(&self, (): &()) -> Vec<AuditEntry> {
        let entry = AuditEntry::of(&self.caller, AuditAction::OrgLimits, format!("org {}", self.org.0));
        vec![AuditEntry { org: self.org, ..entry_with(entry, &self.limits) }]
    }
}

/// Sets the limits of a key.
pub struct KeyLimitsPut {
    /// Who asks.
    pub caller: Caller,
    /// The number of the key.
    pub id: i64,
    /// Its limits from now on.
    pub limits: OwnLimits,
}

impl Operation for KeyLimitsPut {
    /// The key.
    type Output = ApiKey;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<ApiKey, Abort> {
        let may_all = self.caller.rights.contains(Rights::ORGS_ADMIN);
        let key = tx.api_key(self.id)?.filter(|key| may_all || key.org == self.caller.org);
        let key = key.ok_or(Error::not_found("key"))?;
        if key.rights.contains(Rights::ORGS_ADMIN) {
            // Whoever keeps the keys of one organisation does not hold up whoever runs the deployment.
            self.caller.require(Rights::ORGS_ADMIN)?;
        }
        tx.limits(LimitHolder::Org(key.org))?.require(&self.limits)?;
        tx.limits_put(LimitHolder::Key(CallerId(self.id)), &self.limits)?;
        Ok(key)
    }

    fn entries(&self, key: &ApiKey) -> Vec<AuditEntry> {
        let entry = AuditEntry::of(&self.caller, AuditAction::KeyLimits, format!("key {}", key.id));
        vec![AuditEntry { org: key.org, ..entry_with(entry.detail("name", &key.name), &self.limits) }]
    }
}
