//! The channels of an app against a model that keeps nothing but who is subscribed to what, as a list.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use covey_gateway::pusher::channel::{Channel, Kind};
use covey_gateway::pusher::channels::{
    CHANNELS_PER_CONNECTION_MAX, CLIENT_EVENTS_PER_SECOND_MAX, CONNECTIONS_MAX, Channels, ConnectionId,
    Counted, Effect, HookEvent, MEMBERS_MAX, Member,
};
use covey_gateway::pusher::error::Refusal;
use covey_gateway::pusher::message::{EVENT_DATA_BYTES_MAX, from_client};
use proptest::prelude::*;
use serde_json::Value;

const NAMES: [&str; 5] = ["news", "private-a", "presence-a", "presence-b", "private-device-lamp"];

#[derive(Clone, Debug)]
enum Step {
    Connect(u64),
    Disconnect(u64),
    Subscribe(u64, usize, u8),
    Unsubscribe(u64, usize),
    Tell(u64, usize),
    Publish(usize, Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    let (connection, channel) = (0..5_u64, 0..NAMES.len());
    prop_oneof![
        connection.clone().prop_map(Step::Connect),
        connection.clone().prop_map(Step::Disconnect),
        (connection.clone(), channel.clone(), 0..3_u8)
            .prop_map(|(one, channel, user)| Step::Subscribe(one, channel, user)),
        (connection.clone(), channel.clone(), 0..3_u8)
            .prop_map(|(one, channel, user)| Step::Subscribe(one, channel, user)),
        (connection.clone(), channel.clone()).prop_map(|(one, channel)| Step::Unsubscribe(one, channel)),
        (connection.clone(), channel.clone()).prop_map(|(one, channel)| Step::Tell(one, channel)),
        (channel, proptest::option::of(connection)).prop_map(|(channel, but)| Step::Publish(channel, but)),
    ]
}

/// What somebody is told: to whom, which event, of which channel, and of which member if it is of one.
type Told = (u64, String, String, Option<String>);

#[derive(Default)]
struct Model {
    connected: BTreeSet<u64>,
    /// Connection, channel, member.
    subscriptions: Vec<(u64, usize, Option<u8>)>,
}

impl Model {
    fn of(&self, channel: usize) -> impl Iterator<Item = &(u64, usize, Option<u8>)> {
        self.subscriptions.iter().filter(move |one| one.1 == channel)
    }

    fn has(&self, one: u64, channel: usize) -> bool {
        self.of(channel).any(|subscription| subscription.0 == one)
    }

    fn members(&self, channel: usize) -> BTreeSet<u8> {
        self.of(channel).filter_map(|one| one.2).collect()
    }

    fn all(&self, channel: usize, but: Option<u64>) -> Vec<u64> {
        self.of(channel).map(|one| one.0).filter(|one| Some(*one) != but).collect()
    }

    /// What follows for others when the subscriptions become these.
    fn become_(&mut self, subscriptions: Vec<(u64, usize, Option<u8>)>) -> (Vec<Told>, Vec<String>) {
        let (mut told, mut hooks) = (Vec::new(), Vec::new());
        let before = Self { subscriptions: std::mem::take(&mut self.subscriptions), ..Self::default() };
        self.subscriptions = subscriptions;
        for (channel, name) in NAMES.iter().enumerate() {
            let (was, is) = (before.of(channel).count() > 0, self.of(channel).count() > 0);
            if !was && is {
                hooks.push(format!("channel_occupied {name}"));
            }
            if was && !is {
                hooks.push(format!("channel_vacated {name}"));
            }
            let (had, has) = (before.members(channel), self.members(channel));
            for (event, users) in
                [("member_added", has.difference(&had)), ("member_removed", had.difference(&has))]
            {
                for user in users {
                    hooks.push(format!("{event} {name} {user}"));
                    // Those who were there before and are there after.
                    for one in before.all(channel, None) {
                        if self.has(one, channel) {
                            let event = format!("pusher_internal:{event}");
                            told.push((one, event, (*name).to_owned(), Some(user.to_string())));
                        }
                    }
                }
            }
        }
        (told, hooks)
    }
}

fn member(channel: &Channel, user: u8) -> Option<Member> {
    (channel.kind() == Kind::Presence)
        .then(|| Member::parse(&format!(r#"{{"user_id":"{user}","user_info":{{"n":{user}}}}}"#)).unwrap())
}

fn told(effects: &[Effect]) -> Vec<Told> {
    let mut told = Vec::new();
    for effect in effects {
        let Effect::Send { to, text } = effect else { continue };
        assert!(!to.is_empty());
        let message: Value = serde_json::from_str(text).unwrap();
        let event = message["event"].as_str().unwrap();
        let user = match event {
            "pusher_internal:member_added" | "pusher_internal:member_removed" => {
                let data: Value = serde_json::from_str(message["data"].as_str().unwrap()).unwrap();
                Some(data["user_id"].as_str().unwrap().to_owned())
            }
            _ => None,
        };
        for one in to {
            told.push((
                one.0,
                event.to_owned(),
                message["channel"].as_str().unwrap().to_owned(),
                user.clone(),
            ));
        }
    }
    told.sort();
    told
}

fn hooks(effects: &[Effect]) -> Vec<String> {
    let hook = |effect: &Effect| match effect {
        Effect::Hook(HookEvent::ClientEvent { .. }) | Effect::Send { .. } => None,
        Effect::Hook(event) => {
            let json: Value = serde_json::to_value(event).unwrap();
            let user = json["user_id"].as_str().map(|user| format!(" {user}")).unwrap_or_default();
            Some(format!("{} {}{user}", json["name"].as_str().unwrap(), json["channel"].as_str().unwrap()))
        }
    };
    let mut hooks: Vec<String> = effects.iter().filter_map(hook).collect();
    hooks.sort();
    hooks
}

proptest! {
    /// Whoever is subscribed is told what happens in a channel, once, and nobody else is; presence and webhooks say what
    /// is so.
    #[test]
    fn channels_are_as_the_list_of_subscriptions_says(steps in prop::collection::vec(step(), 1..120)) {
        let mut channels = Channels::default();
        let mut model = Model::default();
        let all: Vec<Channel> = NAMES.iter().map(|name| Channel::parse(name).unwrap()).collect();
        // Time enough between two events that none comes too fast.
        for (now_ms, step) in (0_u64..).step_by(1_000).zip(steps) {
            let mut effects = Vec::new();
            let (mut expected, expected_hooks) = match step {
                Step::Connect(one) => {
                    if !model.connected.insert(one) {
                        continue;
                    }
                    channels.connect(ConnectionId(one), &Arc::from(format!("{one}.0")), now_ms).unwrap();
                    (vec![], vec![])
                }
                Step::Disconnect(one) => {
                    channels.disconnect(ConnectionId(one), &mut effects);
                    model.connected.remove(&one);
                    let left = model.subscriptions.iter().filter(|subscription| subscription.0 != one);
                    let left = left.copied().collect();
                    model.become_(left)
                }
                Step::Subscribe(one, channel, user) => {
                    let member = member(&all[channel], user);
                    let user = member.as_ref().map(|_| user);
                    channels.subscribe(ConnectionId(one), &all[channel], member, &mut effects).unwrap();
                    if !model.connected.contains(&one) {
                        (vec![], vec![])
                    } else {
                        let mut subscriptions = model.subscriptions.clone();
                        if !model.has(one, channel) {
                            subscriptions.push((one, channel, user));
                        }
                        let (mut told, hooks) = model.become_(subscriptions);
                        let event = "pusher_internal:subscription_succeeded".to_owned();
                        told.push((one, event, NAMES[channel].to_owned(), None));
                        (told, hooks)
                    }
                }
                Step::Unsubscribe(one, channel) => {
                    channels.unsubscribe(ConnectionId(one), &all[channel], &mut effects);
                    let mut left = model.subscriptions.clone();
                    left.retain(|subscription| (subscription.0, subscription.1) != (one, channel));
                    model.become_(left)
                }
                Step::Tell(one, channel) => {
                    let told = channels.client_event(
                        ConnectionId(one), &all[channel], "client-x", "{\"a\":1}", now_ms, &mut effects,
                    );
                    let may = model.has(one, channel) && all[channel].kind() != Kind::Public;
                    let expected = match (all[channel].is_ours(), model.connected.contains(&one), may) {
                        (true, ..) => Err(Refusal::OURS),
                        (_, false, _) | (.., true) => Ok(()),
                        _ => Err(Refusal::NOT_SUBSCRIBED),
                    };
                    prop_assert_eq!(&told, &expected);
                    let others = if may && expected.is_ok() { model.all(channel, Some(one)) } else { vec![] };
                    let name = NAMES[channel].to_owned();
                    let told = others.into_iter().map(|to| (to, "client-x".to_owned(), name.clone(), None));
                    (told.collect(), vec![])
                }
                Step::Publish(channel, but) => {
                    let socket_id = but.map(|one| format!("{one}.0"));
                    channels.publish(&all[channel], "e", "{}", socket_id.as_deref(), &mut effects);
                    let name = NAMES[channel].to_owned();
                    let told = model.all(channel, but).into_iter().map(|to| (to, "e".to_owned(), name.clone(), None));
                    (told.collect(), vec![])
                }
            };
            expected.sort();
            let mut expected_hooks = expected_hooks;
            expected_hooks.sort();
            prop_assert_eq!(told(&effects), expected);
            prop_assert_eq!(hooks(&effects), expected_hooks);
            prop_assert_eq!(channels.connections(), model.connected.len());
            for (number, channel) in all.iter().enumerate() {
                let counted = Counted {
                    subscriptions: model.of(number).count(),
                    users: model.members(number).len(),
                };
                prop_assert_eq!(channels.counted(channel), counted);
                let users: BTreeSet<String> = channels.members(channel).map(|id| id.to_string()).collect();
                let expected: BTreeSet<String> = model.members(number).iter().map(u8::to_string).collect();
                prop_assert_eq!(users, expected);
            }
            let occupied: BTreeMap<&str, Counted> =
                channels.occupied("presence-").map(|(channel, counted)| (channel.as_str(), counted)).collect();
            let expected = [2, 3].iter().filter(|number| model.of(**number).count() > 0).count();
            prop_assert_eq!(occupied.len(), expected);
        }
    }

    /// Whatever comes, it is understood or refused.
    #[test]
    fn any_text_is_a_message_or_none(text in "\\PC{0,200}") {
        let _ = from_client(&text);
        let _ = from_client(&format!(r#"{{"event":"pusher:subscribe","data":{text}}}"#));
        let _ = Member::parse(&text);
        let _ = Channel::parse(&text);
    }
}

fn subscribed(channels: &mut Channels, one: u64, name: &str, user: Option<u64>) -> Result<(), Refusal> {
    let member = user.map(|user| Member::parse(&format!(r#"{{"user_id":{user}}}"#)).unwrap());
    channels.subscribe(ConnectionId(one), &Channel::parse(name).unwrap(), member, &mut Vec::new())
}

#[test]
fn each_bound_has_its_answer() {
    let mut channels = Channels::default();
    for one in 0..CONNECTIONS_MAX as u64 {
        channels.connect(ConnectionId(one), &Arc::from(format!("{one}.0")), 0).unwrap();
    }
    let full = channels.connect(ConnectionId(u64::MAX), &Arc::from("0.1"), 0);
    assert_eq!(full, Err(Refusal::TOO_MANY));
    channels.disconnect(ConnectionId(7), &mut Vec::new());
    channels.connect(ConnectionId(7), &Arc::from("7.1"), 0).unwrap();
    for number in 0..CHANNELS_PER_CONNECTION_MAX {
        subscribed(&mut channels, 0, &format!("c{number}"), None).unwrap();
    }
    assert_eq!(subscribed(&mut channels, 0, "more", None), Err(Refusal::TOO_MANY_CHANNELS));
    assert_eq!(subscribed(&mut channels, 0, "c1", None), Ok(()), "it is subscribed to that already");
    for one in 1..=MEMBERS_MAX as u64 {
        subscribed(&mut channels, one, "presence-a", Some(one)).unwrap();
    }
    assert_eq!(subscribed(&mut channels, 200, "presence-a", Some(200)), Err(Refusal::TOO_MANY_MEMBERS));
    assert_eq!(subscribed(&mut channels, 201, "presence-a", Some(1)), Ok(()), "the same member once more");
    let room = Channel::parse("presence-a").unwrap();
    let mut tell = |data: &str, now_ms| {
        channels.client_event(ConnectionId(1), &room, "client-x", data, now_ms, &mut Vec::new())
    };
    assert_eq!(tell(&"x".repeat(EVENT_DATA_BYTES_MAX + 1), 0), Err(Refusal::TOO_LARGE));
    for _ in 0..CLIENT_EVENTS_PER_SECOND_MAX {
        tell("{}", 0).unwrap();
    }
    assert_eq!(tell("{}", 0), Err(Refusal::TOO_FAST));
    assert_eq!(tell("{}", 1_000), Ok(()));
}

#[test]
fn who_comes_into_a_presence_channel_is_told_who_is_there() {
    let mut channels = Channels::default();
    let room = Channel::parse("presence-a").unwrap();
    let mut last = Vec::new();
    for (one, user) in [(1, 7), (2, 8), (3, 7)] {
        channels.connect(ConnectionId(one), &Arc::from(format!("{one}.0")), 0).unwrap();
        last.clear();
        channels.subscribe(ConnectionId(one), &room, member(&room, user), &mut last).unwrap();
    }
    let [Effect::Send { to, text }] = &last[..] else { unreachable!("{last:?}") };
    assert_eq!(to, &[ConnectionId(3)]);
    let message: Value = serde_json::from_str(text).unwrap();
    let data: Value = serde_json::from_str(message["data"].as_str().unwrap()).unwrap();
    let expected = serde_json::json!({"presence": {"count": 2, "ids": ["7", "8"], "hash": {"7": {"n": 7}, "8": {"n": 8}}}});
    assert_eq!(data, expected);
}
