//! What a device publishes: one message, one operation, one reason code.

use std::sync::Arc;

use covey_core::device::DeviceIdentity;
use covey_core::error::StorageFault;
use covey_core::port::Refusal;
use covey_wire::downlink::DownlinkMessage;
use covey_wire::uplink::{Carrier, Properties, Received};
use covey_wire::{Uplink, parse_uplink_topic};
use futures_util::FutureExt;
use rmqtt::codec::v5::PublishAckReason;
use rmqtt::hook::HookResult;
use rmqtt::session::Session;
use rmqtt::types::{Publish, PublishAclResult, PublishResult, QoS};
use tokio::sync::oneshot;

use crate::embedded::Shared;
use crate::uplink::{self, Refused, RefusedKind};

/// Handles a message and answers with the reason code of its PUBACK (MQTT 5 §3.4.2.1).
pub(super) async fn handle(shared: &Shared, session: &Session, publish: &Publish) -> HookResult {
    // A name with a wildcard or a NUL is none (MQTT 5 [3.3.2-2], [1.5.4-2]).
    if publish.topic.contains(['+', '#', '\0']) {
        shared.link.refuse(Refusal::Protocol);
        tracing::warn!(sn = %session.id.client_id, topic = ?publish.topic, "a publish was refused");
        return refuse(PublishAckReason::TopicNameInvalid, "no topic name", true);
    }
    let Some((_, uplink)) =
        parse_uplink_topic(&publish.topic).filter(|(sn, _)| *sn == &*session.id.client_id)
    else {
        shared.link.refuse(Refusal::PublishTopic);
        tracing::warn!(sn = %session.id.client_id, topic = %publish.topic, "a publish was refused");
        return refuse(PublishAckReason::NotAuthorized, "not a topic of this device", false);
    };
    let Some(device) = shared.link.sessions.device(&session.id) else {
        return refuse(PublishAckReason::NotAuthorized, "the session has ended", true);
    };
    let sender = Sender::of(publish, device, uplink);
    if uplink == Some(Uplink::Evt) {
        return event(shared, sender, publish);
    }
    let handled = uplink::handle(&shared.engine, &sender.device, uplink, received(publish), false).await;
    now(sender.settle(shared, handled))
}

/// Begins with an event. It is in the store's queue when this returns, and so
/// are the events of a device in the order in which they came; what becomes of
/// it is told later.
fn event(shared: &Shared, sender: Sender, publish: &Publish) -> HookResult {
    let event = match uplink::event_open(&shared.engine, received(publish)) {
        Ok(event) => event,
        Err(refused) => return now(sender.settle(shared, Err(refused))),
    };
    let shared = shared.clone();
    let mut adding = Box::pin(async move {
        let added = event.add(&shared.engine, &sender.device, false).await;
        sender.settle(&shared, added)
    });
    if let Some(settled) = (&mut adding).now_or_never() {
        return now(settled);
    }
    let (told, later) = oneshot::channel();
    // How many there are is bounded by the broker's window. It goes on when the
    // connection ends, so that what happened is counted.
    tokio::spawn(async move { drop(told.send(adding.await)) });
    HookResult::PublishLater(later)
}

/// Who published a message, and how.
struct Sender {
    device: Arc<DeviceIdentity>,
    uplink: Option<Uplink>,
    /// Whether the reason for a refusal can be told (MQTT 5 §2.4).
    has_reasons: bool,
    /// Whether the message comes again if its connection ends (MQTT 5 §4.4).
    is_repeated: bool,
}

impl Sender {
    fn of(publish: &Publish, device: Arc<DeviceIdentity>, uplink: Option<Uplink>) -> Self {
        let is_repeated = publish.qos != QoS::AtMostOnce;
        Self { device, uplink, has_reasons: publish.properties.is_some(), is_repeated }
    }

    /// Tells what became of a message: to the device, and to those who watch.
    fn settle(&self, shared: &Shared, handled: Result<Option<DownlinkMessage>, Refused>) -> PublishResult {
        match handled {
            Ok(reply) => {
                self.tell(shared, reply.as_ref());
                PublishResult::success()
            }
            Err(Refused { refusal, kind, why, reply }) => {
                if let Some(refusal) = refusal {
                    shared.link.refuse(refusal);
                }
                let sn = &self.device.sn;
                if matches!(self.uplink, Some(Uplink::Evt) | None) {
                    shared.link.complaints.refused(sn, &why);
                } else {
                    tracing::warn!(%sn, uplink = ?self.uplink, why, "a message was refused");
                }
                self.tell(shared, reply.as_deref());
                // A client of MQTT 3.1.1 cannot be told why; where the message is
                // worth repeating, the missing PUBACK must tell it.
                let is_worth_repeating = matches!(kind, RefusedKind::Unavailable(_))
                    || kind == RefusedKind::Limit && self.uplink == Some(Uplink::Evt);
                let must_close = is_worth_repeating && !self.has_reasons && self.is_repeated;
                PublishResult::reason_code(reason_code(kind), Some(why.into()), must_close)
            }
        }
    }

    fn tell(&self, shared: &Shared, reply: Option<&DownlinkMessage>) {
        if let Some(message) = reply {
            shared.link.sessions.send(self.device.sn.as_str(), Some(self.device.device), message);
        }
    }
}

/// The one table from refusals to reason codes (MQTT 5 §3.4.2.1).
fn reason_code(kind: RefusedKind) -> PublishAckReason {
    match kind {
        RefusedKind::Malformed => PublishAckReason::PayloadFormatInvalid,
        RefusedKind::Forbidden => PublishAckReason::NotAuthorized,
        RefusedKind::Unheard => PublishAckReason::NoMatchingSubscribers,
        RefusedKind::NotTheirs => PublishAckReason::ImplementationSpecificError,
        RefusedKind::Limit | RefusedKind::Unavailable(StorageFault::Full | StorageFault::Overloaded) => {
            PublishAckReason::QuotaExceeded
        }
        RefusedKind::Unavailable(_) => PublishAckReason::UnspecifiedError,
    }
}

fn refuse(code: PublishAckReason, why: &str, disconnect: bool) -> HookResult {
    now(PublishResult::reason_code(code, Some(why.into()), disconnect))
}

fn now(result: PublishResult) -> HookResult {
    HookResult::PublishAclResult(PublishAclResult(result))
}

fn received(publish: &Publish) -> Received<'_> {
    let body = &publish.payload[..];
    let Some(given) = &publish.properties else { return Received { carrier: Carrier::Envelope, body } };
    let mut properties =
        Properties { correlation_data: given.correlation_data.as_deref(), ..Properties::default() };
    for (name, value) in &given.user_properties {
        properties.put_user_property(name, value);
    }
    Received { carrier: Carrier::Properties(properties), body }
}
