//! What comes from the device: messages with their order and their acknowledgement (MQTT 5 §4.3, §4.6),
//! topic aliases, and the packets that the session answers by itself.

use std::sync::Arc;

use super::super::{
    Ack, Delivery, Packet, PacketId, Place, Properties, Property, PropertyList, ProtocolVersion, Publish,
    Qos, ReasonCode, Violation,
};
use super::{Arrival, Arrived, Epoch, Limits, Output, Peer, Receipt, Session, TopicName, Work};

/// A message of QoS 2 that the device has not released.
#[derive(Debug)]
pub(super) struct Received {
    packet_id: u16,
    /// The connection on which it came first: the owner's answer names it.
    epoch: Epoch,
    /// Whether the owner has it. Before that it is not received, whatever else comes (MQTT 5 §4.3.3).
    is_committed: bool,
    /// Whether the device counts it on this connection: until PUBCOMP (§4.9).
    pub counts: bool,
}

/// A PUBACK or PUBREC that has its place in the order.
#[derive(Debug)]
pub(super) struct Answer {
    packet_id: u16,
    is_exactly_once: bool,
    /// None: the owner has not answered.
    reason: Option<ReasonCode>,
    text: Option<Box<str>>,
}

const TAKEN_OVER: Violation = Violation::new(
    ReasonCode::SessionTakenOver,
    "MQTT-3.1.4-3",
    "another connection has taken the session over",
);

impl Work {
    /// How many messages the device has sent ahead of their answers, as the device counts them (§4.9).
    pub fn unanswered(&self) -> usize {
        let at_least_once = self.answers.iter().filter(|answer| !answer.is_exactly_once).count();
        at_least_once + self.received.iter().filter(|received| received.counts).count()
    }

    fn awaits(&self, packet_id: u16) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.packet_id == packet_id)
    }

    fn owe(&mut self, packet_id: u16, qos: Qos, reason: Option<ReasonCode>) {
        let is_exactly_once = qos == Qos::ExactlyOnce;
        self.answers.push_back(Answer { packet_id, is_exactly_once, reason, text: None });
    }
}

impl Session {
    /// The connection of this epoch, if it is still the present one.
    pub(super) fn peer_of_epoch(&self, epoch: Epoch) -> Result<Peer, Violation> {
        self.peer.filter(|_| epoch == self.epoch).ok_or(TAKEN_OVER)
    }

    /// One packet of the device after its CONNECT.
    ///
    /// # Errors
    /// The packet breaks a rule, or the connection is not the present one (0x8E): say
    /// [`Peer::disconnect`], close, and [`detach`](Self::detach).
    pub fn receive<'p>(
        &mut self,
        epoch: Epoch,
        packet: &Packet<'p>,
        limits: &Limits,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<Arrival<'p>, Violation> {
        let peer = self.peer_of_epoch(epoch)?;
        if self.is_leaving {
            return Err(Violation::protocol("MQTT-3.14.4-1", "a packet comes after DISCONNECT"));
        }
        self.heard_ms = now_ms;
        match packet {
            Packet::Publish(publish) => return self.publish(&peer, publish, limits, out),
            Packet::Subscribe(subscribe) => return Ok(Arrival::Subscribe(*subscribe)),
            Packet::Unsubscribe(unsubscribe) => return self.unsubscribe(&peer, unsubscribe, out),
            Packet::PubAck(ack) => self.acknowledged(ack, out)?,
            Packet::PubRec(ack) => self.taken(&peer, ack, out)?,
            Packet::PubComp(ack) => self.completed(ack)?,
            Packet::PubRel(ack) => self.released(&peer, ack.packet_id, out),
            // [MQTT-3.12.4-1].
            Packet::PingReq => put(&peer, &Packet::PingResp, out),
            Packet::Disconnect(disconnect) => {
                self.leave(disconnect.reason, disconnect.properties, limits)?;
                return Ok(Arrival::Disconnected(disconnect.reason));
            }
            Packet::Connect(_) => {
                return Err(Violation::protocol("MQTT-3.1.0-2", "a second CONNECT comes"));
            }
            Packet::Auth(_) => {
                let text = "AUTH comes, and CONNECT had no Authentication Method";
                return Err(Violation::protocol("MQTT-4.12.0-7", text));
            }
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                return Err(Violation::protocol("MQTT 5 §2.1.2", "a packet comes that servers send"));
            }
        }
        // An acknowledgement may have made room for what waits.
        self.pump(limits, now_ms, out);
        self.tidy();
        Ok(Arrival::Nothing)
    }

    /// DISCONNECT (MQTT 5 §3.14.4): without a failure the will is given up \[MQTT-3.14.4-3\].
    fn leave(
        &mut self,
        reason: ReasonCode,
        properties: Properties<'_>,
        limits: &Limits,
    ) -> Result<(), Violation> {
        if let Some(expiry_s) = properties.session_expiry_interval() {
            if self.expiry_s == 0 && expiry_s > 0 {
                let text = "DISCONNECT keeps a session that CONNECT let end";
                return Err(Violation::protocol("MQTT 5 §3.14.2.2.2", text));
            }
            self.expiry_s = expiry_s.min(limits.session_expiry_s_max);
        }
        if reason == ReasonCode::Success {
            self.will = None;
        }
        self.is_leaving = true;
        Ok(())
    }

    fn publish<'p>(
        &mut self,
        peer: &Peer,
        publish: &Publish<'p>,
        limits: &Limits,
        out: &mut Output,
    ) -> Result<Arrival<'p>, Violation> {
        if publish.retain && peer.version == ProtocolVersion::V5 && !limits.retain_available {
            let text = "retained messages are not kept";
            return Err(Violation::new(ReasonCode::RetainNotSupported, "MQTT-3.2.2-14", text));
        }
        let topic = self.resolve(peer, publish)?;
        let receipt = match publish.delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce { packet_id, is_repeated } => {
                let is_new = self.at_least_once(peer, packet_id.get(), is_repeated, limits)?;
                if !is_new {
                    self.flush(out);
                    return Ok(Arrival::Nothing);
                }
                Some(packet_id)
            }
            Delivery::ExactlyOnce { packet_id, .. } => {
                let is_new = self.exactly_once(peer, packet_id.get(), limits)?;
                if !is_new {
                    self.flush(out);
                    return Ok(Arrival::Nothing);
                }
                Some(packet_id)
            }
        };
        let qos = publish.delivery.qos();
        Ok(Arrival::Message(Arrived {
            topic,
            qos,
            retain: publish.retain,
            properties: publish.properties,
            payload: publish.payload,
            receipt: receipt.map(|packet_id| Receipt { epoch: self.epoch, packet_id: packet_id.get(), qos }),
        }))
    }

    /// The topic of a message, by its alias where it has one (MQTT 5 §3.3.2.3.4).
    fn resolve<'p>(&mut self, peer: &Peer, publish: &Publish<'p>) -> Result<TopicName<'p>, Violation> {
        let Some(alias) = publish.properties.topic_alias() else {
            return Ok(TopicName::InPacket(publish.topic));
        };
        if alias > peer.topic_alias_offered {
            let text = "a Topic Alias is above Topic Alias Maximum";
            return Err(Violation::new(ReasonCode::TopicAliasInvalid, "MQTT-3.3.2-9", text));
        }
        let aliases = &mut self.work().aliases_in;
        let place = usize::from(alias) - 1;
        if publish.topic.is_empty() {
            let known = aliases.get(place).cloned().flatten();
            let unknown = Violation::protocol("MQTT 5 §3.3.2.3.4", "a Topic Alias stands for no topic");
            return known.map(TopicName::OfAlias).ok_or(unknown);
        }
        if aliases.len() <= place {
            aliases.resize(place + 1, None);
        }
        let topic: Arc<str> = publish.topic.into();
        aliases[place] = Some(Arc::clone(&topic));
        Ok(TopicName::OfAlias(topic))
    }

    /// Gives a message of QoS 1 its place. Answers whether it is a new one.
    fn at_least_once(
        &mut self,
        peer: &Peer,
        packet_id: u16,
        is_repeated: bool,
        limits: &Limits,
    ) -> Result<bool, Violation> {
        let work = self.work();
        let awaited = work.awaits(packet_id);
        // Some clients repeat a message by a timer, which they must not [MQTT-4.4.0-1]: one PUBACK is for both.
        if awaited.is_some_and(|answer| !answer.is_exactly_once && is_repeated) {
            return Ok(false);
        }
        let is_awaited = awaited.is_some();
        check_receive_maximum(work, peer, limits)?;
        // A device that begins anew without its state uses the identifier of an exchange that it has
        // forgotten: that is given up, or the device could never connect again. On one connection it is a
        // fault.
        work.received.retain(|received| received.packet_id != packet_id || received.counts);
        if is_awaited || work.received.iter().any(|received| received.packet_id == packet_id) {
            return self.in_use(peer, packet_id, Qos::AtLeastOnce, limits);
        }
        work.owe(packet_id, Qos::AtLeastOnce, None);
        Ok(true)
    }

    /// Gives a message of QoS 2 its place (MQTT 5 §4.3.3). Answers whether it is a new one.
    fn exactly_once(&mut self, peer: &Peer, packet_id: u16, limits: &Limits) -> Result<bool, Violation> {
        let epoch = self.epoch;
        let work = self.work();
        let is_answered_later = work.awaits(packet_id).is_some();
        let known = work.received.iter().position(|received| received.packet_id == packet_id);
        if known.is_none_or(|place| !work.received[place].counts) {
            check_receive_maximum(work, peer, limits)?;
        }
        if let Some(place) = known {
            let received = &mut work.received[place];
            received.counts = true;
            // It came before: it is not delivered again, and PUBREC goes out once the owner has it
            // [MQTT-4.3.3-10]. One PUBREC is for all repetitions until then.
            let reason = received.is_committed.then_some(ReasonCode::Success);
            if !is_answered_later {
                work.owe(packet_id, Qos::ExactlyOnce, reason);
            }
            return Ok(false);
        }
        if is_answered_later {
            return self.in_use(peer, packet_id, Qos::ExactlyOnce, limits);
        }
        if work.received.len() >= limits.unreleased_max {
            let text = "too many messages of QoS 2 are not released";
            return Err(Violation::new(ReasonCode::QuotaExceeded, "MQTT 5 §4.13.2", text));
        }
        work.received.push(Received { packet_id, epoch, is_committed: false, counts: true });
        work.owe(packet_id, Qos::ExactlyOnce, None);
        Ok(true)
    }

    /// A new message has the identifier of one that is under way \[MQTT-2.2.1-3\]. MQTT 5 can say so; to
    /// 3.1.1 an acknowledgement would mean that the message was taken.
    fn in_use(&mut self, peer: &Peer, packet_id: u16, qos: Qos, limits: &Limits) -> Result<bool, Violation> {
        if peer.version == ProtocolVersion::V311 {
            return Err(Violation::protocol("MQTT-2.2.1-3", "a packet identifier is in use"));
        }
        let work = self.work();
        // Such an answer waits behind others, and their number has a bound.
        if work.answers.len() >= usize::from(limits.receive_max) + limits.unreleased_max {
            return Err(RECEIVE_MAXIMUM_EXCEEDED);
        }
        work.owe(packet_id, qos, Some(ReasonCode::PacketIdentifierInUse));
        Ok(false)
    }

    /// The owner's answer to a message: it is committed, or refused with a reason of PUBACK
    /// (another becomes 0x83). It may come when the connection or the session is over. The PUBACK or PUBREC
    /// is in `out` when all before it have been answered \[MQTT-4.6.0-2, MQTT-4.6.0-3\].
    ///
    /// `text` is sent as the Reason String, if it is not empty and the device wants and takes it.
    // A receipt answers once: it is used up.
    #[expect(clippy::needless_pass_by_value, reason = "a receipt is for one answer")]
    pub fn answer(&mut self, receipt: Receipt, reason: ReasonCode, text: &str, out: &mut Output) {
        let reason = if reason.is_allowed_in(Place::PubAck) {
            reason
        } else {
            ReasonCode::ImplementationSpecificError
        };
        let is_exactly_once = receipt.qos == Qos::ExactlyOnce;
        let is_of_this_connection = receipt.epoch == self.epoch && self.is_connected();
        let speaks_v5 = self.speaks_v5;
        let Some(work) = &mut self.work else { return };
        if is_exactly_once {
            let of_receipt = |received: &Received| {
                received.packet_id == receipt.packet_id && received.epoch == receipt.epoch
            };
            let Some(place) = work.received.iter().position(of_receipt) else { return };
            if speaks_v5 && reason.is_failure() {
                // The identifier is free again [MQTT-4.3.3-9]; 3.1.1 goes on to PUBREL.
                work.received.swap_remove(place);
            } else {
                work.received[place].is_committed = true;
            }
        } else if !is_of_this_connection {
            // PUBACK belongs to the connection: the device sends the message again on the next.
            return;
        }
        let owed = work.answers.iter_mut().find(|answer| {
            answer.packet_id == receipt.packet_id
                && answer.is_exactly_once == is_exactly_once
                && answer.reason.is_none()
        });
        if let Some(answer) = owed {
            answer.reason = Some(reason);
            answer.text = (!text.is_empty()).then(|| text.into());
        }
        self.flush(out);
        self.tidy();
    }

    /// Writes the answers that are next and known.
    fn flush(&mut self, out: &mut Output) {
        let (Some(peer), Some(work)) = (self.peer, &mut self.work) else { return };
        while let Some(answer) = work.answers.front() {
            let Some(reason) = answer.reason else { break };
            if let Some(packet_id) = PacketId::new(answer.packet_id) {
                let text = answer.text.as_deref().unwrap_or("");
                put_answer(&peer, packet_id, answer.is_exactly_once, reason, text, out);
            }
            work.answers.pop_front();
        }
        if work.answers.is_empty() {
            work.answers.shrink_to_fit();
        }
    }

    /// PUBREL \[MQTT-4.3.3-11\].
    fn released(&mut self, peer: &Peer, packet_id: PacketId, out: &mut Output) {
        let received = self.work.as_ref().map_or(&[][..], |work| &work.received);
        let known = received
            .iter()
            .position(|received| received.packet_id == packet_id.get() && received.is_committed);
        let reason = match (known, &mut self.work) {
            (Some(place), Some(work)) => {
                work.received.swap_remove(place);
                ReasonCode::Success
            }
            // It was released before, on a connection whose PUBCOMP was lost; or it was not answered yet.
            _ => ReasonCode::PacketIdentifierNotFound,
        };
        put(peer, &Packet::PubComp(Ack::with_reason(packet_id, reason)), out);
    }
}

const RECEIVE_MAXIMUM_EXCEEDED: Violation = Violation::new(
    ReasonCode::ReceiveMaximumExceeded,
    "MQTT-3.3.4-7",
    "more messages are unanswered than Receive Maximum",
);

/// That one message more is within what the device was told. 3.1.1 was told nothing: its reader stops
/// reading ([`Session::has_room`]).
fn check_receive_maximum(work: &Work, peer: &Peer, limits: &Limits) -> Result<(), Violation> {
    if peer.version == ProtocolVersion::V5 && work.unanswered() >= usize::from(limits.receive_max) {
        return Err(RECEIVE_MAXIMUM_EXCEEDED);
    }
    Ok(())
}

/// Writes a packet of at most five bytes, which every device takes.
pub(super) fn put(peer: &Peer, packet: &Packet<'_>, out: &mut Output) {
    // Its reason is one of the packet's, so that nothing is refused here.
    let written = packet.encode(peer.version, &mut out.bytes);
    debug_assert!(written.is_ok(), "{written:?}");
}

/// Writes PUBACK or PUBREC, with its text if the device wants it \[MQTT-3.1.2-29\] and it fits
/// \[MQTT-3.4.2-2, MQTT-3.5.2-2\].
fn put_answer(
    peer: &Peer,
    packet_id: PacketId,
    is_exactly_once: bool,
    reason: ReasonCode,
    text: &str,
    out: &mut Output,
) {
    let place = if is_exactly_once { Place::PubRec } else { Place::PubAck };
    let bare = Ack::with_reason(packet_id, reason);
    if !text.is_empty() && peer.wants_problem_information && peer.version == ProtocolVersion::V5 {
        let list = PropertyList::new(place).with(Property::ReasonString(text));
        // A text that is too long for a string is left out as one that does not fit.
        if let Ok(list) = &list {
            let explained = Ack { properties: list.properties(), ..bare };
            let explained =
                if is_exactly_once { Packet::PubRec(explained) } else { Packet::PubAck(explained) };
            if peer.fits(&explained) {
                return put(peer, &explained, out);
            }
        }
    }
    let bare = if is_exactly_once { Packet::PubRec(bare) } else { Packet::PubAck(bare) };
    put(peer, &bare, out);
}
