//! The way to devices: messages are published, and the broker confirms them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use covey_core::device::DeviceIdentity;
use covey_core::id::{DeviceKey, Sn};
use covey_core::port::Announcement;
use covey_wire::downlink::DownlinkMessage;
use dashmap::DashSet;
use futures_util::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel as AmqpChannel, Confirmation, Connection, Event, PublisherConfirm};
use tokio::sync::{Semaphore, watch};

use crate::LinkStatus;
use crate::amqp::state::{State, Way};
use crate::amqp::{AmqpError, message, topology};

/// How many announcements may wait for the broker's confirmation.
const UNCONFIRMED_MAX: usize = 4_096;
/// How long a reply waits for a broker that is away. The message that it
/// answers is not acknowledged then, and comes again.
const REPLY_PATIENCE: Duration = Duration::from_secs(30);
/// How long publishing an `eva` may take.
const TELL_PATIENCE: Duration = Duration::from_secs(1);
/// A routing key without a serial number, which reaches nobody: publishing to it shows whether
/// publishing works.
const PROBE_KEY: &str = "srv..probe";

/// How often the probe is published.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long the broker may take to confirm that, unless it has blocked us.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// The broker has it for a device.
    Kept,
    /// No device listens for it.
    Unheard,
}

/// The publishing side of the link.
pub(super) struct Publisher {
    state: Arc<State>,
    /// The channel, while there is one.
    channel: watch::Sender<Option<AmqpChannel>>,
    unconfirmed: Arc<Semaphore>,
    /// The devices whose announcements were lost on the way to the broker.
    unheard: Mutex<HashMap<DeviceKey, DeviceIdentity>>,
    /// The devices whose protocol has no properties, while they are connected.
    without_properties: DashSet<Sn>,
    /// How many messages nobody listened for.
    returned: AtomicU64,
}

impl Publisher {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self {
            state,
            channel: watch::Sender::new(None),
            unconfirmed: Arc::new(Semaphore::new(UNCONFIRMED_MAX)),
            unheard: Mutex::default(),
            without_properties: DashSet::new(),
            returned: AtomicU64::new(0),
        }
    }

    /// Uses a connection until it is gone, and answers why it went.
    pub(super) async fn use_connection(&self, connection: &Connection) -> Result<(), AmqpError> {
        let mut events = std::pin::pin!(connection.events_listener());
        let opening = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, lapin::Error>(channel)
        };
        let channel =
            tokio::time::timeout(PROBE_TIMEOUT, opening).await.map_err(|_| unanswered(PROBE_TIMEOUT))??;
        let mut probes = tokio::time::interval(PROBE_INTERVAL);
        probes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut probe, mut sent_at) = (None, Instant::now());
        // Nothing but this is waited for: while the broker takes nothing, or is gone, publishing does not end,
        // and the event that says so would not be heard.
        loop {
            tokio::select! {
                _ = probes.tick() => {
                    let is_blocked = connection.status().blocked();
                    if probe.is_none() {
                        probe = Some(Box::pin(publish_probe(&channel)));
                        sent_at = Instant::now();
                    } else if !is_blocked && sent_at.elapsed() > PROBE_TIMEOUT {
                        return Err(unanswered(PROBE_TIMEOUT));
                    }
                }
                confirmed = async { match probe.as_mut() {
                    Some(probe) => probe.await,
                    None => std::future::pending().await,
                } } => {
                    confirmed.map_err(refused)?;
                    probe = None;
                    self.found(&channel);
                }
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(reason, "RabbitMQ blocks publishing");
                        self.found(&channel);
                        self.state.is_blocked(true);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!("RabbitMQ accepts messages again");
                        sent_at = Instant::now();
                        self.state.is_blocked(false);
                    }
                    Some(Event::Error(error)) => return Err(refused(error)),
                    Some(_) => {}
                    None => return Ok(()),
                }
            }
        }
    }

    /// There is a way to devices.
    fn found(&self, channel: &AmqpChannel) {
        if self.channel.borrow().is_none() {
            self.channel.send_replace(Some(channel.clone()));
            self.state.is_up(Way::Out, true);
        }
    }

    /// The connection is gone, or is about to be.
    pub(super) fn lost(&self) {
        self.channel.send_replace(None);
        self.state.is_up(Way::Out, false);
    }

    /// Whether a device's protocol has no properties.
    pub(super) fn set_properties(&self, sn: &Sn, has_properties: bool) {
        if has_properties {
            self.without_properties.remove(sn);
        } else {
            self.without_properties.insert(sn.clone());
        }
    }

    /// Publishes a reply and waits until the broker has it.
    pub(super) async fn reply(&self, sn: &Sn, reply: &DownlinkMessage) -> Result<Published, AmqpError> {
        let publishing = async {
            let mut channel = self.channel.subscribe();
            loop {
                let current = channel.borrow_and_update().clone();
                if let Some(current) = current
                    && let Ok(confirm) = self.publish(&current, sn, reply, true).await
                    && let Ok(published) = self.confirmed(confirm).await
                {
                    return published;
                }
                if channel.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(REPLY_PATIENCE, publishing)
            .await
            .map_err(|_| AmqpError::Timeout { seconds: REPLY_PATIENCE.as_secs() })
    }

    /// Publishes an `eva`, once and only if the link is up.
    pub(super) async fn tell(&self, sn: &Sn, reply: &DownlinkMessage) -> Result<(), AmqpError> {
        // A broker that is away or blocked must not hold up what devices send.
        let channel = self.channel.borrow().clone().filter(|_| self.state.status() == LinkStatus::Up);
        let channel = channel.ok_or(AmqpError::Timeout { seconds: 0 })?;
        let telling = async {
            // A device that does not listen for it is no news.
            let confirm = self.publish(&channel, sn, reply, false).await?;
            self.confirmed(confirm).await.map(drop)
        };
        tokio::time::timeout(TELL_PATIENCE, telling)
            .await
            .unwrap_or(Err(AmqpError::Timeout { seconds: TELL_PATIENCE.as_secs() }))
    }

    /// Publishes an announcement; the confirmation is waited for elsewhere.
    pub(super) async fn announce(self: &Arc<Self>, task: &Announcement, message: &DownlinkMessage) {
        let channel = self.channel.borrow().clone();
        let (Some(channel), Ok(place)) = (channel, Arc::clone(&self.unconfirmed).acquire_owned().await)
        else {
            self.unheard(task);
            return;
        };
        match self.publish(&channel, &task.sn, message, true).await {
            Ok(confirm) => {
                let (publisher, task) = (Arc::clone(self), Arc::clone(task));
                tokio::spawn(async move {
                    if publisher.confirmed(confirm).await.is_err() {
                        publisher.unheard(&task);
                    }
                    drop(place);
                });
            }
            Err(_) => self.unheard(task),
        }
    }

    /// An announcement was lost: all tasks of its device are announced again.
    pub(super) fn unheard(&self, task: &Announcement) {
        let device = DeviceIdentity {
            org: task.org,
            device: task.device,
            device_id: task.device_id,
            sn: task.sn.clone(),
        };
        self.unheard_devices().insert(task.device, device);
    }

    /// Those whose announcements were lost, if there is a way to them now.
    pub(super) fn take_unheard(&self) -> Vec<DeviceIdentity> {
        if self.channel.borrow().is_none() {
            return Vec::new();
        }
        self.unheard_devices().drain().map(|(_, device)| device).collect()
    }

    /// Puts a message that cannot be understood aside, with the reason.
    pub(super) async fn put_aside(
        &self,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), AmqpError> {
        let channel = self.channel.borrow().clone();
        let channel = channel.ok_or(AmqpError::Timeout { seconds: 0 })?;
        let confirm = channel
            .basic_publish(
                topology::DEAD_EXCHANGE.into(),
                routing_key.into(),
                BasicPublishOptions { mandatory: true, ..Default::default() },
                body,
                properties,
            )
            .await?;
        match confirm.await? {
            Confirmation::Ack(None) => Ok(()),
            _ => Err(AmqpError::Topology {
                what: "the binding of covey.dead".to_owned(),
                problem: "a message that was put aside came back".to_owned(),
            }),
        }
    }

    /// Publishes to the exchange of MQTT. What nobody listens for comes back if it `must_be_heard`.
    async fn publish(
        &self,
        channel: &AmqpChannel,
        sn: &Sn,
        outbound: &DownlinkMessage,
        must_be_heard: bool,
    ) -> lapin::Result<PublisherConfirm> {
        let (key, properties) = (message::routing_key(sn.as_str(), outbound), message::properties(outbound));
        let body = if self.without_properties.contains(sn) {
            Cow::Owned(outbound.enveloped_body())
        } else {
            Cow::Borrowed(outbound.body())
        };
        let options = BasicPublishOptions { mandatory: must_be_heard, ..Default::default() };
        channel
            .basic_publish(topology::TOPIC_EXCHANGE.into(), key, options, body.as_bytes(), properties)
            .await
    }

    async fn confirmed(&self, confirm: PublisherConfirm) -> Result<Published, AmqpError> {
        match confirm.await? {
            Confirmation::Ack(None) | Confirmation::NotRequested => Ok(Published::Kept),
            Confirmation::Ack(Some(_)) => {
                self.returned.fetch_add(1, Ordering::Relaxed);
                Ok(Published::Unheard)
            }
            // A queue of the device refused it, for its length.
            Confirmation::Nack(_) => Ok(Published::Unheard),
        }
    }

    /// How many messages nobody listened for.
    pub(super) fn returned(&self) -> u64 {
        self.returned.load(Ordering::Relaxed)
    }

    fn unheard_devices(&self) -> MutexGuard<'_, HashMap<DeviceKey, DeviceIdentity>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes the probe and waits until the broker confirms it.
async fn publish_probe(channel: &AmqpChannel) -> lapin::Result<Confirmation> {
    // The broker reports a blocked connection only when that connection publishes.
    let (exchange, key) = (topology::TOPIC_EXCHANGE.into(), PROBE_KEY.into());
    let (options, none) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish(exchange, key, options, b"", none).await?.await
}

fn unanswered(waited: Duration) -> AmqpError {
    AmqpError::Timeout { seconds: waited.as_secs() }
}

/// A publisher without the right to publish learns it from its channel.
fn refused(error: lapin::Error) -> AmqpError {
    if error.is_amqp_soft_error() {
        AmqpError::Topology { what: "a message for amq.topic".to_owned(), problem: error.to_string() }
    } else {
        AmqpError::Broker(error)
    }
}
