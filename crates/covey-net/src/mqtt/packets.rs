//! What a connection does with the packets of its client: the session's rules first, then the owner's
//! decisions.

use std::task::Context;

use covey_wire::mqtt::session::{Arrival, Arrived, Output, Receipt, Session};
use covey_wire::mqtt::{
    Framing, Packet, ProtocolVersion, Qos, ReasonCode, Sender, Subscribe, UnsubscribeFilters, Violation,
    decode, frame,
};

use super::connection::Core;
use super::keeping::Change;
use super::service::{Answer, End, Handled, Publisher, Service};
use crate::transport::Transport;

impl<S: Service> Core<S> {
    /// Handles whole packets; answers how many bytes they had.
    pub(super) fn packets(&mut self, transport: &Transport, bytes: &[u8]) -> Result<usize, End> {
        let packet_bytes_max = self.hub.limits().session.packet_bytes_max;
        let packet_bytes_max = usize::try_from(packet_bytes_max).unwrap_or(usize::MAX);
        let mut used = 0;
        while !self.is_held(transport) {
            match frame(&bytes[used..], packet_bytes_max).map_err(End::Violation)? {
                Framing::Need(_) => break,
                Framing::Frame(frame) => {
                    let packet = decode(frame, self.peer.version, Sender::Client).map_err(End::Violation)?;
                    self.packet(&packet)?;
                    used += frame.size();
                    let service = self.hub.service();
                    self.hold = match packet {
                        Packet::PingReq => service.pinged(&self.client),
                        Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => {
                            None
                        }
                        _ => service.hold(&self.client),
                    };
                }
            }
        }
        Ok(used)
    }

    fn packet(&mut self, packet: &Packet<'_>) -> Result<(), End> {
        if let Packet::Unsubscribe(unsubscribe) = packet {
            return self.unsubscribe(packet, unsubscribe.filters);
        }
        let (epoch, limits, now_ms) = (self.epoch, &self.hub.limits().session, self.hub.now_ms());
        let receive = |session: &mut Session, output: &mut Output| {
            let expiry_s = session.expiry_s();
            let arrival = session.receive(epoch, packet, limits, now_ms, output);
            (arrival, session.expiry_s() != expiry_s)
        };
        let ((arrival, is_expiry_changed), outcomes) = self.device.lock().step(receive);
        self.hub.settle(&self.client, outcomes);
        match arrival.map_err(broken)? {
            Arrival::Nothing | Arrival::Unsubscribed(_) => Ok(()),
            Arrival::Message(message) => self.message(message),
            Arrival::Subscribe(subscribe) => self.subscribe(&subscribe),
            Arrival::Disconnected(reason) => {
                if is_expiry_changed {
                    self.keep_expiry();
                }
                Err(End::ByClient(reason))
            }
        }
    }

    /// The session gives the filters up at once; the answer waits until that is kept.
    fn unsubscribe(&mut self, packet: &Packet<'_>, filters: UnsubscribeFilters<'_>) -> Result<(), End> {
        let (epoch, limits, now_ms) = (self.epoch, &self.hub.limits().session, self.hub.now_ms());
        let receive = |session: &mut Session, output: &mut Output| {
            // Looked at before they are gone; a filter may stand in it more than once.
            let gone = subscribed_among(session, filters);
            let unsubscribed = session.receive(epoch, packet, limits, now_ms, output);
            unsubscribed.map(|_| gone)
        };
        let (gone, is_kept, answer) = {
            let mut inner = self.device.lock();
            let before = inner.bytes.len();
            // What is given up settles nothing that was sent to the client.
            let (gone, _) = inner.step(receive);
            let gone = gone.map_err(broken)?;
            inner.is_unkept |= !gone.is_empty();
            (gone, !inner.is_unkept, inner.bytes.split_off(before))
        };
        let gone = gone.into_iter().map(Box::from).collect();
        self.keep(is_kept, answer, Change::Unsubscribed(gone));
        Ok(())
    }

    fn message(&mut self, mut message: Arrived<'_>) -> Result<(), End> {
        let receipt = message.receipt.take();
        let publisher = Publisher { client: &self.client, connection: self.id, version: self.peer.version };
        match self.hub.service().publish(publisher, &message) {
            Handled::Now(answer) => self.answer(receipt, &answer),
            Handled::Later(answer) => {
                self.under_way.push(receipt, answer);
                Ok(())
            }
        }
    }

    /// Goes on with the messages that the owner is working on.
    pub(super) fn settle_messages(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        if self.under_way.len() == 0 {
            return Ok(());
        }
        let mut done = Vec::new();
        self.under_way.poll(context, &mut done);
        done.into_iter().try_for_each(|(receipt, answer)| self.answer(receipt, &answer))
    }

    /// Acknowledges a message.
    fn answer(&self, receipt: Option<Receipt>, answer: &Answer) -> Result<(), End> {
        if let Some(receipt) = receipt {
            let mut inner = self.device.lock();
            let before = inner.bytes.len();
            // An answer settles nothing that was sent to the client.
            inner.step(|session, output| session.answer(receipt, answer.reason, &answer.text, output));
            if answer.must_close && self.peer.version == ProtocolVersion::V311 {
                inner.bytes.truncate(before);
            }
        }
        if answer.must_close {
            return Err(End::Closed { reason: answer.reason, text: answer.text.clone() });
        }
        Ok(())
    }

    /// The session has the subscriptions at once; the answer waits until they are kept.
    fn subscribe(&mut self, subscribe: &Subscribe<'_>) -> Result<(), End> {
        let service = self.hub.service();
        let decide = |filter| match service.may_subscribe(&self.client, filter) {
            Ok(Qos::AtMostOnce) => ReasonCode::Success,
            Ok(Qos::AtLeastOnce) => ReasonCode::GrantedQos1,
            Ok(Qos::ExactlyOnce) => ReasonCode::GrantedQos2,
            Err(reason) => reason,
        };
        let reasons: Vec<ReasonCode> = subscribe.filters.iter().map(|(filter, _)| decide(filter)).collect();
        let (granted, is_kept, answer) = {
            let mut inner = self.device.lock();
            let before = inner.session.all_subscriptions().to_vec();
            let (epoch, limits) = (self.epoch, &self.hub.limits().session);
            let bytes = inner.bytes.len();
            // A subscription settles nothing that was sent to the client.
            let (granted, _) =
                inner.step(|session, output| session.grant(epoch, subscribe, &reasons, limits, output));
            granted.map_err(broken)?;
            let now = inner.session.all_subscriptions();
            let granted = subscribe.filters.iter().zip(&reasons).filter(|(_, reason)| !reason.is_failure());
            let granted: Vec<_> = granted
                .filter_map(|((filter, _), _)| {
                    // The session may have refused it for reasons of its own.
                    let known = now.iter().find(|known| &*known.filter == filter)?;
                    let is_new = before.iter().all(|known| &*known.filter != filter);
                    Some((Box::from(filter), known.qos, is_new))
                })
                .collect();
            inner.is_unkept |= now != before;
            (granted, !inner.is_unkept, inner.bytes.split_off(bytes))
        };
        self.keep(is_kept, answer, Change::Subscribed(granted));
        Ok(())
    }
}

/// Those of the filters that the client has subscribed to, each once.
fn subscribed_among<'p>(session: &Session, filters: UnsubscribeFilters<'p>) -> Vec<&'p str> {
    let mut found = Vec::new();
    for filter in filters.iter() {
        if session.is_subscribed_to(filter) && !found.contains(&filter) {
            found.push(filter);
        }
    }
    found
}

fn broken(violation: Violation) -> End {
    match violation.reason {
        ReasonCode::SessionTakenOver => End::TakenOver,
        _ => End::Violation(violation),
    }
}
