//! API keys.

use std::borrow::Cow;

use covey_core::access as core;

use crate::{AccessExplanation, AccessReason, ApiKey, ApiKeyMade, DeviceTag, Grant, Whoami};

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
    /// How a caller looks to itself. `identity`: issuer and subject of its token, if it has one.
    #[must_use]
    pub fn of(caller: &'a core::Caller, identity: Option<(&'a str, &'a str)>) -> Self {
        Self {
            org_id: caller.org.0,
            org: Cow::Borrowed(&caller.org_name),
            name: Cow::Borrowed(&caller.name),
            kind: Cow::Borrowed(caller.kind.name()),
            rights: caller.rights.names().map(Cow::Borrowed).collect(),
            expires_at: caller.bounds.expires_at.map(Into::into),
            addresses: addresses(&caller.bounds),
            grants: grants(&caller.grants),
            issuer: identity.map(|(issuer, _)| Cow::Borrowed(issuer)),
            subject: identity.map(|(_, subject)| Cow::Borrowed(subject)),
            user_id: caller.signed_in.map(|signed_in| signed_in.person.0),
            session_id: caller.signed_in.map(|signed_in| signed_in.session),
        }
    }
}

impl<'a> AccessExplanation<'a> {
    /// How an explanation looks, of an operation by its method and its path.
    #[must_use]
    pub fn of(explained: &'a core::Explanation, method: &str, template: &str) -> Self {
        let tag = |tag: &covey_core::device::Tag| DeviceTag {
            tag: Cow::Owned(tag.tag.clone()),
            value: Cow::Owned(tag.value.clone()),
        };
        Self {
            allowed: explained.is_allowed(),
            operation: Cow::Owned(format!("{method} /api/v1{template}")),
            key_id: explained.caller.id.0,
            key: Cow::Borrowed(&explained.caller.name),
            expired: explained.is_expired,
            addresses: addresses(&explained.caller.bounds),
            tags: explained.tags.iter().map(tag).collect(),
            rights: explained.rights.iter().map(|(right, because)| reason(right, because)).collect(),
        }
    }
}

fn reason(right: &'static str, because: &core::Because) -> AccessReason<'static> {
    let (why, grant) = match because {
        core::Because::Right => ("the key has it for the whole organisation", None),
        core::Because::Grant(grant) => ("this grant of the key gives it here", Some(Grant::of(grant))),
        core::Because::SomeGrants => {
            ("grants of the key give it for some devices; name one to ask about that", None)
        }
        core::Because::NoRight => ("neither the rights nor the grants of the key have it", None),
        core::Because::NoGrant => {
            ("grants of the key give it, none for this device with this method or kind of data", None)
        }
        core::Because::NotWhole => {
            ("grants of the key give it for some devices, and this takes it for the whole organisation", None)
        }
    };
    AccessReason { right: Cow::Borrowed(right), has: because.is_yes(), why: Cow::Borrowed(why), grant }
}

fn addresses(bounds: &core::KeyBounds) -> Vec<String> {
    bounds.addresses.iter().map(ToString::to_string).collect()
}

fn grants(grants: &core::Grants) -> Vec<Grant> {
    grants.list().iter().map(Grant::of).collect()
}
