//! Settings of tokens: the issuers that are trusted.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::str::FromStr;

use covey_core::access::{Rights, Role};
use covey_core::id::OrgId;
use covey_core::token::OrgWanted;
use covey_token::{
    IssuerConfig, KeySource, LEEWAY_SECONDS_MAX, Mapping, OrgFrom, REFRESH_SECONDS_MAX, REFRESH_SECONDS_MIN,
};
use serde::{Deserialize, Serialize};

/// How much the clock of an issuer may differ unless it is said, in seconds.
const LEEWAY_SECONDS_DEFAULT: u32 = 30;
/// How old the keys of an issuer may become unless it is said, in seconds.
const REFRESH_SECONDS_DEFAULT: u32 = 300;
/// The claims that are read unless it is said.
const ORG_CLAIM_DEFAULT: &str = "orgId";
const ROLES_CLAIM_DEFAULT: &str = "roles";

/// An issuer of tokens that is trusted: a table `[[token_issuers]]` of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenIssuer {
    /// Its name, as in `iss`.
    pub issuer: String,
    /// Of whom its tokens must name one, as in `aud`.
    pub audience: String,
    /// A file (PEM, JWK, or JWK set) or the URL of a JWK set; without it OpenID Connect Discovery at the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// The one organisation that its tokens are for, by number or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<OrgName>,
    /// The claim that names the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_claim: Option<String>,
    /// The claim that lists rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights_claim: Option<String>,
    /// The claim that lists roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles_claim: Option<String>,
    /// What its tokens may do at most: rights and roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights_max: Option<Vec<String>>,
    /// How much its clock may differ, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leeway_seconds: Option<u32>,
    /// How old its keys may become, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_seconds: Option<u32>,
    /// What a role of the issuer may do here: rights and roles.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, Vec<String>>,
}

/// An organisation by its number or name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum OrgName {
    Number(i64),
    Name(String),
}

impl FromStr for OrgName {
    type Err = Infallible;

    /// Of digits alone it is a number.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Number))
    }
}

impl TokenIssuer {
    /// What it comes to.
    ///
    /// # Errors
    /// The setting, and what it must be.
    pub fn config(&self) -> Result<IssuerConfig, String> {
        let must = |name: &str, what: &str| format!("token_issuers.{name} of {} must be {what}", self.issuer);
        if self.issuer.is_empty() {
            return Err(
                "token_issuers.issuer must be the name of an issuer, as its tokens have it in iss".to_owned()
            );
        }
        if self.audience.is_empty() {
            return Err(must("audience", "given: whom a token of this issuer must be for (aud)"));
        }
        let keys = match &self.keys {
            Some(place) => {
                KeySource::parse(place).map_err(|what| must("keys", &format!("a file or {what}")))?
            }
            None => KeySource::of_issuer(&self.issuer)
                .map_err(|what| must("keys", &format!("given, unless the issuer is {what}")))?,
        };
        let leeway_seconds = self.leeway_seconds.unwrap_or(LEEWAY_SECONDS_DEFAULT);
        if leeway_seconds > LEEWAY_SECONDS_MAX {
            return Err(must("leeway_seconds", &format!("0 to {LEEWAY_SECONDS_MAX}")));
        }
        let refresh_seconds = self.refresh_seconds.unwrap_or(REFRESH_SECONDS_DEFAULT);
        if !(REFRESH_SECONDS_MIN..=REFRESH_SECONDS_MAX).contains(&refresh_seconds) {
            return Err(must("refresh_seconds", &format!("{REFRESH_SECONDS_MIN} to {REFRESH_SECONDS_MAX}")));
        }
        let org = match (&self.org, &self.org_claim) {
            (Some(_), Some(_)) => return Err(must("org", "left out where org_claim is given")),
            (Some(OrgName::Number(id)), None) => OrgFrom::Fixed(OrgWanted::Number(OrgId(*id))),
            (Some(OrgName::Name(name)), None) => OrgFrom::Fixed(OrgWanted::Name(name.clone())),
            (None, claim) => OrgFrom::Claim(claim.as_deref().unwrap_or(ORG_CLAIM_DEFAULT).to_owned()),
        };
        let known = "rights such as tasks:read, or the roles admin, operator, integrator, viewer";
        let roles = self.roles.iter().map(|(role, names)| {
            rights(names)
                .map(|rights| (role.clone(), rights))
                .ok_or_else(|| must(&format!("roles.{role}"), known))
        });
        let rights_max = match &self.rights_max {
            Some(names) => rights(names).ok_or_else(|| must("rights_max", known))?,
            // Whoever shall act for every organisation is named.
            None => Rights(Rights::ALL.0 & !Rights::ORGS_ADMIN.0),
        };
        Ok(IssuerConfig {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            keys,
            leeway_seconds,
            refresh_seconds,
            mapping: Mapping {
                org,
                rights_claim: self.rights_claim.clone(),
                roles_claim: self.roles_claim.as_deref().unwrap_or(ROLES_CLAIM_DEFAULT).to_owned(),
                roles: roles.collect::<Result<_, _>>()?,
                rights_max,
            },
        })
    }
}

/// Rights, each by its name or by that of a role.
fn rights(names: &[String]) -> Option<Rights> {
    names.iter().try_fold(Rights::default(), |rights, name| {
        let more = Role::from_name(name).map(Role::rights).or_else(|| Rights::parse([name.as_str()]).ok())?;
        Some(Rights(rights.0 | more.0))
    })
}
