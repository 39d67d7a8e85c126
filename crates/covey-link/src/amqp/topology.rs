//! The queues and exchanges of a deployment in RabbitMQ. They are declared at
//! each connect: what is there already stays, what differs is refused.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel as AmqpChannel, ExchangeKind};

use crate::amqp::AmqpError;

/// The exchange that MQTT topics go through.
pub(crate) const TOPIC_EXCHANGE: &str = "amq.topic";
/// Where messages go that cannot be understood; they keep their routing key.
pub(crate) const DEAD_EXCHANGE: &str = "covey.dead";
/// The queue behind it.
pub(crate) const DEAD_QUEUE: &str = "covey.dead";

/// How often a message may come back unacknowledged, by servers that died
/// over it, before it is put aside.
const DELIVERY_LIMIT: i64 = 100;
/// How many messages may wait in a queue of devices' messages. Beyond, the
/// broker does not acknowledge them to the devices, which send them again.
const WAITING_MAX: i64 = 1_000_000;
/// How many bytes of them may wait.
const WAITING_BYTES_MAX: i64 = 1 << 30;
/// How many events may wait. The queues of running deployments have this limit,
/// and a queue that is there with another is refused.
const EVENTS_WAITING_MAX: i64 = 100_000;
/// How often a message that was put aside may be looked at. Without any limit
/// the broker would put it behind the others each time.
const DEAD_DELIVERY_LIMIT: i64 = 1_000_000;
/// How many messages that were put aside are kept; the oldest go first.
const DEAD_MAX: i64 = 10_000;
/// How many bytes of them are kept.
const DEAD_BYTES_MAX: i64 = 256 << 20;
/// How long they are kept, in milliseconds.
const DEAD_TTL_MS: i64 = 14 * 24 * 3_600_000;

/// A queue of devices' messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceQueue {
    /// The queue.
    pub(crate) name: &'static str,
    /// What it is bound with.
    pub(crate) binding: &'static str,
    waiting_max: i64,
}

/// All of them.
pub(crate) const DEVICE_QUEUES: [DeviceQueue; 4] = [
    DeviceQueue { name: "covey.req", binding: "dev.*.req", waiting_max: WAITING_MAX },
    DeviceQueue { name: "covey.ack", binding: "dev.*.ack", waiting_max: WAITING_MAX },
    DeviceQueue { name: "covey.res", binding: "dev.*.res", waiting_max: WAITING_MAX },
    DeviceQueue { name: "covey.evt", binding: "dev.*.evt", waiting_max: EVENTS_WAITING_MAX },
];

fn table(entries: &[(&'static str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(ShortString::from(*name), value.clone());
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// What a queue of devices' messages is declared with. Its dead letters are
/// confirmed by the queue that takes them before they leave this one, which
/// the broker offers only together with refusing what does not fit.
fn device_queue_arguments(queue: &DeviceQueue) -> FieldTable {
    table(&[
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", text(DEAD_EXCHANGE)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
        ("x-max-length", AMQPValue::LongLongInt(queue.waiting_max)),
        ("x-max-length-bytes", AMQPValue::LongLongInt(WAITING_BYTES_MAX)),
    ])
}

fn dead_queue_arguments() -> FieldTable {
    table(&[
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DEAD_DELIVERY_LIMIT)),
        ("x-max-length", AMQPValue::LongLongInt(DEAD_MAX)),
        ("x-max-length-bytes", AMQPValue::LongLongInt(DEAD_BYTES_MAX)),
        ("x-message-ttl", AMQPValue::LongLongInt(DEAD_TTL_MS)),
    ])
}

/// Declares everything, on a channel that is good for nothing else after a failure.
pub(super) async fn declare(channel: &AmqpChannel) -> Result<(), AmqpError> {
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare(DEAD_EXCHANGE.into(), ExchangeKind::Fanout, durable, FieldTable::default())
        .await
        .map_err(|error| topology("the exchange covey.dead", error))?;
    queue(channel, DEAD_QUEUE, dead_queue_arguments()).await?;
    bind(channel, DEAD_QUEUE, DEAD_EXCHANGE, "").await?;
    for one in &DEVICE_QUEUES {
        queue(channel, one.name, device_queue_arguments(one)).await?;
        bind(channel, one.name, TOPIC_EXCHANGE, one.binding).await?;
    }
    Ok(())
}

async fn queue(channel: &AmqpChannel, name: &str, arguments: FieldTable) -> Result<(), AmqpError> {
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let declared = channel.queue_declare(name.into(), durable, arguments).await;
    declared.map(drop).map_err(|error| topology(&format!("the queue {name}"), error))
}

async fn bind(channel: &AmqpChannel, queue: &str, exchange: &str, key: &str) -> Result<(), AmqpError> {
    let options = QueueBindOptions::default();
    let bound =
        channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await;
    bound.map_err(|error| topology(&format!("the binding of {queue} to {exchange}"), error))
}

/// A declaration that the broker refuses is the operator's to mend; one that
/// was lost with the connection is not.
fn topology(what: &str, error: lapin::Error) -> AmqpError {
    if error.is_amqp_soft_error() {
        AmqpError::Topology { what: what.to_owned(), problem: error.to_string() }
    } else {
        AmqpError::Broker(error)
    }
}
