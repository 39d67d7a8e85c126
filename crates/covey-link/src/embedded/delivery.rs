//! A message to a device, as large as the device takes (device-rpc "Messages").

use std::borrow::Cow;

use covey_core::id::{DeviceKey, Sn};
use covey_core::task::Task;
use covey_net::mqtt::Handle;
use covey_wire::Downlink;
use covey_wire::downlink::{DownlinkMessage, Qos};
use covey_wire::mqtt::session::{self, Message};
use covey_wire::mqtt::{self, Place, Property, PropertyList, ProtocolVersion, ReasonCode, Violation};

use crate::embedded::devices::Device;

/// The token of messages that nobody asks for again.
pub(super) const NO_TOKEN: u64 = 0;

/// By this an announcement is known again.
pub(super) fn token(task: &Task) -> u64 {
    // Numbers of tasks begin at 1.
    u64::try_from(task.seq).unwrap_or(NO_TOKEN)
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way, or the device is not there or does not listen: the store knows what it was
    /// about, and the device is told again.
    Done,
    /// The device takes no packet as large, however much is left out (MQTT 5 §3.1.2.11.4).
    TooLarge,
}

/// Sends a message to a client, if it is this registration of the device. What is too large for the
/// device goes with less, if there is less.
pub(super) fn send(
    client: &mut Handle<'_, Device>,
    sn: &Sn,
    device: DeviceKey,
    token: u64,
    message: &DownlinkMessage,
) -> Sent {
    if client.client().identity.device != device {
        return Sent::Done;
    }
    // The device has not acknowledged it, and gets it, or has just got it again, by the session itself.
    let is_known = || client.under_way().any(|known| known == token);
    if token != NO_TOKEN && (client.client().was_told_by_session(token) || is_known()) {
        return Sent::Done;
    }
    // Of tasks that wait a device is told when it comes.
    if message.downlink == Downlink::Tsk && !client.is_connected() {
        return Sent::Done;
    }
    let topic = message.downlink.topic(sn.as_str());
    let mut message = Cow::Borrowed(message);
    loop {
        match publish(client, &topic, token, &message) {
            Ok(session::Sent::TooLarge) => match message.into_owned().smaller() {
                Some(smaller) => message = Cow::Owned(smaller),
                None => return Sent::TooLarge,
            },
            Ok(session::Sent::Full) => {
                tracing::warn!(%sn, topic, "message not sent: the device does not take what waits for it");
                // A message that the device would wait for in vain, unless it learns that it must ask again.
                if message.qos == Qos::AtLeastOnce {
                    client.close(ReasonCode::QuotaExceeded, "more waits than may, and is not taken");
                }
                return Sent::Done;
            }
            Ok(session::Sent::Invalid(violation)) | Err(violation) => {
                tracing::error!(%sn, topic, %violation, "message not sent: MQTT cannot carry it");
                return Sent::Done;
            }
            Ok(
                session::Sent::Written
                | session::Sent::Waiting
                | session::Sent::NotSubscribed
                | session::Sent::NotConnected,
            ) => return Sent::Done,
        }
    }
}

fn publish(
    client: &mut Handle<'_, Device>,
    topic: &str,
    token: u64,
    message: &DownlinkMessage,
) -> Result<session::Sent, Violation> {
    let qos = match message.qos {
        Qos::AtMostOnce => mqtt::Qos::AtMostOnce,
        Qos::AtLeastOnce => mqtt::Qos::AtLeastOnce,
    };
    let mut properties = PropertyList::new(Place::PublishFromServer);
    let payload = match client.version() {
        ProtocolVersion::V5 => {
            properties.push(Property::CorrelationData(message.correlation.as_bytes()))?;
            for (name, value) in message.user_properties() {
                properties.push(Property::UserProperty(name, &value))?;
            }
            Cow::Borrowed(message.body())
        }
        ProtocolVersion::V311 => Cow::Owned(message.enveloped_body()),
    };
    let expiry_s = Some(message.expiry_s);
    let (properties, payload) = (properties.properties(), payload.as_bytes());
    Ok(client.send(&Message { token, topic, qos, expiry_s, properties, payload }))
}
