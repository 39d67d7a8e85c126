//! What a device publishes: one message, one operation, one reason code.

use std::sync::Arc;

use covey_core::device::DeviceIdentity;
use covey_core::error::{Error, StorageFault};
use covey_core::port::Refusal;
use rmqtt::codec::v5::PublishAckReason;
use rmqtt::session::Session;
use rmqtt::types::{Publish, PublishAclResult, PublishResult};

use crate::embedded::Shared;
use crate::wire::{Channel, Correlation, Inbound, Malformed, Outbound, Properties, parse_publish};

/// Why a message is not acknowledged as done.
struct Refused {
    refusal: Refusal,
    code: PublishAckReason,
    why: String,
    /// Whether the connection ends, so that a client without reason codes
    /// does not take its message for stored.
    must_close: bool,
}

/// Handles a message and answers with the reason code of its PUBACK (MQTT 5 §3.4.2.1).
pub(super) async fn handle(shared: &Shared, session: &Session, publish: &Publish) -> PublishAclResult {
    // A name with a wildcard or a NUL is none (MQTT 5 [3.3.2-2], [1.5.4-2]).
    if publish.topic.contains(['+', '#', '\0']) {
        shared.link.refuse(Refusal::Protocol);
        tracing::warn!(sn = %session.id.client_id, topic = ?publish.topic, "a publish was refused");
        return refuse(PublishAckReason::TopicNameInvalid, "no topic name", true);
    }
    let Some((_, channel)) = parse_publish(&publish.topic).filter(|(sn, _)| *sn == &*session.id.client_id)
    else {
        shared.link.refuse(Refusal::PublishTopic);
        tracing::warn!(sn = %session.id.client_id, topic = %publish.topic, "a publish was refused");
        return refuse(PublishAckReason::NotAuthorized, "not a topic of this device", false);
    };
    let Some(device) = shared.link.sessions.device(&session.id) else {
        return refuse(PublishAckReason::NotAuthorized, "the session has ended", true);
    };
    match dispatch(shared, &device, channel, publish).await {
        Ok(()) => PublishAclResult::allow(),
        Err(refused) => {
            shared.link.refuse(refused.refusal);
            tracing::warn!(sn = %device.sn, topic = %publish.topic, why = refused.why, "a message was refused");
            // A client of MQTT 3.1.1 cannot be told why; where the message is
            // worth repeating, the missing PUBACK must tell it.
            let must_close = refused.must_close && publish.properties.is_none();
            refuse(refused.code, &refused.why, must_close)
        }
    }
}

fn refuse(code: PublishAckReason, why: &str, disconnect: bool) -> PublishAclResult {
    PublishAclResult(PublishResult::reason_code(code, Some(why.into()), disconnect))
}

async fn dispatch(
    shared: &Shared,
    device: &Arc<DeviceIdentity>,
    channel: Channel,
    publish: &Publish,
) -> Result<(), Refused> {
    match channel {
        Channel::Ack => {
            let id = open(publish)?.correlation()?.task().ok_or(Malformed::CorrelationMissing)?;
            Ok(shared.engine.task_ack(device, id).await?)
        }
        Channel::Req => request(shared, device, open(publish)?.correlation()?).await,
        Channel::Res => result(shared, device, &open(publish)?).await,
        Channel::Evt => Err(Refused {
            refusal: Refusal::Payload,
            code: PublishAckReason::ImplementationSpecificError,
            why: "this version keeps no events".to_owned(),
            must_close: false,
        }),
        Channel::Other => Ok(()),
    }
}

async fn request(
    shared: &Shared,
    device: &Arc<DeviceIdentity>,
    correlation: Correlation,
) -> Result<(), Refused> {
    let message = match shared.engine.task_next(device, correlation.task()).await? {
        Some(task) => Outbound::response(&task, shared.engine.now()),
        None => Outbound::nothing_to_do(),
    };
    shared.link.sessions.send(device.sn.as_str(), Some(device.device), &message);
    Ok(())
}

async fn result(shared: &Shared, device: &Arc<DeviceIdentity>, inbound: &Inbound<'_>) -> Result<(), Refused> {
    let id = inbound.correlation()?.task().ok_or(Malformed::CorrelationMissing)?;
    let result = inbound.result()?;
    let ext_id = result.ext_id;
    let stored = shared.engine.task_finish(device, id, result).await?;
    let message = Outbound::committed(id, stored.result_id, ext_id);
    shared.link.sessions.send(device.sn.as_str(), Some(device.device), &message);
    Ok(())
}

fn open(publish: &Publish) -> Result<Inbound<'_>, Malformed> {
    let Some(properties) = &publish.properties else { return Inbound::in_envelope(&publish.payload) };
    let property = |name: &str| {
        properties.user_properties.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    };
    let fields = Properties {
        correlation_data: properties.correlation_data.as_deref(),
        correlation_header: None,
        correlation_property: property("correlationData"),
        status_code: property("status_code"),
        ext_id: property("ext_id"),
    };
    Ok(Inbound::with_properties(fields, &publish.payload))
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Self {
            refusal: malformed.refusal(),
            code: PublishAckReason::PayloadFormatInvalid,
            why: malformed.to_string(),
            must_close: false,
        }
    }
}

impl From<Error> for Refused {
    /// The one table from errors of the core to reason codes of MQTT.
    fn from(error: Error) -> Self {
        let (refusal, code) = match &error {
            Error::NotFound { .. } => (Refusal::UnknownTask, PublishAckReason::ImplementationSpecificError),
            Error::Invalid { .. } | Error::Conflict { .. } => {
                (Refusal::Payload, PublishAckReason::PayloadFormatInvalid)
            }
            Error::Forbidden { .. } => (Refusal::PublishTopic, PublishAckReason::NotAuthorized),
            Error::Exhausted { .. } => (Refusal::Limit, PublishAckReason::QuotaExceeded),
            Error::Unavailable { reason: StorageFault::Full | StorageFault::Overloaded } => {
                (Refusal::Storage, PublishAckReason::QuotaExceeded)
            }
            Error::Unavailable { .. } => (Refusal::Storage, PublishAckReason::UnspecifiedError),
        };
        let must_close = matches!(error, Error::Unavailable { .. });
        Self { refusal, code, why: error.to_string(), must_close }
    }
}
