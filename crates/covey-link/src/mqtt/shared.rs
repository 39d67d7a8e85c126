//! What the tasks of a running link share: the client, the engine, what is
//! known of devices, and the count of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use covey_core::Engine;
use covey_core::id::Sn;
use covey_wire::downlink::{DownlinkMessage, Qos};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{PubAckReason, PublishProperties};
use rumqttc::{AsyncClient, PublishNotice, PublishOptions, PublishResult};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::identities::Identities;
use crate::mqtt::MqttLink;
use crate::mqtt::accounts::Accounts;
use crate::mqtt::presence::Presence;

/// How long the broker may take to say that it has a message.
const PUBACK_TIMEOUT: Duration = Duration::from_secs(10);

/// The parts of a running link.
pub(super) struct Shared {
    pub(super) link: Arc<MqttLink>,
    pub(super) engine: Arc<Engine>,
    pub(super) client: AsyncClient,
    pub(super) identities: Identities,
    pub(super) presence: Presence,
    pub(super) accounts: Accounts,
    /// Ends everything.
    pub(super) stop: CancellationToken,
    /// The messages that are being carried out.
    pub(super) under_way: TaskTracker,
    /// Counts connections; what belongs to an earlier one is void.
    pub(super) epoch: AtomicU64,
}

/// Why a message to a device is not known to be with the broker.
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

impl Shared {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Hands a message for a device to the broker and waits until it has it.
    pub(super) async fn send(&self, sn: &Sn, message: &DownlinkMessage) -> Result<Sent, Unsent> {
        outcome(self.hand_over(sn, message).await?).await
    }

    /// Hands a message for a device over, in the order of the calls; what the
    /// broker says of it is to be [waited for](outcome).
    pub(super) async fn hand_over(
        &self,
        sn: &Sn,
        message: &DownlinkMessage,
    ) -> Result<PublishNotice, Unsent> {
        let has_properties = self.presence.has_properties(sn);
        let topic = message.downlink.topic(sn.as_str());
        let (body, properties) = if has_properties {
            let properties = PublishProperties {
                message_expiry_interval: Some(message.expiry_s),
                correlation_data: Some(message.correlation.clone().into()),
                user_properties: message
                    .user_properties()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
                ..PublishProperties::default()
            };
            (message.body().to_owned(), properties)
        } else {
            let properties = PublishProperties {
                message_expiry_interval: Some(message.expiry_s),
                ..PublishProperties::default()
            };
            (message.enveloped_body(), properties)
        };
        let qos = match message.qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
        };
        let options = PublishOptions::new(qos).properties(properties);
        self.queue(topic, body, options).await
    }

    /// Publishes and waits for the PUBACK; for QoS 0, until it is written.
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

/// What the broker says of a message that was handed over.
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
