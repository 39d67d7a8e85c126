//! Operations on claims, and the renewal of a device's certificate.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crate::access::{Caller, EndedKey, with_keys};
use crate::audit::{AuditAction, AuditActor, AuditEntry, DETAIL_BYTES_MAX};
use crate::device::{CertificateRecord, DeviceIdentity, DeviceRegister, object_of, register};
use crate::enrolment::{
    ASKED_AGAIN_MS_MAX, CERTIFICATES_MAX, CERTIFICATES_PER_DAY_MAX, CLAIM_SERIALS_MAX, CLAIMS_MAX, Certified,
    Claim, ClaimSerialState, DAY_MS, NewClaim, NewUse, SnPattern, distinct,
};
use crate::error::{Error, Result};
use crate::id::{ClaimId, DeviceKey, OrgId, Sn, UnixMs};
use crate::operation::{Abort, Operation};
use crate::port::{Need, Transaction, Turn};

/// Said of a claim that may not be used.
pub(super) const CLAIM_OVER: Error = Error::Conflict { problem: "the claim was revoked, or has expired" };
/// Said of a certificate with which nothing is renewed any more.
pub(super) const NOT_RENEWABLE: Error = Error::Conflict {
    problem: "the certificate was revoked, its device was retired, or it expired too long ago: register the device anew",
};

/// Makes a claim.
pub struct ClaimAdd {
    /// Who asks.
    pub caller: Caller,
    /// What its owner calls it.
    pub name: String,
    /// Which serial numbers may enrol beside those that are listed.
    pub pattern: Option<SnPattern>,
    /// Serial numbers that may enrol.
    pub serials: Vec<Sn>,
    /// How many devices it is for.
    pub devices_max: u32,
    /// Its certificate.
    pub certificate: CertificateRecord,
}

impl Operation for ClaimAdd {
    type Output = Claim;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn bytes(&self) -> usize {
        self.serials.iter().map(|sn| sn.as_str().len()).sum()
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Claim, Abort> {
        let org = self.caller.org;
        if tx.claims_reach(org, CLAIMS_MAX)? {
            return Err(Error::Exhausted { limit: "the organisation has 1000 claims" }.into());
        }
        let new = NewClaim {
            org,
            name: self.name.clone(),
            serial_hex: self.certificate.serial_hex.clone(),
            pattern: self.pattern.clone(),
            devices_max: self.devices_max,
            not_after: self.certificate.not_after,
            at: tx.now(),
        };
        let id = tx.claim_insert(&new)?;
        tx.claim_serials_insert(id, &self.serials)?;
        claim_of(tx, org, id)
    }

    fn entries(&self, claim: &Claim) -> Vec<AuditEntry> {
        let entry = AuditEntry::of(&self.caller, AuditAction::ClaimAdd, claim_object(claim.id));
        let devices = self.devices_max.to_string();
        let entry = entry.detail("name", &self.name).detail("devices", &devices);
        let pattern = self.pattern.as_ref().map_or("", SnPattern::as_str);
        let entry = entry.detail("pattern", pattern).detail("serials", &serials_text(&self.serials));
        vec![entry.detail("certificate", &self.certificate.serial_hex)]
    }
}

/// A claim, as the audit log names it.
fn claim_object(id: ClaimId) -> String {
    format!("claim {}", id.0)
}

/// How many serial numbers these are, and the first ones.
fn serials_text(serials: &[Sn]) -> String {
    let mut text = format!("{}:", serials.len());
    for sn in serials {
        if text.len() > DETAIL_BYTES_MAX {
            break;
        }
        text.push(' ');
        text.push_str(sn.as_str());
    }
    if serials.is_empty() { String::new() } else { text }
}

fn claim_of(tx: &mut dyn Transaction, org: OrgId, id: ClaimId) -> Result<Claim, Abort> {
    tx.claim(org, id)?.ok_or_else(|| Error::not_found("claim").into())
}

/// Lists more serial numbers of a claim; answers how many are new.
pub struct ClaimSerialsAdd {
    /// Who asks.
    pub caller: Caller,
    /// The claim.
    pub id: ClaimId,
    /// Serial numbers that may enrol.
    pub serials: Vec<Sn>,
}

impl Operation for ClaimSerialsAdd {
    type Output = u32;

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn bytes(&self) -> usize {
        self.serials.iter().map(|sn| sn.as_str().len()).sum()
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<u32, Abort> {
        let claim = claim_of(tx, self.caller.org, self.id)?;
        let more = distinct(&self.serials);
        if tx.claim_serials_count(claim.id)?.saturating_add(more) > CLAIM_SERIALS_MAX {
            return Err(Error::Exhausted { limit: "1000000 serial numbers are listed of the claim" }.into());
        }
        Ok(tx.claim_serials_insert(claim.id, &self.serials)?)
    }

    fn entries(&self, added: &u32) -> Vec<AuditEntry> {
        let entry = AuditEntry::of(&self.caller, AuditAction::ClaimSerialsAdd, claim_object(self.id));
        vec![entry.detail("added", &added.to_string()).detail("serials", &serials_text(&self.serials))]
    }
}

/// Lets a serial number enrol once more.
pub struct ClaimSerialRelease {
    /// Who asks.
    pub caller: Caller,
    /// The claim.
    pub id: ClaimId,
    /// The serial number.
    pub sn: Sn,
}

impl Operation for ClaimSerialRelease {
    /// Whether it might not.
    type Output = bool;

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::Org(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<bool, Abort> {
        let claim = claim_of(tx, self.caller.org, self.id)?;
        let state = tx.claim_serial(claim.id, &self.sn)?.ok_or(Error::not_found("serial number"))?;
        if !state.is_free {
            let at = tx.now();
            tx.claim_serial_release(claim.id, &self.sn, at)?;
        }
        Ok(!state.is_free)
    }

    fn entries(&self, is_new: &bool) -> Vec<AuditEntry> {
        if !is_new {
            return Vec::new();
        }
        let entry = AuditEntry::of(&self.caller, AuditAction::ClaimRelease, claim_object(self.id));
        vec![entry.detail("sn", self.sn.as_str())]
    }
}

/// Revokes a claim. The devices that enrolled by it stay.
pub struct ClaimRevoke {
    /// Who asks.
    pub caller: Caller,
    /// The claim.
    pub id: ClaimId,
}

impl Operation for ClaimRevoke {
    /// The claim, and whether it was revoked now.
    type Output = (Claim, bool);

    const NEED: Need = Need::Relief;

    fn turn(&self) -> Turn {
        Turn::ShutOut(self.caller.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(Claim, bool), Abort> {
        let claim = claim_of(tx, self.caller.org, self.id)?;
        if claim.revoked_at.is_some() {
            return Ok((claim, false));
        }
        let at = tx.now();
        tx.claim_revoke(claim.id, at)?;
        Ok((Claim { revoked_at: Some(at), ..claim }, true))
    }

    fn entries(&self, (claim, is_new): &(Claim, bool)) -> Vec<AuditEntry> {
        let object = is_new.then(|| claim_object(claim.id));
        let entry = |object| AuditEntry::of(&self.caller, AuditAction::ClaimRevoke, object);
        object.map(entry).into_iter().collect()
    }
}

/// Enrols a device by a claim: registers it, or gives it another certificate if it was released, or if it asks again
/// because the answer was lost on the way.
pub struct ClaimEnrol {
    /// The claim's organisation.
    pub org: OrgId,
    /// The serial number of the claim's certificate.
    pub claim_hex: String,
    /// The serial number that enrols.
    pub sn: Sn,
    /// SHA-256 of its public key.
    pub key_sha256: [u8; 32],
    /// From where it came, if that is known.
    pub address: Option<String>,
    /// The certificate that was issued to it.
    pub certificate: CertificateRecord,
}

impl Operation for ClaimEnrol {
    /// The device, and the API keys that ended with the certificates that it had before.
    type Output = (Certified, Vec<EndedKey>);

    const NEED: Need = Need::New;

    fn turn(&self) -> Turn {
        Turn::Org(self.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<(Certified, Vec<EndedKey>), Abort> {
        DeviceRegister::validate(Some(&self.sn), None, &[])?;
        let mut ended = Vec::new();
        let now = tx.now();
        let claim = tx
            .claim_of_certificate(&self.claim_hex)?
            .filter(|claim| claim.is_good_at(now))
            .ok_or(CLAIM_OVER)?;
        let state = tx.claim_serial(claim.id, &self.sn)?;
        let admitted = self.admitted(&claim, state.as_ref(), now)?;
        let found = tx.device_of_name(&self.sn)?.map(|found| found.identity);
        let certified = match (admitted, found) {
            (Admitted::Again(device), Some(found)) if found.device == device => {
                let superseded_hex = keep_newest(tx, device, NONE, CERTIFICATES_MAX - 1)?;
                Certified { device: found, superseded_hex }
            }
            // It was retired: only an operator lets it in again.
            (Admitted::Again(_), _) => return Err(USED.into()),
            (Admitted::New, None) => {
                let device = register(tx, claim.org, &self.sn, None, &[])?;
                Certified { device, superseded_hex: Vec::new() }
            }
            // Released: whoever has the keys of before is somebody else now.
            (Admitted::New, Some(found)) if state.is_some_and(|state| state.device == Some(found.device)) => {
                // It may refuse, which nothing that was written may come before.
                demand_of_day(tx, found.device)?;
                // Before its certificates, of which those stay that have a key.
                ended = tx.api_keys_revoke_of_device(found.device)?;
                let superseded_hex = keep_newest(tx, found.device, NONE, 0)?;
                Certified { device: found, superseded_hex }
            }
            (Admitted::New, Some(_)) => return Err(Error::SnTaken.into()),
        };
        tx.certificate_insert(certified.device.device, &self.certificate)?;
        let new = NewUse {
            claim: claim.id,
            sn: self.sn.clone(),
            device: certified.device.device,
            key_sha256: self.key_sha256,
            certificate_hex: self.certificate.serial_hex.clone(),
            address: self.address.clone(),
            at: now,
        };
        tx.claim_use(&new, matches!(admitted, Admitted::New))?;
        Ok((certified, ended))
    }

    fn entries(&self, (certified, ended): &(Certified, Vec<EndedKey>)) -> Vec<AuditEntry> {
        let actor = AuditActor { kind: Cow::Borrowed("claim"), id: 0, name: Arc::from(&*self.claim_hex) };
        let object = object_of(&certified.device);
        let mut entry = AuditEntry::by(actor, self.org, AuditAction::DeviceEnrol, object);
        entry.from = self.address.as_deref().and_then(|address| address.parse().ok());
        with_keys(certified.named_in(entry, &self.certificate), ended)
    }
}

/// Said of a serial number that has enrolled.
const USED: Error = Error::Conflict {
    problem: "a device of this serial number has enrolled; release the serial number first",
};

/// How a serial number is let in.
#[derive(Clone, Copy)]
enum Admitted {
    /// It has not enrolled, or was released.
    New,
    /// It has enrolled with this key, as this device, not long ago, and has not got its certificate.
    Again(DeviceKey),
}

impl ClaimEnrol {
    fn admitted(&self, claim: &Claim, state: Option<&ClaimSerialState>, now: UnixMs) -> Result<Admitted> {
        let is_free = match state {
            None => {
                if !claim.pattern.as_ref().is_some_and(|pattern| pattern.matches(&self.sn)) {
                    let problem = "the claim is not for this serial number";
                    return Err(Error::Conflict { problem });
                }
                true
            }
            Some(state) => state.is_free,
        };
        if is_free {
            if claim.used >= claim.devices_max {
                let problem = "as many devices have enrolled as the claim is for";
                return Err(Error::Conflict { problem });
            }
            return Ok(Admitted::New);
        }
        // Whoever holds the key is the device that enrolled. That its answer was lost it can say for a while, and not of a
        // certificate that somebody has revoked.
        let is_lost = |state: &ClaimSerialState| {
            state.issued_at.is_some_and(|at| now.since_ms(at) <= ASKED_AGAIN_MS_MAX)
        };
        let known = state.filter(|state| is_lost(state)).and_then(|state| state.device.zip(state.key_sha256));
        match known {
            Some((device, key)) if key == self.key_sha256 => Ok(Admitted::Again(device)),
            _ => Err(USED),
        }
    }
}

impl Claim {
    /// Whether devices may enrol by it.
    #[must_use]
    pub fn is_good_at(&self, now: UnixMs) -> bool {
        self.revoked_at.is_none() && now <= self.not_after
    }
}

/// Gives a device the next certificate, by one that it has. That one stays good until it ends.
pub struct DeviceRenew {
    /// The device, as it was found by the certificate.
    pub device: DeviceIdentity,
    /// The serial number of the certificate that it has shown.
    pub shown_hex: String,
    /// From where it asks, if that is known.
    pub from: Option<IpAddr>,
    /// How long that certificate may have ended, in milliseconds.
    pub expired_ms_max: i64,
    /// The certificate that was issued to it.
    pub certificate: CertificateRecord,
}

impl Operation for DeviceRenew {
    type Output = Certified;

    fn turn(&self) -> Turn {
        Turn::Org(self.device.org)
    }

    fn apply(&self, tx: &mut dyn Transaction) -> Result<Certified, Abort> {
        let found = tx.device_of_name(&self.device.sn)?.map(|found| found.identity);
        let found = found.filter(|found| found.device == self.device.device).ok_or(NOT_RENEWABLE)?;
        let end = tx.certificate_end(found.device, &self.shown_hex)?.ok_or(NOT_RENEWABLE)?;
        if tx.now().since_ms(end) > self.expired_ms_max {
            return Err(NOT_RENEWABLE.into());
        }
        // The one that it has shown is spared: it may not get to know the new one.
        let superseded_hex = keep_newest(tx, found.device, &self.shown_hex, CERTIFICATES_MAX - 2)?;
        tx.certificate_insert(found.device, &self.certificate)?;
        tx.certificate_renewed_from(found.device, &self.certificate.serial_hex, &self.shown_hex)?;
        Ok(Certified { device: found, superseded_hex })
    }

    fn entries(&self, certified: &Certified) -> Vec<AuditEntry> {
        let device = &certified.device;
        let actor = AuditActor { kind: Cow::Borrowed("device"), id: 0, name: Arc::from(device.sn.as_str()) };
        let entry = AuditEntry::by(actor, device.org, AuditAction::DeviceRenew, object_of(device));
        let entry = AuditEntry { from: self.from, ..entry };
        vec![certified.named_in(entry.detail("shown", &self.shown_hex), &self.certificate)]
    }
}

/// No certificate has this serial number.
pub(crate) const NONE: &str = "";

/// Makes room for one more certificate of a device: this one stays, and the newest of the others, so many. Answers the
/// serial numbers of those that do not.
fn keep_newest(
    tx: &mut dyn Transaction,
    device: DeviceKey,
    spared_hex: &str,
    keep: u32,
) -> Result<Vec<String>, Abort> {
    demand_of_day(tx, device)?;
    let now = tx.now();
    Ok(tx.certificates_supersede(device, spared_hex, keep, now)?)
}

/// Refuses one more certificate to a device that has got as many within a day as it may.
fn demand_of_day(tx: &mut dyn Transaction, device: DeviceKey) -> Result<(), Abort> {
    let since = tx.now().plus_ms(-DAY_MS);
    if tx.certificates_since(device, since)? >= CERTIFICATES_PER_DAY_MAX {
        return Err(Error::Exhausted { limit: "the device has got 20 certificates within a day" }.into());
    }
    Ok(())
}
