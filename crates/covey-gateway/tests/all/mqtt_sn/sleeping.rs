//! Clients that sleep (§6.14).

use covey_gateway::mqtt_sn::packet::{Name, Packet, Qos, ReturnCode, Topic, WillTopic};
use covey_gateway::mqtt_sn::session::{Client, Delivery, Event, Message, QUEUE_MAX, Reason, Sent};

use super::{World, ack, again, at, connect, connect_with, publish};

const WAKE: Packet<'_> = Packet::PingReq(Some(Name(b"n1")));

/// A client that has subscribed and sleeps for 600 s.
fn asleep() -> (World, Client) {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "a/b");
    world.say(1, &Packet::Disconnect(Some(600)));
    world.expect(&[Packet::Disconnect(None)]);
    assert_eq!(world.events(), [Event::Asleep { client, for_s: 600 }]);
    (world, client)
}

fn message(msg_id: u16, payload: &str) -> Packet<'_> {
    publish(Qos::AtLeastOnce, Topic::Normal(1), msg_id, payload)
}

#[test]
fn what_is_for_a_sleeper_waits_until_it_asks() {
    let (mut world, client) = asleep();
    for (token, payload) in [(1, "x"), (2, "y")] {
        assert_eq!(world.publish(client, token, "a/b", payload), Sent::Taken);
    }
    world.pass(300_000);
    world.expect(&[]);
    world.say(1, &WAKE);
    world.expect(&[message(1, "x")]);
    world.say(1, &Packet::PubAck(ack(1, 1, 0)));
    world.expect(&[message(2, "y")]);
    world.say(1, &Packet::PubAck(ack(1, 2, 0)));
    // It sleeps on.
    world.expect(&[Packet::PingResp]);
    let accepted = |token| Event::Delivered { client, token, delivery: Delivery::Accepted };
    assert_eq!(world.events(), [accepted(1), accepted(2)]);
    world.publish(client, 3, "a/b", "z");
    world.expect(&[]);
    // Nothing of the sort while nothing waits.
    world.say(1, &WAKE);
    world.expect(&[message(3, "z")]);
    world.say(1, &Packet::PubAck(ack(1, 3, 0)));
    world.expect(&[Packet::PingResp]);
    world.say(1, &WAKE);
    world.expect(&[Packet::PingResp]);
}

/// Nothing is sent to somebody who does not listen, until one and a half times its duration is over.
#[test]
fn a_sleeper_that_does_not_wake_is_lost() {
    let (mut world, client) = asleep();
    world.publish(client, 1, "a/b", "x");
    world.pass(899_999);
    world.expect(&[]);
    assert_eq!(world.events(), []);
    world.pass(1);
    let dropped = Event::Delivered { client, token: 1, delivery: Delivery::Dropped };
    assert_eq!(world.events(), [dropped, Event::Gone { client, reason: Reason::Lost, will: None }]);
    assert!(world.try_say(1, &WAKE).is_err());
    world.expect(&[Packet::Disconnect(None)]);
}

#[test]
fn a_sleeper_that_asks_in_time_stays() {
    let (mut world, _) = asleep();
    for _ in 0..10 {
        world.pass(600_000);
        world.say(1, &WAKE);
        world.expect(&[Packet::PingResp]);
    }
    assert_eq!(world.events(), []);
}

#[test]
fn a_sleeper_connects_and_is_active() {
    let (mut world, client) = asleep();
    world.publish(client, 1, "a/b", "x");
    world.say(1, &connect("n1"));
    world.expect(&[Packet::ConnAck(ReturnCode::ACCEPTED), message(1, "x")]);
    assert_eq!(world.events(), [Event::Active { client }]);
    // CONNACK was lost.
    world.say(1, &connect("n1"));
    world.expect(&[Packet::ConnAck(ReturnCode::ACCEPTED)]);
    assert_eq!(world.events(), []);
    world.say(1, &Packet::PubAck(ack(1, 1, 0)));
    world.say(1, &Packet::PingReq(None));
    world.expect(&[Packet::PingResp]);
    // Its new keep-alive holds.
    world.pass(150_000);
    assert!(matches!(world.events()[..], [Event::Delivered { .. }, Event::Gone { .. }]));
}

/// A network translates addresses, and has forgotten this one.
#[test]
fn a_sleeper_may_wake_at_another_address() {
    let (mut world, client) = asleep();
    world.publish(client, 1, "a/b", "x");
    let other = world.connected(2, "n2");
    world.say(2, &WAKE);
    assert_eq!(world.sent_to().0, at(2));
    assert_eq!(world.events(), [Event::Gone { client: other, reason: Reason::Replaced, will: None }]);
    world.say(2, &Packet::PubAck(ack(1, 1, 0)));
    world.expect(&[Packet::PingResp]);
    // From where it was nobody is heard.
    assert!(world.try_say(1, &Packet::PingReq(None)).is_err());
    world.out.clear_datagrams();
    world.say(3, &connect("n1"));
    assert_eq!(world.sent_to().0, at(3));
}

/// Of one that is awake already somebody else cannot say that it moved.
#[test]
fn an_active_client_is_not_moved_by_a_ping() {
    let mut world = World::new();
    world.connected(1, "n1");
    assert!(world.try_say(2, &WAKE).is_err());
    assert_eq!(world.sent_to(), (at(2), vec![2, 0x18]));
    world.say(1, &WAKE);
    world.expect(&[Packet::PingResp]);
}

/// It has not left before that, and is lost with its client like any other.
#[test]
fn what_a_sleeper_does_not_acknowledge_is_told_as_sent_when_it_is() {
    let (mut world, client) = asleep();
    let quick = |token| Message { token, topic: "a/b", payload: b"x", is_acknowledged: false };
    assert_eq!(world.gateway.publish(client, &quick(1), world.now_ms, &mut world.out), Sent::Taken);
    assert_eq!(world.events(), []);
    world.say(1, &WAKE);
    world.expect(&[publish(Qos::AtMostOnce, Topic::Normal(1), 0, "x"), Packet::PingResp]);
    assert_eq!(world.events(), [Event::Delivered { client, token: 1, delivery: Delivery::Unacknowledged }]);
    world.gateway.publish(client, &quick(2), world.now_ms, &mut world.out);
    world.pass(900_000);
    let dropped = Event::Delivered { client, token: 2, delivery: Delivery::Dropped };
    assert_eq!(world.events(), [dropped, Event::Gone { client, reason: Reason::Lost, will: None }]);
}

#[test]
fn what_is_withdrawn_before_it_was_sent_is_not_sent() {
    let (mut world, client) = asleep();
    for (token, payload) in [(1, "x"), (2, "y"), (3, "z")] {
        world.publish(client, token, "a/b", payload);
    }
    world.gateway.withdraw(client, 2);
    world.gateway.check();
    world.say(1, &WAKE);
    world.expect(&[message(1, "x")]);
    // That one is under way.
    world.gateway.withdraw(client, 1);
    world.say(1, &Packet::PubAck(ack(1, 1, 0)));
    world.expect(&[message(2, "z")]);
    let accepted = Event::Delivered { client, token: 1, delivery: Delivery::Accepted };
    assert_eq!(world.events(), [accepted]);
}

#[test]
fn what_a_wake_does_not_bring_is_brought_by_the_next() {
    let (mut world, client) = asleep();
    world.publish(client, 1, "a/b", "x");
    world.publish(client, 2, "a/b", "y");
    for wake in 0..3 {
        world.say(1, &WAKE);
        let sent = world.sent();
        assert_eq!((sent.len(), sent[0][2] & 0x80 != 0), (1, wake > 0));
        world.pass(80_000);
        // Four repetitions, and no PINGRESP: it has not got all.
        assert!(world.sent().iter().all(|datagram| datagram[1] == 0x0C));
    }
    assert_eq!(world.events(), [Event::Delivered { client, token: 1, delivery: Delivery::Unanswered }]);
    world.say(1, &WAKE);
    world.expect(&[message(2, "y")]);
    // It goes to sleep in between, and gets it when it wakes.
    world.say(1, &Packet::Disconnect(Some(100)));
    world.expect(&[Packet::Disconnect(None)]);
    world.pass(60_000);
    world.expect(&[]);
    world.say(1, &WAKE);
    world.expect(&[again(message(2, "y"))]);
}

#[test]
fn a_ping_that_is_repeated_brings_nothing_twice() {
    let (mut world, client) = asleep();
    world.publish(client, 1, "a/b", "x");
    world.say(1, &WAKE);
    world.out.clear_datagrams();
    world.say(1, &WAKE);
    world.expect(&[]);
    world.say(1, &Packet::PubAck(ack(1, 1, 0)));
    world.expect(&[Packet::PingResp]);
}

#[test]
fn qos_0_waits_too() {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "a/b");
    world.say(1, &Packet::Disconnect(Some(600)));
    world.out.clear_datagrams();
    for payload in ["x", "y"] {
        let message = covey_gateway::mqtt_sn::session::Message {
            token: 0,
            topic: "a/b",
            payload: payload.as_bytes(),
            is_acknowledged: false,
        };
        world.gateway.publish(client, &message, world.now_ms, &mut world.out);
    }
    world.expect(&[]);
    world.say(1, &WAKE);
    let quick = |payload| publish(Qos::AtMostOnce, Topic::Normal(1), 0, payload);
    world.expect(&[quick("x"), quick("y"), Packet::PingResp]);
}

#[test]
fn what_waits_is_bounded() {
    let (mut world, client) = asleep();
    for _ in 0..QUEUE_MAX {
        assert_eq!(world.publish(client, 1, "a/b", "x"), Sent::Taken);
    }
    assert_eq!(world.publish(client, 1, "a/b", "x"), Sent::Full);
}

/// Not as the specification has it, which wants a CONNECT first.
#[test]
fn a_sleeper_may_publish() {
    let (mut world, _) = asleep();
    let id = world.registered(1, "c/d");
    world.say(1, &publish(Qos::AtLeastOnce, Topic::Normal(id), 1, "x"));
    assert_eq!(world.take_all(), ["x"]);
    world.expect(&[Packet::PubAck(ack(id, 1, 0))]);
}

#[test]
fn a_duration_of_zero_is_none() {
    let mut world = World::new();
    world.connected(1, "n1");
    world.say(1, &Packet::Disconnect(Some(0)));
    assert!(matches!(world.events()[..], [Event::Gone { reason: Reason::Left, .. }]));
}

#[test]
fn a_sleeper_that_connects_with_a_will_is_asked_for_it_and_keeps_what_waits() {
    let (mut world, client) = asleep();
    world.publish(client, 1, "a/b", "x");
    world.say(1, &connect_with("n1", true, true, 100));
    world.expect(&[Packet::WillTopicReq]);
    world.say(
        1,
        &Packet::WillTopic(Some(WillTopic { qos: Qos::AtMostOnce, retain: false, name: Name(b"w") })),
    );
    world.say(1, &Packet::WillMsg(b"v"));
    world.expect(&[Packet::WillMsgReq, Packet::ConnAck(ReturnCode::ACCEPTED), message(1, "x")]);
    assert_eq!(world.events(), [Event::Active { client }]);
    world.pass(200_000);
    let Some(Event::Gone { will: Some(will), .. }) = world.events().pop() else { panic!() };
    assert_eq!(&*will.topic, "w");
}
