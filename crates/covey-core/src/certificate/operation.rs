//! Operations that revoke certificates.

use crate::access::{Caller, EndedKey, Matter, Rights, with_keys};
use crate::audit::{AuditAction, AuditEntry};
use crate::certificate::{Certificate, RevocationReason};
use crate::device::{DeviceIdentity, object_of};
use crate::error::{Error, Result};
use crate::id::{DeviceId, UnixMs};
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};

/// How many certificates of a device one operation revokes.
/// Limit for each operation: the rest follows in another one.
pub(super) const REVOKED_AT_ONCE_MAX: u32 = 100;

/// A certificate that is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The certificate.
    pub certificate: Certificate,
    /// Whether it was revoked now, and not before.
    pub is_new: bool,
    /// The serial numbers of those that were got by it and were revoked with it.
    pub renewed_hex: Vec<String>,
    /// The API keys that ended with it.
    pub ended: Vec<EndedKey>,
}

/// Revokes a certificate. One that was revoked before stays as it is. If others know its key, so are those that were got by
/// showing it, and by showing these.
pub struct CertificateRevoke {
    /// Who asks.
    pub caller: Caller,
    /// Its serial number.
    pub serial_hex: String,
    /// Why.
    pub reason: RevocationReason,
}

impl Operation for CertificateRevoke {
    type Output = Revoked;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Revoked, Abort> {
        let find = |tx: &mut dyn Transaction| tx.certificate(self.caller.org, &self.serial_hex);
        let found = find(tx)?.ok_or(Error::not_found("certificate"))?;
        if self.caller.is_bound(Rights::DEVICES_WRITE) {
            let tags = tx.device_tags(found.device.device)?;
            self.caller.demand(Rights::DEVICES_WRITE, &tags, Matter::Device, "certificate")?;
        }
        let device = found.device.device;
        // Also of one that was revoked before: its reason may have been another one.
        let renewed_hex = match self.reason {
            RevocationReason::KeyCompromise => {
                tx.certificates_renewed_from(device, &self.serial_hex, REVOKED_AT_ONCE_MAX)?
            }
            _ => Vec::new(),
        };
        let is_new = found.revocation.is_none();
        let mut ended = Vec::new();
        for serial_hex in renewed_hex.iter().chain(is_new.then_some(&self.serial_hex)) {
            ended.extend(tx.certificate_revoke(device, serial_hex, self.reason)?);
        }
        let certificate = if is_new { find(tx)?.ok_or(Error::not_found("certificate"))? } else { found };
        Ok(Revoked { certificate, is_new, renewed_hex, ended })
    }

    fn entries(&self, revoked: &Revoked) -> Vec<AuditEntry> {
        if !revoked.is_new && revoked.renewed_hex.is_empty() {
            return Vec::new();
        }
        let object = format!("certificate {}", self.serial_hex);
        let entry = AuditEntry::of(&self.caller, AuditAction::CertificateRevoke, object);
        let entry = entry.device(&revoked.certificate.device).detail("reason", self.reason.name());
        let entry = entry.detail("certificates", &revoked.renewed_hex.join(", "));
        with_keys(entry, &revoked.ended)
    }
}

/// Revokes all certificates of a device, which stays registered.
pub struct DeviceCertificatesRevoke {
    /// Who asks.
    pub caller: Caller,
    /// The device.
    pub device_id: DeviceId,
    /// Why.
    pub reason: RevocationReason,
}

/// A device whose certificates were revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRevoked {
    /// The device.
    pub identity: DeviceIdentity,
    /// The serial numbers of those that were revoked now.
    pub serials_hex: Vec<String>,
    /// The API keys that ended with them.
    pub ended: Vec<EndedKey>,
    /// When.
    pub at: UnixMs,
    /// Whether there may be more.
    pub is_cut: bool,
}

impl Operation for DeviceCertificatesRevoke {
    type Output = DeviceRevoked;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<DeviceRevoked, Abort> {
        let device = tx.device(self.caller.org, self.device_id)?.ok_or(Error::not_found("device"))?;
        self.caller.demand(Rights::DEVICES_WRITE, &device.tags, Matter::Device, "device")?;
        let identity = device.identity;
        let serials_hex = tx.certificates_unrevoked(identity.device, REVOKED_AT_ONCE_MAX)?;
        let mut ended = Vec::new();
        for serial_hex in &serials_hex {
            ended.extend(tx.certificate_revoke(identity.device, serial_hex, self.reason)?);
        }
        let is_cut = serials_hex.len() >= REVOKED_AT_ONCE_MAX as usize;
        Ok(DeviceRevoked { identity, serials_hex, ended, at: tx.now(), is_cut })
    }

    fn entries(&self, revoked: &DeviceRevoked) -> Vec<AuditEntry> {
        if revoked.serials_hex.is_empty() {
            return Vec::new();
        }
        let object = object_of(&revoked.identity);
        let entry =
            AuditEntry::of(&self.caller, AuditAction::CertificateRevoke, object).device(&revoked.identity);
        let serials = revoked.serials_hex.join(", ");
        let entry = entry.detail("reason", self.reason.name()).detail("certificates", &serials);
        with_keys(entry, &revoked.ended)
    }
}
