//! The port of a gateway that runs in the server: nodes are devices of the engine, and to the core the gateway is a
//! link (`docs/adr/0025-nodes-are-devices-that-a-gateway-speaks-for.md`).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use covey_core::Engine;
use covey_core::device::{Connection, DeviceIdentity};
use covey_core::error::Error;
use covey_core::event::Reported as ReportedValue;
use covey_core::id::{OrgId, Sn, TaskId};
use covey_core::node::{Admission, Admitted, GatewayName, NodeAdmit, NodeName};
use covey_core::port::{Announcement, BoxFuture, Link};
use covey_core::presence::Reason;
use covey_core::task::{NewResult, ResultBody};
use covey_core::twin::DeviceReport;
use dashmap::DashMap;
use tokio::sync::Notify;

use crate::node::{Gone, Outcome, Verdict, Write};
use crate::port::{Hint, Later, Newcomer, Port, Report, Reported};

/// The detail of a node's connection that web clients of the node broker know it by.
pub const UID: &str = "uid";
/// Protocols whose nodes have another uid towards web clients each time they appear.
const ANEW: [&str; 3] = ["MQTT", "MQTT-SN", "WebSocket"];
/// How long a write may wait for a node that is here and does not answer, in milliseconds; its lease ends before.
/// Limit for each write: 504.
const WRITE_MS_MAX: u64 = 300_000;

/// A gateway as a link: what the core tells it, until the gateway takes it in.
pub struct GatewayLink {
    name: &'static str,
    /// The uids of the nodes that are here, by their serial numbers.
    here: DashMap<Sn, Arc<str>>,
    /// The open questions whether a node may join, a few at a time ([`ASKED_MAX`](crate::node::ASKED_MAX)), and those
    /// that nobody waits for any more, until the next one.
    asked: Mutex<Vec<(Sn, Weak<Question>)>>,
    told: Mutex<Told>,
    news: Notify,
    changed: Notify,
    counts: OnceLock<Counts>,
}

/// What a gateway counts, each with its name.
pub type Counts = Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// Whether a node may join: open from before the store is asked until the node is here.
#[derive(Debug, Default)]
struct Question {
    /// Somebody has shut the node out since it was asked. Whatever is answered may be older than that.
    is_shut_out: AtomicBool,
}

/// What was told since the gateway looked last. Each node is there once, so it is bounded by their number.
#[derive(Default)]
struct Told {
    wanted: HashSet<Arc<str>>,
    revoked: HashSet<Arc<str>>,
    ask_again: bool,
}

impl GatewayLink {
    /// A link of this name, which differs from that of any other.
    #[must_use]
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            here: DashMap::new(),
            asked: Mutex::default(),
            told: Mutex::default(),
            news: Notify::new(),
            changed: Notify::new(),
            counts: OnceLock::new(),
        })
    }

    /// Says once what the gateway counts.
    pub fn count_with(&self, counts: Counts) {
        let _ = self.counts.set(counts);
    }

    /// Somebody has changed what is known of a node, or what is listed of the gateway, since this was last waited for.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn asked(&self) -> MutexGuard<'_, Vec<(Sn, Weak<Question>)>> {
        // What it guards is whole at every moment.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is about to be asked whether a node may join.
    fn ask(&self, sn: Sn) -> Arc<Question> {
        let question = Arc::new(Question::default());
        let mut asked = self.asked();
        asked.retain(|(_, question)| question.strong_count() > 0);
        asked.push((sn, Arc::downgrade(&question)));
        question
    }

    /// A node is here that was allowed to join. If it was shut out meanwhile it is put out at once.
    fn come(&self, sn: &Sn, uid: &Arc<str>, question: &Arc<Question>) {
        // Before the question is closed: whoever shuts it out looks here after he has looked for questions.
        self.here.insert(sn.clone(), Arc::clone(uid));
        self.asked().retain(|(_, other)| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(question)));
        if question.is_shut_out.load(Ordering::Acquire) {
            self.put_out(sn);
        }
    }

    fn put_out(&self, sn: &Sn) {
        if let Some((_, uid)) = self.here.remove(sn) {
            self.tell(|told| {
                told.revoked.insert(uid);
            });
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // What it guards is whole at every moment.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, tell: impl FnOnce(&mut Told)) {
        tell(&mut self.told());
        self.news.notify_one();
    }

    async fn next_hint(&self) -> Hint {
        loop {
            {
                let mut told = self.told();
                if !told.revoked.is_empty() {
                    return Hint::Revoked(told.revoked.drain().collect());
                }
                if std::mem::take(&mut told.ask_again) {
                    return Hint::AskAgain;
                }
                if !told.wanted.is_empty() {
                    return Hint::Wanted(told.wanted.drain().collect());
                }
            }
            self.news.notified().await;
        }
    }
}

impl Link for GatewayLink {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn announce(&self, task: Announcement) {
        if let Some(uid) = self.here.get(&task.sn).map(|uid| Arc::clone(&uid)) {
            self.tell(|told| {
                told.wanted.insert(uid);
            });
        }
    }

    fn revoke(&self, sn: &Sn) {
        for (_, question) in self.asked().iter().filter(|(asked, _)| asked == sn) {
            if let Some(question) = question.upgrade() {
                question.is_shut_out.store(true, Ordering::Release);
            }
        }
        self.put_out(sn);
    }

    fn admit(&self, _: &Sn) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        self.counts.get().map(|counts| counts()).unwrap_or_default()
    }

    fn node_changed(&self, _: OrgId, name: &NodeName) {
        if name.gateway().as_str() == self.name {
            self.tell(|told| told.ask_again = true);
            self.changed.notify_one();
        }
    }
}

/// Whose nodes they are, and who of them may join.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The organisation that nodes belong to.
    pub org: OrgId,
    /// Who may join.
    pub admission: Admission,
    /// The server, as in presence.
    pub server: String,
}

/// The engine as a gateway sees it.
pub struct EnginePort {
    engine: Arc<Engine>,
    link: Arc<GatewayLink>,
    gateway: GatewayName,
    /// What the protocol is called in presence.
    protocol: &'static str,
    policy: Policy,
    began_at_ms: i64,
    /// How nodes are called towards web clients that another gateway speaks for.
    announced: Option<Announced>,
    on_reset: OnceLock<OnReset>,
}

/// The uids under which gateways of others have announced their nodes, by the uids of the nodes.
pub type Announced = Arc<DashMap<Arc<str>, Arc<str>>>;

/// Who is told that a node has begun anew.
pub type OnReset = Box<dyn Fn(&DeviceIdentity) + Send + Sync>;

/// A node as the engine knows it.
#[derive(Clone, Debug)]
pub struct EngineNode(Arc<Known>);

#[derive(Debug)]
struct Known {
    identity: DeviceIdentity,
    uid: Arc<str>,
    is_passing: bool,
    /// The question that it was the answer to.
    question: Arc<Question>,
    /// Writes that are over, until that is stored.
    finishing: Mutex<Vec<TaskId>>,
}

impl Known {
    fn finishing(&self) -> MutexGuard<'_, Vec<TaskId>> {
        // What it guards is whole at every moment.
        self.finishing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EnginePort {
    /// The port of the gateway of which `link` is the other side.
    ///
    /// # Errors
    /// A name of a link that is none of a gateway.
    pub fn new(
        engine: Arc<Engine>,
        link: Arc<GatewayLink>,
        protocol: &'static str,
        policy: Policy,
    ) -> Result<Arc<Self>, Error> {
        Self::announcing(engine, link, protocol, policy, None)
    }

    /// The same of a gateway whose nodes others have announced under uids of their own.
    ///
    /// # Errors
    /// A name of a link that is none of a gateway.
    pub fn announcing(
        engine: Arc<Engine>,
        link: Arc<GatewayLink>,
        protocol: &'static str,
        policy: Policy,
        announced: Option<Announced>,
    ) -> Result<Arc<Self>, Error> {
        let gateway = GatewayName::parse(link.name)?;
        let began_at_ms = engine.now().0;
        let on_reset = OnceLock::new();
        Ok(Arc::new(Self { engine, link, gateway, protocol, policy, began_at_ms, announced, on_reset }))
    }

    /// Says once who is told of nodes that begin anew.
    pub fn tell_resets(&self, tell: OnReset) {
        let _ = self.on_reset.set(tell);
    }

    /// How web clients know a node that has just come.
    fn shown_uid(&self, uid: &Arc<str>) -> String {
        let announced = self.announced.as_ref().and_then(|announced| announced.get(uid));
        match announced {
            Some(announced) => announced.as_ref().to_owned(),
            None if ANEW.contains(&self.protocol) => uuid::Uuid::new_v4().to_string(),
            None => uid.as_ref().to_owned(),
        }
    }

    fn session(&self, visit: u64) -> String {
        format!("{}-{visit}", self.began_at_ms)
    }
}

impl Port for EnginePort {
    type Node = EngineNode;
    type Write = TaskId;

    fn join(&self, newcomer: Newcomer) -> Later<Verdict<EngineNode>> {
        let Newcomer { uid, address, is_passing } = newcomer;
        let name = match NodeName::parse(self.gateway.clone(), &uid) {
            Ok(name) => name,
            Err(error) => {
                tracing::warn!(gateway = self.link.name, %uid, %error, "a node has a name that cannot be kept");
                return Box::pin(std::future::ready(Verdict::Refused("it has a name that cannot be kept")));
            }
        };
        let question = self.link.ask(name.sn());
        let asked = NodeAdmit {
            org: self.policy.org,
            name,
            address: address.as_ref().to_owned(),
            is_passing,
            admission: self.policy.admission,
            server: self.policy.server.clone(),
        };
        let (engine, gateway) = (Arc::clone(&self.engine), self.link.name);
        Box::pin(async move {
            let refused = match engine.server().node_admit(asked).await {
                Ok(Admitted::Yes(identity)) => {
                    return Verdict::Joined(EngineNode(Arc::new(Known {
                        identity,
                        uid,
                        is_passing,
                        question,
                        finishing: Mutex::default(),
                    })));
                }
                Ok(Admitted::Waiting) => "it waits until somebody approves it",
                Ok(Admitted::Blocked) => "it is blocked",
                Ok(Admitted::Unknown) => "it is not known",
                Ok(Admitted::SnTaken) => "its serial number is that of another device",
                Err(error) => {
                    tracing::warn!(gateway, %uid, %address, %error, "nobody can tell whether a node may join");
                    return Verdict::Failed;
                }
            };
            tracing::info!(gateway, %uid, %address, "a node may not join: {refused}");
            Verdict::Refused(refused)
        })
    }

    fn came(&self, uid: &Arc<str>, node: &EngineNode, visit: u64, address: &str) {
        let identity = &node.0.identity;
        self.link.come(&identity.sn, uid, &node.0.question);
        let shown = self.shown_uid(uid);
        let details = [("address", address), ("protocol", self.protocol), (UID, &shown)];
        self.engine.for_device(identity).connected(Connection {
            session: self.session(visit),
            server: self.policy.server.clone(),
            details: details.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..Connection::default()
        });
        self.engine.for_device(identity).subscribed(self.link.name);
    }

    fn reset(&self, node: &EngineNode) {
        if let Some(tell) = self.on_reset.get() {
            tell(&node.0.identity);
        }
    }

    fn report(&self, reports: Vec<Report<EngineNode>>) -> Later<Vec<Reported>> {
        let (engine, org, gateway) = (Arc::clone(&self.engine), self.policy.org, self.link.name);
        Box::pin(async move {
            let nodes: Vec<EngineNode> = reports.iter().map(|report| report.node.clone()).collect();
            let reports = reports.into_iter().map(|Report { node, values }| {
                let values = values.into_iter().map(|(resource, value)| ReportedValue { resource, value });
                DeviceReport { device: node.0.identity.clone(), values: values.collect() }
            });
            let stored = engine.server().twin_report_all(org, reports.collect()).await;
            stored.into_iter().zip(nodes).map(|(stored, node)| reported(stored, &node, gateway)).collect()
        })
    }

    fn went(&self, node: &EngineNode, visit: u64, why: Gone) -> Later<()> {
        let identity = &node.0.identity;
        self.link.here.remove_if(&identity.sn, |_, uid| *uid == node.0.uid);
        let (reason, text) = reason(why);
        self.engine.for_device(identity).disconnected(Connection {
            session: self.session(visit),
            server: self.policy.server.clone(),
            reason,
            details: vec![("reason".to_owned(), text.to_owned())],
        });
        let (engine, node, gateway) = (Arc::clone(&self.engine), node.clone(), self.link.name);
        Box::pin(async move {
            if node.0.is_passing
                && let Err(error) = engine.server().node_leave(&node.0.identity).await
            {
                // The next start of the server finds it.
                tracing::warn!(gateway, sn = %node.0.identity.sn, %error, "a passing node was not retired");
            }
        })
    }

    fn next_write(&self, node: &EngineNode, now_ms: u64) -> Later<Option<Write<TaskId>>> {
        let (engine, node, gateway) = (Arc::clone(&self.engine), node.clone(), self.link.name);
        // As of now: what is stored of them meanwhile does no harm.
        let finishing = node.0.finishing().clone();
        Box::pin(async move {
            match engine.for_device(&node.0.identity).write_next(&finishing).await {
                Ok(write) => write.map(|write| Write {
                    id: write.task,
                    values: write.values,
                    until_ms: now_ms.saturating_add(WRITE_MS_MAX),
                }),
                Err(error) => {
                    // The task is announced again.
                    tracing::warn!(gateway, sn = %node.0.identity.sn, %error, "a write was not handed out");
                    None
                }
            }
        })
    }

    fn finish(&self, node: &EngineNode, write: TaskId, outcome: Outcome) -> Later<()> {
        let (engine, node, gateway) = (Arc::clone(&self.engine), node.clone(), self.link.name);
        node.0.finishing().push(write);
        Box::pin(async move {
            let result = NewResult {
                ext_id: 0,
                status_code: i64::from(outcome.status),
                body: ResultBody::Json(outcome.body.into()),
            };
            if let Err(error) = engine.for_device(&node.0.identity).task_finish(write, result).await {
                // The write is done again.
                tracing::warn!(gateway, sn = %node.0.identity.sn, %error, "what came of a write was not stored");
            }
            node.0.finishing().retain(|finishing| *finishing != write);
        })
    }

    fn next_hint(&self) -> Later<Hint> {
        let link = Arc::clone(&self.link);
        Box::pin(async move { link.next_hint().await })
    }
}

/// What became of a report, told where it was not stored.
fn reported(stored: Result<(), Error>, node: &EngineNode, gateway: &str) -> Reported {
    match stored {
        Ok(()) => Reported::Stored,
        Err(error @ (Error::Unavailable { .. } | Error::OverBudget { .. })) => {
            tracing::warn!(gateway, sn = %node.0.identity.sn, %error, "values of a node were not stored");
            Reported::Later
        }
        Err(error) => {
            tracing::warn!(gateway, sn = %node.0.identity.sn, %error, "values of a node were refused");
            Reported::Refused
        }
    }
}

/// Why a node is gone, in words of presence, and for people.
const fn reason(why: Gone) -> (Reason, &'static str) {
    match why {
        Gone::Clean => (Reason::Clean, "disconnected by the node"),
        Gone::Lost => (Reason::Lost, "connection lost"),
        Gone::Silent => (Reason::KeepAlive, "not heard of for a while"),
        Gone::Revoked => (Reason::Revoked, "not authorised"),
        Gone::Stopped => (Reason::Unknown, "the gateway ended"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    const ROUNDS: usize = 2_000;

    fn lamp() -> (Sn, Arc<str>) {
        (Sn::parse("mqtt-lamp").unwrap(), Arc::from("lamp"))
    }

    fn put_out(link: &GatewayLink) -> Vec<Arc<str>> {
        link.told().revoked.drain().collect()
    }

    #[test]
    fn who_was_shut_out_before_it_was_asked_about_or_is_another_may_come() {
        let (link, (sn, uid)) = (GatewayLink::new("mqtt"), lamp());
        link.revoke(&sn);
        let question = link.ask(sn.clone());
        link.revoke(&Sn::parse("mqtt-lamp2").unwrap());
        link.come(&sn, &uid, &question);
        assert_eq!(put_out(&link), Vec::<Arc<str>>::new());
        assert!(link.here.contains_key(&sn));
    }

    #[test]
    fn each_question_of_a_node_that_is_asked_about_twice_hears_that_it_was_shut_out() {
        let (link, (sn, uid)) = (GatewayLink::new("mqtt"), lamp());
        let questions = [link.ask(sn.clone()), link.ask(sn.clone())];
        link.revoke(&sn);
        for question in questions {
            link.come(&sn, &uid, &question);
            assert_eq!(put_out(&link), [Arc::clone(&uid)]);
        }
        assert!(link.here.is_empty() && link.asked().is_empty());
    }

    #[test]
    fn of_questions_that_nobody_waits_for_none_is_kept() {
        let link = GatewayLink::new("mqtt");
        for _ in 0..100 {
            drop(link.ask(lamp().0));
        }
        assert_eq!(link.asked().len(), 1);
    }

    #[test]
    fn whoever_is_shut_out_while_it_comes_is_put_out() {
        let (link, (sn, uid)) = (GatewayLink::new("mqtt"), lamp());
        let both = Barrier::new(2);
        for _ in 0..ROUNDS {
            let question = link.ask(sn.clone());
            thread::scope(|scope| {
                scope.spawn(|| {
                    both.wait();
                    link.revoke(&sn);
                });
                both.wait();
                link.come(&sn, &uid, &question);
            });
            assert_eq!(put_out(&link), [Arc::clone(&uid)]);
            assert!(link.here.is_empty());
        }
    }
}
