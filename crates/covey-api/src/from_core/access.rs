//! API keys.

use std::borrow::Cow;

use covey_core::access as core;

use crate::{ApiKey, ApiKeyMade, Grant, Whoami};

impl<'a> ApiKey<'a> {
    /// How an API key looks.
    #[must_use]
    pub fn of(key: &'a core::ApiKey) -> Self {
        Self {
            id: key.id,
            org: Cow::Borrowed(&key.org_name),
            name: Cow::Borrowed(&key.name),
            rights: key.rights.names().map(Cow::Borrowed).collect(),
            created_at: key.created_at.into(),
            last_used_at: key.last_used_at.map(Into::into),
            expires_at: key.bounds.expires_at.map(Into::into),
            addresses: addresses(&key.bounds),
            grants: grants(&key.grants),
        }
    }
}

impl<'a> ApiKeyMade<'a> {
    /// How an API key looks that was just made, with its clear text or the
    /// certificate that stands for it.
    #[must_use]
    pub fn of(made: &'a core::ApiKey, key: Option<&'a str>, certificate_sha256: Option<&'a str>) -> Self {
        let ApiKey { id, org, name, rights, created_at, expires_at, addresses, grants, .. } =
            ApiKey::of(made);
        let (key, certificate_sha256) = (key.map(Cow::Borrowed), certificate_sha256.map(Cow::Borrowed));
        Self { id, org, name, rights, created_at, expires_at, addresses, grants, key, certificate_sha256 }
    }
}

impl<'a> Whoami<'a> {
    /// How a caller looks to itself.
    #[must_use]
    pub fn of(caller: &'a core::Caller) -> Self {
        Self {
            org_id: caller.org.0,
            org: Cow::Borrowed(&caller.org_name),
            name: Cow::Borrowed(&caller.name),
            kind: Cow::Borrowed(caller.kind.name()),
            rights: caller.rights.names().map(Cow::Borrowed).collect(),
            expires_at: caller.bounds.expires_at.map(Into::into),
            addresses: addresses(&caller.bounds),
            grants: grants(&caller.grants),
        }
    }
}

fn addresses(bounds: &core::KeyBounds) -> Vec<String> {
    bounds.addresses.iter().map(ToString::to_string).collect()
}

fn grants(grants: &core::Grants) -> Vec<Grant> {
    grants.list().iter().map(Grant::of).collect()
}
