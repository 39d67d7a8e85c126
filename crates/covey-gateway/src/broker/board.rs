//! What is known of nodes, and those who follow it: each is first told all of it, node by node, and then what changes. A
//! message for all is encoded once and shared.
//!
//! A follower that is being told all hears a change at once if it is one of a node that it was told of already; of the
//! others it will be told later, as they are then. So nobody hears of a node before it was told that the node is there,
//! and nothing waits for a follower but what it has not taken.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::broker::messages;

/// How many bytes may wait for a follower.
/// Limit for each web client of the node broker, and for a gateway's connection to its broker: it is cut off.
pub const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// How many bytes are told at once to one who is told all.
const ANSWER_BYTES: usize = 32 * 1024;
/// How many answers may wait for the one that is under way.
/// Limit for each follower: a further question is answered by those before it.
const ANSWERS_WAITING_MAX: usize = 64;
/// How many bytes the values may take that are known, names included.
/// Limit for the node broker: a value is told to those who follow, and not kept.
pub const VALUES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// How many values of a node are kept.
/// Limit for each node: a further one is told to those who follow, and not kept.
const VALUES_MAX: usize = 256;
/// About what a value takes beside its texts, in bytes.
const VALUE_FRAME_BYTES: usize = 64;
/// The place of a follower that was told all.
const LIVE: u64 = u64::MAX;

/// What is known of nodes, which have a key each.
pub struct Board<K> {
    state: Mutex<State<K>>,
}

struct State<K> {
    /// In the order in which they have appeared.
    nodes: BTreeMap<u64, Shown<K>>,
    by_key: HashMap<K, u64>,
    by_uid: HashMap<Arc<str>, u64>,
    last_appearance: u64,
    followers: BTreeMap<u64, Member>,
    last_follower: u64,
    bytes: usize,
}

/// A node that is there.
struct Shown<K> {
    key: K,
    uid: Arc<str>,
    /// In the order in which they are told.
    values: Vec<Value>,
}

struct Value {
    resource: Arc<str>,
    json: Arc<str>,
    version: i64,
}

/// A value as somebody has said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The resource.
    pub resource: Arc<str>,
    /// JSON text.
    pub json: Arc<str>,
    /// What has a lower version than what is known is no news.
    pub version: i64,
}

struct Member {
    line: Arc<Line>,
    /// Up to which appearance it was told all.
    told: u64,
}

/// What waits for a follower.
#[derive(Default)]
struct Line {
    waiting: Mutex<Waiting>,
    news: Notify,
    end: Notify,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    bytes: usize,
    is_cut: bool,
}

/// Messages that are told together.
#[derive(Clone)]
enum Batch {
    Shared(Arc<[Utf8Bytes]>, usize),
    One(Utf8Bytes),
}

impl Value {
    fn bytes(&self) -> usize {
        self.resource.len() + self.json.len() + VALUE_FRAME_BYTES
    }
}

/// Where a resource stands when a node is told of: what it is called before what it is, before what it says.
pub(super) fn rank(resource: &str) -> u8 {
    match resource {
        "ip" | "id" => 0,
        "protocol" => 1,
        _ => 2,
    }
}

impl<K: Clone + Eq + Hash> Default for Board<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> Board<K> {
    /// One without nodes.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            nodes: BTreeMap::new(),
            by_key: HashMap::new(),
            by_uid: HashMap::new(),
            last_appearance: 0,
            followers: BTreeMap::new(),
            last_follower: 0,
            bytes: 0,
        };
        Self { state: Mutex::new(state) }
    }

    /// Begins changes, which are told together when they are dropped.
    pub fn change(&self) -> Change<'_, K> {
        Change { state: self.lock(), messages: Vec::new(), bytes: 0 }
    }

    /// Which node has a uid.
    pub fn key_of(&self, uid: &str) -> Option<K> {
        let state = self.lock();
        state.by_uid.get(uid).and_then(|place| state.nodes.get(place)).map(|node| node.key.clone())
    }

    /// The nodes that are there.
    pub fn keys(&self) -> Vec<K> {
        self.lock().by_key.keys().cloned().collect()
    }

    /// How many followers there are.
    pub fn followers(&self) -> usize {
        self.lock().followers.len()
    }

    /// Begins to follow; nothing is told before the [question](Follower::ask) for all.
    pub fn follow(self: &Arc<Self>) -> Follower<K> {
        let line = Arc::<Line>::default();
        let mut state = self.lock();
        state.last_follower += 1;
        let number = state.last_follower;
        state.followers.insert(number, Member { line: Arc::clone(&line), told: 0 });
        Follower { board: Arc::clone(self), number, line, answer: None, questions: VecDeque::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // What it guards is whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn forget(&mut self, key: &K) -> Option<(u64, Arc<str>)> {
        let place = self.by_key.remove(key)?;
        let node = self.nodes.remove(&place)?;
        self.by_uid.remove(&node.uid);
        self.bytes -= node.values.iter().map(Value::bytes).sum::<usize>();
        Some((place, node.uid))
    }

    /// Keeps a value. Answers of which appearance and which uid it is, if it is news.
    fn keep(&mut self, key: &K, said: &Said) -> Option<(u64, Arc<str>)> {
        let place = *self.by_key.get(key)?;
        let node = self.nodes.get_mut(&place)?;
        let found = node.values.iter().position(|value| value.resource == said.resource);
        if found.is_some_and(|found| node.values[found].version > said.version) {
            return None;
        }
        let before = found.map_or(0, |found| node.values[found].bytes());
        let value = Value {
            resource: Arc::clone(&said.resource),
            json: Arc::clone(&said.json),
            version: said.version,
        };
        let bytes = self.bytes - before + value.bytes();
        if bytes > VALUES_BYTES_MAX || (found.is_none() && node.values.len() >= VALUES_MAX) {
            if let Some(found) = found {
                // What is not so any more is not told.
                node.values.remove(found);
                self.bytes -= before;
            }
            return Some((place, Arc::clone(&node.uid)));
        }
        self.bytes = bytes;
        match found {
            Some(found) => node.values[found] = value,
            None => {
                let place_of = rank(&value.resource);
                let at = node.values.partition_point(|other| rank(&other.resource) <= place_of);
                node.values.insert(at, value);
            }
        }
        Some((place, Arc::clone(&node.uid)))
    }
}

/// Changes that are told together.
pub struct Change<'a, K: Clone + Eq + Hash> {
    state: MutexGuard<'a, State<K>>,
    /// Each with the appearance of its node.
    messages: Vec<(u64, Utf8Bytes)>,
    bytes: usize,
}

impl<K: Clone + Eq + Hash> Change<'_, K> {
    fn tell(&mut self, appearance: u64, message: impl FnOnce() -> String) {
        if self.state.followers.is_empty() {
            return;
        }
        let message = message();
        self.bytes += message.len();
        self.messages.push((appearance, message.into()));
    }

    /// A node is there, with values that are known already. One that is there already is told of once more.
    pub fn appear(&mut self, key: &K, uid: &Arc<str>, known: &[Said]) {
        let place = match self.state.by_key.get(key).copied() {
            Some(place) if self.state.nodes.get(&place).is_some_and(|node| node.uid == *uid) => place,
            _ => {
                self.out(key);
                if let Some(other) = self.state.by_uid.get(uid).copied()
                    && let Some(other) = self.state.nodes.get(&other).map(|node| node.key.clone())
                {
                    // A uid has one node: the one that appeared last.
                    self.out(&other);
                }
                let state = &mut *self.state;
                state.last_appearance += 1;
                let place = state.last_appearance;
                state.by_key.insert(key.clone(), place);
                state.by_uid.insert(Arc::clone(uid), place);
                state
                    .nodes
                    .insert(place, Shown { key: key.clone(), uid: Arc::clone(uid), values: Vec::new() });
                place
            }
        };
        self.tell(place, || messages::new(uid, messages::ALL));
        let mut known: Vec<&Said> = known.iter().collect();
        known.sort_by_key(|said| rank(&said.resource));
        known.into_iter().for_each(|said| self.said(key, said));
    }

    /// A resource of a node is this. Of a node that is not there nothing is told, nor what is no news.
    pub fn said(&mut self, key: &K, said: &Said) {
        if let Some((place, uid)) = self.state.keep(key, said) {
            self.tell(place, || messages::update(&uid, &said.resource, &said.json, messages::ALL));
        }
    }

    /// A node has a resource no more.
    pub fn lost(&mut self, key: &K, resource: &str) {
        let state = &mut *self.state;
        let Some(node) = state.by_key.get(key).and_then(|place| state.nodes.get_mut(place)) else { return };
        if let Some(found) = node.values.iter().position(|value| *value.resource == *resource) {
            state.bytes -= node.values.remove(found).bytes();
        }
    }

    /// A node has begun anew: what it said is forgotten.
    pub fn reset(&mut self, key: &K) {
        let state = &mut *self.state;
        let Some(place) = state.by_key.get(key).copied() else { return };
        let Some(node) = state.nodes.get_mut(&place) else { return };
        let forgotten = node.values.extract_if(.., |value| rank(&value.resource) == 2);
        state.bytes -= forgotten.map(|value| value.bytes()).sum::<usize>();
        let uid = Arc::clone(&node.uid);
        self.tell(place, || messages::reset(&uid));
    }

    /// A node is gone.
    pub fn out(&mut self, key: &K) {
        if let Some((place, uid)) = self.state.forget(key) {
            self.tell(place, || messages::out(&uid));
        }
    }

    /// Tells a message about a node to one follower alone, if it was told of the node.
    pub fn tell_one(&mut self, follower: u64, key: &K, message: impl FnOnce(&str) -> String) {
        let state = &mut *self.state;
        let Some(place) = state.by_key.get(key) else { return };
        let Some(node) = state.nodes.get(place) else { return };
        let Some(member) = state.followers.get(&follower).filter(|member| member.told >= *place) else {
            return;
        };
        let message = message(&node.uid);
        member.line.push(message.len(), Batch::One(message.into()));
    }

    /// Whether a node is there.
    pub fn has(&self, key: &K) -> bool {
        self.state.by_key.contains_key(key)
    }

    /// What a resource of a node is, as far as it is known.
    pub fn value(&self, key: &K, resource: &str) -> Option<Arc<str>> {
        let node = self.state.by_key.get(key).and_then(|place| self.state.nodes.get(place))?;
        let value = node.values.iter().find(|value| *value.resource == *resource)?;
        Some(Arc::clone(&value.json))
    }
}

impl<K: Clone + Eq + Hash> Drop for Change<'_, K> {
    fn drop(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let messages = std::mem::take(&mut self.messages);
        let shared: Arc<[Utf8Bytes]> = messages.iter().map(|(_, message)| message.clone()).collect();
        let all = Batch::Shared(shared, self.bytes);
        self.state.followers.retain(|_, member| match member.told {
            0 => true,
            LIVE => member.line.push(self.bytes, all.clone()),
            told => messages
                .iter()
                .filter(|(appearance, _)| *appearance <= told)
                .all(|(_, message)| member.line.push(message.len(), Batch::One(message.clone()))),
        });
    }
}

impl Line {
    /// Answers false if there was no room: then nothing follows any more.
    fn push(&self, bytes: usize, batch: Batch) -> bool {
        let has_room = {
            let mut waiting = self.lock();
            // One batch may be larger than the bound; nobody can have taken it before it was there.
            let has_room = waiting.batches.is_empty() || waiting.bytes + bytes <= WAITING_BYTES_MAX;
            if has_room && !waiting.is_cut {
                waiting.bytes += bytes;
                waiting.batches.push_back(batch);
            } else {
                *waiting = Waiting { is_cut: true, ..Waiting::default() };
            }
            !waiting.is_cut
        };
        self.news.notify_one();
        if !has_room {
            self.end.notify_one();
        }
        has_room
    }

    fn take(&self, bytes_max: usize, into: &mut Vec<Utf8Bytes>) -> Taken {
        let mut waiting = self.lock();
        if waiting.is_cut {
            return Taken::Cut;
        }
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(batch) = waiting.batches.pop_front() else { return Taken::All };
            let of_batch = match &batch {
                Batch::Shared(messages, bytes) => {
                    into.extend(messages.iter().cloned());
                    *bytes
                }
                Batch::One(message) => {
                    into.push(message.clone());
                    message.len()
                }
            };
            waiting.bytes -= of_batch;
            bytes += of_batch;
        }
        Taken::Part
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What it guards is whole at every moment.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    All,
    Part,
    Cut,
}

/// More came than a follower took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSlow;

/// An answer that is under way.
struct Answer {
    dst: Arc<str>,
    /// Up to which appearance it has come.
    at: u64,
}

/// One who follows, until it is dropped.
pub struct Follower<K: Clone + Eq + Hash> {
    board: Arc<Board<K>>,
    number: u64,
    line: Arc<Line>,
    answer: Option<Answer>,
    questions: VecDeque<Arc<str>>,
}

impl<K: Clone + Eq + Hash> Follower<K> {
    /// Its number on the board.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Asks for all that is known: the answer is for `dst`.
    pub fn ask(&mut self, dst: &Arc<str>) {
        if self.answer.is_none() {
            self.answer = Some(Answer { dst: Arc::clone(dst), at: 0 });
            self.line.news.notify_one();
        } else if !self.questions.contains(dst) && self.questions.len() < ANSWERS_WAITING_MAX {
            self.questions.push_back(Arc::clone(dst));
        }
    }

    /// Waits until there may be something to tell, or it is cut off.
    pub async fn news(&self) {
        self.line.news.notified().await;
    }

    /// Waits until it is cut off.
    pub async fn until_cut(&self) {
        self.line.end.notified().await;
    }

    /// Takes what is to be told next, about so many bytes of it. Nothing, if there is nothing now.
    ///
    /// # Errors
    /// [`TooSlow`]: it was cut off.
    pub fn take(&mut self, bytes_max: usize, into: &mut Vec<Utf8Bytes>) -> Result<(), TooSlow> {
        let Some(answer) = &mut self.answer else {
            return match self.line.take(bytes_max, into) {
                Taken::Cut => Err(TooSlow),
                Taken::All => Ok(()),
                Taken::Part => {
                    self.line.news.notify_one();
                    Ok(())
                }
            };
        };
        // What happened before goes first. Nothing else happens while this is decided.
        let mut state = self.board.lock();
        match self.line.take(bytes_max, into) {
            Taken::Cut => return Err(TooSlow),
            Taken::All => {}
            Taken::Part => {
                self.line.news.notify_one();
                return Ok(());
            }
        }
        let (mut bytes, mut told) = (0, answer.at);
        let mut rest = state.nodes.range((Excluded(answer.at), Unbounded));
        let is_over = loop {
            let Some((place, node)) = rest.next() else { break true };
            let said = |value: &Value| messages::update(&node.uid, &value.resource, &value.json, &answer.dst);
            let all =
                std::iter::once(messages::new(&node.uid, &answer.dst)).chain(node.values.iter().map(said));
            into.extend(all.map(|message| {
                bytes += message.len();
                Utf8Bytes::from(message)
            }));
            told = *place;
            if bytes >= ANSWER_BYTES {
                break false;
            }
        };
        answer.at = told;
        if let Some(member) = state.followers.get_mut(&self.number) {
            let told = if is_over { LIVE } else { told };
            member.told = member.told.max(told);
        }
        drop(state);
        if is_over {
            self.answer = self.questions.pop_front().map(|dst| Answer { dst, at: 0 });
        }
        if self.answer.is_some() {
            self.line.news.notify_one();
        }
        Ok(())
    }
}

impl<K: Clone + Eq + Hash> Drop for Follower<K> {
    fn drop(&mut self) {
        self.board.lock().followers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::broker::messages::{FromGateway, from_gateway};

    type TestBoard = Board<u32>;

    fn text(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    fn said(resource: &str, json: &str, version: i64) -> Said {
        Said { resource: text(resource), json: text(json), version }
    }

    fn taken(follower: &mut Follower<u32>) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let mut some = Vec::new();
            follower.take(usize::MAX, &mut some).unwrap();
            if some.is_empty() && follower.answer.is_none() {
                return all;
            }
            all.extend(some.iter().map(ToString::to_string));
        }
    }

    #[test]
    fn a_follower_hears_nothing_before_it_asks_then_all_then_what_changes() {
        let board = Arc::new(TestBoard::new());
        board.change().appear(
            &1,
            &text("a"),
            &[said("led", "1", 1), said("protocol", r#""CoAP""#, 1), said("ip", r#""::1""#, 1)],
        );
        let mut follower = board.follow();
        board.change().said(&1, &said("led", "2", 2));
        assert!(taken(&mut follower).is_empty());
        follower.ask(&text("c"));
        let told = taken(&mut follower);
        let expected = [
            messages::new("a", "c"),
            messages::update("a", "ip", r#""::1""#, "c"),
            messages::update("a", "protocol", r#""CoAP""#, "c"),
            messages::update("a", "led", "2", "c"),
        ];
        assert_eq!(told, expected);
        {
            let mut change = board.change();
            change.said(&1, &said("led", "3", 3));
            change.said(&1, &said("led", "2", 2));
            change.reset(&1);
            change.out(&1);
            change.said(&1, &said("led", "4", 4));
        }
        assert_eq!(
            taken(&mut follower),
            [messages::update("a", "led", "3", "all"), messages::reset("a"), messages::out("a")]
        );
    }

    #[test]
    fn values_of_one_report_are_all_news_and_what_is_older_is_none() {
        let board = Arc::new(TestBoard::new());
        board.change().appear(&1, &text("a"), &[said("led", "1", 5)]);
        let mut follower = board.follow();
        follower.ask(&text("c"));
        taken(&mut follower);
        for (json, version) in [("0", 4), ("2", 6), ("3", 6), ("1", 5)] {
            board.change().said(&1, &said("led", json, version));
        }
        let told = ["2", "3"].map(|json| messages::update("a", "led", json, "all"));
        assert_eq!(taken(&mut follower), told);
    }

    #[test]
    fn a_reset_forgets_what_a_node_said_and_not_what_it_is() {
        let board = Arc::new(TestBoard::new());
        board.change().appear(&1, &text("a"), &[said("led", "1", 1), said("ip", r#""::1""#, 1)]);
        board.change().reset(&1);
        let mut follower = board.follow();
        follower.ask(&text("c"));
        assert_eq!(
            taken(&mut follower),
            [messages::new("a", "c"), messages::update("a", "ip", r#""::1""#, "c")]
        );
    }

    #[test]
    fn a_slow_follower_is_cut_off_and_nobody_else() {
        let board = Arc::new(TestBoard::new());
        board.change().appear(&1, &text("a"), &[]);
        let (mut slow, mut quick) = (board.follow(), board.follow());
        slow.ask(&text("s"));
        quick.ask(&text("q"));
        assert_eq!(taken(&mut slow).len() + taken(&mut quick).len(), 2);
        let large = format!("\"{}\"", "x".repeat(100_000));
        for version in 1..=12 {
            board.change().said(&1, &said("led", &large, version));
            assert_eq!(taken(&mut quick).len(), 1);
        }
        assert_eq!(slow.take(usize::MAX, &mut Vec::new()), Err(TooSlow));
        assert_eq!(board.followers(), 1);
    }

    #[test]
    fn what_is_for_one_goes_to_one_that_knows_the_node() {
        let board = Arc::new(TestBoard::new());
        board.change().appear(&1, &text("a"), &[]);
        let (mut one, mut other) = (board.follow(), board.follow());
        let tell = |number| board.change().tell_one(number, &1, |uid| messages::update(uid, "led", "1", "c"));
        tell(one.number());
        one.ask(&text("c"));
        other.ask(&text("d"));
        assert_eq!(taken(&mut one), [messages::new("a", "c")]);
        tell(one.number());
        assert_eq!(taken(&mut one), [messages::update("a", "led", "1", "c")]);
        assert_eq!(taken(&mut other), [messages::new("a", "d")]);
    }

    #[test]
    fn a_uid_has_one_node() {
        let board = Arc::new(TestBoard::new());
        let mut follower = board.follow();
        follower.ask(&text("c"));
        taken(&mut follower);
        board.change().appear(&1, &text("a"), &[]);
        board.change().appear(&1, &text("a"), &[]);
        board.change().appear(&2, &text("a"), &[]);
        board.change().appear(&2, &text("b"), &[]);
        let (new, out) = (|uid| messages::new(uid, "all"), messages::out);
        assert_eq!(taken(&mut follower), [new("a"), new("a"), out("a"), new("a"), out("a"), new("b")]);
        assert_eq!((board.key_of("b"), board.key_of("a")), (Some(2), None));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Appear(u32),
        Said(u32, u8),
        Out(u32),
        Reset(u32),
        Ask(usize),
        Take(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..4_u32).prop_map(Step::Appear),
            (0..4_u32, 0..3_u8).prop_map(|(node, resource)| Step::Said(node, resource)),
            (0..4_u32).prop_map(Step::Out),
            (0..4_u32).prop_map(Step::Reset),
            (0..2_usize).prop_map(Step::Ask),
            (0..2_usize).prop_map(Step::Take),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: nobody hears of a node before its `new`, values of a resource never go
        /// back, and in the end who has asked knows what the board knows.
        #[test]
        fn who_follows_knows_what_the_board_knows(steps in proptest::collection::vec(step(), 1..120)) {
            let board = Arc::new(TestBoard::new());
            let mut followers = [board.follow(), board.follow()];
            let mut known: [Option<BTreeMap<String, BTreeMap<String, i64>>>; 2] = [None, None];
            let mut version = 0;
            let ends = [Step::Take(0), Step::Take(1)];
            for step in steps.into_iter().chain(ends) {
                version += 1;
                match step {
                    Step::Appear(node) => board.change().appear(&node, &text(&node.to_string()), &[]),
                    Step::Said(node, resource) => {
                        board.change().said(&node, &said(&format!("r{resource}"), &version.to_string(), version));
                    }
                    Step::Out(node) => board.change().out(&node),
                    Step::Reset(node) => board.change().reset(&node),
                    Step::Ask(which) => {
                        followers[which].ask(&text("c"));
                        known[which].get_or_insert_default();
                    }
                    Step::Take(which) => {
                        for message in taken(&mut followers[which]) {
                            let Some(known) = &mut known[which] else { unreachable!("it has not asked") };
                            match from_gateway(&message).unwrap() {
                                FromGateway::New { uid, .. } => drop(known.entry(uid).or_default()),
                                FromGateway::Update { uid, endpoint, data, .. } => {
                                    let data: i64 = data.parse().unwrap();
                                    let node = known.get_mut(&uid);
                                    prop_assert!(node.is_some(), "an update before its new");
                                    let before = node.unwrap().insert(endpoint, data);
                                    prop_assert!(before.is_none_or(|before| before <= data));
                                }
                                FromGateway::Out { uid } => prop_assert!(known.remove(&uid).is_some()),
                                FromGateway::Reset { uid } => known.get_mut(&uid).unwrap().clear(),
                                FromGateway::Alive => unreachable!("nobody says so"),
                            }
                        }
                    }
                }
            }
            let state = board.lock();
            let now: BTreeMap<String, BTreeMap<String, i64>> = state.nodes.values().map(|node| {
                let values = node.values.iter().map(|value| (value.resource.to_string(), value.version));
                (node.uid.to_string(), values.collect())
            }).collect();
            for known in known.iter().flatten() {
                prop_assert_eq!(known, &now);
            }
            let bytes: usize = state.nodes.values().flat_map(|node| &node.values).map(Value::bytes).sum();
            prop_assert_eq!(state.bytes, bytes);
            drop(state);
        }
    }
}
