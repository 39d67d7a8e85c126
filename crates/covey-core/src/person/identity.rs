//! Operations on who a person is for an OpenID provider: taking that in place of a password, and signing in with it.

use crate::access::KeyDigest;
use crate::audit::AuditEntry;
use crate::error::{Error, Result};
use crate::operation::{Abort, Operation};
use crate::person::session::{LINK_UNKNOWN, NewSession, begin, begun};
use crate::person::{Membership, PEOPLE_MAX, PersonSession};
use crate::port::{Transaction, Turn};
use crate::token::OrgWanted;

/// How many identities a person may have.
/// Limit for each person: 429.
const IDENTITIES_MAX: i64 = 16;

/// Who somebody is for a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The provider, as it calls itself (`iss`).
    pub issuer: String,
    /// Whom it means (`sub`).
    pub subject: String,
}

/// What the operator lets a provider say of people, beside who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The name of a person who is made.
    pub name: String,
    /// The organisation.
    pub org: OrgWanted,
    /// What the person may do there.
    pub membership: Membership,
}

/// Signs in whom a provider means. Who is not known is made, if the operator lets the provider say as what.
pub struct IdentitySignIn {
    /// Who it is.
    pub identity: Identity,
    /// What else the provider says, if it may.
    pub enrolled: Option<Enrolled>,
    /// The session.
    pub new: NewSession,
}

impl Operation for IdentitySignIn {
    type Output = PersonSession;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<PersonSession, Abort> {
        let known = tx.identity_person(&self.identity)?;
        let Some(enrolled) = &self.enrolled else {
            return begin(tx, known.ok_or(UNKNOWN)?, &self.new);
        };
        let org = match &enrolled.org {
            OrgWanted::Number(id) => Some(*id),
            OrgWanted::Name(name) => tx.org_named(name)?,
        };
        let org = org.ok_or(Error::not_found("the organisation that the provider names"))?;
        let orgs = known.map_or(Ok(Vec::new()), |id| tx.person_in_orgs(id))?;
        let there = orgs.iter().find(|person| person.org == org);
        if there.is_none() && tx.person_count(org)? >= PEOPLE_MAX {
            return Err(Error::Exhausted { limit: "the organisation has 1000 people" }.into());
        }
        let id = match known {
            Some(id) => id,
            None => {
                // Whoever has that name with a password is not taken over.
                let taken =
                    Error::Conflict { problem: "a person of this name is there; ask for an invitation" };
                let id = tx.person_insert(&enrolled.name)?.ok_or(taken)?;
                tx.identity_insert(&self.identity, id)?;
                id
            }
        };
        if there.is_none_or(|person| person.membership() != enrolled.membership) {
            tx.membership_put(id, org, enrolled.membership)?;
            tx.person_sessions_end(id, Some(org))?;
        }
        begin(tx, id, &self.new)
    }

    fn entries(&self, session: &PersonSession) -> Vec<AuditEntry> {
        vec![begun(session, &self.new).detail("issuer", &self.identity.issuer)]
    }
}

const UNKNOWN: Error = Error::NotFound { what: "a person whom the provider means" };

/// Takes an identity of whoever has a link, in place of a password, and begins a session. A link is good once.
pub struct IdentityTake {
    /// The digest of the link.
    pub link: KeyDigest,
    /// Who it is.
    pub identity: Identity,
    /// The session.
    pub new: NewSession,
}

impl Operation for IdentityTake {
    type Output = PersonSession;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<PersonSession, Abort> {
        let link = tx.person_of_link(&self.link)?.ok_or(LINK_UNKNOWN)?;
        match tx.identity_person(&self.identity)? {
            Some(known) if known != link.id => {
                return Err(
                    Error::Conflict { problem: "this account of the provider is another person's" }.into()
                );
            }
            Some(_) => {}
            None if tx.identity_count(link.id)? >= IDENTITIES_MAX => {
                return Err(Error::Exhausted { limit: "the person has 16 accounts of providers" }.into());
            }
            None if tx.person_in_orgs(link.id)?.is_empty() => return Err(LINK_UNKNOWN.into()),
            None => tx.identity_insert(&self.identity, link.id)?,
        }
        tx.person_link_use(link.id)?;
        tx.person_sessions_end(link.id, None)?;
        begin(tx, link.id, &self.new)
    }

    fn entries(&self, session: &PersonSession) -> Vec<AuditEntry> {
        vec![begun(session, &self.new).detail("issuer", &self.identity.issuer)]
    }
}
