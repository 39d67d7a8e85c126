//! What operations and callers ask the store of people and their sessions.

use crate::access::KeyDigest;
use crate::id::{OrgId, PersonId, UnixMs};
use crate::person::{Identity, Membership, NewSession, Person, PersonCredential, PersonLink, PersonSession};
use crate::port::{Found, Page, PageRequest, TxResult};

/// Which people are wanted, or whose sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeopleFilter {
    /// Of this organisation; of all without it.
    pub org: Option<OrgId>,
    /// This one alone.
    pub person: Option<PersonId>,
}

/// The steps on people inside a transaction.
pub trait PersonSteps {
    /// Whether there is anybody. Nobody else is made until this transaction has ended.
    fn people_exist(&mut self) -> TxResult<bool>;
    /// How many people an organisation has.
    fn person_count(&mut self, org: OrgId) -> TxResult<i64>;
    /// Makes a person of a name; none if there is one.
    fn person_insert(&mut self, name: &str) -> TxResult<Option<PersonId>>;
    /// The person of this name.
    fn person_named(&mut self, name: &str) -> TxResult<Option<PersonId>>;
    /// A person in each of its organisations, in the order of their numbers.
    fn person_in_orgs(&mut self, id: PersonId) -> TxResult<Vec<Person>>;
    /// Removes a person who is in no organisation.
    fn person_remove(&mut self, id: PersonId) -> TxResult<()>;
    /// Says what a person may do in an organisation, in place of what was said before.
    fn membership_put(&mut self, id: PersonId, org: OrgId, membership: Membership) -> TxResult<()>;
    /// Takes a person out of an organisation.
    fn membership_remove(&mut self, id: PersonId, org: OrgId) -> TxResult<()>;
    /// Gives a person a link, in place of the one before.
    fn person_link_set(&mut self, id: PersonId, digest: &KeyDigest, until: UnixMs) -> TxResult<()>;
    /// Whose a link is that is good now.
    fn person_of_link(&mut self, digest: &KeyDigest) -> TxResult<Option<PersonLink>>;
    /// Sets a password; a link is used up.
    fn person_password_set(&mut self, id: PersonId, password: &str) -> TxResult<()>;
    /// Uses up a link.
    fn person_link_use(&mut self, id: PersonId) -> TxResult<()>;
    /// Whom a provider means by this.
    fn identity_person(&mut self, identity: &Identity) -> TxResult<Option<PersonId>>;
    /// How many identities a person has.
    fn identity_count(&mut self, id: PersonId) -> TxResult<i64>;
    /// Remembers whom a provider means by this.
    fn identity_insert(&mut self, identity: &Identity, id: PersonId) -> TxResult<()>;
    /// Forgets by what providers mean a person.
    fn identities_remove(&mut self, id: PersonId) -> TxResult<()>;
    /// Remembers that a person has signed in.
    fn person_signed_in(&mut self, id: PersonId) -> TxResult<()>;
    /// Begins a session.
    fn person_session_insert(&mut self, new: &NewSession, id: PersonId, org: OrgId) -> TxResult<i64>;
    /// The session of this number, also one that is over.
    fn person_session(&mut self, id: i64) -> TxResult<Option<PersonSession>>;
    /// Sets the last use of a session to now, unless it was used after `before`.
    fn person_session_use(&mut self, id: i64, before: UnixMs) -> TxResult<()>;
    /// Ends a session; answers whether there was one.
    fn person_session_end(&mut self, id: i64) -> TxResult<bool>;
    /// Ends the sessions of a person, in this organisation or in all.
    fn person_sessions_end(&mut self, id: PersonId, org: Option<OrgId>) -> TxResult<()>;
    /// Removes those that are over, and of a person's all but so many that were used last.
    fn person_sessions_trim(&mut self, id: PersonId, keep: i64) -> TxResult<()>;
}

/// The reads of people.
pub trait PersonReader {
    /// What is known of a name.
    fn person_credential_of_every_org(&self, name: &str) -> Found<'_, Option<PersonCredential>>;
    /// Whose a link is, also one that is over.
    fn person_link_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<PersonLink>>;
    /// People, in the order of their numbers; one of several organisations is there for each.
    fn people_of_every_org(&self, filter: PeopleFilter, page: PageRequest) -> Found<'_, Page<Person>>;
    /// The session of a digest, also one that is over.
    fn person_session_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<PersonSession>>;
    /// The session of a number, also one that is over.
    fn person_session_of_number_of_every_org(&self, id: i64) -> Found<'_, Option<PersonSession>>;
    /// The numbers of sessions that end after the first instant and were used after the second.
    fn person_session_numbers_valid_of_every_org(&self, after: (UnixMs, UnixMs)) -> Found<'_, Vec<i64>>;
    /// Sessions that end after the first instant and were used after the second, those that were used last first.
    fn person_sessions_of_every_org(
        &self,
        filter: PeopleFilter,
        after: (UnixMs, UnixMs),
        page: PageRequest,
    ) -> Found<'_, Page<PersonSession>>;
}
