//! What goes to clients: REGISTER first where it must be, one at a time, again until it is acknowledged (§6.10).

use covey_gateway::mqtt_sn::packet::{Filter, Name, Packet, Publish, Qos, Subscribe, Topic};
use covey_gateway::mqtt_sn::session::{
    Client, DATAGRAM_BYTES_MAX, Delivery, Event, Message, QUEUE_BYTES_MAX, QUEUE_MAX, Sent, Settings,
};

use super::{World, ack, publish};

fn delivered(client: Client, token: u64, delivery: Delivery) -> Event {
    Event::Delivered { client, token, delivery }
}

fn message(msg_id: u16, payload: &str) -> Packet<'_> {
    publish(Qos::AtLeastOnce, Topic::Normal(1), msg_id, payload)
}

fn register(msg_id: u16, name: &str) -> Packet<'_> {
    Packet::Register { topic_id: 1, msg_id, name: Name(name.as_bytes()) }
}

#[test]
fn the_client_is_told_the_topic_of_a_wildcard_first() {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "a/+");
    assert_eq!(world.publish(client, 1, "a/b", "x"), Sent::Taken);
    assert_eq!(world.publish(client, 2, "a/b", "y"), Sent::Taken);
    let sent = world.sent();
    assert_eq!(sent, [b"\x09\x0A\x00\x01\x00\x01a/b"]);
    // An answer to something else does nothing.
    world.say(1, &Packet::RegAck(ack(1, 99, 0)));
    world.say(1, &Packet::PubAck(ack(1, 1, 0)));
    world.expect(&[]);
    world.say(1, &Packet::RegAck(ack(1, 1, 0)));
    world.expect(&[message(2, "x")]);
    world.say(1, &Packet::RegAck(ack(1, 1, 0)));
    world.expect(&[]);
    world.say(1, &Packet::PubAck(ack(1, 2, 0)));
    world.expect(&[message(3, "y")]);
    assert_eq!(world.events(), [delivered(client, 1, Delivery::Accepted)]);
    world.say(1, &Packet::PubAck(ack(1, 3, 0)));
    world.say(1, &Packet::PubAck(ack(1, 3, 0)));
    assert_eq!(world.events(), [delivered(client, 2, Delivery::Accepted)]);
    world.expect(&[]);
}

#[test]
fn a_topic_that_the_client_has_registered_is_known_to_it() {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "a/+");
    assert_eq!(world.registered(1, "a/b"), 1);
    world.publish(client, 1, "a/b", "x");
    world.expect(&[message(1, "x")]);
}

#[test]
fn a_message_is_repeated_with_dup_and_then_given_up() {
    let mut world = World::with(Settings { retry_ms: 10_000, retries: 3, ..Settings::default() });
    let client = world.subscribed(1, "n1", "a/b");
    world.publish(client, 1, "a/b", "x");
    world.publish(client, 2, "a/b", "y");
    world.expect(&[message(1, "x")]);
    let mut last_ms = world.now_ms;
    for repetition in 1..=4 {
        let due_ms = world.gateway.due_ms().unwrap();
        assert!((10_000..=15_000).contains(&(due_ms - last_ms)), "{due_ms} after {last_ms}");
        last_ms = due_ms;
        world.pass(due_ms - world.now_ms - 1);
        world.expect(&[]);
        world.pass(1);
        if repetition < 4 {
            world.expect(&[super::again(message(1, "x"))]);
        }
    }
    world.expect(&[message(2, "y")]);
    assert_eq!(world.events(), [delivered(client, 1, Delivery::Unanswered)]);
    assert_eq!((world.counts().retransmissions, world.counts().unanswered), (3, 1));
    // A late answer to the first is none to the second.
    world.say(1, &Packet::PubAck(ack(1, 1, 0)));
    assert_eq!(world.events(), []);
    world.say(1, &Packet::PubAck(ack(1, 2, 0)));
    assert_eq!(world.events(), [delivered(client, 2, Delivery::Accepted)]);
}

#[test]
fn gateways_do_not_repeat_all_at_once() {
    let mut world = World::new();
    for port in 1..=50 {
        let client = world.subscribed(port, &format!("n{port}"), "a/b");
        world.publish(client, 1, "a/b", "x");
    }
    world.out.clear_datagrams();
    world.pass(12_500);
    let early = world.sent().len();
    assert!((10..40).contains(&early), "{early}");
    world.pass(2_500);
    assert!(world.sent().len() + early >= 50);
}

/// emcute knows no REGISTER. Its messages must not stop those of topics that it knows.
#[test]
fn a_client_that_does_not_answer_register_gets_the_rest() {
    let mut world = World::with(Settings { retries: 1, ..Settings::default() });
    let client = world.subscribed(1, "n1", "#");
    world.say(1, &super::subscribe(2, "known"));
    world.out.clear_datagrams();
    world.events();
    world.publish(client, 1, "a/b", "x");
    world.publish(client, 2, "known", "y");
    world.pass(30_000);
    let sent = world.sent();
    assert_eq!(sent.iter().map(|datagram| datagram[1]).collect::<Vec<_>>(), [0x0A, 0x0A, 0x0C]);
    assert_eq!(world.events(), [delivered(client, 1, Delivery::Unanswered)]);
}

#[test]
fn a_client_that_has_forgotten_an_id_is_told_it_once_more() {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "a/b");
    world.publish(client, 1, "a/b", "x");
    world.expect(&[message(1, "x")]);
    world.say(1, &Packet::PubAck(ack(1, 1, 2)));
    world.expect(&[register(2, "a/b")]);
    world.say(1, &Packet::RegAck(ack(1, 2, 0)));
    // Another id: the refusal may come twice.
    world.expect(&[message(3, "x")]);
    world.say(1, &Packet::PubAck(ack(1, 1, 2)));
    assert_eq!(world.events(), []);
    // It still does not know the topic.
    world.say(1, &Packet::PubAck(ack(1, 3, 2)));
    world.expect(&[]);
    let code = covey_gateway::mqtt_sn::packet::ReturnCode::INVALID_TOPIC_ID;
    assert_eq!(world.events(), [delivered(client, 1, Delivery::Refused(code))]);
}

#[test]
fn a_client_that_refuses_qos_0_for_its_id_is_told_it_with_the_next() {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "a/b");
    let quick = Message { token: 1, topic: "a/b", payload: b"x", is_acknowledged: false };
    let send = |world: &mut World| world.gateway.publish(client, &quick, world.now_ms, &mut world.out);
    assert_eq!(send(&mut world), Sent::Taken);
    world.expect(&[publish(Qos::AtMostOnce, Topic::Normal(1), 0, "x")]);
    assert_eq!(world.events(), [delivered(client, 1, Delivery::Unacknowledged)]);
    world.say(1, &Packet::PubAck(ack(1, 0, 2)));
    send(&mut world);
    assert_eq!(world.sent()[0][1], 0x0A);
    assert_eq!(world.events(), []);
}

#[test]
fn a_client_refuses_a_message_or_a_topic() {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "a/+");
    world.publish(client, 1, "a/b", "x");
    world.say(1, &Packet::RegAck(ack(1, 1, 1)));
    world.publish(client, 2, "a/b", "x");
    world.say(1, &Packet::RegAck(ack(1, 2, 0)));
    world.say(1, &Packet::PubAck(ack(1, 3, 3)));
    let codes: Vec<_> = world
        .events()
        .into_iter()
        .map(|event| match event {
            Event::Delivered { delivery: Delivery::Refused(code), .. } => code.0,
            event => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(codes, [1, 3]);
}

#[test]
fn the_lower_qos_is_taken() {
    let mut world = World::new();
    let client = world.connected(1, "n1");
    let filter = Filter::Name(Name(b"a/b"));
    world.say(
        1,
        &Packet::Subscribe(Subscribe { is_repeated: false, qos: Qos::AtMostOnce, msg_id: 1, filter }),
    );
    world.out.clear_datagrams();
    world.events();
    assert_eq!(world.publish(client, 1, "a/b", "x"), Sent::Taken);
    world.expect(&[publish(Qos::AtMostOnce, Topic::Normal(1), 0, "x")]);
    assert_eq!(world.events(), [delivered(client, 1, Delivery::Unacknowledged)]);
    // The higher one of two subscriptions.
    world.say(1, &super::subscribe(2, "a/+"));
    world.out.clear_datagrams();
    assert_eq!(world.publish(client, 1, "a/b", "x"), Sent::Taken);
}

#[test]
fn what_is_too_much_is_not_sent() {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "#");
    for topic in ["", "a/+", "a\0", &"x".repeat(250)] {
        assert_eq!(world.publish(client, 1, topic, ""), Sent::NotATopic);
    }
    assert_eq!(world.publish(client, 1, "a/b", &"x".repeat(DATAGRAM_BYTES_MAX - 8)), Sent::TooLarge);
    assert_eq!(world.publish(client, 1, "a/b", &"x".repeat(DATAGRAM_BYTES_MAX - 9)), Sent::Taken);
    world.say(1, &Packet::RegAck(ack(1, 1, 0)));
    assert_eq!(world.sent()[1].len(), DATAGRAM_BYTES_MAX);
    for _ in 1..QUEUE_MAX {
        assert_eq!(world.publish(client, 1, "a/b", ""), Sent::Taken);
    }
    assert_eq!(world.publish(client, 1, "a/b", ""), Sent::Full);
    let client = world.subscribed(2, "n2", "#");
    let half = "x".repeat(QUEUE_BYTES_MAX / 4);
    for _ in 0..4 {
        assert_eq!(world.publish(client, 1, "a/b", &half), Sent::Taken);
    }
    assert_eq!(world.publish(client, 1, "a/b", "x"), Sent::Full);
}

#[test]
fn what_waits_is_told_when_the_client_goes() {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "a/b");
    for token in 1..=3 {
        world.publish(client, token, "a/b", "x");
    }
    world.say(1, &Packet::Disconnect(None));
    let events = world.events();
    for (token, event) in (1..=3).zip(&events) {
        assert_eq!(*event, delivered(client, token, Delivery::Dropped));
    }
    assert!(matches!(events[3..], [Event::Gone { .. }]));
}

/// A retransmission of a message whose client knows no DUP.
#[test]
fn a_client_that_refuses_dup_gets_the_message_without() {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "a/b");
    world.publish(client, 1, "a/b", "x");
    world.pass(15_000);
    world.out.clear_datagrams();
    world.say(1, &Packet::PubAck(ack(1, 1, 3)));
    world.expect(&[message(1, "x")]);
    world.pass(15_000);
    world.expect(&[message(1, "x")]);
    world.say(1, &Packet::PubAck(ack(1, 1, 0)));
    assert_eq!(world.events(), [delivered(client, 1, Delivery::Accepted)]);
    // From now on always.
    world.publish(client, 2, "a/b", "y");
    world.pass(15_000);
    let sent = world.sent();
    let repeated = |datagram: &Vec<u8>| datagram[2] & 0x80 != 0;
    assert!(sent.len() == 2 && !sent.iter().any(repeated));
}

#[test]
fn publish_is_as_the_specification_says() {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "a/b");
    world.publish(client, 1, "a/b", "hi");
    let expected = Publish {
        is_repeated: false,
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: Topic::Normal(1),
        msg_id: 1,
        payload: b"hi",
    };
    world.expect(&[Packet::Publish(expected)]);
}
