//! Devices' connections, subscriptions and messages as the engine sees them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use covey_core::Engine;
use covey_core::budget::Weight;
use covey_core::device::{Connection, DeviceIdentity};
use covey_core::error::StorageFault;
use covey_core::id::{DeviceKey, Sn};
use covey_core::port::{Link, Refusal};
use covey_net::Refusal as RefusedConnections;
use covey_net::mqtt::{
    Admitted, Answer, Claim, ConnectionId, Denied, End, Handle, Handled, Later, Opened, Publisher, Service,
    SessionToKeep,
};
use covey_wire::downlink::{DownlinkMessage, ResponseForm};
use covey_wire::mqtt::session::{Arrived, Outcome, WillMessage};
use covey_wire::mqtt::{self, ProtocolVersion, Qos, ReasonCode};
use covey_wire::reason::Reason;
use covey_wire::uplink::{Carrier, Properties, Received};
use covey_wire::{Downlink, Uplink, parse_uplink_topic, subscription_reaches};
use dashmap::DashMap;

use crate::disconnect_reason::DisconnectReason;
use crate::dispatch::{self, Opened as OpenedMessage, Refused, RefusedKind};
use crate::embedded::delivery::{self, Sent};
use crate::embedded::{EmbeddedLink, Microcontrollers, admission, kept_sessions};

/// How long a connection stays whose device is refused and cannot be told.
const CLOSE_PAUSE: Duration = Duration::from_secs(1);

/// What a device speaks, which says what topics are its own.
pub(super) enum Speaks {
    /// Tasks and events.
    Tasks,
    /// The calls of a microcontroller.
    Calls(Arc<Microcontrollers>),
}

impl Speaks {
    /// Whether a topic is one on which the device publishes.
    pub(super) fn may_publish(&self, sn: &Sn, topic: &str) -> bool {
        match self {
            Self::Tasks => parse_uplink_topic(topic).is_some_and(|(owner, _)| owner == sn.as_str()),
            Self::Calls(microcontrollers) => microcontrollers.may_publish(sn, topic),
        }
    }

    /// Whether a subscription lets through what tells the device that there is something to do; none if the device
    /// may not subscribe there.
    fn subscription_reaches(&self, sn: &Sn, filter: &str) -> Option<bool> {
        match self {
            Self::Tasks => {
                subscription_reaches(sn.as_str(), filter).map(|reaches| reaches.contains(Downlink::Tsk))
            }
            Self::Calls(microcontrollers) => microcontrollers.subscription_reaches(sn, filter),
        }
    }
}

/// A device that was let in: one for each of its connections.
pub(super) struct Device {
    pub(super) identity: DeviceIdentity,
    speaks: Speaks,
    certificate_serial_hex: Box<str>,
    version: ProtocolVersion,
    /// The connection will be closed, so that what was refused comes again: nothing behind that is taken, or it would be
    /// stored before.
    is_closing: AtomicBool,
    /// It was told of its tasks when it came back to its session, and has not subscribed again since.
    was_told_on_resume: AtomicBool,
    /// The tokens of announcements that came to it again by its session when it came back; each goes when
    /// the engine makes the same announcement.
    told_by_session: Mutex<Vec<u64>>,
}

impl Device {
    pub(super) fn new(
        identity: DeviceIdentity,
        certificate_serial_hex: Box<str>,
        version: ProtocolVersion,
        speaks: Speaks,
    ) -> Self {
        Self {
            identity,
            speaks,
            certificate_serial_hex,
            version,
            is_closing: AtomicBool::new(false),
            was_told_on_resume: AtomicBool::new(false),
            told_by_session: Mutex::default(),
        }
    }

    /// Whether its connection was let in by the certificate of this serial number.
    pub(super) fn came_with(&self, serial_hex: &str) -> bool {
        &*self.certificate_serial_hex == serial_hex
    }

    /// Whether a subscription tells it that there is something to do.
    fn hears_by(&self, filter: &str) -> bool {
        self.speaks.subscription_reaches(&self.identity.sn, filter).unwrap_or_default()
    }

    /// It listens from now on.
    fn listens(&self, engine: &Engine) {
        match &self.speaks {
            Speaks::Tasks => engine.for_device(&self.identity).subscribed(super::NAME),
            Speaks::Calls(microcontrollers) => {
                engine.for_device(&self.identity).subscribed(microcontrollers.name());
                microcontrollers.listens(&self.identity);
            }
        }
    }

    /// It does not listen, or no longer.
    fn listens_not(&self, engine: &Engine) {
        engine.for_device(&self.identity).unsubscribed();
        if let Speaks::Calls(microcontrollers) = &self.speaks {
            microcontrollers.gone(&self.identity);
        }
    }

    /// Whether its session has made this announcement already, which counts once.
    pub(super) fn was_told_by_session(&self, token: u64) -> bool {
        // What it guards is whole at every moment.
        let mut told = self.told_by_session.lock().unwrap_or_else(PoisonError::into_inner);
        let place = told.iter().position(|known| *known == token);
        place.map(|place| told.swap_remove(place)).is_some()
    }
}

/// Whoever is registered anew under a serial number gets nothing of what was under way before.
impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

/// What the network side asks and tells.
pub(super) struct Devices {
    link: Arc<EmbeddedLink>,
    engine: Arc<Engine>,
    response_form: ResponseForm,
    /// The present connection of each device: the end of an earlier one may come to be known later.
    current: DashMap<DeviceKey, ConnectionId>,
    /// Sets the connections of this run of the server apart from those of others.
    began_at_ms: i64,
}

impl Devices {
    pub(super) fn new(link: Arc<EmbeddedLink>, engine: Arc<Engine>, response_form: ResponseForm) -> Self {
        let began_at_ms = link.clock.now().0;
        Self { link, engine, response_form, current: DashMap::new(), began_at_ms }
    }

    /// The name of a connection among those of its device.
    fn session_name(&self, connection: ConnectionId) -> String {
        format!("{}-{}", self.began_at_ms, connection.0)
    }

    /// A retirement that came between the look at the CONNECT and now has not found the connection.
    fn look_again(&self, device: &Arc<Device>) {
        let (device, engine, link) = (Arc::clone(device), Arc::clone(&self.engine), Arc::clone(&self.link));
        tokio::spawn(async move {
            let sn = &device.identity.sn;
            let admitted = engine.server().device_admit(sn, &device.certificate_serial_hex).await;
            if matches!(admitted, Ok(Some(admitted)) if admitted == device.identity) {
                return;
            }
            // Another connection may have come meanwhile, with a certificate that is good.
            let close = |client: &mut Handle<'_, Device>| {
                if Arc::ptr_eq(client.client(), &device) {
                    client.close(
                        ReasonCode::NotAuthorized,
                        "the device was retired, or its certificate revoked",
                    );
                }
            };
            link.hub().and_then(|hub| hub.with(sn.as_str(), close));
        });
    }

    /// What is to be done with a message, or why nothing is.
    fn open(
        &self,
        device: &Device,
        topic: &str,
        received: Received<'_>,
    ) -> Result<(Option<Uplink>, OpenedMessage), (Option<Uplink>, Refused)> {
        let foreign = || Refused {
            refusal: Some(Refusal::PublishTopic),
            kind: RefusedKind::Forbidden,
            why: "not a topic of this device".to_owned(),
            reply: None,
        };
        let (_, uplink) = parse_uplink_topic(topic)
            .filter(|(sn, _)| *sn == device.identity.sn.as_str())
            .ok_or_else(|| (None, foreign()))?;
        let opened = dispatch::open(&self.engine, uplink, received, self.response_form);
        opened.map(|opened| (uplink, opened)).map_err(|refused| (uplink, refused))
    }
}

impl Devices {
    /// A microcontroller has published something.
    fn answered(
        &self,
        microcontrollers: Arc<Microcontrollers>,
        sender: Sender,
        message: &Arrived<'_>,
    ) -> Handled {
        let identity = &sender.device.identity;
        match microcontrollers.open(&self.engine, identity, &message.topic, message.payload) {
            Ok(opened) => Handled::Later(Box::pin(async move {
                let identity = &sender.device.identity;
                let done = microcontrollers.carry_out(&sender.engine, identity, opened).await;
                sender.settle(None, done.map(|()| None))
            })),
            Err(refused) => {
                let weight = Weight::refused(message.payload.len());
                self.engine.for_device(identity).charge_after(weight);
                sender.refuse(None, refused)
            }
        }
    }
}

impl Service for Devices {
    type Client = Device;

    async fn admit(&self, claim: Claim<'_>) -> Result<Admitted<Device>, Denied> {
        admission::admit(&self.engine, &self.link, claim).await
    }

    fn connected(&self, device: &Arc<Device>, opened: Opened<'_>) {
        let identity = &device.identity;
        let mut current = self.current.entry(identity.device).or_insert(opened.connection);
        if *current > opened.connection {
            return;
        }
        *current = opened.connection;
        tracing::debug!(sn = %identity.sn, "connected");
        self.engine.for_device(identity).connected(Connection {
            session: self.session_name(opened.connection),
            server: self.link.server.clone(),
            details: details(&opened),
            ..Connection::default()
        });
        drop(current);
        self.look_again(device);
        let listens = |client: &mut Handle<'_, Device>| {
            let mut told = device.told_by_session.lock().unwrap_or_else(PoisonError::into_inner);
            told.extend(client.under_way().filter(|token| *token != delivery::NO_TOKEN));
            client.subscriptions().any(|(filter, _)| device.hears_by(filter))
        };
        let hub = self.link.hub().filter(|_| opened.is_resumed);
        if hub.and_then(|hub| hub.with(opened.client_id, listens)).unwrap_or_default() {
            device.was_told_on_resume.store(true, Ordering::Relaxed);
            device.listens(&self.engine);
        } else {
            // A connection whose place this one took may have listened, and its end is not told.
            device.listens_not(&self.engine);
        }
    }

    fn disconnected(&self, device: &Arc<Device>, connection: ConnectionId, end: &End) {
        let identity = &device.identity;
        if let End::Violation(violation) = end {
            self.link.refusals.count(Refusal::Protocol);
            tracing::warn!(sn = %identity.sn, %violation, "connection closed for a protocol error");
        } else {
            tracing::debug!(sn = %identity.sn, ?end, "disconnected");
        }
        let current = self.current.entry(identity.device);
        let dashmap::Entry::Occupied(entry) = current else { return };
        if *entry.get() == connection {
            let ended = disconnect_reason(end).end(self.session_name(connection));
            let ended = Connection { server: self.link.server.clone(), ..ended };
            self.engine.for_device(identity).disconnected(ended);
            if let Speaks::Calls(microcontrollers) = &device.speaks {
                microcontrollers.gone(identity);
            }
            entry.remove();
        }
    }

    fn publish(&self, publisher: Publisher<'_, Device>, message: &Arrived<'_>) -> Handled {
        let received = received(publisher.version, message.properties, message.payload);
        let sender = Sender {
            link: Arc::clone(&self.link),
            engine: Arc::clone(&self.engine),
            device: Arc::clone(publisher.client),
            closes: publisher.version == ProtocolVersion::V311 && message.qos != Qos::AtMostOnce,
        };
        if sender.closes && publisher.client.is_closing.load(Ordering::Relaxed) {
            return close_by(Answer {
                reason: ReasonCode::QuotaExceeded,
                text: "what came before it was refused".into(),
                must_close: true,
            });
        }
        let identity = &publisher.client.identity;
        if let Speaks::Calls(microcontrollers) = &publisher.client.speaks {
            return self.answered(Arc::clone(microcontrollers), sender, message);
        }
        let opened = self.open(publisher.client, &message.topic, received);
        if opened.is_err() {
            self.engine.for_device(identity).charge_after(Weight::refused(message.payload.len()));
        }
        // Weighed before the next one is read.
        let charged =
            opened.and_then(|(uplink, opened)| match opened.charge(&self.engine, identity, false) {
                Ok(()) => Ok((uplink, opened)),
                Err(refused) => Err((uplink, refused)),
            });
        match charged {
            Ok((uplink, opened)) => Handled::Later(Box::pin(async move {
                let handled = opened.carry_out(&sender.engine, &sender.device.identity, false).await;
                sender.settle(uplink, handled)
            })),
            Err((uplink, refused)) => sender.refuse(uplink, refused),
        }
    }

    fn will(&self, device: &Arc<Device>, will: WillMessage) -> Later<()> {
        if let Speaks::Calls(_) = &device.speaks {
            // That it has gone answers no call.
            return Box::pin(std::future::ready(()));
        }
        let received = received(device.version, will.properties(), &will.payload);
        let sender = Sender {
            link: Arc::clone(&self.link),
            engine: Arc::clone(&self.engine),
            device: Arc::clone(device),
            closes: false,
        };
        let opened = self.open(device, &will.topic, received);
        Box::pin(async move {
            match opened {
                Ok((uplink, opened)) => {
                    // Nobody would hear that it was too much.
                    let _ = opened.charge(&sender.engine, &sender.device.identity, true);
                    let handled = opened.carry_out(&sender.engine, &sender.device.identity, true).await;
                    sender.settle(uplink, handled);
                }
                Err((uplink, refused)) => drop(sender.settle(uplink, Err(refused))),
            }
        })
    }

    fn may_subscribe(&self, device: &Arc<Device>, filter: &str) -> Result<Qos, ReasonCode> {
        let sn = &device.identity.sn;
        if device.speaks.subscription_reaches(sn, filter).is_some() {
            return Ok(Qos::ExactlyOnce);
        }
        self.link.refusals.count(Refusal::SubscribeTopic);
        self.engine.for_device(&device.identity).charge_after(Weight::refused(0));
        tracing::warn!(%sn, filter, "subscription refused");
        if let Some(pause) = self.link.put_out(sn)
            && let Some(hub) = self.link.hub()
        {
            hub.close(sn.as_str(), ReasonCode::NotAuthorized, put_out_text(pause));
        }
        Err(ReasonCode::NotAuthorized)
    }

    fn keep(&self, device: &Arc<Device>, session: SessionToKeep) -> Later<Result<u64, End>> {
        let (engine, link) = (Arc::clone(&self.engine), Arc::clone(&self.link));
        Box::pin(kept_sessions::keep(engine, link, Arc::clone(device), session))
    }

    fn subscribed(&self, device: &Arc<Device>, filter: &str, _: Qos, is_new: bool) {
        if !device.hears_by(filter) {
            return;
        }
        // Who comes back to a session and subscribes as ever has been told; who subscribes again later
        // is told again.
        if !device.was_told_on_resume.swap(false, Ordering::Relaxed) || is_new {
            device.listens(&self.engine);
        }
    }

    fn unsubscribed(&self, device: &Arc<Device>, filter: &str) {
        let sn = device.identity.sn.as_str();
        if !device.hears_by(filter) {
            return;
        }
        let still_listens = |client: &mut Handle<'_, Device>| {
            client.subscriptions().any(|(filter, _)| device.hears_by(filter))
        };
        if !self.link.hub().and_then(|hub| hub.with(sn, still_listens)).unwrap_or_default() {
            device.listens_not(&self.engine);
        }
    }

    fn pinged(&self, device: &Arc<Device>) -> Option<Later<()>> {
        let for_device = self.engine.for_device(&device.identity);
        for_device.charge_after(Weight::PING);
        held_for(for_device.lack_us())
    }

    fn hold(&self, device: &Arc<Device>) -> Option<Later<()>> {
        held_for(self.engine.for_device(&device.identity).hold_us())
    }

    fn settled(&self, device: &Arc<Device>, outcome: Outcome) {
        // What was not delivered is told again: a task by its lease, a result by the device's repetition.
        tracing::trace!(sn = %device.identity.sn, ?outcome, "message settled");
    }

    fn refused(&self, refused: RefusedConnections) {
        let RefusedConnections { address, why, count } = refused;
        for _ in 0..count {
            self.link.refusals.count(Refusal::Protocol);
        }
        tracing::warn!(%address, %why, count, "connection refused");
    }
}

/// Details of a connection, for applications.
fn details(opened: &Opened<'_>) -> Vec<(String, String)> {
    let protocol = match opened.version {
        ProtocolVersion::V311 => "MQTT 3.1.1",
        ProtocolVersion::V5 => "MQTT 5",
    };
    let details = [("address", opened.address.to_string()), ("protocol", protocol.to_owned())];
    details.map(|(name, value)| (name.to_owned(), value)).into()
}

fn held_for(us: u64) -> Option<Later<()>> {
    (us > 0).then(|| -> Later<()> { Box::pin(tokio::time::sleep(Duration::from_micros(us))) })
}

/// What a device is told that is put out.
fn put_out_text(pause: Duration) -> String {
    format!("it goes on where it may not, and is not let in for {} s", pause.as_secs())
}

/// Why a connection ended.
fn disconnect_reason(end: &End) -> DisconnectReason {
    match end {
        End::ByClient(_) => DisconnectReason::ByDevice,
        End::Lost(_) => DisconnectReason::ConnectionLost,
        End::KeepAlive => DisconnectReason::KeepAlive,
        End::TakenOver => DisconnectReason::TakenOver,
        End::Violation(_) => DisconnectReason::ProtocolError,
        End::Closed { reason: ReasonCode::NotAuthorized, .. } => DisconnectReason::NotAuthorised,
        End::Closed { .. } | End::ShuttingDown => DisconnectReason::ByDeviceOrServer,
        End::NotReading => DisconnectReason::TimedOut,
    }
}

/// A connection is closed by this answer, and before that stays for a while.
fn close_by(answer: Answer) -> Handled {
    Handled::Later(Box::pin(async move {
        tokio::time::sleep(CLOSE_PAUSE).await;
        answer
    }))
}

/// Who published a message.
struct Sender {
    link: Arc<EmbeddedLink>,
    engine: Arc<Engine>,
    device: Arc<Device>,
    /// Whether a refusal that is worth repeating closes the connection: MQTT 3.1.1 has no reason codes,
    /// and what gets no PUBACK comes again (MQTT 3.1.1 §4.4).
    closes: bool,
}

impl Sender {
    /// Answers the device, and counts and logs a refusal.
    fn settle(&self, uplink: Option<Uplink>, handled: Result<Option<DownlinkMessage>, Refused>) -> Answer {
        match handled {
            Ok(reply) => {
                self.tell(reply.as_ref());
                Answer::SUCCESS
            }
            Err(refused) => {
                self.link.refusals.refused(&self.device.identity.sn, uplink, &refused);
                let Refused { kind, why, reply, .. } = refused;
                self.tell(reply.as_deref());
                let is_worth_repeating =
                    matches!(kind, RefusedKind::Unavailable(_) | RefusedKind::OverBudget);
                let put_out = match kind {
                    RefusedKind::Forbidden => self.link.put_out(&self.device.identity.sn),
                    _ => None,
                };
                let must_close = is_worth_repeating && self.closes || put_out.is_some();
                if must_close {
                    self.device.is_closing.store(true, Ordering::Relaxed);
                }
                let why = put_out.map_or(why, put_out_text);
                Answer { reason: reason_code(kind), text: why.into(), must_close }
            }
        }
    }

    /// The same of a message that was refused before anything was done with it.
    fn refuse(&self, uplink: Option<Uplink>, refused: Refused) -> Handled {
        let answer = self.settle(uplink, Err(refused));
        // Who is put out is closed at once; who is closed since he cannot be told comes again at once.
        if !answer.must_close || answer.reason == ReasonCode::NotAuthorized {
            return Handled::Now(answer);
        }
        close_by(answer)
    }

    fn tell(&self, reply: Option<&DownlinkMessage>) {
        let Some(message) = reply else { return };
        let DeviceIdentity { sn, device, .. } = &self.device.identity;
        if self.link.send(sn, *device, delivery::NO_TOKEN, message) == Sent::Done {
            return;
        }
        let topic = message.downlink.topic(sn.as_str());
        tracing::warn!(%sn, topic, "message not sent: larger than the device takes (Maximum Packet Size)");
        if let Some(task) = dispatch::task_that_cannot_be_told(message) {
            let (engine, device) = (Arc::clone(&self.engine), Arc::clone(&self.device));
            tokio::spawn(async move { dispatch::too_large(&engine, &device.identity, task).await });
        }
    }
}

/// The one table from refusals to reason codes (MQTT 5 §3.4.2.1).
fn reason_code(kind: RefusedKind) -> ReasonCode {
    let reason = match kind {
        RefusedKind::Malformed => Reason::PayloadFormatInvalid,
        RefusedKind::Forbidden => Reason::NotAuthorized,
        RefusedKind::Unheard => Reason::NoMatchingSubscribers,
        RefusedKind::NotTheirs => Reason::ImplementationSpecific,
        RefusedKind::Limit
        | RefusedKind::OverBudget
        | RefusedKind::Unavailable(StorageFault::Full | StorageFault::Short | StorageFault::Overloaded) => {
            Reason::QuotaExceeded
        }
        RefusedKind::Unavailable(_) => Reason::Unspecified,
    };
    reason.into()
}

fn received<'m>(version: ProtocolVersion, given: mqtt::Properties<'m>, body: &'m [u8]) -> Received<'m> {
    if version == ProtocolVersion::V311 {
        return Received { carrier: Carrier::Envelope, body };
    }
    let mut properties = Properties { correlation_data: given.correlation_data(), ..Properties::default() };
    for (name, value) in given.user_properties() {
        properties.put_user_property(name, value);
    }
    Received { carrier: Carrier::Properties(properties), body }
}
