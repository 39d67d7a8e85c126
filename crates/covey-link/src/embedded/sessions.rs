//! The devices that are connected, with the way into each one's session.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use covey_core::device::DeviceIdentity;
use covey_core::id::DeviceKey;
use covey_wire::downlink::{DownlinkMessage, Qos};
use covey_wire::{Downlink, DownlinkSet, subscription_reaches};
use dashmap::DashMap;
use rmqtt::codec::types::Publish as CodecPublish;
use rmqtt::codec::v5::{Disconnect as DisconnectV5, DisconnectReasonCode, PublishProperties};
use rmqtt::types::{Disconnect, From, Id, Message, Publish, QoS, Reason, Tx};
use rmqtt::utils::timestamp_millis;

/// All sessions by client id, which is the serial number.
#[derive(Default)]
pub(super) struct Sessions {
    live: DashMap<ByteString, Session>,
    /// Whose CONNECT was let in and is not a session yet; at most one a device.
    admitted: DashMap<ByteString, (Id, Arc<DeviceIdentity>)>,
}

/// One device's session. It outlives the connection if the device asked for that.
struct Session {
    /// The connection that it belongs to now, or did last.
    id: Id,
    device: Arc<DeviceIdentity>,
    tx: Tx,
    is_online: bool,
    has_properties: bool,
    subscriptions: Vec<Subscription>,
}

struct Subscription {
    filter: Box<str>,
    reaches: DownlinkSet,
    qos: QoS,
}

/// How a subscription changed whether a device listens for announcements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    /// It listens from now on.
    Subscribed,
    /// It no longer listens.
    Unsubscribed,
    /// It listens, or does not, as before.
    Unchanged,
}

impl Session {
    /// With which quality the device hears a topic, if it does.
    fn hears(&self, downlink: Downlink) -> Option<QoS> {
        self.subscriptions
            .iter()
            .filter(|subscription| subscription.reaches.contains(downlink))
            .map(|subscription| subscription.qos)
            .max()
    }
}

/// What a connection is registered with.
pub(super) struct Hold {
    pub(super) id: Id,
    pub(super) device: Arc<DeviceIdentity>,
    pub(super) tx: Tx,
    pub(super) has_properties: bool,
    /// Whether the broker goes on with an earlier session, its subscriptions included.
    pub(super) is_resumed: bool,
}

impl Sessions {
    /// A CONNECT was let in.
    pub(super) fn admitted(&self, id: &Id, device: DeviceIdentity) {
        self.admitted.insert(id.client_id.clone(), (id.clone(), Arc::new(device)));
    }

    /// As whom a CONNECT was let in.
    pub(super) fn take_admitted(&self, id: &Id) -> Option<Arc<DeviceIdentity>> {
        let (_, (_, device)) = self.admitted.remove_if(&id.client_id, |_, (admitted, _)| admitted == id)?;
        Some(device)
    }

    /// A device has connected. Answers whether it hears announcements already.
    pub(super) fn connected(&self, hold: Hold) -> bool {
        let Hold { id, device, tx, has_properties, is_resumed } = hold;
        let earlier = self.live.remove(&id.client_id).map(|(_, session)| session);
        let subscriptions = match earlier {
            Some(earlier) if is_resumed && earlier.device == device => earlier.subscriptions,
            _ => Vec::new(),
        };
        let client_id = id.client_id.clone();
        let session = Session { id, device, tx, is_online: true, has_properties, subscriptions };
        let listens = session.hears(Downlink::Tsk).is_some();
        self.live.insert(client_id, session);
        listens
    }

    /// A connection has ended. Answers whose it was, unless another connection
    /// of the same device has taken over since.
    pub(super) fn disconnected(&self, id: &Id) -> Option<Arc<DeviceIdentity>> {
        let mut session = self.live.get_mut(&id.client_id).filter(|session| session.id == *id)?;
        session.is_online = false;
        Some(Arc::clone(&session.device))
    }

    /// A session has ended.
    pub(super) fn terminated(&self, id: &Id) {
        self.live.remove_if(&id.client_id, |_, session| session.id == *id);
    }

    /// Whose connection this is.
    pub(super) fn device(&self, id: &Id) -> Option<Arc<DeviceIdentity>> {
        let session = self.live.get(&id.client_id).filter(|session| session.id == *id)?;
        Some(Arc::clone(&session.device))
    }

    /// A device has subscribed.
    pub(super) fn subscribed(&self, id: &Id, filter: &str, qos: QoS) -> Listening {
        let Some(mut session) = self.live.get_mut(&id.client_id).filter(|session| session.id == *id) else {
            return Listening::Unchanged;
        };
        let Some(reaches) = subscription_reaches(&id.client_id, filter) else { return Listening::Unchanged };
        session.subscriptions.retain(|subscription| &*subscription.filter != filter);
        session.subscriptions.push(Subscription { filter: filter.into(), reaches, qos });
        // A device that subscribes again is announced to again.
        if reaches.contains(Downlink::Tsk) { Listening::Subscribed } else { Listening::Unchanged }
    }

    /// A device has unsubscribed.
    pub(super) fn unsubscribed(&self, id: &Id, filter: &str) -> Listening {
        let Some(mut session) = self.live.get_mut(&id.client_id).filter(|session| session.id == *id) else {
            return Listening::Unchanged;
        };
        session.subscriptions.retain(|subscription| &*subscription.filter != filter);
        if session.hears(Downlink::Tsk).is_some() { Listening::Unchanged } else { Listening::Unsubscribed }
    }

    /// Sends a message, if the device is connected (with this registration, if
    /// one is given) and has subscribed to its topic.
    pub(super) fn send(&self, sn: &str, device: Option<DeviceKey>, message: &DownlinkMessage) {
        let Some(session) = self.live.get(sn) else { return };
        if !session.is_online || device.is_some_and(|device| device != session.device.device) {
            return;
        }
        let Some(granted) = session.hears(message.downlink) else { return };
        let publish = publish(sn, message, granted, session.has_properties);
        // A session that has just ended takes nothing; the task is announced again.
        let _ = session.tx.unbounded_send(Message::Forward(From::from_system(session.id.clone()), publish));
    }

    /// Ends the connection of a device that is no longer authorised.
    pub(super) fn revoke(&self, sn: &str) {
        if let Some(session) = self.live.get(sn) {
            close(&session, DisconnectReasonCode::NotAuthorized, "the device was retired");
        }
    }

    /// Ends all connections.
    pub(super) fn close_all(&self) {
        for session in &self.live {
            close(&session, DisconnectReasonCode::ServerShuttingDown, "the server shuts down");
        }
    }

    /// How many devices are connected.
    pub(super) fn online(&self) -> usize {
        self.live.iter().filter(|session| session.is_online).count()
    }
}

fn close(session: &Session, reason_code: DisconnectReasonCode, reason: &'static str) {
    let disconnect =
        DisconnectV5 { reason_code, reason_string: Some(reason.into()), ..DisconnectV5::default() };
    let reason = Reason::ConnectDisconnect(Some(Disconnect::V5(disconnect)));
    let _ = session.tx.unbounded_send(Message::Closed(reason));
}

fn publish(sn: &str, message: &DownlinkMessage, granted: QoS, has_properties: bool) -> Publish {
    let wanted = match message.qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    };
    let (payload, user_properties) = if has_properties {
        let properties = message.user_properties().map(|(name, value)| (name.into(), value.into())).collect();
        (Bytes::copy_from_slice(message.body().as_bytes()), properties)
    } else {
        (Bytes::from(message.enveloped_body()), Vec::new())
    };
    let properties = PublishProperties {
        correlation_data: Some(Bytes::copy_from_slice(message.correlation.as_bytes())),
        message_expiry_interval: NonZeroU32::new(message.expiry_s),
        user_properties,
        ..PublishProperties::default()
    };
    let packet = CodecPublish {
        dup: false,
        retain: false,
        qos: wanted.min(granted),
        topic: message.downlink.topic(sn).into(),
        packet_id: None,
        payload,
        properties: Some(properties),
    };
    Publish::new(Box::new(packet), None, None, Some(timestamp_millis()))
}
