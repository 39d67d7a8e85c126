//! How many clients there may be, and what they hear who are too many.

use std::net::SocketAddr;

use covey_gateway::mqtt_sn::packet::{Packet, Qos, ReturnCode, Topic};
use covey_gateway::mqtt_sn::session::{
    DATAGRAM_BYTES_MAX, HALF_OPEN_MAX, HALF_OPEN_MS_MAX, HALF_OPEN_PER_ADDRESS_MAX, Settings,
};

use super::{World, at, connect, connect_with, publish};

const CONGESTION: Packet<'_> = Packet::ConnAck(ReturnCode::CONGESTION);

fn say_from(world: &mut World, from: &str, packet: &Packet<'_>) -> u8 {
    let mut datagram = Vec::new();
    packet.encode(&mut datagram).unwrap();
    let _ = world.hear(from.parse().unwrap(), &datagram);
    let sent = world.sent();
    sent.last().map_or(0xFF, |datagram| datagram[2])
}

#[test]
fn a_gateway_that_is_full_says_so() {
    let mut world = World::with(Settings { clients_max: 3, ..Settings::default() });
    for port in 1..=3 {
        world.connected(port, &format!("n{port}"));
    }
    assert!(world.try_say(4, &connect("n4")).is_err());
    assert!(world.try_say(4, &connect_with("n4", true, true, 9)).is_err());
    world.expect(&[CONGESTION, CONGESTION]);
    // Who is there may connect anew, also from elsewhere.
    world.say(5, &connect("n1"));
    world.expect(&[Packet::ConnAck(ReturnCode::ACCEPTED)]);
    world.say(5, &Packet::Disconnect(None));
    world.connected(4, "n4");
    assert_eq!(world.gateway.sessions(), 3);
}

#[test]
fn the_session_that_was_left_longest_ago_gives_way() {
    let mut world = World::with(Settings { clients_max: 3, ..Settings::default() });
    for port in 1..=3 {
        world.say(port, &connect_with(&format!("n{port}"), false, false, 100));
        world.say(port, &super::subscribe(1, "a"));
    }
    for port in [2, 1] {
        world.pass(1);
        world.say(port, &Packet::Disconnect(None));
    }
    world.connected(4, "n4");
    assert_eq!(world.gateway.sessions(), 3);
    let is_resumed = |world: &mut World, port: u16| {
        world.events();
        world.say(port, &connect_with(&format!("n{port}"), false, false, 100));
        format!("{:?}", world.events()).contains("is_resumed: true")
    };
    assert!(is_resumed(&mut world, 1));
    assert!(world.try_say(2, &connect("n2")).is_err());
}

#[test]
fn an_address_has_its_share() {
    let mut world = World::with(Settings { clients_per_address_max: 2, ..Settings::default() });
    let mut try_from = |from: &str, id: &str| say_from(&mut world, from, &connect(id));
    assert_eq!(try_from("[2001:db8::1]:1", "a"), 0);
    assert_eq!(try_from("[2001:db8::2]:1", "b"), 0);
    assert_eq!(try_from("[2001:db8::3]:1", "c"), 1);
    // One of those that are there comes back, with another port or id.
    assert_eq!(try_from("[2001:db8::1]:2", "a"), 0);
    assert_eq!(try_from("[2001:db8::1]:2", "d"), 0);
    assert_eq!(try_from("[2001:db8:0:1::1]:1", "e"), 0);
    assert_eq!(try_from("192.0.2.1:1", "f"), 0);
    for port in 1..10 {
        assert_eq!(try_from(&format!("127.0.0.1:{port}"), &format!("g{port}")), 0);
    }
}

#[test]
fn those_that_do_not_tell_their_will_are_bounded() {
    let mut world = World::new();
    let willing = connect_with("n", true, true, 100);
    let asked = 0x06;
    let mut say = |from: SocketAddr, packet: &Packet<'_>| {
        let mut datagram = Vec::new();
        packet.encode(&mut datagram).unwrap();
        let _ = world.hear(from, &datagram);
        world.sent()[0][1]
    };
    for port in 1..=HALF_OPEN_PER_ADDRESS_MAX as u16 {
        assert_eq!(say(at(port), &willing), asked);
    }
    assert_eq!(say(at(60_000), &willing), 0x05);
    // Again from where it came is no other one.
    assert_eq!(say(at(1), &willing), asked);
    for number in 0..(HALF_OPEN_MAX - HALF_OPEN_PER_ADDRESS_MAX) as u32 {
        let ip = std::net::Ipv4Addr::from(0x0A00_0000 + number);
        assert_eq!(say((ip, 1).into(), &willing), asked);
    }
    assert_eq!(say("203.0.113.1:1".parse().unwrap(), &willing), 0x05);
    assert_eq!(say("203.0.113.1:1".parse().unwrap(), &connect("n")), 0x05);
    assert_eq!(world.counts().connected, 1);
    world.pass(HALF_OPEN_MS_MAX);
    world.out.clear_datagrams();
    world.say(60_000, &willing);
    world.expect(&[Packet::WillTopicReq]);
}

#[test]
fn a_datagram_is_bounded() {
    let mut world = World::new();
    world.connected(1, "n1");
    let most = "x".repeat(DATAGRAM_BYTES_MAX - 9);
    world.say(1, &publish(Qos::AtMostOnce, Topic::Short(*b"ab"), 0, &most));
    assert_eq!(world.take_all().len(), 1);
    let more = format!("{most}x");
    assert_eq!(
        world.try_say(1, &publish(Qos::AtMostOnce, Topic::Short(*b"ab"), 0, &more)).unwrap_err().section,
        "5.2.1"
    );
}
