//! Subscriptions by name, short name and predefined id (§6.9).

use covey_gateway::mqtt_sn::packet::{Filter, Name, Packet, Qos, ReturnCode, SubAck, Subscribe};
use covey_gateway::mqtt_sn::session::{Event, SUBSCRIPTIONS_MAX, Sent};

use super::{World, subscribe};

fn suback(topic_id: u16, msg_id: u16, code: u8) -> Packet<'static> {
    let qos = if code == 0 { Qos::AtLeastOnce } else { Qos::AtMostOnce };
    Packet::SubAck(SubAck { qos, topic_id, msg_id, code: ReturnCode(code) })
}

fn of(filter: Filter<'_>) -> Packet<'_> {
    Packet::Subscribe(Subscribe { is_repeated: false, qos: Qos::ExactlyOnce, msg_id: 5, filter })
}

#[test]
fn each_kind_of_topic_is_subscribed_and_told_once() {
    let mut world = World::new();
    let client = world.connected(1, "n1");
    let filters = [
        (Filter::Name(Name(b"gateway/n1/led/set")), 1, "gateway/n1/led/set"),
        (Filter::Name(Name(b"gateway/+/#")), 0, "gateway/+/#"),
        (Filter::Predefined(2), 2, "gateway/check"),
        (Filter::Short(*b"ab"), 0, "ab"),
    ];
    for (filter, topic_id, name) in filters {
        world.say(1, &of(filter));
        world.expect(&[suback(topic_id, 5, 0)]);
        assert_eq!(world.events(), [Event::Subscribed { client, filter: name.into() }]);
        // SUBACK was lost.
        world.say(1, &of(filter));
        world.expect(&[suback(topic_id, 5, 0)]);
        assert_eq!(world.events(), []);
    }
}

#[test]
fn a_message_comes_under_the_id_by_which_its_topic_is_known() {
    let mut world = World::new();
    let client = world.connected(1, "n1");
    for filter in [Filter::Name(Name(b"a/b")), Filter::Predefined(2), Filter::Short(*b"ab")] {
        world.say(1, &of(filter));
    }
    world.out.clear_datagrams();
    world.events();
    for (topic, flags, id) in [("a/b", 0x20, [0, 1]), ("gateway/check", 0x21, [0, 2]), ("ab", 0x22, *b"ab")] {
        assert_eq!(world.publish(client, 1, topic, "x"), Sent::Taken);
        let sent = world.sent();
        assert_eq!((sent[0][1], sent[0][2], &sent[0][3..5]), (0x0C, flags, &id[..]));
        let msg_id = u16::from_be_bytes([sent[0][5], sent[0][6]]);
        world.say(1, &Packet::PubAck(super::ack(u16::from_be_bytes(id), msg_id, 0)));
    }
}

#[test]
fn what_cannot_be_subscribed_is_refused_with_a_code() {
    let mut world = World::new();
    world.connected(1, "n1");
    let long = [b'x'; 250];
    let filters = [
        (Filter::Name(Name(b"a#")), 3),
        (Filter::Name(Name(b"a/#/b")), 3),
        (Filter::Name(Name(b"\xFF")), 3),
        (Filter::Name(Name(&long)), 3),
        (Filter::Short(*b"a+"), 3),
        (Filter::Short([0, 0]), 3),
        (Filter::Predefined(99), 2),
    ];
    for (filter, code) in filters {
        assert!(world.try_say(1, &of(filter)).is_err());
        world.expect(&[suback(0, 5, code)]);
    }
    let filter = Filter::Name(Name(b"a"));
    let minus_1 = Subscribe { is_repeated: false, qos: Qos::WithoutConnection, msg_id: 5, filter };
    assert!(world.try_say(1, &Packet::Subscribe(minus_1)).is_err());
    world.expect(&[suback(0, 5, 3)]);
    for number in 0..SUBSCRIPTIONS_MAX {
        world.say(1, &subscribe(1, &format!("{number}/+")));
    }
    world.out.clear_datagrams();
    assert!(world.try_say(1, &subscribe(5, "one/more")).is_err());
    world.expect(&[suback(0, 5, 1)]);
    // One that is there can be changed.
    world.say(1, &subscribe(5, "0/+"));
    world.expect(&[suback(0, 5, 0)]);
}

#[test]
fn what_is_unsubscribed_is_not_sent() {
    let mut world = World::new();
    let client = world.subscribed(1, "n1", "a/b");
    assert_eq!(world.publish(client, 1, "a/c", ""), Sent::NotSubscribed);
    let unsubscribe = |filter| Packet::Unsubscribe { msg_id: 6, filter };
    world.say(1, &unsubscribe(Filter::Name(Name(b"a/b"))));
    world.expect(&[Packet::UnsubAck(6)]);
    assert_eq!(world.events(), [Event::Unsubscribed { client, filter: "a/b".into() }]);
    assert_eq!(world.publish(client, 1, "a/b", ""), Sent::NotSubscribed);
    // It is answered whatever it names, so that the client goes on.
    world.say(1, &unsubscribe(Filter::Name(Name(b"a/b"))));
    assert!(world.try_say(1, &unsubscribe(Filter::Predefined(99))).is_err());
    world.expect(&[Packet::UnsubAck(6), Packet::UnsubAck(6)]);
    assert_eq!(world.events(), []);
}
