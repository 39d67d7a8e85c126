//! Who calls: the organisation and the rights that an operation is given.

mod bounds;
mod caller;
mod calls;
mod ended;
mod explain;
mod grant;
mod look;
mod operation;
mod org;
mod port;
pub mod recovery;
mod role;
mod taken_names;

pub use bounds::{Access, KEY_ADDRESSES_MAX, KeyBounds};
pub use caller::{Caller, CallerKind};
pub(crate) use calls::may_give_devices;
pub use ended::EndedKey;
pub(crate) use ended::with_keys;
pub use explain::{Because, Explanation, Question};
pub use grant::{
    GRANT_NAMES_MAX, GRANT_PAIRS_MAX, GRANTABLE, GRANTS_MAX, Grant, Grants, Matter, Method, Place, Scope,
    ScopeOf,
};
pub(crate) use look::demand;
pub use operation::{
    AddedKey, AdminKeyRecover, ApiKeyAdd, ApiKeyExists, ApiKeyRevoke, ApiKeyUse, CERTIFICATE_TEXT_PREFIX,
    FirstKeyAdd, MadeKey, ShownCertificate,
};
pub use org::{Org, OrgAdd, OrgRename};
pub use port::{AccessReader, AccessSteps};
pub use role::Role;
pub(crate) use taken_names::{ASKED_TOO_MANY, TakenNames};

use crate::error::{Error, Result};
use crate::id::{OrgId, UnixMs};

/// What a caller may do. Stored as bits, shown as names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rights(pub u32);

/// Each right with its name, in the order of its bit.
pub const RIGHT_NAMES: [&str; 12] = [
    "tasks:read",
    "tasks:write",
    "devices:read",
    "devices:write",
    "keys:write",
    "events:read",
    "webhooks:write",
    "orgs:admin",
    "metrics:read",
    "gateways:read",
    "gateways:write",
    "audit:read",
];

impl Rights {
    /// Read tasks and results.
    pub const TASKS_READ: Self = Self(1);
    /// Create and delete tasks.
    pub const TASKS_WRITE: Self = Self(1 << 1);
    /// Read devices.
    pub const DEVICES_READ: Self = Self(1 << 2);
    /// Register, tag and retire devices.
    pub const DEVICES_WRITE: Self = Self(1 << 3);
    /// Make and revoke API keys of the own organisation, none with more rights than one's own.
    pub const KEYS_WRITE: Self = Self(1 << 4);
    /// Read events and gauges, and follow the stream.
    pub const EVENTS_READ: Self = Self(1 << 5);
    /// Read, set and remove webhooks, and send again what they could not deliver.
    pub const WEBHOOKS_WRITE: Self = Self(1 << 6);
    /// Do for every organisation what else may be done for one's own.
    pub const ORGS_ADMIN: Self = Self(1 << 7);
    /// Make and revoke the keys of all organisations.
    pub const ALL_KEYS_WRITE: Self = Self(Self::KEYS_WRITE.0 | Self::ORGS_ADMIN.0);
    /// Read the measurements of the server over HTTPS, and what is wrong around it.
    pub const METRICS_READ: Self = Self(1 << 8);
    /// Read with which units the server speaks.
    pub const GATEWAYS_READ: Self = Self(1 << 9);
    /// List units, change and remove them: the server connects to their addresses.
    pub const GATEWAYS_WRITE: Self = Self(1 << 10);
    /// Read who did what.
    pub const AUDIT_READ: Self = Self(1 << 11);
    /// Everything.
    pub const ALL: Self = Self((1 << RIGHT_NAMES.len()) - 1);

    /// Whether all of `wanted` are held.
    #[must_use]
    pub const fn contains(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// The names of the rights held.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        RIGHT_NAMES
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| name)
    }

    /// Reads a list of names.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not in [`RIGHT_NAMES`].
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut rights = Self::default();
        for name in names {
            let bit = RIGHT_NAMES.iter().position(|known| *known == name).ok_or(Error::invalid(
                "rights",
                "known are tasks:read, tasks:write, devices:read, devices:write, keys:write, events:read, \
                 webhooks:write, orgs:admin, metrics:read, gateways:read, gateways:write, audit:read",
            ))?;
            rights.0 |= 1 << bit;
        }
        Ok(rights)
    }
}

/// A digest under which an API key is kept; the key itself is never stored.
pub type KeyDigest = [u8; 32];

/// An API key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its number.
    pub id: i64,
    /// Its organisation.
    pub org: OrgId,
    /// The organisation's name.
    pub org_name: String,
    /// What its owner calls it.
    pub name: String,
    /// What it may do in the whole organisation.
    pub rights: Rights,
    /// What it may do with some devices alone.
    pub grants: Grants,
    /// When it was made.
    pub created_at: UnixMs,
    /// When it last let somebody in, as of at most [`LAST_USED_GRAIN_MS`] ago;
    /// none if it never did.
    pub last_used_at: Option<UnixMs>,
    /// Until when, and from where, it may be used.
    pub bounds: KeyBounds,
}

/// How exactly it is known when a key was last used, in milliseconds: about once
/// in this time a key that is used costs a write.
pub const LAST_USED_GRAIN_MS: i64 = 60_000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rights_are_read_by_the_names_they_are_shown_with() {
        let all: Vec<_> = Rights::ALL.names().collect();
        assert_eq!(all, RIGHT_NAMES);
        assert_eq!(Rights::parse(all).unwrap(), Rights::ALL);
        assert!(Rights::parse(["root"]).is_err());
    }
}
