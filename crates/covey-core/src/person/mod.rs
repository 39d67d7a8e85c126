//! People: who they are, of which organisations, and the sessions in which they have signed in. What proves that somebody
//! is a person (a password, a link) comes in as digests; nothing here knows how a password is hashed.

mod calls;
mod identity;
mod operation;
mod port;
pub mod recovery;
mod session;

pub use calls::{MadeLink, SignIn, link_digest};
pub use identity::{Enrolled, Identity, IdentitySignIn, IdentityTake};
pub use operation::{FirstPersonAdd, LinkMaker, PersonAdd, PersonLinkMake, PersonRemove, PersonRoleSet};
pub use port::{PeopleFilter, PersonReader, PersonSteps};
pub use session::{InvitationTake, NewSession, SessionBegin, SessionEnd, SessionUse};

use std::net::IpAddr;

use crate::access::{Caller, CallerKind, Grants, KeyBounds, Rights, Role};
use crate::error::{Error, Result};
use crate::id::{CallerId, OrgId, PersonId, UnixMs};

/// How many people an organisation may have.
/// Limit for each organisation: 429.
pub const PEOPLE_MAX: i64 = 1_000;
/// How many sessions a person may have at a time.
/// Limit for each person: the one that was used longest ago ends.
pub const SESSIONS_MAX: i64 = 20;
/// How long a session lasts, in milliseconds, however much it is used.
/// Limit for each session: it ends.
pub const SESSION_MS_MAX: i64 = 7 * 24 * 3_600_000;
/// How long a session lasts that is not used, in milliseconds.
/// Limit for each session: it ends.
pub const SESSION_IDLE_MS_MAX: i64 = 12 * 3_600_000;
/// How long an invitation is good, in milliseconds.
/// Limit for each invitation: it must be made anew.
pub const INVITATION_MS_MAX: i64 = 7 * 24 * 3_600_000;
/// How long a link is good that the server's own machine makes, in milliseconds.
/// Limit for each link: it must be made anew.
pub const OWN_LINK_MS_MAX: i64 = 15 * 60_000;
/// Longest name of a person, in characters.
/// Limit for each person: 422.
pub const PERSON_NAME_CHARS_MAX: usize = 128;
/// How much is kept of what a browser calls itself, in characters.
/// Limit for each session: the rest is cut off.
const AGENT_CHARS_MAX: usize = 200;

/// A person in an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Its number.
    pub id: PersonId,
    /// The name with which it signs in, which no other has in the deployment.
    pub name: String,
    /// The organisation.
    pub org: OrgId,
    /// The organisation's name.
    pub org_name: String,
    /// What it may do there.
    pub role: Role,
    /// Whether it may also do for every organisation what it may do here.
    pub is_for_every_org: bool,
    /// Whether it has a password.
    pub has_password: bool,
    /// Until when a link is good with which it sets one; none if there is no such link.
    pub link_until: Option<UnixMs>,
    /// When it was made.
    pub created_at: UnixMs,
    /// When it has last signed in.
    pub signed_in_at: Option<UnixMs>,
}

/// What somebody is given in an organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// A role.
    pub role: Role,
    /// Whether it is also for every organisation.
    pub is_for_every_org: bool,
}

/// What is known of a name with which somebody wants to sign in.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonCredential {
    /// The person.
    pub id: PersonId,
    /// Its name.
    pub name: String,
    /// Its password, hashed, if it has one.
    pub password: Option<String>,
}

/// Whose a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonLink {
    /// The person.
    pub id: PersonId,
    /// Its name.
    pub name: String,
    /// Until when it is good.
    pub until: UnixMs,
}

/// A session of a person who has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonSession {
    /// Its number.
    pub id: i64,
    /// The person.
    pub person: PersonId,
    /// The person's name.
    pub name: String,
    /// The organisation for which it has signed in.
    pub org: OrgId,
    /// The organisation's name.
    pub org_name: String,
    /// What it is given there.
    pub membership: Membership,
    /// When it began.
    pub created_at: UnixMs,
    /// When it was last used, as of at most a minute ago.
    pub last_used_at: UnixMs,
    /// When it ends, however much it is used.
    pub expires_at: UnixMs,
    /// From where it began, if that is known.
    pub address: Option<IpAddr>,
    /// What the browser calls itself.
    pub agent: String,
}

/// Who a caller is, if it is a person or a token that a person has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// The person.
    pub person: PersonId,
    /// The session.
    pub session: i64,
}

impl Membership {
    /// What it comes to.
    #[must_use]
    pub const fn rights(self) -> Rights {
        match self.is_for_every_org {
            true => Rights(self.role.rights().0 | Rights::ORGS_ADMIN.0),
            false => self.role.rights(),
        }
    }
}

impl Person {
    /// What it is given.
    #[must_use]
    pub const fn membership(&self) -> Membership {
        Membership { role: self.role, is_for_every_org: self.is_for_every_org }
    }

    /// Checks a name and makes it the same however it is written: in small letters, without spaces around it.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `name`.
    pub fn name_of(text: &str) -> Result<String> {
        let name = text.trim().to_lowercase();
        let is_good = (1..=PERSON_NAME_CHARS_MAX).contains(&name.chars().count())
            && !name.chars().any(|letter| letter.is_control() || letter.is_whitespace());
        let problem = "must be 1 to 128 characters without spaces and control characters";
        if is_good { Ok(name) } else { Err(Error::invalid("name", problem)) }
    }
}

impl PersonSession {
    /// Whether it has ended.
    #[must_use]
    pub fn is_over_at(&self, now: UnixMs) -> bool {
        self.expires_at <= now || self.last_used_at.plus_ms(SESSION_IDLE_MS_MAX) <= now
    }
}

/// The beginning of what a browser calls itself, without what is not text.
#[must_use]
pub fn agent(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(AGENT_CHARS_MAX).collect()
}

impl Caller {
    /// The caller that a session stands for. It is one for each person in each organisation, whichever the session.
    #[must_use]
    pub fn of_session(session: &PersonSession) -> Self {
        // Both numbers are small, so no two pairs come to the same; and it is none that a key can have.
        let number = (session.org.0.cast_unsigned() << 32) ^ session.person.0.cast_unsigned();
        Self {
            org_name: session.org_name.as_str().into(),
            id: CallerId::of_digest(number << 2),
            kind: CallerKind::Person,
            grants: Grants::default(),
            bounds: KeyBounds { expires_at: Some(session.expires_at), ..KeyBounds::default() },
            signed_in: Some(SignedIn { person: session.person, session: session.id }),
            ..Self::server(session.org, &session.name, session.membership.rights())
        }
    }

    /// The caller that a token stands for which was made in a session: it may no more than both, and ends with either.
    #[must_use]
    pub fn of_session_token(session: &PersonSession, rights: Rights, expires_at: UnixMs) -> Self {
        let own = Self::of_session(session);
        let end = session.expires_at.min(expires_at);
        Self {
            kind: CallerKind::Token,
            rights: Rights(own.rights.0 & rights.0),
            bounds: KeyBounds { expires_at: Some(end), ..KeyBounds::default() },
            ..own
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_is_one_however_it_is_written() {
        for text in ["Ada@Example.com", " ada@example.com ", "ADA@EXAMPLE.COM"] {
            assert_eq!(Person::name_of(text).unwrap(), "ada@example.com", "{text}");
        }
        for bad in ["", "  ", "a b", "a\u{7}", &"x".repeat(129)] {
            assert!(Person::name_of(bad).is_err(), "{bad:?}");
        }
        assert_eq!(agent(&"x\n".repeat(300)).chars().count(), AGENT_CHARS_MAX);
    }
}
