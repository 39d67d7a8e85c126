//! Devices' sessions in the store, so that a device that comes back after a restart, or to another server, is
//! heard and hears (`docs/adr/0018-sessions-in-the-store.md`).

use std::sync::Arc;

use covey_core::budget::Weight;
use covey_core::device::{DeviceIdentity, DeviceKind};
use covey_core::device_session::{SessionContent, Subscription};
use covey_core::error::{Error, StorageFault};
use covey_core::id::Sn;
use covey_core::port::Refusal;
use covey_core::{Engine, Result};
use covey_net::mqtt::{Claim, End, KeptSession, KeptState, SessionToKeep};
use covey_wire::mqtt::{self, Qos, ReasonCode};

use crate::embedded::EmbeddedLink;
use crate::embedded::devices::Device;

/// How often a session is looked at that others change at the same time.
/// Limit for each change: the connection is closed; the device comes again.
const LOOKS_MAX: usize = 3;
/// Said to a device whose session another connection has changed: when it comes again, it has what is kept.
const CHANGED_ELSEWHERE: &str = "another connection has changed the session";

/// Who comes, and what goes on of its session. What CONNECT changes of it (MQTT 5 §3.1.2.4, §3.1.2.11.2) is kept
/// when this answers, before CONNACK. None for a certificate that may not connect.
/// What `check` refuses changes nothing.
///
/// # Errors
/// The store's.
pub(super) async fn take_up<T, E>(
    engine: &Engine,
    sn: &Sn,
    certificate_serial_hex: &str,
    claim: Claim<'_>,
    check: impl Fn(DeviceKind) -> std::result::Result<T, E>,
) -> Result<Option<std::result::Result<(DeviceIdentity, T, KeptSession), E>>> {
    for _ in 0..LOOKS_MAX {
        let Some(admission) = engine.server().session_admit(sn, certificate_serial_hex).await? else {
            return Ok(None);
        };
        let checked = match check(admission.kind) {
            Ok(checked) => checked,
            Err(refused) => return Ok(Some(Err(refused))),
        };
        let identity = admission.identity;
        let Some(stored) = admission.session else {
            return Ok(Some(Ok((identity, checked, KeptSession::default()))));
        };
        let is_over = engine.server().session_is_over(&stored);
        let goes_on = !is_over && !claim.connect.clean_start && claim.expiry_s > 0;
        let subscriptions: Vec<_> = stored.content.subscriptions.iter().filter_map(to_mqtt).collect();
        let state = match stored.content.expiry_s {
            0 => KeptState::None,
            _ if is_over => KeptState::Over,
            _ => KeptState::Alive(subscriptions),
        };
        let now = match goes_on {
            true => SessionContent { expiry_s: claim.expiry_s, ..stored.content.clone() },
            false => SessionContent::ENDED,
        };
        let revision = if now == stored.content {
            Some(stored.revision)
        } else {
            // Who cannot come has no chance to do better.
            engine.for_device(&identity).charge_after(Weight::SESSION);
            engine.for_device(&identity).session_put(stored.revision, now).await?
        };
        if let Some(revision) = revision {
            let session = KeptSession { found: number(stored.revision), revision: number(revision), state };
            return Ok(Some(Ok((identity, checked, session))));
        }
    }
    Err(Error::Unavailable { reason: StorageFault::Overloaded })
}

/// Keeps what a session is now; answers its revision.
pub(super) async fn keep(
    engine: Arc<Engine>,
    link: Arc<EmbeddedLink>,
    device: Arc<Device>,
    session: SessionToKeep,
) -> std::result::Result<u64, End> {
    let subscriptions = session.subscriptions.into_iter().map(|one| Subscription {
        filter: one.filter.into(),
        qos: one.qos as u8,
        identifier: one.identifier,
    });
    let content = SessionContent { subscriptions: subscriptions.collect(), expiry_s: session.expiry_s };
    let before = i64::try_from(session.before).unwrap_or(i64::MAX);
    let sn = &device.identity.sn;
    let closed = |reason, text: &'static str| Err(End::Closed { reason, text: text.into() });
    if engine.for_device(&device.identity).charge(Weight::SESSION).is_err() {
        return closed(ReasonCode::QuotaExceeded, "it changes its subscriptions more often than it may");
    }
    match engine.for_device(&device.identity).session_put(before, content).await {
        Ok(Some(revision)) => Ok(number(revision)),
        Ok(None) => {
            tracing::debug!(%sn, "subscription not kept: {CHANGED_ELSEWHERE}");
            closed(ReasonCode::ServerBusy, CHANGED_ELSEWHERE)
        }
        Err(error) => {
            link.refusals.count(Refusal::Storage);
            tracing::warn!(%sn, %error, "subscription not kept: the store failed");
            closed(ReasonCode::UnspecifiedError, "the subscription cannot be stored")
        }
    }
}

fn to_mqtt(kept: &Subscription) -> Option<mqtt::session::Subscription> {
    let qos = Qos::from_bits(kept.qos)?;
    Some(mqtt::session::Subscription {
        filter: kept.filter.as_str().into(),
        qos,
        identifier: kept.identifier,
    })
}

fn number(revision: i64) -> u64 {
    // They count from 1.
    u64::try_from(revision).unwrap_or_default()
}
