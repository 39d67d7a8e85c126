//! A change of a session's subscriptions that its owner is keeping, so that the session outlives the server.

use std::sync::Arc;
use std::task::{Context, Poll};

use covey_wire::mqtt::Qos;

use super::connection::Core;
use super::device::Device;
use super::service::{End, Later, Service};

/// What the owner is told when the change is kept.
pub(super) enum Change {
    /// Of filters, each with the QoS that was granted, and whether it is a new one.
    Subscribed(Vec<(Box<str>, Qos, bool)>),
    /// From these filters.
    Unsubscribed(Vec<Box<str>>),
}

/// A change on its way.
pub(super) struct Keeping {
    kept: Later<Result<u64, End>>,
    /// SUBACK or UNSUBACK.
    answer: Vec<u8>,
    change: Change,
}

impl Keeping {
    /// Goes on to its end without a connection.
    pub(super) async fn go_on<C>(self, device: Arc<Device<C>>) {
        note(&device, self.kept.await);
    }
}

fn note<C>(device: &Device<C>, kept: Result<u64, End>) {
    if let Ok(revision) = kept {
        let mut inner = device.lock();
        inner.revision = inner.revision.max(revision);
    }
}

impl<S: Service> Core<S> {
    /// The session has changed, with this answer to the client: it goes out when the change is kept, or at once
    /// if nothing is to be kept of it.
    pub(super) fn keep(&mut self, is_kept: bool, answer: Vec<u8>, change: Change) {
        let to_keep = {
            let mut inner = self.device.lock();
            if is_kept || inner.session.expiry_s() == 0 {
                inner.bytes.extend(answer);
                drop(inner);
                return self.tell(change);
            }
            inner.to_keep()
        };
        let kept = self.hub.service().keep(&self.client, to_keep);
        self.keeping = Some(Box::new(Keeping { kept, answer, change }));
    }

    /// Goes on with the change that the owner is keeping.
    ///
    /// # Errors
    /// The end of the connection: it could not be kept.
    pub(super) fn settle_keeping(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        let Poll::Ready(kept) = keeping.kept.as_mut().poll(context) else { return Ok(()) };
        let Some(Keeping { answer, change, .. }) = self.keeping.take().map(|keeping| *keeping) else {
            return Ok(());
        };
        let revision = kept?;
        {
            let mut inner = self.device.lock();
            inner.revision = inner.revision.max(revision);
            if inner.session.epoch() != self.epoch {
                return Err(End::TakenOver);
            }
            inner.is_unkept = false;
            inner.bytes.extend(answer);
        }
        self.tell(change);
        Ok(())
    }

    fn tell(&self, change: Change) {
        let (service, client) = (self.hub.service(), &self.client);
        match change {
            Change::Subscribed(filters) => {
                for (filter, qos, is_new) in filters {
                    service.subscribed(client, &filter, qos, is_new);
                }
            }
            Change::Unsubscribed(filters) => {
                for filter in filters {
                    service.unsubscribed(client, &filter);
                }
            }
        }
    }

    /// DISCONNECT has changed how long the session stays (MQTT 5 §3.14.2.2.2).
    pub(super) fn keep_expiry(&self) {
        let to_keep = {
            let inner = self.device.lock();
            let is_any_kept = inner.revision > 0 || !inner.session.all_subscriptions().is_empty();
            if inner.session.epoch() != self.epoch || !is_any_kept {
                return;
            }
            inner.to_keep()
        };
        let (kept, device) = (self.hub.service().keep(&self.client, to_keep), Arc::clone(&self.device));
        self.hub.go_on(&self.device, 1, async move { note(&device, kept.await) });
    }
}
