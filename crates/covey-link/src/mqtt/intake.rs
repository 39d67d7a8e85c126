//! Takes what devices publish: each message is one operation, and is acknowledged to the broker
//! after the commit and after the broker has the answer, in the order of arrival (MQTT 5 §4.6).

use std::borrow::Cow;
use std::sync::Arc;

use covey_core::Engine;
use covey_core::id::Sn;
use covey_core::port::Refusal;
use covey_wire::downlink::{DownlinkMessage, ResponseForm};
use covey_wire::uplink::{Carrier, Properties, Received};
use covey_wire::{Uplink, parse_uplink_topic};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{PubAckReason, Publish};
use rumqttc::{AsyncClient, ManualAck};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::dispatch::{self, Refused, RefusedKind};
use crate::identities::Identities;
use crate::mqtt::accounts::Accounts;
use crate::mqtt::connection::Backoff;
use crate::mqtt::presence::Presence;
use crate::mqtt::publisher::Publisher;
use crate::mqtt::state::State;
use crate::per_device_order::{Sequencer, Ticket};
use crate::refusal_log::RefusalLog;

/// How many acknowledgements may wait for their turn. The broker sends no more
/// than Receive Maximum; after a reconnect it sends those again.
pub(super) const ACKS_MAX: usize = 4096;
/// How many messages of QoS 0, for which the broker knows no bound, may be under way.
const UNACKNOWLEDGED_MAX: usize = 256;

/// An acknowledgement that waits for its message, and for those before it.
pub(super) struct Waiting {
    ack: ManualAck,
    epoch: u64,
    verdict: oneshot::Receiver<PubAckReason>,
    /// Under way until it is handed to the client, so that a stop waits for it.
    _under_way: TaskTrackerToken,
}

/// Where messages go in.
pub(super) struct Intake {
    acks: mpsc::Sender<Waiting>,
    client: AsyncClient,
    unacknowledged: Arc<Semaphore>,
    order: Sequencer,
    handler: Arc<Handler>,
}

/// What handling a message needs.
pub(super) struct Handler {
    pub(super) engine: Arc<Engine>,
    pub(super) identities: Arc<Identities>,
    pub(super) presence: Arc<Presence>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) refusals: Arc<RefusalLog>,
    pub(super) state: Arc<State>,
    pub(super) response_form: ResponseForm,
}

/// Who published, and the message's place among those of its device.
struct Origin {
    sn: Sn,
    uplink: Option<Uplink>,
    ticket: Option<Ticket>,
}

impl Intake {
    pub(super) fn new(acks: mpsc::Sender<Waiting>, client: AsyncClient, handler: Handler) -> Self {
        let unacknowledged = Arc::new(Semaphore::new(UNACKNOWLEDGED_MAX));
        Self { acks, client, unacknowledged, order: Sequencer::default(), handler: Arc::new(handler) }
    }

    /// Begins to handle a message of a device.
    pub(super) fn device_message(&self, publish: Publish) {
        let handler = Arc::clone(&self.handler);
        let epoch = handler.state.epoch();
        let under_way = handler.state.under_way.clone();
        if publish.qos == QoS::AtMostOnce {
            let Ok(place) = Arc::clone(&self.unacknowledged).try_acquire_owned() else {
                return handler.refusals.count(Refusal::Limit);
            };
            let origin = self.origin(&publish);
            under_way.spawn(async move {
                handler.handle(&publish, origin, epoch).await;
                drop(place);
            });
            return;
        }
        let (verdict, waiting) = oneshot::channel();
        if self.acknowledge_later(&publish, epoch, waiting) {
            let origin = self.origin(&publish);
            under_way.spawn(async move {
                // A message that was given up is not acknowledged: the broker has it.
                if let Some(reason) = handler.handle(&publish, origin, epoch).await {
                    let _ = verdict.send(reason);
                }
            });
        }
    }

    fn origin(&self, publish: &Publish) -> Option<Origin> {
        let (sn, uplink) = parse_uplink_topic(std::str::from_utf8(&publish.topic).ok()?)?;
        let sn = Sn::parse(sn).ok()?;
        Some(Origin { ticket: Some(self.order.ticket(&sn)), sn, uplink })
    }

    /// Acknowledges what needs no operation, in its turn.
    pub(super) fn acknowledge(&self, publish: &Publish) {
        let (verdict, waiting) = oneshot::channel();
        let _ = verdict.send(PubAckReason::Success);
        self.acknowledge_later(publish, self.handler.state.epoch(), waiting);
    }

    fn acknowledge_later(
        &self,
        publish: &Publish,
        epoch: u64,
        verdict: oneshot::Receiver<PubAckReason>,
    ) -> bool {
        let Some(ack) = self.client.prepare_ack(publish) else { return false };
        let waiting = Waiting { ack, epoch, verdict, _under_way: self.handler.state.under_way.token() };
        let is_taken = self.acks.try_send(waiting).is_ok();
        if !is_taken {
            // The broker keeps it and sends it again after the next connect.
            self.handler.refusals.count(Refusal::Limit);
            tracing::error!(
                acks_max = ACKS_MAX,
                "too many messages wait for a PUBACK; one left to the broker"
            );
        }
        is_taken
    }
}

/// Sends acknowledgements, each after the one before it.
pub(super) async fn acknowledge_in_order(
    state: Arc<State>,
    client: AsyncClient,
    mut acks: mpsc::Receiver<Waiting>,
) {
    while let Some(Waiting { mut ack, epoch, verdict, _under_way }) = acks.recv().await {
        let Ok(reason) = verdict.await else { continue };
        // On a new connection the broker has sent again what was not acknowledged.
        if epoch != state.epoch() {
            continue;
        }
        if let ManualAck::PubAck(puback) = &mut ack {
            puback.reason = reason;
        }
        if client.manual_ack(ack).await.is_err() {
            return;
        }
    }
}

impl Handler {
    /// Handles a message until it is decided; answers how it is acknowledged,
    /// or nothing if its connection has ended before the store took it.
    async fn handle(&self, publish: &Publish, origin: Option<Origin>, epoch: u64) -> Option<PubAckReason> {
        let Some(Origin { sn, uplink, mut ticket }) = origin else {
            self.refusals.count(Refusal::PublishTopic);
            return Some(PubAckReason::Success);
        };
        let mut backoff = Backoff::new();
        loop {
            match self.attempt(&sn, uplink, publish, ticket.take()).await {
                Ok(()) => return Some(PubAckReason::Success),
                Err(Refused { refusal, kind: RefusedKind::Unavailable(_), why, .. }) => {
                    refusal.into_iter().for_each(|refusal| self.refusals.count(refusal));
                    tracing::warn!(%sn, topic = %topic(publish), why, "store unavailable; message waits");
                    tokio::select! {
                        () = tokio::time::sleep(backoff.after_failure()) => {}
                        () = self.state.stop.cancelled() => return None,
                    }
                    if epoch != self.state.epoch() {
                        return None;
                    }
                }
                Err(refused) => {
                    self.refusals.refused(&sn, uplink, &refused);
                    if let Some(reply) = refused.reply {
                        self.send(&sn, *reply).await;
                    }
                    return Some(reason_code(refused.kind));
                }
            }
        }
    }

    async fn attempt(
        &self,
        sn: &Sn,
        uplink: Option<Uplink>,
        publish: &Publish,
        ticket: Option<Ticket>,
    ) -> Result<(), Refused> {
        let mut ticket = ticket;
        if let Some(ticket) = &mut ticket {
            ticket.turn().await;
        }
        let Some(device) = self.identities.of(&self.engine, sn).await? else {
            self.accounts.expel(sn.clone());
            return Err(Refused::not_registered());
        };
        self.presence.contact(&device);
        let received = received(publish, self.presence.has_properties(sn));
        let is_acknowledged = publish.qos != QoS::AtMostOnce;
        let form = self.response_form;
        let handling = dispatch::handle(&self.engine, &device, uplink, received, form, is_acknowledged);
        if let Some(reply) = Ticket::run(ticket, handling).await? {
            self.send(sn, reply).await;
        }
        Ok(())
    }

    /// Waits until the broker has the answer. An answer that it does not take is lost: the device
    /// asks again.
    async fn send(&self, sn: &Sn, reply: DownlinkMessage) {
        if let Err(problem) = self.publisher.send(sn, &reply).await {
            tracing::debug!(%sn, %problem, "answer not delivered to the broker");
        }
    }
}

/// The topic, for the log.
fn topic(publish: &Publish) -> Cow<'_, str> {
    String::from_utf8_lossy(&publish.topic)
}

/// The PUBACK of a message that did nothing (MQTT 5 §3.4.2.1). The broker drops the message
/// either way.
fn reason_code(kind: RefusedKind) -> PubAckReason {
    match kind {
        RefusedKind::Malformed => PubAckReason::PayloadFormatInvalid,
        RefusedKind::Unheard => PubAckReason::NoMatchingSubscribers,
        RefusedKind::NotTheirs | RefusedKind::Forbidden => PubAckReason::ImplementationSpecificError,
        RefusedKind::Limit | RefusedKind::OverBudget | RefusedKind::Unavailable(_) => {
            PubAckReason::QuotaExceeded
        }
    }
}

fn received(publish: &Publish, has_properties: bool) -> Received<'_> {
    let body = &publish.payload[..];
    if !has_properties {
        return Received { carrier: Carrier::Envelope, body };
    }
    let mut properties = Properties::default();
    if let Some(given) = &publish.properties {
        properties.correlation_data = given.correlation_data.as_deref();
        for (name, value) in &given.user_properties {
            properties.put_user_property(name, value);
        }
    }
    Received { carrier: Carrier::Properties(properties), body }
}
