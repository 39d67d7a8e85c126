//! What clients say once they are connected: topics, messages, subscriptions (§6.5–§6.9).

use std::hash::{DefaultHasher, Hasher};

use super::super::packet::{
    Ack, Filter, Name, Packet, Publish, Qos, ReturnCode, SubAck, Subscribe, Topic, Violation,
};
use super::client::{Session, Subscription, Unanswered};
use super::event::{Answer, Event, Output, Receipt};
use super::peer::Peer;
use super::settings::{
    NAME_BYTES_MAX, SUBSCRIPTIONS_MAX, Settings, UNANSWERED_MAX, UNANSWERED_MS_MAX, UNRELEASED_MAX,
};
use super::{Gateway, NOT_CONNECTED};

const TOO_LONG: Violation = Violation::new("5.3.12", "the name is longer than a gateway takes");
const TOO_MANY_TOPICS: Violation = Violation::new("6.5", "the client has as many topics as it may");
const NO_TOPIC: Violation = Violation::new("5.3.11", "the topic id stands for no topic");

impl Gateway {
    pub(super) fn hear_client(
        &mut self,
        slot: u32,
        packet: Packet<'_>,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        match packet {
            Packet::Register { msg_id, name, .. } => self.register(slot, msg_id, name, out),
            Packet::RegAck(ack) => self.registered(slot, ack, now_ms, out),
            Packet::Publish(publish) => self.published(slot, &publish, now_ms, out),
            Packet::PubAck(ack) => self.acknowledged(slot, ack, now_ms, out),
            Packet::PubRel(msg_id) => self.released(slot, msg_id, out),
            Packet::Subscribe(subscribe) => self.subscribe(slot, &subscribe, out),
            Packet::Unsubscribe { msg_id, filter } => self.unsubscribe(slot, msg_id, filter, out),
            Packet::PingReq(_) => {
                self.ping(slot, now_ms, out);
                Ok(())
            }
            Packet::WillTopicUpd(topic) => self.update_will_topic(slot, topic.as_ref(), out),
            Packet::WillMsgUpd(message) => self.update_will_message(slot, message, out),
            Packet::PubRec(_) | Packet::PubComp(_) => {
                Err(Violation::new("5.4.14", "the client answers a message of QoS 2 that it was not sent"))
            }
            // The others do not come here.
            _ => Err(Violation::new("5.4", "the message is not for a gateway")),
        }
    }

    /// A client wants an id for a topic (§6.5).
    fn register(
        &mut self,
        slot: u32,
        msg_id: u16,
        name: Name<'_>,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let Some(session) = self.table.get_mut(slot) else { return Err(NOT_CONNECTED) };
        let named =
            name.topic().and_then(|name| if name.len() > NAME_BYTES_MAX { Err(TOO_LONG) } else { Ok(name) });
        let (topic_id, code, outcome) = match named.map(|name| session.topics.id_of(name)) {
            Ok(Some(id)) => (id, ReturnCode::ACCEPTED, Ok(())),
            Ok(None) => (0, ReturnCode::CONGESTION, Err(TOO_MANY_TOPICS)),
            Err(violation) => (0, ReturnCode::NOT_SUPPORTED, Err(violation)),
        };
        session.topics.set_known(topic_id, true);
        out.send(session.peer, &Packet::RegAck(Ack { topic_id, msg_id, code }));
        outcome
    }

    /// A client publishes (§6.6).
    fn published(
        &mut self,
        slot: u32,
        publish: &Publish<'_>,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let client = self.table.client(slot);
        let Some(session) = self.table.get_mut(slot) else { return Err(NOT_CONNECTED) };
        let Publish { is_repeated, qos, topic, msg_id, payload, .. } = *publish;
        let peer = session.peer;
        let answer = |code| Packet::PubAck(Ack { topic_id: topic.id(), msg_id, code });
        let name = match topic_name(topic, session, &self.settings) {
            Ok(name) => Box::from(name),
            Err(violation) => {
                out.send(peer, &answer(ReturnCode::INVALID_TOPIC_ID));
                return Err(violation);
            }
        };
        let mut receipt = None;
        if qos != Qos::AtMostOnce {
            let digest = digest(topic, payload);
            let is_told = session.told.has(msg_id, digest, is_repeated);
            let work = session.work();
            work.unanswered.retain(|message| message.at_ms + UNANSWERED_MS_MAX > now_ms);
            let is = |message: &Unanswered| message.msg_id == msg_id && message.digest == digest;
            let is_repetition = if work.unanswered.iter().any(is) {
                // The answer follows.
                true
            } else if qos == Qos::ExactlyOnce
                // One that was released may come after its PUBREL, which has overtaken it.
                && (work.unreleased.contains(&(msg_id, digest)) || is_repeated && is_told)
            {
                out.send(peer, &Packet::PubRec(msg_id));
                true
            } else if qos == Qos::AtLeastOnce && is_told {
                out.send(peer, &answer(ReturnCode::ACCEPTED));
                true
            } else {
                false
            };
            if is_repetition {
                self.counts.repetitions += 1;
                session.tidy();
                return Ok(());
            }
            if work.unanswered.len() == UNANSWERED_MAX {
                out.send(peer, &answer(ReturnCode::CONGESTION));
                return Err(Violation::new("6.6", "too many messages of the client are unanswered"));
            }
            // With QoS 2 its sender has given up the message that had this id.
            work.unreleased.retain(|(other, _)| *other != msg_id);
            work.unanswered.push(Unanswered { msg_id, digest, topic, qos, at_ms: now_ms });
            receipt = Some(Receipt { client, msg_id, digest });
        }
        out.tell(Event::Published { client, topic: name, payload: payload.into(), receipt });
        Ok(())
    }

    /// A message of a client was taken, or was not. Each receipt is answered once.
    pub fn accepted(&mut self, receipt: Receipt, answer: Answer, out: &mut Output) {
        let Receipt { client, msg_id, digest } = receipt;
        // Another connection may have given the same id to another message.
        let Some(session) = self.table.of_client(client) else { return };
        let peer = session.peer;
        let Some(work) = &mut session.work else { return };
        let is = |message: &Unanswered| message.msg_id == msg_id && message.digest == digest;
        let Some(place) = work.unanswered.iter().position(is) else { return };
        let Unanswered { topic, qos, .. } = work.unanswered.remove(place);
        if qos == Qos::ExactlyOnce && answer == Answer::Taken {
            if work.unreleased.len() == UNRELEASED_MAX {
                work.unreleased.pop_front();
            }
            work.unreleased.push_back((msg_id, digest));
            out.send(peer, &Packet::PubRec(msg_id));
        } else {
            if answer == Answer::Taken {
                session.told.add(msg_id, digest);
            }
            out.send(peer, &Packet::PubAck(Ack { topic_id: topic.id(), msg_id, code: answer.code() }));
        }
        session.tidy();
    }

    /// A client will not repeat a message of QoS 2 any more.
    fn released(&mut self, slot: u32, msg_id: u16, out: &mut Output) -> Result<(), Violation> {
        let Some(session) = self.table.get_mut(slot) else { return Err(NOT_CONNECTED) };
        if let Some(work) = &mut session.work
            && let Some(place) = work.unreleased.iter().position(|(other, _)| *other == msg_id)
            && let Some((_, digest)) = work.unreleased.remove(place)
        {
            session.told.add(msg_id, digest);
        }
        out.send(session.peer, &Packet::PubComp(msg_id));
        session.tidy();
        Ok(())
    }

    /// Somebody publishes with QoS −1, be it connected or not (§6.8).
    pub(super) fn publish_unconnected(
        &mut self,
        peer: Peer,
        publish: &Publish<'_>,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let client = self.heard(peer, now_ms).map(|slot| self.table.client(slot));
        let topic = match publish.topic {
            Topic::Normal(_) => {
                Err(Violation::new("6.8", "a message of QoS −1 has a topic id that was registered"))
            }
            Topic::Predefined(id) => self.settings.predefined(id).ok_or(NO_TOPIC),
            Topic::Short(ref name) => Name(name).topic(),
        };
        let topic = Box::from(topic?);
        let payload = publish.payload.into();
        match client {
            Some(client) => out.tell(Event::Published { client, topic, payload, receipt: None }),
            None if self.settings.takes_unconnected => {
                out.tell(Event::PublishedUnconnected { from: peer.address(), topic, payload });
            }
            None => return Err(NOT_CONNECTED),
        }
        Ok(())
    }

    /// A client subscribes (§6.9).
    fn subscribe(&mut self, slot: u32, subscribe: &Subscribe<'_>, out: &mut Output) -> Result<(), Violation> {
        let client = self.table.client(slot);
        let Some(session) = self.table.get_mut(slot) else { return Err(NOT_CONNECTED) };
        let msg_id = subscribe.msg_id;
        let (ack, outcome) = match add_subscription(session, subscribe, &self.settings) {
            Ok((topic_id, qos, new)) => {
                if let Some(filter) = new {
                    out.tell(Event::Subscribed { client, filter });
                }
                (SubAck { qos, topic_id, msg_id, code: ReturnCode::ACCEPTED }, Ok(()))
            }
            Err((code, violation)) => {
                (SubAck { qos: Qos::AtMostOnce, topic_id: 0, msg_id, code }, Err(violation))
            }
        };
        out.send(session.peer, &Packet::SubAck(ack));
        outcome
    }

    fn unsubscribe(
        &mut self,
        slot: u32,
        msg_id: u16,
        filter: Filter<'_>,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let client = self.table.client(slot);
        let Some(session) = self.table.get_mut(slot) else { return Err(NOT_CONNECTED) };
        // There is no return code that would say what is wrong.
        out.send(session.peer, &Packet::UnsubAck(msg_id));
        let (name, _) = filter_name(&filter, &self.settings).map_err(|(_, violation)| violation)?;
        let place = session.subscriptions.iter().position(|subscription| *subscription.filter == *name);
        if let Some(place) = place {
            let filter = session.subscriptions.remove(place).filter;
            out.tell(Event::Unsubscribed { client, filter });
        }
        Ok(())
    }
}

/// The name of the topic in a PUBLISH.
fn topic_name<'a>(
    topic: Topic,
    session: &'a Session,
    settings: &'a Settings,
) -> Result<NameOf<'a>, Violation> {
    match topic {
        Topic::Normal(id) => session.topics.name(id).map(NameOf::Known).ok_or(NO_TOPIC),
        Topic::Predefined(id) => settings.predefined(id).map(NameOf::Known).ok_or(NO_TOPIC),
        Topic::Short(name) => Name(&name).topic().map(|_| NameOf::Short(name)),
    }
}

/// A name that is known, or stands in the message itself.
enum NameOf<'a> {
    Known(&'a str),
    /// Text, as was looked at.
    Short([u8; 2]),
}

impl From<NameOf<'_>> for Box<str> {
    fn from(name: NameOf<'_>) -> Self {
        match name {
            NameOf::Known(name) => name.into(),
            NameOf::Short(name) => String::from_utf8_lossy(&name).into(),
        }
    }
}

type Refused = (ReturnCode, Violation);

/// What a filter subscribes, and the predefined topic that it names.
fn filter_name<'a>(
    filter: &'a Filter<'a>,
    settings: &'a Settings,
) -> Result<(&'a str, Option<u16>), Refused> {
    let not_supported = |violation| (ReturnCode::NOT_SUPPORTED, violation);
    match filter {
        Filter::Name(name) => {
            let name = name.filter().map_err(not_supported)?;
            if name.len() > NAME_BYTES_MAX {
                return Err(not_supported(TOO_LONG));
            }
            Ok((name, None))
        }
        Filter::Short(name) => Ok((Name(name).topic().map_err(not_supported)?, None)),
        Filter::Predefined(id) => {
            let name = settings.predefined(*id).ok_or((ReturnCode::INVALID_TOPIC_ID, NO_TOPIC))?;
            Ok((name, Some(*id)))
        }
    }
}

/// Answers the topic id and the QoS for the SUBACK, and the filter if the client had it not.
fn add_subscription(
    session: &mut Session,
    subscribe: &Subscribe<'_>,
    settings: &Settings,
) -> Result<(u16, Qos, Option<Box<str>>), Refused> {
    let (name, predefined) = filter_name(&subscribe.filter, settings)?;
    let qos = match subscribe.qos {
        Qos::AtMostOnce => Qos::AtMostOnce,
        // What a gateway has to say is said with QoS 1 at most.
        Qos::AtLeastOnce | Qos::ExactlyOnce => Qos::AtLeastOnce,
        Qos::WithoutConnection => {
            let violation = Violation::new("5.4.15", "a subscription of QoS −1 is none");
            return Err((ReturnCode::NOT_SUPPORTED, violation));
        }
    };
    let old = session.subscriptions.iter().position(|subscription| *subscription.filter == *name);
    if old.is_none() && session.subscriptions.len() == SUBSCRIPTIONS_MAX {
        let violation = Violation::new("6.9", "the client has as many subscriptions as it may");
        return Err((ReturnCode::CONGESTION, violation));
    }
    let topic_id = match subscribe.filter {
        Filter::Predefined(id) => id,
        // "Not relevant" for these (§5.4.16).
        Filter::Short(_) => 0,
        Filter::Name(_) if name.contains(['+', '#']) => 0,
        Filter::Name(_) => {
            let id = session.topics.id_of(name).ok_or((ReturnCode::CONGESTION, TOO_MANY_TOPICS))?;
            session.topics.set_known(id, true);
            id
        }
    };
    let subscription = Subscription { filter: name.into(), qos, predefined };
    let new = match old.and_then(|place| session.subscriptions.get_mut(place)) {
        Some(old) => {
            *old = subscription;
            None
        }
        None => {
            session.subscriptions.push(subscription);
            Some(name.into())
        }
    };
    Ok((topic_id, qos, new))
}

/// By which the content of a message is known again.
fn digest(topic: Topic, payload: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u8(match topic {
        Topic::Normal(_) => 0,
        Topic::Predefined(_) => 1,
        Topic::Short(_) => 2,
    });
    hasher.write_u16(topic.id());
    hasher.write(payload);
    hasher.finish() as u32
}
