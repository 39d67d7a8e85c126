//! What can be asked of webhooks, and what a server does that sends them.

use std::sync::Arc;

use crate::access::Rights;
use crate::budget::Weight;
use crate::engine::{Engine, ForCaller, ForServer};
use crate::error::{Error, Result};
use crate::id::{DeviceKey, RecordNumber};
use crate::operation::Operation;
use crate::record::Record;
use crate::webhook::{
    AttemptLog, AttemptsFrom, CLAIM_MS, ChangedEndpoint, Claim, Claimable, DEAD_LETTER_MS, DeadLetter,
    Endpoint, EndpointId, EndpointRef, EndpointSpec, EndpointState, EndpointTrouble, HeldEndpoint, LOG_MS,
    LoggedAttempt, Outcome, Progress, ProgressSaved, QueuedDeliveries, SECRET_OVERLAP_S_MAX, SetError,
    StoredDeviceQueue, TestReport, WebhookAdd, WebhookClaim, WebhookDelete, WebhookForget, WebhookLog,
    WebhookProgress, WebhookRelease, WebhookResend, WebhookRotate, WebhookSecret, WebhookSet, sample,
};

/// How many rows of a log, or dead letters, a page has at most.
/// Limit for each list: 422.
pub const WEBHOOK_PAGE_MAX: u32 = 1_000;
/// How many dead letters one call puts back at most.
/// Limit for each transaction: the rest follows at once.
const RESENDS_MAX: u32 = 10_000;
/// How many rows one transaction forgets at most, of each kind.
/// Limit for each transaction: the rest follows at once.
const FORGET_MAX: u32 = 1_000;
/// How many endpoints a server takes hold of at a time, so that servers that
/// start together share them.
/// Limit for each look: the rest follows at the next.
const CLAIMS_MAX: usize = 16;

impl Engine {
    /// For how long a message is tried, in milliseconds.
    #[must_use]
    pub fn webhook_retry_ms(&self) -> i64 {
        self.parts.webhook_retry_ms
    }
}

impl ForCaller<'_> {
    /// The endpoints of the caller's organisation with how they fare.
    ///
    /// # Errors
    /// A missing right, or the store's.
    pub async fn webhook_list(self) -> Result<Vec<(Endpoint, EndpointState)>> {
        self.caller.require(Rights::WEBHOOKS_WRITE)?;
        self.engine.parts.store.webhook_list(self.caller).await
    }

    /// One endpoint with how it fares.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn webhook_get(self, wanted: EndpointRef) -> Result<(Endpoint, EndpointState)> {
        let all = self.webhook_list().await?;
        let is_wanted = |endpoint: &Endpoint| match wanted {
            EndpointRef::Id(id) => endpoint.id == id,
            EndpointRef::Default(of) => endpoint.is_default && endpoint.spec.webhook_type == of,
        };
        all.into_iter().find(|(endpoint, _)| is_wanted(endpoint)).ok_or(Error::not_found("webhook"))
    }

    /// Adds an endpoint; its URL is probed first if it is active. Its secret
    /// is made unless one is given.
    ///
    /// # Errors
    /// A missing right, a field out of range, a probe that failed, a limit, or
    /// the store's.
    pub async fn webhook_add(
        self,
        spec: EndpointSpec,
        secret: Option<WebhookSecret>,
    ) -> Result<Endpoint, SetError> {
        self.probed(&spec, secret.as_ref()).await?;
        let secret = secret.unwrap_or_else(|| self.engine.parts.webhooks.secret());
        let added = self.changed_at_once(WebhookAdd { caller: self.caller.clone(), spec, secret }).await?;
        Ok(added.endpoint)
    }

    /// Sets an endpoint; its URL is probed first if it is active. `change`
    /// makes what is to be set of what is there.
    ///
    /// # Errors
    /// As [`webhook_add`](Self::webhook_add); [`Error::NotFound`];
    /// [`Error::Conflict`] if someone else changed it at the same time.
    pub async fn webhook_set(
        self,
        wanted: EndpointRef,
        change: impl FnOnce(Option<&EndpointSpec>) -> Result<EndpointSpec>,
        secret: Option<WebhookSecret>,
    ) -> Result<ChangedEndpoint, SetError> {
        let stored = match (self.webhook_get(wanted).await, wanted) {
            (Ok((endpoint, _)), _) => Some(endpoint),
            (Err(Error::NotFound { .. }), EndpointRef::Default(_)) => None,
            (Err(error), _) => return Err(error.into()),
        };
        let spec = change(stored.as_ref().map(|endpoint| &endpoint.spec))?;
        self.probed(&spec, secret.as_ref()).await?;
        let version = stored.map(|endpoint| endpoint.version);
        let is_secret_given = secret.is_some();
        let secret = secret.unwrap_or_else(|| self.engine.parts.webhooks.secret());
        let (caller, room) = (self.caller.clone(), self.engine.parts.store.room());
        let after_commit = Arc::clone(&self.engine.after_commit);
        let set = WebhookSet { caller, wanted, spec, version, secret, is_secret_given, room, after_commit };
        Ok(self.changed_at_once(set).await?)
    }

    /// Runs an operation after which the sender looks again at what there is to send.
    async fn changed<O: Operation>(self, operation: O) -> Result<O::Output> {
        self.engine.execute_then(operation, |after, _| after.webhooks.changed()).await
    }

    /// The same of one that changes how is told, and is answered once that is so.
    async fn changed_at_once<O: Operation>(self, operation: O) -> Result<O::Output> {
        let output = self.changed(operation).await?;
        self.engine.parts.webhooks.taken_up().await;
        Ok(output)
    }

    async fn probed(self, spec: &EndpointSpec, secret: Option<&WebhookSecret>) -> Result<(), SetError> {
        self.caller.require(Rights::WEBHOOKS_WRITE)?;
        spec.validate()?;
        self.engine.parts.webhooks.check(&spec.url.0, secret)?;
        self.charge(Weight::WRITE)?;
        if spec.is_active {
            self.engine.parts.webhooks.probe(spec.clone()).await?;
        }
        Ok(())
    }

    /// Removes an endpoint.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn webhook_delete(self, wanted: EndpointRef) -> Result<()> {
        self.caller.require(Rights::WEBHOOKS_WRITE)?;
        self.charge_relief(Weight::WRITE)?;
        self.changed_at_once(WebhookDelete { caller: self.caller.clone(), wanted }).await.map(drop)
    }

    /// Gives an endpoint a new secret, a given one or one that is made; the
    /// old one is valid beside it for a while.
    ///
    /// # Errors
    /// A missing right, an overlap or secret out of range, [`Error::NotFound`],
    /// or the store's.
    pub async fn webhook_rotate(
        self,
        wanted: EndpointRef,
        secret: Option<WebhookSecret>,
        overlap_s: i64,
    ) -> Result<Endpoint> {
        self.caller.require(Rights::WEBHOOKS_WRITE)?;
        if !(0..=SECRET_OVERLAP_S_MAX).contains(&overlap_s) {
            return Err(Error::invalid("overlap_seconds", "must be 0 to 2592000"));
        }
        if secret.is_some() {
            let (endpoint, _) = self.webhook_get(wanted).await?;
            self.engine.parts.webhooks.check(&endpoint.spec.url.0, secret.as_ref())?;
        }
        self.charge_relief(Weight::WRITE)?;
        let secret = secret.unwrap_or_else(|| self.engine.parts.webhooks.secret());
        let overlap_ms = overlap_s * 1_000;
        self.changed_at_once(WebhookRotate { caller: self.caller.clone(), wanted, secret, overlap_ms }).await
    }

    /// Sends a sample to an endpoint, once, and writes that into its log.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's; not what the
    /// receiver answered.
    pub async fn webhook_test(self, wanted: EndpointRef) -> Result<TestReport> {
        let (endpoint, _) = self.webhook_get(wanted).await?;
        self.charge(Weight::WRITE)?;
        let record = sample(endpoint.spec.webhook_type, self.caller.org, self.engine.now())?;
        let message_id = format!("test_{}", self.engine.parts.ids.task_id());
        let (caller, endpoint) = (self.caller.clone(), Arc::new(endpoint));
        let sent =
            self.engine.parts.webhooks.send(Arc::clone(&endpoint), Arc::new(record), message_id.clone());
        let attempt = sent.await;
        let outcome = if attempt.is_delivered() { Outcome::TestPassed } else { Outcome::TestFailed };
        let log = AttemptLog {
            number: None,
            device_id: None,
            attempt: 1,
            at: attempt.at,
            duration_ms: attempt.duration_ms,
            status: attempt.status,
            error: attempt.error.clone(),
            outcome,
        };
        self.engine.execute(WebhookLog { caller, endpoint, attempt: log }).await?;
        Ok(TestReport { attempt, message_id })
    }

    /// The log of an endpoint.
    ///
    /// # Errors
    /// A missing right, a limit out of range, [`Error::NotFound`], or the store's.
    pub async fn webhook_attempts(
        self,
        wanted: EndpointRef,
        from: AttemptsFrom,
    ) -> Result<Vec<LoggedAttempt>> {
        let id = self.webhook_paged(wanted, from).await?;
        self.engine.parts.store.webhook_attempts(self.caller, id, from).await
    }

    /// The dead letters of an endpoint.
    ///
    /// # Errors
    /// As [`webhook_attempts`](Self::webhook_attempts).
    pub async fn webhook_dead_letters(
        self,
        wanted: EndpointRef,
        from: AttemptsFrom,
    ) -> Result<Vec<DeadLetter>> {
        let id = self.webhook_paged(wanted, from).await?;
        self.engine.parts.store.webhook_dead_letters(self.caller, id, from).await
    }

    async fn webhook_paged(self, wanted: EndpointRef, from: AttemptsFrom) -> Result<EndpointId> {
        if !(1..=WEBHOOK_PAGE_MAX).contains(&from.limit) {
            return Err(Error::invalid("limit", "must be 1 to 1000"));
        }
        if from.before.is_some() && from.after.is_some() {
            return Err(Error::contradiction("after", "does not go with before"));
        }
        Ok(self.webhook_get(wanted).await?.0.id)
    }

    /// One dead letter.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn webhook_dead_letter(self, wanted: EndpointRef, number: RecordNumber) -> Result<DeadLetter> {
        let id = self.webhook_get(wanted).await?.0.id;
        let delivery = self.engine.parts.store.webhook_dead_letter(self.caller, id, number).await?;
        delivery.ok_or(Error::not_found("dead letter"))
    }

    /// Puts one dead letter, or all, back for another try; answers how many.
    ///
    /// # Errors
    /// A missing right, [`Error::NotFound`], or the store's.
    pub async fn webhook_resend(self, wanted: EndpointRef, number: Option<RecordNumber>) -> Result<u64> {
        self.caller.require(Rights::WEBHOOKS_WRITE)?;
        self.charge(Weight::WRITE)?;
        let retry_ms = self.engine.parts.webhook_retry_ms;
        let mut resent = 0;
        loop {
            let limit = RESENDS_MAX;
            let resend = WebhookResend { caller: self.caller.clone(), wanted, number, retry_ms, limit };
            let (count, _) = self.changed(resend).await?;
            resent += count;
            if number.is_some() || count < u64::from(limit) {
                break;
            }
        }
        Ok(resent)
    }
}

impl ForServer<'_> {
    /// Takes hold of endpoints that nobody holds, and renews hold of those that
    /// are held under this claim. Answers all of them, each with how often
    /// deliveries were put back, and whole those of which the caller does not
    /// know this version.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhook_claim(
        self,
        claim: &Claim,
        is_known: impl Fn(&Claimable) -> bool + Send,
    ) -> Result<(Vec<(EndpointId, i64)>, Vec<HeldEndpoint>)> {
        let now = self.engine.now();
        let all = self.engine.parts.store.webhook_claimable_of_every_org().await?;
        let is_ours = |one: &Claimable| one.holder.as_ref() == Some(claim);
        let is_free = |one: &Claimable| {
            one.until <= now || one.holder.as_ref().is_none_or(|holder| holder.server == claim.server)
        };
        let is_due = |one: &Claimable| one.until <= now.plus_ms(CLAIM_MS * 2 / 3);
        let due = all.iter().filter(|one| is_ours(one) && is_due(one));
        let free = all.iter().filter(|one| !is_ours(one) && is_free(one)).take(CLAIMS_MAX);
        let wanted: Vec<EndpointId> = due.chain(free).map(|one| one.id).collect();
        let new: Vec<EndpointId> = {
            let is_candidate =
                |one: &&Claimable| (is_ours(one) || wanted.contains(&one.id)) && !is_known(one);
            all.iter().filter(is_candidate).map(|one| one.id).collect()
        };
        if !wanted.is_empty() {
            self.engine.execute(WebhookClaim { claim: claim.clone(), ids: wanted.clone() }).await?;
        }
        let held = match new.is_empty() {
            true => Vec::new(),
            false => self.engine.parts.store.webhook_held_of_every_org(claim.clone(), new).await?,
        };
        let is_held = |one: &&Claimable| is_ours(one) || wanted.contains(&one.id);
        let ids = all.iter().filter(is_held).map(|one| (one.id, one.resends));
        Ok((ids.collect(), held))
    }

    /// Lets go of all endpoints that are held under a claim.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhook_release(self, claim: Claim) -> Result<()> {
        self.engine.execute(WebhookRelease { claim }).await
    }

    /// Writes what was done for an endpoint.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhook_progress(
        self,
        claim: Claim,
        id: EndpointId,
        progress: Arc<Progress>,
    ) -> Result<ProgressSaved> {
        self.engine.execute(WebhookProgress { claim, id, progress }).await
    }

    /// The devices that have deliveries waiting in the store.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhook_device_queues_of_every_org(self, id: EndpointId) -> Result<Vec<StoredDeviceQueue>> {
        self.engine.parts.store.webhook_device_queues_of_every_org(id).await
    }

    /// Deliveries that wait.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhook_queued_deliveries_of_every_org(
        self,
        id: EndpointId,
        device_queues: Vec<(DeviceKey, RecordNumber)>,
        limit: u32,
    ) -> Result<Vec<QueuedDeliveries>> {
        self.engine.parts.store.webhook_queued_deliveries_of_every_org(id, device_queues, limit).await
    }

    /// What a delivery that is stored tells; nothing if that has been forgotten.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhook_record_of_every_org(
        self,
        id: EndpointId,
        number: RecordNumber,
    ) -> Result<Option<Record>> {
        self.engine.parts.store.webhook_record_of_every_org(id, number).await
    }

    /// How all active endpoints fare.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhook_states_of_every_org(self) -> Result<Vec<(EndpointId, EndpointState)>> {
        self.engine.parts.store.webhook_states_of_every_org().await
    }

    /// Those of them whose receivers do not take what they are sent.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhook_troubles_of_every_org(self) -> Result<Vec<EndpointTrouble>> {
        self.engine.parts.store.webhook_troubles_of_every_org().await
    }

    /// Forgets what is too old of the log and of dead letters, and what deleted
    /// endpoints left; answers whether there may be more.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhook_forget(self) -> Result<bool> {
        let now = self.engine.now();
        let (logged, died) = (now.plus_ms(-LOG_MS), now.plus_ms(-DEAD_LETTER_MS));
        let forgotten = self.engine.execute(WebhookForget { logged, died, limit: FORGET_MAX }).await?;
        Ok(forgotten >= u64::from(FORGET_MAX))
    }

    /// A message was delivered, or was not: counts it.
    pub fn webhook_count(self, outcome: Outcome) {
        self.engine.after_commit.count(crate::port::Event::Webhook(outcome));
    }

    /// A message was delivered: from the change that it tells to now.
    pub fn webhook_took(self, record: &Record) {
        self.engine.after_commit.took_between(crate::port::Step::Webhook, record.at, self.engine.now());
    }
}
