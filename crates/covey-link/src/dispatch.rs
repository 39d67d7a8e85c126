//! What a message of a device does, whichever broker it came through: one message, one operation,
//! at most one answer.

use covey_core::Engine;
use covey_core::budget::Weight;
use covey_core::device::DeviceIdentity;
use covey_core::error::{Error, StorageFault};
use covey_core::event::NewEvent;
use covey_core::id::TaskId;
use covey_core::port::Refusal;
use covey_core::task::{NewResult, ResultNotStored};
use covey_wire::downlink::{DownlinkMessage, EventStatus, ResponseForm};
use covey_wire::uplink::{EventHead, Malformed, Received, TaskMessage, Unread, read_event};
use covey_wire::{Downlink, Uplink, parse_correlation};

use crate::conversion;

/// Why a message did nothing.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Under which reason it is counted, unless the core has counted it.
    pub(crate) refusal: Option<Refusal>,
    /// What its sender may do.
    pub(crate) kind: RefusedKind,
    /// Why, in words for the sender and the log.
    pub(crate) why: String,
    /// The answer to the device, once nothing more is tried.
    pub(crate) reply: Option<Box<DownlinkMessage>>,
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
    /// Send it again, later: the device has sent too much, or keeps as much as it may.
    OverBudget,
    /// Send it again: the store did not take it.
    Unavailable(StorageFault),
}

/// Handles a message; returns the answer to the device once the change is committed. What it is about is
/// in the store's queue when this was polled once.
///
/// `form`: what an `rsp` with a task is. `is_acknowledged`: the broker has acknowledged the event, so the
/// device will not repeat it.
pub(crate) async fn handle(
    engine: &Engine,
    device: &DeviceIdentity,
    uplink: Option<Uplink>,
    received: Received<'_>,
    form: ResponseForm,
    is_acknowledged: bool,
) -> Result<Option<DownlinkMessage>, Refused> {
    let bytes = received.body.len();
    let opened = match open(engine, uplink, received, form) {
        Ok(opened) => opened,
        Err(refused) => {
            engine.for_device(device).charge_after(Weight::refused(bytes));
            return Err(refused);
        }
    };
    let weight = opened.weight();
    opened.charge(engine, device, is_acknowledged)?;
    let handled = opened.carry_out(engine, device, is_acknowledged).await;
    if matches!(handled, Err(Refused { kind: RefusedKind::Unavailable(_), .. })) {
        engine.for_device(device).give_back(weight);
    }
    handled
}

/// A message that was read, and what it asks for.
pub(crate) enum Opened {
    Ack(TaskId),
    Request { task: Option<TaskId>, form: ResponseForm },
    Result { task: TaskId, result: NewResult },
    Event(OpenedEvent),
}

/// Reads a message.
pub(crate) fn open(
    engine: &Engine,
    uplink: Option<Uplink>,
    received: Received<'_>,
    form: ResponseForm,
) -> Result<Opened, Refused> {
    Ok(match uplink {
        Some(Uplink::Ack) => Opened::Ack(task(&TaskMessage::read(received)?)?),
        Some(Uplink::Req) => {
            let task = TaskMessage::read(received)?.requested()?.task().map(TaskId);
            Opened::Request { task, form }
        }
        Some(Uplink::Res) => {
            let message = TaskMessage::read(received)?;
            Opened::Result { task: task(&message)?, result: conversion::new_result(message.result()?) }
        }
        Some(Uplink::Evt) => Opened::Event(event_open(engine, received)?),
        None => {
            return Err(Refused {
                refusal: Some(Refusal::UnknownTopic),
                kind: RefusedKind::Unheard,
                why: "nothing listens to this topic; a device tells ack, req, res and evt".to_owned(),
                reply: None,
            });
        }
    })
}

impl Opened {
    /// What it weighs before it is known what comes of it.
    fn weight(&self) -> Weight {
        match self {
            // Those that change nothing are weighed when that is known.
            Self::Ack(_) | Self::Request { .. } => Weight::default(),
            Self::Result { result, .. } => Weight::result(result.body.text().len()),
            Self::Event(OpenedEvent { event, .. }) => event.weight(),
        }
    }

    /// Weighs it, before anything is done with it.
    pub(crate) fn charge(
        &self,
        engine: &Engine,
        device: &DeviceIdentity,
        is_acknowledged: bool,
    ) -> Result<(), Refused> {
        let charged = engine.for_device(device).charge(self.weight());
        charged.or_else(|error| match self {
            // It would be lost; a result that is not stored gets no `cmt`, and comes again.
            Self::Event(_) if is_acknowledged => Ok(()),
            Self::Event(OpenedEvent { head, .. }) => {
                Err(Refused { reply: head.map(not_stored), ..Refused::from(error) })
            }
            _ => Err(Refused::from(error)),
        })
    }

    /// Does what it asks for, as [`handle`] says.
    pub(crate) async fn carry_out(
        self,
        engine: &Engine,
        device: &DeviceIdentity,
        is_acknowledged: bool,
    ) -> Result<Option<DownlinkMessage>, Refused> {
        let for_device = engine.for_device(device);
        Ok(match self {
            Self::Ack(task) => {
                for_device.task_ack(task).await?;
                None
            }
            Self::Request { task, form } => Some(match for_device.task_next(task).await? {
                Some(task) => conversion::response(&task, form, engine.now()),
                None => DownlinkMessage::nothing_to_do(),
            }),
            Self::Result { task, result } => {
                let ext_id = result.ext_id;
                let outcome = for_device.task_finish(task, result).await?;
                if let Some(why) = outcome.not_stored {
                    return Err(Refused::result_not_stored(why, task, ext_id));
                }
                Some(DownlinkMessage::committed(task.0, outcome.result_id.0, ext_id))
            }
            Self::Event(event) => event.add(engine, device, is_acknowledged).await?,
        })
    }
}

/// An event that was read and is to be stored.
pub(crate) struct OpenedEvent {
    event: NewEvent,
    /// What the answer repeats of it, if it gets one.
    head: Option<EventHead>,
}

/// Reads an event.
fn event_open(engine: &Engine, received: Received<'_>) -> Result<OpenedEvent, Refused> {
    let event = read_event(received).map_err(|Unread { malformed, head }| {
        let head = head.filter(|head| !engine.is_gauge(head.type_code));
        Refused { reply: head.map(not_stored), ..malformed.into() }
    })?;
    let head = event.head();
    let event = conversion::new_event(event);
    let wants_answer = event.wants_answer(engine.is_gauge(event.type_code));
    Ok(OpenedEvent { head: wants_answer.then_some(head), event })
}

impl OpenedEvent {
    /// Stores it. The store has it in its queue when this was polled once, so
    /// that events which are polled one after the other are stored in that order.
    async fn add(
        self,
        engine: &Engine,
        device: &DeviceIdentity,
        is_acknowledged: bool,
    ) -> Result<Option<DownlinkMessage>, Refused> {
        let Self { event, head } = self;
        match engine.for_device(device).event_store(event, is_acknowledged).await {
            Ok(_) => Ok(head.map(|head| DownlinkMessage::event_answer(&head, EventStatus::Success))),
            Err(error) => Err(Refused { reply: head.map(not_stored), ..Refused::from(error) }),
        }
    }
}

fn not_stored(head: EventHead) -> Box<DownlinkMessage> {
    Box::new(DownlinkMessage::event_answer(&head, EventStatus::Error))
}

/// The task that a device asked for and can never be sent, since this message is as small as it can be.
pub(crate) fn task_that_cannot_be_told(message: &DownlinkMessage) -> Option<TaskId> {
    let correlation = parse_correlation(message.correlation.as_bytes()).filter(|id| !id.is_nil());
    correlation.filter(|_| message.downlink == Downlink::Rsp).map(TaskId)
}

/// Ends such a task, so that who made it learns why.
pub(crate) async fn too_large(engine: &Engine, device: &DeviceIdentity, task: TaskId) {
    match engine.for_device(device).task_too_large(task).await {
        Ok(()) => {}
        // It is given to the device again when its lease has ended, and comes here again.
        Err(error) => {
            tracing::error!(%error, sn = %device.sn, %task, "task too large for its device not ended");
        }
    }
}

/// The task that a message must name.
fn task(message: &TaskMessage<'_>) -> Result<TaskId, Malformed> {
    message.correlation()?.task().map(TaskId).ok_or(Malformed::CorrelationMissing)
}

impl Refused {
    /// The sender is not registered.
    pub(crate) fn not_registered() -> Self {
        let why = "no device is registered under this serial number".to_owned();
        Self { refusal: Some(Refusal::NotAdmitted), kind: RefusedKind::NotTheirs, why, reply: None }
    }
}

impl Refused {
    /// A result that is not stored, now or later: its `cmt` lets the device stop to send it.
    fn result_not_stored(why: ResultNotStored, task: TaskId, ext_id: i64) -> Self {
        let (refusal, why) = match why {
            ResultNotStored::TooLarge => {
                (Refusal::ResultTooLarge, "a result has at most 262144 bytes; the task has ended as FAILED")
            }
            ResultNotStored::Late => (Refusal::Limit, "the task is final and has too many results"),
        };
        let reply = Some(Box::new(DownlinkMessage::not_stored(task.0, ext_id)));
        Self { refusal: Some(refusal), kind: RefusedKind::Limit, why: why.to_owned(), reply }
    }
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        let (refusal, why) = (Some(conversion::refusal(malformed)), malformed.to_string());
        Self { refusal, kind: RefusedKind::Malformed, why, reply: None }
    }
}

impl From<Error> for Refused {
    /// What each error of the core means for a device.
    fn from(error: Error) -> Self {
        let (refusal, kind) = match &error {
            // The core has counted it.
            Error::OverBudget { limit } | Error::OverQuota { limit } => {
                let why = (*limit).to_owned();
                return Self { refusal: None, kind: RefusedKind::OverBudget, why, reply: None };
            }
            Error::NotFound { .. } | Error::Gone { .. } => (Refusal::UnknownTask, RefusedKind::NotTheirs),
            Error::Invalid { .. }
            | Error::Conflict { .. }
            | Error::SnTaken
            | Error::LastKey
            | Error::Precondition { .. } => (Refusal::Payload, RefusedKind::Malformed),
            Error::Forbidden { .. } | Error::NotGranted { .. } => {
                (Refusal::PublishTopic, RefusedKind::Forbidden)
            }
            Error::Exhausted { .. } | Error::Blocked => (Refusal::Limit, RefusedKind::Limit),
            Error::Unavailable { reason } => (Refusal::Storage, RefusedKind::Unavailable(*reason)),
            // No device asks for what may take long.
            Error::TookTooLong => (Refusal::Storage, RefusedKind::Unavailable(StorageFault::Overloaded)),
        };
        Self { refusal: Some(refusal), kind, why: error.to_string(), reply: None }
    }
}
