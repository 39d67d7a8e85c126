//! Publishes to the broker, and waits for what it answers.

use std::sync::Arc;
use std::time::Duration;

use covey_core::id::Sn;
use covey_wire::downlink::{DownlinkMessage, Qos};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{PubAckReason, PublishProperties};
use rumqttc::{AsyncClient, PublishNotice, PublishOptions, PublishResult};

use crate::mqtt::presence::Presence;

/// How long the broker may take to acknowledge a message.
const PUBACK_TIMEOUT: Duration = Duration::from_secs(10);

/// The publishing side of a link.
pub(super) struct Publisher {
    client: AsyncClient,
    presence: Arc<Presence>,
}

/// Why it is not known that the broker has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsent {
    #[error("the connection to the broker has ended")]
    Disconnected,
    #[error("the broker does not answer")]
    Silent,
    #[error("the broker refused it with {0:?}")]
    Refused(PubAckReason),
}

/// What the broker said of a message that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It has it; for whom, it does not say.
    Taken,
    /// Nobody has subscribed to its topic (MQTT 5 §3.4.2.1, 0x10).
    Unheard,
}

impl Publisher {
    pub(super) fn new(client: AsyncClient, presence: Arc<Presence>) -> Self {
        Self { client, presence }
    }

    /// Hands a message for a device to the broker and waits until the broker has it.
    pub(super) async fn send(&self, sn: &Sn, message: &DownlinkMessage) -> Result<Sent, Unsent> {
        outcome(self.hand_over(sn, message).await?).await
    }

    /// Hands a message for a device to the client, in the order of the calls. The broker's answer
    /// is to be [waited for](outcome).
    pub(super) async fn hand_over(
        &self,
        sn: &Sn,
        message: &DownlinkMessage,
    ) -> Result<PublishNotice, Unsent> {
        let mut properties = PublishProperties {
            message_expiry_interval: Some(message.expiry_s),
            ..PublishProperties::default()
        };
        let body = if self.presence.has_properties(sn) {
            properties.correlation_data = Some(message.correlation.clone().into());
            properties.user_properties =
                message.user_properties().map(|(name, value)| (name.to_owned(), value)).collect();
            message.body().to_owned()
        } else {
            message.enveloped_body()
        };
        let qos = match message.qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
        };
        let options = PublishOptions::new(qos).properties(properties);
        self.queue(message.downlink.topic(sn.as_str()), body, options).await
    }

    /// Publishes and waits for the PUBACK; for QoS 0, until the message is written.
    pub(super) async fn publish(
        &self,
        topic: String,
        body: String,
        options: PublishOptions,
    ) -> Result<Sent, Unsent> {
        outcome(self.queue(topic, body, options).await?).await
    }

    async fn queue(
        &self,
        topic: String,
        body: String,
        options: PublishOptions,
    ) -> Result<PublishNotice, Unsent> {
        let queueing = self.client.publish_tracked(topic, body, options);
        let queued = tokio::time::timeout(PUBACK_TIMEOUT, queueing).await.map_err(|_| Unsent::Silent)?;
        queued.map_err(|_| Unsent::Disconnected)
    }
}

/// Waits for the broker's answer to a message that was handed over.
pub(super) async fn outcome(notice: PublishNotice) -> Result<Sent, Unsent> {
    match tokio::time::timeout(PUBACK_TIMEOUT, notice.wait_async()).await {
        Ok(Ok(PublishResult::Qos1(puback))) => match puback.reason {
            PubAckReason::Success => Ok(Sent::Taken),
            PubAckReason::NoMatchingSubscribers => Ok(Sent::Unheard),
            refused => Err(Unsent::Refused(refused)),
        },
        Ok(Ok(_)) => Ok(Sent::Taken),
        Ok(Err(_)) => Err(Unsent::Disconnected),
        Err(_) => Err(Unsent::Silent),
    }
}
