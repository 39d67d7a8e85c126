//! What a message of a device does, through whichever broker it came: one
//! message, one operation, at most one message back.

use covey_core::Engine;
use covey_core::device::DeviceIdentity;
use covey_core::error::{Error, StorageFault};
use covey_core::port::Refusal;

use crate::wire::{Channel, Correlation, Inbound, Malformed, Outbound};

/// Why a message did nothing.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Under which reason it is counted.
    pub(crate) refusal: Refusal,
    /// What its sender may do.
    pub(crate) kind: RefusedKind,
    /// Why, in words for the sender and the log.
    pub(crate) why: String,
}

/// What the sender of a refused message may do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedKind {
    /// Nothing: the message cannot be understood, now or later.
    Malformed,
    /// Nothing: what it is about is not the sender's, or is not there.
    NotTheirs,
    /// Nothing: this version does not do that.
    NotBuilt,
    /// Wait until a limit is no longer reached.
    Limit,
    /// Send it again: the store did not take it.
    Unavailable(StorageFault),
}

/// Carries a message out, and answers what the device is to be told after the
/// commit.
pub(crate) async fn handle(
    engine: &Engine,
    device: &DeviceIdentity,
    channel: Channel,
    opened: Result<Inbound<'_>, Malformed>,
) -> Result<Option<Outbound>, Refused> {
    match channel {
        Channel::Ack => {
            let id = opened?.correlation()?.task().ok_or(Malformed::CorrelationMissing)?;
            engine.task_ack(device, id).await?;
            Ok(None)
        }
        Channel::Req => request(engine, device, opened?.correlation()?).await.map(Some),
        Channel::Res => result(engine, device, &opened?).await.map(Some),
        Channel::Evt => Err(Refused {
            refusal: Refusal::Payload,
            kind: RefusedKind::NotBuilt,
            why: "this version keeps no events".to_owned(),
        }),
        Channel::Other => Ok(None),
    }
}

async fn request(
    engine: &Engine,
    device: &DeviceIdentity,
    correlation: Correlation,
) -> Result<Outbound, Refused> {
    Ok(match engine.task_next(device, correlation.task()).await? {
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
    let stored = engine.task_finish(device, id, result).await?;
    Ok(Outbound::committed(id, stored.result_id, ext_id))
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        let (refusal, why) = (malformed.refusal(), malformed.to_string());
        Self { refusal, kind: RefusedKind::Malformed, why }
    }
}

impl From<Error> for Refused {
    /// What each error of the core means for a device.
    fn from(error: Error) -> Self {
        let (refusal, kind) = match &error {
            Error::NotFound { .. } => (Refusal::UnknownTask, RefusedKind::NotTheirs),
            Error::Invalid { .. } | Error::Conflict { .. } => (Refusal::Payload, RefusedKind::Malformed),
            Error::Forbidden { .. } => (Refusal::PublishTopic, RefusedKind::NotTheirs),
            Error::Exhausted { .. } | Error::Blocked => (Refusal::Limit, RefusedKind::Limit),
            Error::Unavailable { reason } => (Refusal::Storage, RefusedKind::Unavailable(*reason)),
        };
        Self { refusal, kind, why: error.to_string() }
    }
}
