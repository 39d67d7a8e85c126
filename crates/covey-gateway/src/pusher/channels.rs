//! The channels of an app: who is subscribed to which, who is present, and what each has to be told. No I/O: what follows
//! comes out as [`Effect`]s, in the order in which they are to be carried out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::channel::{Channel, Kind};
use super::error::Refusal;
use super::message;
use super::rate::Rate;

/// How many connections a Pusher app may have.
/// Limit for each app: 4004.
pub const CONNECTIONS_MAX: usize = 1_000;
/// How many channels a Pusher client may be subscribed to.
/// Limit for each connection: 4100 in `pusher:subscription_error`.
pub const CHANNELS_PER_CONNECTION_MAX: usize = 100;
/// How many channels of a Pusher app may be occupied.
/// Limit for each app: 4100 in `pusher:subscription_error`.
pub const CHANNELS_MAX: usize = 10_000;
/// How many members a presence channel may have.
/// Limit for each presence channel: 4100 in `pusher:subscription_error`.
pub const MEMBERS_MAX: usize = 100;
/// Longest id of a member, in bytes.
/// Limit for each member: `pusher:subscription_error`.
pub const USER_ID_BYTES_MAX: usize = 128;
/// How large what is told of a member may be, in bytes.
/// Limit for each member: `pusher:subscription_error`.
pub const USER_INFO_BYTES_MAX: usize = 1_024;
/// How many events a client may send in a second.
/// Limit for each connection: 4301, which closes nothing.
pub const CLIENT_EVENTS_PER_SECOND_MAX: u64 = 10;

/// The number of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// These are told this.
    Send {
        /// Who.
        to: Vec<ConnectionId>,
        /// A message.
        text: Utf8Bytes,
    },
    /// The app's webhooks are told this.
    Hook(HookEvent),
}

/// What webhooks of channels tell (Pusher, "Webhooks").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum HookEvent {
    /// A channel has its first subscriber.
    ChannelOccupied {
        /// Which.
        channel: Arc<str>,
    },
    /// Its last one has gone.
    ChannelVacated {
        /// Which.
        channel: Arc<str>,
    },
    /// Somebody is present.
    MemberAdded {
        /// Where.
        channel: Arc<str>,
        /// Who.
        user_id: Arc<str>,
    },
    /// Somebody is no longer present.
    MemberRemoved {
        /// Where.
        channel: Arc<str>,
        /// Who.
        user_id: Arc<str>,
    },
    /// A client has told others something.
    ClientEvent {
        /// Where.
        channel: Arc<str>,
        /// What it is called.
        event: Arc<str>,
        /// What it says, as it was sent.
        data: Arc<str>,
        /// From which connection.
        socket_id: Arc<str>,
        /// Who that is, in a presence channel.
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<Arc<str>>,
    },
}

impl HookEvent {
    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = match self {
            Self::ChannelOccupied { channel } | Self::ChannelVacated { channel } => channel.len(),
            Self::MemberAdded { channel, user_id } | Self::MemberRemoved { channel, user_id } => {
                channel.len() + user_id.len()
            }
            Self::ClientEvent { channel, event, data, socket_id, user_id } => {
                let user_id = user_id.as_deref().map_or(0, str::len);
                channel.len() + event.len() + data.len() + socket_id.len() + user_id
            }
        };
        size_of::<Self>() + texts
    }

    fn new(make: fn(Arc<str>) -> Self, channel: &Channel) -> Self {
        make(Arc::from(channel.as_str()))
    }

    fn member(make: fn(Arc<str>, Arc<str>) -> Self, channel: &Channel, user_id: &Arc<str>) -> Self {
        make(Arc::from(channel.as_str()), Arc::clone(user_id))
    }
}

/// Who is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub user_id: Arc<str>,
    /// What is told of it, as JSON text.
    pub user_info: Arc<str>,
}

impl Member {
    /// Reads who a subscriber is. An id may be a number, as libraries write it.
    ///
    /// # Errors
    /// [`Refusal::NO_MEMBER`].
    pub fn parse(channel_data: &str) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Data<'a> {
            #[serde(borrow)]
            user_id: &'a RawValue,
            #[serde(borrow)]
            user_info: Option<&'a RawValue>,
        }
        let Data { user_id, user_info } =
            serde_json::from_str(channel_data).map_err(|_| Refusal::NO_MEMBER)?;
        let user_id = match serde_json::from_str::<serde_json::Value>(user_id.get()) {
            Ok(serde_json::Value::String(text)) => text,
            Ok(serde_json::Value::Number(number)) => number.to_string(),
            _ => return Err(Refusal::NO_MEMBER),
        };
        let user_info = user_info.map_or("null", RawValue::get);
        if !(1..=USER_ID_BYTES_MAX).contains(&user_id.len()) || user_info.len() > USER_INFO_BYTES_MAX {
            return Err(Refusal::NO_MEMBER);
        }
        Ok(Self { user_id: user_id.into(), user_info: user_info.into() })
    }

    fn json(&self) -> String {
        let user_id = serde_json::Value::from(&*self.user_id);
        match &*self.user_info {
            "null" => format!(r#"{{"user_id":{user_id}}}"#),
            info => format!(r#"{{"user_id":{user_id},"user_info":{info}}}"#),
        }
    }
}

/// The state of an app.
#[derive(Default)]
pub struct Channels {
    connections: HashMap<ConnectionId, Connection>,
    by_socket_id: HashMap<Arc<str>, ConnectionId>,
    occupied: BTreeMap<Channel, Occupied>,
}

struct Connection {
    socket_id: Arc<str>,
    channels: HashMap<Channel, Option<Arc<str>>>,
    events: Rate,
}

struct Occupied {
    subscribers: BTreeSet<ConnectionId>,
    members: BTreeMap<Arc<str>, Present>,
}

struct Present {
    member: Member,
    connections: usize,
}

impl Channels {
    /// A connection begins.
    ///
    /// # Errors
    /// [`Refusal::TOO_MANY`].
    pub fn connect(&mut self, id: ConnectionId, socket_id: &Arc<str>, now_ms: u64) -> Result<(), Refusal> {
        if self.connections.len() >= CONNECTIONS_MAX {
            return Err(Refusal::TOO_MANY);
        }
        let events = Rate::new(CLIENT_EVENTS_PER_SECOND_MAX, CLIENT_EVENTS_PER_SECOND_MAX, now_ms);
        let connection = Connection { socket_id: Arc::clone(socket_id), channels: HashMap::new(), events };
        self.connections.insert(id, connection);
        self.by_socket_id.insert(Arc::clone(socket_id), id);
        Ok(())
    }

    /// A connection ends.
    pub fn disconnect(&mut self, id: ConnectionId, effects: &mut Vec<Effect>) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.by_socket_id.remove(&connection.socket_id);
        let mut channels: Vec<_> = connection.channels.into_iter().collect();
        channels.sort();
        for (channel, user_id) in channels {
            self.leave(id, &channel, user_id, effects);
        }
    }

    /// A connection subscribes, as this member to a presence channel. Whether it may is decided already.
    ///
    /// # Errors
    /// A limit that was reached.
    pub fn subscribe(
        &mut self,
        id: ConnectionId,
        channel: &Channel,
        member: Option<Member>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let is_new = !connection.channels.contains_key(channel);
        if is_new {
            let is_full = connection.channels.len() >= CHANNELS_PER_CONNECTION_MAX;
            let is_first = !self.occupied.contains_key(channel);
            if is_full || (is_first && self.occupied.len() >= CHANNELS_MAX) {
                return Err(Refusal::TOO_MANY_CHANNELS);
            }
            let members = self.occupied.get(channel).map(|occupied| &occupied.members);
            if let (Some(member), Some(members)) = (&member, members)
                && !members.contains_key(&member.user_id)
                && members.len() >= MEMBERS_MAX
            {
                return Err(Refusal::TOO_MANY_MEMBERS);
            }
            let user_id = member.as_ref().map(|member| Arc::clone(&member.user_id));
            connection.channels.insert(channel.clone(), user_id);
            if is_first {
                let make = |channel| HookEvent::ChannelOccupied { channel };
                effects.push(Effect::Hook(HookEvent::new(make, channel)));
            }
        }
        let occupied = self
            .occupied
            .entry(channel.clone())
            .or_insert_with(|| Occupied { subscribers: BTreeSet::new(), members: BTreeMap::new() });
        let mut added = None;
        if let Some(member) = member.filter(|_| is_new) {
            let present = occupied
                .members
                .entry(Arc::clone(&member.user_id))
                .or_insert_with(|| Present { member, connections: 0 });
            present.connections += 1;
            if present.connections == 1 {
                added = Some(present.member.clone());
            }
        }
        if let Some(member) = added {
            let make = |channel, user_id| HookEvent::MemberAdded { channel, user_id };
            effects.push(Effect::Hook(HookEvent::member(make, channel, &member.user_id)));
            let to: Vec<_> = occupied.subscribers.iter().copied().collect();
            if !to.is_empty() {
                effects
                    .push(Effect::Send { to, text: message::member_added(channel.as_str(), &member.json()) });
            }
        }
        occupied.subscribers.insert(id);
        // Who subscribes again is told again.
        let data = if channel.kind() == Kind::Presence { occupied.presence() } else { "{}".to_owned() };
        effects.push(Effect::Send { to: vec![id], text: message::subscribed(channel.as_str(), &data) });
        Ok(())
    }

    /// A connection wants to hear a channel no longer.
    pub fn unsubscribe(&mut self, id: ConnectionId, channel: &Channel, effects: &mut Vec<Effect>) {
        let connection = self.connections.get_mut(&id);
        if let Some(user_id) = connection.and_then(|connection| connection.channels.remove(channel)) {
            self.leave(id, channel, user_id, effects);
        }
    }

    fn leave(
        &mut self,
        id: ConnectionId,
        channel: &Channel,
        user_id: Option<Arc<str>>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(occupied) = self.occupied.get_mut(channel) else { return };
        occupied.subscribers.remove(&id);
        if let Some(user_id) = user_id
            && let Some(present) = occupied.members.get_mut(&user_id)
        {
            present.connections -= 1;
            if present.connections == 0 {
                occupied.members.remove(&user_id);
                let make = |channel, user_id| HookEvent::MemberRemoved { channel, user_id };
                effects.push(Effect::Hook(HookEvent::member(make, channel, &user_id)));
                let to: Vec<_> = occupied.subscribers.iter().copied().collect();
                if !to.is_empty() {
                    effects
                        .push(Effect::Send { to, text: message::member_removed(channel.as_str(), &user_id) });
                }
            }
        }
        if occupied.subscribers.is_empty() {
            self.occupied.remove(channel);
            let make = |channel| HookEvent::ChannelVacated { channel };
            effects.push(Effect::Hook(HookEvent::new(make, channel)));
        }
    }

    /// A client tells the others in a channel something.
    ///
    /// # Errors
    /// Why it may not.
    pub fn client_event(
        &mut self,
        id: ConnectionId,
        channel: &Channel,
        event: &str,
        data: &str,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if channel.is_ours() {
            return Err(Refusal::OURS);
        }
        if event.len() > message::EVENT_NAME_BYTES_MAX || data.len() > message::EVENT_DATA_BYTES_MAX {
            return Err(Refusal::TOO_LARGE);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let user_id = match connection.channels.get(channel) {
            Some(user_id) if channel.kind() != Kind::Public => user_id.clone(),
            _ => return Err(Refusal::NOT_SUBSCRIBED),
        };
        if !connection.events.take(now_ms) {
            return Err(Refusal::TOO_FAST);
        }
        let socket_id = Arc::clone(&connection.socket_id);
        let to: Vec<_> = self.subscribers(channel).filter(|one| *one != id).collect();
        if !to.is_empty() {
            let text = message::client_event(channel.as_str(), event, data, user_id.as_deref());
            effects.push(Effect::Send { to, text });
        }
        effects.push(Effect::Hook(HookEvent::ClientEvent {
            channel: Arc::from(channel.as_str()),
            event: Arc::from(event),
            data: Arc::from(data),
            socket_id,
            user_id,
        }));
        Ok(())
    }

    /// All subscribers of a channel are told an event, but for the connection that has caused it.
    pub fn publish(
        &self,
        channel: &Channel,
        event: &str,
        data: &str,
        but: Option<&str>,
        effects: &mut Vec<Effect>,
    ) {
        let but = but.and_then(|socket_id| self.by_socket_id.get(socket_id));
        let to: Vec<_> = self.subscribers(channel).filter(|one| Some(one) != but).collect();
        if !to.is_empty() {
            effects.push(Effect::Send { to, text: message::event(channel.as_str(), event, data) });
        }
    }

    fn subscribers(&self, channel: &Channel) -> impl Iterator<Item = ConnectionId> {
        self.occupied.get(channel).into_iter().flat_map(|occupied| occupied.subscribers.iter().copied())
    }

    /// The channels that are occupied and begin like this, each with what is counted of it.
    pub fn occupied<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Channel, Counted)> {
        let found = self.occupied.iter().filter(move |(channel, _)| channel.as_str().starts_with(prefix));
        found.map(|(channel, occupied)| (channel, occupied.counted()))
    }

    /// What is counted of a channel; nothing if nobody is subscribed.
    #[must_use]
    pub fn counted(&self, channel: &Channel) -> Counted {
        self.occupied.get(channel).map(Occupied::counted).unwrap_or_default()
    }

    /// The ids of those who are present.
    pub fn members(&self, channel: &Channel) -> impl Iterator<Item = &Arc<str>> {
        self.occupied.get(channel).into_iter().flat_map(|occupied| occupied.members.keys())
    }

    /// Whether a connection has this socket id.
    #[must_use]
    pub fn has(&self, socket_id: &str) -> bool {
        self.by_socket_id.contains_key(socket_id)
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }
}

/// What is counted of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many are subscribed.
    pub subscriptions: usize,
    /// How many different members are present.
    pub users: usize,
}

impl Occupied {
    fn counted(&self) -> Counted {
        Counted { subscriptions: self.subscribers.len(), users: self.members.len() }
    }

    /// Who is present, as JSON text.
    fn presence(&self) -> String {
        let ids: Vec<&str> = self.members.keys().map(|id| &**id).collect();
        let hash: Vec<String> = self
            .members
            .values()
            .map(|Present { member, .. }| {
                format!("{}:{}", serde_json::Value::from(&*member.user_id), member.user_info)
            })
            .collect();
        let (count, ids) = (ids.len(), serde_json::Value::from(ids));
        format!(r#"{{"presence":{{"count":{count},"ids":{ids},"hash":{{{}}}}}}}"#, hash.join(","))
    }
}
