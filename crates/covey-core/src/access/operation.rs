//! Operations on API keys.

use std::net::IpAddr;

use crate::access::{Access, ApiKey, Caller, EndedKey, KeyDigest, LAST_USED_GRAIN_MS, Rights};
use crate::audit::{AuditAction, AuditActor, AuditEntry};
use crate::error::{Error, Result};
use crate::id::OrgId;
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn, TxResult};

/// Longest name of an organisation or of a key, in characters.
/// Limit for each name: 422.
const NAME_CHARS_MAX: usize = 128;

/// A key that was just made: the only time its clear text is seen.
#[derive(Clone)]
pub struct MadeKey {
    /// The key as it is stored.
    pub key: ApiKey,
    /// Its clear text. Never stored, never logged.
    pub clear_text: String,
}

/// A key that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedKey {
    /// The key.
    pub key: ApiKey,
    /// Whether its organisation was made for it.
    pub is_org_new: bool,
}

/// Makes an API key, and its organisation if there is none of that name.
pub struct ApiKeyAdd {
    /// The organisation, if it is there for sure; else it is that of the name.
    pub org: Option<OrgId>,
    /// The organisation's name.
    pub org_name: String,
    /// What the owner calls the key.
    pub name: String,
    /// What it is good for.
    pub access: Access,
    /// The digest of its clear text.
    pub digest: KeyDigest,
    /// The certificate that stands for it.
    pub certificate: Option<ShownCertificate>,
    /// Who makes it.
    pub by: AuditActor,
    /// From where, if that is known.
    pub from: Option<IpAddr>,
}

/// The text of a certificate that stands for an API key begins with this; its SHA-256 in lowercase hex follows.
pub const CERTIFICATE_TEXT_PREFIX: &str = "certificate:";

/// A certificate that stands for an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCertificate {
    /// Its serial number, in hexadecimal digits.
    pub serial_hex: String,
    /// Its SHA-256, in lowercase hex.
    pub sha256_hex: String,
}

impl ShownCertificate {
    /// The one with this text and serial number.
    #[must_use]
    pub fn of(text: &str, serial_hex: String) -> Self {
        let sha256_hex = text.strip_prefix(CERTIFICATE_TEXT_PREFIX).unwrap_or_default().to_owned();
        Self { serial_hex, sha256_hex }
    }

    /// The serial number under which it is a device's, if it is one's.
    fn registered_as(&self, tx: &mut dyn Transaction) -> TxResult<String> {
        let imported = tx.certificate_imported(&self.sha256_hex)?;
        Ok(imported.unwrap_or_else(|| self.serial_hex.clone()))
    }
}

/// What the audit log calls a key.
fn object_of(key: &ApiKey) -> String {
    format!("key {}", key.id)
}

impl ApiKeyAdd {
    /// What the audit log is told of a key, and of its organisation if that is new: never the key itself.
    fn entries_of(&self, AddedKey { key, is_org_new }: &AddedKey) -> Vec<AuditEntry> {
        let entry = |action, object| AuditEntry {
            from: self.from,
            ..AuditEntry::by(self.by.clone(), key.org, action, object)
        };
        let serial = self.certificate.as_ref().map_or("", |certificate| &certificate.serial_hex);
        let org = is_org_new.then(|| entry(AuditAction::OrgAdd, format!("org {}", key.org.0)));
        let org = org.map(|org| org.detail("name", &self.org_name));
        let rights: Vec<_> = key.rights.names().collect();
        let grants: Vec<_> = key.grants.list().iter().map(ToString::to_string).collect();
        let expires_at = key.bounds.expires_at.map_or_else(String::new, |at| (at.0 / 1_000).to_string());
        let addresses: Vec<_> = key.bounds.addresses.iter().map(ToString::to_string).collect();
        let key = entry(AuditAction::KeyAdd, object_of(key))
            .detail("name", &key.name)
            .detail("rights", &rights.join(", "))
            .detail("grants", &grants.join("; "))
            .detail("expires_at", &expires_at)
            .detail("addresses", &addresses.join(", "))
            .detail("certificate", serial);
        org.into_iter().chain([key]).collect()
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first field that is out of range.
    pub fn validate(org_name: &str, name: &str) -> Result<()> {
        Self::validate_named("org", org_name)?;
        Self::validate_named("name", name)
    }

    /// Checks a name, which is in this field.
    pub(crate) fn validate_named(field: &'static str, text: &str) -> Result<()> {
        let is_good =
            (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        let problem = "must be 1 to 128 characters without control characters";
        is_good.then_some(()).ok_or(Error::invalid(field, problem))
    }
}

impl Operation for ApiKeyAdd {
    type Output = AddedKey;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<AddedKey, Abort> {
        let serial = self.certificate.as_ref().map(|shown| shown.registered_as(tx)).transpose()?;
        let serial = serial.as_deref();
        if let Some(serial) = serial
            && tx.certificate_is_revoked(serial)?
        {
            return Err(Error::invalid("certificate_pem", "is of a device that was retired").into());
        }
        // The last key that may keep all others would go with the device.
        if let Some(serial) = serial
            && self.access.rights.contains(Rights::ORGS_ADMIN)
            && tx.certificate_is_of_device(serial)?
        {
            return Err(Error::invalid("rights", "orgs:admin is not for the certificate of a device").into());
        }
        if self.access.bounds.is_over_at(tx.now()) {
            return Err(Error::invalid("expires_at", "is past").into());
        }
        let known = match self.org {
            Some(org) => Some(org),
            None => tx.org_named(&self.org_name)?,
        };
        let new = match known {
            Some(_) => None,
            None => tx.org_insert(&self.org_name)?.map(|org| org.id),
        };
        let org = match known.or(new) {
            Some(org) => org,
            // Somebody else has made it meanwhile.
            None => tx.org_ensure(&self.org_name)?,
        };
        let key = tx.api_key_insert(org, &self.name, &self.access, &self.digest, serial)?;
        Ok(AddedKey { key, is_org_new: new.is_some() })
    }

    fn entries(&self, added: &AddedKey) -> Vec<AuditEntry> {
        self.entries_of(added)
    }
}

/// Asks whether there is or was any API key.
pub struct ApiKeyExists;

impl Operation for ApiKeyExists {
    type Output = bool;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<bool, Abort> {
        Ok(tx.api_key_exists()?)
    }

    fn entries(&self, _: &Self::Output) -> Vec<AuditEntry> {
        Vec::new()
    }
}

/// Makes the first key of a deployment, if it never had one.
pub struct FirstKeyAdd(pub ApiKeyAdd);

impl Operation for FirstKeyAdd {
    type Output = Option<AddedKey>;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Option<AddedKey>, Abort> {
        if tx.api_key_exists()? {
            return Ok(None);
        }
        self.0.apply(tx).map(Some)
    }

    fn entries(&self, added: &Option<AddedKey>) -> Vec<AuditEntry> {
        added.as_ref().map_or_else(Vec::new, |added| self.0.entries_of(added))
    }
}

/// Makes a key for whoever has lost all that may make keys, and revokes those.
pub struct AdminKeyRecover {
    /// The key to make.
    pub add: ApiKeyAdd,
    /// The numbers of the keys to revoke.
    pub revoke: Vec<i64>,
}

impl Operation for AdminKeyRecover {
    /// The key, and those that were revoked.
    type Output = (AddedKey, Vec<ApiKey>);

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(AddedKey, Vec<ApiKey>), Abort> {
        if !tx.api_key_exists()? {
            let problem = "there never was an API key; the first start of a server makes one";
            return Err(Error::Conflict { problem }.into());
        }
        let mut revoked = Vec::new();
        for id in &self.revoke {
            let key = tx.api_key(*id)?;
            if tx.api_key_revoke(*id)? {
                revoked.extend(key);
            }
        }
        Ok((self.add.apply(tx)?, revoked))
    }

    fn entries(&self, (added, revoked): &(AddedKey, Vec<ApiKey>)) -> Vec<AuditEntry> {
        let revoked = revoked.iter().map(|key| {
            let entry = AuditEntry::by(self.add.by.clone(), key.org, AuditAction::KeyRevoke, object_of(key));
            entry.detail("name", &key.name)
        });
        revoked.chain(self.add.entries_of(added)).collect()
    }
}

/// Remembers that an API key was used, and by which certificate: of those that were registered before that
/// was kept, it is not known otherwise.
pub struct ApiKeyUse {
    /// Its organisation.
    pub org: OrgId,
    /// Its number.
    pub id: i64,
    /// The certificate that stood for it.
    pub certificate: Option<ShownCertificate>,
}

impl Operation for ApiKeyUse {
    /// The key, if it ended: its certificate was revoked.
    type Output = Option<EndedKey>;

    fn turn(&self) -> Turn {
        Turn::Org(self.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Option<EndedKey>, Abort> {
        let before = tx.now().plus_ms(-LAST_USED_GRAIN_MS);
        let serial = self.certificate.as_ref().map(|shown| shown.registered_as(tx)).transpose()?;
        let serial = serial.as_deref();
        if let Some(serial) = serial
            && tx.certificate_is_revoked(serial)?
        {
            let key = tx.api_key(self.id)?;
            tx.api_key_revoke(self.id)?;
            return Ok(key.map(EndedKey::from));
        }
        tx.api_key_use(self.id, before, serial)?;
        Ok(None)
    }

    fn entries(&self, ended: &Option<EndedKey>) -> Vec<AuditEntry> {
        let Some(key) = ended else { return Vec::new() };
        let serial = self.certificate.as_ref().map_or("", |certificate| &certificate.serial_hex);
        let by = AuditActor::server("revocation");
        let entry = AuditEntry::by(by, key.org, AuditAction::KeyRevoke, format!("key {}", key.id));
        vec![entry.detail("name", &key.name).detail("with", &format!("certificate {serial}"))]
    }
}

/// Revokes an API key.
pub struct ApiKeyRevoke {
    /// Who asks.
    pub caller: Caller,
    /// Its number.
    pub id: i64,
}

impl Operation for ApiKeyRevoke {
    /// The key, as it was.
    type Output = ApiKey;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<ApiKey, Abort> {
        let may_all = self.caller.rights.contains(Rights::ORGS_ADMIN);
        let key = tx.api_key(self.id)?.filter(|key| may_all || key.org == self.caller.org);
        let key = key.ok_or(Error::not_found("key"))?;
        if key.rights.contains(Rights::ORGS_ADMIN) {
            // Whoever keeps the keys of one organisation does not lock out whoever runs the deployment.
            self.caller.require(Rights::ORGS_ADMIN)?;
        }
        // One that is of no use now, or not everywhere, is not what keeps the door open.
        let is_open = !key.bounds.is_over_at(tx.now()) && key.bounds.addresses.is_empty();
        if is_open
            && key.rights.contains(Rights::ALL_KEYS_WRITE)
            && tx.api_key_count(Rights::ALL_KEYS_WRITE)? <= 1
        {
            return Err(Error::LastKey.into());
        }
        if tx.api_key_revoke(self.id)? { Ok(key) } else { Err(Error::not_found("key").into()) }
    }

    fn entries(&self, key: &ApiKey) -> Vec<AuditEntry> {
        let entry = AuditEntry::of(&self.caller, AuditAction::KeyRevoke, object_of(key));
        vec![AuditEntry { org: key.org, ..entry.detail("name", &key.name) }]
    }
}
