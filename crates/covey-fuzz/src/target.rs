//! The targets: each answers whether it could read the input as anything. The first bytes of some inputs choose how the
//! rest is read.

use covey_api::{
    ApiKeyNew, ClaimNew, ClaimRelease, ClaimSerialsNew, DeviceNew, DeviceTags, Grant, NodeNew,
    RetentionChange, RevocationNew, TaskNew, TokenNew, TwinPatch, UnitNew, WebhookNew,
};
use covey_core::id::UnixMs;
use covey_gateway::coap::message::Message;
use covey_gateway::mqtt_node::Passwords;
use covey_gateway::pusher::channel::Channel;
use covey_gateway::pusher::{message, session};
use covey_gateway::{broker, coap, unit};
use covey_token::{Compact, Instants, KeySet, Mapping, TOKEN_BYTES_MAX};
use covey_wire::mqtt::{Framing, Packet, ProtocolVersion, Sender, decode, frame, version_to_refuse_in};
use covey_wire::uplink::{Carrier, Properties, Received, TaskMessage, read_event};
use covey_wire::{Downlink, downlink, mqtt_sn};

/// The longest MQTT packet that is framed, in bytes.
const PACKET_BYTES_MAX: usize = 1 << 16;
/// How deeply an answer of a microcontroller may be nested.
const LEVELS_MAX: usize = 64;

/// A packet of MQTT, of both versions and both sides. What is read is written as the same again.
pub fn mqtt(input: &[u8]) -> bool {
    let Some((way, bytes)) = input.split_first() else { return false };
    let version = if way & 1 == 0 { ProtocolVersion::V5 } else { ProtocolVersion::V311 };
    let sender = if way & 2 == 0 { Sender::Client } else { Sender::Server };
    let found = match frame(bytes, PACKET_BYTES_MAX) {
        Ok(Framing::Frame(found)) => found,
        Ok(Framing::Need(need)) => {
            assert!(need > bytes.len() && need <= PACKET_BYTES_MAX);
            return false;
        }
        Err(violation) => {
            assert!(!violation.rule.is_empty());
            return false;
        }
    };
    match decode(found, version, sender) {
        Ok(packet) => {
            let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
            let mut again = Vec::new();
            assert!(packet.encode(version, &mut again).is_ok(), "what was read can be written");
            true
        }
        Err(violation) => {
            assert!(violation.reason.is_failure() && !violation.rule.is_empty());
            let _ = version_to_refuse_in(found);
            false
        }
    }
}

/// A datagram of MQTT-SN.
pub fn mqtt_sn(input: &[u8]) -> bool {
    mqtt_sn::decode(input).is_ok()
}

/// A result, a request or an event of a device: fields in lines, an empty line, the body.
pub fn device_message(input: &[u8]) -> bool {
    let (head, body) = head_and_body(input);
    let fields = lines(head);
    let mut properties = Properties::default();
    for (name, value) in &fields {
        match *name {
            "data" => properties.correlation_data = Some(value.as_bytes()),
            "header" => properties.correlation_header = Some(value.as_bytes()),
            _ => properties.put_user_property(name, value),
        }
    }
    let mut is_read = false;
    for carrier in [Carrier::Properties(properties), Carrier::Envelope, Carrier::Unknown] {
        let received = Received { carrier, body };
        if let Ok(message) = TaskMessage::read(received) {
            is_read |= message.result().is_ok();
            let _ = (message.correlation(), message.requested());
        }
        is_read |= read_event(received).is_ok();
    }
    is_read
}

/// A message of the server, as a device reads it: fields in lines, an empty line, the body.
pub fn server_message(input: &[u8]) -> bool {
    let (head, body) = head_and_body(input);
    let fields = lines(head);
    let user: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let data = fields.iter().find(|(name, _)| *name == "data").map(|(_, value)| value.as_bytes());
    let read = |kind| {
        let properties = downlink::Properties { correlation_data: data, expiry_s: None, user: &user };
        downlink::decode(kind, properties, body).is_ok_and(|read| read != downlink::Decoded::NothingToDo)
    };
    [Downlink::Tsk, Downlink::Rsp, Downlink::Cmt, Downlink::Eva].map(read).contains(&true)
}

/// A topic or a filter.
pub fn topic(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let _ = covey_wire::subscription_reaches("lamp-1", text);
    if let Some((sn, _)) = covey_wire::parse_uplink_topic(text) {
        assert!(text.starts_with(&format!("dev/{sn}/")));
    }
    covey_wire::mqtt::check_topic_name(text).is_ok()
        || covey_wire::mqtt::check_topic_filter(text, ProtocolVersion::V5).is_ok()
        || covey_wire::parse_downlink_topic(text).is_some()
}

/// An answer of a microcontroller.
pub fn microcontroller(input: &[u8]) -> bool {
    let Ok(text) = covey_wire::microcontroller::read_answer(input, LEVELS_MAX) else { return false };
    assert!(text.trim_start().starts_with('{') && text.trim_end().ends_with('}'));
    true
}

/// A datagram of CoAP.
pub fn coap(input: &[u8]) -> bool {
    let Ok(message) = Message::decode(input) else { return false };
    for option in 0..64 {
        let _ = (message.number(option), message.block(option));
    }
    true
}

/// What a CoAP node says of its resources.
pub fn link_format(input: &[u8]) -> bool {
    let links = coap::link_format::parse(input);
    let printed = coap::link_format::print(&links.links);
    let again = coap::link_format::parse(printed.as_bytes());
    assert_eq!(links.links, again.links, "what was read is read again from what is printed");
    let _ = coap::link_format::resources(input);
    !links.links.is_empty()
}

/// A message at a broker of nodes.
pub fn node_broker(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let is_of_client = broker::messages::from_client(text).is_ok();
    let is_of_broker = broker::messages::from_broker(text).is_ok();
    broker::messages::from_gateway(text).is_ok() || is_of_client || is_of_broker
}

/// A file of passwords of nodes.
pub fn node_passwords(input: &[u8]) -> bool {
    std::str::from_utf8(input).is_ok_and(|text| Passwords::read(text).is_ok())
}

/// What a client of Pusher says, and how it comes.
pub fn pusher(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let is_channel = Channel::parse(text).is_ok_and(|channel| {
        assert_eq!(channel.as_str(), text);
        let _ = (channel.kind(), channel.device());
        true
    });
    message::from_client(text).is_ok() || session::check_protocol(text).is_ok() || is_channel
}

/// A file of units.
pub fn units(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    unit::read(text).is_ok() || unit::read_base_unit(text).is_ok()
}

/// A signed token.
pub fn token(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let Ok(compact) = Compact::read(text) else { return false };
    assert!(text.len() <= TOKEN_BYTES_MAX && Compact::is_meant(text));
    let _ = (compact.key_id(), compact.issuer(), Mapping::name(&compact.claims));
    let _ = Instants::of(&compact.claims).map(|instants| instants.check(UnixMs(i64::MAX), i64::MAX));
    compact.algorithm().is_ok()
}

/// A document with the keys of an issuer of tokens.
pub fn token_keys(input: &[u8]) -> bool {
    KeySet::read(input).is_ok_and(|keys| keys.count() > 0)
}

/// A request for a certificate, in DER.
pub fn certificate_request(input: &[u8]) -> bool {
    let Ok(request) = covey_pki::named_request(input) else { return false };
    assert!(request.pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    true
}

/// The body of a request over HTTP, as each kind.
pub fn api_request(input: &[u8]) -> bool {
    // A derived reader would take an array for a list of the fields; what reads bodies takes objects alone.
    if input.first() != Some(&b'{') {
        return false;
    }
    let key = serde_json::from_slice::<ApiKeyNew>(input);
    // Any object will do for these, with all that they take left out.
    let _ = serde_json::from_slice::<TokenNew<'_>>(input);
    let _ = serde_json::from_slice::<RevocationNew>(input);
    let _ = serde_json::from_slice::<DeviceNew>(input);
    let is_any = [
        serde_json::from_slice::<TaskNew<'_>>(input).is_ok(),
        serde_json::from_slice::<TwinPatch<'_>>(input).is_ok(),
        serde_json::from_slice::<DeviceTags>(input).is_ok(),
        serde_json::from_slice::<WebhookNew>(input).is_ok(),
        serde_json::from_slice::<NodeNew>(input).is_ok(),
        serde_json::from_slice::<UnitNew>(input).is_ok(),
        serde_json::from_slice::<ClaimNew>(input).is_ok(),
        serde_json::from_slice::<ClaimSerialsNew>(input).is_ok(),
        serde_json::from_slice::<ClaimRelease>(input).is_ok(),
        serde_json::from_slice::<RetentionChange>(input).is_ok(),
    ];
    key.is_ok_and(|key| Grant::all_to_core(key.grants).is_ok()) || is_any.contains(&true)
}

fn head_and_body(input: &[u8]) -> (&str, &[u8]) {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(0);
    let (head, body) = input.split_at(end);
    (std::str::from_utf8(head).unwrap_or_default(), body.strip_prefix(b"\n\n").unwrap_or(body))
}

fn lines(head: &str) -> Vec<(&str, &str)> {
    head.lines().filter_map(|line| line.split_once(':')).collect()
}
