//! What clients publish: topics, QoS −1 to 2, repetitions, answers after the owner's (§6.5–§6.8).

use covey_gateway::mqtt_sn::packet::{Packet, Qos, ReturnCode, Topic};
use covey_gateway::mqtt_sn::session::{
    Answer, Event, Receipt, Settings, TOPICS_MAX, UNANSWERED_MAX, UNANSWERED_MS_MAX, UNRELEASED_MAX,
};

use super::{World, ack, again, at, publish, register};

/// The receipt of the only message that is told.
fn receipt(world: &mut World) -> Receipt {
    let events = world.events();
    let [Event::Published { receipt: Some(receipt), .. }] = events[..] else { panic!("{events:?}") };
    receipt
}

#[test]
fn a_topic_gets_an_id_and_keeps_it() {
    let mut world = World::new();
    world.connected(1, "n1");
    for (msg_id, name, id) in [(1, "node/check", 1), (2, "node/n1/led", 2), (3, "node/check", 1)] {
        world.say(1, &register(msg_id, name));
        world.expect(&[Packet::RegAck(ack(id, msg_id, 0))]);
    }
    // Ids are each client's own.
    world.connected(2, "n2");
    assert_eq!(world.registered(2, "other"), 1);
}

#[test]
fn a_topic_that_is_none_gets_no_id() {
    let mut world = World::new();
    world.connected(1, "n1");
    for name in ["", "a/+", "#", "a\0b", &"x".repeat(250)] {
        assert!(world.try_say(1, &register(9, name)).is_err());
        world.expect(&[Packet::RegAck(ack(0, 9, 3))]);
    }
    for number in 0..TOPICS_MAX {
        world.registered(1, &format!("t{number}"));
    }
    assert!(world.try_say(1, &register(9, "one more")).is_err());
    world.expect(&[Packet::RegAck(ack(0, 9, 1))]);
}

#[test]
fn a_message_of_qos_0_is_told_and_not_answered() {
    let mut world = World::new();
    let client = world.connected(1, "n1");
    let id = world.registered(1, "a/b");
    world.say(1, &publish(Qos::AtMostOnce, Topic::Normal(id), 0, "23°C"));
    world.expect(&[]);
    let (topic, payload) = ("a/b".into(), "23°C".as_bytes().into());
    assert_eq!(world.events(), [Event::Published { client, topic, payload, receipt: None }]);
}

#[test]
fn a_message_of_qos_1_is_answered_when_the_owner_says_so() {
    let mut world = World::new();
    world.connected(1, "n1");
    let id = world.registered(1, "a/b");
    let message = |msg_id| publish(Qos::AtLeastOnce, Topic::Normal(id), msg_id, "x");
    for (msg_id, answer, code) in [(1, Answer::Taken, 0), (2, Answer::Later, 1), (3, Answer::Refused, 3)] {
        world.say(1, &message(msg_id));
        world.expect(&[]);
        let receipt = receipt(&mut world);
        // It repeats the message before it is answered.
        world.say(1, &again(message(msg_id)));
        world.say(1, &message(msg_id));
        world.expect(&[]);
        assert_eq!(world.events(), []);
        world.answer(receipt, answer);
        world.expect(&[Packet::PubAck(ack(id, msg_id, code))]);
        // A second answer does nothing.
        world.answer(receipt, Answer::Taken);
        world.expect(&[]);
    }
    assert_eq!(world.counts().repetitions, 6);
    // What was refused for the time being is told when it comes again.
    world.say(1, &again(message(2)));
    assert_eq!(world.take_all(), ["x"]);
    world.expect(&[Packet::PubAck(ack(id, 2, 0))]);
    // What was taken is not.
    world.say(1, &again(message(1)));
    world.expect(&[Packet::PubAck(ack(id, 1, 0))]);
    assert_eq!(world.events(), []);
}

/// The same id with DUP and other content is another message, whose sender sets DUP wrongly.
#[test]
fn a_repetition_is_the_same_message() {
    let mut world = World::new();
    world.connected(1, "n1");
    let (a, b) = (world.registered(1, "a"), world.registered(1, "b"));
    let message = |id, payload| publish(Qos::AtLeastOnce, Topic::Normal(id), 1, payload);
    for packet in [message(a, "1"), again(message(a, "2")), again(message(b, "2"))] {
        world.say(1, &packet);
        assert_eq!(world.take_all().len(), 1);
    }
    for packet in [message(a, "1"), message(a, "2"), message(b, "2")] {
        world.say(1, &again(packet));
        assert_eq!(world.take_all().len(), 0);
    }
}

/// Always the same id and no DUP: a client that never counts publishes its sign of life again and again.
#[test]
fn who_never_counts_is_heard_each_time() {
    let mut world = World::new();
    world.connected(1, "n1");
    let id = world.registered(1, "node/check");
    for _ in 0..5 {
        world.say(1, &publish(Qos::AtLeastOnce, Topic::Normal(id), 1, "{}"));
        assert_eq!(world.take_all(), ["{}"]);
        world.pass(30_000);
    }
}

/// Without DUP, as RIOT repeats: the last message once more, of a client that counts.
#[test]
fn who_counts_is_heard_once() {
    let mut world = World::new();
    world.connected(1, "n1");
    let id = world.registered(1, "node/check");
    for msg_id in [u16::MAX, 0, 1] {
        let message = publish(Qos::AtLeastOnce, Topic::Normal(id), msg_id, "{}");
        world.say(1, &message);
        assert_eq!(world.take_all(), ["{}"]);
        if msg_id != u16::MAX {
            world.say(1, &message);
            assert_eq!(world.take_all().len(), 0);
        }
    }
}

#[test]
fn a_topic_id_that_stands_for_nothing_is_refused_at_once() {
    let mut world = World::new();
    world.connected(1, "n1");
    let topics = [
        Topic::Normal(1),
        Topic::Normal(0),
        Topic::Predefined(99),
        Topic::Short(*b"a#"),
        Topic::Short([0xFF; 2]),
    ];
    for topic in topics {
        for (qos, msg_id) in [(Qos::AtMostOnce, 0), (Qos::AtLeastOnce, 7), (Qos::ExactlyOnce, 8)] {
            assert!(world.try_say(1, &publish(qos, topic, msg_id, "")).is_err());
            world.expect(&[Packet::PubAck(ack(topic.id(), msg_id, 2))]);
        }
    }
    assert_eq!(world.events(), []);
}

/// §6.7.
#[test]
fn short_and_predefined_topics_need_no_registration() {
    let mut world = World::new();
    let client = world.connected(1, "n1");
    for (topic, name) in [(Topic::Predefined(1), "node/check"), (Topic::Short(*b"ab"), "ab")] {
        world.say(1, &publish(Qos::AtMostOnce, topic, 0, "x"));
        let event = Event::Published { client, topic: name.into(), payload: (*b"x").into(), receipt: None };
        assert_eq!(world.events(), [event]);
    }
}

/// §6.8.
#[test]
fn qos_minus_1_needs_no_connection() {
    let mut world = World::new();
    for (topic, name) in [(Topic::Predefined(1), "node/check"), (Topic::Short(*b"ab"), "ab")] {
        world.say(1, &publish(Qos::WithoutConnection, topic, 0, "x"));
        let (topic, payload) = (name.into(), (*b"x").into());
        assert_eq!(world.events(), [Event::PublishedUnconnected { from: at(1), topic, payload }]);
    }
    for topic in [Topic::Normal(1), Topic::Predefined(99), Topic::Short(*b"+a")] {
        assert!(world.try_say(1, &publish(Qos::WithoutConnection, topic, 0, "x")).is_err());
    }
    world.expect(&[]);
    let client = world.connected(1, "n1");
    world.say(1, &publish(Qos::WithoutConnection, Topic::Short(*b"ab"), 0, "x"));
    let event = Event::Published { client, topic: "ab".into(), payload: (*b"x").into(), receipt: None };
    assert_eq!(world.events(), [event]);
    let mut world = World::with(Settings { takes_unconnected: false, ..Settings::default() });
    assert!(world.try_say(1, &publish(Qos::WithoutConnection, Topic::Short(*b"ab"), 0, "x")).is_err());
    assert_eq!((world.events(), world.sent()), (vec![], vec![]));
}

#[test]
fn a_message_of_qos_2_is_told_once() {
    let mut world = World::new();
    world.connected(1, "n1");
    let id = world.registered(1, "a/b");
    let message = publish(Qos::ExactlyOnce, Topic::Normal(id), 9, "x");
    world.say(1, &message);
    world.say(1, &again(message));
    world.expect(&[]);
    let receipt = receipt(&mut world);
    world.answer(receipt, Answer::Taken);
    world.expect(&[Packet::PubRec(9)]);
    // PUBREC was lost.
    world.say(1, &again(message));
    world.expect(&[Packet::PubRec(9)]);
    assert_eq!(world.events(), []);
    // So was PUBCOMP.
    for _ in 0..2 {
        world.say(1, &Packet::PubRel(9));
        world.expect(&[Packet::PubComp(9)]);
    }
    // The id is free, even for the same content.
    world.say(1, &message);
    assert_eq!(world.take_all(), ["x"]);
    world.expect(&[Packet::PubRec(9)]);
    // A client that has given it up uses the id for another one.
    world.say(1, &publish(Qos::ExactlyOnce, Topic::Normal(id), 9, "y"));
    assert_eq!(world.take_all(), ["y"]);
}

#[test]
fn a_message_of_qos_2_can_be_refused() {
    let mut world = World::new();
    world.connected(1, "n1");
    let id = world.registered(1, "a/b");
    let message = publish(Qos::ExactlyOnce, Topic::Normal(id), 9, "x");
    world.say(1, &message);
    let receipt = receipt(&mut world);
    world.answer(receipt, Answer::Later);
    world.expect(&[Packet::PubAck(ack(id, 9, 1))]);
    world.say(1, &again(message));
    assert_eq!(world.take_all(), ["x"]);
}

#[test]
fn messages_are_told_in_their_order() {
    let mut world = World::new();
    world.connected(1, "n1");
    let id = world.registered(1, "a/b");
    let qos = [Qos::AtLeastOnce, Qos::AtMostOnce, Qos::ExactlyOnce, Qos::WithoutConnection];
    for (number, qos) in (1_u16..).zip(qos) {
        let topic = if qos == Qos::WithoutConnection { Topic::Short(*b"ab") } else { Topic::Normal(id) };
        world.say(1, &publish(qos, topic, number, &number.to_string()));
    }
    assert_eq!(world.take_all(), ["1", "2", "3", "4"]);
}

#[test]
fn a_client_that_waits_for_no_answer_hears_that_it_must() {
    let mut world = World::new();
    world.connected(1, "n1");
    let id = world.registered(1, "a/b");
    let message = |msg_id| publish(Qos::AtLeastOnce, Topic::Normal(id), msg_id, "x");
    for msg_id in 1..=UNANSWERED_MAX {
        world.say(1, &message(u16::try_from(msg_id).unwrap()));
    }
    assert!(world.try_say(1, &message(100)).is_err());
    world.expect(&[Packet::PubAck(ack(id, 100, 1))]);
    // An owner that has forgotten a message does not stop its client for ever.
    world.say(1, &Packet::PingReq(None));
    world.pass(UNANSWERED_MS_MAX);
    world.out.clear_datagrams();
    world.events();
    world.say(1, &again(message(1)));
    assert_eq!(world.take_all(), ["x"]);
}

#[test]
fn a_client_that_releases_nothing_is_heard_all_the_same() {
    let mut world = World::new();
    world.connected(1, "n1");
    let id = world.registered(1, "a/b");
    for msg_id in 1..=UNRELEASED_MAX + 5 {
        world.say(1, &publish(Qos::ExactlyOnce, Topic::Normal(id), u16::try_from(msg_id).unwrap(), "x"));
        assert_eq!(world.take_all(), ["x"]);
    }
}

#[test]
fn what_gateways_say_is_refused_from_a_client() {
    let mut world = World::new();
    world.connected(1, "n1");
    for packet in
        [Packet::PubRec(1), Packet::PubComp(1), Packet::PingResp, Packet::ConnAck(ReturnCode::ACCEPTED)]
    {
        assert!(world.try_say(1, &packet).is_err());
    }
    world.expect(&[]);
}
