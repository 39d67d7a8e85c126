//! What goes to clients: one message at a time, sent again until it is acknowledged (§6.6, §6.10, §6.13, §6.14).

use covey_wire::mqtt::{check_topic_name, filter_matches};

use super::super::packet::{Ack, Name, Packet, Publish, Qos, ReturnCode, Topic, Violation};
use super::client::{Flight, Outgoing, State, Step};
use super::event::{Client, Delivery, Event, Output, Sent};
use super::settings::{
    ALL_QUEUES_BYTES_MAX, DATAGRAM_BYTES_MAX, NAME_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_MAX, WAKES_MAX,
};
use super::{Gateway, NOT_CONNECTED};

/// What a PUBLISH has beside its body at most, in bytes.
const AROUND: usize = 9;

/// A message for a client.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The owner's name for it, told with its [`Delivery`].
    pub token: u64,
    /// The topic.
    pub topic: &'a str,
    /// The body.
    pub payload: &'a [u8],
    /// Whether it is sent until the client acknowledges it (QoS 1). The client's subscription may say otherwise.
    pub is_acknowledged: bool,
}

impl Gateway {
    /// Publishes to a client.
    pub fn publish(&mut self, client: Client, message: &Message<'_>, now_ms: u64, out: &mut Output) -> Sent {
        let Message { token, topic: name, payload, is_acknowledged } = *message;
        let Some(session) = self.table.of_client(client) else { return Sent::NotConnected };
        if check_topic_name(name).is_err() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Sent::NotATopic;
        }
        let mut matching = session
            .subscriptions
            .iter()
            .filter(|subscription| filter_matches(&subscription.filter, name))
            .peekable();
        if matching.peek().is_none() {
            return Sent::NotSubscribed;
        }
        if payload.len() + AROUND > DATAGRAM_BYTES_MAX {
            return Sent::TooLarge;
        }
        let (mut is_granted, mut predefined) = (false, None);
        for subscription in matching {
            is_granted |= subscription.qos == Qos::AtLeastOnce;
            predefined = predefined.or(subscription.predefined);
        }
        let qos = if is_granted && is_acknowledged { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        let (count, bytes) = session.work.as_ref().map_or((0, 0), |work| (work.outgoing.len(), work.bytes));
        if count == QUEUE_MAX
            || bytes + payload.len() > QUEUE_BYTES_MAX
            || self.queued_bytes + payload.len() > ALL_QUEUES_BYTES_MAX
        {
            return Sent::Full;
        }
        let topic = match (predefined, name.as_bytes()) {
            (Some(id), _) => Topic::Predefined(id),
            (None, [first, second]) => Topic::Short([*first, *second]),
            (None, _) => match session.topics.id_of(name) {
                Some(id) => Topic::Normal(id),
                None => return Sent::Full,
            },
        };
        let payload = Box::from(payload);
        let outgoing =
            Outgoing { token, qos, topic, payload, msg_id: None, was_registered_again: false, wakes: 0 };
        self.queued_bytes += outgoing.payload.len();
        let work = session.work();
        work.bytes += outgoing.payload.len();
        work.outgoing.push_back(outgoing);
        if session.state != State::Asleep {
            self.send_next(client.slot, now_ms, out);
        }
        Sent::Taken
    }

    /// A message that waits for a client is not wanted any more, and nothing more is told of it. One that was sent already
    /// goes on its way.
    pub fn withdraw(&mut self, client: Client, token: u64) {
        let Some(work) = self.table.of_client(client).and_then(|session| session.work.as_mut()) else {
            return;
        };
        let is_it = |(place, message): (usize, &Outgoing)| {
            let is_under_way = message.msg_id.is_some() || (place == 0 && work.flight.is_some());
            message.token == token && !is_under_way
        };
        let Some(place) = work.outgoing.iter().enumerate().position(is_it) else { return };
        let Some(message) = work.outgoing.remove(place) else { return };
        work.bytes -= message.payload.len();
        self.queued_bytes -= message.payload.len();
    }

    /// Sends what can be sent now.
    pub(super) fn send_next(&mut self, slot: u32, now_ms: u64, out: &mut Output) {
        loop {
            let wait_ms = self.retry_ms();
            let Some(session) = self.table.get_mut(slot) else { return };
            if !matches!(session.state, State::Active | State::Awake) {
                return;
            }
            let next_id = session.last_msg_id.checked_add(1).unwrap_or(1);
            let (peer, takes_no_dup) = (session.peer, session.takes_no_dup);
            let Some(work) = session.work.as_mut().filter(|work| work.flight.is_none()) else { break };
            let Some(front) = work.outgoing.front_mut() else { break };
            let at_ms = now_ms + wait_ms;
            if let Topic::Normal(topic_id) = front.topic
                && !session.topics.is_known(topic_id)
            {
                let msg_id = next_id;
                session.last_msg_id = msg_id;
                let flight =
                    Flight { step: Step::Register, msg_id, is_repeated: false, repetitions: 0, at_ms };
                work.flight = Some(flight);
                if let Some(name) = session.topics.name(topic_id) {
                    out.send(peer, &Packet::Register { topic_id, msg_id, name: Name(name.as_bytes()) });
                }
                break;
            }
            if front.qos == Qos::AtMostOnce {
                out.send(peer, &published(front, 0, false));
                self.pop(slot, Delivery::Unacknowledged, out);
                continue;
            }
            let was_sent = front.msg_id.is_some();
            let is_repeated = was_sent && !takes_no_dup;
            let msg_id = *front.msg_id.get_or_insert(next_id);
            if !was_sent {
                session.last_msg_id = next_id;
            }
            out.send(peer, &published(front, msg_id, is_repeated));
            work.flight = Some(Flight { step: Step::Publish, msg_id, is_repeated, repetitions: 0, at_ms });
            break;
        }
        if let Some(session) = self.table.get_mut(slot) {
            if session.state == State::Awake
                && session.work.as_ref().is_none_or(|work| work.outgoing.is_empty())
            {
                // That was all: the client sleeps on (§6.14).
                session.state = State::Asleep;
                out.send(session.peer, &Packet::PingResp);
            }
            session.tidy();
        }
        self.table.arm(slot);
    }

    /// The first message has come to its end.
    fn pop(&mut self, slot: u32, delivery: Delivery, out: &mut Output) {
        let client = self.table.client(slot);
        let Some(work) = self.table.get_mut(slot).and_then(|session| session.work.as_mut()) else { return };
        work.flight = None;
        let Some(message) = work.outgoing.pop_front() else { return };
        work.bytes -= message.payload.len();
        self.queued_bytes -= message.payload.len();
        out.tell(Event::Delivered { client, token: message.token, delivery });
    }

    /// REGACK: the client knows the id of a topic (§6.10), or does not want to.
    pub(super) fn registered(
        &mut self,
        slot: u32,
        ack: Ack,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let Some(session) = self.table.get_mut(slot) else { return Err(NOT_CONNECTED) };
        let Some(work) = &mut session.work else { return Ok(()) };
        let is_awaited = work
            .flight
            .as_ref()
            .is_some_and(|flight| flight.step == Step::Register && flight.msg_id == ack.msg_id);
        // An answer that comes twice is none to anything.
        let Some(front) = work.outgoing.front().filter(|_| is_awaited) else { return Ok(()) };
        if ack.code == ReturnCode::ACCEPTED {
            session.topics.set_known(front.topic.id(), true);
            work.flight = None;
        } else {
            self.pop(slot, Delivery::Refused(ack.code), out);
        }
        self.send_next(slot, now_ms, out);
        Ok(())
    }

    /// PUBACK: the client has a message, or does not want it.
    pub(super) fn acknowledged(
        &mut self,
        slot: u32,
        ack: Ack,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let Some(session) = self.table.get_mut(slot) else { return Err(NOT_CONNECTED) };
        let flight = session.work.as_ref().and_then(|work| work.flight.as_ref());
        let awaited = flight.filter(|flight| flight.step == Step::Publish && flight.msg_id == ack.msg_id);
        let Some(was_repeated) = awaited.map(|flight| flight.is_repeated) else {
            if ack.code == ReturnCode::INVALID_TOPIC_ID {
                // Of a message with QoS 0: the next one for the topic comes with its name.
                session.topics.set_known(ack.topic_id, false);
            }
            return Ok(());
        };
        let Some(work) = &mut session.work else { return Ok(()) };
        let Some(front) = work.outgoing.front_mut() else { return Ok(()) };
        match (ack.code, front.topic) {
            (ReturnCode::ACCEPTED, _) => self.pop(slot, Delivery::Accepted, out),
            // The client has forgotten the id, and is told it anew (§6.10).
            (ReturnCode::INVALID_TOPIC_ID, Topic::Normal(id)) if !front.was_registered_again => {
                front.was_registered_again = true;
                // It has not taken the message, and a copy of this answer is none to the next attempt.
                front.msg_id = None;
                work.flight = None;
                session.topics.set_known(id, false);
            }
            // RIOT's emcute refuses what has DUP.
            (ReturnCode::NOT_SUPPORTED, _) if was_repeated => {
                work.flight = None;
                session.takes_no_dup = true;
            }
            (code, _) => self.pop(slot, Delivery::Refused(code), out),
        }
        self.send_next(slot, now_ms, out);
        Ok(())
    }

    /// Sends again what was not answered, or gives it up (§6.13).
    pub(super) fn repeat_if_due(&mut self, slot: u32, now_ms: u64, out: &mut Output) {
        let (wait_ms, retries) = (self.retry_ms(), self.settings.retries);
        let Some(session) = self.table.get_mut(slot) else { return };
        let (peer, takes_no_dup) = (session.peer, session.takes_no_dup);
        let Some(work) = &mut session.work else { return };
        let Some(flight) = work.flight.as_mut().filter(|flight| flight.at_ms <= now_ms) else { return };
        let Some(front) = work.outgoing.front_mut() else { return };
        if flight.repetitions < retries {
            flight.repetitions += 1;
            flight.at_ms = now_ms + wait_ms;
            let msg_id = flight.msg_id;
            match (flight.step, front.topic) {
                (Step::Publish, _) => {
                    flight.is_repeated = !takes_no_dup;
                    out.send(peer, &published(front, msg_id, flight.is_repeated));
                }
                (Step::Register, topic) => {
                    if let Some(name) = session.topics.name(topic.id()) {
                        let (topic_id, name) = (topic.id(), Name(name.as_bytes()));
                        out.send(peer, &Packet::Register { topic_id, msg_id, name });
                    }
                }
            }
            self.counts.retransmissions += 1;
            return;
        }
        if session.state == State::Awake {
            // It sleeps again, and gets the rest when it wakes.
            session.state = State::Asleep;
            work.flight = None;
            front.wakes += 1;
            if front.wakes < WAKES_MAX {
                return;
            }
        }
        self.counts.unanswered += 1;
        self.pop(slot, Delivery::Unanswered, out);
        self.send_next(slot, now_ms, out);
    }

    /// How long an answer is waited for, in milliseconds.
    fn retry_ms(&mut self) -> u64 {
        let retry_ms = self.settings.retry_ms.max(1);
        retry_ms + self.chance.below(retry_ms / 2 + 1)
    }
}

fn published(message: &Outgoing, msg_id: u16, is_repeated: bool) -> Packet<'_> {
    Packet::Publish(Publish {
        is_repeated,
        qos: message.qos,
        retain: false,
        topic: message.topic,
        msg_id,
        payload: &message.payload,
    })
}
