//! What the core asks the store and the sender of webhooks.

use std::sync::Arc;

use crate::access::Caller;
use crate::error::Result;
use crate::id::{DeviceKey, OrgId, RecordNumber, UnixMs};
use crate::port::{BoxFuture, Found, TxResult};
use crate::record::Record;
use crate::webhook::{
    Attempt, AttemptLog, AttemptsFrom, Claim, DeadLetter, Delivery, Endpoint, EndpointId, EndpointSpec,
    EndpointState, EndpointTrouble, HeldEndpoint, LoggedAttempt, ProbeFault, Progress, ProgressSaved,
    WebhookSecret, WebhookType,
};

/// The steps on webhooks inside a transaction.
pub trait WebhookSteps {
    /// An endpoint of an organisation.
    fn webhook(&mut self, org: OrgId, id: EndpointId) -> TxResult<Option<Endpoint>>;
    /// The endpoint of an organisation that a type names.
    fn webhook_default(&mut self, org: OrgId, webhook_type: WebhookType) -> TxResult<Option<Endpoint>>;
    /// How many endpoints an organisation has.
    fn webhook_count(&mut self, org: OrgId) -> TxResult<u32>;
    /// Stores a new endpoint. It begins at the end of the outbox.
    fn webhook_insert(
        &mut self,
        org: OrgId,
        spec: &EndpointSpec,
        secret: &WebhookSecret,
        is_default: bool,
    ) -> TxResult<EndpointId>;
    /// Stores an endpoint that was read in this transaction and has changed
    /// since, under the next version. One that `begins_anew` begins at the end
    /// of the outbox.
    fn webhook_update(&mut self, endpoint: &Endpoint, begins_anew: bool) -> TxResult<()>;
    /// Takes an endpoint out of every list; answers whether there was one.
    /// What is kept of its deliveries goes with [`webhook_forget`](Self::webhook_forget).
    fn webhook_delete(&mut self, org: OrgId, id: EndpointId) -> TxResult<bool>;

    /// Takes or renews hold, until an instant, of those of these endpoints
    /// that are active and held by nobody, by a server of this name, or by one
    /// whose time is up.
    fn webhook_claim(&mut self, claim: &Claim, ids: &[EndpointId], until: UnixMs) -> TxResult<()>;
    /// Lets go of everything that is held under a claim.
    fn webhook_release(&mut self, claim: &Claim) -> TxResult<()>;
    /// Writes what was done for an endpoint, if it is still held under this claim.
    fn webhook_progress(
        &mut self,
        claim: &Claim,
        id: EndpointId,
        until: UnixMs,
        progress: &Progress,
    ) -> TxResult<ProgressSaved>;
    /// Writes an attempt that was a test into the log.
    fn webhook_log(&mut self, id: EndpointId, attempt: &AttemptLog) -> TxResult<()>;
    /// Puts dead letters back for another try, until an instant: one, or the
    /// oldest of all, at most `limit`. Answers how many, and whether any has
    /// been forgotten.
    fn webhook_resend(
        &mut self,
        id: EndpointId,
        number: Option<RecordNumber>,
        deadline: UnixMs,
        limit: u32,
    ) -> TxResult<u64>;
    /// Removes what was logged before one instant, the deliveries that died
    /// before another, and what endpoints left that were deleted; at most
    /// `limit` of each. Answers how many rows.
    fn webhook_forget(&mut self, logged: UnixMs, died: UnixMs, limit: u32) -> TxResult<u64>;
}

/// An endpoint that is to be told, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimable {
    /// The endpoint.
    pub id: EndpointId,
    /// How often it was changed.
    pub version: i64,
    /// How often deliveries were put back for another try.
    pub resends: i64,
    /// Who holds it.
    pub holder: Option<Claim>,
    /// Until when.
    pub until: UnixMs,
}

/// A device that has deliveries waiting in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredDeviceQueue {
    /// The device.
    pub device: DeviceKey,
    /// The first delivery that waits.
    pub first: RecordNumber,
    /// The last one.
    pub until: RecordNumber,
}

/// The deliveries of one device that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedDeliveries {
    /// The device.
    pub device: DeviceKey,
    /// After which number was read.
    pub after: RecordNumber,
    /// The deliveries in their order.
    pub deliveries: Vec<Delivery>,
    /// Whether there are more.
    pub is_more: bool,
}

/// The reads of webhooks.
pub trait WebhookReader {
    /// The endpoints of the caller's organisation with how they fare, by number.
    fn webhook_list(&self, caller: &Caller) -> Found<'_, Vec<(Endpoint, EndpointState)>>;
    /// The log of an endpoint of the caller's organisation.
    fn webhook_attempts(
        &self,
        caller: &Caller,
        id: EndpointId,
        from: AttemptsFrom,
    ) -> Found<'_, Vec<LoggedAttempt>>;
    /// The dead letters of an endpoint of the caller's organisation.
    fn webhook_dead_letters(
        &self,
        caller: &Caller,
        id: EndpointId,
        from: AttemptsFrom,
    ) -> Found<'_, Vec<DeadLetter>>;
    /// One dead letter.
    fn webhook_dead_letter(
        &self,
        caller: &Caller,
        id: EndpointId,
        number: RecordNumber,
    ) -> Found<'_, Option<DeadLetter>>;

    /// All endpoints that are active, and who holds them.
    fn webhook_claimable_of_every_org(&self) -> Found<'_, Vec<Claimable>>;
    /// Those of these endpoints that are held under a claim.
    fn webhook_held_of_every_org(&self, claim: Claim, ids: Vec<EndpointId>) -> Found<'_, Vec<HeldEndpoint>>;
    /// The devices that have deliveries waiting in the store.
    fn webhook_device_queues_of_every_org(&self, id: EndpointId) -> Found<'_, Vec<StoredDeviceQueue>>;
    /// Deliveries that wait, of each of these devices those after a number, at
    /// most `limit` of each.
    fn webhook_queued_deliveries_of_every_org(
        &self,
        id: EndpointId,
        device_queues: Vec<(DeviceKey, RecordNumber)>,
        limit: u32,
    ) -> Found<'_, Vec<QueuedDeliveries>>;
    /// What a delivery that is stored tells; nothing if that has been forgotten.
    fn webhook_record_of_every_org(&self, id: EndpointId, number: RecordNumber) -> Found<'_, Option<Record>>;
    /// How all active endpoints fare.
    fn webhook_states_of_every_org(&self) -> Found<'_, Vec<(EndpointId, EndpointState)>>;
    /// Those of them whose receivers do not take what they are sent, by their numbers.
    fn webhook_troubles_of_every_org(&self) -> Found<'_, Vec<EndpointTrouble>>;
}

/// Who sends messages to receivers. Every address that it connects to is
/// checked when it connects, and it follows no redirection.
pub trait WebhookSender: Send + Sync + 'static {
    /// A new secret that nobody can guess.
    fn secret(&self) -> WebhookSecret;
    /// Checks where a URL leads, as far as can be told without asking anyone,
    /// and the form of a secret.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] naming `url` or `secret`.
    fn check(&self, url: &str, secret: Option<&WebhookSecret>) -> Result<()>;
    /// Asks a URL with a GET whether anyone is there.
    fn probe(&self, spec: EndpointSpec) -> BoxFuture<'_, Result<(), ProbeFault>>;
    /// Sends a record once, under an id.
    fn send(&self, endpoint: Arc<Endpoint>, record: Arc<Record>, id: String) -> BoxFuture<'_, Attempt>;
    /// What is told, where, or what waits, has changed: a server that tells
    /// may look at once.
    fn changed(&self);
    /// Ends when what was changed before is taken up, so that nothing that comes from now on is told as it would
    /// have been told before; or after a while, which the sender bounds. At once where nothing is told.
    fn taken_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A server that sends nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWebhooks;

const NOT_HERE: crate::Error = crate::Error::Conflict { problem: "this server sends no webhooks" };

impl WebhookSender for NoWebhooks {
    fn secret(&self) -> WebhookSecret {
        WebhookSecret::new("")
    }

    fn check(&self, _: &str, _: Option<&WebhookSecret>) -> Result<()> {
        Err(NOT_HERE)
    }

    fn probe(&self, _: EndpointSpec) -> BoxFuture<'_, Result<(), ProbeFault>> {
        Box::pin(async { Err(ProbeFault::Unreachable) })
    }

    fn send(&self, _: Arc<Endpoint>, record: Arc<Record>, _: String) -> BoxFuture<'_, Attempt> {
        let error = Some(Arc::from(NOT_HERE.to_string()));
        let at = record.at;
        let attempt = Attempt { at, duration_ms: 0, status: None, error, asked_ms: None, is_hopeless: false };
        Box::pin(async move { attempt })
    }

    fn changed(&self) {}
}
