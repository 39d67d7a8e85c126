//! One connection of a device: its packets, its deadlines, its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use covey_wire::mqtt::{
    Ack, ConnAck, Connect, Delivery, Disconnect, Framing, Packet, PacketId, Place, Properties, Property,
    PropertyList, ProtocolVersion, Publish, Qos, ReasonCode, Sender, Subscribe, SubscribeList,
    SubscriptionOptions, Violation, Will as WillSaid, decode, frame,
};
use covey_wire::{Downlink, Uplink, parse_downlink_topic};
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::message::{Heard, Outgoing, Packed, Said};
use super::session::{Present, Sent, Subscribed};
use super::taken_over::LeftOpen;
use super::will::Will;
use super::{Device, serial_number};
use crate::network::{Cut, DeviceEnd};
use crate::server::task_number;

/// How long the server may take to answer a CONNECT or a PINGREQ, in milliseconds.
const ANSWER_MS_MAX: u64 = 12_000;
/// Receive Maximum where nothing is said (MQTT 5 §3.1.2.11.3).
const RECEIVE_MAX_DEFAULT: usize = 65_535;
/// What the server has under way to one device at most, whatever the device says.
const IN_FLIGHT_MAX: usize = 32;
/// For how long the server keeps a session at most, in seconds.
const SESSION_EXPIRY_S_MAX: u64 = 3_600;
/// Who does not acknowledge has this long to wait.
const NEVER: Duration = Duration::from_secs(100_000);

/// A connection.
pub struct Connection {
    end: DeviceEnd,
    version: ProtocolVersion,
    clean_start: bool,
    expected: Present,
    /// For how long the server keeps the session after this connection, in seconds.
    kept_s: u64,
    unread: Vec<u8>,
    is_up: bool,
    is_subscribed: bool,
    /// The present connection's Receive Maximum of the server.
    server_receive_max: usize,
    aliases: BTreeMap<u16, String>,
    /// What came with QoS 1 and is not acknowledged, on this connection.
    in_flight: BTreeSet<PacketId>,
    acks: VecDeque<(Instant, PacketId)>,
    never_acks: bool,
    /// The place of the last message that came again.
    last_repeated: u64,
    subscribe_id: Option<PacketId>,
    /// Whether each filter of the SUBSCRIBE is the device's own.
    own_filters: Vec<bool>,
    said_at: Instant,
    heard_at: Instant,
    is_asked: bool,
    cuts_at: Instant,
    deaf_at: Instant,
    /// It began before the network healed.
    is_from_before: bool,
    is_deaf: bool,
    how: Cut,
    /// DISCONNECT goes out before its end.
    says_goodbye: bool,
    /// It has.
    said_goodbye: bool,
    latency: Duration,
    /// With which of the servers it is.
    server: u64,
    /// Its number among those of the device.
    number: u64,
    has_will: bool,
}

impl Connection {
    /// Says CONNECT.
    pub fn begin(device: &mut Device, end: DeviceEnd, latency_ms: u64) -> Self {
        let version = device.version();
        let clean_start = device.session.must_clean || device.random.random_bool(device.manner.clean_start);
        let killed_at = device.site.door.killed_at(device.session.server);
        let expected = if clean_start { Present::No } else { device.session.expected(killed_at) };
        let manner = &device.manner;
        let kept_s = match version {
            ProtocolVersion::V5 => u64::from(manner.session_expiry_s).min(SESSION_EXPIRY_S_MAX),
            ProtocolVersion::V311 if clean_start => 0,
            ProtocolVersion::V311 => SESSION_EXPIRY_S_MAX,
        };
        let random = &mut device.random;
        let connected_ms = random.random_range(0..=manner.connected_ms * 2);
        let how = if random.random_bool(manner.silent) {
            [Cut::Silent, Cut::SilentAndLost, Cut::LeftOpen][random.random_range(0..3)]
        } else if random.random_bool(0.8) {
            Cut::Reset
        } else {
            Cut::Finished
        };
        let now = Instant::now();
        let cuts_at = now + Duration::from_millis(connected_ms);
        let goes_deaf = random.random_bool(0.3);
        let deaf_at = if goes_deaf {
            now + Duration::from_millis(random.random_range(0..=connected_ms))
        } else {
            now + NEVER
        };
        let never_acks = random.random_bool(manner.never_acks);
        let says_goodbye = how == Cut::Finished && random.random_bool(manner.says_goodbye);
        let has_will = random.random_bool(manner.wills);
        let server = device.site.door.number();
        device.connections += 1;
        if let Some(will) = device.wills.last_mut() {
            will.next(clean_start);
        }
        let mut connection = Self {
            end,
            version,
            clean_start,
            expected,
            kept_s,
            unread: Vec::new(),
            is_up: false,
            is_subscribed: false,
            server_receive_max: RECEIVE_MAX_DEFAULT,
            aliases: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            acks: VecDeque::new(),
            never_acks,
            last_repeated: 0,
            subscribe_id: None,
            own_filters: Vec::new(),
            said_at: now,
            heard_at: now,
            is_asked: false,
            cuts_at,
            deaf_at,
            is_from_before: !device.is_healing(),
            is_deaf: false,
            how,
            says_goodbye,
            said_goodbye: false,
            latency: Duration::from_millis(latency_ms),
            server,
            number: device.connections,
            has_will,
        };
        if clean_start {
            // Whatever becomes of this CONNECT, the device has given its session up.
            let lost = device.session.end();
            device.work.give_back(&lost);
            device.session.must_clean = true;
        }
        device.session.asked(kept_s);
        if let Err(violation) = connection.connect(device) {
            device.broken("the codec writes what a device says", violation.to_string());
        }
        connection
    }

    fn connect(&mut self, device: &mut Device) -> Result<(), Violation> {
        let manner = &device.manner;
        let mut properties = PropertyList::new(Place::Connect);
        if self.version == ProtocolVersion::V5 {
            properties.push(Property::SessionExpiryInterval(manner.session_expiry_s))?;
            if let Some(receive_max) = manner.receive_max {
                properties.push(Property::ReceiveMaximum(receive_max))?;
            }
            if let Some(packet_bytes_max) = manner.packet_bytes_max {
                properties.push(Property::MaximumPacketSize(packet_bytes_max))?;
            }
            properties.push(Property::TopicAliasMaximum(manner.topic_alias_max))?;
        }
        let mut of_will = PropertyList::new(Place::Will);
        let (will_topic, will_body) =
            (format!("dev/{}/evt", device.sn), format!(r#"{{"will":{}}}"#, self.number));
        if self.version == ProtocolVersion::V5 {
            if let Some(delay_s) = manner.will_delay_s {
                of_will.push(Property::WillDelayInterval(delay_s))?;
            }
            if let Some(expiry_s) = manner.will_expiry_s {
                of_will.push(Property::MessageExpiryInterval(expiry_s))?;
            }
        }
        let will = self.has_will.then(|| WillSaid {
            topic: &will_topic,
            payload: will_body.as_bytes(),
            qos: manner.event_qos,
            retain: false,
            properties: match self.version {
                ProtocolVersion::V5 => of_will.properties(),
                ProtocolVersion::V311 => Properties::NONE,
            },
        });
        if self.has_will {
            let delay_s = match self.version {
                ProtocolVersion::V5 => u64::from(manner.will_delay_s.unwrap_or(0)).min(self.kept_s),
                ProtocolVersion::V311 => 0,
            };
            device.wills.push(Will::new(self.number, delay_s, manner.keep_alive_s));
        }
        device.note("CONNECT: clean, version", self.clean_start.into(), self.version as u64);
        self.say(&Packet::Connect(Connect {
            version: self.version,
            clean_start: self.clean_start,
            keep_alive_s: manner.keep_alive_s,
            client_id: &device.sn,
            will,
            user_name: None,
            password: None,
            properties: properties.properties(),
        }))
    }

    fn say(&mut self, packet: &Packet<'_>) -> Result<(), Violation> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes)?;
        self.end.write(&bytes);
        self.said_at = Instant::now();
        Ok(())
    }

    /// Ends.
    pub fn cut(mut self, device: &mut Device, how: Cut) {
        if !self.is_up {
            device.session.gave_up();
        }
        let said_goodbye = self.said_goodbye;
        if let Some(will) = self.will(device) {
            will.ended(matches!(how, Cut::Reset | Cut::Finished), said_goodbye);
        }
        if how != Cut::LeftOpen || !self.is_up {
            return self.end.cut(if how == Cut::LeftOpen { Cut::Silent } else { how });
        }
        let (tell, taken) = watch::channel(None);
        device.left_open.push(tell);
        device.left_open_count += 1;
        let keep_alive = Duration::from_millis(u64::from(device.manner.keep_alive_s) * 1_500);
        let left = LeftOpen {
            end: self.end,
            unread: self.unread,
            version: self.version,
            device: device.number,
            latency: self.latency,
            silent_at: self.said_at + keep_alive,
            server: self.server,
            is_deaf: self.is_deaf,
            taken,
        };
        tokio::spawn(left.run(device.site.clone()));
    }

    /// The will of this connection, if it has one.
    fn will<'d>(&mut self, device: &'d mut Device) -> Option<&'d mut Will> {
        device.wills.last_mut().filter(|will| will.number == self.number)
    }

    /// Says that it ends, and wants no will for it.
    fn say_goodbye(&mut self) -> Result<(), Violation> {
        self.said_goodbye = true;
        self.say(&Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            properties: Properties::NONE,
        }))
    }

    /// Goes on until it ends; answers how.
    pub async fn run(&mut self, device: &mut Device) -> Cut {
        loop {
            match self.step(device) {
                Ok(None) => {}
                Ok(Some(how)) => return how,
                Err(violation) => {
                    device.broken("packets are written as the standard says", violation.to_string());
                    return Cut::Reset;
                }
            }
            let next_at = self.next_at(device);
            tokio::select! {
                biased;
                is_open = self.end.read(&mut self.unread) => {
                    if !is_open {
                        device.note("end of the server", 0, 0);
                        return Cut::Finished;
                    }
                }
                () = sleep_until(next_at) => {}
            }
        }
    }

    /// When something is due.
    fn next_at(&self, device: &Device) -> Instant {
        let ping_at = self.said_at + self.keep_alive(device);
        let answer_at = self.heard_at + Duration::from_millis(ANSWER_MS_MAX);
        let mut next = [Some(device.site.ends_at), Some(ping_at), None, None, None, None, None];
        if !self.is_up || self.is_asked {
            next[2] = Some(answer_at);
        }
        if self.is_up {
            next[3] = Some(device.work.next_at());
            next[4] = self.acks.front().map(|(at, _)| *at);
        }
        if !device.is_healing() {
            next[5] = Some(self.cuts_at.min(self.deaf_at));
            next[6] = Some(device.site.heals_at);
        }
        let soonest = next.into_iter().flatten().min().unwrap_or(ping_at);
        // Time goes on, whatever is due.
        soonest.max(Instant::now() + Duration::from_millis(1))
    }

    fn keep_alive(&self, device: &Device) -> Duration {
        Duration::from_millis(u64::from(device.manner.keep_alive_s) * 700)
    }

    /// Does what there is to do; answers how the connection ends, if it does.
    fn step(&mut self, device: &mut Device) -> Result<Option<Cut>, Violation> {
        if !self.unread.is_empty() {
            self.heard_at = Instant::now();
            self.is_asked = false;
            if let Some(how) = self.packets(device)? {
                return Ok(Some(how));
            }
        }
        let now = Instant::now();
        if now >= device.site.ends_at {
            if self.is_up {
                self.say_goodbye()?;
            }
            return Ok(Some(Cut::Finished));
        }
        if device.is_healing() {
            // It may be deaf, or too slow to bring what waits.
            if self.is_from_before {
                return Ok(Some(self.how));
            }
            self.never_acks = false;
            device.work.heal();
        } else if self.cuts_at <= now {
            if self.says_goodbye && self.is_up {
                self.say_goodbye()?;
            }
            return Ok(Some(self.how));
        } else if self.deaf_at <= now {
            device.note("deaf", 0, 0);
            self.end.go_deaf();
            self.is_deaf = true;
            self.deaf_at = now + NEVER;
        }
        let is_late = self.heard_at + Duration::from_millis(ANSWER_MS_MAX) <= now;
        if is_late && (!self.is_up || self.is_asked) {
            device.note("the server does not answer", self.is_up.into(), 0);
            return Ok(Some(Cut::Silent));
        }
        if !self.is_up {
            return Ok(None);
        }
        if self.said_at + self.keep_alive(device) <= now {
            if !self.is_asked {
                (self.is_asked, self.heard_at) = (true, now);
            }
            self.say(&Packet::PingReq)?;
        }
        self.acknowledge(device)?;
        let unix_s = device.unix_s();
        device.work.tick(&device.manner, &mut device.random, unix_s);
        self.publish_waiting(device)?;
        Ok(None)
    }

    fn acknowledge(&mut self, device: &Device) -> Result<(), Violation> {
        let now = Instant::now();
        while !self.never_acks
            && let Some((at, id)) = self.acks.front().copied()
            && (at <= now || device.is_healing())
        {
            self.acks.pop_front();
            self.in_flight.remove(&id);
            device.note("says PUBACK", id.get().into(), 0);
            self.say(&Packet::PubAck(Ack::success(id)))?;
        }
        Ok(())
    }

    fn packets(&mut self, device: &mut Device) -> Result<Option<Cut>, Violation> {
        let unread = std::mem::take(&mut self.unread);
        let mut used = 0;
        while let Framing::Frame(frame) = frame(&unread[used..], usize::MAX)? {
            let bytes_max = device.manner.packet_bytes_max.filter(|_| self.version == ProtocolVersion::V5);
            if bytes_max.is_some_and(|bytes_max| frame.size() > bytes_max as usize) {
                let details = format!("{} bytes, and the device takes {bytes_max:?}", frame.size());
                device.broken("no packet is larger than the device takes [MQTT-3.1.2-24]", details);
            }
            used += frame.size();
            let packet = decode(frame, self.version, Sender::Server)?;
            if let Some(how) = self.packet(device, &packet)? {
                return Ok(Some(how));
            }
        }
        self.unread = unread[used..].to_vec();
        if self.is_up {
            device.session.heard(self.kept_s, self.server);
            if let Some(will) = self.will(device) {
                will.heard();
            }
        }
        Ok(None)
    }

    fn packet(&mut self, device: &mut Device, packet: &Packet<'_>) -> Result<Option<Cut>, Violation> {
        if self.is_up == matches!(packet, Packet::ConnAck(_)) {
            device.broken("CONNACK comes first and once [MQTT-3.2.0-1, MQTT-3.2.0-2]", format!("{packet:?}"));
        }
        match packet {
            Packet::ConnAck(connack) => return self.connected(device, connack),
            Packet::Publish(publish) => self.heard(device, publish)?,
            Packet::PubAck(ack) => self.acknowledged(device, ack, Qos::AtLeastOnce),
            Packet::PubRec(ack) => {
                self.acknowledged(device, ack, Qos::ExactlyOnce);
                if !ack.reason.is_failure() {
                    self.say(&Packet::PubRel(Ack::success(ack.packet_id)))?;
                }
            }
            Packet::PubComp(ack) => {
                device.note("gets PUBCOMP", ack.packet_id.get().into(), ack.reason.code().into());
                let is_it = |sent: &Sent| sent.id == ack.packet_id && sent.is_released;
                if !device.session.sent.iter().any(is_it) {
                    device.broken("PUBCOMP answers a PUBREL [MQTT-4.3.3-11]", format!("{ack:?}"));
                }
                device.session.sent.retain(|sent| !is_it(sent));
            }
            Packet::SubAck(suback) => {
                if Some(suback.packet_id) != self.subscribe_id.take() {
                    device.broken("SUBACK answers a SUBSCRIBE [MQTT-3.8.4-2]", format!("{suback:?}"));
                }
                let refused: Vec<bool> = suback.reasons.iter().map(|reason| !reason.is_failure()).collect();
                if refused != self.own_filters {
                    let details = format!("granted {refused:?}, own {:?}", self.own_filters);
                    device.broken("a device subscribes to its own topics alone", details);
                }
                self.is_subscribed = true;
                device.session.subscribed = Subscribed::Yes;
            }
            Packet::PingResp => {}
            Packet::Disconnect(disconnect) => {
                device.note("gets DISCONNECT", disconnect.reason.code().into(), 0);
                return Ok(Some(Cut::Finished));
            }
            other => device.broken("the server says what a server may say", format!("{other:?}")),
        }
        Ok(None)
    }

    fn connected(&mut self, device: &mut Device, connack: &ConnAck<'_>) -> Result<Option<Cut>, Violation> {
        let is_present = connack.session_present;
        device.note("gets CONNACK: present, reason", is_present.into(), connack.reason.code().into());
        match connack.reason {
            ReasonCode::Success => {}
            // It is full, or its store does not answer.
            ReasonCode::ServerUnavailable | ReasonCode::ServerBusy | ReasonCode::QuotaExceeded => {
                return Ok(Some(Cut::Finished));
            }
            reason => {
                device.broken("a registered device is let in", format!("{reason:?}"));
                return Ok(Some(Cut::Finished));
            }
        }
        self.is_up = true;
        device.session.must_clean = false;
        let is_wrong = match self.expected {
            Present::Yes => !is_present,
            Present::No => is_present,
            Present::Unknown => false,
        };
        if is_wrong {
            let details = format!("Session Present is {is_present}, expected {:?}", self.expected);
            device.broken("a session is there as long as it was asked for [MQTT-3.2.2-2]", details);
        }
        if let Some(max) = connack.properties.find(|property| match property {
            Property::ReceiveMaximum(max) => Some(max),
            _ => None,
        }) {
            self.server_receive_max = max.into();
        }
        if let Some(will) = device.wills.iter_mut().rev().find(|will| will.number + 1 == self.number) {
            will.next_up(self.number, is_present);
        }
        for left_open in device.left_open.drain(..) {
            // It may have ended by itself.
            let _ = left_open.send(Some(Instant::now()));
        }
        if is_present {
            self.send_again(device)?;
        } else {
            let lost = device.session.end();
            device.work.give_back(&lost);
        }
        device.session.heard(self.kept_s, self.server);
        device.session.is_up();
        if device.session.subscribed != Subscribed::Yes || device.random.random_bool(0.5) {
            self.subscribe(device)?;
        } else {
            self.is_subscribed = true;
        }
        Ok(None)
    }

    /// A session goes on: what was not acknowledged is sent again, in its order \[MQTT-4.4.0-1, MQTT-4.6.0-1\].
    fn send_again(&mut self, device: &mut Device) -> Result<(), Violation> {
        for place in 0..device.session.sent.len() {
            let sent = device.session.sent[place];
            if sent.is_released {
                device.note("says PUBREL again", sent.id.get().into(), 0);
                self.say(&Packet::PubRel(Ack::success(sent.id)))?;
                continue;
            }
            device.note("PUBLISH again", sent.id.get().into(), kind_of(&sent.message));
            // With QoS 2 once more only for a server that knows nothing of it.
            let is_anew = sent.qos == Qos::AtLeastOnce || sent.server != self.server;
            if let (Outgoing::Result(place), true) = (sent.message, is_anew) {
                device.work.sent(place);
            }
            device.session.sent[place].server = self.server;
            self.publish(device, &sent, true)?;
        }
        Ok(())
    }

    fn subscribe(&mut self, device: &mut Device) -> Result<(), Violation> {
        let mut filters = SubscribeList::new(self.version);
        let qos = SubscriptionOptions::qos(device.manner.subscribed_qos);
        self.own_filters.clear();
        let levels = match (device.manner.is_exact, device.manner.is_pushed) {
            (false, true) => &["+"][..],
            (true, true) => &["rsp", "cmt", "eva", "tsk"][..],
            (_, false) => &["rsp", "cmt"][..],
        };
        for level in levels {
            filters.push(&format!("srv/{}/{level}", device.sn), qos)?;
            self.own_filters.push(true);
        }
        if device.random.random_bool(device.manner.rogue) {
            let other = serial_number(device.random.random_range(0..device.site.devices));
            if other != device.sn {
                filters.push(&format!("srv/{other}/#"), qos)?;
                self.own_filters.push(false);
            }
        }
        let packet_id = device.session.new_id();
        self.subscribe_id = Some(packet_id);
        if device.session.subscribed == Subscribed::No {
            device.session.subscribed = Subscribed::Asked;
        }
        device.note("says SUBSCRIBE", packet_id.get().into(), self.own_filters.len() as u64);
        let (filters, properties) = (filters.filters(), Properties::NONE);
        self.say(&Packet::Subscribe(Subscribe { packet_id, filters, properties }))
    }

    fn publish_waiting(&mut self, device: &mut Device) -> Result<(), Violation> {
        // An answer needs somewhere to go.
        if !self.is_subscribed {
            return Ok(());
        }
        let max = device.manner.in_flight_max.min(self.server_receive_max);
        while device.session.sent.len() < max {
            let Some(message) = device.work.queue.pop_front() else { break };
            let message = self.turn_rogue(device, message);
            let qos = match message {
                Outgoing::Result(_) => device.manner.result_qos,
                Outgoing::Event(_) => device.manner.event_qos,
                Outgoing::ForeignTask(_) | Outgoing::ForeignTopic(..) => Qos::AtLeastOnce,
                _ => device.manner.other_qos,
            };
            let id = device.session.new_id();
            // As the standard lets it: an identifier that a SUBSCRIBE uses is in use.
            let id = if Some(id) == self.subscribe_id { device.session.new_id() } else { id };
            let sent = Sent { id, message, qos, is_released: false, server: self.server };
            match message {
                Outgoing::Result(place) => device.work.sent(place),
                Outgoing::Event(place) => device.work.events[place].was_sent = true,
                _ => {}
            }
            device.note(
                "PUBLISH",
                if qos == Qos::AtMostOnce { 0 } else { id.get().into() },
                kind_of(&message),
            );
            self.publish(device, &sent, false)?;
            if qos != Qos::AtMostOnce {
                device.session.sent.push(sent);
            } else if let Outgoing::Result(place) = message {
                device.work.settled(place, false);
            }
        }
        Ok(())
    }

    /// Now and then a device tries what it must not.
    fn turn_rogue(&self, device: &mut Device, message: Outgoing) -> Outgoing {
        if device.is_healing() || !device.random.random_bool(device.manner.rogue) {
            return message;
        }
        let back = device.random.random_range(0..20);
        let other = device.random.random_range(0..device.site.devices);
        let Some(task) = device.site.owners.recent(back) else { return message };
        device.work.queue.push_front(message);
        match device.site.owners.of(task) == Some(device.number) {
            true => Outgoing::ForeignTopic((device.number + 1) % device.site.devices, task),
            false if other == device.number || device.random.random_bool(0.5) => Outgoing::ForeignTask(task),
            false => Outgoing::ForeignTopic(other, task),
        }
    }

    fn publish(&mut self, device: &Device, sent: &Sent, is_repeated: bool) -> Result<(), Violation> {
        let foreign = |task| Said { task, ext_id: -1, status_code: 200 };
        let packed = match sent.message {
            Outgoing::Ack(task) => Packed::about(Uplink::Ack, Some(task), self.version)?,
            Outgoing::Request(task) => Packed::about(Uplink::Req, task, self.version)?,
            Outgoing::Result(place) => Packed::result(&device.work.results[place].said, self.version)?,
            Outgoing::Event(place) => Packed::event(&device.work.events[place], self.version)?,
            Outgoing::ForeignTask(task) | Outgoing::ForeignTopic(_, task) => {
                Packed::result(&foreign(task), self.version)?
            }
        };
        let topic = match sent.message {
            Outgoing::ForeignTopic(other, _) => packed.uplink.topic(&serial_number(other)),
            _ => packed.uplink.topic(&device.sn),
        };
        let packet_id = sent.id;
        let delivery = match sent.qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id, is_repeated },
            Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id, is_repeated },
        };
        let (properties, payload) = (packed.properties(), packed.payload.as_slice());
        self.say(&Packet::Publish(Publish { delivery, retain: false, topic: &topic, properties, payload }))
    }

    fn acknowledged(&mut self, device: &mut Device, ack: &Ack<'_>, qos: Qos) {
        let (id, reason) = (ack.packet_id, ack.reason);
        device.note("gets PUBACK or PUBREC", id.get().into(), reason.code().into());
        let is_it = |sent: &Sent| sent.id == id && sent.qos == qos;
        let Some(place) = device.session.sent.iter().position(is_it) else {
            device.broken("PUBACK and PUBREC answer a PUBLISH [MQTT-2.2.1-5]", format!("{qos:?} {ack:?}"));
            return;
        };
        let message = device.session.sent[place].message;
        let was_released = device.session.sent[place].is_released;
        if qos == Qos::ExactlyOnce && !reason.is_failure() {
            device.session.sent[place].is_released = true;
        } else {
            device.session.sent.remove(place);
        }
        if was_released {
            return;
        }
        let is_v5 = self.version == ProtocolVersion::V5;
        match message {
            Outgoing::Result(place) => {
                if reason == ReasonCode::ImplementationSpecificError {
                    device.broken("a result for the device's own task is taken", format!("{reason:?}"));
                }
                device.work.settled(place, is_v5 && !reason.is_failure());
            }
            // Without reason codes what is acknowledged is stored: else the connection is closed.
            Outgoing::Event(place) => device.work.event_settled(place, !is_v5 || !reason.is_failure()),
            Outgoing::ForeignTask(_) | Outgoing::ForeignTopic(..) if is_v5 && !reason.is_failure() => {
                device.broken("a device cannot speak for another", format!("{message:?}"));
            }
            // What it was about is told again.
            _ => {}
        }
    }

    fn heard(&mut self, device: &mut Device, publish: &Publish<'_>) -> Result<(), Violation> {
        let topic = self.topic(device, publish);
        let told = parse_downlink_topic(&topic).filter(|(sn, _)| *sn == device.sn);
        let Some((_, Some(downlink))) = told else {
            device.broken("a device hears of its own topics alone", topic);
            return Ok(());
        };
        let Some(heard) = Heard::read(downlink, publish.properties, publish.payload, self.version) else {
            device.broken("a device understands what it is sent", format!("{publish:?}"));
            return Ok(());
        };
        if let Some(task) = heard.task()
            && device.site.owners.of(task) != Some(device.number)
        {
            device.broken("a device hears of its own tasks alone", task.to_string());
        }
        let task = heard.task().map_or(0, task_number);
        let id = publish.delivery.packet_id().map_or(0, |id| id.get().into());
        device.note(kind_heard(downlink, publish.delivery.is_repeated()), id, task);
        let is_new = match publish.delivery {
            Delivery::AtMostOnce => true,
            Delivery::AtLeastOnce { packet_id, is_repeated } => {
                self.came(device, packet_id, is_repeated, fingerprint(downlink, &heard))
            }
            Delivery::ExactlyOnce { .. } => {
                device.broken("QoS is the smaller of both sides' [MQTT-3.8.4-8]", "QoS 2");
                true
            }
        };
        let manner = device.manner.clone();
        match heard {
            Heard::Announced(task) => device.work.announced(task, &manner),
            Heard::Task(task) => device.work.begin(task, &manner, &mut device.random),
            Heard::Committed(task, ext_id) => {
                let result = device.work.committed(task, ext_id);
                if result.is_none() && ext_id.is_some() {
                    device.broken("cmt is about a result of the device", format!("{task} {ext_id:?}"));
                }
                if let Some(place) = result.filter(|_| is_new) {
                    let result = &mut device.work.results[place];
                    result.committed += 1;
                    if result.committed > result.sent {
                        let details = format!("{} of {}: {:?}", result.committed, result.sent, result.said);
                        device.broken("QoS 2 comes once: no more cmt than results [MQTT-4.3.3-10]", details);
                    }
                }
            }
            Heard::Event(None, _) if device.manner.packet_bytes_max.is_none() => {
                device.broken("eva says which event it is about", format!("{publish:?}"));
            }
            Heard::Event(None, _) => {}
            Heard::Event(Some(number), is_stored) => {
                let place = (number as usize).wrapping_sub(1);
                match device.work.events.get_mut(place) {
                    Some(event) => event.is_proved |= is_stored,
                    // A will has no number.
                    None if number == 0 => {}
                    None => device.broken("eva is about an event of the device", number.to_string()),
                }
            }
            Heard::NothingToDo => {}
        }
        Ok(())
    }

    fn topic(&mut self, device: &Device, publish: &Publish<'_>) -> String {
        let Some(alias) = publish.properties.topic_alias() else { return publish.topic.to_owned() };
        if alias > device.manner.topic_alias_max {
            device.broken("an alias is not above the device's maximum [MQTT-3.1.2-26]", alias.to_string());
        }
        if publish.topic.is_empty() {
            return self.aliases.get(&alias).cloned().unwrap_or_default();
        }
        self.aliases.insert(alias, publish.topic.to_owned());
        publish.topic.to_owned()
    }

    /// Something came with QoS 1; answers whether it is no repetition.
    fn came(&mut self, device: &mut Device, id: PacketId, is_repeated: bool, what: u64) -> bool {
        if !self.in_flight.insert(id) {
            device.broken("a packet identifier in use is not used again [MQTT-2.2.1-3]", id.to_string());
        }
        let said = device.manner.receive_max.filter(|_| self.version == ProtocolVersion::V5);
        let max = said.map_or(IN_FLIGHT_MAX, |max| IN_FLIGHT_MAX.min(max.into()));
        if self.in_flight.len() > max {
            let details = format!("{} of {max}", self.in_flight.len());
            device.broken("no more is under way than Receive Maximum [MQTT-3.3.4-9]", details);
        }
        match device.session.place(id, what).filter(|_| is_repeated) {
            Some(place) if place <= self.last_repeated => {
                let details = format!("place {place} after {}", self.last_repeated);
                device.broken("what is sent again comes in its order [MQTT-4.6.0-1]", details);
            }
            Some(place) => self.last_repeated = place,
            None => device.session.came(id, what),
        }
        let late_ms = if device.manner.ack_ms_max == 0 || device.is_healing() {
            0
        } else {
            device.random.random_range(0..=device.manner.ack_ms_max)
        };
        // In the order in which they came [MQTT-4.6.0-2].
        let at = Instant::now() + Duration::from_millis(late_ms);
        let at = self.acks.back().map_or(at, |(last, _)| at.max(*last));
        self.acks.push_back((at, id));
        !is_repeated
    }
}

fn kind_of(message: &Outgoing) -> u64 {
    match message {
        Outgoing::Request(None) => 0,
        Outgoing::Ack(task) | Outgoing::Request(Some(task)) => task_number(*task),
        Outgoing::Result(place) => 1_000_000 + *place as u64,
        Outgoing::Event(place) => 4_000_000 + *place as u64,
        Outgoing::ForeignTask(task) => 2_000_000 + task_number(*task),
        Outgoing::ForeignTopic(other, _) => 3_000_000 + u64::from(*other),
    }
}

fn kind_heard(downlink: Downlink, is_repeated: bool) -> &'static str {
    match (downlink, is_repeated) {
        (Downlink::Tsk, false) => "gets tsk",
        (Downlink::Tsk, true) => "gets tsk again",
        (Downlink::Rsp, false) => "gets rsp",
        (Downlink::Rsp, true) => "gets rsp again",
        (Downlink::Cmt, false) => "gets cmt",
        (Downlink::Cmt, true) => "gets cmt again",
        (Downlink::Eva, false) => "gets eva",
        (Downlink::Eva, true) => "gets eva again",
    }
}

/// By which a message is known again.
fn fingerprint(downlink: Downlink, heard: &Heard) -> u64 {
    let ext_id = match heard {
        Heard::Committed(_, ext_id) => ext_id.unwrap_or(-1),
        _ => 0,
    };
    let task = heard.task().unwrap_or(Uuid::nil());
    (downlink as u64) ^ task_number(task) << 8 ^ ext_id.cast_unsigned() << 40
}
