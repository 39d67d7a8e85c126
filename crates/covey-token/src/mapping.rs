//! What a token says of its bearer, in the words of Covey: organisation, rights, name.

use std::collections::BTreeMap;
use std::sync::Arc;

use covey_core::access::{RIGHT_NAMES, Rights};
use covey_core::id::OrgId;
use covey_core::token::OrgWanted;
use serde_json::{Map, Value};

use crate::fault::TokenFault;

/// Longest name of a bearer, in characters.
/// Limit for each token: the rest is left out.
const NAME_CHARS_MAX: usize = 128;
/// How many names of a list of rights or roles are looked at.
/// Limit for each token: the others count for nothing.
const NAMES_MAX: usize = 256;
/// Where a bearer's name is looked for, the first one first.
const NAME_CLAIMS: [&str; 4] = ["name", "preferred_username", "email", "sub"];
/// Where rights are looked for.
const RIGHTS_CLAIMS: [&str; 2] = ["rights", "scope"];

/// Which organisation a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrgFrom {
    /// The one that a claim names: a number is its number, a text its name.
    Claim(String),
    /// Always this one.
    Fixed(OrgWanted),
}

/// How the claims of an issuer's tokens are read.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// Which organisation.
    pub org: OrgFrom,
    /// The claim that lists rights, if that is not `rights` and `scope`.
    pub rights_claim: Option<String>,
    /// The claim that lists roles.
    pub roles_claim: String,
    /// What a role may do.
    pub roles: BTreeMap<String, Rights>,
    /// What tokens of this issuer may do at most.
    pub rights_max: Rights,
}

impl Mapping {
    /// The organisation.
    ///
    /// # Errors
    /// [`TokenFault::NoOrganisation`].
    pub fn org(&self, claims: &Map<String, Value>) -> Result<OrgWanted, TokenFault> {
        org_of(&self.org, claims)
    }

    /// The rights: those that are named, and those of the roles. Names that mean nothing here count for nothing.
    #[must_use]
    pub fn rights(&self, claims: &Map<String, Value>) -> Rights {
        let mut rights = Rights::default();
        let lists = match &self.rights_claim {
            Some(path) => vec![claim(claims, path)],
            None => RIGHTS_CLAIMS.map(|name| claims.get(name)).to_vec(),
        };
        for name in lists.into_iter().flat_map(names) {
            rights.0 |= RIGHT_NAMES.iter().position(|known| *known == name).map_or(0, |bit| 1 << bit);
        }
        for role in names(claim(claims, &self.roles_claim)) {
            rights.0 |= self.roles.get(role).map_or(0, |rights| rights.0);
        }
        Rights(rights.0 & self.rights_max.0)
    }

    /// What its bearer is called.
    #[must_use]
    pub fn name(claims: &Map<String, Value>) -> Arc<str> {
        let named = NAME_CLAIMS.iter().filter_map(|claim| claims.get(*claim)?.as_str());
        let name = named.map(str::trim).find(|name| !name.is_empty()).unwrap_or("token");
        name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect::<String>().into()
    }
}

/// The organisation that claims name.
///
/// # Errors
/// [`TokenFault::NoOrganisation`].
pub fn org_of(from: &OrgFrom, claims: &Map<String, Value>) -> Result<OrgWanted, TokenFault> {
    let path = match from {
        OrgFrom::Fixed(org) => return Ok(org.clone()),
        OrgFrom::Claim(path) => path,
    };
    match claim(claims, path) {
        Some(Value::Number(number)) => {
            number.as_i64().filter(|id| *id > 0).map(|id| OrgWanted::Number(OrgId(id)))
        }
        Some(Value::String(name)) if !name.is_empty() => Some(OrgWanted::Name(name.clone())),
        _ => None,
    }
    .ok_or(TokenFault::NoOrganisation)
}

/// The claim at a path such as `realm_access.roles`: the one that is called so as a whole, else one name after the other.
#[must_use]
pub fn claim<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    claims.get(path).or_else(|| {
        let (first, rest) = path.split_once('.')?;
        claim(claims.get(first)?.as_object()?, rest)
    })
}

/// The names in a list, or in a text with spaces between them (RFC 8693 §4.2 "scope").
fn names(list: Option<&Value>) -> Vec<&str> {
    match list {
        Some(Value::String(text)) => {
            text.split(' ').filter(|name| !name.is_empty()).take(NAMES_MAX).collect()
        }
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).take(NAMES_MAX).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn mapping(org: &str) -> Mapping {
        Mapping {
            org: OrgFrom::Claim(org.to_owned()),
            rights_claim: None,
            roles_claim: "realm_access.roles".to_owned(),
            roles: BTreeMap::from([(
                "operator".to_owned(),
                Rights(Rights::TASKS_READ.0 | Rights::TASKS_WRITE.0),
            )]),
            rights_max: Rights(Rights::ALL.0 & !Rights::ORGS_ADMIN.0),
        }
    }

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn an_organisation_is_a_number_or_a_name_at_its_path() {
        let number = |id| Ok(OrgWanted::Number(OrgId(id)));
        let name = |name: &str| Ok(OrgWanted::Name(name.to_owned()));
        let none = Err(TokenFault::NoOrganisation);
        for (path, value, expected) in [
            ("orgId", json!({"orgId": 7}), number(7)),
            ("orgId", json!({"orgId": "7"}), name("7")),
            ("orgId", json!({"orgId": "acme"}), name("acme")),
            ("a.b", json!({"a": {"b": 7}}), number(7)),
            ("a.b", json!({"a.b": 8, "a": {"b": 7}}), number(8)),
            ("https://x.example/org", json!({"https://x.example/org": "acme"}), name("acme")),
            ("a.b.c", json!({"a": {"b.c": 9}}), number(9)),
            ("orgId", json!({}), none.clone()),
            ("orgId", json!({"orgId": ""}), none.clone()),
            ("orgId", json!({"orgId": 0}), none.clone()),
            ("orgId", json!({"orgId": -1}), none.clone()),
            ("orgId", json!({"orgId": 1.5}), none.clone()),
            ("orgId", json!({"orgId": 1e300}), none.clone()),
            ("orgId", json!({"orgId": [7]}), none.clone()),
            ("orgId", json!({"orgId": null}), none.clone()),
            ("a.b", json!({"a": 7}), none),
        ] {
            assert_eq!(mapping(path).org(&claims(value.clone())), expected, "{path} {value}");
        }
        let fixed = Mapping { org: OrgFrom::Fixed(OrgWanted::Number(OrgId(3))), ..mapping("") };
        assert_eq!(fixed.org(&claims(json!({"orgId": 7}))), number(3));
    }

    #[test]
    fn rights_are_those_that_are_named_and_those_of_roles_within_what_the_issuer_may_give() {
        for (value, expected) in [
            (json!({}), vec![]),
            (json!({"rights": ["tasks:read", "root", 7]}), vec!["tasks:read"]),
            (json!({"rights": "tasks:read devices:read"}), vec!["tasks:read", "devices:read"]),
            (json!({"scope": "openid events:read"}), vec!["events:read"]),
            (json!({"scope": "openid", "rights": ["events:read"]}), vec!["events:read"]),
            (json!({"realm_access": {"roles": ["operator", "nobody"]}}), vec!["tasks:read", "tasks:write"]),
            (json!({"rights": ["orgs:admin", "keys:write"]}), vec!["keys:write"]),
            (json!({"rights": {"tasks:read": true}, "realm_access": []}), vec![]),
        ] {
            let rights = mapping("orgId").rights(&claims(value.clone()));
            assert_eq!(rights.names().collect::<Vec<_>>(), expected, "{value}");
        }
        let own = Mapping { rights_claim: Some("app.can".to_owned()), ..mapping("orgId") };
        let rights = own.rights(&claims(json!({"app": {"can": ["events:read"]}, "rights": ["tasks:read"]})));
        assert_eq!(rights, Rights::EVENTS_READ);
    }

    #[test]
    fn a_bearer_is_called_by_the_first_name_there_is() {
        for (value, name) in [
            (json!({"sub": "u-7"}), "u-7"),
            (json!({"sub": "u-7", "email": "a@b.example"}), "a@b.example"),
            (json!({"sub": "u-7", "preferred_username": "ann", "email": "a@b.example"}), "ann"),
            (json!({"sub": "u-7", "name": " Ann\u{7} Lee ", "preferred_username": "ann"}), "Ann Lee"),
            (json!({"name": 7, "sub": ""}), "token"),
        ] {
            assert_eq!(&*Mapping::name(&claims(value.clone())), name, "{value}");
        }
        let long = Mapping::name(&claims(json!({"name": "ü".repeat(1_000)})));
        assert_eq!(long.chars().count(), NAME_CHARS_MAX);
    }
}
