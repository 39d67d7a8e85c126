//! What operations and callers ask the store of claims, and of the certificates of a device that asks for the next.

use crate::access::Caller;
use crate::enrolment::{Claim, ClaimSerial, ClaimSerialState, SnPattern};
use crate::id::{ClaimId, DeviceKey, OrgId, Sn, UnixMs};
use crate::port::{Found, Page, PageRequest, TxResult};

/// A claim that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClaim {
    /// Its organisation.
    pub org: OrgId,
    /// What its owner calls it.
    pub name: String,
    /// The serial number of its certificate in lower-case hexadecimal digits.
    pub serial_hex: String,
    /// Which serial numbers may enrol beside those that are listed.
    pub pattern: Option<SnPattern>,
    /// How many devices it is for.
    pub devices_max: u32,
    /// When its certificate ends.
    pub not_after: UnixMs,
    /// Now.
    pub at: UnixMs,
}

/// The use of a claim that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUse {
    /// The claim.
    pub claim: ClaimId,
    /// The serial number that enrolled.
    pub sn: Sn,
    /// The device that it is.
    pub device: DeviceKey,
    /// SHA-256 of its public key.
    pub key_sha256: [u8; 32],
    /// The serial number of its certificate in lower-case hexadecimal digits.
    pub certificate_hex: String,
    /// From where it came, if that is known.
    pub address: Option<String>,
    /// Now.
    pub at: UnixMs,
}

/// The steps on claims and on certificates of devices inside a transaction.
pub trait EnrolmentSteps {
    /// The claim of this certificate. Nobody uses or changes it until this transaction has ended.
    fn claim_of_certificate(&mut self, serial_hex: &str) -> TxResult<Option<Claim>>;
    /// A claim of an organisation, held in the same way.
    fn claim(&mut self, org: OrgId, id: ClaimId) -> TxResult<Option<Claim>>;
    /// Whether an organisation has at least this many claims that were not revoked.
    fn claims_reach(&mut self, org: OrgId, count: u32) -> TxResult<bool>;
    /// Stores a new claim.
    fn claim_insert(&mut self, claim: &NewClaim) -> TxResult<ClaimId>;
    /// Lists serial numbers of a claim; answers how many were not listed before.
    fn claim_serials_insert(&mut self, claim: ClaimId, serials: &[Sn]) -> TxResult<u32>;
    /// How many serial numbers are listed of a claim.
    fn claim_serials_count(&mut self, claim: ClaimId) -> TxResult<u32>;
    /// What is known of a serial number of a claim; none if it is not listed and nobody has enrolled.
    fn claim_serial(&mut self, claim: ClaimId, sn: &Sn) -> TxResult<Option<ClaimSerialState>>;
    /// Notes that a device has enrolled; `is_counted` if it is one more than before.
    fn claim_use(&mut self, new: &NewUse, is_counted: bool) -> TxResult<()>;
    /// Lets a serial number that has enrolled enrol once more.
    fn claim_serial_release(&mut self, claim: ClaimId, sn: &Sn, at: UnixMs) -> TxResult<()>;
    /// Revokes a claim.
    fn claim_revoke(&mut self, claim: ClaimId, at: UnixMs) -> TxResult<()>;
    /// When a certificate of a device ends, unless it was revoked.
    fn certificate_end(&mut self, device: DeviceKey, serial_hex: &str) -> TxResult<Option<UnixMs>>;
    /// How many certificates a device has got since an instant.
    fn certificates_since(&mut self, device: DeviceKey, since: UnixMs) -> TxResult<u32>;
    /// Revokes the certificates of a device but for this one, the newest of the others, so many, and those that rights
    /// were given to; answers their serial numbers.
    fn certificates_supersede(
        &mut self,
        device: DeviceKey,
        spared_hex: &str,
        keep: u32,
        at: UnixMs,
    ) -> TxResult<Vec<String>>;
}

/// The reads of claims.
pub trait EnrolmentReader {
    /// The claim of this certificate.
    fn claim_of_certificate_of_every_org(&self, serial_hex: String) -> Found<'_, Option<Claim>>;

    /// Claims of the caller's organisation, or the one with this number, in the order of their numbers.
    fn claim_list(&self, caller: &Caller, id: Option<ClaimId>, page: PageRequest) -> Found<'_, Page<Claim>>;

    /// Serial numbers of a claim of the caller's organisation, in their order.
    fn claim_serial_list(
        &self,
        caller: &Caller,
        claim: ClaimId,
        sn: Option<Sn>,
        page: PageRequest,
    ) -> Found<'_, Page<ClaimSerial>>;
}
