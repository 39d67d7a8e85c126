//! The nodes of one gateway: which there are, when each was last heard of, what it has said that is not told yet,
//! and which write is under way. A state machine without I/O and without a clock: each input comes with the present
//! instant, and what is to be done comes back as [`Action`]s, in the order in which it is to be done.
//!
//! Of one node at most one write is under way, and one report but when a write ends: what it has said until then is told
//! before that. What it says meanwhile is told with the next report, so a node that says much costs fewer commits, not more.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

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

/// The uid under which a node is known to its gateway.
pub type Uid = Arc<str>;

/// How a gateway's protocol tells that a write was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// By an answer, which the protocol passes on ([`Roster::written`]).
    Answer,
    /// By the node's next report of the resource, if one comes within so many milliseconds.
    Report {
        /// How long it is waited for.
        ms_max: u64,
    },
}

/// What a gateway's protocol is like.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// After how long a silence a node is out, in milliseconds; none where its connection tells.
    pub silence_ms_max: Option<u64>,
    /// How a write is confirmed.
    pub confirmation: Confirmation,
    /// Whether a report is a sign of life, too.
    pub reports_are_life: bool,
    /// For how long the reports of nodes are gathered that come close upon each other, in milliseconds, so that they are
    /// stored together; 0: each is told at once. One that comes alone is always told at once.
    pub together_ms: u64,
}

/// Whether a node may join, in the words of the port.
#[derive(Clone, Debug)]
pub enum Verdict<H> {
    /// It may, and is this to the port.
    Joined(H),
    /// Not now: somebody must say yes first, or has said no.
    Refused(&'static str),
    /// Nobody can tell now.
    Failed,
}

/// Whether a node that gave a sign of life was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was not, and is now.
    New,
    /// It was.
    Known,
    /// It was not, and there is no room for it.
    NoRoom,
}

/// Why a node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It said goodbye.
    Clean,
    /// Its connection was lost.
    Lost,
    /// It was silent for too long.
    Silent,
    /// It may no longer take part.
    Revoked,
    /// The gateway ends.
    Stopped,
}

/// What became of something that a node said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is stored, or may be forgotten: nobody wants it of this node.
    Done,
    /// It is refused for good.
    Refused,
    /// It can be said again later.
    Later,
}

/// A write that the port hands out: values in the order in which they are set, as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write<W> {
    /// Which one, in words of the port.
    pub id: W,
    /// Resource and value.
    pub values: Vec<(String, Arc<str>)>,
    /// When nobody wants it any more, in milliseconds of the roster's clock.
    pub until_ms: u64,
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A status code as of HTTP.
    pub status: u16,
    /// JSON text.
    pub body: String,
}

/// What a node answered to one value that was written, in the words of its protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has taken the value, and it is now this JSON text.
    Set(Arc<str>),
    /// It has refused it.
    Refused {
        /// A status code as of HTTP.
        status: u16,
        /// Why.
        text: String,
    },
    /// It has not answered.
    None,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action<H, W, A> {
    /// The port is asked whether a node may join; it answers to [`Roster::joined`].
    Ask {
        /// Which node.
        uid: Uid,
        /// Which of its appearances.
        visit: u64,
        /// Where it was heard.
        address: Arc<str>,
    },
    /// The port is told that a node is here.
    Came {
        /// Which node.
        uid: Uid,
        /// What it is to the port.
        node: H,
        /// Which of its appearances.
        visit: u64,
        /// Where it was heard.
        address: Arc<str>,
    },
    /// The port is told values; it answers to [`Roster::reported`].
    Report {
        /// Which node.
        uid: Uid,
        /// Which of its appearances.
        visit: u64,
        /// What it is to the port.
        node: H,
        /// Resource and value, as JSON text, in the order in which they came.
        values: Vec<(String, Arc<str>)>,
        /// Who waits to hear that it is done.
        acks: Vec<A>,
    },
    /// The port is told that a node is gone.
    Went {
        /// What it is to the port.
        node: H,
        /// Which of its appearances.
        visit: u64,
        /// Why.
        why: Gone,
    },
    /// The port is asked for the next write of a node; it answers to [`Roster::next_write`].
    NextWrite {
        /// Which node.
        uid: Uid,
        /// Which of its appearances.
        visit: u64,
        /// What it is to the port.
        node: H,
    },
    /// The port is told what came of a write.
    Finish {
        /// What the node is to the port.
        node: H,
        /// Which write.
        write: W,
        /// What came of it.
        outcome: Outcome,
    },
    /// The port is told that a node has begun anew.
    Reset {
        /// What it is to the port.
        node: H,
    },
    /// The protocol asks the node what it has.
    Discover {
        /// Which node.
        uid: Uid,
        /// Whether something that it said was not heard.
        is_missed: bool,
    },
    /// The protocol writes a value.
    Set {
        /// Which node.
        uid: Uid,
        /// Which of the writes of the roster: given back with the answer.
        number: u64,
        /// The resource.
        resource: String,
        /// The value, as JSON text.
        value: Arc<str>,
    },
    /// The protocol need not know the node any more.
    Forget {
        /// Which node.
        uid: Uid,
    },
    /// The protocol closes what it holds of the node.
    Close {
        /// Which node.
        uid: Uid,
    },
    /// Who waits hears what became of it.
    Tell {
        /// Who waits.
        ack: A,
        /// What became of it.
        heard: Heard,
    },
}

enum Stage<H> {
    /// The port is being asked. `is_changed`: since then somebody has changed who may join, and what it answers may be
    /// older than that.
    Asking { is_changed: bool },
    /// It may not join, and is not asked about again before this.
    Refused { until_ms: u64 },
    /// It is here.
    Joined(H),
}

/// The write that is under way.
struct UnderWay<W> {
    write: Write<W>,
    number: u64,
    /// Which of the values is being written.
    place: usize,
    attempts: u8,
    /// When it is over, for protocols whose nodes answer by a report.
    confirm_by_ms: Option<u64>,
    /// It was not answered, and waits until the node is heard of.
    is_waiting_for_life: bool,
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
    /// Those of whom a write waits for a confirmation or for a sign of life.
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
            self.go_on_writing(&uid, now_ms, actions);
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
        self.confirm(&uid, resource, value, now_ms, actions);
        if self.habits.reports_are_life {
            self.go_on_writing(&uid, now_ms, actions);
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
        now_ms: u64,
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
            confirm_by_ms: None,
            is_waiting_for_life: false,
            is_confirmed: true,
            done: Vec::new(),
        }));
        self.set(&uid, now_ms, actions);
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
                self.done(&uid, value, true, now_ms, actions);
            }
            Answer::Refused { status, text } => {
                let body = serde_json::json!({ "error": text }).to_string();
                self.finish(&uid, Outcome { status, body }, actions);
            }
            Answer::None => {
                under_way.number = 0;
                under_way.is_waiting_for_life = true;
                under_way.confirm_by_ms = None;
                self.writing.insert(Arc::clone(&uid));
                if under_way.attempts >= ATTEMPTS_MAX || under_way.write.until_ms <= now_ms {
                    self.finish(&uid, not_answered(), actions);
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
            if under_way.confirm_by_ms.is_some_and(|by_ms| by_ms <= now_ms) {
                let value = under_way.value();
                self.done(&uid, value, false, now_ms, actions);
            } else if under_way.is_waiting_for_life && under_way.write.until_ms <= now_ms {
                self.finish(&uid, not_answered(), actions);
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
    fn confirm(
        &mut self,
        uid: &Uid,
        resource: &str,
        value: Arc<str>,
        now_ms: u64,
        actions: &mut Actions<H, W, A>,
    ) {
        let under_way = self.nodes.get(uid).and_then(|node| node.write.as_ref());
        let is_it = under_way
            .is_some_and(|under_way| under_way.confirm_by_ms.is_some() && under_way.resource() == resource);
        if is_it {
            self.done(uid, value, true, now_ms, actions);
        }
    }

    /// One value of a write is done: the next one follows, or the write is over.
    fn done(
        &mut self,
        uid: &Uid,
        value: Arc<str>,
        is_confirmed: bool,
        now_ms: u64,
        actions: &mut Actions<H, W, A>,
    ) {
        let Some(under_way) = self.nodes.get_mut(uid).and_then(|node| node.write.as_mut()) else { return };
        under_way.done.push((under_way.resource().to_owned(), value));
        under_way.is_confirmed &= is_confirmed;
        under_way.place += 1;
        under_way.attempts = 0;
        under_way.confirm_by_ms = None;
        if under_way.place < under_way.write.values.len() {
            self.set(uid, now_ms, actions);
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
    fn set(&mut self, uid: &Uid, now_ms: u64, actions: &mut Actions<H, W, A>) {
        let Some(under_way) = self.nodes.get_mut(uid).and_then(|node| node.write.as_mut()) else { return };
        let Some((resource, value)) = under_way.write.values.get(under_way.place).cloned() else {
            // Without values there is nothing to do.
            self.finish(uid, Outcome { status: 200, body: "{}".to_owned() }, actions);
            return;
        };
        self.last_write += 1;
        under_way.number = self.last_write;
        under_way.attempts += 1;
        under_way.is_waiting_for_life = false;
        if let Confirmation::Report { ms_max } = self.habits.confirmation {
            under_way.confirm_by_ms = Some(now_ms + ms_max);
            self.writing.insert(Arc::clone(uid));
        }
        actions.push_back(Action::Set { uid: Arc::clone(uid), number: self.last_write, resource, value });
    }

    /// A node that is heard of gets what it has not answered to.
    fn go_on_writing(&mut self, uid: &Uid, now_ms: u64, actions: &mut Actions<H, W, A>) {
        let under_way = self.nodes.get(uid).and_then(|node| node.write.as_ref());
        if under_way.is_some_and(|under_way| under_way.is_waiting_for_life) {
            self.set(uid, now_ms, actions);
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
