//! What both databases have alike: the columns of each noun, how a row becomes a
//! value of the domain and back, and the statements that read the same in both.

mod access;
mod audit;
mod certificate;
mod columns;
mod device;
mod device_session;
mod enrolment;
mod event;
mod grants;
mod node;
mod own_limits;
mod person;
mod presence;
mod quota;
mod record;
mod retention;
mod scope;
mod task;
mod token;
mod twin;
mod unit;
mod usage;
mod webhook;

pub(crate) use access::*;
pub(crate) use audit::*;
pub(crate) use certificate::*;
pub(crate) use columns::*;
pub(crate) use device::*;
pub(crate) use device_session::*;
pub(crate) use enrolment::*;
pub(crate) use event::*;
pub(crate) use grants::*;
pub(crate) use node::*;
pub(crate) use own_limits::*;
pub(crate) use person::*;
pub(crate) use presence::*;
pub(crate) use quota::*;
pub(crate) use record::*;
pub(crate) use retention::*;
pub(crate) use scope::*;
pub(crate) use task::*;
pub(crate) use token::*;
pub(crate) use twin::*;
pub(crate) use unit::*;
pub(crate) use usage::*;
pub(crate) use webhook::*;

#[cfg(test)]
mod tests {
    /// SQLite numbers the parameters of a statement as they appear, PostgreSQL as they are named.
    #[test]
    fn statements_for_both_name_their_parameters_in_the_order_in_which_they_appear() {
        for sql in [
            super::ORG_ENSURE,
            super::ORG_INSERT,
            super::ORG_RENAME,
            super::ORG_LIST,
            super::API_KEY_INSERT,
            super::API_KEY,
            super::AUDIT_HEAD,
            super::AUDIT_ROWS,
            super::USAGE,
            super::OWN_LIMITS,
            super::OWN_LIMITS_PUT,
            super::ORG_OF_NUMBER,
            super::ORG_OF_NAME,
            super::TOKEN_KEY_INSERT,
            super::TOKEN_KEYS_FORGET,
            super::PERSON_COUNT,
            super::PERSON_INSERT,
            super::PERSON_NAMED,
            super::PERSON_IN_ORGS,
            super::PERSON_REMOVE,
            super::MEMBERSHIP_PUT,
            super::MEMBERSHIP_REMOVE,
            super::PERSON_LINK_SET,
            super::PERSON_OF_LINK,
            super::PERSON_PASSWORD_SET,
            super::PERSON_SIGNED_IN,
            super::PERSON_LINK_USE,
            super::PERSON_SESSION_NUMBERS_VALID,
            super::IDENTITY_PERSON,
            super::IDENTITY_COUNT,
            super::IDENTITY_INSERT,
            super::IDENTITIES_REMOVE,
            super::PERSON_CREDENTIAL,
            super::PERSON_SESSION_INSERT,
            super::PERSON_SESSION,
            super::PERSON_SESSION_OF_DIGEST,
            super::PERSON_SESSION_END,
            super::PERSON_SESSIONS_END,
            super::PERSON_SESSIONS_END_IN,
            super::RETENTION_PUT,
            super::RETENTION_REMOVE,
            super::SN_IS_TAKEN,
            super::DEVICE_OF_NAME,
            super::DEVICE_ID_FREE,
            super::DEVICE_RETIRE,
            super::CERTIFICATES_REVOKE,
            super::TAGS_BESIDE,
            super::CERTIFICATE_REVOKE,
            super::CERTIFICATES_UNREVOKED,
            super::REVOKED_COUNT,
            super::REVOKED,
            super::DEVICE_OF_SN,
            super::DEVICE_SNS,
            super::DEVICE_OF_CERTIFICATE,
            super::SESSION_OF_CERTIFICATE,
            super::SESSION_REMOVE,
            super::CLAIM_OF_CERTIFICATE,
            super::CLAIM,
            super::CLAIMS_REACH,
            super::CLAIM_INSERT,
            super::CLAIM_SERIALS_COUNT,
            super::CLAIM_SERIAL,
            super::CLAIM_SERIAL_USE,
            super::CLAIM_USE_INSERT,
            super::CLAIM_COUNT,
            super::CLAIM_SERIAL_RELEASE,
            super::CLAIM_REVOKE,
            super::CERTIFICATE_END,
            super::CERTIFICATES_SINCE,
            super::CERTIFICATES_SUPERSEDE,
            super::NODE_OF_NAME,
            super::NODE,
            super::NODE_OF_DEVICE,
            super::REGISTERED,
            super::NODES_REACH,
            super::NODE_INSERT,
            super::NODE_UPDATE,
            super::NODE_REMOVE,
            super::NODE_REMOVE_OF_DEVICE,
            super::NODES_PASSING_FROM,
            super::NODES_PASSING_AT,
            super::NODE_COUNTS,
            super::UNIT,
            super::UNIT_OF_NAME,
            super::UNIT_AT,
            super::UNITS_REACH,
            super::UNIT_INSERT,
            super::UNIT_UPDATE,
            super::UNIT_REMOVE,
            super::UNIT_GATEWAY_CLAIM,
            super::UNITS_OF,
            super::WEBHOOK_COUNT,
            super::WEBHOOK_UPDATE,
            super::WEBHOOK_DELETE,
            super::WEBHOOK_RELEASE,
            super::WEBHOOK_NEXT_LOG,
            super::WEBHOOK_TRIM_LOG,
            super::WEBHOOK_LIST,
        ] {
            let names = sql.split('$').skip(1).map(|rest| {
                rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>()
            });
            let names: Vec<_> = names.map(Result::unwrap_or_default).collect();
            assert_eq!(names, (1..=names.len()).collect::<Vec<_>>(), "{sql}");
        }
    }
}
