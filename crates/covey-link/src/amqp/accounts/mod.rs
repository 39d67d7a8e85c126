//! Keeps the accounts of devices in the broker in step with the store.
//!
//! A request names a serial number and never says "make" or "delete": the store decides. One
//! worker per server works in batches, so that many registrations share requests to the broker,
//! and retries what fails.

mod audit;
mod difference;
mod registry;
mod rights;
mod step;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use covey_core::Engine;
use covey_core::id::Sn;
use covey_core::port::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use audit::{Audit, audit};
pub use difference::{Difference, DifferenceKind};
pub use registry::{Registry, StoreRegistry};

use crate::amqp::management::Management;
use crate::amqp::{AmqpError, AmqpLink, Options};
use crate::outage::Outage;

/// How long a registration waits for its account: a RabbitMQ with much to do takes a while. One that answers with an
/// error, or not at all, is not waited for.
const ADMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How many requests may wait; beyond, all accounts are compared.
const ASKS_WAITING_MAX: usize = 16_384;
/// How long the worker waits after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// The asking side.
pub(super) struct Accounts {
    /// None without a management API: accounts are the operator's to keep.
    asks: Option<mpsc::Sender<Ask>>,
    /// A request was lost: all accounts are to be compared.
    has_missed: Arc<AtomicBool>,
}

/// A request to look at an account.
struct Ask {
    sn: Sn,
    /// Whether its connections are to be closed.
    is_cut_off: bool,
    done: Option<oneshot::Sender<()>>,
}

/// The working side, until the link is started.
pub(super) struct Waiting {
    management: Option<Management>,
    asks: mpsc::Receiver<Ask>,
    has_missed: Arc<AtomicBool>,
}

impl Accounts {
    pub(super) fn new(options: &Options) -> Result<(Self, Waiting), AmqpError> {
        let management = Management::new(options);
        let (asks, waiting) = mpsc::channel(ASKS_WAITING_MAX);
        // All are compared at the start.
        let has_missed = Arc::new(AtomicBool::new(true));
        let accounts =
            Self { asks: management.is_some().then_some(asks), has_missed: Arc::clone(&has_missed) };
        Ok((accounts, Waiting { management, asks: waiting, has_missed }))
    }

    /// Asks for the account of a device that was registered. The future ends
    /// when the device can connect, or not much later.
    pub(super) fn admit(&self, sn: &Sn) -> BoxFuture<'static, ()> {
        let (done, answer) = oneshot::channel();
        let sn = sn.clone();
        let is_asked = self.ask(Ask { sn: sn.clone(), is_cut_off: false, done: Some(done) });
        Box::pin(async move {
            if is_asked && tokio::time::timeout(ADMIT_TIMEOUT, answer).await.is_err() {
                tracing::warn!(%sn, "account not made in RabbitMQ yet; retrying");
            }
        })
    }

    /// Deletes a device's account unless the device is registered, and closes its connections.
    pub(super) fn revoke(&self, sn: &Sn) {
        self.ask(Ask { sn: sn.clone(), is_cut_off: true, done: None });
    }

    /// The broker has let in somebody who may not be registered.
    pub(super) fn look_at(&self, sn: &Sn) {
        self.revoke(sn);
    }

    fn ask(&self, ask: Ask) -> bool {
        let Some(asks) = &self.asks else { return false };
        let is_taken = asks.try_send(ask).is_ok();
        if !is_taken {
            self.has_missed.store(true, Ordering::Relaxed);
        }
        is_taken
    }
}

/// Keeps the accounts in step until the server stops.
pub(super) async fn keep(
    link: Arc<AmqpLink>,
    engine: Arc<Engine>,
    waiting: Waiting,
    stop: CancellationToken,
) {
    let Some(management) = waiting.management else { return };
    let management = Arc::new(management);
    let comparing = compare_when_missed(&management, &engine, &waiting.has_missed);
    let asked = work(&management, &engine, waiting.asks);
    let both = async { tokio::join!(comparing, asked) };
    let _ = stop.run_until_cancelled(both).await;
    drop(link);
}

/// Compares all accounts at the start, and whenever a request was lost.
async fn compare_when_missed(management: &Management, engine: &Engine, has_missed: &AtomicBool) {
    let (mut wait, outage) = (RETRY_FIRST, Outage::default());
    loop {
        if has_missed.swap(false, Ordering::Relaxed) {
            match audit::keep_in_step(management, engine).await {
                Ok(audit) => {
                    outage.over();
                    tell(&audit);
                    wait = RETRY_FIRST;
                }
                Err(error) => {
                    outage.log(&error, "accounts in RabbitMQ not audited");
                    has_missed.store(true, Ordering::Relaxed);
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
        tokio::time::sleep(wait).await;
    }
}

fn tell(audit: &Audit) {
    let (devices, differences) = (audit.devices, audit.differences.len());
    if differences == 0 {
        tracing::debug!(devices, "accounts in RabbitMQ match the registry");
    } else {
        tracing::info!(devices, differences, "accounts in RabbitMQ repaired");
    }
    for one in audit.differences.iter().filter(|one| one.kind == DifferenceKind::Foreign) {
        tracing::error!(
            account = one.account,
            problem = one.kind.meaning(),
            "account in RabbitMQ left alone"
        );
    }
}

/// Works off requests, in batches.
async fn work(management: &Management, engine: &Engine, mut asks: mpsc::Receiver<Ask>) {
    let (mut sns, mut cut_off) = (BTreeSet::new(), BTreeSet::new());
    let (mut wait, outage) = (RETRY_FIRST, Outage::default());
    let mut batch = Vec::new();
    loop {
        let is_again = !sns.is_empty();
        let more = asks.recv_many(&mut batch, audit::CHUNK);
        if is_again {
            // What failed is tried again soon, or together with what comes.
            let _ = tokio::time::timeout(wait, more).await;
        } else if more.await == 0 {
            return;
        }
        let mut waiting = Vec::new();
        for ask in batch.drain(..) {
            if ask.is_cut_off {
                cut_off.insert(ask.sn.clone());
            }
            sns.insert(ask.sn);
            waiting.extend(ask.done);
        }
        let some: Vec<Sn> = sns.iter().take(audit::CHUNK).cloned().collect();
        let cut: BTreeSet<Sn> = some.iter().filter(|sn| cut_off.contains(*sn)).cloned().collect();
        match step::bring_in_step(management, engine, &some, &cut).await {
            Ok(()) => {
                for sn in &some {
                    sns.remove(sn);
                    cut_off.remove(sn);
                }
                outage.over();
                wait = RETRY_FIRST;
            }
            Err(error) => {
                outage.log(&error, "accounts in RabbitMQ not updated");
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
        // The waiting devices are registered either way.
        for done in waiting {
            let _ = done.send(());
        }
    }
}
