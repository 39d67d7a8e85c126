//! Reads of people and their sessions.

use covey_core::access::KeyDigest;
use covey_core::id::UnixMs;
use covey_core::person::{PeopleFilter, Person, PersonCredential, PersonLink, PersonReader, PersonSession};
use covey_core::port::{Found, Page, PageRequest, ReadKind, Turn};

use crate::postgres::Postgres;
use crate::postgres::lists::{Conditions, page};
use crate::postgres::pipeline::values;
use crate::postgres::pool::ReadSession;
use crate::rows::{self, Read};

impl PersonReader for Postgres {
    fn person_credential_of_every_org(&self, name: &str) -> Found<'_, Option<PersonCredential>> {
        let values = values![name.to_owned()];
        let read = rows::person_credential;
        self.row(ReadKind::Person, Turn::Server, |sql| &sql.person.person_credential, values, read)
    }

    fn person_link_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<PersonLink>> {
        let values = values![digest.to_vec()];
        self.row(ReadKind::Person, Turn::Server, |sql| &sql.person.person_of_link, values, rows::person_link)
    }

    fn people_of_every_org(&self, filter: PeopleFilter, page: PageRequest) -> Found<'_, Page<Person>> {
        self.reads.read(ReadKind::PeopleList, Turn::Server, move |session| {
            Box::pin(async move { people(session, filter, page).await })
        })
    }

    fn person_session_of_every_org(&self, digest: KeyDigest) -> Found<'_, Option<PersonSession>> {
        let (values, read) = (values![digest.to_vec()], rows::person_session);
        self.row(ReadKind::Person, Turn::Server, |sql| &sql.person.person_session_of_digest, values, read)
    }

    fn person_session_of_number_of_every_org(&self, id: i64) -> Found<'_, Option<PersonSession>> {
        let read = rows::person_session;
        self.row(ReadKind::Person, Turn::Server, |sql| &sql.person.person_session, values![id], read)
    }

    fn person_session_numbers_valid_of_every_org(&self, after: (UnixMs, UnixMs)) -> Found<'_, Vec<i64>> {
        let (kind, values) = (ReadKind::ApiKeyList, values![after.0.0, after.1.0]);
        self.rows(kind, Turn::Server, |sql| &sql.person.person_session_numbers_valid, values, rows::first)
    }

    fn person_sessions_of_every_org(
        &self,
        filter: PeopleFilter,
        times: (UnixMs, UnixMs),
        page: PageRequest,
    ) -> Found<'_, Page<PersonSession>> {
        self.reads.read(ReadKind::PersonSessionList, Turn::Server, move |session| {
            Box::pin(async move { sessions(session, filter, times, page).await })
        })
    }
}

async fn people(session: &ReadSession, filter: PeopleFilter, request: PageRequest) -> Read<Page<Person>> {
    let mut conditions = Conditions::default();
    conditions.sql.push("TRUE".to_owned());
    conditions.number("m.org_id = #", filter.org.map(|org| org.0));
    conditions.number("m.user_id = #", filter.person.map(|person| person.0));
    let clause = conditions.clause();
    let total = format!("SELECT count(*) FROM user_orgs m WHERE {clause}");
    let items = format!(
        "SELECT {} FROM {} WHERE {clause} ORDER BY m.user_id, m.org_id LIMIT {} OFFSET {}",
        rows::person_columns!(),
        rows::people!(),
        request.size,
        request.offset()
    );
    let (total, found) = page(session, &conditions, &total, &items).await?;
    Ok(Page { items: rows::each(&found, rows::person)?, total, is_cut: false })
}

async fn sessions(
    session: &ReadSession,
    filter: PeopleFilter,
    (now, used_after): (UnixMs, UnixMs),
    request: PageRequest,
) -> Read<Page<PersonSession>> {
    let mut conditions = Conditions::default();
    conditions.number("s.expires_at > #", Some(now.0));
    conditions.number("s.last_used_at > #", Some(used_after.0));
    conditions.number("s.org_id = #", filter.org.map(|org| org.0));
    conditions.number("s.user_id = #", filter.person.map(|person| person.0));
    let (clause, from) = (conditions.clause(), rows::person_sessions!());
    let total = format!("SELECT count(*) FROM {from} WHERE {clause}");
    let items = format!(
        "SELECT {} FROM {from} WHERE {clause} ORDER BY s.last_used_at DESC, s.id DESC LIMIT {} OFFSET {}",
        rows::person_session_columns!(),
        request.size,
        request.offset()
    );
    let (total, found) = page(session, &conditions, &total, &items).await?;
    Ok(Page { items: rows::each(&found, rows::person_session)?, total, is_cut: false })
}
