//! How clients come and go: CONNECT, wills, sleep, DISCONNECT (§6.2–§6.4, §6.12, §6.14).

use std::sync::Arc;

use super::super::packet::{Connect, Name, PROTOCOL_ID, Packet, ReturnCode, Violation, WillTopic};
use super::client::{Hello, Session, State, StoredWill, Told};
use super::event::{Event, Output, Reason};
use super::peer::Peer;
use super::settings::{
    DEPARTED_MAX, DEPARTED_MS_MAX, HALF_OPEN_MAX, HALF_OPEN_MS_MAX, HALF_OPEN_PER_ADDRESS_MAX,
    NAME_BYTES_MAX, WILL_BYTES_MAX,
};
use super::topics::Topics;
use super::{Gateway, NOT_CONNECTED};

/// A client that is asked for its will.
pub(super) struct HalfOpen {
    id: Arc<str>,
    hello: Hello,
    topic: Option<Box<str>>,
    until_ms: u64,
}

impl HalfOpen {
    pub const fn until_ms(&self) -> u64 {
        self.until_ms
    }
}

/// How far the counting of two connections begins apart.
const MSG_IDS_APART: u16 = 1_009;

const NO_ROOM: Violation = Violation::new("6.2", "there is no room for another client");
const NOT_ASKED: Violation = Violation::new("6.2", "the sender was not asked for a will");

impl Gateway {
    pub(super) fn connect(
        &mut self,
        peer: Peer,
        connect: &Connect<'_>,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        if connect.protocol_id != PROTOCOL_ID {
            let violation = Violation::new("5.3.8", "the protocol id is not that of MQTT-SN 1.2");
            return refuse(peer, ReturnCode::NOT_SUPPORTED, violation, out);
        }
        let id = match connect.client_id.client_id() {
            Ok(id) => id,
            Err(violation) => return refuse(peer, ReturnCode::NOT_SUPPORTED, violation, out),
        };
        let Connect { has_will, is_clean, keep_alive_s, .. } = *connect;
        let hello = Hello { has_will, is_clean, keep_alive_s };
        let known = self.table.find_id(id);
        if let Some((slot, session)) = known.and_then(|slot| Some((slot, self.table.get_mut(slot)?)))
            && !has_will
        {
            match session.state {
                // Its sleep is over, and its session goes on.
                State::Asleep | State::Awake => {
                    self.wake_for_good(slot, peer, hello, now_ms, out);
                    return Ok(());
                }
                // The CONNACK was lost.
                State::Active if session.is_fresh && session.peer == peer && session.hello == hello => {
                    session.heard_ms = now_ms;
                    out.send(peer, &Packet::ConnAck(ReturnCode::ACCEPTED));
                    return Ok(());
                }
                State::Active | State::Away => {}
            }
        }
        if !self.has_room(peer, known) {
            return refuse(peer, ReturnCode::CONGESTION, NO_ROOM, out);
        }
        let id: Arc<str> = id.into();
        if !has_will {
            self.half_open.remove(&peer);
            self.begin(peer, id, hello, None, now_ms, out);
            return Ok(());
        }
        if !self.half_open.contains_key(&peer) && !self.has_room_half_open(peer) {
            return refuse(peer, ReturnCode::CONGESTION, NO_ROOM, out);
        }
        let until_ms = now_ms + HALF_OPEN_MS_MAX;
        self.half_open.insert(peer, HalfOpen { id, hello, topic: None, until_ms });
        self.half_open_due_ms.get_or_insert(until_ms);
        out.send(peer, &Packet::WillTopicReq);
        Ok(())
    }

    /// Whether a client finds room, if need be that of a session whose client is away.
    fn has_room(&self, peer: Peer, known: Option<u32>) -> bool {
        let is_room = known.is_some()
            || self.table.len() < self.settings.clients_max
            || self.table.longest_away().is_some();
        // One that comes back to its address takes no more of it.
        let session =
            known.and_then(|slot| self.table.get(slot)).filter(|session| session.state != State::Away);
        let is_here = self.table.find_peer(peer).is_some()
            || session.is_some_and(|session| session.peer.network() == peer.network());
        is_room && (is_here || self.table.of_network(peer) < self.settings.clients_per_address_max)
    }

    fn has_room_half_open(&self, peer: Peer) -> bool {
        let network = peer.network();
        let of_network = || self.half_open.keys().filter(|other| other.network() == network).count();
        self.half_open.len() < HALF_OPEN_MAX
            && (network.is_none() || of_network() < HALF_OPEN_PER_ADDRESS_MAX)
    }

    pub(super) fn forget_half_open(&mut self, now_ms: u64) {
        if self.half_open_due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.half_open.retain(|_, half_open| half_open.until_ms > now_ms);
            self.half_open_due_ms = self.half_open.values().map(|half_open| half_open.until_ms).min();
        }
    }

    /// A client is connected.
    fn begin(
        &mut self,
        peer: Peer,
        id: Arc<str>,
        hello: Hello,
        will: Option<Box<StoredWill>>,
        now_ms: u64,
        out: &mut Output,
    ) {
        if let Some(slot) = self.table.find_peer(peer) {
            self.end(slot, Reason::Replaced, now_ms, out);
        }
        if let Some(slot) = self.table.find_id(&id) {
            self.end(slot, Reason::Replaced, now_ms, out);
        }
        // What is left of a session is one that is kept.
        let slot = self.table.find_id(&id);
        if slot.is_none()
            && self.table.len() >= self.settings.clients_max
            && let Some(slot) = self.table.longest_away()
        {
            self.table.remove(slot);
        }
        let old = slot.and_then(|slot| self.table.take(slot)).filter(|_| !hello.is_clean);
        let (topics, subscriptions) =
            old.map_or_else(|| (Topics::default(), Vec::new()), |old| (old.topics, old.subscriptions));
        let is_resumed = !subscriptions.is_empty();
        let session = Session {
            id: Arc::clone(&id),
            peer,
            heard_ms: now_ms,
            timer_ms: 0,
            hello,
            sleep_s: 0,
            state: State::Active,
            is_fresh: true,
            is_stranger: true,
            takes_no_dup: false,
            last_msg_id: self.first_msg_id,
            topics,
            subscriptions,
            will,
            told: Told::default(),
            work: None,
        };
        self.first_msg_id = self.first_msg_id.wrapping_add(MSG_IDS_APART);
        let slot = self.table.attach(slot, Box::new(session));
        self.table.arm(slot);
        self.departed.retain(|(departed, _)| *departed != peer);
        out.send(peer, &Packet::ConnAck(ReturnCode::ACCEPTED));
        let client = self.table.client(slot);
        out.tell(Event::Connected { client, id, from: peer.address(), is_resumed });
    }

    /// A client says where its will goes.
    pub(super) fn will_topic(
        &mut self,
        peer: Peer,
        topic: Option<&WillTopic<'_>>,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let Some(half_open) = self.half_open.get_mut(&peer) else { return Err(NOT_ASKED) };
        let Some(topic) = topic else {
            // It wants none after all.
            return self.begin_half_open(peer, None, now_ms, out);
        };
        match will_name(topic) {
            Ok(name) => {
                half_open.topic = Some(name.into());
                out.send(peer, &Packet::WillMsgReq);
                Ok(())
            }
            Err(violation) => {
                self.half_open.remove(&peer);
                out.send(peer, &Packet::ConnAck(ReturnCode::NOT_SUPPORTED));
                Err(violation)
            }
        }
    }

    /// A client says what its will is.
    pub(super) fn will_message(
        &mut self,
        peer: Peer,
        message: &[u8],
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let Some(half_open) = self.half_open.get_mut(&peer) else {
            let session = self.table.find_peer(peer).and_then(|slot| self.table.get(slot));
            if session.is_some_and(|session| session.is_fresh && session.hello.has_will) {
                // The CONNACK was lost.
                out.send(peer, &Packet::ConnAck(ReturnCode::ACCEPTED));
                return Ok(());
            }
            return Err(NOT_ASKED);
        };
        let Some(topic) = half_open.topic.take() else { return Err(NOT_ASKED) };
        if let Err(violation) = check_will_message(message) {
            self.half_open.remove(&peer);
            out.send(peer, &Packet::ConnAck(ReturnCode::NOT_SUPPORTED));
            return Err(violation);
        }
        let will = StoredWill { topic, payload: message.into() };
        self.begin_half_open(peer, Some(Box::new(will)), now_ms, out)
    }

    fn begin_half_open(
        &mut self,
        peer: Peer,
        will: Option<Box<StoredWill>>,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let Some(HalfOpen { id, hello, .. }) = self.half_open.remove(&peer) else { return Err(NOT_ASKED) };
        if let Some(slot) = self.table.find_id(&id)
            && let Some(session) = self.table.get_mut(slot)
            && matches!(session.state, State::Asleep | State::Awake)
        {
            session.will = will;
            self.wake_for_good(slot, peer, hello, now_ms, out);
            return Ok(());
        }
        // Others may have come since its CONNECT.
        if !self.has_room(peer, self.table.find_id(&id)) {
            out.send(peer, &Packet::ConnAck(ReturnCode::CONGESTION));
            return Err(NO_ROOM);
        }
        self.begin(peer, id, hello, will, now_ms, out);
        Ok(())
    }

    /// A client changes where its will goes, or deletes it (§6.4).
    pub(super) fn update_will_topic(
        &mut self,
        slot: u32,
        topic: Option<&WillTopic<'_>>,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let Some(session) = self.table.get_mut(slot) else { return Err(NOT_CONNECTED) };
        let changed = match topic.map(will_name) {
            None => {
                session.will = None;
                Ok(())
            }
            Some(Ok(name)) => {
                let payload = session.will.take().map(|will| will.payload).unwrap_or_default();
                session.will = Some(Box::new(StoredWill { topic: name.into(), payload }));
                Ok(())
            }
            Some(Err(violation)) => Err(violation),
        };
        out.send(session.peer, &Packet::WillTopicResp(code_of(&changed)));
        changed
    }

    /// A client changes what its will is (§6.4).
    pub(super) fn update_will_message(
        &mut self,
        slot: u32,
        message: &[u8],
        out: &mut Output,
    ) -> Result<(), Violation> {
        let Some(session) = self.table.get_mut(slot) else { return Err(NOT_CONNECTED) };
        let changed = check_will_message(message).and_then(|()| match &mut session.will {
            Some(will) => {
                will.payload = message.into();
                Ok(())
            }
            None => Err(Violation::new("6.4", "the message of a will came, and there is no will")),
        });
        out.send(session.peer, &Packet::WillMsgResp(code_of(&changed)));
        changed
    }

    /// DISCONNECT: the client leaves, or sleeps for a while.
    pub(super) fn disconnect(
        &mut self,
        peer: Peer,
        duration_s: Option<u16>,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let Some(slot) = self.heard(peer, now_ms) else {
            let was_here =
                |(departed, at_ms): &(Peer, u64)| *departed == peer && *at_ms + DEPARTED_MS_MAX > now_ms;
            // Nobody else is answered: two gateways would go on saying it to each other.
            if self.departed.iter().any(was_here) {
                out.send(peer, &Packet::Disconnect(None));
                return Ok(());
            }
            return Err(NOT_CONNECTED);
        };
        out.send(peer, &Packet::Disconnect(None));
        let Some(sleep_s) = duration_s.filter(|duration_s| *duration_s > 0) else {
            self.end(slot, Reason::Left, now_ms, out);
            if self.departed.len() == DEPARTED_MAX {
                self.departed.pop_front();
            }
            self.departed.push_back((peer, now_ms));
            return Ok(());
        };
        let client = self.table.client(slot);
        if let Some(session) = self.table.get_mut(slot) {
            session.state = State::Asleep;
            session.sleep_s = sleep_s;
            if let Some(work) = &mut session.work {
                work.flight = None;
            }
        }
        self.table.arm(slot);
        out.tell(Event::Asleep { client, for_s: sleep_s });
        Ok(())
    }

    /// PINGREQ with a client id: one that sleeps asks for what waits, and sleeps on.
    pub(super) fn wake_for_messages(
        &mut self,
        peer: Peer,
        id: Name<'_>,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let slot = self.table.find_id(id.client_id()?);
        let session = slot.and_then(|slot| Some((slot, self.table.get(slot)?)));
        let known = session.filter(|(_, session)| match session.state {
            State::Away => false,
            // Its address may have changed while it slept.
            State::Asleep | State::Awake => true,
            State::Active => session.peer == peer,
        });
        let Some((slot, _)) = known else {
            out.send(peer, &Packet::Disconnect(None));
            return Err(NOT_CONNECTED);
        };
        self.come_from(slot, peer, now_ms, out);
        self.ping(slot, now_ms, out);
        Ok(())
    }

    /// PINGREQ of a client.
    pub(super) fn ping(&mut self, slot: u32, now_ms: u64, out: &mut Output) {
        let Some(session) = self.table.get_mut(slot) else { return };
        match session.state {
            State::Asleep | State::Awake => {
                session.state = State::Awake;
                self.send_next(slot, now_ms, out);
            }
            State::Active | State::Away => out.send(session.peer, &Packet::PingResp),
        }
    }

    /// CONNECT of one that slept.
    fn wake_for_good(&mut self, slot: u32, peer: Peer, hello: Hello, now_ms: u64, out: &mut Output) {
        self.half_open.remove(&peer);
        self.come_from(slot, peer, now_ms, out);
        if let Some(session) = self.table.get_mut(slot) {
            session.state = State::Active;
            session.hello = hello;
            session.is_fresh = true;
            // It may have begun anew, and counts from the beginning.
            session.told = Told::default();
        }
        self.table.arm(slot);
        out.send(peer, &Packet::ConnAck(ReturnCode::ACCEPTED));
        out.tell(Event::Active { client: self.table.client(slot) });
        self.send_next(slot, now_ms, out);
    }

    /// A client speaks, perhaps from another address.
    fn come_from(&mut self, slot: u32, peer: Peer, now_ms: u64, out: &mut Output) {
        if self.table.find_peer(peer) != Some(slot) {
            if let Some(other) = self.table.find_peer(peer) {
                self.end(other, Reason::Replaced, now_ms, out);
            }
            self.table.move_to(slot, peer);
        }
        self.heard(peer, now_ms);
    }
}

fn refuse(peer: Peer, code: ReturnCode, violation: Violation, out: &mut Output) -> Result<(), Violation> {
    out.send(peer, &Packet::ConnAck(code));
    Err(violation)
}

fn will_name<'a>(topic: &WillTopic<'a>) -> Result<&'a str, Violation> {
    let name = topic.name.topic()?;
    if name.len() > NAME_BYTES_MAX {
        return Err(Violation::new("5.3.14", "the topic of a will is longer than a gateway takes"));
    }
    Ok(name)
}

const fn check_will_message(message: &[u8]) -> Result<(), Violation> {
    if message.len() > WILL_BYTES_MAX {
        return Err(Violation::new("5.3.13", "the message of a will is longer than a gateway takes"));
    }
    Ok(())
}

const fn code_of(changed: &Result<(), Violation>) -> ReturnCode {
    match changed {
        Ok(()) => ReturnCode::ACCEPTED,
        Err(_) => ReturnCode::NOT_SUPPORTED,
    }
}
