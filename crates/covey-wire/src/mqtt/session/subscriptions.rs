//! Subscriptions (MQTT 5 §3.8.4, §3.10.4): what the owner grants, and which of them a message matches.

use super::super::topic::{filter_matches, shared_subscription};
use super::super::{
    Packet, Place, Properties, Property, ProtocolVersion, Qos, ReasonCode, ReasonCodes, SubAck, Subscribe,
    UnsubAck, Unsubscribe, Violation,
};
use super::{Arrival, Epoch, Limits, Output, Peer, Session};

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its topic filter.
    pub filter: Box<str>,
    /// The highest that was granted.
    pub qos: Qos,
    /// Subscription Identifier; 0: none.
    pub identifier: u32,
}

const ANSWER_TOO_LARGE: Violation = Violation::new(
    ReasonCode::PacketTooLarge,
    "MQTT-3.1.2-24",
    "the answer is larger than the client's Maximum Packet Size",
);

/// The QoS that a reason of a SUBACK grants.
fn granted(reason: ReasonCode) -> Option<Qos> {
    Qos::from_bits(reason.code())
}

impl Session {
    /// What the owner decides of a SUBSCRIBE, a reason for each filter in its order: the highest QoS that it
    /// grants, or why not. What is missing is not granted. The SUBACK is in `out`.
    ///
    /// # Errors
    /// As for [`receive`](Self::receive): the connection is to be closed.
    pub fn grant(
        &mut self,
        epoch: Epoch,
        subscribe: &Subscribe<'_>,
        reasons: &[ReasonCode],
        limits: &Limits,
        out: &mut Output,
    ) -> Result<(), Violation> {
        let peer = self.peer_of_epoch(epoch)?;
        let identifier = subscribe.properties.find(|property| match property {
            Property::SubscriptionIdentifier(number) => Some(number),
            _ => None,
        });
        let mut decided = reasons.iter().copied();
        let mut codes = Vec::new();
        for (filter, options) in subscribe.filters.iter() {
            let reason = decided.next().unwrap_or(ReasonCode::UnspecifiedError);
            let reason = self.subscribe(&peer, filter, options.qos, identifier.unwrap_or(0), reason, limits);
            codes.push(reason.code());
        }
        let suback = Packet::SubAck(SubAck {
            packet_id: subscribe.packet_id,
            reasons: ReasonCodes::new(&codes, Place::SubAck)?,
            properties: Properties::NONE,
        });
        if !peer.fits(&suback) {
            return Err(ANSWER_TOO_LARGE);
        }
        suback.encode(peer.version, &mut out.bytes)?;
        Ok(())
    }

    fn subscribe(
        &mut self,
        peer: &Peer,
        filter: &str,
        wanted: Qos,
        identifier: u32,
        reason: ReasonCode,
        limits: &Limits,
    ) -> ReasonCode {
        // One message goes to one session here, so that there is nobody to share with.
        if peer.version == ProtocolVersion::V5 && shared_subscription(filter).is_some() {
            return ReasonCode::SharedSubscriptionsNotSupported;
        }
        let Some(highest) = granted(reason) else {
            let is_of_suback = reason.is_allowed_in(Place::SubAck);
            return if is_of_suback { reason } else { ReasonCode::UnspecifiedError };
        };
        let qos = wanted.min(highest);
        // An equal filter is replaced [MQTT-3.8.4-3].
        if let Some(known) = self.subscriptions.iter_mut().find(|known| &*known.filter == filter) {
            (known.qos, known.identifier) = (qos, identifier);
        } else if self.subscriptions.len() >= limits.subscriptions_max
            || self.subscription_bytes() + filter.len() > limits.subscription_bytes_max
        {
            return ReasonCode::QuotaExceeded;
        } else {
            self.subscriptions.reserve_exact(1);
            self.subscriptions.push(Subscription { filter: filter.into(), qos, identifier });
        }
        qos.granted()
    }

    fn subscription_bytes(&self) -> usize {
        self.subscriptions.iter().map(|known| known.filter.len()).sum()
    }

    /// Whether the device has a subscription with just this filter.
    #[must_use]
    pub fn is_subscribed_to(&self, filter: &str) -> bool {
        self.subscriptions.iter().any(|known| &*known.filter == filter)
    }

    /// The filters of the device, with the QoS that was granted.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&str, Qos)> {
        self.subscriptions.iter().map(|known| (&*known.filter, known.qos))
    }

    /// All that there is to know of them, in the order in which they were made.
    #[must_use]
    pub fn all_subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    pub(super) fn unsubscribe<'p>(
        &mut self,
        peer: &Peer,
        unsubscribe: &Unsubscribe<'p>,
        out: &mut Output,
    ) -> Result<Arrival<'p>, Violation> {
        let mut codes = Vec::new();
        for filter in unsubscribe.filters.iter() {
            // Character by character [MQTT-3.10.4-1].
            let known = self.subscriptions.iter().position(|known| &*known.filter == filter);
            let reason = match known {
                Some(place) => {
                    self.subscriptions.remove(place);
                    ReasonCode::Success
                }
                None => ReasonCode::NoSubscriptionExisted,
            };
            codes.push(reason.code());
        }
        self.subscriptions.shrink_to_fit();
        let unsuback = Packet::UnsubAck(UnsubAck {
            packet_id: unsubscribe.packet_id,
            reasons: ReasonCodes::new(&codes, Place::UnsubAck)?,
            properties: Properties::NONE,
        });
        if !peer.fits(&unsuback) {
            return Err(ANSWER_TOO_LARGE);
        }
        unsuback.encode(peer.version, &mut out.bytes)?;
        Ok(Arrival::Unsubscribed(unsubscribe.filters))
    }

    /// The highest QoS of all subscriptions that match \[MQTT-3.3.4-2\], and all their identifiers, appended
    /// as properties \[MQTT-3.3.4-3, MQTT-3.3.4-4\]: one copy of the message goes out.
    pub(super) fn matching(&self, topic: &str, identifiers: &mut Vec<u8>) -> Option<Qos> {
        let mut highest = None;
        for known in self.subscriptions.iter().filter(|known| filter_matches(&known.filter, topic)) {
            highest = highest.max(Some(known.qos));
            if known.identifier > 0 {
                Property::SubscriptionIdentifier(known.identifier).write(identifiers);
            }
        }
        highest
    }
}
