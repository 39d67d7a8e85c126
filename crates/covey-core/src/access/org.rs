//! Organisations.

use crate::access::{ApiKeyAdd, Caller, Rights};
use crate::audit::{AuditAction, AuditEntry};
use crate::budget::Weight;
use crate::engine::ForCaller;
use crate::error::{Error, Result};
use crate::id::{OrgId, UnixMs};
use crate::operation::{Abort, Operation};
use crate::port::{Need, Page, PageRequest, ReadKind, Transaction, Turn};

/// An organisation: what belongs to one does not exist for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Org {
    /// Its number.
    pub id: OrgId,
    /// Its name, which no other has.
    pub name: String,
    /// When it was made.
    pub created_at: UnixMs,
    /// How many devices are registered in it.
    pub devices: u64,
    /// How many API keys it has.
    pub keys: u64,
}

const TAKEN: Error = Error::Conflict { problem: "an organisation of this name is there" };

/// What the audit log of an organisation is told of it.
fn org_entry(caller: &Caller, action: AuditAction, org: &Org) -> AuditEntry {
    let entry = AuditEntry::of(caller, action, format!("org {}", org.id.0));
    AuditEntry { org: org.id, ..entry.detail("name", &org.name) }
}

/// Makes an organisation.
pub struct OrgAdd {
    /// Who asks.
    pub caller: Caller,
    /// Its name.
    pub name: String,
}

impl Operation for OrgAdd {
    type Output = Org;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Org, Abort> {
        tx.org_insert(&self.name)?.ok_or_else(|| TAKEN.into())
    }

    fn entries(&self, org: &Org) -> Vec<AuditEntry> {
        vec![org_entry(&self.caller, AuditAction::OrgAdd, org)]
    }
}

/// Gives an organisation another name.
pub struct OrgRename {
    /// Who asks.
    pub caller: Caller,
    /// Which one.
    pub id: OrgId,
    /// Its name from now on.
    pub name: String,
}

impl Operation for OrgRename {
    type Output = Org;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Org, Abort> {
        if tx.org_named(&self.name)?.is_some_and(|other| other != self.id) {
            return Err(TAKEN.into());
        }
        tx.org_rename(self.id, &self.name)?.ok_or_else(|| Error::not_found("organisation").into())
    }

    fn entries(&self, org: &Org) -> Vec<AuditEntry> {
        vec![org_entry(&self.caller, AuditAction::OrgRename, org)]
    }
}

impl ForCaller<'_> {
    /// The caller's organisation; with the right orgs:admin a page of all, in the order of their numbers.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn org_list(self, page: PageRequest) -> Result<Page<Org>> {
        self.caller.require(Rights::KEYS_WRITE)?;
        let page = page.validate()?;
        let only = (!self.caller.rights.contains(Rights::ORGS_ADMIN)).then_some(self.caller.org);
        let _scan = self.begin_read(ReadKind::OrgList)?;
        self.engine.parts.store.org_list_of_every_org(only, page).await
    }

    /// An organisation: the caller's own, with the right orgs:admin any.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn org_get(self, id: OrgId) -> Result<Org> {
        self.caller.require(Rights::KEYS_WRITE)?;
        self.demand_org(id)?;
        let page = PageRequest { page: 1, size: 1 };
        let found = self.engine.parts.store.org_list_of_every_org(Some(id), page).await?;
        found.items.into_iter().next().ok_or(Error::not_found("organisation"))
    }

    /// Makes an organisation.
    ///
    /// # Errors
    /// A missing right, a name out of range or one that another has, or the store's.
    pub async fn org_add(self, name: &str) -> Result<Org> {
        self.caller.require(Rights::ORGS_ADMIN)?;
        ApiKeyAdd::validate_named("name", name)?;
        self.charge(Weight::WRITE)?;
        self.engine.execute(OrgAdd { caller: self.caller.clone(), name: name.to_owned() }).await
    }

    /// Gives an organisation another name; what belongs to it stays.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], a name out of range or one that another has, or the store's.
    pub async fn org_rename(self, id: OrgId, name: &str) -> Result<Org> {
        self.caller.require(Rights::KEYS_WRITE)?;
        self.demand_org(id)?;
        self.caller.require(Rights::ORGS_ADMIN)?;
        ApiKeyAdd::validate_named("name", name)?;
        self.charge(Weight::WRITE)?;
        self.engine.execute(OrgRename { caller: self.caller.clone(), id, name: name.to_owned() }).await
    }

    /// Those of others do not exist.
    fn demand_org(self, id: OrgId) -> Result<()> {
        match id == self.caller.org || self.caller.rights.contains(Rights::ORGS_ADMIN) {
            true => Ok(()),
            false => Err(Error::not_found("organisation")),
        }
    }
}
