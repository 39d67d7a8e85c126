//! People and their sessions. Steps on them are rare, so each is a statement of its own.

mod reads;
mod steps;

use covey_core::error::Result;

use crate::postgres::prepared::prepared;
use crate::rows;

prepared! {
    /// Those of the connection that writes.
    Writing {
        /// Makes those wait who are about to make the first person.
        people_lock: "SELECT pg_advisory_xact_lock($1::int4, 0)";
        /// Whether there is anybody.
        people_exist: rows::PEOPLE_EXIST;
        /// How many people an organisation has.
        person_count: rows::PERSON_COUNT;
        /// A new person.
        person_insert: rows::PERSON_INSERT;
        /// The person of a name.
        person_named: rows::PERSON_NAMED;
        /// A person in each of its organisations.
        person_in_orgs: rows::PERSON_IN_ORGS;
        /// Removes a person.
        person_remove: rows::PERSON_REMOVE;
        /// What a person may do in an organisation.
        membership_put: rows::MEMBERSHIP_PUT;
        /// Takes a person out of an organisation.
        membership_remove: rows::MEMBERSHIP_REMOVE;
        /// Gives a person a link.
        person_link_set: rows::PERSON_LINK_SET;
        /// Whose a link is. Who would use it as well waits.
        person_of_link: "SELECT id, name, link_until FROM users WHERE link = $1 AND link_until IS NOT NULL FOR UPDATE";
        /// Sets a password.
        person_password_set: rows::PERSON_PASSWORD_SET;
        /// Uses up a link.
        person_link_use: rows::PERSON_LINK_USE;
        /// Whom a provider means.
        identity_person: rows::IDENTITY_PERSON;
        /// How many identities a person has.
        identity_count: rows::IDENTITY_COUNT;
        /// Remembers whom a provider means.
        identity_insert: rows::IDENTITY_INSERT;
        /// Forgets by what providers mean a person.
        identities_remove: rows::IDENTITIES_REMOVE;
        /// Remembers that a person has signed in.
        person_signed_in: rows::PERSON_SIGNED_IN;
        /// A new session.
        person_session_insert: rows::PERSON_SESSION_INSERT;
        /// The session of a number.
        person_session: rows::PERSON_SESSION;
        /// Remembers that a session was used: now, session, before. Waits for nobody.
        person_session_use: "UPDATE user_sessions SET last_used_at = $1 WHERE id IN (SELECT id FROM user_sessions \
            WHERE id = $2 AND last_used_at <= $3 FOR NO KEY UPDATE SKIP LOCKED)";
        /// Ends a session.
        person_session_end: rows::PERSON_SESSION_END;
        /// Ends the sessions of a person.
        person_sessions_end: rows::PERSON_SESSIONS_END;
        /// The same in an organisation.
        person_sessions_end_in: rows::PERSON_SESSIONS_END_IN;
        /// Removes those that are over, and of a person's all but those that were used last: now, used after, person, how
        /// many stay. Waits for nobody.
        person_sessions_trim: "DELETE FROM user_sessions WHERE id IN (SELECT id FROM user_sessions \
            WHERE expires_at <= $1 OR last_used_at <= $2 OR id IN (SELECT id FROM user_sessions WHERE user_id = $3 \
            ORDER BY last_used_at DESC, id DESC OFFSET $4) FOR UPDATE SKIP LOCKED)";
    }
}

prepared! {
    /// Those of a connection that reads.
    Reading {
        /// What is known of a name.
        person_credential: rows::PERSON_CREDENTIAL;
        /// Whose a link is.
        person_of_link: rows::PERSON_OF_LINK;
        /// The session of a digest.
        person_session_of_digest: rows::PERSON_SESSION_OF_DIGEST;
        /// The numbers of sessions that are not over.
        person_session_numbers_valid: rows::PERSON_SESSION_NUMBERS_VALID;
        /// The session of a number.
        person_session: rows::PERSON_SESSION;
    }
}
