//! Operations on devices.

use crate::access::{Caller, EndedKey, Matter, Rights, with_keys};
use crate::audit::{AuditAction, AuditEntry};
use crate::device::{
    CertificateRecord, DEVICE_ID_MAX, Device, DeviceIdentity, DeviceKind, NewDevice, Presence, TAG_CHARS_MAX,
    TAG_VALUE_CHARS_MAX, TAGS_MAX, Tag,
};
use crate::error::{Error, Result};
use crate::id::{DeviceId, OrgId, Sn};
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};
use crate::presence::{PresencePut, Reason};

/// Stands in what a certificate of a CA of others is registered under, and in no serial number.
pub(super) const IMPORTED_MARK: char = '~';

/// Serial numbers that no device gets, in whatever case: what topics and brokers' accounts call something else.
const RESERVED_SNS: [&str; 5] = ["dev", "srv", "server", "node", "gateway"];

/// Registers a device, with the certificate that was issued to it if it gets one.
pub struct DeviceRegister {
    /// Who asks.
    pub caller: Caller,
    /// The device's serial number.
    pub sn: Sn,
    /// The number asked for, or none for the next free one.
    pub device_id: Option<i64>,
    /// Its tags, in the order of their names.
    pub tags: Vec<Tag>,
    /// Its certificate, if it gets one.
    pub certificate: Option<CertificateRecord>,
}

impl DeviceRegister {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first field that is out of range.
    pub fn validate(sn: Option<&Sn>, device_id: Option<i64>, tags: &[Tag]) -> Result<()> {
        if sn.is_some_and(|sn| RESERVED_SNS.iter().any(|name| name.eq_ignore_ascii_case(sn.as_str()))) {
            return Err(Error::invalid(
                "sn",
                "must not be dev, srv, server, node or gateway, which are reserved",
            ));
        }
        if device_id.is_some_and(|id| !(1..=DEVICE_ID_MAX).contains(&id)) {
            return Err(Error::invalid("device_id", "must be 1 to 9007199254740991"));
        }
        if tags.len() > TAGS_MAX as usize {
            return Err(Error::invalid("tags", "must be at most 64"));
        }
        tags.iter().try_for_each(TagPut::validate)
    }
}

impl Operation for DeviceRegister {
    type Output = Device;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Device, Abort> {
        let created_at = tx.now();
        // One that a CA of others has issued may have been a device's before; one of ours is new.
        if let Some(certificate) = &self.certificate
            && certificate.serial_hex.contains(IMPORTED_MARK)
            && tx.certificate_is_revoked(&certificate.serial_hex)?
        {
            let problem =
                "this certificate was revoked, which cannot be taken back: the device needs another one";
            return Err(Error::Conflict { problem }.into());
        }
        let identity = register(tx, self.caller.org, &self.sn, self.device_id, &self.tags)?;
        if let Some(certificate) = &self.certificate {
            tx.certificate_insert(identity.device, certificate)?;
        }
        Ok(Device { identity, created_at, tags: self.tags.clone(), presence: None, node: None })
    }

    fn entries(&self, device: &Device) -> Vec<AuditEntry> {
        let entry = AuditEntry::of(&self.caller, AuditAction::DeviceRegister, object_of(&device.identity));
        let serial = self.certificate.as_ref().map_or("", |certificate| &certificate.serial_hex);
        let tags: Vec<_> = device.tags.iter().map(|Tag { tag, value }| format!("{tag}={value}")).collect();
        vec![entry.device(&device.identity).detail("certificate", serial).detail("tags", &tags.join(", "))]
    }
}

/// Stores a new device, under a number that was asked for or the next free one.
pub(crate) fn register(
    tx: &mut dyn Transaction,
    org: OrgId,
    sn: &Sn,
    device_id: Option<i64>,
    tags: &[Tag],
) -> Result<DeviceIdentity, Abort> {
    register_as(tx, DeviceKind::Ordinary, org, sn, device_id, tags)
}

/// The same of a kind.
pub(crate) fn register_as(
    tx: &mut dyn Transaction,
    kind: DeviceKind,
    org: OrgId,
    sn: &Sn,
    device_id: Option<i64>,
    tags: &[Tag],
) -> Result<DeviceIdentity, Abort> {
    if tx.sn_is_taken(sn)? {
        return Err(Error::SnTaken.into());
    }
    let device_id = match device_id {
        None => match tx.device_id_free(org)? {
            DeviceId(id) if id > DEVICE_ID_MAX => {
                return Err(Error::missing("device_id", "must be given: the highest one is in use").into());
            }
            free => free,
        },
        Some(id) if tx.device(org, DeviceId(id))?.is_some() => {
            return Err(Error::Conflict { problem: "a device with this device_id is registered" }.into());
        }
        Some(id) => DeviceId(id),
    };
    let (sn, tags) = (sn.clone(), tags.to_vec());
    let device = NewDevice { org, device_id, sn: sn.clone(), kind, created_at: tx.now(), tags };
    let device = tx.device_insert(&device)?;
    Ok(DeviceIdentity { org, device, device_id, sn })
}

/// What the audit log calls a device.
pub(crate) fn object_of(device: &DeviceIdentity) -> String {
    format!("device {}", device.device_id.0)
}

/// A device that was retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiredDevice {
    /// Which one.
    pub identity: DeviceIdentity,
    /// The API keys that ended with its certificates.
    pub ended: Vec<EndedKey>,
}

/// Retires a device: revokes its certificates and the rights that were given to them, and forgets its session.
pub struct DeviceRetire {
    /// Who asks.
    pub caller: Caller,
    /// The device.
    pub device_id: DeviceId,
}

impl Operation for DeviceRetire {
    type Output = RetiredDevice;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<RetiredDevice, Abort> {
        let device = tx.device(self.caller.org, self.device_id)?.ok_or(Error::not_found("device"))?;
        self.caller.demand(Rights::DEVICES_WRITE, &device.tags, Matter::Device, "device")?;
        retire(tx, device, Reason::Revoked)
    }

    fn entries(&self, RetiredDevice { identity, ended }: &RetiredDevice) -> Vec<AuditEntry> {
        let entry = AuditEntry::of(&self.caller, AuditAction::DeviceRetire, object_of(identity));
        with_keys(entry.device(identity), ended)
    }
}

/// Retires a device; answers who it was. If it was a node's, the node is forgotten. A connection of its ends for this reason.
pub(crate) fn retire(
    tx: &mut dyn Transaction,
    device: Device,
    reason: Reason,
) -> Result<RetiredDevice, Abort> {
    let Device { identity, presence, .. } = device;
    // Before they are revoked: by them the store knows what stands for them.
    let ended = tx.api_keys_revoke_of_device(identity.device)?;
    tx.device_retire(identity.device)?;
    tx.session_remove(identity.device)?;
    tx.node_remove_of_device(identity.device)?;
    if let Some(was) = presence.filter(|presence| presence.online) {
        let presence = Presence { online: false, checked_at: tx.now(), reason, ..was };
        PresencePut { device: identity.clone(), presence }.apply(tx)?;
    }
    Ok(RetiredDevice { identity, ended })
}

/// Sets a tag of a device.
pub struct TagPut {
    /// Who asks.
    pub caller: Caller,
    /// The device.
    pub device_id: DeviceId,
    /// The tag with its value.
    pub tag: Tag,
}

impl TagPut {
    /// Checks a tag against its ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `tag` or `value`.
    pub fn validate(tag: &Tag) -> Result<()> {
        if tag.tag.is_empty()
            || tag.tag.chars().count() > TAG_CHARS_MAX
            || tag.tag.chars().any(char::is_control)
        {
            return Err(Error::invalid("tag", "must be 1 to 64 characters without control characters"));
        }
        if tag.value.chars().count() > TAG_VALUE_CHARS_MAX || tag.value.contains('\0') {
            return Err(Error::invalid("value", "must be at most 1024 characters without NUL"));
        }
        Ok(())
    }
}

impl Operation for TagPut {
    /// The tag's number, and whose it is.
    type Output = (i64, DeviceIdentity);

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(i64, DeviceIdentity), Abort> {
        let device = tx.device(self.caller.org, self.device_id)?.ok_or(Error::not_found("device"))?;
        self.caller.demand(Rights::DEVICES_WRITE, &device.tags, Matter::Device, "device")?;
        if self.caller.grants.names_tag(&self.tag.tag) {
            // By it the caller could give itself what it was not granted.
            return Err(Error::NotGranted { right: "devices:write" }.into());
        }
        if tx.tags_beside(device.identity.device, &self.tag.tag)? >= TAGS_MAX {
            return Err(Error::invalid("tag", "a device may have at most 64 tags").into());
        }
        Ok((tx.tag_put(device.identity.device, &self.tag)?, device.identity))
    }

    fn entries(&self, (_, device): &(i64, DeviceIdentity)) -> Vec<AuditEntry> {
        let entry = AuditEntry::of(&self.caller, AuditAction::DeviceTag, object_of(device)).device(device);
        vec![entry.detail("tag", &self.tag.tag).detail("value", &self.tag.value)]
    }
}
