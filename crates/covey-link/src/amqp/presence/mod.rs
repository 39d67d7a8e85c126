//! Who is connected, and who listens for announcements.
//!
//! The broker tells each server of every connect, disconnect and subscription
//! (plugin `rabbitmq_event_exchange`). At the start, after a lost connection,
//! and every minute, a look over the management API ([`look`]) corrects what was
//! missed: a node of a cluster that dies tells nobody of the connections it held.
//!
//! Devices are spread over shards, each with a worker that keeps their order
//! and waits for the store without holding up the others.

mod book;
mod event;
mod look;
mod shard;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use covey_core::Engine;
use covey_core::device::DeviceIdentity;
use covey_core::id::Sn;
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
use crate::amqp::presence::event::Session;
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
/// How often devices whose announcements were lost are looked for.
const UNHEARD_INTERVAL: Duration = Duration::from_millis(250);

/// Which devices are connected, as this server knows it.
pub(super) struct Presence {
    shards: Vec<mpsc::Sender<Note>>,
    /// A look is wanted now.
    look: Notify,
    /// Whether the broker collected no metrics when it was last looked at.
    has_no_metrics: AtomicBool,
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
        let presence = Arc::new(Self {
            shards: shards.collect(),
            look: Notify::new(),
            has_no_metrics: AtomicBool::new(false),
        });
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

/// A connection in the core's terms.
fn connection_of(session: &Session) -> covey_core::device::Connection {
    let details = [
        ("address", session.address.as_str()),
        ("protocol", session.protocol.as_str()),
        ("node", session.node.as_str()),
        ("source", "rabbitmq_event_exchange"),
    ];
    let known = details.into_iter().filter(|(_, value)| !value.is_empty());
    covey_core::device::Connection {
        session: session.id(),
        server: String::new(),
        reason: Reason::Connected,
        details: known.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
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
