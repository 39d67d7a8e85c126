//! People, the organisations that they are in, and their sessions.

use covey_core::access::Role;
use covey_core::id::PersonId;
use covey_core::person::{Membership, Person, PersonCredential, PersonLink, PersonSession};

use crate::rows::{Columns, Damaged, Read, get};

/// The columns of a person `u` in an organisation `o` by `m`, in the order that [`person`] reads them.
macro_rules! person_columns {
    () => {
        "u.id, u.name, o.id, o.name, m.role, m.every_org, CASE WHEN u.password IS NULL THEN 0 ELSE 1 END, u.link_until, \
         u.created_at, u.signed_in_at"
    };
}
pub(crate) use person_columns;

/// People in their organisations.
macro_rules! people {
    () => {
        "user_orgs m JOIN users u ON u.id = m.user_id JOIN orgs o ON o.id = m.org_id"
    };
}
pub(crate) use people;

/// The columns of a session `s`, in the order that [`person_session`] reads them.
macro_rules! person_session_columns {
    () => {
        "s.id, u.id, u.name, o.id, o.name, m.role, m.every_org, s.created_at, s.last_used_at, s.expires_at, s.address, \
         s.agent"
    };
}
pub(crate) use person_session_columns;

/// Sessions of people who are in the organisation.
macro_rules! person_sessions {
    () => {
        "user_sessions s JOIN user_orgs m ON m.user_id = s.user_id AND m.org_id = s.org_id \
         JOIN users u ON u.id = s.user_id JOIN orgs o ON o.id = s.org_id"
    };
}
pub(crate) use person_sessions;

/// What somebody is given, from a role and whether it is for every organisation.
fn membership(row: &dyn Columns, role: usize) -> Read<Membership> {
    Ok(Membership {
        role: Role::from_name(get(row, role)?).ok_or(Damaged::Value(role, "role"))?,
        is_for_every_org: get::<i64>(row, role + 1)? != 0,
    })
}

/// A person, from `person_columns!`.
pub(crate) fn person(row: &dyn Columns) -> Read<Person> {
    let Membership { role, is_for_every_org } = membership(row, 4)?;
    Ok(Person {
        id: PersonId(get(row, 0)?),
        name: get(row, 1)?,
        org: get(row, 2)?,
        org_name: get(row, 3)?,
        role,
        is_for_every_org,
        has_password: get::<i64>(row, 6)? != 0,
        link_until: get(row, 7)?,
        created_at: get(row, 8)?,
        signed_in_at: get(row, 9)?,
    })
}

/// A session, from `person_session_columns!`.
pub(crate) fn person_session(row: &dyn Columns) -> Read<PersonSession> {
    let address: Option<&str> = get(row, 10)?;
    let address = address.map(str::parse).transpose().map_err(|_| Damaged::Value(10, "address"))?;
    Ok(PersonSession {
        id: get(row, 0)?,
        person: PersonId(get(row, 1)?),
        name: get(row, 2)?,
        org: get(row, 3)?,
        org_name: get(row, 4)?,
        membership: membership(row, 5)?,
        created_at: get(row, 7)?,
        last_used_at: get(row, 8)?,
        expires_at: get(row, 9)?,
        address,
        agent: get(row, 11)?,
    })
}

/// A person's number alone.
pub(crate) fn person_id(row: &dyn Columns) -> Read<PersonId> {
    get(row, 0).map(PersonId)
}

/// What is known of a name, from `PERSON_CREDENTIAL`.
pub(crate) fn person_credential(row: &dyn Columns) -> Read<PersonCredential> {
    Ok(PersonCredential { id: PersonId(get(row, 0)?), name: get(row, 1)?, password: get(row, 2)? })
}

/// Whose a link is, from `PERSON_OF_LINK`.
pub(crate) fn person_link(row: &dyn Columns) -> Read<PersonLink> {
    Ok(PersonLink { id: PersonId(get(row, 0)?), name: get(row, 1)?, until: get(row, 2)? })
}

/// Whether there is anybody.
pub(crate) const PEOPLE_EXIST: &str = "SELECT 1 FROM users LIMIT 1";
/// How many people an organisation has.
pub(crate) const PERSON_COUNT: &str = "SELECT count(*) FROM user_orgs WHERE org_id = $1";
/// A new person, none if the name is taken: name, now.
pub(crate) const PERSON_INSERT: &str =
    "INSERT INTO users (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING id";
/// The person of a name.
pub(crate) const PERSON_NAMED: &str = "SELECT id FROM users WHERE name = $1";
/// A person in each of its organisations.
pub(crate) const PERSON_IN_ORGS: &str =
    concat!("SELECT ", person_columns!(), " FROM ", people!(), " WHERE u.id = $1 ORDER BY o.id");
/// Removes a person.
pub(crate) const PERSON_REMOVE: &str = "DELETE FROM users WHERE id = $1";
/// What a person may do in an organisation: person, organisation, role, for every organisation.
pub(crate) const MEMBERSHIP_PUT: &str = "INSERT INTO user_orgs (user_id, org_id, role, every_org) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (user_id, org_id) DO UPDATE SET role = excluded.role, every_org = excluded.every_org";
/// Takes a person out of an organisation: person, organisation.
pub(crate) const MEMBERSHIP_REMOVE: &str = "DELETE FROM user_orgs WHERE user_id = $1 AND org_id = $2";
/// Gives a person a link: digest, until, person.
pub(crate) const PERSON_LINK_SET: &str = "UPDATE users SET link = $1, link_until = $2 WHERE id = $3";
/// Whose a link is.
pub(crate) const PERSON_OF_LINK: &str =
    "SELECT id, name, link_until FROM users WHERE link = $1 AND link_until IS NOT NULL";
/// Sets a password, and uses up a link: password, person.
pub(crate) const PERSON_PASSWORD_SET: &str =
    "UPDATE users SET password = $1, link = NULL, link_until = NULL WHERE id = $2";
/// Remembers that a person has signed in: now, person.
pub(crate) const PERSON_SIGNED_IN: &str = "UPDATE users SET signed_in_at = $1 WHERE id = $2";
/// What is known of a name.
pub(crate) const PERSON_CREDENTIAL: &str = "SELECT id, name, password FROM users WHERE name = $1";

/// A new session: person, organisation, digest, made, last used, expires, address, agent.
pub(crate) const PERSON_SESSION_INSERT: &str = "INSERT INTO user_sessions (user_id, org_id, digest, created_at, last_used_at, expires_at, address, agent) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id";
/// The session of a number.
pub(crate) const PERSON_SESSION: &str =
    concat!("SELECT ", person_session_columns!(), " FROM ", person_sessions!(), " WHERE s.id = $1");
/// The session of a digest.
pub(crate) const PERSON_SESSION_OF_DIGEST: &str =
    concat!("SELECT ", person_session_columns!(), " FROM ", person_sessions!(), " WHERE s.digest = $1");
/// Ends a session.
pub(crate) const PERSON_SESSION_END: &str = "DELETE FROM user_sessions WHERE id = $1";
/// Ends the sessions of a person.
pub(crate) const PERSON_SESSIONS_END: &str = "DELETE FROM user_sessions WHERE user_id = $1";
/// The same in an organisation: person, organisation.
pub(crate) const PERSON_SESSIONS_END_IN: &str =
    "DELETE FROM user_sessions WHERE user_id = $1 AND org_id = $2";

/// Uses up a link.
pub(crate) const PERSON_LINK_USE: &str = "UPDATE users SET link = NULL, link_until = NULL WHERE id = $1";
/// Whom a provider means: issuer, subject.
pub(crate) const IDENTITY_PERSON: &str =
    "SELECT user_id FROM user_identities WHERE issuer = $1 AND subject = $2";
/// How many identities a person has.
pub(crate) const IDENTITY_COUNT: &str = "SELECT count(*) FROM user_identities WHERE user_id = $1";
/// Whom a provider means: issuer, subject, person.
pub(crate) const IDENTITY_INSERT: &str =
    "INSERT INTO user_identities (issuer, subject, user_id) VALUES ($1, $2, $3)";
/// Forgets by what providers mean a person.
pub(crate) const IDENTITIES_REMOVE: &str = "DELETE FROM user_identities WHERE user_id = $1";
/// The numbers of sessions that are not over: now, used after.
pub(crate) const PERSON_SESSION_NUMBERS_VALID: &str =
    "SELECT id FROM user_sessions WHERE expires_at > $1 AND last_used_at > $2";
