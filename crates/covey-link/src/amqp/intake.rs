//! Takes messages of devices from the queues: each is handled, answered, and only then
//! acknowledged. Messages of one device in one queue are handed to the store in the queue's order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_core::Engine;
use covey_core::error::StorageFault;
use covey_core::id::Sn;
use covey_core::port::Refusal;
use covey_wire::downlink::DownlinkMessage;
use covey_wire::{Downlink, Uplink};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel as AmqpChannel, Connection, Consumer, ErrorKind};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::amqp::acks::Acks;
use crate::amqp::message::{self, GivenProperties};
use crate::amqp::topology::DEVICE_QUEUES;
use crate::amqp::{AmqpError, AmqpLink};
use crate::dispatch::{self, Refused, RefusedKind};
use crate::per_device_order::{Sequencer, Ticket};

/// How long a message waits before it is tried again when the store took none.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long the store may be out of reach before messages are left to others.
const STORE_PATIENCE: Duration = Duration::from_secs(3);
/// How often a store that is out of reach is asked.
const STORE_PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long messages that are under way may take once the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// The header that says why a message is in the dead-letter queue.
pub(super) const REASON_HEADER: &str = "x-covey-reason";

/// What ends a round of taking messages, beside the connection's end.
struct Round {
    /// The messages that are being carried out.
    under_way: TaskTracker,
    /// Cancelled when the channel is gone: its messages can no longer be acknowledged.
    gone: CancellationToken,
    /// The store has been out of this server's reach for too long.
    store_gone: CancellationToken,
}

/// Takes messages until the connection is gone or the server stops; then waits
/// for those under way. While this server does not reach the store, it leaves
/// the messages to the others.
pub(super) async fn run(
    link: &Arc<AmqpLink>,
    engine: &Arc<Engine>,
    connection: &Connection,
    stop: &CancellationToken,
) -> Result<(), AmqpError> {
    while !stop.is_cancelled() {
        take_round(link, engine, connection, stop).await?;
        if !stop.is_cancelled() {
            tracing::warn!("store out of reach; messages of devices left to other servers");
            stop.run_until_cancelled(store_is_back(engine)).await;
            tracing::info!("store answers again; taking messages of devices");
        }
    }
    Ok(())
}

/// Takes messages until the server stops or its store is gone.
async fn take_round(
    link: &Arc<AmqpLink>,
    engine: &Arc<Engine>,
    connection: &Connection,
    stop: &CancellationToken,
) -> Result<(), AmqpError> {
    let round = Arc::new(Round {
        under_way: TaskTracker::new(),
        gone: CancellationToken::new(),
        store_gone: CancellationToken::new(),
    });
    let _guard = round.gone.clone().drop_guard();
    let mut consumers = Vec::new();
    for queue in &DEVICE_QUEUES {
        // A channel each, so that a queue that waits for the store does not hold up another.
        let channel = connection.create_channel().await?;
        channel.basic_qos(link.options.prefetch, BasicQosOptions::default()).await?;
        consumers.push((consume(&channel, queue.name).await?, Arc::new(Acks::new(channel))));
    }
    let all: Vec<_> = consumers.iter().map(|(_, acks)| Arc::clone(acks)).collect();
    let of = &round;
    let taking = consumers.into_iter().map(|(consumer, acks)| async move {
        tokio::select! {
            ended = take(link, engine, consumer, &acks, stop, of) => ended,
            ended = acks.run() => ended,
        }
    });
    let taking = futures_util::future::try_join_all(taking);
    let ended = round.store_gone.run_until_cancelled(taking).await;
    if let Some(ended) = ended {
        ended?;
        round.under_way.close();
        let _ = tokio::time::timeout(STOP_PATIENCE, round.under_way.wait()).await;
    }
    for acks in all {
        // What was delivered and is not done goes back to the queues.
        acks.close().await?;
    }
    Ok(())
}

/// Waits until the store answers a question.
async fn store_is_back(engine: &Engine) {
    while engine.server().device_sns(None, 1).await.is_err() {
        tokio::time::sleep(STORE_PROBE_INTERVAL).await;
    }
}

async fn consume(channel: &AmqpChannel, queue: &str) -> Result<Consumer, AmqpError> {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.map_err(|error| {
        if error.is_amqp_soft_error() {
            AmqpError::Topology { what: format!("a consumer of {queue}"), problem: error.to_string() }
        } else {
            AmqpError::Broker(error)
        }
    })
}

async fn take(
    link: &Arc<AmqpLink>,
    engine: &Arc<Engine>,
    mut consumer: Consumer,
    acks: &Arc<Acks>,
    stop: &CancellationToken,
    round: &Arc<Round>,
) -> Result<(), AmqpError> {
    let order = Sequencer::default();
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            next = consumer.next() => next,
        };
        match next {
            Some(Ok(delivery)) => {
                // How many there are is bounded by the prefetch count.
                let (link, engine) = (Arc::clone(link), Arc::clone(engine));
                let (acks, of) = (Arc::clone(acks), Arc::clone(round));
                let origin = message::origin(delivery.routing_key.as_str());
                let origin =
                    origin.map(|(sn, uplink)| Origin { ticket: Some(order.ticket(&sn)), sn, uplink });
                round.under_way.spawn(async move { one(&link, &engine, delivery, origin, &acks, &of).await });
            }
            Some(Err(error)) => return Err(error.into()),
            // A consumer that ended without saying why.
            None => return Err(AmqpError::Broker(ErrorKind::InvalidChannel(0).into())),
        }
    }
}

/// Who sent a message, and its place among those of its device.
struct Origin {
    sn: Sn,
    uplink: Option<Uplink>,
    ticket: Option<Ticket>,
}

/// What becomes of a message at the broker.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is acknowledged.
    Done,
    /// It goes back to its queue.
    Again,
    /// It goes to the dead letters, for this reason.
    Dead(String),
}

async fn one(
    link: &AmqpLink,
    engine: &Engine,
    delivery: Delivery,
    origin: Option<Origin>,
    acks: &Acks,
    round: &Round,
) {
    let deciding = async {
        match decide(link, engine, &delivery, origin, round).await {
            Verdict::Dead(reason) => put_aside(link, &delivery, &reason).await,
            verdict => verdict,
        }
    };
    let verdict = tokio::select! {
        verdict = deciding => verdict,
        // Another server takes it. If it was committed here, that server repeats it without effect.
        () = round.gone.cancelled() => Verdict::Again,
    };
    match verdict {
        Verdict::Done | Verdict::Dead(_) => acks.done(delivery.delivery_tag),
        Verdict::Again => acks.again(delivery.delivery_tag).await,
    }
}

async fn decide(
    link: &AmqpLink,
    engine: &Engine,
    delivery: &Delivery,
    origin: Option<Origin>,
    round: &Round,
) -> Verdict {
    let routing_key = delivery.routing_key.as_str();
    let Some(Origin { sn, uplink, mut ticket }) = origin else {
        link.refusals.count(Refusal::PublishTopic);
        return Verdict::Dead("the routing key is not dev.<SN>.<channel>".to_owned());
    };
    let mut wait = RETRY_FIRST;
    let began = Instant::now();
    loop {
        match carry_out(link, engine, delivery, &sn, uplink, ticket.take()).await {
            Ok(None) => return Verdict::Done,
            Ok(Some(reply)) => return answer(link, &sn, &reply).await,
            // Another server may still reach the store; a store that is full is so for all.
            Err(Refused { kind: RefusedKind::Unavailable(StorageFault::Unreachable), .. })
                if began.elapsed() > STORE_PATIENCE =>
            {
                round.store_gone.cancel();
                return Verdict::Again;
            }
            Err(Refused { kind: RefusedKind::Unavailable(_), refusal, why, .. }) => {
                refusal.into_iter().for_each(|refusal| link.refusals.count(refusal));
                let wait_ms = wait.as_millis();
                tracing::warn!(%sn, routing_key, why, wait_ms, "store unavailable; message waits");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
            Err(refused) => {
                link.refusals.refused(&sn, uplink, &refused);
                let Refused { kind, why, reply, .. } = refused;
                if let Some(reply) = reply {
                    answer(link, &sn, &reply).await;
                }
                return match kind {
                    RefusedKind::Malformed => Verdict::Dead(why),
                    _ => Verdict::Done,
                };
            }
        }
    }
}

async fn carry_out(
    link: &AmqpLink,
    engine: &Engine,
    delivery: &Delivery,
    sn: &Sn,
    uplink: Option<Uplink>,
    ticket: Option<Ticket>,
) -> Result<Option<DownlinkMessage>, Refused> {
    let mut ticket = ticket;
    if let Some(ticket) = &mut ticket {
        ticket.turn().await;
    }
    let Some(device) = link.device(engine, sn).await? else { return Err(Refused::not_registered()) };
    let given = GivenProperties::read(&delivery.properties);
    let is_acknowledged = message::is_acknowledged(&delivery.properties);
    let received = message::received(&given, &delivery.data);
    let form = link.options.response_form;
    let handling = dispatch::handle(engine, &device, uplink, received, form, is_acknowledged);
    Ticket::run(ticket, handling).await
}

async fn answer(link: &AmqpLink, sn: &Sn, reply: &DownlinkMessage) -> Verdict {
    // A device that misses its eva sends the event again, or does without.
    if reply.downlink == Downlink::Eva {
        if let Err(error) = link.publisher.tell(sn, reply).await {
            tracing::debug!(%sn, %error, "eva not delivered to RabbitMQ");
        }
        return Verdict::Done;
    }
    match link.publisher.reply(sn, reply).await {
        Ok(_) => Verdict::Done,
        Err(error) => {
            tracing::warn!(%sn, %error, "answer not delivered to RabbitMQ; its message will come again");
            Verdict::Again
        }
    }
}

async fn put_aside(link: &AmqpLink, delivery: &Delivery, reason: &str) -> Verdict {
    let mut headers = delivery.properties.headers().clone().unwrap_or_default();
    headers.insert(REASON_HEADER.into(), AMQPValue::LongString(reason.into()));
    let given = &delivery.properties;
    // Without its expiration: it is to be there when somebody looks.
    let mut properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
    if let Some(id) = given.correlation_id() {
        properties = properties.with_correlation_id(id.clone());
    }
    if let Some(kind) = given.content_type() {
        properties = properties.with_content_type(kind.clone());
    }
    match link.publisher.put_aside(delivery.routing_key.as_str(), &delivery.data, properties).await {
        Ok(()) => Verdict::Done,
        Err(error) => {
            tracing::warn!(%error, "message not moved to covey.dead; it will come again");
            tokio::time::sleep(RETRY_FIRST).await;
            Verdict::Again
        }
    }
}
