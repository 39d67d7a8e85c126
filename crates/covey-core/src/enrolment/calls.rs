//! What can be asked of enrolment.

use std::net::IpAddr;

use crate::access::{ASKED_TOO_MANY, Rights};
use crate::budget::Weight;
use crate::device::{DeviceIdentity, DeviceRegister, IssuedCertificate};
use crate::engine::after_commit::AfterCommit;
use crate::engine::{ForCaller, ForServer};
use crate::enrolment::operation::{CLAIM_OVER, NOT_RENEWABLE};
use crate::enrolment::{
    Certified, Claim, ClaimAdd, ClaimEnrol, ClaimRevoke, ClaimSerial, ClaimSerialRelease, ClaimSerialsAdd,
    ClaimSpec, DeviceRenew, EnrolRequest, check_serials,
};
use crate::error::{Error, Result};
use crate::id::{ClaimId, Sn};
use crate::port::{CertificateKey, Page, PageRequest, ReadKind};

impl ForCaller<'_> {
    /// Makes a claim, with its certificate and its key.
    ///
    /// # Errors
    /// A missing right, a field out of range, a limit, or the store's.
    pub async fn claim_add(self, spec: ClaimSpec) -> Result<(Claim, IssuedCertificate)> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        let devices_max = spec.validate(self.engine.now())?;
        self.charge(Weight::WRITE)?;
        let issued = self.engine.parts.issuer.issue_claim(spec.not_after, self.engine.now())?;
        let ClaimSpec { name, pattern, serials, .. } = spec;
        let (caller, certificate) = (self.caller.clone(), issued.record.clone());
        let operation = ClaimAdd { caller, name, pattern, serials, devices_max, certificate };
        Ok((self.engine.execute(operation).await?, issued))
    }

    /// A page of claims, in the order of their numbers; or the one with this number.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn claim_list(self, id: Option<ClaimId>, page: PageRequest) -> Result<Page<Claim>> {
        self.caller.require(Rights::DEVICES_READ)?;
        let page = page.validate()?;
        let _scan = self.begin_read(ReadKind::ClaimList)?;
        self.engine.parts.store.claim_list(self.caller, id, page).await
    }

    /// A page of the serial numbers of a claim, in their order; or this one.
    ///
    /// # Errors
    /// A missing right, a page out of range, [`Error::NotFound`], or the store's.
    pub async fn claim_serial_list(
        self,
        claim: ClaimId,
        sn: Option<Sn>,
        page: PageRequest,
    ) -> Result<Page<ClaimSerial>> {
        self.caller.require(Rights::DEVICES_READ)?;
        let page = page.validate()?;
        let _scan = self.begin_read(ReadKind::ClaimSerialList)?;
        let known =
            self.engine.parts.store.claim_list(self.caller, Some(claim), PageRequest { page: 1, size: 1 });
        if known.await?.items.is_empty() {
            return Err(Error::not_found("claim"));
        }
        self.engine.parts.store.claim_serial_list(self.caller, claim, sn, page).await
    }

    /// Lists more serial numbers of a claim; answers how many are new.
    ///
    /// # Errors
    /// A missing right, a field out of range, [`Error::NotFound`], a limit, or the store's.
    pub async fn claim_serials_add(self, id: ClaimId, serials: Vec<Sn>) -> Result<u32> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        check_serials(&serials)?;
        self.charge(Weight::WRITE)?;
        self.engine.execute(ClaimSerialsAdd { caller: self.caller.clone(), id, serials }).await
    }

    /// Lets a serial number of a claim enrol once more.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn claim_serial_release(self, id: ClaimId, sn: Sn) -> Result<()> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        self.charge(Weight::WRITE)?;
        self.engine.execute(ClaimSerialRelease { caller: self.caller.clone(), id, sn }).await.map(drop)
    }

    /// Revokes a claim. The devices that enrolled by it stay.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn claim_revoke(self, id: ClaimId) -> Result<Claim> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        self.charge_relief(Weight::WRITE)?;
        Ok(self.engine.execute(ClaimRevoke { caller: self.caller.clone(), id }).await?.0)
    }
}

impl ForServer<'_> {
    /// Enrols a device for whoever has shown the certificate of a claim.
    ///
    /// # Errors
    /// [`Error::Conflict`] for a claim that is over, or not for this serial number, or one that has enrolled;
    /// [`Error::SnTaken`]; [`Error::OverBudget`] of the organisation; a request that cannot be signed; or the store's.
    pub async fn claim_enrol(
        self,
        claim_hex: &str,
        request: EnrolRequest,
    ) -> Result<(DeviceIdentity, IssuedCertificate)> {
        DeviceRegister::validate(Some(&request.sn), None, &[])?;
        let now = self.engine.now();
        let claim = self.engine.parts.store.claim_of_certificate_of_every_org(claim_hex.to_owned()).await?;
        let claim = claim.filter(|claim| claim.is_good_at(now)).ok_or(CLAIM_OVER)?;
        // Paid for before it costs the server anything.
        self.charge_org(claim.org, Weight::CERTIFICATE)?;
        let asked = self.engine.taken_names.ask(claim.org, now).ok_or(ASKED_TOO_MANY)?;
        let enrolled = self.enrol(claim, request).await;
        if matches!(enrolled, Err(Error::SnTaken)) {
            asked.told();
        }
        enrolled
    }

    async fn enrol(self, claim: Claim, request: EnrolRequest) -> Result<(DeviceIdentity, IssuedCertificate)> {
        let issued = self.issue(&request.sn, &request.csr_pem)?;
        let operation = ClaimEnrol {
            org: claim.org,
            claim_hex: claim.serial_hex,
            sn: request.sn,
            key_sha256: request.key_sha256,
            address: request.address,
            certificate: issued.record.clone(),
        };
        let then = |after: &AfterCommit, (certified, _): &(Certified, _)| {
            certified.tell_all_gone(after);
            after.links.admit(&certified.device.sn)
        };
        let ((certified, _), admitted) = self.engine.execute_with(operation, then).await?;
        admitted.await;
        Ok((certified.device, issued))
    }

    /// Gives a device the next certificate: it has shown one that it has, which proves who it is. That one may have ended
    /// as long ago as [`Limits`](crate::limits::Limits) say, and stays good until it ends.
    ///
    /// # Errors
    /// [`Error::Conflict`] for a certificate that was revoked or ended too long ago, or whose device was retired;
    /// [`Error::Exhausted`]; [`Error::OverBudget`]; a request that cannot be signed; or the store's.
    pub async fn device_renew(
        self,
        sn: &Sn,
        shown_hex: &str,
        csr_pem: &str,
        from: Option<IpAddr>,
    ) -> Result<(DeviceIdentity, IssuedCertificate)> {
        let device = self.device_admit(sn, shown_hex).await?.ok_or(NOT_RENEWABLE)?;
        self.engine.for_device(&device).charge(Weight::CERTIFICATE)?;
        let issued = self.issue(sn, csr_pem)?;
        let operation = DeviceRenew {
            device,
            shown_hex: shown_hex.to_owned(),
            from,
            expired_ms_max: self.engine.parts.limits.renew_expired_ms_max,
            certificate: issued.record.clone(),
        };
        let then = |after: &AfterCommit, certified: &Certified| certified.tell_some_gone(after);
        Ok((self.engine.execute_then(operation, then).await?.device, issued))
    }

    /// Signed before it is stored: a certificate that nobody stored admits nobody.
    fn issue(self, sn: &Sn, csr_pem: &str) -> Result<IssuedCertificate> {
        self.engine.parts.issuer.issue(sn, CertificateKey::OfRequest(csr_pem), self.engine.now())
    }
}
