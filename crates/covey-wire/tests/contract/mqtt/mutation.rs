//! Rubbish and packets with faults: nothing panics, and what is refused is refused with a code that the
//! answer may carry. `COVEY_MQTT_MUTATIONS=60000000 cargo test --release -p covey-wire mutation` tries more.

use std::collections::BTreeMap;

use covey_wire::mqtt::{
    Framing, Packet, PacketType, Place, ProtocolVersion, Sender, decode, frame, version_to_refuse_in,
};
use proptest::prelude::*;

use super::generate::{Choices, written};

/// How many packets with faults are tried unless the environment says otherwise.
const MUTATIONS: u64 = 1_000_000;
/// Another fault is made in one valid packet so many times.
const FAULTS_OF_A_PACKET: u64 = 64;
const BYTES_MAX: usize = 1 << 16;

const WAYS: [(ProtocolVersion, Sender); 4] = [
    (ProtocolVersion::V5, Sender::Client),
    (ProtocolVersion::V5, Sender::Server),
    (ProtocolVersion::V311, Sender::Client),
    (ProtocolVersion::V311, Sender::Server),
];

/// Reads the bytes as a stream. Answers the rule that was broken, if one was.
fn read(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> Option<&'static str> {
    let found = match frame(bytes, BYTES_MAX) {
        Ok(Framing::Frame(found)) => found,
        Ok(Framing::Need(need)) => {
            assert!(need > bytes.len() && need <= BYTES_MAX);
            return None;
        }
        Err(violation) => {
            assert!(violation.reason.is_allowed_in(Place::DisconnectFromServer), "{violation:?}");
            return Some(violation.rule);
        }
    };
    assert!(found.size() <= bytes.len());
    match decode(found, version, sender) {
        Ok(packet) => {
            look_at_all_of(&packet, version, &bytes[..found.size()]);
            None
        }
        Err(violation) => {
            let answer = match found.packet_type() {
                PacketType::Connect => Place::ConnAck,
                _ => Place::DisconnectFromServer,
            };
            assert!(violation.reason.is_failure() && violation.reason.is_allowed_in(answer), "{violation:?}");
            assert!(!violation.rule.is_empty() && violation.to_string().starts_with(violation.text));
            let _ = version_to_refuse_in(found);
            Some(violation.rule)
        }
    }
}

/// What was read can be written, and says the same then: byte for byte, but for what may be left out.
fn look_at_all_of(packet: &Packet<'_>, version: ProtocolVersion, bytes: &[u8]) {
    let mut again = Vec::new();
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    packet.encode(version, &mut again).unwrap();
    // A DISCONNECT may come without the property length that it is written with.
    let longer = usize::from(matches!(packet, Packet::Disconnect(_)));
    assert!(again.len() <= bytes.len() + longer);
    if let Packet::Subscribe(subscribe) = packet {
        assert!(subscribe.filters.iter().count() > 0);
        assert!(subscribe.properties.iter().count() <= bytes.len());
    }
}

pub fn mutate(bytes: &mut Vec<u8>, choices: &mut Choices) {
    let at = choices.below(bytes.len());
    match choices.byte() % 8 {
        0 => bytes.truncate(at.max(1)),
        1 => bytes.insert(at, choices.byte()),
        2 => {
            bytes.remove(at);
        }
        3 => {
            let other = choices.below(bytes.len());
            bytes.swap(at, other);
        }
        4 => bytes[at] = choices.byte(),
        5 => bytes[at] = bytes[at].wrapping_add(1),
        6 => bytes[at] = 0,
        _ => bytes[at] ^= 1 << (choices.byte() % 8),
    }
    if bytes.is_empty() {
        bytes.push(0);
    }
    // Half of them keep a remaining length that is right, so that the fault is behind it.
    if choices.chance() && bytes.len() > 2 && bytes.len() < 130 {
        bytes[1] = (bytes.len() - 2) as u8;
    }
}

#[test]
fn packets_with_faults_are_read_or_refused_by_a_rule() {
    let count = std::env::var("COVEY_MQTT_MUTATIONS").map_or(MUTATIONS, |count| count.parse().unwrap());
    let mut refused = BTreeMap::<_, u64>::new();
    let mut choices = Choices::of_seed(count);
    let mut bytes = Vec::new();
    for number in 0..count / FAULTS_OF_A_PACKET {
        let (version, sender) = WAYS[number as usize % WAYS.len()];
        let packet = written(&mut choices, version, sender);
        if packet.len() > 2_000 {
            continue;
        }
        for _ in 0..FAULTS_OF_A_PACKET {
            bytes.clone_from(&packet);
            for _ in 0..=choices.below(2) {
                mutate(&mut bytes, &mut choices);
            }
            if let Some(rule) = read(&bytes, version, sender) {
                *refused.entry(rule).or_default() += 1;
            }
        }
    }
    // A run that found few rules would prove little.
    assert!(refused.len() > 45, "{} rules: {refused:?}", refused.len());
}

proptest! {
    #[test]
    fn rubbish_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (version, sender) in WAYS {
            read(&bytes, version, sender);
        }
    }
}
