//! Operations on API keys.

use std::net::IpAddr;

use crate::access::{Access, ApiKey, Caller, KeyDigest, LAST_USED_GRAIN_MS, Rights};
use crate::audit::{AuditAction, AuditActor, AuditEntry};
use crate::error::{Error, Result};
use crate::id::OrgId;
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};

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
    /// The serial number of the certificate that stands for it, in hexadecimal digits.
    pub certificate_serial_hex: Option<String>,
    /// Who makes it.
    pub by: AuditActor,
    /// From where, if that is known.
    pub from: Option<IpAddr>,
}

/// What the audit log calls a key.
fn object_of(key: &ApiKey) -> String {
    format!("key {}", key.id)
}

impl ApiKeyAdd {
    /// What the audit log is told of a key: never the key itself.
    fn entry(&self, key: &ApiKey) -> AuditEntry {
        let rights: Vec<_> = key.rights.names().collect();
        let entry = AuditEntry::by(self.by.clone(), key.org, AuditAction::KeyAdd, object_of(key));
        let entry = entry.detail("name", &key.name).detail("rights", &rights.join(", "));
        let entry = match key.grants.list().len() {
            0 => entry,
            count => entry.detail("grants", &count.to_string()),
        };
        let serial = self.certificate_serial_hex.as_deref().unwrap_or_default();
        AuditEntry { from: self.from, ..entry.detail("certificate", serial) }
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
    pub(super) fn validate_named(field: &'static str, text: &str) -> Result<()> {
        let is_good =
            (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        let problem = "must be 1 to 128 characters without control characters";
        is_good.then_some(()).ok_or(Error::invalid(field, problem))
    }
}

impl Operation for ApiKeyAdd {
    type Output = ApiKey;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<ApiKey, Abort> {
        let serial = self.certificate_serial_hex.as_deref();
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
        let org = match self.org {
            Some(org) => org,
            None => tx.org_ensure(&self.org_name)?,
        };
        Ok(tx.api_key_insert(org, &self.name, &self.access, &self.digest, serial)?)
    }

    fn entries(&self, key: &ApiKey) -> Vec<AuditEntry> {
        vec![self.entry(key)]
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
    type Output = Option<ApiKey>;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Option<ApiKey>, Abort> {
        if tx.api_key_exists()? {
            return Ok(None);
        }
        self.0.apply(tx).map(Some)
    }

    fn entries(&self, key: &Option<ApiKey>) -> Vec<AuditEntry> {
        key.iter().map(|key| self.0.entry(key)).collect()
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
    type Output = (ApiKey, Vec<ApiKey>);

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Server
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(ApiKey, Vec<ApiKey>), Abort> {
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

    fn entries(&self, (key, revoked): &(ApiKey, Vec<ApiKey>)) -> Vec<AuditEntry> {
        let revoked = revoked.iter().map(|key| {
            let entry = AuditEntry::by(self.add.by.clone(), key.org, AuditAction::KeyRevoke, object_of(key));
            entry.detail("name", &key.name)
        });
        revoked.chain([self.add.entry(key)]).collect()
    }
}

/// Remembers that an API key was used, and by which certificate: of those that were registered before that
/// was kept, it is not known otherwise.
pub struct ApiKeyUse {
    /// Its organisation.
    pub org: OrgId,
    /// Its number.
    pub id: i64,
    /// The serial number of the certificate that stood for it, in hexadecimal digits.
    pub certificate_serial_hex: Option<String>,
}

impl Operation for ApiKeyUse {
    type Output = ();

    fn turn(&self) -> Turn {
        Turn::Org(self.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(), Abort> {
        let before = tx.now().plus_ms(-LAST_USED_GRAIN_MS);
        let serial = self.certificate_serial_hex.as_deref();
        if let Some(serial) = serial
            && tx.certificate_is_revoked(serial)?
        {
            tx.api_key_revoke(self.id)?;
            return Ok(());
        }
        Ok(tx.api_key_use(self.id, before, serial)?)
    }

    fn entries(&self, (): &()) -> Vec<AuditEntry> {
        Vec::new()
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
