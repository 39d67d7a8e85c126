//! A gateway at work: its roster, the port and the protocol, each told what concerns it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use covey_core::twin::validate;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::node::{Action, Answer, Gone, Habits, Heard, Roster, Seen, Uid};
use crate::port::{Hint, Newcomer, Port, Report, Reported};

/// How often a gateway looks at what time has done, in milliseconds.
const TICK_MS: u64 = 1_000;
/// How many reports of nodes are told together.
/// Limit for each telling: they are told, and further ones are gathered anew.
const REPORTS_TOGETHER_MAX: usize = 128;
/// How many bytes their values may have.
/// Limit for each telling: they are told, and further ones are gathered anew.
const REPORTS_TOGETHER_BYTES_MAX: usize = 256 * 1024;

/// What a gateway asks its protocol to do. Nothing of it may wait: a protocol hands it to its own task.
pub trait Protocol: Send + Sync + 'static {
    /// Asks a node what it has; `is_missed` if something that it said was not heard. What it says comes by
    /// [`Gateway::said`].
    fn discover(&self, uid: &Arc<str>, is_missed: bool);

    /// Writes a value, which is JSON text. What the node answers comes by [`Gateway::written`], with the number; where
    /// nodes answer by a report, that the value leaves comes by [`Gateway::sent`].
    fn set(&self, uid: &Arc<str>, number: u64, resource: &str, value: &Arc<str>);

    /// A value that has not left is not to be sent any more. A protocol that sends each at once has nothing to do.
    fn withdraw(&self, _uid: &Arc<str>, _number: u64) {}

    /// A node is gone.
    fn forget(&self, uid: &Arc<str>);

    /// A node may no longer take part: what the protocol holds of it is closed.
    fn close(&self, uid: &Arc<str>);

    /// Whether nothing of a node stays when its connection ends.
    fn is_passing(&self, uid: &Arc<str>) -> bool;
}

/// Who waits to hear what became of something that a node said.
enum Ack {
    /// A task.
    Task(oneshot::Sender<Heard>),
    /// Somebody who is called, and neither waits nor asks the gateway.
    Call(Box<dyn FnOnce(Heard) + Send>),
}

impl Ack {
    fn tell(self, heard: Heard) {
        match self {
            // Whoever waited may be gone.
            Self::Task(waits) => drop(waits.send(heard)),
            Self::Call(call) => call(heard),
        }
    }
}

/// Reports that are to be told together, in the order in which they came.
struct Gathered<P: Port> {
    reports: Vec<Report<P::Node>>,
    bytes: usize,
    /// Of each of these nodes which, in which of its appearances, and who waits.
    waiting: Vec<(Uid, u64, Vec<Ack>)>,
    /// Whether some were told a short while ago: so what comes now is gathered until it is looked again.
    is_gathering: bool,
}

impl<P: Port> Gathered<P> {
    const fn new() -> Self {
        Self { reports: Vec::new(), bytes: 0, waiting: Vec::new(), is_gathering: false }
    }

    const fn is_full(&self) -> bool {
        self.reports.len() >= REPORTS_TOGETHER_MAX || self.bytes >= REPORTS_TOGETHER_BYTES_MAX
    }
}

type Actions<P> = VecDeque<Action<<P as Port>::Node, <P as Port>::Write, Ack>>;
type Nodes<P> = Roster<<P as Port>::Node, <P as Port>::Write, Ack>;

/// A gateway. Its methods may be called from wherever a protocol hears something; none of them waits.
pub struct Gateway<P: Port> {
    roster: Mutex<Nodes<P>>,
    /// Locked after the roster, if both are.
    gathered: Mutex<Gathered<P>>,
    together: Duration,
    port: Arc<P>,
    protocol: Mutex<Option<Weak<dyn Protocol>>>,
    began: Instant,
    /// What is under way at the port.
    tasks: TaskTracker,
    this: Weak<Self>,
}

impl<P: Port> Gateway<P> {
    /// One without nodes.
    #[must_use]
    pub fn new(port: Arc<P>, habits: Habits) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            roster: Mutex::new(Roster::new(habits)),
            gathered: Mutex::new(Gathered::new()),
            together: Duration::from_millis(habits.together_ms),
            port,
            protocol: Mutex::default(),
            began: Instant::now(),
            tasks: TaskTracker::new(),
            this: Weak::clone(this),
        })
    }

    /// Says which protocol the gateway speaks. What comes before that is not carried out.
    pub fn speak(&self, protocol: &Arc<impl Protocol>) {
        let protocol: Weak<dyn Protocol> = Arc::downgrade(protocol) as Weak<dyn Protocol>;
        *self.protocol.lock().unwrap_or_else(PoisonError::into_inner) = Some(protocol);
    }

    /// A node gave a sign of life.
    pub fn seen(&self, uid: &str, address: &str) -> Seen {
        self.act(|roster, now_ms, actions| roster.seen(uid, address, now_ms, actions))
    }

    /// A node has said what a resource is, as JSON text. What cannot be a value of a twin is left out.
    pub fn said(&self, uid: &str, resource: &str, value: Arc<str>) {
        if let Err(error) = validate(resource, &value) {
            tracing::warn!(client_id = uid, resource, %error, "a value of a node was left out");
            return;
        }
        self.act(|roster, now_ms, actions| roster.said(uid, resource, value, None, now_ms, actions));
    }

    /// The same, for who waits until it is stored; it is begun before this returns.
    pub fn begin_saying(&self, uid: &str, resource: &str, value: Arc<str>) -> oneshot::Receiver<Heard> {
        let (ack, heard) = oneshot::channel();
        self.say(uid, resource, value, Ack::Task(ack));
        heard
    }

    /// The same, for who is called when it is stored, once, and wherever that is known: the call must not wait, and not
    /// come back to the gateway. It costs less than a task.
    pub fn said_then(
        &self,
        uid: &str,
        resource: &str,
        value: Arc<str>,
        call: impl FnOnce(Heard) + Send + 'static,
    ) {
        self.say(uid, resource, value, Ack::Call(Box::new(call)));
    }

    fn say(&self, uid: &str, resource: &str, value: Arc<str>, ack: Ack) {
        if let Err(error) = validate(resource, &value) {
            tracing::warn!(client_id = uid, resource, %error, "a value of a node was refused");
            ack.tell(Heard::Refused);
            return;
        }
        self.act(|roster, now_ms, actions| roster.said(uid, resource, value, Some(ack), now_ms, actions));
    }

    /// A value that was to be written to a node has left. A protocol that hands it over at once says so just before, since
    /// the answer may come at once, too.
    pub fn sent(&self, uid: &str, number: u64) {
        self.act(|roster, now_ms, actions| roster.sent(uid, number, now_ms, actions));
    }

    /// Nodes listen to something that they did not.
    pub fn listen<'a>(&self, uids: impl IntoIterator<Item = &'a str>) {
        self.act(|roster, _, actions| uids.into_iter().for_each(|uid| roster.listens(uid, actions)));
    }

    /// Somebody listens to what may be for any node.
    pub fn all_listen(&self) {
        self.act(|roster, _, actions| roster.all_listen(actions));
    }

    /// A node has answered to a value that was written to it.
    pub fn written(&self, uid: &str, number: u64, answer: Answer) {
        self.act(|roster, now_ms, actions| roster.written(uid, number, answer, now_ms, actions));
    }

    /// A node has begun anew.
    pub fn reset(&self, uid: &str) {
        self.act(|roster, _, actions| roster.reset(uid, actions));
    }

    /// It is not known what a node has: it is asked again. To others nothing has changed.
    pub fn discover_again(&self, uid: &str) {
        self.act(|roster, _, actions| roster.discover_again(uid, actions));
    }

    /// Whether what a node says is kept, or may be once it has joined.
    pub fn is_heard(&self, uid: &str) -> bool {
        self.lock().is_heard(uid)
    }

    /// A node is gone.
    pub fn gone(&self, uid: &str, why: Gone) {
        self.act(|roster, _, actions| roster.gone(uid, why, actions));
    }

    /// Where a node was last heard.
    pub fn address(&self, uid: &str) -> Option<Arc<str>> {
        self.lock().address(uid).map(Arc::clone)
    }

    /// How many newcomers were not heard since there was no room.
    pub fn not_heard(&self) -> u64 {
        self.lock().not_heard()
    }

    /// How many nodes there are, those that may not join included.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hears what the port has to tell, and what time has done, until `stop`; then tells that all nodes are gone.
    pub async fn run(&self, stop: CancellationToken) {
        let mut tick = interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hint = self.port.next_hint();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = tick.tick() => self.act(|roster, now_ms, actions| roster.tick(now_ms, actions)),
                told = &mut hint => {
                    self.hear(told);
                    hint = self.port.next_hint();
                }
            }
        }
        self.act(|roster, _, actions| roster.all_gone(Gone::Stopped, actions));
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn hear(&self, hint: Hint) {
        self.act(|roster, now_ms, actions| match hint {
            Hint::Wanted(uids) => uids.iter().for_each(|uid| roster.write_wanted(uid, actions)),
            Hint::Revoked(uids) => uids.iter().for_each(|uid| roster.revoked(uid, actions)),
            Hint::AskAgain => roster.ask_again(now_ms, actions),
        });
    }

    fn lock(&self) -> MutexGuard<'_, Nodes<P>> {
        // What it guards is whole at every moment.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a step of the roster, and does what follows from it, in its order: the lock is held until each
    /// future of the port is begun.
    fn act<T>(&self, step: impl FnOnce(&mut Nodes<P>, u64, &mut Actions<P>) -> T) -> T {
        let mut actions = VecDeque::new();
        let now_ms = self.now_ms();
        let mut for_protocol = Vec::new();
        let done;
        {
            let mut roster = self.lock();
            done = step(&mut roster, now_ms, &mut actions);
            for action in actions {
                match action {
                    Action::Discover { .. }
                    | Action::Set { .. }
                    | Action::Withdraw { .. }
                    | Action::Forget { .. }
                    | Action::Close { .. } => {
                        for_protocol.push(action);
                    }
                    action => self.ask_port(action, now_ms),
                }
            }
        }
        if !for_protocol.is_empty() {
            let protocol = self.protocol.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(protocol) = protocol.and_then(|protocol| protocol.upgrade()) else { return done };
            for action in for_protocol {
                match action {
                    Action::Discover { uid, is_missed } => protocol.discover(&uid, is_missed),
                    Action::Set { uid, number, resource, value } => {
                        protocol.set(&uid, number, &resource, &value)
                    }
                    Action::Withdraw { uid, number } => protocol.withdraw(&uid, number),
                    Action::Forget { uid } => protocol.forget(&uid),
                    Action::Close { uid } => protocol.close(&uid),
                    _ => {}
                }
            }
        }
        done
    }

    fn ask_port(&self, action: Action<P::Node, P::Write, Ack>, now_ms: u64) {
        match action {
            Action::Ask { uid, visit, address } => {
                let protocol = self.protocol.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let protocol = protocol.and_then(|protocol| protocol.upgrade());
                let is_passing = protocol.is_some_and(|protocol| protocol.is_passing(&uid));
                let asked = self.port.join(Newcomer { uid: Arc::clone(&uid), address, is_passing });
                self.then(asked, move |gateway, verdict| {
                    gateway
                        .act(|roster, now_ms, actions| roster.joined(&uid, visit, verdict, now_ms, actions));
                });
            }
            Action::Came { uid, node, visit, address } => self.port.came(&uid, &node, visit, &address),
            Action::Reset { node } => {
                self.tell_gathered();
                self.port.reset(&node);
            }
            Action::Report { uid, visit, node, values, acks } => {
                self.gather(Report { node, values }, (uid, visit, acks));
            }
            // What it said was told before.
            Action::Went { node, visit, why } => {
                self.tell_gathered();
                self.then(self.port.went(&node, visit, why), |_, ()| {});
            }
            Action::NextWrite { uid, visit, node } => {
                let asked = self.port.next_write(&node, now_ms);
                self.then(asked, move |gateway, write| {
                    gateway.act(|roster, _, actions| roster.next_write(&uid, visit, write, actions));
                });
            }
            Action::Finish { node, write, outcome } => {
                self.tell_gathered();
                self.then(self.port.finish(&node, write, outcome), |_, ()| {});
            }
            Action::GiveBack { node, write } => self.port.given_back(&node, write),
            Action::Tell { ack, heard } => ack.tell(heard),
            Action::Discover { .. }
            | Action::Set { .. }
            | Action::Withdraw { .. }
            | Action::Forget { .. }
            | Action::Close { .. } => {}
        }
    }

    /// A report comes: it is told at once if none was a short while ago, else together with those that come soon.
    fn gather(&self, report: Report<P::Node>, waiting: (Uid, u64, Vec<Ack>)) {
        let mut gathered = self.gathered();
        gathered.bytes += report.values.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        gathered.reports.push(report);
        gathered.waiting.push(waiting);
        if !gathered.is_gathering || gathered.is_full() {
            self.tell(&mut gathered);
        }
        if !gathered.is_gathering && !self.together.is_zero() {
            gathered.is_gathering = true;
            let (this, together) = (Weak::clone(&self.this), self.together);
            self.tasks.spawn(async move {
                loop {
                    sleep(together).await;
                    if !this.upgrade().is_some_and(|gateway| gateway.goes_on_gathering()) {
                        return;
                    }
                }
            });
        }
    }

    /// Tells what was gathered for long enough; false if nothing came.
    fn goes_on_gathering(&self) -> bool {
        let mut gathered = self.gathered();
        gathered.is_gathering = !gathered.reports.is_empty();
        self.tell(&mut gathered);
        gathered.is_gathering
    }

    /// What was gathered is told before what follows.
    fn tell_gathered(&self) {
        self.tell(&mut self.gathered());
    }

    /// Tells the port what was gathered. The lock is held until the future is begun, so that what is begun later comes
    /// later.
    fn tell(&self, gathered: &mut Gathered<P>) {
        if gathered.reports.is_empty() {
            return;
        }
        gathered.bytes = 0;
        let reported = self.port.report(std::mem::take(&mut gathered.reports));
        let waiting = std::mem::take(&mut gathered.waiting);
        self.then(reported, move |gateway, reported| {
            // A port answers to each.
            let mut reported = reported.into_iter();
            let mut nodes = Vec::with_capacity(waiting.len());
            for (uid, visit, acks) in waiting {
                let heard = match reported.next() {
                    Some(Reported::Stored) => Heard::Done,
                    Some(Reported::Refused) => Heard::Refused,
                    Some(Reported::Later) | None => Heard::Later,
                };
                acks.into_iter().for_each(|ack| ack.tell(heard));
                nodes.push((uid, visit));
            }
            gateway.act(|roster, _, actions| {
                nodes.iter().for_each(|(uid, visit)| roster.reported(uid, *visit, actions));
            });
        });
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered<P>> {
        // What it guards is whole at every moment.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a future at once, and goes on with what comes of it.
    fn then<T: Send + 'static>(
        &self,
        mut future: crate::port::Later<T>,
        then: impl FnOnce(&Self, T) + Send + 'static,
    ) {
        let mut unwaked = std::task::Context::from_waker(std::task::Waker::noop());
        let this = Weak::clone(&self.this);
        // Begun here, so that what is done for a node keeps its order; the task polls it again and is woken then.
        let begun = future.as_mut().poll(&mut unwaked);
        self.tasks.spawn(async move {
            let done = match begun {
                std::task::Poll::Ready(done) => done,
                std::task::Poll::Pending => future.await,
            };
            if let Some(gateway) = this.upgrade() {
                then(&gateway, done);
            }
        });
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
pub(crate) mod tests;
