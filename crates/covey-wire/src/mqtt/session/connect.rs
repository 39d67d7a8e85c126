//! The beginning of a connection: whose session it is, what goes on in it, and the CONNACK (MQTT 5 §3.1.4).

use super::super::{
    ConnAck, Connect, Packet, Place, Properties, Property, PropertyList, ProtocolVersion, ReasonCode,
    Violation,
};
use super::ending::Will;
use super::{Epoch, Limits, Output, Peer, Session, Subscription, WillMessage};

/// The smallest packets that a server must be able to send have five bytes: a CONNACK, and a PUBACK with a
/// reason.
const PACKET_BYTES_MIN: u32 = 5;

/// What is kept of a session beside the one here, as by another server of a deployment.
#[derive(Debug, Default)]
pub enum Kept {
    /// Nothing that is not here.
    #[default]
    AsHere,
    /// It has ended, whatever is here.
    Ended,
    /// It goes on with these subscriptions, whatever is here. Messages under way are with whoever had it.
    With(Vec<Subscription>),
}

/// A connection that has begun.
#[derive(Debug)]
pub struct Connected {
    /// Which it is.
    pub epoch: Epoch,
    /// Whether an earlier session goes on; the CONNACK says so.
    pub session_present: bool,
    /// Whether another connection had the session. It is to be closed with 0x8E \[MQTT-3.1.4-3\].
    pub took_over: bool,
    /// The will of the connection before, if it is to be published now.
    pub will: Option<WillMessage>,
    /// What holds for the connection.
    pub peer: Peer,
}

/// Writes the CONNACK that refuses a CONNECT, with the text if it fits. `connect` is none if it could not be
/// read. To 3.1.1 nothing is written where the CONNECT breaks a rule: such a connection is only closed
/// \[3.1.1 MQTT-3.1.4-1, MQTT-3.2.2-6\].
pub fn refuse(
    version: ProtocolVersion,
    reason: ReasonCode,
    text: &str,
    connect: Option<&Connect<'_>>,
    out: &mut Vec<u8>,
) {
    let is_rule_broken = matches!(
        reason,
        ReasonCode::MalformedPacket | ReasonCode::ProtocolError | ReasonCode::TopicNameInvalid
    );
    if version == ProtocolVersion::V311 && is_rule_broken {
        return;
    }
    let mut list = PropertyList::new(Place::ConnAck);
    if !text.is_empty() {
        // A text that is too long for a string is left out as one that does not fit.
        let _ = list.push(Property::ReasonString(text));
    }
    let packet = |properties| Packet::ConnAck(ConnAck { session_present: false, reason, properties });
    let packet_bytes_max = connect.map_or(u32::MAX, packet_bytes_max) as usize;
    // [MQTT-3.2.2-19].
    for packet in [packet(list.properties()), packet(Properties::NONE)] {
        if packet.size(version) <= packet_bytes_max {
            // A reason that no CONNACK has: the connection is closed without one.
            let _ = packet.encode(version, out);
            return;
        }
    }
}

fn packet_bytes_max(connect: &Connect<'_>) -> u32 {
    let said = connect.properties.find(|property| match property {
        Property::MaximumPacketSize(bytes) => Some(bytes),
        _ => None,
    });
    said.unwrap_or(u32::MAX)
}

/// What the device says of its connection, before the server has said its part.
fn peer_of(connect: &Connect<'_>) -> Peer {
    let mut peer = Peer {
        version: connect.version,
        wants_problem_information: true,
        packet_bytes_max: u32::MAX,
        receive_max: u16::MAX,
        topic_alias_max: 0,
        topic_alias_offered: 0,
        keep_alive_s: connect.keep_alive_s,
    };
    for property in connect.properties.iter() {
        match property {
            Property::RequestProblemInformation(is_wanted) => peer.wants_problem_information = is_wanted,
            Property::MaximumPacketSize(bytes) => peer.packet_bytes_max = bytes,
            Property::ReceiveMaximum(messages) => peer.receive_max = messages,
            Property::TopicAliasMaximum(aliases) => peer.topic_alias_max = aliases,
            _ => {}
        }
    }
    peer
}

/// How long the session of a CONNECT is to stay without a connection, in seconds; 0: it ends with it.
#[must_use]
pub fn expiry_s(connect: &Connect<'_>, limits: &Limits) -> u32 {
    let wanted = match connect.version {
        ProtocolVersion::V5 => connect.properties.session_expiry_interval().unwrap_or(0),
        // 3.1.1 says no time; with Clean Session the session ends with its connection (3.1.1 §3.1.2.4).
        ProtocolVersion::V311 if connect.clean_start => 0,
        ProtocolVersion::V311 => u32::MAX,
    };
    wanted.min(limits.session_expiry_s_max)
}

/// What the server says of itself, as much as the device takes. What had to be left out does not hold.
fn properties_of_connack(
    connect: &Connect<'_>,
    assigned_client_id: Option<&str>,
    limits: &Limits,
    peer: &mut Peer,
) -> Result<PropertyList, Violation> {
    let mut list = PropertyList::new(Place::ConnAck);
    if connect.version == ProtocolVersion::V311 {
        return Ok(list);
    }
    let mut say = |property: Property<'_>| {
        let mut longer = list.clone();
        longer.push(property)?;
        let reason = ReasonCode::Success;
        let properties = longer.properties();
        let is_said = peer.fits(&Packet::ConnAck(ConnAck { session_present: true, reason, properties }));
        if is_said {
            list = longer;
        }
        Ok(is_said)
    };
    if let Some(client_id) = assigned_client_id {
        say(Property::AssignedClientIdentifier(client_id))?;
    }
    let expiry_s = expiry_s(connect, limits);
    if expiry_s != connect.properties.session_expiry_interval().unwrap_or(0) {
        say(Property::SessionExpiryInterval(expiry_s))?;
    }
    say(Property::ReceiveMaximum(limits.receive_max))?;
    say(Property::MaximumPacketSize(limits.packet_bytes_max))?;
    let longest = limits.keep_alive_s_max;
    let mut keep_alive_s = connect.keep_alive_s;
    // [MQTT-3.2.2-21], and without the property [MQTT-3.2.2-22].
    if longest > 0
        && (keep_alive_s == 0 || keep_alive_s > longest)
        && say(Property::ServerKeepAlive(longest))?
    {
        keep_alive_s = longest;
    }
    let aliases = limits.topic_aliases_in_max;
    let offered = if aliases > 0 && say(Property::TopicAliasMaximum(aliases))? { aliases } else { 0 };
    if !limits.retain_available {
        say(Property::RetainAvailable(false))?;
    }
    say(Property::SharedSubscriptionAvailable(false))?;
    peer.keep_alive_s = keep_alive_s;
    peer.topic_alias_offered = offered;
    Ok(list)
}

/// What the session itself cannot do.
fn check(connect: &Connect<'_>, limits: &Limits) -> Result<(), Violation> {
    let method = connect.properties.find(|property| match property {
        Property::AuthenticationMethod(method) => Some(method.len()),
        _ => None,
    });
    let (reason, rule, text) = if method.is_some() {
        (ReasonCode::BadAuthenticationMethod, "MQTT-4.12.0-1", "there is no extended authentication")
    } else if packet_bytes_max(connect) < PACKET_BYTES_MIN {
        (ReasonCode::PacketTooLarge, "MQTT-3.1.2-24", "no CONNACK is as small as Maximum Packet Size")
    } else if connect.version == ProtocolVersion::V5
        && !limits.retain_available
        && connect.will.is_some_and(|will| will.retain)
    {
        (ReasonCode::RetainNotSupported, "MQTT-3.2.2-13", "wills are not retained")
    } else {
        return Ok(());
    };
    Err(Violation::new(reason, rule, text))
}

impl Session {
    /// A CONNECT that the owner lets in, who has kept this of the session. CONNACK and what is sent again are in `out`. Whoever had the session
    /// sees from now on another epoch.
    ///
    /// # Errors
    /// The CONNECT asks for what a session cannot do: [`refuse`] it. The session is as before.
    pub fn connect(
        &mut self,
        connect: &Connect<'_>,
        assigned_client_id: Option<&str>,
        kept: Kept,
        limits: &Limits,
        now_ms: u64,
        out: &mut Output,
    ) -> Result<Connected, Violation> {
        check(connect, limits)?;
        let mut peer = peer_of(connect);
        let list = properties_of_connack(connect, assigned_client_id, limits, &mut peer)?;

        let took_over = self.is_connected();
        let ends = connect.clean_start || !matches!(kept, Kept::AsHere);
        let will = self.end_former(ends, now_ms, out);
        if let Kept::With(subscriptions) = kept
            && !connect.clean_start
        {
            self.exists = true;
            self.subscriptions = subscriptions;
        }
        let session_present = self.exists;
        self.begin(connect, peer, limits, now_ms, out);

        let connack = ConnAck { session_present, reason: ReasonCode::Success, properties: list.properties() };
        Packet::ConnAck(connack).encode(peer.version, &mut out.bytes)?;
        self.release_again(out);
        self.pump(limits, now_ms, out);
        Ok(Connected { epoch: self.epoch, session_present, took_over, will, peer })
    }

    /// Ends the connection that had the session, and the session if it must not go on. Answers the will that
    /// is owed (MQTT 5 §3.1.2.5, §3.1.4).
    fn end_former(&mut self, must_end: bool, now_ms: u64, out: &mut Output) -> Option<WillMessage> {
        if !self.exists {
            return None;
        }
        let took_over = self.is_connected();
        if took_over {
            self.drop_connection(now_ms);
        }
        let is_over =
            self.ends_at_ms().is_some_and(|end| if took_over { self.expiry_s == 0 } else { now_ms >= end });
        // With Clean Start the session ends [MQTT-3.1.2-4], and with it waits no will.
        let ends = must_end || is_over;
        let is_due = ends || self.will_at_ms().is_some_and(|due| now_ms >= due);
        // A new connection before the delay has passed: the will is not sent [MQTT-3.1.3-9].
        let will = self.will.take().filter(|_| is_due).map(|will| will.message);
        if ends {
            self.discard(out);
        }
        will
    }

    /// Takes the session up, or a new one [MQTT-3.1.2-5, MQTT-3.1.2-6].
    fn begin(&mut self, connect: &Connect<'_>, peer: Peer, limits: &Limits, now_ms: u64, out: &mut Output) {
        let speaks_v5 = connect.version == ProtocolVersion::V5;
        if self.exists && self.speaks_v5 != speaks_v5 {
            self.discard_messages(out);
        }
        self.epoch = Epoch(self.epoch.0.wrapping_add(1));
        self.exists = true;
        self.is_leaving = false;
        self.speaks_v5 = speaks_v5;
        self.expiry_s = expiry_s(connect, limits);
        self.heard_ms = now_ms;
        self.will = connect.will.map(|will| Box::new(Will::new(&will)));
        self.peer = Some(peer);
    }
}
