//! Events: what a device tells unasked. They are numbered, queued (on disk, with a folder), sent
//! in order as soon as the device is connected, and kept until the server has them.

mod draft;
mod error;
mod event;
mod queue;
mod record;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, oneshot};

use crate::error::Error;
use crate::log::{Log, LogFile, Place};
use crate::status::Counters;
use record::Record;

pub use draft::{EVENT_BODY_BYTES_MAX, EVENT_TYPE_CODE_MAX, EventDraft, EventTicket};
pub use error::EventError;
pub use event::EventOutcome;
pub(crate) use event::{Event, EventOrder};
pub use queue::EventOverflow;
pub(crate) use queue::{Bounds, Entry, Queue};

/// Type code of the health check, which servers keep as a gauge.
pub const HEALTH_CHECK: u32 = 44;

/// How a device treats its events; see the builder for each.
#[derive(Debug, Clone)]
pub(crate) struct EventSettings {
    pub(crate) overflow: EventOverflow,
    /// Types that get no `eva`.
    pub(crate) gauges: Vec<u32>,
    pub(crate) await_eva: bool,
    pub(crate) report_type_code: u32,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            overflow: EventOverflow::default(),
            gauges: vec![HEALTH_CHECK],
            await_eva: false,
            report_type_code: 0,
        }
    }
}

/// A device's way to tell of events: [`Device::events`](crate::Device::events), or
/// [`Call::events`](crate::Call::events) inside a handler. Cheap to clone; works before, while
/// and between connections, until the device has stopped.
#[derive(Debug, Clone)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Arc<Log<Queue>>,
    settings: EventSettings,
    counters: Counters,
    /// Told when there is something to send.
    wake: Notify,
    stopped: AtomicBool,
}

/// An event to be accepted.
pub(crate) struct NewEvent {
    pub(crate) event: Event,
    /// `None`: the queue counts.
    pub(crate) number: Option<u32>,
    pub(crate) is_sent_twice: bool,
    pub(crate) outcome: oneshot::Sender<EventOutcome>,
}

impl Events {
    /// How many events the server does not have yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.log.lock().kept.len()
    }

    pub(crate) fn in_memory(bounds: Bounds, settings: EventSettings, counters: Counters) -> Self {
        // A restart forgets where counting ended, and the server takes two events with the same
        // number in the same second for one.
        let queue = Queue::new(bounds, rand::random());
        Self::with(Log::in_memory(queue), settings, counters)
    }

    /// Opens the events of an SN in a folder, `<dir>/<sn>.events`.
    pub(crate) fn open(
        place: &Place,
        sn: &str,
        bounds: Bounds,
        settings: EventSettings,
        counters: Counters,
    ) -> Result<Self, Error> {
        let (file, content) = LogFile::open(place, sn, "events")?;
        let path = file.path().to_owned();
        let queue = replay(&content, bounds, &path);
        let log = Log::on_file(queue, file, place.sync).map_err(|source| Error::Journal { path, source })?;
        Ok(Self::with(log, settings, counters))
    }

    fn with(log: Log<Queue>, settings: EventSettings, counters: Counters) -> Self {
        Self(Arc::new(Shared {
            log: Arc::new(log),
            settings,
            counters,
            wake: Notify::new(),
            stopped: AtomicBool::new(false),
        }))
    }

    /// Queues an event and makes it durable; its number.
    pub(crate) async fn accept(&self, new: NewEvent) -> Result<u32, EventError> {
        let shared = &*self.0;
        let (order, number) = self.enqueue(new)?;
        // Does nothing once the event is marked as written.
        let _withdrawn_unless_written = Unwritten { shared, order };
        shared.log.flush().await.map_err(EventError::NotWritten)?;
        shared.log.lock().kept.written(order);
        shared.counters.event_accepted();
        shared.wake.notify_one();
        Ok(number)
    }

    /// Numbers and queues an event; it is not durable yet.
    fn enqueue(&self, new: NewEvent) -> Result<(EventOrder, u32), EventError> {
        let shared = &*self.0;
        let NewEvent { mut event, number, is_sent_twice, outcome } = new;
        let mut state = shared.log.lock();
        // Looked at under the lock: what is queued before the end is not overlooked by it.
        if shared.stopped.load(Ordering::Acquire) {
            return Err(EventError::Stopped);
        }
        let before = state.kept.next_number();
        event.number = number.unwrap_or_else(|| state.kept.take_number());
        let (number, line) = (event.number, event.clone());
        let is_gauge = shared.settings.gauges.contains(&event.type_code);
        let pushed = state.kept.push(event, is_gauge, shared.settings.overflow, is_sent_twice, Some(outcome));
        let Ok((order, room)) = pushed else {
            // A number that nothing was sent with is not used up.
            state.kept.continue_from(0, before);
            let Bounds { entries_max, bytes_max } = state.kept.bounds();
            return Err(EventError::QueueFull { entries_max, bytes_max });
        };
        let next_number = state.kept.next_number();
        state.queue(|out| record::push_accepted(out, order, next_number, &line));
        // After the new one: a crash between them may leave both, not neither.
        for gone in room.dropped.iter().chain(&room.superseded) {
            state.queue(|out| record::push_ended(out, *gone));
        }
        shared.counters.events_dropped(room.dropped.len());
        shared.counters.events_superseded(room.superseded.iter().len());
        Ok((order, number))
    }

    /// Returns when there may be something to send.
    pub(crate) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Looks at the queue, or notes what the connection did with it.
    pub(crate) fn with_queue<R>(&self, look: impl FnOnce(&mut Queue) -> R) -> R {
        look(&mut self.0.log.lock().kept)
    }

    /// Whether the end of this event is told with an `eva` that is to be waited for.
    pub(crate) fn gets_eva(&self, event: &Event) -> bool {
        let settings = &self.0.settings;
        settings.await_eva
            && event.type_code != 0
            && event.number != 0
            && !settings.gauges.contains(&event.type_code)
    }

    /// Notes the end of an event. The line is written with the next one: if it is lost, the
    /// event is sent once more, and the server knows it.
    pub(crate) fn ended(&self, order: EventOrder, outcome: EventOutcome) {
        match outcome {
            EventOutcome::Refused { .. } => self.0.counters.event_refused(),
            _ => self.0.counters.event_acknowledged(),
        }
        self.0.log.lock().queue(|out| record::push_ended(out, order));
    }

    /// The device has stopped: no event is accepted any more, and the file is given back.
    pub(crate) fn stop(&self) {
        {
            let mut state = self.0.log.lock();
            self.0.stopped.store(true, Ordering::Release);
            state.kept.stop_telling();
        }
        if let Err(error) = self.0.log.close() {
            tracing::warn!(%error, "events file not written; the last events will be sent again");
        }
    }
}

/// Takes an event back whose writing failed or was not waited for.
struct Unwritten<'a> {
    shared: &'a Shared,
    order: EventOrder,
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.log.lock();
        if state.kept.withdraw(self.order) {
            state.queue(|out| record::push_ended(out, self.order));
        }
    }
}

/// Stops events with their device, however that ends.
#[derive(Debug)]
pub(crate) struct StopsEvents(pub(crate) Events);

impl Drop for StopsEvents {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Rebuilds the queue from a file's content. Lines that cannot be read are skipped: after a
/// crash the last one may be torn, and its event was never said to be accepted.
fn replay(content: &[u8], bounds: Bounds, path: &Path) -> Queue {
    let mut queue = Queue::new(bounds, 1);
    let mut unreadable = 0_usize;
    for line in content.split(|byte| *byte == b'\n') {
        match record::parse(line) {
            Some(Record::Accepted { order, next_number, event }) => {
                queue.restore(order, event);
                queue.continue_from(order + 1, next_number);
            }
            Some(Record::Ended { order }) => {
                queue.end(order, EventOutcome::Stored);
            }
            Some(Record::Counted { order, next_number }) => queue.continue_from(order, next_number),
            None if line.is_empty() => {}
            None => unreadable += 1,
        }
    }
    if let Some(last) = queue.next_order().checked_sub(1) {
        queue.written(last);
    }
    if unreadable > 0 {
        tracing::warn!(
            path = %path.display(),
            unreadable,
            "unreadable lines in the events file skipped (a crash tears at most the last line)"
        );
    }
    queue
}

#[cfg(test)]
mod tests;
