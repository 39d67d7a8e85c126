//! What devices and their links tell by connecting, subscribing and going.

use std::collections::BTreeSet;

use crate::device::{Connection, Presence};
use crate::engine::after_commit::AfterCommit;
use crate::engine::{ForDevice, ForServer, SWEEP_MAX};
use crate::error::Result;
use crate::id::DeviceKey;
use crate::links::LinkPlace;
use crate::port::Event;
use crate::presence::{OnlineDevice, PresenceClear, PresencePut, PresenceSweep};

impl ForDevice<'_> {
    /// A device has connected.
    pub fn connected(self, connection: Connection) {
        self.heard();
        self.engine.after_commit.count(Event::Connected);
        self.remember_presence(self.presence(true, connection));
    }

    /// A device has connected to a broker that all servers hear of it.
    /// Answers whether this server is the first to say so.
    ///
    /// # Errors
    /// The store's.
    pub async fn connected_to_broker(self, connection: Connection) -> Result<bool> {
        self.heard();
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
    /// The devices that were last seen connected, those after `after`: for a
    /// link that has lost sight of them.
    ///
    /// # Errors
    /// The store's.
    pub async fn presence_online(self, after: DeviceKey, limit: u32) -> Result<Vec<OnlineDevice>> {
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

    /// The same of every server, for one that is alone: it may have been called something else when it ran last, on
    /// another machine or in another container.
    ///
    /// # Errors
    /// The store's.
    pub async fn presence_clear_all(self) -> Result<()> {
        let mut after = DeviceKey(0);
        loop {
            let online = self.presence_online(after, SWEEP_MAX).await?;
            let Some(last) = online.last() else { return Ok(()) };
            after = last.device.device;
            let servers: BTreeSet<_> = online.iter().map(|online| &online.server).collect();
            // What a broker holds is its to tell.
            for server in servers.into_iter().filter(|server| !server.is_empty()) {
                self.presence_clear(server).await?;
            }
        }
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
}
