//! The messages that were put aside because nobody can do anything with them,
//! for those who look after a deployment.

use std::time::Duration;

use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel as AmqpChannel, Confirmation, Connection};

use crate::amqp::intake::REASON_HEADER;
use crate::amqp::topology::{DEAD_QUEUE, TOPIC_EXCHANGE};
use crate::amqp::{AmqpError, Options, connection, message};

/// How long the broker may take to confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long messages that are given back may take to be in the queue again.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often that is looked at.
const SETTLE_INTERVAL: Duration = Duration::from_millis(20);
/// Headers that the broker and this server add when a message is put aside.
const ADDED_HEADERS: [&str; 6] = [
    REASON_HEADER,
    "x-death",
    "x-delivery-count",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
];

/// A message that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its place in the queue, from 1, the oldest first.
    pub place: u32,
    /// Where it was published to: the topic with `.` for `/`.
    pub routing_key: String,
    /// Why it was put aside.
    pub reason: String,
    /// The correlation, if it has one.
    pub correlation: Option<String>,
    /// Its headers by name, as text.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What became of the messages that were to be driven again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// How many are in their queues again.
    pub sent: u32,
    /// How many no queue takes; they stay where they are.
    pub unroutable: u32,
}

/// The queue of such messages, over a connection of its own.
pub struct DeadLetters {
    connection: Connection,
    channel: AmqpChannel,
}

impl DeadLetters {
    /// Connects.
    ///
    /// # Errors
    /// A broker that is out of reach or refuses the user.
    pub async fn open(options: &Options) -> Result<Self, AmqpError> {
        let connection = connection::open(options, "dead letters").await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel })
    }

    /// How many there are.
    ///
    /// # Errors
    /// A queue that was never declared: no server has run yet.
    pub async fn count(&self) -> Result<u32, AmqpError> {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.channel.queue_declare(DEAD_QUEUE.into(), passive, FieldTable::default()).await;
        let queue = queue.map_err(|error| AmqpError::Topology {
            what: format!("the queue {DEAD_QUEUE}; servers do that when they start"),
            problem: error.to_string(),
        })?;
        Ok(queue.message_count())
    }

    /// The oldest of them, which stay where they are.
    ///
    /// # Errors
    /// The broker's.
    pub async fn list(&self, limit: u32) -> Result<Vec<DeadLetter>, AmqpError> {
        let (mut letters, mut last) = (Vec::new(), None);
        let count = self.count().await?;
        for place in 1..=limit.min(count) {
            let Some(got) = self.get().await? else { break };
            letters.push(letter(place, &got));
            last = Some(got);
        }
        self.put_back(last, count).await?;
        Ok(letters)
    }

    /// Publishes those that are wanted again, as the device did; one leaves the
    /// queue when the broker has confirmed it. Those that come back meanwhile
    /// are not driven again.
    ///
    /// # Errors
    /// The broker's; those that were not confirmed stay.
    pub async fn redrive(&self, is_wanted: impl Fn(&DeadLetter) -> bool) -> Result<Redriven, AmqpError> {
        let mut redriven = Redriven::default();
        let (count, mut last_kept) = (self.count().await?, None);
        for place in 1..=count {
            let Some(got) = self.get().await? else { break };
            if !is_wanted(&letter(place, &got)) {
                last_kept = Some(got);
                continue;
            }
            if self.publish_again(&got).await? {
                got.acker.ack(BasicAckOptions::default()).await?;
                redriven.sent += 1;
            } else {
                redriven.unroutable += 1;
                last_kept = Some(got);
            }
        }
        self.put_back(last_kept, count.saturating_sub(redriven.sent)).await?;
        Ok(redriven)
    }

    /// Deletes all of them; answers how many.
    ///
    /// # Errors
    /// The broker's.
    pub async fn purge(&self) -> Result<u32, AmqpError> {
        self.count().await?;
        Ok(self.channel.queue_purge(DEAD_QUEUE.into(), QueuePurgeOptions::default()).await?)
    }

    /// Ends the connection.
    pub async fn close(self) {
        connection::close(&self.connection).await;
    }

    async fn get(&self) -> Result<Option<BasicGetMessage>, AmqpError> {
        Ok(self.channel.basic_get(DEAD_QUEUE.into(), BasicGetOptions { no_ack: false }).await?)
    }

    /// Gives back all that were taken up to this one, in their order, and waits
    /// until they are there again: whoever looks next is to see them.
    async fn put_back(&self, last: Option<BasicGetMessage>, count: u32) -> Result<(), AmqpError> {
        let Some(last) = last else { return Ok(()) };
        last.acker.nack(BasicNackOptions { multiple: true, requeue: true }).await?;
        let settling = async {
            while self.count().await? < count {
                tokio::time::sleep(SETTLE_INTERVAL).await;
            }
            Ok::<_, AmqpError>(())
        };
        // Another command may have taken some meanwhile.
        tokio::time::timeout(SETTLE_TIMEOUT, settling).await.unwrap_or(Ok(()))
    }

    async fn publish_again(&self, got: &BasicGetMessage) -> Result<bool, AmqpError> {
        let publishing = async {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let (key, properties) = (got.routing_key.clone(), as_it_was(&got.properties));
            let confirm = self
                .channel
                .basic_publish(TOPIC_EXCHANGE.into(), key, options, &got.data, properties)
                .await?;
            confirm.await
        };
        let timeout = AmqpError::Timeout { seconds: CONFIRM_TIMEOUT.as_secs() };
        let confirmed = tokio::time::timeout(CONFIRM_TIMEOUT, publishing).await.map_err(|_| timeout)??;
        Ok(confirmed == Confirmation::Ack(None))
    }
}

/// The properties without what was added when the message was put aside.
fn as_it_was(given: &BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in given.headers().iter().flatten() {
        let is_added = ADDED_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("x-last-death");
        if !is_added {
            headers.insert(name.clone(), value.clone());
        }
    }
    given.clone().with_headers(headers)
}

fn letter(place: u32, got: &BasicGetMessage) -> DeadLetter {
    let headers: Vec<_> = got.properties.headers().iter().flatten().collect();
    let header = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name.as_str() == wanted);
        found.and_then(|(_, value)| message::text(value)).map(std::borrow::Cow::into_owned)
    };
    let by_broker = || header("x-first-death-reason").map(|reason| format!("by the broker: {reason}"));
    let correlation = got.properties.correlation_id().as_ref().map(ToString::to_string);
    let texts = headers.iter().filter_map(|(name, value)| Some((name, message::text(value)?)));
    DeadLetter {
        place,
        routing_key: got.routing_key.to_string(),
        reason: header(REASON_HEADER).or_else(by_broker).unwrap_or_default(),
        correlation: correlation.or_else(|| header("correlationData")),
        headers: texts.map(|(name, value)| (name.to_string(), value.into_owned())).collect(),
        body: got.data.clone(),
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;

    use super::*;

    #[test]
    fn a_message_is_driven_again_as_the_device_sent_it() {
        let mut headers = FieldTable::default();
        for name in [REASON_HEADER, "x-death", "x-last-death-queue", "status_code"] {
            headers.insert(name.into(), AMQPValue::LongString("1".into()));
        }
        let given = BasicProperties::default().with_headers(headers).with_correlation_id("c".into());
        let again = as_it_was(&given);
        let names: Vec<_> = again.headers().iter().flatten().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["status_code"]);
        assert_eq!(again.correlation_id(), given.correlation_id());
    }
}
