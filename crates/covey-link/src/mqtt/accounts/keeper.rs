//! The task that carries out orders about accounts and audits them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use covey_core::Engine;
use covey_core::error::Error;
use covey_core::id::Sn;
use rumqttc::PublishOptions;
use rumqttc::mqttbytes::QoS;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::LinkStatus;
use crate::identities::Identities;
use crate::mqtt::accounts::{Accounts, Order};
use crate::mqtt::dynamic_security::{self, COMMANDS, Response};
use crate::mqtt::publisher::Publisher;
use crate::mqtt::state::State;

/// How many orders go into one message. Mosquitto serves nobody else while it
/// carries them out.
const BATCH_ORDERS: usize = 8;
/// How many names are asked for at a time.
const PAGE_NAMES: usize = 1000;
/// How long the broker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The same while it is not known whether the broker has the plugin.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait before a failed audit is repeated.
const AUDIT_RETRY: Duration = Duration::from_secs(5);
/// How often accounts are audited without a reason.
const AUDIT_INTERVAL: Duration = Duration::from_secs(600);
/// How often one unregistered device is disconnected: the broker writes its list of accounts
/// anew each time.
const EXPEL_INTERVAL: Duration = Duration::from_millis(200);

/// Why accounts differ from the registry.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the broker does not answer to $CONTROL/dynamic-security")]
    Silent,
    #[error("the broker refused {command}: {error}")]
    Refused { command: String, error: String },
    #[error(transparent)]
    Store(#[from] Error),
}

/// Keeps the accounts in step.
pub(in crate::mqtt) struct Keeper {
    pub(in crate::mqtt) accounts: Arc<Accounts>,
    pub(in crate::mqtt) engine: Arc<Engine>,
    pub(in crate::mqtt) identities: Arc<Identities>,
    pub(in crate::mqtt) publisher: Arc<Publisher>,
    pub(in crate::mqtt) state: Arc<State>,
    /// The client id of this server, which begins the correlations of its commands.
    pub(in crate::mqtt) client_id: String,
}

/// The differences that an audit found and that are being repaired.
#[derive(Default)]
struct Repairs {
    /// Each with whether it has an account, which then lacks its rights.
    missing: VecDeque<(Sn, bool)>,
    surplus: VecDeque<Sn>,
}

impl Keeper {
    /// Carries out orders and audits until the link stops.
    pub(in crate::mqtt) async fn run(self, mut orders: mpsc::Receiver<Order>) {
        let mut repairs = Repairs::default();
        let mut batch = Vec::with_capacity(BATCH_ORDERS);
        let mut audit_at = tokio::time::Instant::now() + AUDIT_INTERVAL;
        let mut expel_tick = tokio::time::interval(EXPEL_INTERVAL);
        expel_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let has_repairs = !repairs.missing.is_empty() || !repairs.surplus.is_empty();
            let worked = tokio::select! {
                biased;
                () = self.state.stop.cancelled() => return,
                count = orders.recv_many(&mut batch, BATCH_ORDERS) => match count {
                    0 => return,
                    _ => self.carry_out(&mut batch).await,
                },
                () = self.accounts.audit.notified() => self.audit(&mut repairs).await,
                _ = expel_tick.tick() => match self.accounts.intruder() {
                    None => Ok(()),
                    Some(sn) => {
                        batch.push(Order::Expel(sn));
                        self.carry_out(&mut batch).await
                    }
                },
                () = tokio::time::sleep_until(audit_at) => {
                    audit_at = tokio::time::Instant::now() + AUDIT_INTERVAL;
                    self.audit(&mut repairs).await
                }
                () = std::future::ready(()), if has_repairs => self.repair(&mut repairs).await,
            };
            if let Err(problem) = worked
                && self.state.status() != LinkStatus::Down
            {
                tracing::warn!(%problem, "accounts at the broker differ from the registry; auditing again");
                audit_at = tokio::time::Instant::now() + AUDIT_RETRY;
            }
        }
    }

    async fn carry_out(&self, batch: &mut Vec<Order>) -> Result<(), Problem> {
        if self.state.status() == LinkStatus::Down {
            // The next connect is followed by an audit. Dropping the channels tells those who wait.
            batch.clear();
            return Ok(());
        }
        let are_kept = self.accounts.are_kept.load(Ordering::Acquire);
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
                    self.identities.forget(&sn);
                    if are_kept {
                        commands.extend(dynamic_security::revoke(&sn));
                        revoked.push(sn);
                    } else {
                        tracing::warn!(%sn, "account not removed: the broker has no dynamic security; the device's messages are refused, its connection stays");
                    }
                }
                // It may have been registered since.
                Order::Expel(sn) => {
                    if are_kept && self.engine.server().device_of_sn(&sn).await?.is_none() {
                        commands.extend(dynamic_security::expel(&sn));
                        revoked.push(sn);
                    }
                }
            }
        }
        if commands.is_empty() {
            return Ok(());
        }
        check(&self.ask(commands).await?)?;
        for done in admitted {
            let _ = done.send(());
        }
        self.restore_registered(revoked).await
    }

    /// A device may be registered again under the serial number of one that was
    /// retired, by another server and at the same time. The store decides.
    async fn restore_registered(&self, revoked: Vec<Sn>) -> Result<(), Problem> {
        let mut commands = Vec::new();
        for sn in revoked {
            if self.engine.server().device_of_sn(&sn).await?.is_some() {
                commands.extend(dynamic_security::admit(&sn, false));
            }
        }
        if commands.is_empty() { Ok(()) } else { check(&self.ask(commands).await?) }
    }

    /// Compares the broker's accounts with the registry. The accounts are read
    /// first: an account is made after its device is stored, so one whose device
    /// is not found in the store after that has none.
    async fn audit(&self, repairs: &mut Repairs) -> Result<(), Problem> {
        if self.state.status() == LinkStatus::Down {
            return Ok(());
        }
        let roles = match self.names("listRoles").await {
            Ok(roles) => roles,
            Err(Problem::Silent) if !self.accounts.are_kept.load(Ordering::Acquire) => {
                tracing::info!("the broker has no dynamic security: accounts of devices are not kept");
                return Ok(());
            }
            Err(problem) => return Err(problem),
        };
        self.accounts.are_kept.store(true, Ordering::Release);
        let clients = self.names("listClients").await?;
        let has_role: BTreeSet<Sn> =
            roles.iter().filter_map(|role| dynamic_security::sn_of_role(role)).collect();
        let is_client: BTreeSet<&str> = clients.iter().map(String::as_str).collect();
        let mut registered = BTreeSet::new();
        let mut after = None;
        loop {
            let page = self.engine.server().device_sns(after.as_ref(), page_size()).await?;
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
            tracing::info!(missing, surplus, "accounts at the broker differ from the registry; repairing");
        }
        Ok(())
    }

    /// Puts the next few differences right.
    async fn repair(&self, repairs: &mut Repairs) -> Result<(), Problem> {
        if self.state.status() == LinkStatus::Down {
            // The audit after the next connect finds what is left.
            *repairs = Repairs::default();
            return Ok(());
        }
        let surplus: Vec<Sn> = take(&mut repairs.surplus);
        let mut commands = Vec::new();
        for sn in &surplus {
            if self.engine.server().device_of_sn(sn).await?.is_none() {
                commands.extend(dynamic_security::revoke(sn));
            }
        }
        let missing: Vec<(Sn, bool)> = take(&mut repairs.missing);
        for (sn, has_account) in &missing {
            commands.extend(dynamic_security::admit(sn, *has_account));
        }
        if !commands.is_empty() {
            check(&self.ask(commands).await?)?;
        }
        self.restore_registered(surplus).await?;
        // One that was retired meanwhile must not keep the account just made.
        let mut stale = Vec::new();
        for (sn, _) in missing {
            if self.engine.server().device_of_sn(&sn).await?.is_none() {
                stale.extend(dynamic_security::revoke(&sn));
            }
        }
        if stale.is_empty() { Ok(()) } else { check(&self.ask(stale).await?) }
    }

    /// All names of a list.
    async fn names(&self, what: &str) -> Result<Vec<String>, Problem> {
        let mut all = Vec::new();
        loop {
            let answer = self.ask(dynamic_security::list(what, all.len(), PAGE_NAMES)).await?;
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

    /// Sends commands and waits for the answer to them.
    async fn ask(&self, commands: Vec<Value>) -> Result<Vec<Response>, Problem> {
        let number = self.accounts.numbers.fetch_add(1, Ordering::Relaxed);
        let correlation = format!("{} {number}", self.client_id);
        let (answer, waiting) = oneshot::channel();
        self.accounts.waiting().insert(correlation.clone(), answer);
        let asking = async {
            let message = dynamic_security::message(commands, &correlation);
            let options = PublishOptions::new(QoS::AtLeastOnce);
            // That nobody has subscribed to it is said of a plugin's topic as well.
            self.publisher
                .publish(COMMANDS.to_owned(), message, options)
                .await
                .map_err(|_| Problem::Silent)?;
            waiting.await.map_err(|_| Problem::Silent)
        };
        let is_known = self.accounts.are_kept.load(Ordering::Acquire);
        let patience = if is_known { ANSWER_TIMEOUT } else { FIRST_ANSWER_TIMEOUT };
        let answered = tokio::time::timeout(patience, asking).await.unwrap_or(Err(Problem::Silent));
        self.accounts.waiting().remove(&correlation);
        answered
    }
}

fn take<T>(from: &mut VecDeque<T>) -> Vec<T> {
    let count = from.len().min(BATCH_ORDERS);
    from.drain(..count).collect()
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
