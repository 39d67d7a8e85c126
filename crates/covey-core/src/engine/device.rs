//! What can be asked of devices and API keys, and what devices tell by
//! connecting and going.

use crate::access::{ApiKey, Rights, Scope};
use crate::device::{Device, DeviceFilter, DeviceIdentity, DeviceSpec, IssuedCertificate, Presence, Tag};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::id::{DeviceId, Sn};
use crate::operation::{
    ApiKeyAdd, ApiKeyRevoke, DeviceRegister, DeviceRetire, FirstKeyAdd, MadeKey, PresenceClear, PresencePut,
    TagPut,
};
use crate::port::{DevicePage, Event, PageRequest};

impl Engine {
    /// Registers a device and issues its certificate.
    ///
    /// # Errors
    /// A missing right, a field out of range, a request that cannot be signed,
    /// [`Error::Conflict`] for a serial number or a number that is taken, or
    /// the store's.
    pub async fn device_register(
        &self,
        scope: Scope,
        spec: DeviceSpec,
    ) -> Result<(Device, IssuedCertificate)> {
        scope.require(Rights::DEVICES_WRITE)?;
        DeviceRegister::validate(spec.device_id, &spec.tags)?;
        let sn = spec.sn.unwrap_or_else(|| self.parts.ids.sn());
        // Signed before it is stored: a certificate that nobody stored admits nobody.
        let issued = self.parts.issuer.issue(&sn, spec.csr_pem.as_deref(), self.now())?;
        let certificate = issued.record.clone();
        let operation =
            DeviceRegister { org: scope.org, sn, device_id: spec.device_id, tags: spec.tags, certificate };
        let device = self.execute(operation).await?;
        Ok((device, issued))
    }

    /// A page of devices, in the order of their numbers.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn device_list(
        &self,
        scope: Scope,
        filter: DeviceFilter,
        page: PageRequest,
    ) -> Result<DevicePage> {
        scope.require(Rights::DEVICES_READ)?;
        self.parts.store.device_list(scope, filter, page.validate()?).await
    }

    /// Retires a device: its certificates are revoked and its connection closed.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn device_retire(&self, scope: Scope, device_id: DeviceId) -> Result<DeviceIdentity> {
        scope.require(Rights::DEVICES_WRITE)?;
        let operation = DeviceRetire { org: scope.org, device_id };
        self.execute_then(operation, |outlet, identity| outlet.link.revoke(&identity.sn)).await
    }

    /// Sets a tag of a device; answers the tag's number.
    ///
    /// # Errors
    /// A missing right, a tag out of range, [`Error::NotFound`], or the store's.
    pub async fn tag_put(&self, scope: Scope, device_id: DeviceId, tag: Tag) -> Result<i64> {
        scope.require(Rights::DEVICES_WRITE)?;
        TagPut::validate(&tag)?;
        self.execute(TagPut { org: scope.org, device_id, tag }).await
    }

    /// Whether the holder of a certificate may connect, and as whom.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_admit(&self, sn: &Sn, serial_hex: &str) -> Result<Option<DeviceIdentity>> {
        self.parts.store.device_of_certificate_of_every_org(sn.clone(), serial_hex.to_owned()).await
    }

    /// A device has connected.
    pub fn device_connected(&self, device: &DeviceIdentity, details: Vec<(String, String)>) {
        self.count(Event::Connected);
        let now = self.now();
        let presence = Presence { online: true, connected_at: Some(now), checked_at: now, details };
        self.remember_presence(device, presence);
    }

    /// A device listens for announcements from now on.
    pub fn device_listens(&self, device: &DeviceIdentity) {
        self.outlet.announcer.listens(device);
    }

    /// A device no longer listens for announcements.
    pub fn device_deaf(&self, device: &DeviceIdentity) {
        self.outlet.announcer.gone(device.device);
    }

    /// A device's connection has ended.
    pub fn device_disconnected(&self, device: &DeviceIdentity, details: Vec<(String, String)>) {
        self.count(Event::Disconnected);
        self.outlet.announcer.gone(device.device);
        let presence = Presence { online: false, connected_at: None, checked_at: self.now(), details };
        self.remember_presence(device, presence);
    }

    /// Presence is told to applications and decides nothing, so a device does
    /// not wait for it; what is lost with a crash, the next start corrects.
    fn remember_presence(&self, device: &DeviceIdentity, presence: Presence) {
        let _ = self.execute_later(PresencePut { device: device.device, presence });
    }

    /// Forgets all connections, at the start of a server that holds them all.
    ///
    /// # Errors
    /// The store's.
    pub async fn presence_clear(&self) -> Result<()> {
        self.execute(PresenceClear).await
    }

    /// The caller that an API key stands for.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_key_check(&self, clear_text: &str) -> Result<Option<ApiKey>> {
        self.parts.store.api_key_of_every_org((self.parts.key_hasher)(clear_text)).await
    }

    /// Makes an API key.
    ///
    /// # Errors
    /// A missing right, a field out of range, or the store's.
    pub async fn api_key_add(
        &self,
        scope: Scope,
        org_name: &str,
        name: &str,
        rights: Rights,
    ) -> Result<MadeKey> {
        scope.require(Rights::KEYS_WRITE)?;
        if !scope.rights.contains(rights) {
            return Err(Error::Forbidden { right: "of the key to be made" });
        }
        let clear_text = self.parts.ids.api_key();
        let key = self.execute(self.key_to_add(org_name, name, rights, &clear_text)?).await?;
        Ok(MadeKey { key, clear_text })
    }

    /// Whether there is any API key.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_key_exists(&self) -> Result<bool> {
        Ok(!self.parts.store.api_key_list_of_every_org().await?.is_empty())
    }

    /// Makes the first key, with this clear text, if there is none at all;
    /// answers whether it did.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_key_first(&self, org_name: &str, name: &str, clear_text: &str) -> Result<bool> {
        let operation = FirstKeyAdd(self.key_to_add(org_name, name, Rights::ALL, clear_text)?);
        Ok(self.execute(operation).await?.is_some())
    }

    /// A new API key in clear text, not stored anywhere.
    #[must_use]
    pub fn api_key_text(&self) -> String {
        self.parts.ids.api_key()
    }

    /// All API keys.
    ///
    /// # Errors
    /// A missing right, or the store's.
    pub async fn api_key_list(&self, scope: Scope) -> Result<Vec<ApiKey>> {
        scope.require(Rights::KEYS_WRITE)?;
        self.parts.store.api_key_list_of_every_org().await
    }

    /// Revokes an API key.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn api_key_revoke(&self, scope: Scope, id: i64) -> Result<()> {
        scope.require(Rights::KEYS_WRITE)?;
        self.execute(ApiKeyRevoke { id }).await
    }

    fn key_to_add(&self, org_name: &str, name: &str, rights: Rights, clear_text: &str) -> Result<ApiKeyAdd> {
        ApiKeyAdd::validate(org_name, name)?;
        let digest = (self.parts.key_hasher)(clear_text);
        Ok(ApiKeyAdd { org_name: org_name.to_owned(), name: name.to_owned(), rights, digest })
    }
}
