//! What can be asked of devices: the registry.

use std::collections::BTreeMap;

use crate::access::{ASKED_TOO_MANY, CERTIFICATE_TEXT_PREFIX, Matter, Rights};
use crate::budget::Weight;
use crate::device::operation::IMPORTED_MARK;
use crate::device::{
    CertificateRecord, CertificateSpec, Device, DeviceFilter, DeviceIdentity, DevicePage, DeviceRegister,
    DeviceRetire, DeviceSpec, IssuedCertificate, NamedDevice, RetiredDevice, Tag, TagPut,
};
use crate::engine::after_commit::AfterCommit;
use crate::engine::{ForCaller, ForServer};
use crate::error::{Error, Result};
use crate::id::{DeviceId, Sn};
use crate::port::{CertificateKey, PageRequest, ReadKind};

impl ForCaller<'_> {
    /// Registers a device and issues its certificate.
    ///
    /// # Errors
    /// A missing right, a field out of range, a request that cannot be signed,
    /// [`Error::SnTaken`], [`Error::Conflict`] for a number that is taken, or the store's.
    pub async fn device_register(self, mut spec: DeviceSpec) -> Result<(Device, Option<IssuedCertificate>)> {
        self.caller.require_some(Rights::DEVICES_WRITE)?;
        DeviceRegister::validate(spec.sn.as_ref(), spec.device_id, &spec.tags)?;
        // As they are stored, so that what is granted is what is there: of those with one name the last.
        let tags: BTreeMap<_, _> = spec.tags.drain(..).map(|tag| (tag.tag, tag.value)).collect();
        spec.tags = tags.into_iter().map(|(tag, value)| Tag { tag, value }).collect();
        if self.caller.is_bound(Rights::DEVICES_WRITE) {
            let granted = self.caller.grants.giving(Rights::DEVICES_WRITE, &spec.tags, Matter::Device);
            granted.ok_or(Error::NotGranted { right: "devices:write" })?;
        }
        self.charge(Weight::WRITE)?;
        if spec.sn.is_none() {
            return self.register(spec).await;
        }
        let asked = self.engine.taken_names.ask(self.caller.org, self.engine.now()).ok_or(ASKED_TOO_MANY)?;
        let registered = self.register(spec).await;
        if matches!(registered, Err(Error::SnTaken)) {
            asked.told();
        }
        registered
    }

    async fn register(self, spec: DeviceSpec) -> Result<(Device, Option<IssuedCertificate>)> {
        let issuer = &self.engine.parts.issuer;
        let imported = match &spec.certificate {
            CertificateSpec::Imported { ca, certificate_pem } => {
                let (sn, record) = issuer.imported(ca, certificate_pem, self.engine.now())?;
                if spec.sn.as_ref().is_some_and(|asked| *asked != sn) {
                    return Err(Error::invalid(
                        "sn",
                        "must be the CommonName of the certificate, or left out",
                    ));
                }
                DeviceRegister::validate(Some(&sn), spec.device_id, &spec.tags)?;
                self.require_no_key_of(&record).await?;
                Some((sn, record))
            }
            _ => None,
        };
        let own = imported.as_ref().map(|(sn, _)| sn.clone()).or(spec.sn);
        let sn = own.unwrap_or_else(|| self.engine.parts.ids.sn());
        // Signed before it is stored: a certificate that nobody stored admits nobody.
        let issued = match &spec.certificate {
            CertificateSpec::WithKey => Some(issuer.issue(&sn, CertificateKey::P256, self.engine.now())?),
            CertificateSpec::Sign { csr_pem } => {
                Some(issuer.issue(&sn, CertificateKey::OfRequest(csr_pem), self.engine.now())?)
            }
            CertificateSpec::Imported { .. } | CertificateSpec::None => None,
        };
        let operation = DeviceRegister {
            caller: self.caller.clone(),
            sn,
            device_id: spec.device_id,
            tags: spec.tags,
            certificate: issued
                .as_ref()
                .map(|issued| issued.record.clone())
                .or(imported.map(|(_, record)| record)),
        };
        if operation.certificate.is_none() {
            return Ok((self.engine.execute(operation).await?, None));
        }
        let then = |after: &AfterCommit, device: &Device| after.links.admit(&device.identity.sn);
        let (device, admitted) = self.engine.execute_with(operation, then).await?;
        admitted.await;
        Ok((device, issued))
    }

    /// A certificate that stands for an API key becomes no device's: the key would end with the device, whoever's it is.
    async fn require_no_key_of(self, certificate: &CertificateRecord) -> Result<()> {
        let Some((_, sha256_hex)) = certificate.serial_hex.split_once(IMPORTED_MARK) else { return Ok(()) };
        let text = format!("{CERTIFICATE_TEXT_PREFIX}{sha256_hex}");
        if self.engine.server().api_key_check(&text).await?.is_none() {
            return Ok(());
        }
        Err(Error::Conflict { problem: "this certificate stands for an API key, so it is no device's" })
    }

    /// A page of devices, in the order of their numbers.
    ///
    /// # Errors
    /// A missing right, a page out of range or with tags of more bytes, or the store's.
    pub async fn device_list(
        self,
        filter: DeviceFilter,
        page: PageRequest,
        bytes_max: usize,
    ) -> Result<DevicePage> {
        self.caller.require_some(Rights::DEVICES_READ)?;
        let page = page.validate()?;
        let _scan = self
            .begin_read(ReadKind::of_devices(&filter).within(self.caller.is_bound(Rights::DEVICES_READ)))?;
        self.engine.parts.store.device_list(self.caller, filter, page, bytes_max).await?.whole()
    }

    /// Retires a device: its certificates are revoked and its connection closed.
    ///
    /// # Errors
    /// A missing right, [`crate::Error::NotFound`], or the store's.
    pub async fn device_retire(self, device_id: DeviceId) -> Result<DeviceIdentity> {
        self.caller.require_some(Rights::DEVICES_WRITE)?;
        self.charge_relief(Weight::WRITE)?;
        let operation = DeviceRetire { caller: self.caller.clone(), device_id };
        let tell = |after: &AfterCommit, RetiredDevice { identity, .. }: &RetiredDevice| {
            after.recorded();
            after.revoked(&identity.sn);
        };
        Ok(self.engine.execute_then(operation, tell).await?.identity)
    }

    /// Sets a tag of a device; answers the tag's number.
    ///
    /// # Errors
    /// A missing right, a tag out of range, [`crate::Error::NotFound`], or the store's.
    pub async fn tag_put(self, device_id: DeviceId, tag: Tag) -> Result<i64> {
        self.caller.require_some(Rights::DEVICES_WRITE)?;
        TagPut::validate(&tag)?;
        self.charge(Weight::WRITE)?;
        let (id, _) = self.engine.execute(TagPut { caller: self.caller.clone(), device_id, tag }).await?;
        Ok(id)
    }
}

impl ForServer<'_> {
    /// Whether the holder of a certificate may connect, and as whom.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_admit(self, sn: &Sn, serial_hex: &str) -> Result<Option<DeviceIdentity>> {
        self.engine.parts.store.device_of_certificate_of_every_org(sn.clone(), serial_hex.to_owned()).await
    }

    /// The device that is registered under a serial number, for a link whose
    /// broker has checked the certificate.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_of_sn(self, sn: &Sn) -> Result<Option<DeviceIdentity>> {
        self.engine.parts.store.device_of_sn_of_every_org(sn.clone()).await
    }

    /// Who is registered under a serial number, whatever it speaks and whoever speaks for it. That proves nothing: who asks
    /// looks at the organisation.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_of_name(self, sn: &Sn) -> Result<Option<NamedDevice>> {
        self.engine.parts.store.device_of_name_of_every_org(sn.clone()).await
    }

    /// The serial numbers of registered devices in their order, those after
    /// `after`: for a broker that keeps accounts of its own.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_sns(self, after: Option<&Sn>, limit: u32) -> Result<Vec<Sn>> {
        self.engine.parts.store.device_sns_of_every_org(after.cloned(), limit).await
    }
}
