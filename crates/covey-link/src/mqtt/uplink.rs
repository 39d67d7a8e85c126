//! What devices publish: each message is one operation; it is acknowledged to
//! the broker after the commit and after the broker has the answer, and in the
//! order of arrival (MQTT 5 §4.6). What one device sends is handed to the store
//! in that order too.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use covey_core::id::Sn;
use covey_core::port::Refusal;
use covey_wire::downlink::DownlinkMessage;
use covey_wire::uplink::{Carrier, Properties, Received};
use covey_wire::{Uplink, parse_uplink_topic};
use futures_util::poll;
use rumqttc::ManualAck;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{PubAckReason, Publish};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::lanes::{Lanes, Turn};
use crate::mqtt::connection::Backoff;
use crate::mqtt::shared::Shared;
use crate::uplink::{self, Refused, RefusedKind};

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
    unacknowledged: Arc<Semaphore>,
    lanes: Lanes,
}

/// Who published, and where the message is among those of its device.
struct Origin {
    sn: Sn,
    uplink: Option<Uplink>,
    turn: Option<Turn>,
}

impl Intake {
    pub(super) fn new(acks: mpsc::Sender<Waiting>) -> Self {
        let unacknowledged = Arc::new(Semaphore::new(UNACKNOWLEDGED_MAX));
        Self { acks, unacknowledged, lanes: Lanes::default() }
    }

    /// Begins with a message of a device.
    pub(super) fn device_message(&self, shared: &Arc<Shared>, publish: Publish) {
        let epoch = shared.epoch();
        let shared = Arc::clone(shared);
        if publish.qos == QoS::AtMostOnce {
            let Ok(place) = Arc::clone(&self.unacknowledged).try_acquire_owned() else {
                return shared.link.refuse(Refusal::Limit);
            };
            let origin = self.origin(&publish);
            let under_way = shared.under_way.clone();
            under_way.spawn(async move {
                carry_out(&shared, &publish, origin, epoch).await;
                drop(place);
            });
            return;
        }
        let (verdict, waiting) = oneshot::channel();
        if self.acknowledge_later(&shared, &publish, epoch, waiting) {
            let origin = self.origin(&publish);
            let under_way = shared.under_way.clone();
            under_way.spawn(async move {
                // A message that was given up is not acknowledged: the broker has it.
                if let Some(reason) = carry_out(&shared, &publish, origin, epoch).await {
                    let _ = verdict.send(reason);
                }
            });
        }
    }

    fn origin(&self, publish: &Publish) -> Option<Origin> {
        let (sn, uplink) = parse_uplink_topic(std::str::from_utf8(&publish.topic).ok()?)?;
        let sn = Sn::parse(sn).ok()?;
        Some(Origin { turn: Some(self.lanes.queue(&sn)), sn, uplink })
    }

    /// Acknowledges what needs no operation, in its turn.
    pub(super) fn acknowledge(&self, shared: &Arc<Shared>, publish: &Publish) {
        let (verdict, waiting) = oneshot::channel();
        let _ = verdict.send(PubAckReason::Success);
        self.acknowledge_later(shared, publish, shared.epoch(), waiting);
    }

    fn acknowledge_later(
        &self,
        shared: &Arc<Shared>,
        publish: &Publish,
        epoch: u64,
        verdict: oneshot::Receiver<PubAckReason>,
    ) -> bool {
        let Some(ack) = shared.client.prepare_ack(publish) else { return false };
        let waiting = Waiting { ack, epoch, verdict, _under_way: shared.under_way.token() };
        let is_taken = self.acks.try_send(waiting).is_ok();
        if !is_taken {
            // The broker keeps it and sends it again after the next connect.
            shared.link.refuse(Refusal::Limit);
            tracing::error!("too many messages wait for their acknowledgement; one was left to the broker");
        }
        is_taken
    }
}

/// Sends acknowledgements, each after the one before it.
pub(super) async fn acknowledge_in_order(shared: Arc<Shared>, mut acks: mpsc::Receiver<Waiting>) {
    while let Some(Waiting { mut ack, epoch, verdict, _under_way }) = acks.recv().await {
        let Ok(reason) = verdict.await else { continue };
        // The broker has sent again what it was not told of on an earlier connection.
        if epoch != shared.epoch() {
            continue;
        }
        if let ManualAck::PubAck(puback) = &mut ack {
            puback.reason = reason;
        }
        if shared.client.manual_ack(ack).await.is_err() {
            return;
        }
    }
}

/// Carries a message out until it is decided; answers how it is acknowledged,
/// or nothing if its connection has ended before the store took it.
async fn carry_out(
    shared: &Arc<Shared>,
    publish: &Publish,
    origin: Option<Origin>,
    epoch: u64,
) -> Option<PubAckReason> {
    let Some(Origin { sn, uplink, mut turn }) = origin else {
        shared.link.refuse(Refusal::PublishTopic);
        return Some(PubAckReason::Success);
    };
    let mut backoff = Backoff::new();
    loop {
        match attempt(shared, &sn, uplink, publish, turn.take()).await {
            Ok(()) => return Some(PubAckReason::Success),
            Err(Refused { refusal, kind: RefusedKind::Unavailable(_), why, .. }) => {
                shared.link.count(refusal);
                tracing::warn!(%sn, topic = %topic(publish), why, "a message waits for the store");
                tokio::select! {
                    () = tokio::time::sleep(backoff.after_failure()) => {}
                    () = shared.stop.cancelled() => return None,
                }
                if epoch != shared.epoch() {
                    return None;
                }
            }
            Err(Refused { refusal, kind, why, reply }) => {
                shared.link.count(refusal);
                if matches!(uplink, Some(Uplink::Evt) | None) {
                    shared.link.complaints.refused(&sn, &why);
                } else {
                    tracing::warn!(%sn, topic = %topic(publish), why, "a message was refused");
                }
                if let Some(reply) = reply {
                    send(shared, &sn, *reply).await;
                }
                return Some(reason_code(kind));
            }
        }
    }
}

async fn attempt(
    shared: &Arc<Shared>,
    sn: &Sn,
    uplink: Option<Uplink>,
    publish: &Publish,
    turn: Option<Turn>,
) -> Result<(), Refused> {
    let mut turn = turn;
    if let Some(turn) = &mut turn {
        turn.come().await;
    }
    let Some(device) = shared.identities.of(&shared.engine, sn).await? else {
        shared.accounts.expel(sn.clone());
        return Err(Refused {
            refusal: Some(Refusal::NotAdmitted),
            kind: RefusedKind::NotTheirs,
            why: "no device is registered under this serial number".to_owned(),
            reply: None,
        });
    };
    shared.presence.contact(&device);
    let received = received(publish, shared.presence.has_properties(sn));
    let is_acknowledged = publish.qos != QoS::AtMostOnce;
    let mut handling = pin!(uplink::handle(&shared.engine, &device, uplink, received, is_acknowledged));
    let outcome = match poll!(&mut handling) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => {
            // The store has it, so the next of this device may follow.
            drop(turn);
            handling.await
        }
    };
    if let Some(reply) = outcome? {
        send(shared, sn, reply).await;
    }
    Ok(())
}

/// The topic, for the log.
fn topic(publish: &Publish) -> Cow<'_, str> {
    String::from_utf8_lossy(&publish.topic)
}

/// Waits until the broker has the answer. One that it does not take is asked
/// for again: the device repeats what it has no answer to.
async fn send(shared: &Arc<Shared>, sn: &Sn, reply: DownlinkMessage) {
    if let Err(problem) = shared.send(sn, &reply).await {
        tracing::debug!(%sn, %problem, "an answer was not delivered to the broker");
    }
}

/// What the broker is told of a message that did nothing (MQTT 5 §3.4.2.1). It
/// drops the message either way.
fn reason_code(kind: RefusedKind) -> PubAckReason {
    match kind {
        RefusedKind::Malformed => PubAckReason::PayloadFormatInvalid,
        RefusedKind::Unheard => PubAckReason::NoMatchingSubscribers,
        RefusedKind::NotTheirs | RefusedKind::Forbidden => PubAckReason::ImplementationSpecificError,
        RefusedKind::Limit | RefusedKind::Unavailable(_) => PubAckReason::QuotaExceeded,
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
