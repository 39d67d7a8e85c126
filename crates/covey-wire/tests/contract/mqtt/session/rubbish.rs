//! Whatever a device sends after its CONNECT: nothing panics, every packet that goes out is one that the
//! device can read and takes, and every bound holds.

use covey_wire::mqtt::session::{Arrival, Limits};
use covey_wire::mqtt::{
    Delivery, Framing, Packet, Place, Property, ProtocolVersion, Qos, ReasonCode, Sender, frame,
};
use proptest::prelude::*;

use super::super::generate::{Choices, with_packet};
use super::device::{Device, Hello, read_all};

const LIMITS: Limits = Limits {
    packet_bytes_max: 65_536,
    receive_max: 3,
    topic_aliases_in_max: 2,
    topic_aliases_out_max: 2,
    in_flight_max: 3,
    waiting_messages_max: 4,
    waiting_bytes_max: 200,
    away_bytes_max: 150,
    unreleased_max: 4,
    subscriptions_max: 3,
    subscription_bytes_max: 100,
    session_expiry_s_max: 60,
    keep_alive_s_max: 30,
    retain_available: false,
};

/// The packet with a small identifier, so that packets meet each other.
fn meeting<'p>(packet: Packet<'p>, choices: &mut Choices) -> Packet<'p> {
    let small = |choices: &mut Choices| super::device::id(1 + u16::from(choices.byte() % 6));
    match packet {
        Packet::PubAck(mut ack) => {
            ack.packet_id = small(choices);
            Packet::PubAck(ack)
        }
        Packet::PubRec(mut ack) => {
            ack.packet_id = small(choices);
            Packet::PubRec(ack)
        }
        Packet::PubRel(mut ack) => {
            ack.packet_id = small(choices);
            Packet::PubRel(ack)
        }
        Packet::PubComp(mut ack) => {
            ack.packet_id = small(choices);
            Packet::PubComp(ack)
        }
        Packet::Publish(mut publish) => {
            let (packet_id, is_repeated) = (small(choices), choices.chance());
            publish.delivery = match publish.delivery {
                Delivery::AtMostOnce => Delivery::AtMostOnce,
                Delivery::AtLeastOnce { .. } => Delivery::AtLeastOnce { packet_id, is_repeated },
                Delivery::ExactlyOnce { .. } => Delivery::ExactlyOnce { packet_id, is_repeated },
            };
            publish.retain &= choices.below(8) == 0;
            Packet::Publish(publish)
        }
        // What ends a connection comes seldom.
        Packet::Connect(_) | Packet::Auth(_) | Packet::Disconnect(_) if choices.below(16) > 0 => {
            Packet::PingReq
        }
        other => other,
    }
}

fn send_some(device: &mut Device, choices: &mut Choices) {
    let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][choices.below(3)];
    let payload = "x".repeat(choices.below(60));
    device.send(1, qos, &payload);
}

/// One connection: packets until one is refused or the device leaves.
fn connection(device: &mut Device, choices: &mut Choices, packet_bytes_max: u32) {
    let mut receipts = Vec::new();
    device.subscribe("down/#", Qos::ExactlyOnce);
    for _ in 0..40 {
        let version = device.version;
        let mut is_over = false;
        let mut scratch = Choices::of_seed(choices.number().into());
        with_packet(choices, version, Sender::Client, |packet| {
            let packet = meeting(packet, &mut scratch);
            match device.say(&packet) {
                Ok(Arrival::Message(arrived)) => receipts.extend(arrived.receipt),
                Ok(Arrival::Subscribe(subscribe)) => {
                    let reasons = [ReasonCode::GrantedQos2, ReasonCode::NotAuthorized];
                    let (epoch, limits) = (device.epoch, device.limits);
                    let granted = device.session.grant(epoch, &subscribe, &reasons, &limits, &mut device.out);
                    is_over = granted.is_err();
                }
                Ok(Arrival::Disconnected(_)) => is_over = true,
                Ok(Arrival::Nothing | Arrival::Unsubscribed(_)) => {}
                Err(violation) => {
                    assert!(violation.reason.is_allowed_in(Place::DisconnectFromServer), "{violation:?}");
                    is_over = true;
                }
            }
        });
        if choices.chance() {
            send_some(device, choices);
        }
        if !receipts.is_empty() && choices.chance() {
            let receipt = receipts.swap_remove(choices.below(receipts.len()));
            device.answer(receipt, [ReasonCode::Success, ReasonCode::QuotaExceeded][choices.below(2)]);
        }
        check(device, packet_bytes_max);
        if is_over {
            break;
        }
    }
    receipts.into_iter().for_each(|receipt| device.answer(receipt, ReasonCode::Success));
    check(device, packet_bytes_max);
}

fn check(device: &mut Device, packet_bytes_max: u32) {
    let bytes = std::mem::take(&mut device.out.bytes);
    read_all(&bytes, device.version);
    let mut rest = &bytes[..];
    while let Ok(Framing::Frame(found)) = frame(rest, packet_bytes_max as usize) {
        rest = &rest[found.size()..];
    }
    assert!(rest.is_empty(), "a packet is larger than {packet_bytes_max}: {rest:02X?}");
    let session = &device.session;
    if device.version == ProtocolVersion::V5 {
        assert!(session.unanswered() <= usize::from(LIMITS.receive_max));
    }
    assert!(session.undelivered() <= LIMITS.waiting_messages_max + usize::from(LIMITS.in_flight_max));
    assert!(session.subscriptions().count() <= LIMITS.subscriptions_max);
    device.out.outcomes.clear();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_row_of_packets_breaks_a_bound(seed in any::<u64>(), connections in 1..5_usize) {
        let mut choices = Choices::of_seed(seed);
        let mut device = Device::new(LIMITS);
        for _ in 0..connections {
            let packet_bytes_max = 20 + choices.number() % 100;
            let is_v5 = choices.below(4) > 0;
            let hello = if is_v5 {
                Hello::default()
                    .with(Property::MaximumPacketSize(packet_bytes_max))
                    .with(Property::ReceiveMaximum(1 + u16::from(choices.byte() % 4)))
                    .with(Property::TopicAliasMaximum(u16::from(choices.byte() % 4)))
            } else {
                Hello::in_3()
            };
            device.connect(&hello).unwrap();
            connection(&mut device, &mut choices, if is_v5 { packet_bytes_max } else { 1 << 20 });
            if choices.chance() {
                device.detach();
                send_some(&mut device, &mut choices);
                device.after_s(u64::from(choices.byte() % 70));
            }
        }
    }
}
