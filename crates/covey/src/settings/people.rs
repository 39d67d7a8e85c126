//! Settings of people: the providers with which they sign in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use covey_core::access::{Rights, Role};
use covey_core::id::OrgId;
use covey_core::token::OrgWanted;
use covey_http::{OIDC_LOGINS_MAX, OidcRoles, PublicUrl};
use covey_token::{IssuerConfig, KeySource, Mapping, OrgFrom};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::fault;
use crate::settings::Options;
use crate::settings::tokens::OrgName;

/// What a provider is called in paths unless it is said.
const NAME_DEFAULT: &str = "oidc";
/// What is asked of a provider unless it is said.
const SCOPE_DEFAULT: &str = "openid email profile";
/// The claims that are read unless it is said.
const ORG_CLAIM_DEFAULT: &str = "orgId";
const ROLES_CLAIM_DEFAULT: &str = "roles";
/// How much the clock of a provider may differ, and how old its keys may become, in seconds.
const LEEWAY_SECONDS: u32 = 30;
const REFRESH_SECONDS: u32 = 300;

/// A provider with which people sign in: a table `[[oidc_logins]]` of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OidcProvider {
    /// What it is called in paths.
    pub name: String,
    /// What it is called on the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its name, as in `iss`; it says what it is under `/.well-known/openid-configuration`.
    pub issuer: String,
    /// What this server is called there.
    pub client_id: String,
    /// A file with the secret that it has given this server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<PathBuf>,
    /// What is asked of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The one organisation of the people whom it makes, by number or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<OrgName>,
    /// The claim that names the organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_claim: Option<String>,
    /// The claim that has a role, or a list of some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles_claim: Option<String>,
    /// What a role of the provider is here. Without any it makes nobody.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, String>,
}

impl Default for OidcProvider {
    fn default() -> Self {
        Self {
            name: NAME_DEFAULT.to_owned(),
            title: None,
            issuer: String::new(),
            client_id: String::new(),
            client_secret_file: None,
            scope: None,
            org: None,
            org_claim: None,
            roles_claim: None,
            roles: BTreeMap::new(),
        }
    }
}

impl OidcProvider {
    fn must(&self, name: &str, what: &str) -> String {
        format!("oidc_logins.{name} of {} must be {what}", self.issuer)
    }

    /// Checks it.
    ///
    /// # Errors
    /// The setting, and what it must be.
    pub fn check(&self) -> Result<(), String> {
        self.about()?;
        self.roles()?;
        let is_name = |text: &str| {
            (1..=32).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !is_name(&self.name) {
            return Err(self.must("name", "1 to 32 of the characters A-Z a-z 0-9 -"));
        }
        if self.client_id.is_empty() {
            return Err(self.must("client_id", "given: what this server is called at the provider"));
        }
        let has_openid = self.scope().split(' ').any(|one| one == "openid");
        if has_openid { Ok(()) } else { Err(self.must("scope", "a list with spaces that has openid")) }
    }

    /// Where it says what it is.
    pub fn about(&self) -> Result<Url, String> {
        match KeySource::of_issuer(&self.issuer) {
            Ok(KeySource::Discovery(url)) => Ok(url),
            Ok(_) => Err(self.must("issuer", "the URL of a provider")),
            Err(what) => Err(self.must("issuer", what)),
        }
    }

    /// What is asked of it.
    pub fn scope(&self) -> &str {
        self.scope.as_deref().unwrap_or(SCOPE_DEFAULT)
    }

    /// What it is called on the page.
    pub fn title(&self) -> String {
        let host = || Url::parse(&self.issuer).ok().and_then(|url| url.host_str().map(ToOwned::to_owned));
        self.title.clone().or_else(host).unwrap_or_else(|| self.name.clone())
    }

    /// How its tokens are checked.
    pub fn config(&self) -> Result<IssuerConfig, String> {
        Ok(IssuerConfig {
            issuer: self.issuer.clone(),
            audience: self.client_id.clone(),
            keys: KeySource::Discovery(self.about()?),
            leeway_seconds: LEEWAY_SECONDS,
            refresh_seconds: REFRESH_SECONDS,
            // Its tokens say who somebody is, and are no credential here.
            mapping: Mapping {
                org: OrgFrom::Claim(ORG_CLAIM_DEFAULT.to_owned()),
                rights_claim: None,
                roles_claim: ROLES_CLAIM_DEFAULT.to_owned(),
                roles: BTreeMap::new(),
                rights_max: Rights::default(),
            },
        })
    }

    /// What it may say of people who are not known.
    pub fn roles(&self) -> Result<Option<OidcRoles>, String> {
        let org = match (&self.org, &self.org_claim) {
            (Some(_), Some(_)) => return Err(self.must("org", "left out where org_claim is given")),
            (Some(OrgName::Number(id)), None) => OrgFrom::Fixed(OrgWanted::Number(OrgId(*id))),
            (Some(OrgName::Name(name)), None) => OrgFrom::Fixed(OrgWanted::Name(name.clone())),
            (None, claim) => OrgFrom::Claim(claim.as_deref().unwrap_or(ORG_CLAIM_DEFAULT).to_owned()),
        };
        let role = |(theirs, ours): (&String, &String)| {
            let known = "admin, operator, integrator or viewer";
            let role = Role::from_name(ours).ok_or_else(|| self.must(&format!("roles.{theirs}"), known))?;
            Ok((theirs.clone(), role))
        };
        let roles: BTreeMap<_, _> = self.roles.iter().map(role).collect::<Result<_, String>>()?;
        let claim = self.roles_claim.as_deref().unwrap_or(ROLES_CLAIM_DEFAULT).to_owned();
        Ok((!roles.is_empty()).then_some(OidcRoles { org, claim, roles }))
    }
}

/// The providers of the configuration file, and the one of the command line.
pub fn providers(options: &Options) -> anyhow::Result<Vec<OidcProvider>> {
    let mut providers = options.oidc_logins.clone().unwrap_or_default();
    if let Some(issuer) = &options.oidc_login {
        providers.push(OidcProvider {
            issuer: issuer.clone(),
            client_id: options.oidc_client_id.clone().unwrap_or_default(),
            client_secret_file: options.oidc_client_secret_file.clone(),
            ..OidcProvider::default()
        });
    } else if options.oidc_client_id.is_some() || options.oidc_client_secret_file.is_some() {
        let problem =
            "the setting oidc_login must be given together with oidc_client_id and oidc_client_secret_file";
        return Err(fault::setup(problem));
    }
    Ok(providers)
}

/// Checks what is said of people.
///
/// # Errors
/// The setting, and what it must be.
pub fn check(providers: &[OidcProvider], public_url: Option<&str>) -> anyhow::Result<()> {
    let wrong = |problem: &str| Err(fault::setup(format!("the setting {problem}")));
    if let Some(problem) = providers.iter().find_map(|provider| provider.check().err()) {
        return wrong(&problem);
    }
    let mut names: Vec<&str> = providers.iter().map(|provider| provider.name.as_str()).collect();
    names.sort_unstable();
    if providers.len() > OIDC_LOGINS_MAX || names.windows(2).any(|two| two[0] == two[1]) {
        return wrong("oidc_logins must be at most 16, of different names");
    }
    match public_url.map(PublicUrl::read) {
        Some(Err(must)) => wrong(&format!("public_url: {must}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let settle = |text: &str| {
            let options: Options = toml::from_str(text).unwrap();
            providers(&options).and_then(|providers| check(&providers, options.public_url.as_deref()))
        };
        for (text, expected) in [
            ("oidc_client_id = 'covey'", "oidc_login"),
            ("oidc_login = 'https://login.example'", "client_id"),
            ("oidc_login = 'http://login.example'\noidc_client_id = 'covey'", "https://"),
            (
                "[[oidc_logins]]\nissuer = 'https://a.example'\nclient_id = 'c'\nroles = { boss = 'king' }",
                "roles.boss",
            ),
            (
                "[[oidc_logins]]\nissuer = 'https://a.example'\nclient_id = 'c'\nname = 'a/b'",
                "oidc_logins.name",
            ),
            ("[[oidc_logins]]\nissuer = 'https://a.example'\nclient_id = 'c'\nscope = 'email'", "openid"),
            ("public_url = 'http://covey.example'", "public_url"),
        ] {
            let error = settle(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let good = "oidc_login = 'https://login.example'\noidc_client_id = 'covey'\npublic_url = 'https://covey.example'";
        assert!(settle(good).is_ok());
    }
}
