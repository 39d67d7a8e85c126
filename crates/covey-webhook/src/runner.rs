//! Tells one endpoint: follows the records that it wants, sends what the queue
//! says, and writes what became of it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use covey_core::Engine;
use covey_core::feed::Batch;
use covey_core::id::{DeviceKey, RecordNumber, UnixMs};
use covey_core::record::Record;
use covey_core::webhook::queue::{DEVICE_DELIVERIES_MAX, Queue, Sending};
use covey_core::webhook::{
    Attempt, Claim, Delivery, Endpoint, EndpointId, HeldEndpoint, Outcome, Progress, ProgressSaved,
    QueuedDeliveries, StoredDeviceQueue, WebhookSender,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::follow::follow;
use crate::message::message_id;
use crate::sender::HttpSender;
use crate::share::Share;

/// How long what was done may wait to be written.
const SAVE_INTERVAL: Duration = Duration::from_millis(100);
/// How many rows are written at once without waiting.
const SAVE_ROWS: usize = 256;
/// How long a position may wait to be written that nothing else has changed with.
const MOVE_INTERVAL: Duration = Duration::from_secs(2);
/// The pause after the store did not answer.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often is looked at the clock while something waits.
const TICK: Duration = Duration::from_secs(1);
/// How long requests that are under way may take to end when the task is stopped.
const GRACE: Duration = Duration::from_secs(3);

/// An attempt that has ended: of which device, of which record, and how.
type Ended = (DeviceKey, Option<Arc<Record>>, Attempt);

/// What the store answered. One thing is asked at a time, so that what was
/// written is seen by what is read next.
enum Answer {
    Saved(covey_core::Result<ProgressSaved>),
    DeviceQueues(covey_core::Result<Vec<StoredDeviceQueue>>),
    Deliveries(covey_core::Result<Vec<QueuedDeliveries>>),
}

type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Tells one endpoint.
pub(crate) struct Runner {
    engine: Arc<Engine>,
    sender: Arc<HttpSender>,
    claim: Claim,
    id: EndpointId,
    endpoint: Arc<Endpoint>,
    queue: Queue,
    followed: mpsc::Receiver<covey_core::Result<Batch>>,
    /// Where it began.
    begun_at: RecordNumber,
    /// The records of deliveries that may not be in the store yet.
    records: HashMap<RecordNumber, Arc<Record>>,
    share: Share,
    sending: FuturesUnordered<Pin<Box<dyn Future<Output = Ended> + Send>>>,
    asking: Option<Asking>,
    /// What is being written, until it is.
    unsaved: Option<Arc<Progress>>,
    /// Before this instant the store is not asked again.
    store_at: Instant,
    saved_at: Instant,
    resends: watch::Receiver<i64>,
    wants_device_queues: bool,
    /// Whether it is known which devices have deliveries waiting in the store: what
    /// is newer must not be sent before them.
    knows_device_queues: bool,
    is_lost: bool,
    stop: CancellationToken,
}

impl Runner {
    pub(crate) fn new(
        engine: Arc<Engine>,
        sender: Arc<HttpSender>,
        claim: Claim,
        held: HeldEndpoint,
        share: Share,
        resends: watch::Receiver<i64>,
        stop: CancellationToken,
    ) -> Self {
        let HeldEndpoint { endpoint, position, stored_before, circuit, .. } = held;
        let (concurrency, retry_ms, now) =
            (endpoint.spec.concurrency, engine.webhook_retry_ms(), engine.now());
        let queue = Queue::new(concurrency, retry_ms, position, stored_before, circuit, now);
        let follower = engine.server().follow_of_org(endpoint.org, endpoint.spec.record_filter(), position);
        Self {
            engine,
            sender,
            claim,
            id: endpoint.id,
            endpoint: Arc::new(endpoint),
            queue,
            followed: follow(follower),
            begun_at: position,
            records: HashMap::new(),
            share,
            sending: FuturesUnordered::new(),
            asking: None,
            unsaved: None,
            store_at: Instant::now(),
            saved_at: Instant::now(),
            resends,
            // What an earlier run has left.
            wants_device_queues: true,
            knows_device_queues: false,
            is_lost: false,
            stop,
        }
    }

    /// Runs until stopped, or until another server holds the endpoint.
    pub(crate) async fn run(mut self) {
        warn_of_gap(Arc::clone(&self.engine), self.id, self.begun_at).await;
        let stop = self.stop.clone();
        // Stopped because it was changed, it sends nothing that comes later: that is looked at before anything is sent.
        while !self.is_lost && !stop.is_cancelled() {
            self.send();
            self.ask();
            let wake_at = self.wake_at();
            let may_follow = self.may_follow();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(followed) = self.followed.recv(), if may_follow => self.followed(followed),
                Some(ended) = self.sending.next() => self.ended(ended),
                answer = answer(&mut self.asking) => self.answered(answer),
                Ok(()) = self.resends.changed() => self.wants_device_queues = true,
                () = sleep_until(wake_at) => {}
            }
        }
        if !self.is_lost {
            self.finish().await;
        }
    }

    fn now(&self) -> UnixMs {
        self.engine.now()
    }

    fn may_follow(&self) -> bool {
        self.queue.has_room() && self.share.has_room() && Instant::now() >= self.store_at
    }

    /// Begins to send what may be sent now.
    fn send(&mut self) {
        // While nothing can be written, what is sent would only be sent again.
        if !self.knows_device_queues || Instant::now() < self.store_at {
            return;
        }
        let now = self.now();
        self.queue.expire(now);
        while let Some(Sending { delivery, .. }) = self.queue.next(now) {
            let known = self.records.get(&delivery.number).cloned();
            let (engine, sender) = (Arc::clone(&self.engine), Arc::clone(&self.sender));
            let (endpoint, id) = (Arc::clone(&self.endpoint), self.id);
            self.sending.push(Box::pin(async move {
                let record = match known {
                    Some(record) => Some(record),
                    None => stored_record(&engine, id, delivery.number).await.map(Arc::new),
                };
                let Some(record) = record else { return (delivery.device, None, forgotten(engine.now())) };
                let message_id = message_id(&record);
                let attempt = sender.send(endpoint, Arc::clone(&record), message_id).await;
                (delivery.device, Some(record), attempt)
            }));
        }
    }

    fn ended(&mut self, (device, record, attempt): Ended) {
        let chance = rand::random();
        let is_open = self.queue.is_open();
        let outcome = self.queue.settle(device, attempt, self.now(), chance);
        self.engine.server().webhook_count(outcome);
        if let Some(record) = record.filter(|_| outcome == Outcome::Delivered) {
            self.engine.server().webhook_took(&record);
            self.drop_record(record.number);
        }
        if is_open != self.queue.is_open() {
            let state = if is_open { "closed" } else { "open" };
            tracing::info!(webhook = self.id.0, "webhook circuit {state}");
        }
    }

    fn followed(&mut self, followed: covey_core::Result<Batch>) {
        let Batch { records, cursor } = match followed {
            Ok(followed) => followed,
            Err(error) => return self.store_failed(&error),
        };
        let now = self.now();
        for record in records {
            let device = record.device.identity.device;
            let delivery = Delivery {
                number: record.number,
                device,
                device_id: record.device.identity.device_id,
                deadline: UnixMs::default(),
                attempts: 0,
                next_at: UnixMs::default(),
            };
            self.queue.take_in(delivery, record.at, now);
            self.share.add(record.bytes());
            self.records.insert(record.number, record);
        }
        self.queue.advance(cursor);
    }

    fn drop_record(&mut self, number: RecordNumber) {
        if let Some(record) = self.records.remove(&number) {
            self.share.remove(record.bytes());
        }
    }

    /// Asks the store for what is due, if it is not asked already.
    fn ask(&mut self) {
        if self.asking.is_some() || Instant::now() < self.store_at {
            return;
        }
        let (engine, id) = (Arc::clone(&self.engine), self.id);
        if self.unsaved.is_none() && self.wants_device_queues {
            self.wants_device_queues = false;
            let device_queues = async move {
                Answer::DeviceQueues(engine.server().webhook_device_queues_of_every_org(id).await)
            };
            self.asking = Some(Box::pin(device_queues));
            return;
        }
        if self.unsaved.is_none() && self.is_save_due() {
            self.unsaved = Some(Arc::new(self.queue.take_progress()));
        }
        if let Some(progress) = self.unsaved.clone() {
            let claim = self.claim.clone();
            let save =
                async move { Answer::Saved(engine.server().webhook_progress(claim, id, progress).await) };
            self.asking = Some(Box::pin(save));
            return;
        }
        let device_queues = self.queue.loads();
        if !device_queues.is_empty() {
            let limit = u32::try_from(DEVICE_DELIVERIES_MAX).unwrap_or(u32::MAX);
            let deliveries = async move {
                Answer::Deliveries(
                    engine.server().webhook_queued_deliveries_of_every_org(id, device_queues, limit).await,
                )
            };
            self.asking = Some(Box::pin(deliveries));
        }
    }

    fn is_save_due(&self) -> bool {
        let waited = self.saved_at.elapsed();
        (self.queue.has_progress() && (waited >= SAVE_INTERVAL || self.queue.progress_rows() >= SAVE_ROWS))
            || (self.queue.has_moved() && waited >= MOVE_INTERVAL)
    }

    fn answered(&mut self, answer: Answer) {
        self.asking = None;
        let now = self.now();
        match answer {
            Answer::Saved(Ok(ProgressSaved::Saved { .. })) => self.saved(),
            Answer::Saved(Ok(ProgressSaved::Lost)) => {
                tracing::info!(webhook = self.id.0, "webhook taken over by another server, or deleted");
                self.is_lost = true;
            }
            Answer::DeviceQueues(Ok(device_queues)) => {
                device_queues.iter().for_each(|device_queue| {
                    self.queue.found_stored(device_queue.device, device_queue.until, now)
                });
                self.knows_device_queues = true;
            }
            Answer::Deliveries(Ok(device_queues)) => {
                for QueuedDeliveries { device, after, deliveries, is_more } in device_queues {
                    self.queue.loaded(device, after, &deliveries, is_more, now);
                }
            }
            Answer::Saved(Err(error)) | Answer::Deliveries(Err(error)) => self.store_failed(&error),
            Answer::DeviceQueues(Err(error)) => {
                self.wants_device_queues = true;
                self.store_failed(&error);
            }
        }
    }

    /// What was written can be read again, so it need not be in memory.
    fn saved(&mut self) {
        self.saved_at = Instant::now();
        if let Some(progress) = self.unsaved.take() {
            progress.deliveries.keys().for_each(|number| self.drop_record(*number));
        }
    }

    fn store_failed(&mut self, error: &covey_core::Error) {
        tracing::warn!(webhook = self.id.0, %error, "webhook deliveries wait for the store");
        self.store_at = Instant::now() + STORE_PAUSE;
    }

    /// When to look again although nothing has happened.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        if now < self.store_at {
            return self.store_at;
        }
        let due_in =
            |at: UnixMs| Duration::from_millis(u64::try_from(at.since_ms(self.now())).unwrap_or(0)).min(TICK);
        let send_at = self.queue.wake_at().map(|at| now + due_in(at));
        let save_at =
            (self.asking.is_none() && self.queue.has_progress()).then(|| self.saved_at + SAVE_INTERVAL);
        let tick = if self.queue.is_idle() { MOVE_INTERVAL } else { TICK };
        send_at.into_iter().chain(save_at).fold(now + tick, Instant::min)
    }

    /// Lets requests that are under way end, and writes what became of them.
    async fn finish(mut self) {
        let ending = async {
            while let Some(ended) = self.sending.next().await {
                self.ended(ended);
            }
        };
        // What does not end in time is sent again by whoever holds it next.
        let _ = timeout(GRACE, ending).await;
        let writing = async {
            loop {
                if let Some(asking) = self.asking.take() {
                    let answer = asking.await;
                    self.answered(answer);
                }
                if self.is_lost
                    || (self.unsaved.is_none() && !self.queue.has_progress() && !self.queue.has_moved())
                {
                    return;
                }
                let progress = self.unsaved.take().unwrap_or_else(|| Arc::new(self.queue.take_progress()));
                self.unsaved = Some(Arc::clone(&progress));
                let saved =
                    self.engine.server().webhook_progress(self.claim.clone(), self.id, progress).await;
                let is_failed = saved.is_err();
                self.answered(Answer::Saved(saved));
                if is_failed {
                    sleep(SAVE_INTERVAL).await;
                }
            }
        };
        if timeout(GRACE, writing).await.is_err() {
            tracing::warn!(webhook = self.id.0, "last webhook deliveries not saved; they will be sent again");
        }
    }
}

/// Says if records were forgotten before they could be told.
async fn warn_of_gap(engine: Arc<Engine>, id: EndpointId, cursor: RecordNumber) {
    if let Ok(span) = engine.server().record_span_of_every_org().await
        && span.forgotten > cursor
    {
        let (from, to) = (cursor.0, span.forgotten.0);
        tracing::warn!(
            webhook = id.0,
            from,
            to,
            "records may have been deleted before this webhook got them"
        );
    }
}

/// The answer of the store, if it was asked.
async fn answer(asking: &mut Option<Asking>) -> Answer {
    match asking {
        Some(asking) => asking.as_mut().await,
        None => std::future::pending().await,
    }
}

/// What a delivery tells, however long the store takes to say.
async fn stored_record(engine: &Engine, id: EndpointId, number: RecordNumber) -> Option<Record> {
    loop {
        match engine.server().webhook_record_of_every_org(id, number).await {
            Ok(record) => return record,
            Err(_) => sleep(STORE_PAUSE).await,
        }
    }
}

/// There is nothing to send any more.
fn forgotten(now: UnixMs) -> Attempt {
    let error = Some(Arc::from("what it told has been forgotten"));
    Attempt { at: now, duration_ms: 0, status: None, error, asked_ms: None, is_hopeless: true }
}
