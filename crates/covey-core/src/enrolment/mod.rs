//! Enrolment: how a device comes to a certificate of its own. By a claim, which a whole production shares, it gets its
//! first one; with the one that it has, it gets the next.

mod calls;
mod operation;
mod pattern;
mod port;

pub(crate) use operation::NONE;
pub use operation::{ClaimAdd, ClaimEnrol, ClaimRevoke, ClaimSerialRelease, ClaimSerialsAdd, DeviceRenew};
pub use pattern::SnPattern;
pub use port::{EnrolmentReader, EnrolmentSteps, NewClaim, NewUse};

use std::collections::HashSet;

use crate::audit::AuditEntry;
use crate::device::{CertificateRecord, DeviceIdentity};
use crate::engine::after_commit::AfterCommit;
use crate::error::{Error, Result};
use crate::id::{ClaimId, DeviceId, DeviceKey, OrgId, Sn, UnixMs};

/// How many claims an organisation may have that were not revoked.
/// Limit for each organisation: 429.
pub const CLAIMS_MAX: u32 = 1_000;
/// How many devices a claim may be for.
/// Limit for each claim: 422.
pub const CLAIM_DEVICES_MAX: u32 = 1_000_000;
/// How many serial numbers may be listed of a claim.
/// Limit for each claim: 429.
pub const CLAIM_SERIALS_MAX: u32 = 1_000_000;
/// How many serial numbers may be listed at a time.
/// Limit for each request: 422.
pub const CLAIM_SERIALS_AT_ONCE_MAX: usize = 5_000;
/// Longest name of a claim, in characters.
/// Limit for each claim: 422.
pub const CLAIM_NAME_CHARS_MAX: usize = 128;
/// How many certificates of a device are good at a time; with the next one the oldest is revoked, but for the one that
/// the device shows.
/// Limit for each device: the oldest certificate is revoked.
pub const CERTIFICATES_MAX: u32 = 8;
/// How many certificates a device may get within a day by itself.
/// Limit for each device: 429.
pub const CERTIFICATES_PER_DAY_MAX: u32 = 20;
/// How long after a certificate whoever enrolled may ask for it again with the same key, in milliseconds: its answer may
/// have been lost.
/// Limit for each serial number of a claim: 409 until it is released.
const ASKED_AGAIN_MS_MAX: i64 = DAY_MS;
/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// A claim: its holders may enrol devices, and do nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its number.
    pub id: ClaimId,
    /// The organisation whose the devices will be.
    pub org: OrgId,
    /// What its owner calls it.
    pub name: String,
    /// The serial number of its certificate in lower-case hexadecimal digits.
    pub serial_hex: String,
    /// Which serial numbers may enrol beside those that are listed.
    pub pattern: Option<SnPattern>,
    /// How many devices it is for.
    pub devices_max: u32,
    /// How many have enrolled and were not released.
    pub used: u32,
    /// When it was made.
    pub created_at: UnixMs,
    /// When its certificate ends.
    pub not_after: UnixMs,
    /// When it was revoked, if it was.
    pub revoked_at: Option<UnixMs>,
}

/// A serial number of a claim: one that is listed, or has enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSerial {
    /// The serial number.
    pub sn: Sn,
    /// When a device of this serial number enrolled last, and as which device.
    pub used: Option<(UnixMs, DeviceId)>,
    /// When it was released, unless a device has enrolled since.
    pub released_at: Option<UnixMs>,
}

/// What is stored of a serial number of a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimSerialState {
    /// The device that enrolled last.
    pub device: Option<DeviceKey>,
    /// SHA-256 of its public key.
    pub key_sha256: Option<[u8; 32]>,
    /// When the last certificate was issued that it got by the claim; none if that one was revoked.
    pub issued_at: Option<UnixMs>,
    /// Whether it was released since, or nobody has enrolled.
    pub is_free: bool,
}

/// A claim to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSpec {
    /// What its owner calls it.
    pub name: String,
    /// Which serial numbers may enrol beside those that are listed.
    pub pattern: Option<SnPattern>,
    /// Serial numbers that may enrol.
    pub serials: Vec<Sn>,
    /// How many devices it is for; as many as are listed unless it is given.
    pub devices_max: Option<u32>,
    /// When its certificate is to end.
    pub not_after: UnixMs,
}

impl ClaimSpec {
    /// Checks every field; answers for how many devices it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first field that is not as it must be.
    pub fn validate(&self, now: UnixMs) -> Result<u32> {
        let chars = self.name.chars().count();
        if !(1..=CLAIM_NAME_CHARS_MAX).contains(&chars) || self.name.chars().any(char::is_control) {
            return Err(Error::invalid("name", "must be 1 to 128 characters without control characters"));
        }
        check_serials(&self.serials)?;
        let listed = distinct(&self.serials);
        let devices_max = match (self.devices_max, &self.pattern) {
            (Some(number), _) => number,
            (None, Some(_)) => return Err(Error::missing("limit", "must be given beside a pattern")),
            (None, None) => listed,
        };
        if !(1..=CLAIM_DEVICES_MAX).contains(&devices_max) {
            return Err(Error::invalid("limit", "must be 1 to 1000000"));
        }
        if self.not_after <= now {
            return Err(Error::invalid("expires_at", "is past"));
        }
        Ok(devices_max)
    }
}

fn check_serials(serials: &[Sn]) -> Result<()> {
    if serials.len() > CLAIM_SERIALS_AT_ONCE_MAX {
        return Err(Error::invalid("serials", "must be at most 5000 at a time"));
    }
    Ok(())
}

/// How many serial numbers these are: one that is given twice is one.
fn distinct(serials: &[Sn]) -> u32 {
    let each: HashSet<_> = serials.iter().collect();
    u32::try_from(each.len()).unwrap_or(u32::MAX)
}

/// A device that has got a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The device.
    pub device: DeviceIdentity,
    /// The serial numbers of its certificates that were revoked for it, in lower-case hexadecimal digits.
    pub superseded_hex: Vec<String>,
}

impl Certified {
    /// Tells the ways to the device that none of the certificates that it had is good any more.
    pub(crate) fn tell_all_gone(&self, after: &AfterCommit) {
        for serial_hex in &self.superseded_hex {
            after.revoked_certificate(&self.device.sn, serial_hex);
        }
    }

    /// Tells the ways to the device which of its certificates are good no more, beside those that are.
    pub(crate) fn tell_some_gone(&self, after: &AfterCommit) {
        for serial_hex in &self.superseded_hex {
            after.superseded_certificate(&self.device.sn, serial_hex);
        }
    }

    /// The entry of the audit log with the certificate that it got, and those that were revoked for it.
    pub(crate) fn named_in(&self, entry: AuditEntry, certificate: &CertificateRecord) -> AuditEntry {
        let entry = entry.device(&self.device).detail("certificate", &certificate.serial_hex);
        entry.detail("superseded", &self.superseded_hex.join(", "))
    }
}

/// A request of a device that has been read, and whose signature the issuer checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolRequest {
    /// The serial number that it asks for.
    pub sn: Sn,
    /// The request in PEM.
    pub csr_pem: String,
    /// SHA-256 of its public key.
    pub key_sha256: [u8; 32],
    /// From where it came, if that is known.
    pub address: Option<String>,
}
