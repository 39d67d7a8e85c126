//! What can be asked of certificates.

use crate::access::Rights;
use crate::budget::Weight;
use crate::certificate::{
    Certificate, CertificateFilter, CertificatePage, CertificateRevoke, DeviceCertificatesRevoke,
    DeviceRevoked, Revocation, RevocationReason, Revoked, RevokedCertificate, RevokedCount, RevokedOf,
};
use crate::engine::after_commit::AfterCommit;
use crate::engine::{ForCaller, ForServer};
use crate::error::{Error, Result};
use crate::id::{DeviceId, Sn, UnixMs};
use crate::port::{PageRequest, ReadKind};

/// How many revoked certificates one look concerns after something may have been missed.
/// Limit for each look: the rest follows at once.
const LOOK_MAX: u32 = 1_000;
/// How long before the last look one looks again, in milliseconds: an instant of a transaction is earlier than its
/// commit.
const LOOK_BACK_MS: i64 = 60_000;

impl ForCaller<'_> {
    /// A page of certificates, those that end first in front.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn certificate_list(
        self,
        filter: CertificateFilter,
        page: PageRequest,
    ) -> Result<CertificatePage> {
        self.caller.require_some(Rights::DEVICES_READ)?;
        let page = page.validate()?;
        let _scan = self.begin_read(ReadKind::of_certificates(&filter))?;
        self.engine.parts.store.certificate_list(self.caller, filter, self.engine.now(), page).await
    }

    /// A certificate by its serial number.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn certificate(self, serial_hex: &str) -> Result<Certificate> {
        let filter =
            CertificateFilter { serial_hex: Some(serial_hex.to_owned()), ..CertificateFilter::default() };
        let page = self.certificate_list(filter, PageRequest { page: 1, size: 1 }).await?;
        page.items.into_iter().next().ok_or(Error::not_found("certificate"))
    }

    /// Revokes a certificate: no server lets its holder in, and connections that it stands for are closed. If others know its
    /// key, the same of those that were got by showing it.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn certificate_revoke(self, serial_hex: &str, reason: RevocationReason) -> Result<Certificate> {
        self.caller.require_some(Rights::DEVICES_WRITE)?;
        self.charge_relief(Weight::WRITE)?;
        let caller = self.caller.clone();
        let operation = CertificateRevoke { caller, serial_hex: serial_hex.to_owned(), reason };
        // Also of one that was revoked before: who asks again may have seen a connection that goes on.
        let tell = |after: &AfterCommit, revoked: &Revoked| {
            let Certificate { device, serial_hex, .. } = &revoked.certificate;
            let all = std::iter::once(serial_hex).chain(&revoked.renewed_hex);
            all.for_each(|serial_hex| after.revoked_certificate(&device.sn, serial_hex));
        };
        Ok(self.engine.execute_then(operation, tell).await?.certificate)
    }

    /// Revokes all certificates of a device, which stays registered.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn device_certificates_revoke(
        self,
        device_id: DeviceId,
        reason: RevocationReason,
    ) -> Result<DeviceRevoked> {
        self.caller.require_some(Rights::DEVICES_WRITE)?;
        let mut serials_hex = Vec::new();
        loop {
            self.charge_relief(Weight::WRITE)?;
            let operation = DeviceCertificatesRevoke { caller: self.caller.clone(), device_id, reason };
            let tell = |after: &AfterCommit, revoked: &DeviceRevoked| {
                let sn = &revoked.identity.sn;
                revoked.serials_hex.iter().for_each(|serial_hex| after.revoked_certificate(sn, serial_hex));
            };
            let some = self.engine.execute_then(operation, tell).await?;
            serials_hex.extend(some.serials_hex);
            if !some.is_cut {
                return Ok(DeviceRevoked { serials_hex, ..some });
            }
        }
    }
}

impl ForServer<'_> {
    /// Of these serial numbers, those that were given to a device, and whether the certificate was revoked.
    ///
    /// # Errors
    /// The store's.
    pub async fn certificates_known(
        self,
        serials_hex: Vec<String>,
    ) -> Result<Vec<(String, Option<Revocation>)>> {
        self.engine.parts.store.certificates_known_of_every_org(serials_hex).await
    }

    /// How many certificates of ours are revoked that are not past their end.
    ///
    /// # Errors
    /// The store's.
    pub async fn revoked_count(self, ending_from: UnixMs) -> Result<RevokedCount> {
        self.engine.parts.store.revoked_count_of_every_org(ending_from).await
    }

    /// Those certificates, at most so many, in the order in which they were revoked.
    ///
    /// # Errors
    /// The store's.
    pub async fn revoked(self, ending_from: UnixMs, limit: u32) -> Result<Vec<RevokedCertificate>> {
        let from = (UnixMs(i64::MIN), String::new());
        self.engine.parts.store.revoked_of_every_org(from, ending_from, RevokedOf::Own, limit).await
    }

    /// Closes connections of what was revoked since the last look, which another server may have told in vain.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn revoked_look_again(self) -> Result<()> {
        let after = &self.engine.after_commit;
        let until = self.engine.now();
        let mut from = (self.engine.swept().revoked_seen.plus_ms(-LOOK_BACK_MS), String::new());
        loop {
            let (store, all) = (&self.engine.parts.store, RevokedOf::Every);
            let some = store.revoked_of_every_org(from.clone(), UnixMs(0), all, LOOK_MAX).await?;
            for revoked in &some {
                if let Ok(sn) = Sn::parse(&revoked.sn) {
                    after.links.revoke_certificate_after_peer(&sn, &revoked.serial_hex);
                }
            }
            match some.last() {
                Some(last) if some.len() >= LOOK_MAX as usize => {
                    from = (last.revocation.at, last.serial_hex.clone());
                }
                _ => break,
            }
        }
        self.engine.swept().revoked_seen = until;
        Ok(())
    }
}
