//! People and their sessions.

use covey_core::access::KeyDigest;
use covey_core::id::{OrgId, PersonId, UnixMs};
use covey_core::person::{
    Identity, Membership, NewSession, PeopleFilter, Person, PersonCredential, PersonLink, PersonReader,
    PersonSession, PersonSteps, SESSION_IDLE_MS_MAX, SESSION_MS_MAX,
};
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn, TxResult};
use rusqlite::Connection;

use crate::rows;
use crate::sqlite::Sqlite;
use crate::sqlite::conditions::Conditions;
use crate::sqlite::transaction::SqliteTransaction;

impl PersonReader for Sqlite {
    fn person_credential_of_every_org(&self, name: &str) -> Found<'_, Option<PersonCredential>> {
        let values = [name.to_owned()];
        self.row(ReadKind::Person, Turn::Server, rows::PERSON_CREDENTIAL, values, rows::person_credential)
    }

    fn person_link_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<PersonLink>> {
        self.row(ReadKind::Person, Turn::Server, rows::PERSON_OF_LINK, [digest], rows::person_link)
    }

    fn people_of_every_org(&self, filter: PeopleFilter, page: PageRequest) -> Found<'_, Page<Person>> {
        self.read(ReadKind::PeopleList, Turn::Server, move |connection| people(connection, filter, page))
    }

    fn person_session_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<PersonSession>> {
        let sql = rows::PERSON_SESSION_OF_DIGEST;
        self.row(ReadKind::Person, Turn::Server, sql, [digest], rows::person_session)
    }

    fn person_session_of_number_of_every_org(&self, id: i64) -> Found<'_, Option<PersonSession>> {
        self.row(ReadKind::Person, Turn::Server, rows::PERSON_SESSION, [id], rows::person_session)
    }

    fn person_session_numbers_valid_of_every_org(&self, after: (UnixMs, UnixMs)) -> Found<'_, Vec<i64>> {
        let (sql, values) = (rows::PERSON_SESSION_NUMBERS_VALID, (after.0.0, after.1.0));
        self.rows(ReadKind::ApiKeyList, Turn::Server, sql, values, rows::first)
    }

    fn person_sessions_of_every_org(
        &self,
        filter: PeopleFilter,
        times: (UnixMs, UnixMs),
        page: PageRequest,
    ) -> Found<'_, Page<PersonSession>> {
        self.read(ReadKind::PersonSessionList, Turn::Server, move |connection| {
            sessions(connection, filter, times, page)
        })
    }
}

fn people(
    connection: &Connection,
    filter: PeopleFilter,
    page: PageRequest,
) -> rusqlite::Result<Page<Person>> {
    let mut conditions = Conditions::default();
    conditions.add("m.user_id > ?", 0_i64);
    conditions.add_if("m.org_id = ?", filter.org.map(|org| org.0));
    conditions.add_if("m.user_id = ?", filter.person.map(|person| person.0));
    let clause = conditions.clause();
    let snapshot = connection.unchecked_transaction()?;
    let total = conditions.total(&snapshot, &format!("SELECT count(*) FROM user_orgs m WHERE {clause}"))?;
    let sql = format!(
        "SELECT {} FROM {} WHERE {clause} ORDER BY m.user_id, m.org_id LIMIT {} OFFSET {}",
        rows::person_columns!(),
        rows::people!(),
        page.size,
        page.offset()
    );
    Ok(Page { items: conditions.rows(&snapshot, &sql, rows::person)?, total, is_cut: false })
}

fn sessions(
    connection: &Connection,
    filter: PeopleFilter,
    (now, used_after): (UnixMs, UnixMs),
    page: PageRequest,
) -> rusqlite::Result<Page<PersonSession>> {
    let mut conditions = Conditions::default();
    conditions.add("s.expires_at > ?", now.0);
    conditions.add("s.last_used_at > ?", used_after.0);
    conditions.add_if("s.org_id = ?", filter.org.map(|org| org.0));
    conditions.add_if("s.user_id = ?", filter.person.map(|person| person.0));
    let clause = conditions.clause();
    let from = rows::person_sessions!();
    let snapshot = connection.unchecked_transaction()?;
    let total = conditions.total(&snapshot, &format!("SELECT count(*) FROM {from} WHERE {clause}"))?;
    let sql = format!(
        "SELECT {} FROM {from} WHERE {clause} ORDER BY s.last_used_at DESC, s.id DESC LIMIT {} OFFSET {}",
        rows::person_session_columns!(),
        page.size,
        page.offset()
    );
    Ok(Page { items: conditions.rows(&snapshot, &sql, rows::person_session)?, total, is_cut: false })
}

impl PersonSteps for SqliteTransaction<'_> {
    fn people_exist(&mut self) -> TxResult<bool> {
        self.exists(rows::PEOPLE_EXIST, [])
    }

    fn person_count(&mut self, org: OrgId) -> TxResult<i64> {
        self.only(rows::PERSON_COUNT, [org.0], rows::first)
    }

    fn person_insert(&mut self, name: &str) -> TxResult<Option<PersonId>> {
        self.row(rows::PERSON_INSERT, (name, self.now.0), rows::person_id)
    }

    fn person_named(&mut self, name: &str) -> TxResult<Option<PersonId>> {
        self.row(rows::PERSON_NAMED, [name], rows::person_id)
    }

    fn person_in_orgs(&mut self, id: PersonId) -> TxResult<Vec<Person>> {
        self.rows(rows::PERSON_IN_ORGS, [id.0], rows::person)
    }

    fn person_remove(&mut self, id: PersonId) -> TxResult<()> {
        self.change(rows::PERSON_REMOVE, [id.0]).map(drop)
    }

    fn membership_put(&mut self, id: PersonId, org: OrgId, membership: Membership) -> TxResult<()> {
        let values = (id.0, org.0, membership.role.name(), i64::from(membership.is_for_every_org));
        self.change(rows::MEMBERSHIP_PUT, values).map(drop)
    }

    fn membership_remove(&mut self, id: PersonId, org: OrgId) -> TxResult<()> {
        self.change(rows::MEMBERSHIP_REMOVE, (id.0, org.0)).map(drop)
    }

    fn person_link_set(&mut self, id: PersonId, digest: &KeyDigest, until: UnixMs) -> TxResult<()> {
        self.change(rows::PERSON_LINK_SET, (digest.as_slice(), until.0, id.0)).map(drop)
    }

    fn person_of_link(&mut self, digest: &KeyDigest) -> TxResult<Option<PersonLink>> {
        let link = self.row(rows::PERSON_OF_LINK, [digest.as_slice()], rows::person_link)?;
        Ok(link.filter(|link| link.until > self.now))
    }

    fn person_password_set(&mut self, id: PersonId, password: &str) -> TxResult<()> {
        self.change(rows::PERSON_PASSWORD_SET, (password, id.0)).map(drop)
    }

    fn person_link_use(&mut self, id: PersonId) -> TxResult<()> {
        self.change(rows::PERSON_LINK_USE, [id.0]).map(drop)
    }

    fn identity_person(&mut self, identity: &Identity) -> TxResult<Option<PersonId>> {
        let values = (identity.issuer.as_str(), identity.subject.as_str());
        self.row(rows::IDENTITY_PERSON, values, rows::person_id)
    }

    fn identity_count(&mut self, id: PersonId) -> TxResult<i64> {
        self.only(rows::IDENTITY_COUNT, [id.0], rows::first)
    }

    fn identity_insert(&mut self, identity: &Identity, id: PersonId) -> TxResult<()> {
        let values = (identity.issuer.as_str(), identity.subject.as_str(), id.0);
        self.change(rows::IDENTITY_INSERT, values).map(drop)
    }

    fn identities_remove(&mut self, id: PersonId) -> TxResult<()> {
        self.change(rows::IDENTITIES_REMOVE, [id.0]).map(drop)
    }

    fn person_signed_in(&mut self, id: PersonId) -> TxResult<()> {
        self.change(rows::PERSON_SIGNED_IN, (self.now.0, id.0)).map(drop)
    }

    fn person_session_insert(&mut self, new: &NewSession, id: PersonId, org: OrgId) -> TxResult<i64> {
        let (now, expires_at) = (self.now.0, self.now.plus_ms(SESSION_MS_MAX).0);
        let address = new.address.map(|address| address.to_string());
        let values = (id.0, org.0, new.digest.as_slice(), now, now, expires_at, address, new.agent.as_str());
        self.only(rows::PERSON_SESSION_INSERT, values, rows::first)
    }

    fn person_session(&mut self, id: i64) -> TxResult<Option<PersonSession>> {
        self.row(rows::PERSON_SESSION, [id], rows::person_session)
    }

    fn person_session_use(&mut self, id: i64, before: UnixMs) -> TxResult<()> {
        let sql = "UPDATE user_sessions SET last_used_at = ?1 WHERE id = ?2 AND last_used_at <= ?3";
        self.change(sql, (self.now.0, id, before.0)).map(drop)
    }

    fn person_session_end(&mut self, id: i64) -> TxResult<bool> {
        Ok(self.change(rows::PERSON_SESSION_END, [id])? > 0)
    }

    fn person_sessions_end(&mut self, id: PersonId, org: Option<OrgId>) -> TxResult<()> {
        match org {
            Some(org) => self.change(rows::PERSON_SESSIONS_END_IN, (id.0, org.0)),
            None => self.change(rows::PERSON_SESSIONS_END, [id.0]),
        }
        .map(drop)
    }

    fn person_sessions_trim(&mut self, id: PersonId, keep: i64) -> TxResult<()> {
        let sql = "DELETE FROM user_sessions WHERE expires_at <= ?1 OR last_used_at <= ?2 OR id IN \
             (SELECT id FROM user_sessions WHERE user_id = ?3 ORDER BY last_used_at DESC, id DESC LIMIT -1 OFFSET ?4)";
        let idle = self.now.plus_ms(-SESSION_IDLE_MS_MAX);
        self.change(sql, (self.now.0, idle.0, id.0, keep)).map(drop)
    }
}
