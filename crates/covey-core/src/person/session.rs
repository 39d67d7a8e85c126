//! Operations on sessions: signing in, by a password or by a link, using one, and ending it.

use std::net::IpAddr;

use crate::access::{Caller, KeyDigest, LAST_USED_GRAIN_MS, Rights};
use crate::audit::{AuditAction, AuditActor, AuditEntry};
use crate::error::{Error, Result};
use crate::id::{OrgId, PersonId};
use crate::operation::{Abort, Operation};
use crate::person::{PersonSession, SESSIONS_MAX};
use crate::port::{Need, Transaction, Turn};

/// A session to be begun.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The digest of what the browser will show.
    pub digest: KeyDigest,
    /// The organisation that the person names, by its name; the first of its own without one.
    pub org_name: Option<String>,
    /// From where it is begun, if that is known.
    pub address: Option<IpAddr>,
    /// What the browser calls itself.
    pub agent: String,
    /// By what the person has proved who it is, for the audit log.
    pub by: &'static str,
}

/// Begins a session of a person.
pub(super) fn begin(
    tx: &mut dyn Transaction,
    id: PersonId,
    new: &NewSession,
) -> Result<PersonSession, Abort> {
    let orgs = tx.person_in_orgs(id)?;
    let wanted = |org: &str| orgs.iter().find(|person| person.org_name == org);
    let person = match new.org_name.as_deref() {
        Some(name) => wanted(name),
        None => orgs.first(),
    };
    let missing = Error::invalid("org", "must be an organisation that this person is in");
    let person = person.ok_or(missing)?;
    let session = tx.person_session_insert(new, id, person.org)?;
    tx.person_sessions_trim(id, SESSIONS_MAX)?;
    tx.person_signed_in(id)?;
    // It was begun in this transaction.
    Ok(tx.person_session(session)?.ok_or(Error::not_found("session"))?)
}

/// What the audit log is told of somebody who has signed in.
pub(super) fn begun(session: &PersonSession, new: &NewSession) -> AuditEntry {
    let actor = actor(session);
    let entry =
        AuditEntry::by(actor, session.org, AuditAction::SessionBegin, format!("session {}", session.id));
    AuditEntry { from: new.address, ..entry.detail("by", new.by).detail("agent", &session.agent) }
}

fn actor(session: &PersonSession) -> AuditActor {
    AuditActor::of(&Caller::of_session(session))
}

/// Begins a session of somebody who has proved who it is.
pub struct SessionBegin {
    /// The person.
    pub person: PersonId,
    /// The session.
    pub new: NewSession,
}

impl Operation for SessionBegin {
    type Output = PersonSession;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<PersonSession, Abort> {
        begin(tx, self.person, &self.new)
    }

    fn entries(&self, session: &PersonSession) -> Vec<AuditEntry> {
        vec![begun(session, &self.new)]
    }
}

/// Sets the password of whoever has a link, ends its other sessions, and begins one.
pub struct InvitationTake {
    /// The digest of the link.
    pub link: KeyDigest,
    /// The password, hashed.
    pub password: String,
    /// The session.
    pub new: NewSession,
}

impl Operation for InvitationTake {
    type Output = PersonSession;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<PersonSession, Abort> {
        let link = tx.person_of_link(&self.link)?.ok_or(LINK_UNKNOWN)?;
        if tx.person_in_orgs(link.id)?.is_empty() {
            return Err(LINK_UNKNOWN.into());
        }
        tx.person_password_set(link.id, &self.password)?;
        tx.person_sessions_end(link.id, None)?;
        begin(tx, link.id, &self.new)
    }

    fn entries(&self, session: &PersonSession) -> Vec<AuditEntry> {
        vec![begun(session, &self.new)]
    }
}

/// What is told of a link that nobody has, or that was used, or is over.
pub(super) const LINK_UNKNOWN: Error = Error::NotFound { what: "a link that is good" };

/// Remembers that a session was used.
pub struct SessionUse {
    /// Its organisation.
    pub org: OrgId,
    /// Its number.
    pub id: i64,
}

impl Operation for SessionUse {
    type Output = ();

    fn turn(&self) -> Turn {
        Turn::Org(self.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        Ok(tx.person_session_use(self.id, tx.now().plus_ms(-LAST_USED_GRAIN_MS))?)
    }

    fn entries(&self, (): &()) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Ends a session: one's own, or that of somebody else in the organisation.
pub struct SessionEnd {
    /// Who asks.
    pub caller: Caller,
    /// Its number.
    pub id: i64,
    /// Whether it may be one of any organisation.
    pub is_of_all: bool,
}

impl Operation for SessionEnd {
    /// The session, as it was.
    type Output = PersonSession;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<PersonSession, Abort> {
        let caller = &self.caller;
        let is_own = |session: &PersonSession| {
            caller.signed_in.is_some_and(|signed_in| signed_in.person == session.person)
        };
        let is_seen = |session: &PersonSession| self.is_of_all || session.org == caller.org;
        let found = tx.person_session(self.id)?.filter(|session| is_own(session) || is_seen(session));
        let session = found.ok_or(Error::not_found("session"))?;
        if !is_own(&session) {
            caller.require(Rights::KEYS_WRITE)?;
        }
        if tx.person_session_end(self.id)? { Ok(session) } else { Err(Error::not_found("session").into()) }
    }

    fn entries(&self, session: &PersonSession) -> Vec<AuditEntry> {
        let entry = AuditEntry::of(&self.caller, AuditAction::SessionEnd, format!("session {}", session.id));
        vec![AuditEntry { org: session.org, ..entry.detail("user", &session.name) }]
    }
}
