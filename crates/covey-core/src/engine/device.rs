//! What can be asked of devices and API keys, and what devices tell by
//! connecting and going.

use std::collections::HashSet;

use crate::access::{ApiKey, Caller, Rights};
use crate::device::{
    CertificateSpec, Connection, Device, DeviceFilter, DeviceIdentity, DeviceSpec, IssuedCertificate,
    Presence, Tag,
};
use crate::engine::after_commit::AfterCommit;
use crate::engine::{Engine, ForCaller, ForDevice, ForServer, SWEEP_MAX};
use crate::error::{Error, Result};
use crate::id::{CallerId, DeviceId, DeviceKey, Sn};
use crate::links::LinkPlace;
use crate::operation::{
    ApiKeyAdd, ApiKeyExists, ApiKeyRevoke, DeviceRegister, DeviceRetire, FirstKeyAdd, MadeKey, PresenceClear,
    PresencePut, PresenceSweep, TagPut,
};
use crate::port::{DevicePage, Event, PageRequest};

impl Engine {
    /// A new API key in clear text, not stored anywhere.
    #[must_use]
    pub fn api_key_text(&self) -> String {
        self.parts.ids.api_key()
    }

    fn key_to_add(&self, org_name: &str, name: &str, rights: Rights, clear_text: &str) -> Result<ApiKeyAdd> {
        ApiKeyAdd::validate(org_name, name)?;
        let digest = (self.parts.key_hasher)(clear_text);
        Ok(ApiKeyAdd { org_name: org_name.to_owned(), name: name.to_owned(), rights, digest })
    }
}

impl ForCaller<'_> {
    /// Registers a device and issues its certificate.
    ///
    /// # Errors
    /// A missing right, a field out of range, a request that cannot be signed,
    /// [`Error::Conflict`] for a serial number or a number that is taken, or
    /// the store's.
    pub async fn device_register(self, spec: DeviceSpec) -> Result<(Device, Option<IssuedCertificate>)> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        DeviceRegister::validate(spec.device_id, &spec.tags)?;
        let sn = spec.sn.unwrap_or_else(|| self.engine.parts.ids.sn());
        // Signed before it is stored: a certificate that nobody stored admits nobody.
        let issuer = &self.engine.parts.issuer;
        let issued = match &spec.certificate {
            CertificateSpec::WithKey => Some(issuer.issue(&sn, None, self.engine.now())?),
            CertificateSpec::Sign { csr_pem } => Some(issuer.issue(&sn, Some(csr_pem), self.engine.now())?),
            CertificateSpec::None => None,
        };
        let operation = DeviceRegister {
            caller: self.caller.clone(),
            sn,
            device_id: spec.device_id,
            tags: spec.tags,
            certificate: issued.as_ref().map(|issued| issued.record.clone()),
        };
        if issued.is_none() {
            return Ok((self.engine.execute(operation).await?, None));
        }
        let then = |after: &AfterCommit, device: &Device| after.links.admit(&device.identity.sn);
        let (device, admitted) = self.engine.execute_with(operation, then).await?;
        admitted.await;
        Ok((device, issued))
    }

    /// A page of devices, in the order of their numbers.
    ///
    /// # Errors
    /// A missing right, a page out of range, or the store's.
    pub async fn device_list(self, filter: DeviceFilter, page: PageRequest) -> Result<DevicePage> {
        self.caller.require(Rights::DEVICES_READ)?;
        self.engine.parts.store.device_list(self.caller, filter, page.validate()?).await
    }

    /// Retires a device: its certificates are revoked and its connection closed.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn device_retire(self, device_id: DeviceId) -> Result<DeviceIdentity> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        let operation = DeviceRetire { caller: self.caller.clone(), device_id };
        let tell = |after: &AfterCommit, identity: &DeviceIdentity| {
            after.recorded();
            after.revoked(&identity.sn);
        };
        self.engine.execute_then(operation, tell).await
    }

    /// Sets a tag of a device; answers the tag's number.
    ///
    /// # Errors
    /// A missing right, a tag out of range, [`Error::NotFound`], or the store's.
    pub async fn tag_put(self, device_id: DeviceId, tag: Tag) -> Result<i64> {
        self.caller.require(Rights::DEVICES_WRITE)?;
        TagPut::validate(&tag)?;
        self.engine.execute(TagPut { caller: self.caller.clone(), device_id, tag }).await
    }

    /// Makes an API key.
    ///
    /// # Errors
    /// A missing right, a field out of range, or the store's.
    pub async fn api_key_add(self, org_name: &str, name: &str, rights: Rights) -> Result<MadeKey> {
        may_grant(self.caller, rights)?;
        let clear_text = self.engine.parts.ids.api_key();
        let key = self.engine.execute(self.engine.key_to_add(org_name, name, rights, &clear_text)?).await?;
        Ok(MadeKey { key, clear_text })
    }

    /// Takes a credential that its owner brings, such as a certificate, in
    /// place of a key: `text` is what [`ForServer::api_key_check`] will be asked.
    ///
    /// # Errors
    /// A missing right, a field out of range, [`Error::Conflict`] for a
    /// credential that is in use already, or the store's.
    pub async fn credential_add(
        self,
        org_name: &str,
        name: &str,
        rights: Rights,
        text: &str,
    ) -> Result<ApiKey> {
        may_grant(self.caller, rights)?;
        let operation = self.engine.key_to_add(org_name, name, rights, text)?;
        if self.engine.server().api_key_check(text).await?.is_some() {
            return Err(Error::Conflict { problem: "this credential is in use already; revoke it first" });
        }
        self.engine.execute(operation).await
    }

    /// All API keys.
    ///
    /// # Errors
    /// A missing right, or the store's.
    pub async fn api_key_list(self) -> Result<Vec<ApiKey>> {
        self.caller.require(Rights::KEYS_WRITE)?;
        self.engine.parts.store.api_key_list_of_every_org().await
    }

    /// Revokes an API key.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn api_key_revoke(self, id: i64) -> Result<()> {
        self.caller.require(Rights::KEYS_WRITE)?;
        self.engine.execute(ApiKeyRevoke { id }).await
    }
}

impl ForDevice<'_> {
    /// A device has connected.
    pub fn connected(self, connection: Connection) {
        self.engine.after_commit.count(Event::Connected);
        self.remember_presence(self.presence(true, connection));
    }

    /// A device has connected to a broker that all servers hear of it.
    /// Answers whether this server is the first to say so.
    ///
    /// # Errors
    /// The store's.
    pub async fn connected_to_broker(self, connection: Connection) -> Result<bool> {
        let presence = self.presence(true, connection);
        let operation = PresencePut { device: self.device.clone(), presence };
        self.first_to_say(operation, Event::Connected).await
    }

    /// A device's connection to a broker that all servers hear of has ended.
    /// Answers whether this server is the first to say so.
    ///
    /// # Errors
    /// The store's.
    pub async fn disconnected_from_broker(self, connection: Connection) -> Result<bool> {
        let presence = self.presence(false, connection);
        let operation = PresencePut { device: self.device.clone(), presence };
        self.first_to_say(operation, Event::Disconnected).await
    }

    /// The device has subscribed to its announcements, through the link of
    /// this name ([`crate::port::Link::name`]).
    pub fn subscribed(self, link: &str) {
        if let Some(link) = self.link(link) {
            self.engine.after_commit.announcer.listens(self.device.device, link);
        }
    }

    /// The device has subscribed to its announcements, and another server
    /// makes those that are due.
    pub fn subscribed_elsewhere(self, link: &str) {
        if let Some(link) = self.link(link) {
            self.engine.after_commit.announcer.listens_elsewhere(self.device.device, link);
        }
    }

    /// A link that the engine was not made with cannot announce anything.
    fn link(self, name: &str) -> Option<LinkPlace> {
        let place = self.engine.after_commit.links.place(name);
        debug_assert!(place.is_some(), "the engine has no link {name}");
        place
    }

    /// A device no longer listens for announcements.
    pub fn unsubscribed(self) {
        self.engine.after_commit.announcer.gone(self.device.device);
    }

    /// A device's connection has ended.
    pub fn disconnected(self, connection: Connection) {
        self.engine.after_commit.count(Event::Disconnected);
        self.engine.after_commit.announcer.gone(self.device.device);
        self.remember_presence(self.presence(false, connection));
    }

    /// Stores a presence that all servers hear of; the first one counts it.
    async fn first_to_say(self, operation: PresencePut, event: Event) -> Result<bool> {
        let then = move |after: &AfterCommit, is_first: &bool| {
            after.recorded();
            if *is_first {
                after.count(event);
            }
        };
        self.engine.execute_then(operation, then).await
    }

    fn presence(self, online: bool, connection: Connection) -> Presence {
        let now = self.engine.now();
        let Connection { session, server, reason, details } = connection;
        let connected_at = online.then_some(now);
        Presence { online, connected_at, checked_at: now, reason, details, session, server }
    }

    /// Presence is told to applications and decides nothing, so a device does
    /// not wait for it; what is lost with a crash, the next start corrects.
    fn remember_presence(self, presence: Presence) {
        let operation = PresencePut { device: self.device.clone(), presence };
        let _ = self.engine.submit(operation, |after, _| after.recorded());
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

    /// The serial numbers of registered devices in their order, those after
    /// `after`: for a broker that keeps accounts of its own.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_sns(self, after: Option<&Sn>, limit: u32) -> Result<Vec<Sn>> {
        self.engine.parts.store.device_sns_of_every_org(after.cloned(), limit).await
    }

    /// The devices that were last seen connected, with their sessions, those
    /// after `after`: for a link that has lost sight of them.
    ///
    /// # Errors
    /// The store's.
    pub async fn presence_online(
        self,
        after: DeviceKey,
        limit: u32,
    ) -> Result<Vec<(DeviceIdentity, String)>> {
        self.engine.parts.store.presence_online_of_every_org(after, limit).await
    }

    /// Forgets the connections that this server held when it ran last.
    ///
    /// # Errors
    /// The store's.
    pub async fn presence_clear(self, server: &str) -> Result<()> {
        let clear = || PresenceClear { server: server.to_owned(), limit: SWEEP_MAX };
        while self.engine.execute(clear()).await? >= SWEEP_MAX as usize {}
        Ok(())
    }

    /// Tells of devices that came and went too often to be told of at once, and
    /// have been quiet since. Answers whether there are more.
    ///
    /// # Errors
    /// The store's.
    pub async fn presence_sweep(self) -> Result<bool> {
        if !self.engine.parts.store.presence_due_of_every_org(self.engine.now()).await? {
            return Ok(false);
        }
        let told =
            self.engine.execute_then(PresenceSweep { limit: SWEEP_MAX }, |after, _| after.recorded()).await?;
        Ok(told >= SWEEP_MAX as usize)
    }

    /// The caller that an API key stands for.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_key_check(self, clear_text: &str) -> Result<Option<ApiKey>> {
        self.engine.parts.store.api_key_of_every_org((self.engine.parts.key_hasher)(clear_text)).await
    }

    /// Whether there is or was any API key; one that was revoked counts.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_key_exists(self) -> Result<bool> {
        self.engine.execute(ApiKeyExists).await
    }

    /// Makes the first key, with this clear text, if there never was one;
    /// answers whether it did.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_key_first(self, org_name: &str, name: &str, clear_text: &str) -> Result<bool> {
        let operation = FirstKeyAdd(self.engine.key_to_add(org_name, name, Rights::ALL, clear_text)?);
        Ok(self.engine.execute(operation).await?.is_some())
    }

    /// Those whose credentials are valid.
    ///
    /// # Errors
    /// The store's.
    pub async fn callers_valid(self) -> Result<HashSet<CallerId>> {
        let keys = self.engine.parts.store.api_key_list_of_every_org().await?;
        Ok(keys.into_iter().map(|key| CallerId(key.id)).collect())
    }
}

/// Nobody hands out a right that it does not hold.
fn may_grant(caller: &Caller, rights: Rights) -> Result<()> {
    caller.require(Rights::KEYS_WRITE)?;
    if caller.rights.contains(rights) {
        Ok(())
    } else {
        Err(Error::Forbidden { right: "of the key to be made" })
    }
}
