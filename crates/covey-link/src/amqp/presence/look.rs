//! A look over the management API at all connections and subscriptions.
//!
//! A broker that collects no metrics (`disable_stats` in its overview) tells less: RabbitMQ 4.0 lists
//! connections by name alone, without their beginning, protocol and address, and 4.3 lists none at
//! all, but does so for each user. What is missing is taken from the store, if a server has heard
//! the connection's beginning.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use covey_core::Engine;
use covey_core::id::{DeviceKey, Sn};
use covey_core::presence::OnlineDevice;
use futures_util::{StreamExt, TryStreamExt};

use crate::amqp::management::{Binding, ClientConnection, Management};
use crate::amqp::presence::Presence;
use crate::amqp::presence::event::{self, Session, Subscription};
use crate::amqp::presence::shard::Note;
use crate::amqp::{AmqpError, AmqpLink};

/// How often a list is read again because entries came and went meanwhile.
const LISTS_MAX: u32 = 3;
/// How long the workers get to take in what a look has found.
const NOTES_SETTLE: Duration = Duration::from_millis(200);
/// How many devices are taken from the store at a time.
const STORED_PAGE: u32 = 1_000;
/// How many users are asked for at a time.
const USERS_AT_A_TIME: usize = 8;

impl Presence {
    /// Looks at everything once.
    pub(super) async fn look(
        &self,
        link: &AmqpLink,
        engine: &Engine,
        management: &Management,
    ) -> Result<(), AmqpError> {
        let began_at_ms = link.clock.now().0;
        let has_metrics = management.has_metrics().await?;
        self.tell_of_metrics(has_metrics);
        self.note_all(|| Note::LookBegins).await;
        let bindings = if has_metrics {
            self.look_at_connections(management).await?;
            management.bindings().await?
        } else {
            let bindings = management.bindings().await?;
            self.look_at_names(engine, management, &bindings, began_at_ms).await?;
            bindings
        };
        for (sn, subscription) in bindings.iter().filter_map(subscription) {
            self.note(&sn.clone(), Note::FoundSubscription(sn, subscription)).await;
        }
        self.note_all(|| Note::LookEnded { began_at_ms }).await;
        self.compare(engine, began_at_ms).await?;
        tokio::time::sleep(NOTES_SETTLE).await;
        announce_what_waits(engine).await
    }

    fn tell_of_metrics(&self, has_metrics: bool) {
        match (self.has_no_metrics.swap(!has_metrics, Ordering::Relaxed), has_metrics) {
            (false, false) => tracing::warn!(
                "RabbitMQ collects no metrics (disable_stats): connected devices are looked up by user, and \
                 nothing tells the protocol and address of one that connected while no server listened"
            ),
            (true, true) => tracing::info!("RabbitMQ collects metrics again"),
            _ => {}
        }
    }

    async fn look_at_connections(&self, management: &Management) -> Result<(), AmqpError> {
        for one in listed(management).await? {
            let Some(protocol) = event::protocol(&one.protocol) else { continue };
            let (true, Ok(sn)) = (one.vhost == management.vhost(), Sn::parse(&one.user)) else { continue };
            let session = Session {
                name: one.name,
                connected_at: one.connected_at,
                address: one.peer_host,
                protocol: protocol.to_owned(),
                node: one.node,
            };
            self.note(&sn.clone(), Note::FoundConnection(sn, session)).await;
        }
        Ok(())
    }

    /// The same where the broker collects no metrics.
    async fn look_at_names(
        &self,
        engine: &Engine,
        management: &Management,
        bindings: &[Binding],
        began_at_ms: i64,
    ) -> Result<(), AmqpError> {
        let stored = stored_sessions(engine).await?;
        let mut connections = listed(management).await?;
        // There is at least this server's own connection: of none nothing follows.
        if connections.is_empty() {
            let subscribed = bindings.iter().filter_map(subscription).map(|(sn, _)| sn);
            let wanted: BTreeSet<Sn> = stored.keys().cloned().chain(subscribed).collect();
            let asking = futures_util::stream::iter(wanted)
                .map(|sn| async move { management.connections_of(sn.as_str()).await })
                .buffer_unordered(USERS_AT_A_TIME);
            connections = asking.try_concat().await?;
        }
        let mut found: HashMap<Sn, Vec<Session>> = HashMap::new();
        for one in connections.into_iter().filter(|one| one.vhost == management.vhost()) {
            let Ok(sn) = Sn::parse(&one.user) else { continue };
            let session = session_of(one, stored.get(&sn));
            found.entry(sn).or_default().push(session);
        }
        for (sn, sessions) in found {
            self.note(&sn.clone(), Note::FoundNames { sn, sessions, began_at_ms }).await;
        }
        Ok(())
    }

    /// Has the workers compare what the store says with what they know.
    async fn compare(&self, engine: &Engine, began_at_ms: i64) -> Result<(), AmqpError> {
        let mut after = Some(DeviceKey(i64::MIN));
        while let Some(from) = after {
            let (page, next) = stored_page(engine, from).await?;
            after = next;
            for OnlineDevice { device, session, .. } in page {
                self.note(&device.sn.clone(), Note::Stored { device, session, began_at_ms }).await;
            }
        }
        Ok(())
    }
}

/// All connections that the broker lists, some of them more than once.
async fn listed(management: &Management) -> Result<Vec<ClientConnection>, AmqpError> {
    let mut all = Vec::new();
    for _ in 0..LISTS_MAX {
        let (connections, is_whole) = management.connections().await?;
        all.extend(connections);
        if is_whole {
            break;
        }
    }
    Ok(all)
}

/// Some of the devices that the store has connected, and where to go on.
async fn stored_page(
    engine: &Engine,
    after: DeviceKey,
) -> Result<(Vec<OnlineDevice>, Option<DeviceKey>), AmqpError> {
    let page = engine.server().presence_online(after, STORED_PAGE).await?;
    let is_last = page.len() < STORED_PAGE as usize;
    let next = page.last().map(|last| last.device.device).filter(|_| !is_last);
    Ok((page, next))
}

/// The sessions of all devices that the store has connected.
async fn stored_sessions(engine: &Engine) -> Result<HashMap<Sn, OnlineDevice>, AmqpError> {
    let (mut stored, mut after) = (HashMap::new(), Some(DeviceKey(i64::MIN)));
    while let Some(from) = after {
        let (page, next) = stored_page(engine, from).await?;
        after = next;
        stored.extend(page.into_iter().map(|one| (one.device.sn.clone(), one)));
    }
    Ok(stored)
}

/// A connection of which the broker tells only the name: as the store knows it, if it does.
fn session_of(found: ClientConnection, stored: Option<&OnlineDevice>) -> Session {
    let same = stored.filter(|stored| Session::name_in(&stored.session) == Some(&*found.name));
    let detail = |wanted: &str| {
        let mut details = same.into_iter().flat_map(|stored| &stored.details);
        details.find(|(name, _)| name == wanted).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    Session {
        connected_at: same.and_then(|stored| Session::began_at(&stored.session)).unwrap_or_default(),
        address: detail("address"),
        protocol: detail("protocol"),
        name: found.name,
        node: found.node,
    }
}

/// Whose subscription to announcements a binding is, if it is one.
fn subscription(binding: &Binding) -> Option<(Sn, Subscription)> {
    let is_queue = binding.destination_type == "queue";
    is_queue.then(|| Subscription::of(&binding.destination, &binding.routing_key)).flatten()
}

/// Announces what was made while nobody knew that its device listens.
async fn announce_what_waits(engine: &Engine) -> Result<(), AmqpError> {
    let mut after = DeviceKey(i64::MIN);
    while let Some(next) = engine.server().task_look_again(after).await? {
        after = next;
    }
    Ok(())
}
