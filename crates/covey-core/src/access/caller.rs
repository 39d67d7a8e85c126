//! Who asks.

use std::net::IpAddr;
use std::sync::Arc;

use crate::access::{ApiKey, Grants, KeyBounds, Matter, Rights, Scope, ScopeOf};
use crate::device::Tag;
use crate::error::{Error, Result};
use crate::id::{CallerId, OrgId};
use crate::named::named;
use crate::person::SignedIn;

named! {
    /// By what somebody is known who asks.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum CallerKind {
        /// By an API key, or by the client certificate that stands for one.
        Key => "key",
        /// By a token of an issuer that the operator trusts.
        Token => "token",
        /// By a session of a person who has signed in.
        Person => "person",
        /// The server itself, for those who speak with it without a credential of their own.
        Server => "server",
    }
}

/// Who asks: an organisation's credential with its rights, taken from the
/// credential alone.
///
/// Every operation and every read for an application takes one, so that a
/// tenant cannot be forgotten, and so that an operation can decide what the
/// caller may do once it has read what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The caller's organisation.
    pub org: OrgId,
    /// The organisation's name.
    pub org_name: Arc<str>,
    /// The credential.
    pub id: CallerId,
    /// What kind of credential it is.
    pub kind: CallerKind,
    /// What the owner of the credential calls it.
    pub name: Arc<str>,
    /// What the caller may do in the whole organisation.
    pub rights: Rights,
    /// What it may do with some devices alone.
    pub grants: Grants,
    /// Until when, and from where.
    pub bounds: KeyBounds,
    /// From where it asks, if that is known.
    pub from: Option<IpAddr>,
    /// Which person it is and in which session, also by a token that was made in one.
    pub signed_in: Option<SignedIn>,
}

impl Caller {
    /// The caller that an API key stands for.
    #[must_use]
    pub fn of(key: &ApiKey) -> Self {
        Self {
            org: key.org,
            org_name: Arc::from(key.org_name.as_str()),
            id: CallerId(key.id),
            kind: CallerKind::Key,
            name: Arc::from(key.name.as_str()),
            rights: key.rights,
            grants: key.grants.clone(),
            bounds: key.bounds.clone(),
            from: None,
            signed_in: None,
        }
    }

    /// The server itself in an organisation, with these rights and no other. `name` says on whose behalf it asks.
    #[must_use]
    pub fn server(org: OrgId, name: &str, rights: Rights) -> Self {
        Self {
            org,
            org_name: Arc::from(""),
            id: CallerId(0),
            kind: CallerKind::Server,
            name: Arc::from(name),
            rights,
            grants: Grants::default(),
            bounds: KeyBounds::default(),
            from: None,
            signed_in: None,
        }
    }

    /// The same caller, who asks from an address.
    #[must_use]
    pub fn at(mut self, from: Option<IpAddr>) -> Self {
        self.from = from;
        self
    }

    /// Demands a right in the whole organisation.
    ///
    /// # Errors
    /// [`Error::Forbidden`] naming the right; [`Error::NotGranted`] for who has it for some devices alone.
    pub fn require(&self, wanted: Rights) -> Result<()> {
        if self.rights.contains(wanted) {
            return Ok(());
        }
        let right = wanted.names().next().unwrap_or("unknown");
        match self.grants.rights().contains(wanted) {
            true => Err(Error::NotGranted { right }),
            false => Err(Error::Forbidden { right }),
        }
    }

    /// Demands a right that may be had for some devices alone: which is asked for is found out afterwards, with
    /// [`Self::demand`] or [`Self::scope`].
    ///
    /// # Errors
    /// [`Error::Forbidden`] naming the right.
    pub fn require_some(&self, wanted: Rights) -> Result<()> {
        match self.require(wanted) {
            Err(Error::NotGranted { .. }) => Ok(()),
            held => held,
        }
    }

    /// Whether a right is had for some devices alone, so that it is to be looked at which.
    #[must_use]
    pub fn is_bound(&self, right: Rights) -> bool {
        !self.rights.contains(right)
    }

    /// Demands a right on a matter of a device with these tags. What the caller may do nothing with does not exist for
    /// it.
    ///
    /// # Errors
    /// [`Error::NotFound`] naming `what`, or [`Error::NotGranted`].
    pub fn demand(&self, right: Rights, tags: &[Tag], matter: Matter<'_>, what: &'static str) -> Result<()> {
        if !self.is_bound(right) || self.grants.giving(right, tags, matter).is_some() {
            return Ok(());
        }
        let sees = [Rights::DEVICES_READ, right]
            .into_iter()
            .any(|right| !self.is_bound(right) || self.grants.giving(right, tags, Matter::Device).is_some());
        match sees {
            true => Err(Error::NotGranted { right: right.names().next().unwrap_or("unknown") }),
            false => Err(Error::not_found(what)),
        }
    }

    /// Where the caller has a right.
    #[must_use]
    pub fn scope(&self, right: Rights, of: ScopeOf) -> Scope {
        match self.is_bound(right) {
            true => self.grants.scope(right, of),
            false => Scope::Everywhere,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_caller_without_the_right_is_refused_by_name() {
        let caller = Caller::server(OrgId(1), "reader", Rights::TASKS_READ);
        assert!(caller.require(Rights::TASKS_READ).is_ok());
        assert_eq!(caller.require(Rights::TASKS_WRITE), Err(Error::Forbidden { right: "tasks:write" }));
    }
}
