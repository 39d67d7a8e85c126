//! Who is connected, and who listens for announcements.
//!
//! The broker tells each server of every connect, disconnect and subscription
//! (plugin `rabbitmq_event_exchange`). At the start, after a lost connection,
//! and every minute, a look over the management API corrects what was missed:
//! a node of a cluster that dies tells nobody of the connections it held.
//!
//! Devices are spread over shards, each with a worker that keeps their order
//! and waits for the store without holding up the others.

mod book;
mod event;
mod shard;

use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::device::DeviceIdentity;
use covey_core::id::{DeviceKey, Sn};
use covey_core::presence::Reason;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel as AmqpChannel, Connection, Consumer, ErrorKind, ExchangeKind};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::amqp::management::Management;
use crate::amqp::presence::event::{Session, Subscription};
use crate::amqp::presence::shard::{Note, Shard};
use crate::amqp::{AmqpError, AmqpLink, connection};
use crate::outage::Outage;
use crate::per_device_order::place_of;

/// The exchange to which the broker publishes its events.
const EVENT_EXCHANGE: &str = "amq.rabbitmq.event";
/// The virtual host in which it is when several deployments share a broker.
const SHARED_VHOST: &str = "/";
/// How many workers there are.
const SHARDS: usize = 16;
/// How many notes may wait for one of them; beyond, the broker keeps them.
const NOTES_WAITING_MAX: usize = 1_024;
/// How many events may be under way from the broker.
const EVENTS_PREFETCH: u16 = 1_024;
/// How many events the broker keeps for a server that is slow. What it drops,
/// the next look makes up for.
const EVENTS_KEPT_MAX: i64 = 1_000_000;
/// How long after the first look the second comes: what was too young for the
/// first is in it, as statistics come every 5 s.
const SECOND_LOOK: Duration = Duration::from_secs(6);
/// How long from one look to the next, up to a tenth more.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How long a look waits after one that failed.
const LOOK_RETRY: Duration = Duration::from_secs(2);
/// How often a list is read again because entries came and went meanwhile.
const LISTS_MAX: u32 = 3;
/// How long the workers get to take in what a look has found.
const NOTES_SETTLE: Duration = Duration::from_millis(200);
/// How many devices are taken from the store at a time.
const STORED_PAGE: u32 = 1_000;
/// How often devices whose announcements were lost are looked for.
const UNHEARD_INTERVAL: Duration = Duration::from_millis(250);

/// Which devices are connected, as this server knows it.
pub(super) struct Presence {
    shards: Vec<mpsc::Sender<Note>>,
    /// A look is wanted now.
    look: Notify,
}

impl Presence {
    /// Starts the workers. They end when `stop` is cancelled.
    pub(super) fn start(
        link: &Arc<AmqpLink>,
        engine: &Arc<Engine>,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| {
            let (notes, waiting) = mpsc::channel(NOTES_WAITING_MAX);
            let shard = Shard::new(Arc::clone(link), Arc::clone(engine), stop.clone());
            tasks.spawn(shard.run(waiting));
            notes
        });
        let presence = Arc::new(Self { shards: shards.collect(), look: Notify::new() });
        tasks.spawn(Arc::clone(&presence).tell_unheard(Arc::clone(link), stop.clone()));
        presence
    }

    /// Hears the broker until the connection is gone or the server stops.
    pub(super) async fn hear(
        &self,
        link: &AmqpLink,
        mut ear: Ear,
        stop: &CancellationToken,
    ) -> Result<(), AmqpError> {
        // What happened before there was an ear.
        self.look.notify_one();
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                next = ear.consumer.next() => next,
            };
            let delivery = match next {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return Err(error.into()),
                None => return Err(AmqpError::Broker(ErrorKind::InvalidChannel(0).into())),
            };
            let headers = delivery.properties.headers().as_ref();
            let event = headers.and_then(|headers| {
                event::read(delivery.routing_key.as_str(), headers, link.options.vhost())
            });
            if let Some((sn, event)) = event {
                self.note(&sn.clone(), Note::BrokerEvent(sn, event)).await;
            }
            delivery.acker.ack(BasicAckOptions::default()).await?;
        }
    }

    /// Looks at the start of each connection and every minute, until the server stops.
    pub(super) async fn keep_looking(
        self: Arc<Self>,
        link: Arc<AmqpLink>,
        engine: Arc<Engine>,
        management: Management,
        stop: CancellationToken,
    ) {
        let looking = async {
            let (mut wait, outage) = (LOOK_INTERVAL, Outage::default());
            loop {
                let is_first = tokio::select! {
                    () = self.look.notified() => true,
                    () = tokio::time::sleep(wait) => false,
                };
                let looked = self.look(&link, &engine, &management).await;
                if looked.is_ok() {
                    outage.over();
                }
                wait = match looked {
                    Ok(()) if is_first => SECOND_LOOK,
                    Ok(()) => LOOK_INTERVAL.mul_f64(rand::random_range(1.0..1.1)),
                    Err(error) => {
                        outage.log(&error, "connected devices not listed by the management API");
                        LOOK_RETRY
                    }
                };
            }
        };
        let _: Option<()> = stop.run_until_cancelled(looking).await;
    }

    async fn look(&self, link: &AmqpLink, engine: &Engine, management: &Management) -> Result<(), AmqpError> {
        let began_at_ms = link.clock.now().0;
        self.note_all(|| Note::LookBegins).await;
        for _ in 0..LISTS_MAX {
            let (connections, is_whole) = management.connections().await?;
            for one in connections {
                let Some(protocol) = event::protocol(&one.protocol) else { continue };
                let (true, Ok(sn)) = (one.vhost == management.vhost(), Sn::parse(&one.user)) else {
                    continue;
                };
                let session = Session {
                    name: one.name,
                    connected_at: one.connected_at,
                    address: one.peer_host,
                    protocol: protocol.to_owned(),
                    node: one.node,
                };
                self.note(&sn.clone(), Note::FoundConnection(sn, session)).await;
            }
            if is_whole {
                break;
            }
        }
        for binding in management.bindings().await? {
            let found = Subscription::of(&binding.destination, &binding.routing_key);
            if let Some((sn, subscription)) = found.filter(|_| binding.destination_type == "queue") {
                self.note(&sn.clone(), Note::FoundSubscription(sn, subscription)).await;
            }
        }
        self.note_all(|| Note::LookEnded { began_at_ms }).await;
        self.compare(engine, began_at_ms).await?;
        tokio::time::sleep(NOTES_SETTLE).await;
        announce_what_waits(engine).await
    }

    /// Has the workers compare what the store says with what they know.
    async fn compare(&self, engine: &Engine, began_at_ms: i64) -> Result<(), AmqpError> {
        let mut after = DeviceKey(i64::MIN);
        loop {
            let page = engine.server().presence_online(after, STORED_PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = last.device;
            let is_last = page.len() < STORED_PAGE as usize;
            for (device, session) in page {
                self.note(&device.sn.clone(), Note::Stored { device, session, began_at_ms }).await;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Announces again to devices whose announcements were lost on the way.
    async fn tell_unheard(self: Arc<Self>, link: Arc<AmqpLink>, stop: CancellationToken) {
        let telling = async {
            loop {
                tokio::time::sleep(UNHEARD_INTERVAL).await;
                for device in link.publisher.take_unheard() {
                    self.note(&device.sn.clone(), Note::Unheard(device)).await;
                }
            }
        };
        let _: Option<()> = stop.run_until_cancelled(telling).await;
    }

    async fn note(&self, sn: &Sn, note: Note) {
        if let Some(shard) = self.shards.get(place_of(sn, SHARDS)) {
            // A worker is gone only when the server stops.
            let _ = shard.send(note).await;
        }
    }

    async fn note_all(&self, note: impl Fn() -> Note) {
        for shard in &self.shards {
            let _ = shard.send(note()).await;
        }
    }
}

/// Announces what was made while nobody knew that its device listens.
async fn announce_what_waits(engine: &Engine) -> Result<(), AmqpError> {
    let mut after = DeviceKey(i64::MIN);
    while let Some(next) = engine.server().task_look_again(after).await? {
        after = next;
    }
    Ok(())
}

/// A connection in the core's terms.
fn connection_of(session: &Session) -> covey_core::device::Connection {
    let details = [
        ("address", session.address.as_str()),
        ("protocol", session.protocol.as_str()),
        ("node", session.node.as_str()),
        ("source", "rabbitmq_event_exchange"),
    ];
    covey_core::device::Connection {
        session: session.id(),
        server: String::new(),
        reason: Reason::Connected,
        details: details.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

/// Where a server hears what happens in the broker.
pub(super) struct Ear {
    consumer: Consumer,
    /// Held as long as it is listened to.
    _channel: AmqpChannel,
    _connection: Option<Connection>,
}

impl Ear {
    /// Makes one: in the virtual host of the deployment if the broker tells
    /// what happens there, else in the one named `/`.
    pub(super) async fn open(link: &AmqpLink, connection: &Connection) -> Result<Self, AmqpError> {
        let (options, unique) = (&link.options, uuid::Uuid::new_v4().simple());
        let server: String = options.server.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        let own = connection.create_channel().await?;
        if has_event_exchange(&own).await? {
            let queue = format!("covey.presence.{server}.{unique}");
            return Ok(Self { consumer: consume(&own, &queue).await?, _channel: own, _connection: None });
        }
        if options.vhost() == SHARED_VHOST {
            return Err(AmqpError::Events { problem: no_exchange(&[SHARED_VHOST]) });
        }
        let shared =
            connection::open_in(options, "presence", SHARED_VHOST).await.map_err(|error| match error {
                AmqpError::Credentials { problem, .. } => {
                    AmqpError::Events { problem: format!("{}; {problem}", no_exchange(&[options.vhost()])) }
                }
                error => error,
            })?;
        let channel = shared.create_channel().await?;
        if !has_event_exchange(&channel).await? {
            return Err(AmqpError::Events { problem: no_exchange(&[options.vhost(), SHARED_VHOST]) });
        }
        // Only what begins with the deployment's own name is it granted there.
        let queue = format!("{}.presence.{server}.{unique}", options.vhost());
        let queue: String = queue.chars().take(200).collect();
        Ok(Self { consumer: consume(&channel, &queue).await?, _channel: channel, _connection: Some(shared) })
    }
}

fn no_exchange(vhosts: &[&str]) -> String {
    format!("there is no exchange {EVENT_EXCHANGE} in the virtual host {}", vhosts.join(" or in "))
}

async fn has_event_exchange(channel: &AmqpChannel) -> Result<bool, AmqpError> {
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let looked =
        channel.exchange_declare(EVENT_EXCHANGE.into(), ExchangeKind::Topic, passive, FieldTable::default());
    match looked.await {
        Ok(()) => Ok(true),
        Err(error) if error.is_amqp_soft_error() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn consume(channel: &AmqpChannel, queue: &str) -> Result<Consumer, AmqpError> {
    let refused = |error: lapin::Error| {
        if error.is_amqp_soft_error() {
            AmqpError::Events { problem: error.to_string() }
        } else {
            AmqpError::Broker(error)
        }
    };
    let exclusive = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(EVENTS_KEPT_MAX));
    channel.basic_qos(EVENTS_PREFETCH, BasicQosOptions::default()).await?;
    channel.queue_declare(queue.into(), exclusive, arguments).await.map_err(refused)?;
    for key in event::KEYS {
        let options = QueueBindOptions::default();
        let binding = channel.queue_bind(
            queue.into(),
            EVENT_EXCHANGE.into(),
            key.into(),
            options,
            FieldTable::default(),
        );
        binding.await.map_err(refused)?;
    }
    let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.map_err(refused)
}

/// A device that a shard knows.
struct Connected {
    device: Arc<DeviceIdentity>,
    /// Whether this server was the first to say that it is connected.
    is_first: bool,
}
