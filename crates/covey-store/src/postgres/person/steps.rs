//! Steps on people and their sessions.

use covey_core::access::KeyDigest;
use covey_core::id::{OrgId, PersonId, UnixMs};
use covey_core::person::{
    Identity, Membership, NewSession, Person, PersonLink, PersonSession, PersonSteps, SESSION_IDLE_MS_MAX,
    SESSION_MS_MAX,
};
use covey_core::port::TxResult;

use crate::postgres::locks::LockClass;
use crate::postgres::pipeline::values;
use crate::postgres::write::transaction::PostgresTransaction;
use crate::rows;

impl PersonSteps for PostgresTransaction<'_> {
    /// Waits for those who are about to make the first person.
    fn people_exist(&mut self) -> TxResult<bool> {
        let steps = vec![
            self.query(|sql| &sql.person.people_lock, values![LockClass::FirstPerson.number()]),
            self.query(|sql| &sql.person.people_exist, Vec::new()),
        ];
        Ok(!self.ask_last(steps)?.is_empty())
    }

    fn person_count(&mut self, org: OrgId) -> TxResult<i64> {
        self.ask_only(|sql| &sql.person.person_count, values![org.0], rows::first)
    }

    fn person_insert(&mut self, name: &str) -> TxResult<Option<PersonId>> {
        let values = values![name.to_owned(), self.now.0];
        self.write_first(|sql| &sql.person.person_insert, values, rows::person_id)
    }

    fn person_named(&mut self, name: &str) -> TxResult<Option<PersonId>> {
        self.ask_first(|sql| &sql.person.person_named, values![name.to_owned()], rows::person_id)
    }

    fn person_in_orgs(&mut self, id: PersonId) -> TxResult<Vec<Person>> {
        let step = self.query(|sql| &sql.person.person_in_orgs, values![id.0]);
        let found = self.ask(step)?;
        self.read(rows::each(&found, rows::person))
    }

    fn person_remove(&mut self, id: PersonId) -> TxResult<()> {
        self.write(|sql| &sql.person.person_remove, values![id.0]).map(drop)
    }

    fn membership_put(&mut self, id: PersonId, org: OrgId, membership: Membership) -> TxResult<()> {
        let (role, every) = (membership.role.name().to_owned(), i64::from(membership.is_for_every_org));
        self.write(|sql| &sql.person.membership_put, values![id.0, org.0, role, every]).map(drop)
    }

    fn membership_remove(&mut self, id: PersonId, org: OrgId) -> TxResult<()> {
        self.write(|sql| &sql.person.membership_remove, values![id.0, org.0]).map(drop)
    }

    fn person_link_set(&mut self, id: PersonId, digest: &KeyDigest, until: UnixMs) -> TxResult<()> {
        self.write(|sql| &sql.person.person_link_set, values![digest.to_vec(), until.0, id.0]).map(drop)
    }

    fn person_of_link(&mut self, digest: &KeyDigest) -> TxResult<Option<PersonLink>> {
        let values = values![digest.to_vec()];
        let link = self.ask_first(|sql| &sql.person.person_of_link, values, rows::person_link)?;
        Ok(link.filter(|link| link.until > self.now))
    }

    fn person_password_set(&mut self, id: PersonId, password: &str) -> TxResult<()> {
        self.write(|sql| &sql.person.person_password_set, values![password.to_owned(), id.0]).map(drop)
    }

    fn person_link_use(&mut self, id: PersonId) -> TxResult<()> {
        self.write(|sql| &sql.person.person_link_use, values![id.0]).map(drop)
    }

    fn identity_person(&mut self, identity: &Identity) -> TxResult<Option<PersonId>> {
        let values = values![identity.issuer.clone(), identity.subject.clone()];
        self.ask_first(|sql| &sql.person.identity_person, values, rows::person_id)
    }

    fn identity_count(&mut self, id: PersonId) -> TxResult<i64> {
        self.ask_only(|sql| &sql.person.identity_count, values![id.0], rows::first)
    }

    fn identity_insert(&mut self, identity: &Identity, id: PersonId) -> TxResult<()> {
        let values = values![identity.issuer.clone(), identity.subject.clone(), id.0];
        self.write(|sql| &sql.person.identity_insert, values).map(drop)
    }

    fn identities_remove(&mut self, id: PersonId) -> TxResult<()> {
        self.write(|sql| &sql.person.identities_remove, values![id.0]).map(drop)
    }

    fn person_signed_in(&mut self, id: PersonId) -> TxResult<()> {
        self.write(|sql| &sql.person.person_signed_in, values![self.now.0, id.0]).map(drop)
    }

    fn person_session_insert(&mut self, new: &NewSession, id: PersonId, org: OrgId) -> TxResult<i64> {
        let (now, expires_at) = (self.now.0, self.now.plus_ms(SESSION_MS_MAX).0);
        let address = new.address.map(|address| address.to_string());
        let (digest, agent) = (new.digest.to_vec(), new.agent.clone());
        let values = values![id.0, org.0, digest, now, now, expires_at, address, agent];
        self.write_only(|sql| &sql.person.person_session_insert, values, rows::first)
    }

    fn person_session(&mut self, id: i64) -> TxResult<Option<PersonSession>> {
        self.ask_first(|sql| &sql.person.person_session, values![id], rows::person_session)
    }

    fn person_session_use(&mut self, id: i64, before: UnixMs) -> TxResult<()> {
        self.write(|sql| &sql.person.person_session_use, values![self.now.0, id, before.0]).map(drop)
    }

    fn person_session_end(&mut self, id: i64) -> TxResult<bool> {
        Ok(self.write(|sql| &sql.person.person_session_end, values![id])? > 0)
    }

    fn person_sessions_end(&mut self, id: PersonId, org: Option<OrgId>) -> TxResult<()> {
        match org {
            Some(org) => self.write(|sql| &sql.person.person_sessions_end_in, values![id.0, org.0]),
            None => self.write(|sql| &sql.person.person_sessions_end, values![id.0]),
        }
        .map(drop)
    }

    fn person_sessions_trim(&mut self, id: PersonId, keep: i64) -> TxResult<()> {
        let idle = self.now.plus_ms(-SESSION_IDLE_MS_MAX);
        let values = values![self.now.0, idle.0, id.0, keep];
        self.write(|sql| &sql.person.person_sessions_trim, values).map(drop)
    }
}
