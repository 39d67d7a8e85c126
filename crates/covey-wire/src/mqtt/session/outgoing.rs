//! What goes to the device: messages in their order, as many at a time as it takes, again after a lost
//! connection, with what their acknowledgements say (MQTT 5 §4.3, §4.4, §4.6, §4.9).

use super::super::{
    Ack, Delivery, Packet, PacketId, Place, Properties, Property, Publish, Qos, ReasonCode, Violation,
};
use super::incoming::put;
use super::{Limits, Message, Outcome, Output, Peer, Sent, Session, Work};

/// An alias takes three bytes of properties: for a topic that is no longer it saves nothing.
const ALIASED_TOPIC_BYTES_MIN: usize = 4;

/// How far a message of QoS 1 or 2 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has not been sent.
    Waiting,
    /// It has been sent, on this connection or an earlier one.
    Published,
    /// PUBREC has come: the device has it.
    Released,
}

/// A message of QoS 1 or 2 on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub token: u64,
    /// When its Message Expiry Interval is over; none: never.
    expires_at_ms: Option<u64>,
    /// 0 while it waits.
    packet_id: u16,
    qos: Qos,
    stage: Stage,
    /// Whether it, or its PUBREL, has gone out on this connection.
    pub is_sent: bool,
    /// Whether it counts against the device's Receive Maximum: since PUBLISH on this connection.
    pub counts: bool,
    topic: Box<str>,
    /// Properties, then payload.
    body: Box<[u8]>,
    properties_bytes: usize,
}

impl Outgoing {
    /// Whether its owner has not been told an outcome.
    pub fn is_owed(&self) -> bool {
        self.stage != Stage::Released
    }

    fn bytes(&self) -> usize {
        self.topic.len() + self.body.len()
    }

    fn draft(&self) -> Draft<'_> {
        let (properties, payload) = self.body.split_at_checked(self.properties_bytes).unwrap_or_default();
        Draft { topic: &self.topic, expires_at_ms: self.expires_at_ms, properties, payload }
    }
}

/// A message as it is put together for one connection.
struct Draft<'a> {
    topic: &'a str,
    expires_at_ms: Option<u64>,
    properties: &'a [u8],
    payload: &'a [u8],
}

/// How a topic alias is used in one packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alias {
    None,
    /// It is told with the topic.
    New(u16),
    /// It stands for the topic.
    Known(u16),
}

impl Draft<'_> {
    /// Hands over the packet. The Message Expiry Interval is what is left of it \[MQTT-3.3.2-6\].
    fn with_packet<R>(
        &self,
        delivery: Delivery,
        alias: Alias,
        now_ms: u64,
        scratch: &mut Vec<u8>,
        use_it: impl FnOnce(&Packet<'_>) -> R,
    ) -> R {
        scratch.clear();
        if let Some(end) = self.expires_at_ms {
            let left_s = end.saturating_sub(now_ms).div_ceil(1_000);
            Property::MessageExpiryInterval(u32::try_from(left_s).unwrap_or(u32::MAX)).write(scratch);
        }
        let topic = match alias {
            Alias::None => self.topic,
            Alias::New(number) => {
                Property::TopicAlias(number).write(scratch);
                self.topic
            }
            Alias::Known(number) => {
                Property::TopicAlias(number).write(scratch);
                ""
            }
        };
        scratch.extend_from_slice(self.properties);
        let properties = Properties::checked(scratch, Place::PublishFromServer);
        use_it(&Packet::Publish(Publish {
            delivery,
            retain: false,
            topic,
            properties,
            payload: self.payload,
        }))
    }

    /// Writes it, with a topic alias where that is shorter. None: it is larger than the device takes.
    fn write(
        &self,
        delivery: Delivery,
        peer: &Peer,
        aliases: &mut Vec<Box<str>>,
        limits: &Limits,
        now_ms: u64,
        out: &mut Output,
    ) -> Option<()> {
        let Output { bytes, scratch, .. } = out;
        let wanted = alias_of(self.topic, peer, aliases, limits);
        // A new alias makes the packet longer; what fits without it goes without it.
        let again = if matches!(wanted, Alias::New(_)) { Some(Alias::None) } else { None };
        for alias in std::iter::once(wanted).chain(again) {
            let is_written = self.with_packet(delivery, alias, now_ms, scratch, |packet| {
                peer.fits(packet) && packet.encode(peer.version, bytes).is_ok()
            });
            if is_written {
                if matches!(alias, Alias::New(_)) {
                    aliases.push(self.topic.into());
                }
                return Some(());
            }
        }
        None
    }

    /// Whether it can be written at all, and is no larger than the device takes: [`Sent::Waiting`] if so.
    fn check(
        &self,
        qos: Qos,
        session: &Session,
        limits: &Limits,
        now_ms: u64,
        scratch: &mut Vec<u8>,
    ) -> Sent {
        let peer = session.peer.as_ref();
        let aliases = session.work.as_ref().map_or(&[][..], |work| &work.aliases_out);
        let alias = match peer.map(|peer| alias_of(self.topic, peer, aliases, limits)) {
            Some(Alias::Known(number)) => Alias::Known(number),
            // A new one is only told where there is room for it.
            _ => Alias::None,
        };
        // Every packet identifier takes the same room.
        let delivery = delivery(qos, PacketId::MIN, false);
        self.with_packet(delivery, alias, now_ms, scratch, |packet| match packet.check(session.version()) {
            Err(violation) => Sent::Invalid(violation),
            Ok(()) if peer.is_some_and(|peer| !peer.fits(packet)) => Sent::TooLarge,
            Ok(()) => Sent::Waiting,
        })
    }
}

/// Which alias the topic has, or gets (MQTT 5 §3.3.2.3.4). Aliases are given to the first topics, and never
/// to others: a device is sent on few.
fn alias_of(topic: &str, peer: &Peer, aliases: &[Box<str>], limits: &Limits) -> Alias {
    let number = |place: usize| u16::try_from(place + 1).unwrap_or(u16::MAX);
    // [MQTT-3.1.2-26, MQTT-3.1.2-27].
    let allowed = usize::from(peer.topic_alias_max.min(limits.topic_aliases_out_max));
    if let Some(place) = aliases.iter().position(|known| &**known == topic) {
        Alias::Known(number(place))
    } else if aliases.len() < allowed && topic.len() >= ALIASED_TOPIC_BYTES_MIN {
        Alias::New(number(aliases.len()))
    } else {
        Alias::None
    }
}

fn delivery(qos: Qos, packet_id: PacketId, is_repeated: bool) -> Delivery {
    match qos {
        Qos::AtMostOnce => Delivery::AtMostOnce,
        Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id, is_repeated },
        Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id, is_repeated },
    }
}

/// That they are those of a message, without what the session adds.
fn check_properties(properties: Properties<'_>) -> Result<(), Violation> {
    properties.check(&[Place::PublishFromServer])?;
    let is_added = |property| {
        matches!(
            property,
            Property::MessageExpiryInterval(_)
                | Property::TopicAlias(_)
                | Property::SubscriptionIdentifier(_)
        )
    };
    if properties.iter().any(is_added) {
        return Err(Violation::protocol("MQTT 5 §2.2.2.2", "a message has a property that its session adds"));
    }
    Ok(())
}

impl Session {
    /// Sends a message to the device, or keeps it until it can be sent. Messages with QoS 1 and 2 go out in
    /// the order in which they are given \[MQTT-4.6.0-6\].
    pub fn send(&mut self, message: &Message<'_>, limits: &Limits, now_ms: u64, out: &mut Output) -> Sent {
        let mut body = Vec::new();
        let Some(highest) = self.matching(message.topic, &mut body) else { return Sent::NotSubscribed };
        let qos = message.qos.min(highest);
        if qos == Qos::AtMostOnce && !self.is_connected() {
            return Sent::NotConnected;
        }
        if let Err(violation) = check_properties(message.properties) {
            return Sent::Invalid(violation);
        }
        let properties = if self.speaks_v5 {
            body.splice(0..0, message.properties.as_bytes().iter().copied());
            body.len()
        } else {
            body.clear();
            0
        };
        body.extend_from_slice(message.payload);
        let expires_at_ms = message.expiry_s.map(|seconds| now_ms + u64::from(seconds) * 1_000);
        let (of_properties, payload) = body.split_at_checked(properties).unwrap_or_default();
        let draft = Draft { topic: message.topic, expires_at_ms, properties: of_properties, payload };
        match draft.check(qos, self, limits, now_ms, &mut out.scratch) {
            Sent::Waiting => {}
            refused => return refused,
        }
        if qos == Qos::AtMostOnce {
            return self.send_at_most_once(&draft, limits, now_ms, out);
        }
        let entry = Outgoing {
            token: message.token,
            expires_at_ms,
            packet_id: 0,
            qos,
            stage: Stage::Waiting,
            is_sent: false,
            counts: false,
            topic: message.topic.into(),
            body: body.into_boxed_slice(),
            properties_bytes: properties,
        };
        self.queue(entry, limits, now_ms, out)
    }

    fn send_at_most_once(
        &mut self,
        draft: &Draft<'_>,
        limits: &Limits,
        now_ms: u64,
        out: &mut Output,
    ) -> Sent {
        let Some(peer) = self.peer else { return Sent::NotConnected };
        let aliases = &mut self.work().aliases_out;
        let written = draft.write(Delivery::AtMostOnce, &peer, aliases, limits, now_ms, out);
        self.tidy();
        written.map_or(Sent::TooLarge, |()| Sent::Written)
    }

    /// Puts a message behind the others, and sends it if it is its turn.
    fn queue(&mut self, entry: Outgoing, limits: &Limits, now_ms: u64, out: &mut Output) -> Sent {
        let is_away = !self.is_connected();
        let work = self.work();
        let is_full = is_away && work.kept_bytes + entry.bytes() > limits.away_bytes_max
            || work.waiting >= limits.waiting_messages_max
            || work.waiting_bytes + entry.bytes() > limits.waiting_bytes_max;
        if is_full {
            self.tidy();
            return Sent::Full;
        }
        work.waiting += 1;
        work.waiting_bytes += entry.bytes();
        work.kept_bytes += entry.bytes();
        work.outgoing.push_back(entry);
        self.pump(limits, now_ms, out);
        let is_last_waiting = self.work.as_ref().is_some_and(|work| work.waiting > 0);
        if is_last_waiting { Sent::Waiting } else { Sent::Written }
    }

    /// Sends what may be sent: first again what an earlier connection had sent, then what waits.
    pub(super) fn pump(&mut self, limits: &Limits, now_ms: u64, out: &mut Output) {
        let (Some(peer), Some(work)) = (self.peer, &mut self.work) else { return };
        let quota = peer.receive_max.min(limits.in_flight_max);
        let mut place = 0;
        while let Some(entry) = work.outgoing.get(place) {
            if entry.is_sent || entry.stage == Stage::Released {
                place += 1;
                continue;
            }
            // Message expiry is not applied to what has been sent [MQTT-4.3.3-7].
            let is_waiting = entry.stage == Stage::Waiting;
            if is_waiting && entry.expires_at_ms.is_some_and(|end| now_ms > end) {
                out.outcomes.push(Outcome::Expired { token: entry.token });
                work.remove(place);
                continue;
            }
            // [MQTT-3.3.4-9, MQTT-4.9.0-2].
            if work.in_flight >= quota {
                break;
            }
            let packet_id = match PacketId::new(entry.packet_id) {
                Some(packet_id) => packet_id,
                None => work.unused_packet_id(&mut self.last_packet_id),
            };
            if work.write(place, packet_id, &peer, limits, now_ms, out) {
                place += 1;
            }
        }
    }

    /// After a connection has begun: PUBREL again for what the device has not completed \[MQTT-4.4.0-1\]. It
    /// counts until PUBCOMP, although the standard does not ask for that: a device that never completes
    /// would else hold any number of identifiers.
    pub(super) fn release_again(&mut self, out: &mut Output) {
        let (Some(peer), Some(work)) = (self.peer, &mut self.work) else { return };
        for entry in work.outgoing.iter_mut().filter(|entry| entry.stage == Stage::Released) {
            entry.is_sent = true;
            entry.counts = true;
            work.in_flight += 1;
            if let Some(packet_id) = PacketId::new(entry.packet_id) {
                put(&peer, &Packet::PubRel(Ack::success(packet_id)), out);
            }
        }
    }

    /// PUBACK.
    pub(super) fn acknowledged(&mut self, ack: &Ack<'_>, out: &mut Output) -> Result<(), Violation> {
        // What is not known was discarded here, and the device cannot know: nothing is to be done.
        let Some((work, place)) = self.sent_with(ack.packet_id) else { return Ok(()) };
        if work.outgoing[place].qos != Qos::AtLeastOnce {
            return Err(Violation::protocol("MQTT-3.3.4-1", "PUBACK comes for a message of QoS 2"));
        }
        let token = work.outgoing[place].token;
        out.outcomes.push(Outcome::Delivered { token, reason: ack.reason });
        work.remove(place);
        Ok(())
    }

    /// PUBREC: the device has the message, or refuses it \[MQTT-4.3.3-4, MQTT-4.4.0-2\].
    pub(super) fn taken(&mut self, peer: &Peer, ack: &Ack<'_>, out: &mut Output) -> Result<(), Violation> {
        let Some((work, place)) = self.sent_with(ack.packet_id) else {
            if !ack.reason.is_failure() {
                let unknown = Ack::with_reason(ack.packet_id, ReasonCode::PacketIdentifierNotFound);
                put(peer, &Packet::PubRel(unknown), out);
            }
            return Ok(());
        };
        let entry = &mut work.outgoing[place];
        if entry.qos != Qos::ExactlyOnce {
            return Err(Violation::protocol("MQTT-3.3.4-1", "PUBREC comes for a message of QoS 1"));
        }
        if entry.is_owed() {
            out.outcomes.push(Outcome::Delivered { token: entry.token, reason: ack.reason });
        }
        if ack.reason.is_failure() {
            work.remove(place);
            return Ok(());
        }
        entry.stage = Stage::Released;
        entry.is_sent = true;
        let bytes = entry.bytes();
        entry.topic = Box::default();
        entry.body = Box::default();
        entry.properties_bytes = 0;
        work.kept_bytes -= bytes;
        put(peer, &Packet::PubRel(Ack::success(ack.packet_id)), out);
        Ok(())
    }

    /// PUBCOMP.
    pub(super) fn completed(&mut self, ack: &Ack<'_>) -> Result<(), Violation> {
        let Some((work, place)) = self.sent_with(ack.packet_id) else { return Ok(()) };
        if work.outgoing[place].stage != Stage::Released {
            return Err(Violation::protocol("MQTT-3.3.4-1", "PUBCOMP comes before PUBREC"));
        }
        work.remove(place);
        Ok(())
    }

    /// The message that was sent with this identifier.
    fn sent_with(&mut self, packet_id: PacketId) -> Option<(&mut Work, usize)> {
        let work = self.work.as_deref_mut()?;
        let place = work.outgoing.iter().position(|entry| entry.packet_id == packet_id.get())?;
        Some((work, place))
    }
}

impl Work {
    /// Forgets a message, whatever its stage.
    fn remove(&mut self, place: usize) {
        let Some(entry) = self.outgoing.remove(place) else { return };
        self.kept_bytes -= entry.bytes();
        if entry.stage == Stage::Waiting {
            self.waiting -= 1;
            self.waiting_bytes -= entry.bytes();
        }
        if entry.counts {
            self.in_flight -= 1;
        }
    }

    /// A packet identifier that no message has \[MQTT-2.2.1-4\]. There is one: messages that have one count
    /// against the quota, a `u16`, which is not used up; those of earlier connections go out, and count, before
    /// any new one.
    fn unused_packet_id(&self, last: &mut u16) -> PacketId {
        loop {
            *last = last.checked_add(1).unwrap_or(1);
            if let Some(packet_id) = PacketId::new(*last)
                && !self.outgoing.iter().any(|entry| entry.packet_id == *last)
            {
                return packet_id;
            }
        }
    }

    /// Sends one message, with DUP if an earlier connection had sent it \[MQTT-3.3.1-1\]. If it is too
    /// large for this device it is dropped as if it had been sent, and the answer is false.
    fn write(
        &mut self,
        place: usize,
        packet_id: PacketId,
        peer: &Peer,
        limits: &Limits,
        now_ms: u64,
        out: &mut Output,
    ) -> bool {
        let entry = &mut self.outgoing[place];
        let is_repeated = entry.stage == Stage::Published;
        let delivery = delivery(entry.qos, packet_id, is_repeated);
        let written = entry.draft().write(delivery, peer, &mut self.aliases_out, limits, now_ms, out);
        if written.is_none() {
            out.outcomes.push(Outcome::TooLarge { token: entry.token });
            self.remove(place);
            return false;
        }
        let bytes = entry.bytes();
        entry.packet_id = packet_id.get();
        entry.stage = Stage::Published;
        entry.is_sent = true;
        entry.counts = true;
        if !is_repeated {
            self.waiting -= 1;
            self.waiting_bytes -= bytes;
        }
        self.in_flight += 1;
        true
    }
}
