//! What can be asked of devices and API keys, and what devices tell by
//! connecting and going.

use std::collections::HashSet;

use crate::access::{ApiKey, Rights, Scope};
use crate::device::{
    Connection, Device, DeviceFilter, DeviceIdentity, DeviceSpec, IssuedCertificate, Presence, Tag,
};
use crate::engine::outlet::Outlet;
use crate::engine::{Engine, SWEEP_MAX};
use crate::error::{Error, Result};
use crate::id::{CallerId, DeviceId, DeviceKey, Sn};
use crate::operation::{
    ApiKeyAdd, ApiKeyExists, ApiKeyRevoke, DeviceRegister, DeviceRetire, FirstKeyAdd, MadeKey, PresenceClear,
    PresencePut, PresenceSweep, TagPut,
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
        self.parts.link.admit(&device.identity.sn).await;
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
        let tell = |outlet: &Outlet, identity: &DeviceIdentity| {
            outlet.recorded();
            outlet.revoked(&identity.sn);
        };
        self.execute_then(operation, tell).await
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

    /// The device that is registered under a serial number, for a link whose
    /// broker has checked the certificate.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_of_sn(&self, sn: &Sn) -> Result<Option<DeviceIdentity>> {
        self.parts.store.device_of_sn_of_every_org(sn.clone()).await
    }

    /// The serial numbers of registered devices in their order, those after
    /// `after`: for a broker that keeps accounts of its own.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_sns(&self, after: Option<&Sn>, limit: u32) -> Result<Vec<Sn>> {
        self.parts.store.device_sns_of_every_org(after.cloned(), limit).await
    }

    /// The devices that were last seen connected, with their sessions, those
    /// after `after`: for a link that has lost sight of them.
    ///
    /// # Errors
    /// The store's.
    pub async fn presence_online(
        &self,
        after: DeviceKey,
        limit: u32,
    ) -> Result<Vec<(DeviceIdentity, String)>> {
        self.parts.store.presence_online_of_every_org(after, limit).await
    }

    /// A device has connected.
    pub fn device_connected(&self, device: &DeviceIdentity, connection: Connection) {
        self.count(Event::Connected);
        self.remember_presence(device, self.presence(true, connection));
    }

    /// A device has connected to a broker that all servers hear of it.
    /// Answers whether this server is the first to say so.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_connected_to_broker(
        &self,
        device: &DeviceIdentity,
        connection: Connection,
    ) -> Result<bool> {
        let presence = self.presence(true, connection);
        let operation = PresencePut { device: device.clone(), presence };
        let is_first = self.execute_then(operation, |outlet, _| outlet.recorded()).await?;
        if is_first {
            self.count(Event::Connected);
        }
        Ok(is_first)
    }

    /// A device's connection to a broker that all servers hear of has ended.
    /// Answers whether this server is the first to say so.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_disconnected_from_broker(
        &self,
        device: &DeviceIdentity,
        connection: Connection,
    ) -> Result<bool> {
        let presence = self.presence(false, connection);
        let operation = PresencePut { device: device.clone(), presence };
        let is_first = self.execute_then(operation, |outlet, _| outlet.recorded()).await?;
        if is_first {
            self.count(Event::Disconnected);
        }
        Ok(is_first)
    }

    /// A device listens for announcements from now on.
    pub fn device_listens(&self, device: &DeviceIdentity) {
        self.outlet.announcer.listens(device.device);
    }

    /// A device listens for announcements from now on, and another server
    /// makes those that are due.
    pub fn device_listens_elsewhere(&self, device: &DeviceIdentity) {
        self.outlet.announcer.listens_elsewhere(device.device);
    }

    /// A device no longer listens for announcements.
    pub fn device_deaf(&self, device: &DeviceIdentity) {
        self.outlet.announcer.gone(device.device);
    }

    /// A device's connection has ended.
    pub fn device_disconnected(&self, device: &DeviceIdentity, connection: Connection) {
        self.count(Event::Disconnected);
        self.outlet.announcer.gone(device.device);
        self.remember_presence(device, self.presence(false, connection));
    }

    fn presence(&self, online: bool, connection: Connection) -> Presence {
        let now = self.now();
        let Connection { session, server, reason, details } = connection;
        let connected_at = online.then_some(now);
        Presence { online, connected_at, checked_at: now, reason, details, session, server }
    }

    /// Presence is told to applications and decides nothing, so a device does
    /// not wait for it; what is lost with a crash, the next start corrects.
    fn remember_presence(&self, device: &DeviceIdentity, presence: Presence) {
        let _ = self
            .execute_later(PresencePut { device: device.clone(), presence }, |outlet, _| outlet.recorded());
    }

    /// Forgets the connections that this server held when it ran last.
    ///
    /// # Errors
    /// The store's.
    pub async fn presence_clear(&self, server: &str) -> Result<()> {
        let clear = || PresenceClear { server: server.to_owned(), limit: SWEEP_MAX };
        while self.execute(clear()).await? >= SWEEP_MAX as usize {}
        Ok(())
    }

    /// Tells of devices that came and went too often to be told of at once, and
    /// have been quiet since. Answers whether there are more.
    ///
    /// # Errors
    /// The store's.
    pub async fn presence_sweep(&self) -> Result<bool> {
        if !self.parts.store.presence_due_of_every_org(self.now()).await? {
            return Ok(false);
        }
        let told =
            self.execute_then(PresenceSweep { limit: SWEEP_MAX }, |outlet, _| outlet.recorded()).await?;
        Ok(told >= SWEEP_MAX as usize)
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
        may_grant(scope, rights)?;
        let clear_text = self.parts.ids.api_key();
        let key = self.execute(self.key_to_add(org_name, name, rights, &clear_text)?).await?;
        Ok(MadeKey { key, clear_text })
    }

    /// Takes a credential that its owner brings, such as a certificate, in
    /// place of a key: `text` is what [`Engine::api_key_check`] will be asked.
    ///
    /// # Errors
    /// A missing right, a field out of range, [`Error::Conflict`] for a
    /// credential that is in use already, or the store's.
    pub async fn credential_add(
        &self,
        scope: Scope,
        org_name: &str,
        name: &str,
        rights: Rights,
        text: &str,
    ) -> Result<ApiKey> {
        may_grant(scope, rights)?;
        let operation = self.key_to_add(org_name, name, rights, text)?;
        if self.api_key_check(text).await?.is_some() {
            return Err(Error::Conflict { problem: "this credential is in use already; revoke it first" });
        }
        self.execute(operation).await
    }

    /// Whether there is or was any API key; one that was revoked counts.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_key_exists(&self) -> Result<bool> {
        self.execute(ApiKeyExists).await
    }

    /// Makes the first key, with this clear text, if there never was one;
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

    /// Those whose credentials are valid.
    ///
    /// # Errors
    /// The store's.
    pub async fn callers_valid(&self) -> Result<HashSet<CallerId>> {
        let keys = self.parts.store.api_key_list_of_every_org().await?;
        Ok(keys.into_iter().map(|key| CallerId(key.id)).collect())
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

/// Nobody hands out a right that it does not hold.
fn may_grant(scope: Scope, rights: Rights) -> Result<()> {
    scope.require(Rights::KEYS_WRITE)?;
    if scope.rights.contains(rights) {
        Ok(())
    } else {
        Err(Error::Forbidden { right: "of the key to be made" })
    }
}
