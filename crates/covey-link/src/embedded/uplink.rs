//! What a device publishes: one message, one operation, one reason code.

use covey_core::error::StorageFault;
use covey_core::port::Refusal;
use rmqtt::codec::v5::PublishAckReason;
use rmqtt::session::Session;
use rmqtt::types::{Publish, PublishAclResult, PublishResult};

use crate::embedded::Shared;
use crate::uplink::{self, Refused, RefusedKind};
use crate::wire::{Inbound, Malformed, Properties, parse_publish};

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
    match uplink::handle(&shared.engine, &device, channel, open(publish)).await {
        Ok(reply) => {
            if let Some(message) = reply {
                shared.link.sessions.send(device.sn.as_str(), Some(device.device), &message);
            }
            PublishAclResult::allow()
        }
        Err(Refused { refusal, kind, why }) => {
            shared.link.refuse(refusal);
            tracing::warn!(sn = %device.sn, topic = %publish.topic, why, "a message was refused");
            // A client of MQTT 3.1.1 cannot be told why; where the message is
            // worth repeating, the missing PUBACK must tell it.
            let must_close = matches!(kind, RefusedKind::Unavailable(_)) && publish.properties.is_none();
            refuse(reason_code(kind, refusal), &why, must_close)
        }
    }
}

/// The one table from refusals to reason codes (MQTT 5 §3.4.2.1).
fn reason_code(kind: RefusedKind, refusal: Refusal) -> PublishAckReason {
    match kind {
        RefusedKind::Malformed => PublishAckReason::PayloadFormatInvalid,
        RefusedKind::NotTheirs if refusal == Refusal::PublishTopic => PublishAckReason::NotAuthorized,
        RefusedKind::NotTheirs | RefusedKind::NotBuilt => PublishAckReason::ImplementationSpecificError,
        RefusedKind::Limit | RefusedKind::Unavailable(StorageFault::Full | StorageFault::Overloaded) => {
            PublishAckReason::QuotaExceeded
        }
        RefusedKind::Unavailable(_) => PublishAckReason::UnspecifiedError,
    }
}

fn refuse(code: PublishAckReason, why: &str, disconnect: bool) -> PublishAclResult {
    PublishAclResult(PublishResult::reason_code(code, Some(why.into()), disconnect))
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
