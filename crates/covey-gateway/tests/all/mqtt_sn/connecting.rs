//! CONNECT, keep-alive, DISCONNECT, and who takes whose place (§6.1–§6.3, §6.11, §6.12).

use covey_gateway::mqtt_sn::packet::{Connect, Filter, Name, Packet, Qos, ReturnCode, Subscribe, Topic};
use covey_gateway::mqtt_sn::session::{Advertise, Answer, Delivery, Event, Reason, Sent, Settings};

use super::{World, ack, at, connect, connect_with, publish, subscribe};

const ACCEPTED: Packet<'_> = Packet::ConnAck(ReturnCode::ACCEPTED);

#[test]
fn a_client_connects_and_leaves() {
    let mut world = World::new();
    world.say(1, &connect("n1"));
    world.expect(&[ACCEPTED]);
    let events = world.events();
    let [Event::Connected { client, id, from, is_resumed: false }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((&**id, *from), ("n1", at(1)));
    assert_eq!(world.counts().connected, 1);
    world.say(1, &Packet::PingReq(None));
    world.expect(&[Packet::PingResp]);
    world.say(1, &Packet::Disconnect(None));
    world.expect(&[Packet::Disconnect(None)]);
    assert_eq!(world.events(), [Event::Gone { client: *client, reason: Reason::Left, will: None }]);
    assert_eq!((world.counts().connected, world.gateway.sessions()), (0, 0));
    // The answer was lost, and the client says it again.
    world.say(1, &Packet::Disconnect(None));
    world.expect(&[Packet::Disconnect(None)]);
    world.pass(60_000);
    assert!(world.try_say(1, &Packet::Disconnect(None)).is_err());
    world.expect(&[]);
}

#[test]
fn a_connect_that_is_repeated_is_answered_again_and_told_once() {
    let mut world = World::new();
    world.connected(1, "n1");
    world.say(1, &connect("n1"));
    world.expect(&[ACCEPTED]);
    assert_eq!(world.events(), []);
}

#[test]
fn a_client_that_begins_anew_is_another_connection() {
    let mut world = World::new();
    let first = world.connected(1, "n1");
    let id = world.registered(1, "a/b");
    world.say(1, &publish(Qos::AtLeastOnce, Topic::Normal(id), 1, "x"));
    let Some(Event::Published { receipt: Some(receipt), .. }) = world.events().pop() else { panic!() };
    world.say(1, &connect("n1"));
    world.expect(&[ACCEPTED]);
    let events = world.events();
    assert_eq!(events[0], Event::Gone { client: first, reason: Reason::Replaced, will: None });
    let Event::Connected { client: second, .. } = events[1] else { panic!() };
    assert_ne!(first, second);
    // What belongs to the old connection does nothing: the new one may have given the id to another message.
    world.answer(receipt, Answer::Taken);
    world.expect(&[]);
    assert_eq!(world.publish(first, 1, "a/b", ""), Sent::NotConnected);
    world.gateway.disconnect_client(first, world.now_ms, &mut world.out);
    assert_eq!(world.counts().connected, 1);
    // The topic ids are gone with the session.
    assert!(world.try_say(1, &publish(Qos::AtMostOnce, Topic::Normal(id), 0, "x")).is_err());
    world.expect(&[Packet::PubAck(ack(id, 0, 2))]);
}

#[test]
fn an_id_from_another_address_takes_over() {
    let mut world = World::new();
    let first = world.connected(1, "n1");
    world.say(2, &connect("n1"));
    let events = world.events();
    assert_eq!(events[0], Event::Gone { client: first, reason: Reason::Replaced, will: None });
    assert!(matches!(events[1], Event::Connected { from, .. } if from == at(2)));
    world.out.clear_datagrams();
    // The old address hears that it is not connected.
    assert!(world.try_say(1, &Packet::PingReq(None)).is_err());
    world.expect(&[Packet::Disconnect(None)]);
}

#[test]
fn another_id_from_the_same_address_takes_its_place() {
    let mut world = World::new();
    let first = world.connected(1, "n1");
    world.say(1, &connect("n2"));
    assert_eq!(world.events()[0], Event::Gone { client: first, reason: Reason::Replaced, will: None });
    assert_eq!((world.counts().connected, world.gateway.sessions()), (1, 1));
}

/// §6.11: one and a half times the keep-alive time.
#[test]
fn a_silent_client_is_lost() {
    let mut world = World::new();
    let client = world.connected(1, "n1");
    world.pass(149_000);
    assert_eq!(world.events(), []);
    world.say(1, &Packet::PingReq(None));
    world.pass(149_999);
    assert_eq!(world.events(), []);
    world.pass(1);
    assert_eq!(world.events(), [Event::Gone { client, reason: Reason::Lost, will: None }]);
    assert_eq!((world.counts().lost, world.gateway.due_ms()), (1, None));
}

#[test]
fn a_client_without_keep_alive_is_lost_after_an_hour() {
    let mut world = World::new();
    world.say(1, &connect_with("n1", false, true, 0));
    world.say(1, &Packet::PingReq(None));
    world.events();
    world.pass(3_599_999);
    assert_eq!(world.events(), []);
    world.pass(1);
    assert!(matches!(world.events()[..], [Event::Gone { reason: Reason::Lost, .. }]));
}

#[test]
fn a_client_that_only_connects_is_lost_soon() {
    let mut world = World::new();
    world.say(1, &connect_with("n1", false, true, u16::MAX));
    world.pass(599_999);
    assert_eq!(world.events().len(), 1);
    world.pass(1);
    assert!(matches!(world.events()[..], [Event::Gone { reason: Reason::Lost, .. }]));
}

#[test]
fn who_cannot_be_a_client_hears_why() {
    let mut world = World::new();
    let refused = Packet::ConnAck(ReturnCode::NOT_SUPPORTED);
    for id in ["", "a\0", "123456789012345678901234"] {
        assert!(world.try_say(1, &connect(id)).is_err());
        world.expect(&[refused]);
    }
    let of_version = |protocol_id| {
        let client_id = Name(b"n1");
        Packet::Connect(Connect { has_will: false, is_clean: true, protocol_id, keep_alive_s: 9, client_id })
    };
    // MQTT-SN 2.0 says 2.
    assert_eq!(world.try_say(1, &of_version(2)).unwrap_err().section, "5.3.8");
    world.expect(&[refused]);
    assert_eq!(world.events(), []);
    assert_eq!((world.counts().connected, world.counts().refused), (0, 4));
}

/// §6.3.
#[test]
fn a_session_that_is_not_clean_goes_on() {
    let mut world = World::new();
    world.say(1, &connect_with("n1", false, false, 100));
    world.say(1, &subscribe(1, "gateway/+/set"));
    let Some(Event::Subscribed { client, .. }) = world.events().pop() else { panic!() };
    world.out.clear_datagrams();
    // A message under way is not kept: its owner knows better whether it is still wanted.
    assert_eq!(world.publish(client, 5, "gateway/led/set", "1"), Sent::Taken);
    world.pass(150_000);
    let dropped = Event::Delivered { client, token: 5, delivery: Delivery::Dropped };
    let events = world.events();
    assert_eq!(events.last(), Some(&Event::Gone { client, reason: Reason::Lost, will: None }));
    assert!(
        events.contains(&dropped)
            || matches!(events[0], Event::Delivered { delivery: Delivery::Unanswered, .. })
    );
    assert_eq!((world.counts().connected, world.gateway.sessions()), (0, 1));
    assert_eq!(world.publish(client, 6, "gateway/led/set", "1"), Sent::NotConnected);
    world.out.clear_datagrams();
    // It comes back from elsewhere.
    world.say(2, &connect_with("n1", false, false, 100));
    world.expect(&[ACCEPTED]);
    let events = world.events();
    let [Event::Connected { client, is_resumed: true, .. }] = events[..] else { panic!("{events:?}") };
    assert_eq!(world.publish(client, 7, "gateway/led/set", "1"), Sent::Taken);
    // It is told the topic's id anew (§6.5).
    assert!(matches!(world.sent()[0][1], 0x0A));
    // Clean: nothing goes on.
    world.say(2, &connect("n1"));
    let Some(Event::Connected { client, is_resumed: false, .. }) = world.events().pop() else { panic!() };
    assert_eq!(world.publish(client, 8, "gateway/led/set", "1"), Sent::NotSubscribed);
}

#[test]
fn a_session_is_kept_for_a_day() {
    let mut world = World::new();
    world.say(1, &connect_with("n1", false, false, 100));
    world.say(1, &Packet::Disconnect(None));
    world.pass(24 * 3_600_000 - 1);
    assert_eq!(world.gateway.sessions(), 1);
    world.pass(1);
    assert_eq!((world.gateway.sessions(), world.gateway.due_ms()), (0, None));
}

#[test]
fn an_owner_ends_a_connection_and_its_session() {
    let mut world = World::new();
    world.say(1, &connect_with("n1", false, false, 100));
    let Some(Event::Connected { client, .. }) = world.events().pop() else { panic!() };
    world.out.clear_datagrams();
    world.gateway.disconnect_client(client, world.now_ms, &mut world.out);
    world.expect(&[Packet::Disconnect(None)]);
    assert_eq!(world.events(), [Event::Gone { client, reason: Reason::Ended, will: None }]);
    assert_eq!(world.gateway.sessions(), 0);
}

/// §6.1.
#[test]
fn a_gateway_is_found() {
    let advertise = Some(Advertise { to: "192.0.2.255:1885".parse().unwrap(), every_s: 900 });
    let mut world = World::with(Settings { gateway_id: 9, advertise, ..Settings::default() });
    world.say(1, &Packet::SearchGw { radius: 0 });
    assert_eq!(world.sent_to(), (at(1), vec![3, 0x02, 9]));
    world.pass(0);
    assert_eq!(world.sent_to(), ("192.0.2.255:1885".parse().unwrap(), vec![5, 0x00, 9, 0x03, 0x84]));
    world.pass(899_999);
    world.expect(&[]);
    world.pass(1);
    assert_eq!(world.sent().len(), 1);
    // Others' are none of its business.
    world.say(1, &Packet::Advertise { gateway_id: 3, duration_s: 900 });
    world.say(1, &Packet::GwInfo { gateway_id: 3, address: &[] });
    world.expect(&[]);
    assert_eq!(World::new().gateway.due_ms(), None);
}

/// Whoever asks for something hears DISCONNECT and connects. What could come from a gateway is not answered, so that
/// two gateways do not go on answering each other.
#[test]
fn a_stranger_hears_disconnect_and_a_gateway_nothing() {
    let mut world = World::new();
    let filter = Filter::Short(*b"ab");
    let asking = [
        super::register(1, "a/b"),
        publish(Qos::AtLeastOnce, Topic::Normal(1), 1, ""),
        Packet::Subscribe(Subscribe { is_repeated: false, qos: Qos::AtMostOnce, msg_id: 1, filter }),
        Packet::Unsubscribe { msg_id: 1, filter },
        Packet::PingReq(None),
        Packet::PingReq(Some(Name(b"n1"))),
        Packet::WillMsgUpd(b""),
    ];
    for packet in asking {
        assert!(world.try_say(1, &packet).is_err());
        world.expect(&[Packet::Disconnect(None)]);
    }
    let silent = [
        Packet::Disconnect(None),
        Packet::Disconnect(Some(9)),
        ACCEPTED,
        Packet::PingResp,
        Packet::WillTopicReq,
        Packet::WillMsg(b""),
        Packet::WillTopic(None),
        Packet::UnsubAck(1),
        Packet::Encapsulated { radius: 0, node: &[1], message: &[2, 0x16] },
    ];
    for packet in silent {
        assert!(world.try_say(1, &packet).is_err(), "{packet:?}");
        world.expect(&[]);
    }
    assert_eq!(world.events(), []);
    assert_eq!(world.counts().refused, world.counts().received);
}

#[test]
fn a_gateway_that_ends_says_so_to_those_that_listen() {
    let mut world = World::new();
    for id in 1..=3 {
        world.connected(id, &format!("n{id}"));
    }
    world.say(2, &Packet::Disconnect(Some(60)));
    world.out.clear_datagrams();
    world.gateway.shut_down(&mut world.out);
    let to: Vec<_> = world.out.datagrams().map(|(to, datagram)| (to, datagram.to_vec())).collect();
    assert_eq!(to, [(at(1), vec![2, 0x18]), (at(3), vec![2, 0x18])]);
}
