//! Calls from the moment their parameters are here: a bounded queue, and those that run. Each
//! is written to the journal before it runs and again, with its answer, before the answer goes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::answer::Answer;
use crate::call::{Call, Partial};
use crate::clock::unix_now_s;
use crate::events::Events;
use crate::handlers::Handlers;
use crate::journal::Journal;
use crate::status::Counters;
use crate::wire::Parameters;

/// Calls that wait although nobody asked for them. Beyond it they are left to the server, which
/// announces them again when their lease has run out.
const WAITING_MAX: usize = 64;
/// Partial results between handlers and the connection.
const PARTIALS_CHANNEL: usize = 1;

/// A call that is over.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) task_id: Uuid,
    pub(crate) keep_until: u64,
    pub(crate) answer: Answer,
}

type Running = Pin<Box<dyn Future<Output = Finished> + Send>>;

#[derive(Debug)]
struct Waiting {
    parameters: Parameters,
    priority: Option<u8>,
}

/// The calls of one device.
pub(crate) struct Calls {
    sn: Arc<str>,
    handlers: Arc<Handlers>,
    journal: Arc<Journal>,
    counters: Counters,
    events: Events,
    concurrent_max: usize,
    waiting: VecDeque<Waiting>,
    running: FuturesUnordered<Running>,
    partials_tx: mpsc::Sender<Partial>,
}

impl Calls {
    pub(crate) fn new(
        sn: Arc<str>,
        handlers: Arc<Handlers>,
        journal: Arc<Journal>,
        counters: Counters,
        events: Events,
        concurrent_max: usize,
    ) -> (Self, mpsc::Receiver<Partial>) {
        let (partials_tx, partials_rx) = mpsc::channel(PARTIALS_CHANNEL);
        let calls = Self {
            sn,
            handlers,
            journal,
            counters,
            events,
            concurrent_max,
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
            partials_tx,
        };
        (calls, partials_rx)
    }

    /// How many more calls could run, were they here.
    pub(crate) fn free(&self) -> usize {
        self.concurrent_max.saturating_sub(self.running.len() + self.waiting.len())
    }

    pub(crate) fn none_running(&self) -> bool {
        self.running.is_empty()
    }

    pub(crate) fn is_waiting(&self, task_id: Uuid) -> bool {
        self.waiting.iter().any(|waiting| waiting.parameters.task_id == task_id)
    }

    /// Queues a call, or leaves it to the server if too many wait.
    pub(crate) fn push(&mut self, parameters: Parameters, priority: Option<u8>) {
        if self.waiting.len() == WAITING_MAX {
            tracing::warn!(sn = %self.sn, task_id = %parameters.task_id, "too many calls wait; left to the server to repeat");
            return;
        }
        self.waiting.push_back(Waiting { parameters, priority });
    }

    pub(crate) fn drop_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Starts what may run, in order.
    pub(crate) fn start(&mut self) {
        while self.running.len() < self.concurrent_max {
            let Some(Waiting { parameters, priority }) = self.waiting.pop_front() else {
                return;
            };
            let task_id = parameters.task_id;
            let keep_until = parameters.keep_until;
            if !self.journal.begin(task_id, keep_until, unix_now_s()) {
                self.counters.duplicate();
                continue;
            }
            tracing::debug!(sn = %self.sn, %task_id, method_code = parameters.method_code, "call");
            let call = Call {
                sn: Arc::clone(&self.sn),
                task_id,
                method_code: parameters.method_code,
                method: parameters.method,
                priority,
                expires_at: parameters.expires_at,
                payload: parameters.payload,
                partials: self.partials_tx.clone(),
                events: self.events.clone(),
            };
            self.running.push(Box::pin(execute(
                call,
                keep_until,
                Arc::clone(&self.handlers),
                Arc::clone(&self.journal),
                self.counters.clone(),
            )));
        }
    }

    /// The next call that ends; never, while none runs.
    pub(crate) async fn next_finished(&mut self) -> Finished {
        match self.running.next().await {
            Some(finished) => finished,
            None => std::future::pending().await,
        }
    }
}

/// Journal, handler, journal. A start that cannot be made durable does not happen, because
/// after a crash it would happen again.
async fn execute(
    call: Call,
    keep_until: u64,
    handlers: Arc<Handlers>,
    journal: Arc<Journal>,
    counters: Counters,
) -> Finished {
    let task_id = call.task_id();
    if let Err(error) = journal.flush().await {
        tracing::error!(%task_id, %error, "journal not written; call not executed");
        journal.cancel(task_id);
        return Finished {
            task_id,
            keep_until,
            answer: Answer::error(500, "the device's journal cannot be written"),
        };
    }
    let answer = handlers.answer(call).await;
    counters.executed();
    journal.finish(task_id, keep_until, &answer, unix_now_s());
    if let Err(error) = journal.flush().await {
        tracing::error!(%task_id, %error, "journal not written; result sent anyway");
    }
    Finished { task_id, keep_until, answer }
}
