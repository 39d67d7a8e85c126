//! Operations on people: making, removing, what they may do, and the links with which they set a password.

use std::net::IpAddr;

use crate::access::{Caller, KeyDigest, Rights, may_give_devices};
use crate::audit::{AuditAction, AuditActor, AuditEntry};
use crate::error::{Error, Result};
use crate::id::{OrgId, PersonId, UnixMs};
use crate::operation::{Abort, Operation};
use crate::person::{Membership, PEOPLE_MAX, Person};
use crate::port::{Need, Transaction, Turn};

/// What is told to who makes a person whose name is taken.
const TAKEN: Error = Error::Conflict { problem: "a person of this name is there" };

/// What the audit log is told of a person.
fn told(entry: AuditEntry, from: Option<IpAddr>, person: &Person) -> AuditEntry {
    let entry = entry.detail("name", &person.name).detail("role", person.role.name());
    let every = if person.is_for_every_org { "yes" } else { "" };
    AuditEntry { org: person.org, from, ..entry.detail("every_org", every) }
}

fn object_of(person: &Person) -> String {
    format!("user {}", person.id.0)
}

/// Makes a person, with a link to set a password; or gives one that is there a place in one more organisation.
pub struct PersonAdd {
    /// Who makes it.
    pub by: AuditActor,
    /// From where, if that is known.
    pub from: Option<IpAddr>,
    /// The name.
    pub name: String,
    /// The organisation, if it is there for sure; else it is that of the name.
    pub org: Option<OrgId>,
    /// The organisation's name.
    pub org_name: String,
    /// What it may do there.
    pub membership: Membership,
    /// The digest of the link, and until when it is good.
    pub link: (KeyDigest, UnixMs),
    /// Whether it may be somebody who is there.
    pub may_be_there: bool,
    /// Whether the organisation is made if there is none of that name.
    pub makes_org: bool,
}

impl PersonAdd {
    fn entry(&self, person: &Person) -> AuditEntry {
        let entry = AuditEntry::by(self.by.clone(), person.org, AuditAction::UserAdd, object_of(person));
        told(entry, self.from, person)
    }
}

impl Operation for PersonAdd {
    /// The person in that organisation, and whether the link is one for it.
    type Output = (Person, bool);

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(Person, bool), Abort> {
        let named = match self.org {
            Some(org) => Some(org),
            None => tx.org_named(&self.org_name)?,
        };
        let org = match named {
            Some(org) => org,
            None if self.makes_org => tx.org_ensure(&self.org_name)?,
            None => {
                return Err(Error::invalid("org", "must be the name of an organisation that is there").into());
            }
        };
        let known = tx.person_named(&self.name)?;
        if let Some(known) = known
            && (!self.may_be_there || tx.person_in_orgs(known)?.iter().any(|person| person.org == org))
        {
            return Err(TAKEN.into());
        }
        if tx.person_count(org)? >= PEOPLE_MAX {
            return Err(Error::Exhausted { limit: "the organisation has 1000 people" }.into());
        }
        let id = match known {
            Some(known) => known,
            None => tx.person_insert(&self.name)?.ok_or(TAKEN)?,
        };
        tx.membership_put(id, org, self.membership)?;
        let (digest, until) = &self.link;
        if known.is_none() {
            tx.person_link_set(id, digest, *until)?;
        }
        let person = tx.person_in_orgs(id)?.into_iter().find(|person| person.org == org);
        Ok((person.ok_or(Error::not_found("user"))?, known.is_none()))
    }

    fn entries(&self, (person, _): &(Person, bool)) -> Vec<AuditEntry> {
        vec![self.entry(person)]
    }
}

/// Makes the first person of a deployment, if it has none.
pub struct FirstPersonAdd(pub PersonAdd);

impl Operation for FirstPersonAdd {
    type Output = Option<Person>;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Option<Person>, Abort> {
        if tx.people_exist()? {
            return Ok(None);
        }
        Ok(Some(self.0.apply(tx)?.0))
    }

    fn entries(&self, person: &Option<Person>) -> Vec<AuditEntry> {
        person.iter().map(|person| self.0.entry(person)).collect()
    }
}

/// A person as one who keeps the people of its organisation, or of all, sees it.
fn seen(
    tx: &mut dyn Transaction,
    caller: &Caller,
    id: PersonId,
    is_of_all: bool,
) -> Result<Vec<Person>, Abort> {
    let orgs = tx.person_in_orgs(id)?;
    let is_seen = is_of_all || orgs.iter().any(|person| person.org == caller.org);
    if is_seen && !orgs.is_empty() { Ok(orgs) } else { Err(Error::not_found("user").into()) }
}

/// Nobody changes one who may do for every organisation what it may not.
fn demand_over(caller: &Caller, person: &Person) -> Result<()> {
    match person.is_for_every_org {
        true => caller.require(Rights::ORGS_ADMIN),
        false => Ok(()),
    }
}

/// Says what a person may do in the caller's organisation from now on. Its sessions there end.
pub struct PersonRoleSet {
    /// Who asks.
    pub caller: Caller,
    /// Whom it is about.
    pub id: PersonId,
    /// What it may do.
    pub membership: Membership,
}

impl Operation for PersonRoleSet {
    type Output = Person;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Person, Abort> {
        let own = |orgs: Vec<Person>| orgs.into_iter().find(|person| person.org == self.caller.org);
        let person = own(seen(tx, &self.caller, self.id, false)?).ok_or(Error::not_found("user"))?;
        demand_over(&self.caller, &person)?;
        tx.membership_put(self.id, person.org, self.membership)?;
        tx.person_sessions_end(self.id, Some(person.org))?;
        let Membership { role, is_for_every_org } = self.membership;
        Ok(Person { role, is_for_every_org, ..person })
    }

    fn entries(&self, person: &Person) -> Vec<AuditEntry> {
        let entry = AuditEntry::of(&self.caller, AuditAction::UserRole, object_of(person));
        vec![told(entry, self.caller.from, person)]
    }
}

/// Takes a person out of the caller's organisation, or out of all. Its sessions there end; who is in no organisation is gone.
pub struct PersonRemove {
    /// Who asks.
    pub caller: Caller,
    /// Whom it is about.
    pub id: PersonId,
    /// Whether it is taken out of all organisations.
    pub is_of_all: bool,
}

impl Operation for PersonRemove {
    /// Where it was taken out.
    type Output = Vec<Person>;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Vec<Person>, Abort> {
        let orgs = seen(tx, &self.caller, self.id, self.is_of_all)?;
        let is_whole = self.is_of_all || orgs.len() == 1;
        let (removed, _): (Vec<_>, Vec<_>) =
            orgs.into_iter().partition(|person| self.is_of_all || person.org == self.caller.org);
        for person in &removed {
            demand_over(&self.caller, person)?;
        }
        for Person { org, .. } in &removed {
            tx.person_sessions_end(self.id, Some(*org))?;
            tx.membership_remove(self.id, *org)?;
        }
        if is_whole {
            tx.identities_remove(self.id)?;
            tx.person_remove(self.id)?;
        }
        Ok(removed)
    }

    fn entries(&self, removed: &Vec<Person>) -> Vec<AuditEntry> {
        let entry = |person: &Person| {
            let entry = AuditEntry::of(&self.caller, AuditAction::UserRemove, object_of(person));
            AuditEntry { org: person.org, ..entry.detail("name", &person.name) }
        };
        removed.iter().map(entry).collect()
    }
}

/// Who makes a link.
pub enum LinkMaker {
    /// A caller, for somebody of its organisation, or of any.
    Caller {
        /// Who asks.
        caller: Box<Caller>,
        /// For whom.
        id: PersonId,
        /// Whether it may be somebody of any organisation.
        is_of_all: bool,
    },
    /// Whoever holds the store.
    Store {
        /// The name.
        name: String,
    },
}

/// Makes a link with which a person sets another password, in place of one that is there.
pub struct PersonLinkMake {
    /// Who makes it.
    pub by: LinkMaker,
    /// The digest of the link, and until when it is good.
    pub link: (KeyDigest, UnixMs),
}

impl Operation for PersonLinkMake {
    type Output = Person;

    fn turn(&self) -> Turn {
        match &self.by {
            LinkMaker::Caller { caller, .. } => Turn::Org(caller.org),
            LinkMaker::Store { .. } => Turn::Server,
        }
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Person, Abort> {
        let (id, org, orgs): (PersonId, Option<OrgId>, _) = match &self.by {
            LinkMaker::Caller { caller, id, is_of_all } => {
                let orgs = seen(tx, caller, *id, *is_of_all)?;
                for person in &orgs {
                    // Whoever has the link is that person, everywhere.
                    if person.org != caller.org {
                        caller.require(Rights::ORGS_ADMIN)?;
                    }
                    caller.require(person.membership().rights())?;
                    may_give_devices(caller, person.membership().rights())?;
                }
                (*id, Some(caller.org), orgs)
            }
            LinkMaker::Store { name } => {
                let id = tx.person_named(name)?.ok_or(Error::not_found("a person of this name"))?;
                (id, None, tx.person_in_orgs(id)?)
            }
        };
        let of_caller = orgs.iter().find(|person| Some(person.org) == org).or(orgs.first());
        let person = of_caller.cloned().ok_or(Error::not_found("user"))?;
        let (digest, until) = &self.link;
        tx.person_link_set(id, digest, *until)?;
        Ok(Person { link_until: Some(*until), ..person })
    }

    fn entries(&self, person: &Person) -> Vec<AuditEntry> {
        let (action, object) = (AuditAction::UserLink, object_of(person));
        let entry = match &self.by {
            LinkMaker::Caller { caller, .. } => AuditEntry::of(caller, action, object),
            LinkMaker::Store { .. } => {
                AuditEntry::by(AuditActor::command("covey user link"), person.org, action, object)
            }
        };
        vec![AuditEntry { org: person.org, ..entry.detail("name", &person.name) }]
    }
}
