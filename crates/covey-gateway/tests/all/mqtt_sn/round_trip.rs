//! What is written is read as it was; what has a fault is read or refused, by the codec and by a gateway.

use covey_gateway::mqtt_sn::packet::decode;
use proptest::collection::vec;
use proptest::prelude::*;

use super::generate::{Parts, parts};
use super::{World, at};

fn written(parts: &Parts) -> Vec<u8> {
    let mut bytes = Vec::new();
    parts.packet().encode(&mut bytes).unwrap();
    bytes
}

/// One fault.
fn mutate(bytes: &mut Vec<u8>, (way, at, byte): (u8, usize, u8)) {
    if bytes.is_empty() {
        bytes.push(byte);
        return;
    }
    let at = at % bytes.len();
    match way {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, byte),
        2 => {
            bytes.remove(at);
        }
        3 => bytes[at] = byte,
        4 => bytes[at] ^= 1 << (byte % 8),
        // The fault is behind a length that is right.
        _ => {
            bytes[at] = byte;
            if let Ok(length) = u8::try_from(bytes.len()) {
                bytes[0] = length;
            }
        }
    }
}

fn faults() -> impl Strategy<Value = Vec<(u8, usize, u8)>> {
    vec((0..6_u8, any::<usize>(), any::<u8>()), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_is_written_is_read_as_it_was(parts in parts()) {
        let bytes = written(&parts);
        prop_assert_eq!(decode(&bytes), Ok(parts.packet()));
    }

    #[test]
    fn a_message_with_faults_is_read_or_refused(parts in parts(), faults in faults()) {
        let mut bytes = written(&parts);
        for fault in faults {
            mutate(&mut bytes, fault);
        }
        match decode(&bytes) {
            Ok(packet) => {
                // It says the same when it is written anew.
                let mut again = Vec::new();
                packet.encode(&mut again).unwrap();
                prop_assert_eq!(decode(&again), Ok(packet));
                prop_assert!(again.len() <= bytes.len());
            }
            Err(violation) => prop_assert!(violation.section.starts_with("5.")),
        }
    }

    #[test]
    fn rubbish_is_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever comes in whatever order: what a gateway keeps stays in order, and no answer is larger than the question
    /// by more than a few bytes, so that nobody can use it against others.
    #[test]
    fn a_gateway_bears_everything(
        steps in vec((0..4_u16, parts(), prop_oneof![3 => Just(Vec::new()), 1 => faults()], 0..40_000_u64), 1..60),
    ) {
        let mut world = World::new();
        for id in 0..3 {
            world.connected(id, &format!("n{id}"));
        }
        for (port, parts, faults, ms) in steps {
            let mut bytes = written(&parts);
            for fault in faults {
                mutate(&mut bytes, fault);
            }
            let _ = world.hear(at(port), &bytes);
            let answered: usize = world.sent().iter().map(Vec::len).sum();
            prop_assert!(answered <= bytes.len() + 8, "{} for {}", answered, bytes.len());
            if ms % 3 == 0 {
                world.take_all();
                world.out.clear_datagrams();
            }
            if ms % 7 == 0 {
                world.pass(ms);
                world.out.clear_datagrams();
            }
        }
    }
}
