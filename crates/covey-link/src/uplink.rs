//! What a message of a device does, through whichever broker it came: one
//! message, one operation, at most one message back.

use covey_core::Engine;
use covey_core::device::DeviceIdentity;
use covey_core::error::{Error, StorageFault};
use covey_core::event::NewEvent;
use covey_core::port::Refusal;

use crate::wire::{
    Channel, Correlation, EventHead, EventStatus, Inbound, Malformed, Outbound, Received, Unread, read_event,
};

/// Why a message did nothing.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Under which reason it is counted, unless the core has counted it.
    pub(crate) refusal: Option<Refusal>,
    /// What its sender may do.
    pub(crate) kind: RefusedKind,
    /// Why, in words for the sender and the log.
    pub(crate) why: String,
    /// What the device is to be told, once nothing more is tried.
    pub(crate) reply: Option<Box<Outbound>>,
}

/// What the sender of a refused message may do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedKind {
    /// Nothing: the message cannot be understood, now or later.
    Malformed,
    /// Nothing: what it is about is not the sender's, or is not there.
    NotTheirs,
    /// Nothing: it may not publish there.
    Forbidden,
    /// Publish elsewhere: it may publish there, and nobody listens.
    Unheard,
    /// Wait until a limit is no longer reached.
    Limit,
    /// Send it again: the store did not take it.
    Unavailable(StorageFault),
}

/// Carries a message out, and answers what the device is to be told after the
/// commit. An event is handed to the store when this is first polled.
///
/// `is_acknowledged` says that the device believes its event stored already.
pub(crate) async fn handle(
    engine: &Engine,
    device: &DeviceIdentity,
    channel: Channel,
    received: Received<'_>,
    is_acknowledged: bool,
) -> Result<Option<Outbound>, Refused> {
    match channel {
        Channel::Ack => {
            let id = Inbound::open(received)?.correlation()?.task().ok_or(Malformed::CorrelationMissing)?;
            engine.for_device(device).task_ack(id).await?;
            Ok(None)
        }
        Channel::Req => request(engine, device, Inbound::open(received)?.correlation()?).await.map(Some),
        Channel::Res => result(engine, device, &Inbound::open(received)?).await.map(Some),
        Channel::Evt => event_open(engine, received)?.add(engine, device, is_acknowledged).await,
        Channel::Other => Err(Refused {
            refusal: Some(Refusal::UnknownTopic),
            kind: RefusedKind::Unheard,
            why: "nothing listens to this topic; a device tells ack, req, res and evt".to_owned(),
            reply: None,
        }),
    }
}

/// An event that was read and is to be stored.
pub(crate) struct OpenedEvent {
    event: NewEvent,
    /// What the answer repeats of it, if it gets one.
    head: Option<EventHead>,
}

/// Reads an event.
pub(crate) fn event_open(engine: &Engine, received: Received<'_>) -> Result<OpenedEvent, Refused> {
    let event = read_event(received).map_err(|Unread { malformed, head }| {
        let head = head.filter(|head| !engine.is_gauge(head.type_code));
        Refused { reply: head.map(not_stored), ..malformed.into() }
    })?;
    let wants_answer = event.wants_answer(engine.is_gauge(event.type_code));
    Ok(OpenedEvent { head: wants_answer.then(|| EventHead::of(&event)), event })
}

impl OpenedEvent {
    /// Stores it. The store has it in its queue when this was polled once, so
    /// that events which are polled one after the other are stored in that order.
    pub(crate) async fn add(
        self,
        engine: &Engine,
        device: &DeviceIdentity,
        is_acknowledged: bool,
    ) -> Result<Option<Outbound>, Refused> {
        let Self { event, head } = self;
        match engine.for_device(device).event_add(event, is_acknowledged).await {
            Ok(_) => Ok(head.map(|head| Outbound::event_answer(&head, EventStatus::Success))),
            Err(error) => {
                // The core counts those that come too fast.
                let is_flood = matches!(error, Error::Exhausted { .. });
                let refused = Refused::from(error);
                let refusal = refused.refusal.filter(|_| !is_flood);
                Err(Refused { refusal, reply: head.map(not_stored), ..refused })
            }
        }
    }
}

fn not_stored(head: EventHead) -> Box<Outbound> {
    Box::new(Outbound::event_answer(&head, EventStatus::Error))
}

async fn request(
    engine: &Engine,
    device: &DeviceIdentity,
    correlation: Correlation,
) -> Result<Outbound, Refused> {
    Ok(match engine.for_device(device).task_next(correlation.task()).await? {
        Some(task) => Outbound::response(&task, engine.now()),
        None => Outbound::nothing_to_do(),
    })
}

async fn result(
    engine: &Engine,
    device: &DeviceIdentity,
    inbound: &Inbound<'_>,
) -> Result<Outbound, Refused> {
    let id = inbound.correlation()?.task().ok_or(Malformed::CorrelationMissing)?;
    let result = inbound.result()?;
    let ext_id = result.ext_id;
    let stored = engine.for_device(device).task_finish(id, result).await?;
    Ok(Outbound::committed(id, stored.result_id, ext_id))
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        let (refusal, why) = (Some(malformed.refusal()), malformed.to_string());
        Self { refusal, kind: RefusedKind::Malformed, why, reply: None }
    }
}

impl From<Error> for Refused {
    /// What each error of the core means for a device.
    fn from(error: Error) -> Self {
        let (refusal, kind) = match &error {
            Error::NotFound { .. } | Error::Gone { .. } => (Refusal::UnknownTask, RefusedKind::NotTheirs),
            Error::Invalid { .. } | Error::Conflict { .. } | Error::Precondition { .. } => {
                (Refusal::Payload, RefusedKind::Malformed)
            }
            Error::Forbidden { .. } => (Refusal::PublishTopic, RefusedKind::Forbidden),
            Error::Exhausted { .. } | Error::Blocked => (Refusal::Limit, RefusedKind::Limit),
            Error::Unavailable { reason } => (Refusal::Storage, RefusedKind::Unavailable(*reason)),
        };
        Self { refusal: Some(refusal), kind, why: error.to_string(), reply: None }
    }
}
