//! Wills: asked for at CONNECT, changed later, told when a client is lost (§6.2, §6.4).

use covey_gateway::mqtt_sn::packet::{Name, Packet, Qos, ReturnCode, WillTopic};
use covey_gateway::mqtt_sn::session::{Event, HALF_OPEN_MS_MAX, Reason, WILL_BYTES_MAX, Will};

use super::{World, connect, connect_with};

fn topic(name: &str) -> Option<WillTopic<'_>> {
    Some(WillTopic { qos: Qos::AtLeastOnce, retain: true, name: Name(name.as_bytes()) })
}

/// Connects with a will.
fn connected(world: &mut World) {
    world.say(1, &connect_with("n1", true, true, 100));
    world.expect(&[Packet::WillTopicReq]);
    assert_eq!(world.events(), []);
    world.say(1, &Packet::WillTopic(topic("node/n1/out")));
    world.expect(&[Packet::WillMsgReq]);
    world.say(1, &Packet::WillMsg(b"bye"));
    world.expect(&[Packet::ConnAck(ReturnCode::ACCEPTED)]);
    assert!(matches!(world.events()[..], [Event::Connected { .. }]));
}

fn will(world: &mut World) -> Option<(String, String)> {
    world.pass(150_000);
    let Some(Event::Gone { will, .. }) = world.events().pop() else { panic!() };
    will.map(|Will { topic, payload }| (topic.into(), String::from_utf8(payload.into()).unwrap()))
}

#[test]
fn a_will_is_told_when_the_client_is_lost() {
    let mut world = World::new();
    connected(&mut world);
    assert_eq!(will(&mut world), Some(("node/n1/out".to_owned(), "bye".to_owned())));
}

#[test]
fn a_will_is_not_told_when_the_client_leaves_or_connects_anew() {
    let mut world = World::new();
    connected(&mut world);
    world.say(1, &Packet::PingReq(None));
    world.say(1, &connect("n1"));
    assert!(matches!(world.events()[0], Event::Gone { reason: Reason::Replaced, will: None, .. }));
    assert_eq!(will(&mut world), None);
    connected_again(&mut world);
    world.say(1, &Packet::Disconnect(None));
    assert!(matches!(world.events()[..], [Event::Gone { reason: Reason::Left, will: None, .. }]));
}

fn connected_again(world: &mut World) {
    world.out.clear_datagrams();
    connected(world);
}

#[test]
fn a_will_is_changed_and_deleted() {
    let mut world = World::new();
    connected(&mut world);
    world.say(1, &Packet::WillTopicUpd(topic("other")));
    world.expect(&[Packet::WillTopicResp(ReturnCode::ACCEPTED)]);
    world.say(1, &Packet::WillMsgUpd(b"news"));
    world.expect(&[Packet::WillMsgResp(ReturnCode::ACCEPTED)]);
    assert_eq!(will(&mut world), Some(("other".to_owned(), "news".to_owned())));
    connected(&mut world);
    world.say(1, &Packet::WillTopicUpd(None));
    world.expect(&[Packet::WillTopicResp(ReturnCode::ACCEPTED)]);
    assert!(world.try_say(1, &Packet::WillMsgUpd(b"")).is_err());
    world.expect(&[Packet::WillMsgResp(ReturnCode::NOT_SUPPORTED)]);
    assert_eq!(will(&mut world), None);
}

#[test]
fn a_client_may_want_no_will_after_all() {
    let mut world = World::new();
    world.say(1, &connect_with("n1", true, true, 100));
    world.say(1, &Packet::WillTopic(None));
    world.expect(&[Packet::WillTopicReq, Packet::ConnAck(ReturnCode::ACCEPTED)]);
    assert_eq!(will(&mut world), None);
}

/// emcute repeats each of its messages until it is answered.
#[test]
fn what_is_repeated_is_answered_again() {
    let mut world = World::new();
    for _ in 0..2 {
        world.say(1, &connect_with("n1", true, true, 100));
        world.expect(&[Packet::WillTopicReq]);
    }
    for _ in 0..2 {
        world.say(1, &Packet::WillTopic(topic("a")));
        world.expect(&[Packet::WillMsgReq]);
    }
    for _ in 0..2 {
        world.say(1, &Packet::WillMsg(b"b"));
        world.expect(&[Packet::ConnAck(ReturnCode::ACCEPTED)]);
    }
    assert_eq!(world.events().len(), 1);
    // Who begins anew is asked anew, and is connected as before until it has said its will.
    world.say(1, &connect_with("n1", true, true, 100));
    world.expect(&[Packet::WillTopicReq]);
    assert_eq!((world.events().len(), world.counts().connected), (0, 1));
    world.say(1, &Packet::WillTopic(topic("c")));
    world.say(1, &Packet::WillMsg(b"d"));
    assert_eq!(world.events().len(), 2);
}

#[test]
fn a_will_that_cannot_be_kept_ends_the_connect() {
    let mut world = World::new();
    let refused = Packet::ConnAck(ReturnCode::NOT_SUPPORTED);
    for name in ["a/#", "a\0", &"x".repeat(250)] {
        world.say(1, &connect_with("n1", true, true, 100));
        world.out.clear_datagrams();
        assert!(world.try_say(1, &Packet::WillTopic(topic(name))).is_err());
        world.expect(&[refused]);
        assert!(world.try_say(1, &Packet::WillMsg(b"")).is_err());
    }
    world.say(1, &connect_with("n1", true, true, 100));
    world.say(1, &Packet::WillTopic(topic("a")));
    world.out.clear_datagrams();
    assert!(world.try_say(1, &Packet::WillMsg(&[0; WILL_BYTES_MAX + 1])).is_err());
    world.expect(&[refused]);
    assert_eq!((world.events(), world.gateway.due_ms()), (vec![], world.gateway.due_ms()));
}

/// The message before the topic, or after a long time.
#[test]
fn a_will_that_was_not_asked_for_is_refused() {
    let mut world = World::new();
    world.say(1, &connect_with("n1", true, true, 100));
    assert!(world.try_say(1, &Packet::WillMsg(b"x")).is_err());
    world.pass(HALF_OPEN_MS_MAX);
    assert!(world.try_say(1, &Packet::WillTopic(topic("a"))).is_err());
    assert_eq!((world.counts().connected, world.gateway.due_ms()), (0, None));
}
