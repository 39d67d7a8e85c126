//! The accounts of devices at the broker, kept in step with the registry over
//! Mosquitto's dynamic security. A broker that has no such thing does without:
//! every valid certificate is then let in, and what comes from a device that
//! is not registered is refused here.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use covey_core::error::Error;
use covey_core::id::Sn;
use rumqttc::PublishOptions;
use rumqttc::mqttbytes::QoS;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::LinkStatus;
use crate::mqtt::dynamic_security::{self, COMMANDS, Response, Responses};
use crate::mqtt::shared::Shared;

/// How many orders may wait.
pub(super) const ORDERS_MAX: usize = 1024;
/// How many orders go into one message. Mosquitto serves nobody else while it
/// carries them out.
const BATCH_ORDERS: usize = 8;
/// How many names are asked for at a time.
const PAGE_NAMES: usize = 1000;
/// How long the broker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a broker of which it is not known whether it keeps accounts may
/// take to answer.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait before an audit that failed is made again.
const AUDIT_RETRY: Duration = Duration::from_secs(5);
/// How often accounts are audited though nothing happened.
const AUDIT_EVERY: Duration = Duration::from_secs(600);
/// How many who may not be there are remembered.
const INTRUDERS_MAX: usize = 4_096;
/// How often one of them is sent away: each time the broker writes its list of
/// accounts anew.
const EXPEL_EVERY: Duration = Duration::from_millis(200);

/// What is to be done about an account.
pub(super) enum Order {
    /// Make it, and tell when it is there.
    Admit(Sn, oneshot::Sender<()>),
    /// Remove it, unless the device is registered again.
    Revoke(Sn),
    /// Close the connection of someone who has none.
    Expel(Sn),
}

/// Why accounts are not in step.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the broker does not answer to $CONTROL/dynamic-security")]
    Silent,
    #[error("the broker refused {command}: {error}")]
    Refused { command: String, error: String },
    #[error(transparent)]
    Store(#[from] Error),
}

/// What the worker shares with those who receive the broker's answers.
pub(super) struct Accounts {
    /// Whether the broker keeps accounts that can be ordered.
    are_kept: AtomicBool,
    numbers: AtomicU64,
    answers: Mutex<HashMap<String, oneshot::Sender<Vec<Response>>>>,
    audit: Notify,
    /// Who is to be put out, and has not been yet.
    intruders: Mutex<HashSet<Sn>>,
}

impl Accounts {
    pub(super) fn new() -> Self {
        Self {
            are_kept: AtomicBool::new(false),
            numbers: AtomicU64::new(0),
            answers: Mutex::default(),
            audit: Notify::new(),
            intruders: Mutex::default(),
        }
    }

    /// The broker is there (again): what is registered and what it has may differ.
    pub(super) fn request_audit(&self) {
        self.audit.notify_one();
    }

    /// Somebody is connected who is not registered.
    pub(super) fn expel(&self, sn: Sn) {
        let mut intruders = self.intruders.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever does not fit is met again with its next message.
        if self.are_kept.load(Ordering::Acquire) && intruders.len() < INTRUDERS_MAX {
            intruders.insert(sn);
        }
    }

    /// The next who is to be put out.
    fn intruder(&self) -> Option<Sn> {
        let mut intruders = self.intruders.lock().unwrap_or_else(PoisonError::into_inner);
        let next = intruders.iter().next().cloned()?;
        intruders.take(&next)
    }

    /// Takes an answer of the broker, which may be another server's.
    pub(super) fn answered(&self, payload: &[u8]) {
        let Ok(Responses { responses }) = serde_json::from_slice::<Responses>(payload) else { return };
        let Some(correlation) = responses.iter().find_map(|response| response.correlation.clone()) else {
            return;
        };
        if let Some(waiting) = self.answers().remove(&correlation) {
            let _ = waiting.send(responses);
        }
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Vec<Response>>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an audit has found and is being put right.
#[derive(Default)]
struct Repairs {
    /// Each with whether it has an account, which then lacks its rights.
    missing: VecDeque<(Sn, bool)>,
    surplus: VecDeque<Sn>,
}

/// Carries orders out, and audits, until the link stops.
pub(super) async fn keep(shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    let mut repairs = Repairs::default();
    let mut batch = Vec::with_capacity(BATCH_ORDERS);
    let mut audit_at = tokio::time::Instant::now() + AUDIT_EVERY;
    let mut expel_tick = tokio::time::interval(EXPEL_EVERY);
    expel_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let has_repairs = !repairs.missing.is_empty() || !repairs.surplus.is_empty();
        let worked = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            count = orders.recv_many(&mut batch, BATCH_ORDERS) => match count {
                0 => return,
                _ => carry_out(&shared, &mut batch).await,
            },
            () = shared.accounts.audit.notified() => audit(&shared, &mut repairs).await,
            _ = expel_tick.tick() => match shared.accounts.intruder() {
                None => Ok(()),
                Some(sn) => {
                    batch.push(Order::Expel(sn));
                    carry_out(&shared, &mut batch).await
                }
            },
            () = tokio::time::sleep_until(audit_at) => {
                audit_at = tokio::time::Instant::now() + AUDIT_EVERY;
                audit(&shared, &mut repairs).await
            }
            () = std::future::ready(()), if has_repairs => repair(&shared, &mut repairs).await,
        };
        if let Err(problem) = worked
            && shared.link.status() != LinkStatus::Down
        {
            tracing::warn!(%problem, "accounts at the broker are not in step; they are looked at again");
            audit_at = tokio::time::Instant::now() + AUDIT_RETRY;
        }
    }
}

async fn carry_out(shared: &Shared, batch: &mut Vec<Order>) -> Result<(), Problem> {
    if shared.link.status() == LinkStatus::Down {
        // The audit after the next connect sees to it; whoever waits is told by the end of its channel.
        batch.clear();
        return Ok(());
    }
    let are_kept = shared.accounts.are_kept.load(Ordering::Acquire);
    let mut commands = Vec::new();
    let (mut admitted, mut revoked) = (Vec::new(), Vec::new());
    for order in batch.drain(..) {
        match order {
            Order::Admit(_, done) if !are_kept => {
                let _ = done.send(());
            }
            Order::Admit(sn, done) => {
                commands.extend(dynamic_security::admit(&sn, false));
                admitted.push(done);
            }
            Order::Revoke(sn) => {
                shared.identities.forget(&sn);
                if are_kept {
                    commands.extend(dynamic_security::revoke(&sn));
                    revoked.push(sn);
                } else {
                    tracing::warn!(%sn, "the broker keeps no accounts that Covey could remove: what the device sends is refused, and only the broker's own means close its connection");
                }
            }
            // It may have been registered since.
            Order::Expel(sn) => {
                if are_kept && shared.engine.server().device_of_sn(&sn).await?.is_none() {
                    commands.extend(dynamic_security::expel(&sn));
                    revoked.push(sn);
                }
            }
        }
    }
    if commands.is_empty() {
        return Ok(());
    }
    check(&ask(shared, commands).await?)?;
    for done in admitted {
        let _ = done.send(());
    }
    restore_registered(shared, revoked).await
}

/// A device may be registered again under the serial number of one that was
/// retired, by another server and at the same time. The store decides.
async fn restore_registered(shared: &Shared, revoked: Vec<Sn>) -> Result<(), Problem> {
    let mut commands = Vec::new();
    for sn in revoked {
        if shared.engine.server().device_of_sn(&sn).await?.is_some() {
            commands.extend(dynamic_security::admit(&sn, false));
        }
    }
    if commands.is_empty() { Ok(()) } else { check(&ask(shared, commands).await?) }
}

/// Compares the broker's accounts with the registry. The accounts are read
/// first: an account is made after its device is stored, so one whose device
/// is not found in the store after that has none.
async fn audit(shared: &Shared, repairs: &mut Repairs) -> Result<(), Problem> {
    if shared.link.status() == LinkStatus::Down {
        return Ok(());
    }
    let roles = match names(shared, "listRoles").await {
        Ok(roles) => roles,
        Err(Problem::Silent) if !shared.accounts.are_kept.load(Ordering::Acquire) => {
            tracing::info!("the broker keeps no accounts for devices that Covey could keep in step");
            return Ok(());
        }
        Err(problem) => return Err(problem),
    };
    shared.accounts.are_kept.store(true, Ordering::Release);
    let clients = names(shared, "listClients").await?;
    let has_role: BTreeSet<Sn> = roles.iter().filter_map(|role| dynamic_security::sn_of_role(role)).collect();
    let is_client: BTreeSet<&str> = clients.iter().map(String::as_str).collect();
    let mut registered = BTreeSet::new();
    let mut after = None;
    loop {
        let page = shared.engine.server().device_sns(after.as_ref(), page_size()).await?;
        let is_last = page.len() < PAGE_NAMES;
        after = page.last().cloned();
        registered.extend(page);
        if is_last {
            break;
        }
    }
    let is_whole = |sn: &&Sn| has_role.contains(*sn) && is_client.contains(sn.as_str());
    let is_missing = registered.iter().filter(|sn| !is_whole(sn));
    repairs.missing = is_missing.map(|sn| (sn.clone(), is_client.contains(sn.as_str()))).collect();
    repairs.surplus = has_role.difference(&registered).cloned().collect();
    if !repairs.missing.is_empty() || !repairs.surplus.is_empty() {
        let (missing, surplus) = (repairs.missing.len(), repairs.surplus.len());
        tracing::info!(
            missing,
            surplus,
            "accounts at the broker differ from the registry; they are put right"
        );
    }
    Ok(())
}

/// Puts the next few differences right.
async fn repair(shared: &Shared, repairs: &mut Repairs) -> Result<(), Problem> {
    if shared.link.status() == LinkStatus::Down {
        // The audit after the next connect finds what is left.
        *repairs = Repairs::default();
        return Ok(());
    }
    let surplus: Vec<Sn> = take(&mut repairs.surplus);
    let mut commands = Vec::new();
    for sn in &surplus {
        if shared.engine.server().device_of_sn(sn).await?.is_none() {
            commands.extend(dynamic_security::revoke(sn));
        }
    }
    let missing: Vec<(Sn, bool)> = take(&mut repairs.missing);
    for (sn, has_account) in &missing {
        commands.extend(dynamic_security::admit(sn, *has_account));
    }
    if !commands.is_empty() {
        check(&ask(shared, commands).await?)?;
    }
    restore_registered(shared, surplus).await?;
    // One that was retired meanwhile must not keep the account just made.
    let mut stale = Vec::new();
    for (sn, _) in missing {
        if shared.engine.server().device_of_sn(&sn).await?.is_none() {
            stale.extend(dynamic_security::revoke(&sn));
        }
    }
    if stale.is_empty() { Ok(()) } else { check(&ask(shared, stale).await?) }
}

fn take<T>(from: &mut VecDeque<T>) -> Vec<T> {
    let count = from.len().min(BATCH_ORDERS);
    from.drain(..count).collect()
}

/// All names of a list.
async fn names(shared: &Shared, what: &str) -> Result<Vec<String>, Problem> {
    let mut all = Vec::new();
    loop {
        let answer = ask(shared, dynamic_security::list(what, all.len(), PAGE_NAMES)).await?;
        check(&answer)?;
        let page: Vec<String> =
            answer.into_iter().flat_map(|one| [one.data.clients, one.data.roles]).flatten().collect();
        let is_last = page.len() < PAGE_NAMES;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

fn page_size() -> u32 {
    u32::try_from(PAGE_NAMES).unwrap_or(u32::MAX)
}

fn check(responses: &[Response]) -> Result<(), Problem> {
    match responses.iter().find_map(|one| Some((one, one.failure()?))) {
        None => Ok(()),
        Some((one, error)) => Err(Problem::Refused { command: one.command.clone(), error: error.to_owned() }),
    }
}

/// Sends commands and waits for the answer to them.
async fn ask(shared: &Shared, commands: Vec<Value>) -> Result<Vec<Response>, Problem> {
    let number = shared.accounts.numbers.fetch_add(1, Ordering::Relaxed);
    let correlation = format!("{} {number}", shared.link.options.client_id());
    let (answer, waiting) = oneshot::channel();
    shared.accounts.answers().insert(correlation.clone(), answer);
    let asking = async {
        let message = dynamic_security::message(commands, &correlation);
        let options = PublishOptions::new(QoS::AtLeastOnce);
        // That nobody has subscribed to it is said of a plugin's topic as well.
        shared.publish(COMMANDS.to_owned(), message, options).await.map_err(|_| Problem::Silent)?;
        waiting.await.map_err(|_| Problem::Silent)
    };
    let is_known = shared.accounts.are_kept.load(Ordering::Acquire);
    let patience = if is_known { ANSWER_TIMEOUT } else { FIRST_ANSWER_TIMEOUT };
    let answered = tokio::time::timeout(patience, asking).await.unwrap_or(Err(Problem::Silent));
    shared.accounts.answers().remove(&correlation);
    answered
}
