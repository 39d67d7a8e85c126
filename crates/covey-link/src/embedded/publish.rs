//! What a device publishes: one message, one operation, one reason code.

use std::sync::Arc;

use covey_core::device::DeviceIdentity;
use covey_core::error::StorageFault;
use covey_core::port::Refusal;
use covey_wire::downlink::DownlinkMessage;
use covey_wire::reason::Reason;
use covey_wire::uplink::{Carrier, Properties, Received};
use covey_wire::{Uplink, parse_uplink_topic};
use futures_util::FutureExt;
use rmqtt::codec::v5::PublishAckReason;
use rmqtt::hook::HookResult;
use rmqtt::session::Session;
use rmqtt::types::{Publish, PublishAclResult, PublishResult, QoS};
use tokio::sync::oneshot;

use crate::dispatch::{self, Refused, RefusedKind};
use crate::embedded::Shared;

/// Handles a message and answers with the reason code of its PUBACK (MQTT 5 §3.4.2.1).
pub(super) async fn handle(shared: &Shared, session: &Session, publish: &Publish) -> HookResult {
    // A name with a wildcard or a NUL is none (MQTT 5 [3.3.2-2], [1.5.4-2]).
    if publish.topic.contains(['+', '#', '\0']) {
        shared.link.refusals.count(Refusal::Protocol);
        tracing::warn!(sn = %session.id.client_id, topic = ?publish.topic, "publish refused: not a topic name");
        return refuse(PublishAckReason::TopicNameInvalid, "no topic name", true);
    }
    let Some((_, uplink)) =
        parse_uplink_topic(&publish.topic).filter(|(sn, _)| *sn == &*session.id.client_id)
    else {
        shared.link.refusals.count(Refusal::PublishTopic);
        tracing::warn!(sn = %session.id.client_id, topic = %publish.topic, "publish refused: not a topic of this device");
        return refuse(PublishAckReason::NotAuthorized, "not a topic of this device", false);
    };
    let Some(device) = shared.link.sessions.device(&session.id) else {
        return refuse(PublishAckReason::NotAuthorized, "the session has ended", true);
    };
    let sender = Sender::of(publish, device, uplink);
    if uplink == Some(Uplink::Evt) {
        return event(shared, sender, publish);
    }
    let (engine, form) = (&shared.engine, shared.response_form);
    let handled = dispatch::handle(engine, &sender.device, uplink, received(publish), form, false).await;
    now(sender.settle(shared, handled))
}

/// Begins to store an event. It is in the store's queue when this returns, so events of a device
/// are stored in their order; the outcome follows later.
fn event(shared: &Shared, sender: Sender, publish: &Publish) -> HookResult {
    let event = match dispatch::event_open(&shared.engine, received(publish)) {
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
    /// Whether the device's protocol has reason codes (MQTT 5 §2.4).
    has_reasons: bool,
    /// Whether the message comes again if its connection ends (MQTT 5 §4.4).
    is_repeated: bool,
}

impl Sender {
    fn of(publish: &Publish, device: Arc<DeviceIdentity>, uplink: Option<Uplink>) -> Self {
        let is_repeated = publish.qos != QoS::AtMostOnce;
        Self { device, uplink, has_reasons: publish.properties.is_some(), is_repeated }
    }

    /// Answers the device, and counts and logs a refusal.
    fn settle(&self, shared: &Shared, handled: Result<Option<DownlinkMessage>, Refused>) -> PublishResult {
        match handled {
            Ok(reply) => {
                self.tell(shared, reply.as_ref());
                PublishResult::success()
            }
            Err(refused) => {
                shared.link.refusals.refused(&self.device.sn, self.uplink, &refused);
                let Refused { kind, why, reply, .. } = refused;
                self.tell(shared, reply.as_deref());
                // MQTT 3.1.1 has no reason codes: a message worth repeating gets no PUBACK and a
                // closed connection.
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
    let reason = match kind {
        RefusedKind::Malformed => Reason::PayloadFormatInvalid,
        RefusedKind::Forbidden => Reason::NotAuthorized,
        RefusedKind::Unheard => Reason::NoMatchingSubscribers,
        RefusedKind::NotTheirs => Reason::ImplementationSpecific,
        RefusedKind::Limit | RefusedKind::Unavailable(StorageFault::Full | StorageFault::Overloaded) => {
            Reason::QuotaExceeded
        }
        RefusedKind::Unavailable(_) => Reason::Unspecified,
    };
    PublishAckReason::try_from(reason.code()).unwrap_or(PublishAckReason::UnspecifiedError)
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
