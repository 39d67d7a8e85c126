//! The nodes of one gateway: which there are, when each was last heard of, what it has said that is not told yet,
//! and which write is under way. A state machine without I/O and without a clock: each input comes with the present
//! instant, and what is to be done comes back as [`Action`]s, in the order in which it is to be done.
//!
//! Of one node at most one write is under way, and one report but when a write ends: what it has said until then is told
//! before that. What it says meanwhile is told with the next report, so a node that says much costs fewer commits, not more.

mod words;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::value::text_of;

pub use words::{Action, Answer, Confirmation, Gone, Habits, Heard, Outcome, Seen, Uid, Verdict, Write};

/// How many nodes a gateway knows at once.
/// Limit for each gateway: a newcomer is not heard, and counted.
pub const NODES_MAX: usize = 100_000;
/// How many nodes the port is asked about at a time: who is new costs more than who is known.
/// Limit for each gateway: others wait.
pub const ASKED_MAX: usize = 16;
/// How many nodes the port is asked about in a second.
/// Limit for each gateway: others wait.
pub const ASKED_A_SECOND_MAX: usize = 500;
/// How many values of a node wait to be told.
/// Limit for each node: of a resource that waits the newest value wins, and a new one is refused.
pub const VALUES_WAITING_MAX: usize = 256;
/// How many bytes of a node's values wait to be told, names included.
/// Limit for each node: a value is refused.
pub const VALUES_WAITING_BYTES_MAX: usize = 256 * 1024;
/// How many bytes of all nodes' values wait to be told, names and what each takes beside them included; of nodes that
/// have not joined, half of it.
/// Limit for each gateway: a value is refused, but of a node that has joined and of which no report, or a write, is under way.
pub const VALUES_WAITING_OF_ALL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a value that waits takes beside its bytes and its resource's, in bytes, about.
const VALUE_WAITING_BYTES: usize = 192;
/// How many may wait to hear what became of values of one node.
/// Limit for each node: a further one's value is refused.
pub const ACKS_WAITING_MAX: usize = 256;
/// How long a node that may not join is not asked about again, in milliseconds, unless something changed.
const REFUSED_MS: u64 = 30_000;
/// How long the port is left alone after it failed, in milliseconds.
const FAILED_MS: u64 = 1_000;
/// How often a write is handed to a node that does not answer.
/// Limit for each write: 504.
const ATTEMPTS_MAX: u8 = 3;
/// How long a node may be connected and not listen for a value that waits to be written, in milliseconds: nodes subscribe
/// after they have said that they are there.
/// Limit for each write: 409.
const DEAF_MS_MAX: u64 = 10_000;

enum Stage<H> {
    /// The port is being asked. `is_changed`: since then somebody has changed who may join, and what it answers may be
    /// older than that.
    Asking { is_changed: bool },
    /// It may not join, and is not asked about again before this.
    Refused { until_ms: u64 },
    /// It is here.
    Joined(H),
}

/// What a value waits for that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// For the protocol: it has not left, or the node answers by itself.
    Protocol,
    /// It has left, and the node's report is waited for until then.
    Report { by_ms: u64 },
    /// It was not answered, and waits until the node is heard of.
    Life,
    /// The node does not listen. It is tried again when it does, and then, or when the node is heard of.
    Ears { again_ms: Option<u64> },
}

/// The write that is under way.
struct UnderWay<W> {
    write: Write<W>,
    number: u64,
    /// Which of the values is being written.
    place: usize,
    attempts: u8,
    waits: Waits,
    /// The node has begun to listen to something since the protocol was handed the value.
    may_listen: bool,
    /// What the node has said of the resource before it was known that the value has left: its answer may come first.
    early: Option<Arc<str>>,
    /// Whether every value so far was confirmed.
    is_confirmed: bool,
    /// What the values are now.
    done: Vec<(String, Arc<str>)>,
}

struct Node<H, W, A> {
    visit: u64,
    address: Arc<str>,
    heard_ms: u64,
    stage: Stage<H>,
    waiting: Vec<(String, Arc<str>)>,
    waiting_bytes: usize,
    acks: Vec<A>,
    /// How many reports are under way: one, and those that a write which is over did not wait for.
    reporting: u32,
    /// Something that it said was not heard, since it might not join.
    is_missed: bool,
    write: Option<Box<UnderWay<W>>>,
    is_write_asked: bool,
    is_write_wanted: bool,
    /// Since when it is known not to listen for a value that was to be written.
    deaf_since_ms: Option<u64>,
}

/// The nodes of one gateway. `H` is what a node is to the port, `W` what a write is, `A` who waits for an answer.
pub struct Roster<H, W, A> {
    habits: Habits,
    nodes: HashMap<Uid, Node<H, W, A>>,
    last_visit: u64,
    last_write: u64,
    /// How many nodes the port is being asked about, and those that wait for that.
    asked: usize,
    /// How many it was asked about in which second.
    asked_in: (u64, usize),
    to_ask: VecDeque<(Uid, u64)>,
    /// How many bytes of all nodes wait to be told.
    waiting_bytes: usize,
    /// Those of whom a write waits for something that time may end.
    writing: HashSet<Uid>,
    not_heard: u64,
}

type Actions<H, W, A> = VecDeque<Action<H, W, A>>;

impl<H: Clone, W: Clone, A> Roster<H, W, A> {
    /// One without nodes.
    #[must_use]
    pub fn new(habits: Habits) -> Self {
        Self {
            habits,
            nodes: HashMap::new(),
            last_visit: 0,
            last_write: 0,
            asked: 0,
            asked_in: (0, 0),
            to_ask: VecDeque::new(),
            waiting_bytes: 0,
            writing: HashSet::new(),
            not_heard: 0,
        }
    }

    /// How many nodes there are, those that may not join included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many newcomers were not heard since there was no room.
    #[must_use]
    pub fn not_heard(&self) -> u64 {
        self.not_heard
    }

    /// Where a node was last heard.
    #[must_use]
    pub fn address(&self, uid: &str) -> Option<&Arc<str>> {
        self.nodes.get(uid).map(|node| &node.address)
    }

    /// All uids.
    pub fn uids(&self) -> impl Iterator<Item = &Uid> {
        self.nodes.keys()
    }

    /// A node gave a sign of life.
    pub fn seen(&mut self, uid: &str, address: &str, now_ms: u64, actions: &mut Actions<H, W, A>) -> Seen {
        if let Some((uid, node)) = known(&mut self.nodes, uid) {
            node.heard_ms = now_ms;
            if *node.address != *address {
                node.address = Arc::from(address);
            }
            if let Stage::Refused { until_ms } = node.stage
                && until_ms <= now_ms
            {
                node.stage = Stage::Asking { is_changed: false };
                let visit = node.visit;
                self.ask_later(Arc::clone(&uid), visit);
                self.ask_next(now_ms, actions);
            }
            self.go_on_writing(&uid, actions);
            return Seen::Known;
        }
        if self.nodes.len() >= NODES_MAX {
            self.not_heard += 1;
            return Seen::NoRoom;
        }
        self.last_visit += 1;
        let (uid, address, visit): (Uid, Arc<str>, u64) =
            (Arc::from(uid), Arc::from(address), self.last_visit);
        let node = Node {
            visit,
            address,
            heard_ms: now_ms,
            stage: Stage::Asking { is_changed: false },
            waiting: Vec::new(),
            waiting_bytes: 0,
            acks: Vec::new(),
            reporting: 0,
            is_missed: false,
            write: None,
            is_write_asked: false,
            is_write_wanted: false,
            deaf_since_ms: None,
        };
        self.nodes.insert(Arc::clone(&uid), node);
        self.ask_later(uid, visit);
        self.ask_next(now_ms, actions);
        Seen::New
    }

    /// Has a node wait to be asked about.
    fn ask_later(&mut self, uid: Uid, visit: u64) {
        // Who has gone meanwhile is not asked about. There shall not be more of those than of the others.
        if self.to_ask.len() >= 2 * self.nodes.len().max(ASKED_MAX) {
            let nodes = &self.nodes;
            self.to_ask.retain(|(uid, visit)| nodes.get(uid).is_some_and(|node| node.visit == *visit));
        }
        self.to_ask.push_back((uid, visit));
    }

    /// Asks about those that wait for it, as far as the bound allows.
    fn ask_next(&mut self, now_ms: u64, actions: &mut Actions<H, W, A>) {
        let second = now_ms / 1_000;
        if self.asked_in.0 != second {
            self.asked_in = (second, 0);
        }
        while self.asked < ASKED_MAX
            && self.asked_in.1 < ASKED_A_SECOND_MAX
            && let Some((uid, visit)) = self.to_ask.pop_front()
        {
            let Some((uid, node)) = current(&mut self.nodes, &uid, visit) else { continue };
            self.asked += 1;
            self.asked_in.1 += 1;
            node.stage = Stage::Asking { is_changed: false };
            actions.push_back(Action::Ask { uid, visit, address: Arc::clone(&node.address) });
        }
    }

    /// The port has answered whether a node may join.
    pub fn joined(
        &mut self,
        uid: &str,
        visit: u64,
        verdict: Verdict<H>,
        now_ms: u64,
        actions: &mut Actions<H, W, A>,
    ) {
        self.asked -= 1;
        self.ask_next(now_ms, actions);
        let Some((uid, node)) = current(&mut self.nodes, uid, visit) else {
            // It has gone meanwhile: nothing of it was told.
            return;
        };
        match verdict {
            Verdict::Joined(handle) => {
                node.stage = Stage::Joined(handle.clone());
                let address = Arc::clone(&node.address);
                actions.push_back(Action::Came { uid: Arc::clone(&uid), node: handle, visit, address });
                let is_missed = std::mem::take(&mut node.is_missed);
                actions.push_back(Action::Discover { uid: Arc::clone(&uid), is_missed });
                tell_next(&uid, node, &mut self.waiting_bytes, actions);
                node.is_write_wanted = true;
                ask_for_write(&uid, node, actions);
            }
            Verdict::Refused(_) | Verdict::Failed => {
                let is_failed = matches!(verdict, Verdict::Failed);
                let pause_ms = if is_failed { FAILED_MS } else { REFUSED_MS };
                let heard = if is_failed { Heard::Later } else { Heard::Done };
                let is_changed = matches!(node.stage, Stage::Asking { is_changed: true });
                node.stage = Stage::Refused { until_ms: now_ms + pause_ms };
                node.is_missed = true;
                forget_waiting(node, &mut self.waiting_bytes, heard, actions);
                if is_changed {
                    node.stage = Stage::Asking { is_changed: false };
                    self.ask_later(uid, visit);
                    self.ask_next(now_ms, actions);
                }
            }
        }
    }

    /// Somebody has changed who may join: those that may not are asked about again at once, and so are those about whom the
    /// port is being asked if it says that they may not. Who was shut out is told by [`Roster::revoked`].
    pub fn ask_again(&mut self, now_ms: u64, actions: &mut Actions<H, W, A>) {
        let mut asked = Vec::new();
        for (uid, node) in &mut self.nodes {
            match &mut node.stage {
                Stage::Asking { is_changed } => *is_changed = true,
                Stage::Refused { .. } => {
                    node.stage = Stage::Asking { is_changed: false };
                    asked.push((Arc::clone(uid), node.visit));
                }
                Stage::Joined(_) => {}
            }
        }
        asked.into_iter().for_each(|(uid, visit)| self.ask_later(uid, visit));
        self.ask_next(now_ms, actions);
    }

    /// A node has said what a resource is, as JSON text. Of a node that is not known nothing is heard.
    pub fn said(
        &mut self,
        uid: &str,
        resource: &str,
        value: Arc<str>,
        ack: Option<A>,
        now_ms: u64,
        actions: &mut Actions<H, W, A>,
    ) {
        let Some((uid, node)) = known(&mut self.nodes, uid) else {
            tell(ack, Heard::Done, actions);
            return;
        };
        if self.habits.reports_are_life {
            node.heard_ms = now_ms;
        }
        if matches!(node.stage, Stage::Refused { .. }) {
            tell(ack, Heard::Done, actions);
            return;
        }
        let bytes = resource.len() + value.len();
        let has_joined = matches!(node.stage, Stage::Joined(_));
        // What is told at once does not wait: whatever others say, a node is heard that has joined. So is what comes of a
        // write.
        let is_told_at_once = has_joined && (node.reporting == 0 || node.write.is_some());
        let of_all_max =
            if has_joined { VALUES_WAITING_OF_ALL_BYTES_MAX } else { VALUES_WAITING_OF_ALL_BYTES_MAX / 2 };
        let is_too_much_of_all = self.waiting_bytes + bytes + VALUE_WAITING_BYTES > of_all_max;
        let is_one_ack_too_many = ack.is_some() && node.acks.len() >= ACKS_WAITING_MAX;
        if is_one_ack_too_many || (is_too_much_of_all && !is_told_at_once) {
            // It is asked again for all that it has when it joins.
            node.is_missed |= !has_joined;
            tell(ack, Heard::Later, actions);
            return;
        }
        let is_full = node.waiting.len() >= VALUES_WAITING_MAX;
        let is_too_much = node.waiting_bytes + bytes > VALUES_WAITING_BYTES_MAX;
        if is_full || is_too_much {
            let older = node.waiting.iter_mut().rev().find(|(name, _)| name == resource);
            match older {
                Some((_, older)) if value.len() <= older.len() || !is_too_much => {
                    node.waiting_bytes = node.waiting_bytes - older.len() + value.len();
                    self.waiting_bytes = self.waiting_bytes - older.len() + value.len();
                    *older = Arc::clone(&value);
                }
                _ => {
                    tell(ack, Heard::Later, actions);
                    return;
                }
            }
        } else {
            node.waiting_bytes += bytes;
            self.waiting_bytes += bytes + VALUE_WAITING_BYTES;
            node.waiting.push((resource.to_owned(), Arc::clone(&value)));
        }
        node.acks.extend(ack);
        tell_next(&uid, node, &mut self.waiting_bytes, actions);
        self.confirm(&uid, resource, value, actions);
        if self.habits.reports_are_life {
            self.go_on_writing(&uid, actions);
        }
    }

    /// The port has stored what it was told, or has not.
    pub fn reported(&mut self, uid: &str, visit: u64, actions: &mut Actions<H, W, A>) {
        if let Some((uid, node)) = current(&mut self.nodes, uid, visit) {
            node.reporting = node.reporting.saturating_sub(1);
            tell_next(&uid, node, &mut self.waiting_bytes, actions);
        }
    }

    /// A node has begun anew: what it is is asked again.
    pub fn reset(&mut self, uid: &str, actions: &mut Actions<H, W, A>) {
        if let Some((uid, node)) = self.nodes.get_key_value(uid)
            && let Stage::Joined(handle) = &node.stage
        {
            actions.push_back(Action::Reset { node: handle.clone() });
            actions.push_back(Action::Discover { uid: Arc::clone(uid), is_missed: true });
        }
    }

    /// It is not known what a node has: it is asked again.
    pub fn discover_again(&self, uid: &str, actions: &mut Actions<H, W, A>) {
        if let Some((uid, node)) = self.nodes.get_key_value(uid)
            && matches!(node.stage, Stage::Joined(_))
        {
            actions.push_back(Action::Discover { uid: Arc::clone(uid), is_missed: true });
        }
    }

    /// Whether what a node says is kept, or may be once it has joined.
    #[must_use]
    pub fn is_heard(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| !matches!(node.stage, Stage::Refused { .. }))
    }

    /// A node is gone.
    pub fn gone(&mut self, uid: &str, why: Gone, actions: &mut Actions<H, W, A>) {
        let Some((uid, mut node)) = self.nodes.remove_entry(uid) else { return };
        self.writing.remove(&uid);
        match &node.stage {
            Stage::Joined(handle) => {
                let handle = handle.clone();
                if !node.waiting.is_empty() {
                    let values = take_waiting(&mut node, &mut self.waiting_bytes);
                    let acks = std::mem::take(&mut node.acks);
                    let (uid, visit) = (Arc::clone(&uid), node.visit);
                    actions.push_back(Action::Report { uid, visit, node: handle.clone(), values, acks });
                }
                // A write that is under way is handed out again when the node comes back.
                actions.push_back(Action::Went { node: handle, visit: node.visit, why });
            }
            Stage::Asking { .. } | Stage::Refused { .. } => {
                forget_waiting(&mut node, &mut self.waiting_bytes, Heard::Later, actions)
            }
        }
        actions.push_back(Action::Forget { uid });
    }

    /// All nodes are gone: the gateway ends, or the port has lost sight of all.
    pub fn all_gone(&mut self, why: Gone, actions: &mut Actions<H, W, A>) {
        let uids: Vec<Uid> = self.nodes.keys().map(Arc::clone).collect();
        uids.iter().for_each(|uid| self.gone(uid, why, actions));
    }

    /// A node may no longer take part: the protocol closes what it holds, and the port is asked when it comes again.
    pub fn revoked(&mut self, uid: &str, actions: &mut Actions<H, W, A>) {
        if let Some((uid, _)) = self.nodes.get_key_value(uid) {
            let uid = Arc::clone(uid);
            self.gone(&uid, Gone::Revoked, actions);
            actions.push_back(Action::Close { uid });
        }
    }

    /// There is something to write to a node.
    pub fn write_wanted(&mut self, uid: &str, actions: &mut Actions<H, W, A>) {
        if let Some((uid, node)) = known(&mut self.nodes, uid) {
            node.is_write_wanted = true;
            ask_for_write(&uid, node, actions);
        }
    }

    /// The port hands out a write, or has none.
    ///
    /// A write that comes too late, for a visit that is over, is left: the port hands it out again.
    pub fn next_write(
        &mut self,
        uid: &str,
        visit: u64,
        write: Option<Write<W>>,
        actions: &mut Actions<H, W, A>,
    ) {
        let Some((uid, node)) = current(&mut self.nodes, uid, visit) else { return };
        node.is_write_asked = false;
        let Some(write) = write else {
            ask_for_write(&uid, node, actions);
            return;
        };
        // There may be more behind it.
        node.is_write_wanted = true;
        node.write = Some(Box::new(UnderWay {
            write,
            number: 0,
            place: 0,
            attempts: 0,
            waits: Waits::Protocol,
            may_listen: false,
            early: None,
            is_confirmed: true,
            done: Vec::new(),
        }));
        self.set(&uid, actions);
    }

    /// A value that was to be written has left, or is handed over now: where nodes answer by a report, it is waited for
    /// from now on.
    pub fn sent(&mut self, uid: &str, number: u64, now_ms: u64, actions: &mut Actions<H, W, A>) {
        let Some((uid, node)) = known(&mut self.nodes, uid) else { return };
        let Some(under_way) = node.write.as_mut().filter(|write| write.number == number) else { return };
        let Confirmation::Report { ms_max } = self.habits.confirmation else { return };
        if under_way.waits != Waits::Protocol {
            return;
        }
        under_way.waits = Waits::Report { by_ms: now_ms + ms_max };
        let wanted = under_way.value();
        if let Some(early) = under_way.early.take().filter(|early| text_of(early) == text_of(&wanted)) {
            self.done(&uid, early, true, actions);
        }
    }

    /// A node listens to something that it did not: what waits for that is written.
    pub fn listens(&mut self, uid: &str, actions: &mut Actions<H, W, A>) {
        let Some((uid, node)) = known(&mut self.nodes, uid) else { return };
        let Some(under_way) = node.write.as_mut() else { return };
        match under_way.waits {
            Waits::Ears { .. } => self.set(&uid, actions),
            // The protocol may be about to say that nobody listened.
            Waits::Protocol | Waits::Report { .. } => under_way.may_listen = true,
            Waits::Life => {}
        }
    }

    /// Somebody listens to what may be for any node.
    pub fn all_listen(&mut self, actions: &mut Actions<H, W, A>) {
        let uids: Vec<Uid> = self.writing.iter().map(Arc::clone).collect();
        uids.iter().for_each(|uid| self.listens(uid, actions));
    }

    /// A node has answered to a value that was written, or has not.
    pub fn written(
        &mut self,
        uid: &str,
        number: u64,
        answer: Answer,
        now_ms: u64,
        actions: &mut Actions<H, W, A>,
    ) {
        let Some((uid, node)) = known(&mut self.nodes, uid) else { return };
        // An answer that comes late or twice is that of no write.
        let Some(under_way) = node.write.as_mut().filter(|write| write.number == number) else { return };
        match answer {
            Answer::Set(value) => {
                let resource = under_way.resource().to_owned();
                // Before the write is over: whoever learns of that finds the value.
                if self.habits.confirmation == Confirmation::Answer {
                    self.said(&uid, &resource, Arc::clone(&value), None, now_ms, actions);
                }
                self.done(&uid, value, true, actions);
            }
            Answer::Refused { status, text } => {
                let body = serde_json::json!({ "error": text }).to_string();
                self.finish(&uid, Outcome { status, body }, actions);
            }
            Answer::None => {
                under_way.number = 0;
                under_way.waits = Waits::Life;
                self.writing.insert(Arc::clone(&uid));
                if under_way.attempts >= ATTEMPTS_MAX || under_way.write.until_ms <= now_ms {
                    self.finish(&uid, not_answered(), actions);
                }
            }
            Answer::NotListening { connected_ms } => {
                under_way.number = 0;
                under_way.attempts = under_way.attempts.saturating_sub(1);
                let since_ms = *node.deaf_since_ms.get_or_insert(now_ms);
                let deaf_ms =
                    connected_ms.map(|connected_ms| connected_ms.min(now_ms.saturating_sub(since_ms)));
                let again_ms = deaf_ms.map(|deaf_ms| now_ms + DEAF_MS_MAX.saturating_sub(deaf_ms));
                under_way.waits = Waits::Ears { again_ms };
                self.writing.insert(Arc::clone(&uid));
                if std::mem::take(&mut under_way.may_listen) {
                    self.set(&uid, actions);
                } else if again_ms.is_some_and(|again_ms| again_ms <= now_ms) {
                    self.finish(&uid, not_listening(), actions);
                }
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64, actions: &mut Actions<H, W, A>) {
        self.ask_next(now_ms, actions);
        for uid in self.writing.iter().map(Arc::clone).collect::<Vec<_>>() {
            let Some(under_way) = self.nodes.get(&uid).and_then(|node| node.write.as_ref()) else {
                self.writing.remove(&uid);
                continue;
            };
            let is_over = under_way.write.until_ms <= now_ms;
            match under_way.waits {
                Waits::Report { by_ms } if by_ms <= now_ms => {
                    let value = under_way.value();
                    self.done(&uid, value, false, actions);
                }
                Waits::Protocol if is_over => self.give_back(&uid, actions),
                Waits::Life if is_over => self.finish(&uid, not_answered(), actions),
                Waits::Ears { .. } if is_over => self.finish(&uid, not_listening(), actions),
                Waits::Ears { again_ms: Some(again_ms) } if again_ms <= now_ms => {
                    self.set(&uid, actions);
                }
                Waits::Protocol | Waits::Report { .. } | Waits::Life | Waits::Ears { .. } => {}
            }
        }
        if let Some(silence_ms_max) = self.habits.silence_ms_max {
            let is_out = |node: &Node<H, W, A>| now_ms.saturating_sub(node.heard_ms) > silence_ms_max;
            let out: Vec<Uid> =
                self.nodes.iter().filter(|(_, node)| is_out(node)).map(|(uid, _)| Arc::clone(uid)).collect();
            out.iter().for_each(|uid| self.gone(uid, Gone::Silent, actions));
        }
    }

    /// A report may be what a write waits for.
    fn confirm(&mut self, uid: &Uid, resource: &str, value: Arc<str>, actions: &mut Actions<H, W, A>) {
        let under_way = self.nodes.get_mut(uid).and_then(|node| node.write.as_mut());
        let Some(under_way) = under_way.filter(|under_way| under_way.resource() == resource) else { return };
        match under_way.waits {
            Waits::Report { .. } => self.done(uid, value, true, actions),
            Waits::Protocol => under_way.early = Some(value),
            Waits::Life | Waits::Ears { .. } => {}
        }
    }

    /// One value of a write is done: the next one follows, or the write is over.
    fn done(&mut self, uid: &Uid, value: Arc<str>, is_confirmed: bool, actions: &mut Actions<H, W, A>) {
        let Some(node) = self.nodes.get_mut(uid) else { return };
        let Some(under_way) = node.write.as_mut() else { return };
        node.deaf_since_ms = None;
        under_way.done.push((under_way.resource().to_owned(), value));
        under_way.is_confirmed &= is_confirmed;
        under_way.place += 1;
        under_way.attempts = 0;
        if under_way.place < under_way.write.values.len() {
            self.set(uid, actions);
            return;
        }
        let body = object(&under_way.done);
        let outcome = if under_way.is_confirmed {
            Outcome { status: 200, body }
        } else {
            Outcome { status: 202, body: format!(r#"{{"sent":{body}}}"#) }
        };
        self.finish(uid, outcome, actions);
    }

    /// A write has not left for as long as it was wanted. Who is away or sleeps must not lose it: the port hands it out
    /// again if it is still wanted.
    fn give_back(&mut self, uid: &Uid, actions: &mut Actions<H, W, A>) {
        self.writing.remove(uid);
        let Some(node) = self.nodes.get_mut(uid) else { return };
        let Some(under_way) = node.write.take() else { return };
        actions.push_back(Action::Withdraw { uid: Arc::clone(uid), number: under_way.number });
        if let Stage::Joined(handle) = &node.stage {
            actions.push_back(Action::GiveBack { node: handle.clone(), write: under_way.write.id });
        }
        node.is_write_wanted = true;
        ask_for_write(uid, node, actions);
    }

    fn finish(&mut self, uid: &Uid, outcome: Outcome, actions: &mut Actions<H, W, A>) {
        self.writing.remove(uid);
        let Some(node) = self.nodes.get_mut(uid) else { return };
        let Some(under_way) = node.write.take() else { return };
        // Before it: whoever learns that the write is over finds the value, also while an older one is on its way.
        tell_waiting(uid, node, &mut self.waiting_bytes, actions);
        if let Stage::Joined(handle) = &node.stage {
            actions.push_back(Action::Finish { node: handle.clone(), write: under_way.write.id, outcome });
        }
        ask_for_write(uid, node, actions);
    }

    /// Hands the present value of a write to the protocol.
    fn set(&mut self, uid: &Uid, actions: &mut Actions<H, W, A>) {
        let Some(under_way) = self.nodes.get_mut(uid).and_then(|node| node.write.as_mut()) else { return };
        let Some((resource, value)) = under_way.write.values.get(under_way.place).cloned() else {
            // Without values there is nothing to do.
            self.finish(uid, Outcome { status: 200, body: "{}".to_owned() }, actions);
            return;
        };
        self.last_write += 1;
        under_way.number = self.last_write;
        under_way.attempts += 1;
        under_way.waits = Waits::Protocol;
        (under_way.may_listen, under_way.early) = (false, None);
        // A node that answers by itself is asked until its protocol gives up.
        if self.habits.confirmation != Confirmation::Answer {
            self.writing.insert(Arc::clone(uid));
        }
        actions.push_back(Action::Set { uid: Arc::clone(uid), number: self.last_write, resource, value });
    }

    /// A node that is heard of gets what it has not answered to.
    fn go_on_writing(&mut self, uid: &Uid, actions: &mut Actions<H, W, A>) {
        let under_way = self.nodes.get(uid).and_then(|node| node.write.as_ref());
        // One that is connected and does not listen is looked at when it does.
        if under_way
            .is_some_and(|under_way| matches!(under_way.waits, Waits::Life | Waits::Ears { again_ms: None }))
        {
            self.set(uid, actions);
        }
    }
}

impl<W> UnderWay<W> {
    fn resource(&self) -> &str {
        self.write.values.get(self.place).map_or("", |(resource, _)| resource)
    }

    fn value(&self) -> Arc<str> {
        self.write.values.get(self.place).map_or_else(|| Arc::from("null"), |(_, value)| Arc::clone(value))
    }
}

fn known<'a, H, W, A>(
    nodes: &'a mut HashMap<Uid, Node<H, W, A>>,
    uid: &str,
) -> Option<(Uid, &'a mut Node<H, W, A>)> {
    let uid = Arc::clone(nodes.get_key_value(uid)?.0);
    let node = nodes.get_mut(&uid)?;
    Some((uid, node))
}

fn current<'a, H, W, A>(
    nodes: &'a mut HashMap<Uid, Node<H, W, A>>,
    uid: &str,
    visit: u64,
) -> Option<(Uid, &'a mut Node<H, W, A>)> {
    known(nodes, uid).filter(|(_, node)| node.visit == visit)
}

/// Tells the port what waits, unless a report is under way.
fn tell_next<H: Clone, W, A>(
    uid: &Uid,
    node: &mut Node<H, W, A>,
    waiting_bytes: &mut usize,
    actions: &mut Actions<H, W, A>,
) {
    if node.reporting == 0 {
        tell_waiting(uid, node, waiting_bytes, actions);
    }
}

/// Tells the port what waits.
fn tell_waiting<H: Clone, W, A>(
    uid: &Uid,
    node: &mut Node<H, W, A>,
    waiting_bytes: &mut usize,
    actions: &mut Actions<H, W, A>,
) {
    let Stage::Joined(handle) = &node.stage else { return };
    if node.waiting.is_empty() {
        return;
    }
    node.reporting += 1;
    let handle = handle.clone();
    actions.push_back(Action::Report {
        uid: Arc::clone(uid),
        visit: node.visit,
        node: handle,
        values: take_waiting(node, waiting_bytes),
        acks: std::mem::take(&mut node.acks),
    });
}

/// What waits of a node, which waits no more.
fn take_waiting<H, W, A>(node: &mut Node<H, W, A>, waiting_bytes: &mut usize) -> Vec<(String, Arc<str>)> {
    *waiting_bytes -= node.waiting_bytes + node.waiting.len() * VALUE_WAITING_BYTES;
    node.waiting_bytes = 0;
    std::mem::take(&mut node.waiting)
}

/// Asks the port for a write, unless one is under way.
fn ask_for_write<H: Clone, W, A>(uid: &Uid, node: &mut Node<H, W, A>, actions: &mut Actions<H, W, A>) {
    let Stage::Joined(handle) = &node.stage else { return };
    if node.is_write_asked || node.write.is_some() || !node.is_write_wanted {
        return;
    }
    (node.is_write_asked, node.is_write_wanted) = (true, false);
    let (uid, visit, node) = (Arc::clone(uid), node.visit, handle.clone());
    actions.push_back(Action::NextWrite { uid, visit, node });
}

fn forget_waiting<H, W, A>(
    node: &mut Node<H, W, A>,
    waiting_bytes: &mut usize,
    heard: Heard,
    actions: &mut Actions<H, W, A>,
) {
    drop(take_waiting(node, waiting_bytes));
    actions.extend(std::mem::take(&mut node.acks).into_iter().map(|ack| Action::Tell { ack, heard }));
}

fn tell<H, W, A>(ack: Option<A>, heard: Heard, actions: &mut Actions<H, W, A>) {
    actions.extend(ack.map(|ack| Action::Tell { ack, heard }));
}

fn not_answered() -> Outcome {
    Outcome { status: 504, body: r#"{"error":"the node did not answer"}"#.to_owned() }
}

fn not_listening() -> Outcome {
    Outcome { status: 409, body: r#"{"error":"the node hears no writes of this resource"}"#.to_owned() }
}

/// A JSON object of values that are JSON text.
fn object(values: &[(String, Arc<str>)]) -> String {
    let members: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{}:{value}", serde_json::Value::String(name.clone())))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests;
