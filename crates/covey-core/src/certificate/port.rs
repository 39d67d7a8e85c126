//! What operations and callers ask the store of certificates.

use crate::access::{Caller, EndedKey};
use crate::certificate::{
    Certificate, CertificateFilter, Revocation, RevocationReason, RevokedCertificate, RevokedCount, RevokedOf,
};
use crate::id::{DeviceKey, OrgId, UnixMs};
use crate::port::{Found, Page, PageRequest, TxResult};

/// A page of certificates.
pub type CertificatePage = Page<Certificate>;

/// The steps on certificates inside a transaction. They are made in
/// [`DeviceSteps`](crate::device::DeviceSteps), with their devices or for them.
pub trait CertificateSteps {
    /// A certificate of an organisation by its serial number.
    fn certificate(&mut self, org: OrgId, serial_hex: &str) -> TxResult<Option<Certificate>>;
    /// Revokes a certificate of a device, unless it was revoked before; answers the API keys that end with it.
    fn certificate_revoke(
        &mut self,
        device: DeviceKey,
        serial_hex: &str,
        reason: RevocationReason,
    ) -> TxResult<Vec<EndedKey>>;
    /// Remembers that a certificate of a device was got by showing another one.
    fn certificate_renewed_from(
        &mut self,
        device: DeviceKey,
        serial_hex: &str,
        shown_hex: &str,
    ) -> TxResult<()>;
    /// The serial numbers of those certificates of a device that were got by showing this one, or by showing one of these, and
    /// were not revoked; at most so many.
    fn certificates_renewed_from(
        &mut self,
        device: DeviceKey,
        shown_hex: &str,
        limit: u32,
    ) -> TxResult<Vec<String>>;
    /// The serial numbers of those certificates of a device that were not revoked; at most so many.
    fn certificates_unrevoked(&mut self, device: DeviceKey, limit: u32) -> TxResult<Vec<String>>;
}

/// The reads of certificates.
pub trait CertificateReader {
    /// Certificates of the caller's organisation, those that end first in front. What has ended by `now` is not valid.
    fn certificate_list(
        &self,
        caller: &Caller,
        filter: CertificateFilter,
        now: UnixMs,
        page: PageRequest,
    ) -> Found<'_, CertificatePage>;

    /// Of these serial numbers, those that were given to a device, and whether the certificate was revoked.
    fn certificates_known_of_every_org(
        &self,
        serials_hex: Vec<String>,
    ) -> Found<'_, Vec<(String, Option<Revocation>)>>;

    /// How many certificates of our CA are revoked that end at this instant or later, and when the last of them was.
    fn revoked_count_of_every_org(&self, ending_from: UnixMs) -> Found<'_, RevokedCount>;

    /// Those that were revoked after an instant (or then, with a later serial number), in that order, and end at
    /// `ending_from` or later.
    fn revoked_of_every_org(
        &self,
        after: (UnixMs, String),
        ending_from: UnixMs,
        of: RevokedOf,
        limit: u32,
    ) -> Found<'_, Vec<RevokedCertificate>>;
}
