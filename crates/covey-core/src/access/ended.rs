//! API keys that end together with a certificate that stood for them.

use std::borrow::Cow;

use crate::access::ApiKey;
use crate::audit::{AuditAction, AuditEntry};
use crate::id::OrgId;

/// An API key that ended together with the certificate that stood for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedKey {
    /// Its number.
    pub id: i64,
    /// Whose it was: it may be another organisation than that of the certificate's device.
    pub org: OrgId,
    /// What its owner called it.
    pub name: String,
}

impl From<ApiKey> for EndedKey {
    fn from(key: ApiKey) -> Self {
        Self { id: key.id, org: key.org, name: key.name }
    }
}

/// What the audit log is told of something that was ended, and of the keys that ended with it.
pub(crate) fn with_keys(entry: AuditEntry, ended: &[EndedKey]) -> Vec<AuditEntry> {
    let mut entries = vec![entry];
    for key in ended {
        let [with, ..] = &entries[..] else { break };
        let entry = AuditEntry {
            org: key.org,
            action: Cow::Borrowed(AuditAction::KeyRevoke.name()),
            // The devices of others are none of theirs.
            device: with.device.clone().filter(|_| with.org == key.org),
            object: format!("key {}", key.id),
            details: Vec::new(),
            ..with.clone()
        };
        let entry = entry.detail("name", &key.name).detail("with", &with.object);
        entries.push(entry);
    }
    entries
}
