//! Codecs that others wrote read what is written here, and what they write of it is read here as the same:
//! `mqtt-proto` for 3.1.1 and 5, and that of `rumqttc` for 5.

use bytes::BytesMut;
use covey_wire::mqtt::{Framing, Packet, Properties, ProtocolVersion, Sender, decode, frame};

use super::generate::{Choices, written};
use super::mutation::mutate;

const BYTES_MAX: usize = 1 << 20;

/// What a packet says, whatever the order of its properties.
fn said(packet: &Packet<'_>) -> (String, Vec<Vec<String>>) {
    let mut bare = *packet;
    let mut lists = Vec::new();
    let mut take = |properties: &mut Properties<'_>| {
        let mut list: Vec<_> = properties.iter().map(|property| format!("{property:?}")).collect();
        list.sort();
        lists.push(list);
        *properties = Properties::NONE;
    };
    match &mut bare {
        Packet::Connect(connect) => {
            take(&mut connect.properties);
            if let Some(will) = &mut connect.will {
                take(&mut will.properties);
            }
        }
        Packet::ConnAck(connack) => take(&mut connack.properties),
        Packet::Publish(publish) => take(&mut publish.properties),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            take(&mut ack.properties);
        }
        Packet::Subscribe(subscribe) => take(&mut subscribe.properties),
        Packet::SubAck(suback) => take(&mut suback.properties),
        Packet::Unsubscribe(unsubscribe) => take(&mut unsubscribe.properties),
        Packet::UnsubAck(unsuback) => take(&mut unsuback.properties),
        Packet::Disconnect(disconnect) => take(&mut disconnect.properties),
        Packet::Auth(auth) => take(&mut auth.properties),
        Packet::PingReq | Packet::PingResp => {}
    }
    (format!("{bare:?}"), lists)
}

/// The packet, or the rule that it breaks.
fn read(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> Result<Packet<'_>, &'static str> {
    match frame(bytes, BYTES_MAX) {
        Ok(Framing::Frame(found)) if found.size() == bytes.len() => {
            decode(found, version, sender).map_err(|violation| violation.rule)
        }
        other => panic!("{other:?}: {bytes:02X?}"),
    }
}

/// What the other codec writes of what it reads, or why it does not.
type Codec = fn(&[u8], ProtocolVersion) -> Result<Vec<u8>, String>;

fn mqtt_proto(bytes: &[u8], version: ProtocolVersion) -> Result<Vec<u8>, String> {
    let written = match version {
        ProtocolVersion::V5 => {
            let packet = mqtt_proto::v5::Packet::decode(bytes).map_err(|error| format!("{error:?}"))?;
            packet.ok_or("unfinished")?.encode().map_err(|error| format!("{error:?}"))?
        }
        ProtocolVersion::V311 => {
            let packet = mqtt_proto::v3::Packet::decode(bytes).map_err(|error| format!("{error:?}"))?;
            packet.ok_or("unfinished")?.encode().map_err(|error| format!("{error:?}"))?
        }
    };
    Ok(written.as_ref().to_vec())
}

fn rumqttc(bytes: &[u8], _version: ProtocolVersion) -> Result<Vec<u8>, String> {
    use rumqttc::mqttbytes::v5::Packet;
    let mut stream = BytesMut::from(bytes);
    let packet = Packet::read(&mut stream, None).map_err(|error| format!("{error:?}"))?;
    let mut written = BytesMut::new();
    packet.write(&mut written, None).map_err(|error| format!("{error:?}"))?;
    Ok(written.to_vec())
}

/// A codec of others, with the ways in which it differs from the standard.
struct Other {
    codec: Codec,
    /// What it refuses, or writes wrongly, although it is right.
    refuses: &'static [&'static str],
    /// The rules that it does not look at, in one of the versions or from one of the sides.
    lets_through: &'static [&'static str],
}

const MQTT_PROTO: Other = Other {
    codec: mqtt_proto,
    refuses: &[
        // It looks into payloads that say that they are text, as it may (MQTT 5 §3.3.2.3.2).
        "Publish InvalidPayloadFormat",
        "Connect InvalidPayloadFormat",
        // A message may have the identifiers of several subscriptions (§3.3.2.3.8).
        "Publish DuplicatedProperty(SubscriptionIdentifier)",
        // It reads the failure of a 3.1.1 SUBACK, and writes another code (3.1.1 §3.9.3).
        "SubAck 3.1.1 MQTT-3.9.3-2",
        // To 3.1.1 `$share` is a level as any other (3.1.1 §4.7).
        "Subscribe InvalidTopicFilter",
        "Unsubscribe InvalidTopicFilter",
    ],
    lets_through: &[
        "3.1.1 MQTT-3.1.2-22",
        "3.1.1 MQTT-3.1.3-8",
        "3.1.1 §3.14",
        "MQTT 5 §2.1.2",
        "MQTT 5 §3.1.2.11.10",
        "MQTT 5 §3.11.3",
        "MQTT-3.14.2-1",
        "MQTT 5 §3.15.2.2.2",
        "MQTT 5 §3.3.2.3.4",
        "MQTT-1.5.4-2",
        "MQTT-1.5.5-1",
        "MQTT-3.1.2-13",
        "MQTT-3.15.2-1",
        "MQTT-3.2.2-6",
        "MQTT-3.3.1-2",
        "MQTT-3.3.4-6",
        "MQTT-3.8.3-4",
        "MQTT-3.8.4-6",
        "MQTT-4.13.1-1",
        "MQTT-4.7.1-2",
        // An empty Response Topic.
        "MQTT-4.7.3-1",
    ],
};

const RUMQTTC: Other = Other {
    codec: rumqttc,
    refuses: &[
        // A reason may stand without a property length (MQTT 5 §3.14.2.2.1). What is written here has one.
        "Disconnect InsufficientBytes",
        // An AUTH of success may be empty (§3.15.2.1).
        "Auth PayloadRequired",
    ],
    lets_through: &[
        "MQTT 5 §2.1.2",
        "MQTT 5 §2.2.2.2",
        "MQTT 5 §3.1.2.11.10",
        "MQTT-3.14.2-1",
        "MQTT 5 §3.15.2.2.2",
        "MQTT 5 §3.3.2.3.4",
        "MQTT 5 §3.8.2.1.2",
        "MQTT-1.5.5-1",
        "MQTT-3.10.3-2",
        "MQTT-3.15.2-1",
        "MQTT-3.2.2-6",
        "MQTT-3.3.2-14",
        "MQTT-3.3.2-2",
        "MQTT-3.3.4-6",
        "MQTT-3.8.3-4",
        "MQTT-4.13.1-1",
        "MQTT-4.7.1-1",
        "MQTT-4.7.1-2",
        "MQTT-4.7.3-1",
        "MQTT-4.8.2-1",
        "MQTT-4.8.2-2",
    ],
};

const WAYS: [(&Other, ProtocolVersion, Sender); 6] = [
    (&MQTT_PROTO, ProtocolVersion::V5, Sender::Client),
    (&MQTT_PROTO, ProtocolVersion::V5, Sender::Server),
    (&MQTT_PROTO, ProtocolVersion::V311, Sender::Client),
    (&MQTT_PROTO, ProtocolVersion::V311, Sender::Server),
    (&RUMQTTC, ProtocolVersion::V5, Sender::Client),
    (&RUMQTTC, ProtocolVersion::V5, Sender::Server),
];
const PACKETS: u64 = 3_000;
const FAULTS_OF_A_PACKET: u64 = 16;

impl Other {
    /// Whether the codec and what is read here agree about valid bytes, but for what is known.
    fn check_taken(&self, bytes: &[u8], version: ProtocolVersion, sender: Sender) {
        let packet = read(bytes, version, sender).unwrap();
        let wrong = match (self.codec)(bytes, version) {
            Ok(theirs) => match read(&theirs, version, sender) {
                Ok(again) => {
                    assert_eq!(said(&again), said(&packet), "{bytes:02X?} became {theirs:02X?}");
                    return;
                }
                Err(rule) => rule.to_owned(),
            },
            Err(error) => error,
        };
        let wrong = format!("{:?} {wrong}", packet.packet_type());
        let is_known = self.refuses.iter().any(|known| wrong.starts_with(known));
        assert!(is_known, "{wrong}: {bytes:02X?}");
    }
}

#[test]
fn others_understand_what_is_written_and_say_the_same() {
    for (other, version, sender) in WAYS {
        for seed in 0..PACKETS {
            other.check_taken(&written(&mut Choices::of_seed(seed), version, sender), version, sender);
        }
    }
}

/// Of packets with faults: what is taken here is taken by others too, and what they let through breaks a
/// rule that they are known not to look at.
#[test]
fn others_refuse_no_more_and_let_through_only_what_is_known() {
    for (other, version, sender) in WAYS {
        let mut choices = Choices::of_seed(1);
        for _ in 0..PACKETS {
            let packet = written(&mut choices, version, sender);
            // Longer ones have their faults in what nobody looks at.
            for _ in 0..if packet.len() > 120 { 0 } else { FAULTS_OF_A_PACKET } {
                let mut bytes = packet.clone();
                mutate(&mut bytes, &mut choices);
                let Ok(Framing::Frame(found)) = frame(&bytes, BYTES_MAX) else { continue };
                let bytes = &bytes[..found.size()];
                match read(bytes, version, sender) {
                    Ok(_) => other.check_taken(bytes, version, sender),
                    Err(rule) => {
                        let is_known = other.lets_through.contains(&rule);
                        let theirs = (other.codec)(bytes, version);
                        assert!(is_known || theirs.is_err(), "{rule} {version:?}: {bytes:02X?}");
                    }
                }
            }
        }
    }
}

/// The lists above name what is so: each with a packet that shows it, so that a mended codec is seen.
#[test]
fn what_others_do_not_read_is_still_so() {
    for (other, version, bytes) in [
        (&MQTT_PROTO, ProtocolVersion::V5, &[0x30, 8, 0, 1, b't', 4, 0x0B, 1, 0x0B, 2][..]),
        (
            &MQTT_PROTO,
            ProtocolVersion::V311,
            &[0x82, 12, 0, 1, 0, 7, b'$', b's', b'h', b'a', b'r', b'e', b'/', 0],
        ),
        (&RUMQTTC, ProtocolVersion::V5, &[0xE0, 1, 0x8E]),
        (&RUMQTTC, ProtocolVersion::V5, &[0xF0, 0]),
    ] {
        let side = if bytes[0] == 0x82 { Sender::Client } else { Sender::Server };
        read(bytes, version, side).unwrap();
        (other.codec)(bytes, version).unwrap_err();
    }
    let suback = [0x90, 3, 0, 1, 0x80];
    let theirs = mqtt_proto(&suback, ProtocolVersion::V311).unwrap();
    assert_ne!(theirs, suback);
}
