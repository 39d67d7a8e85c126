//! RIOT's emcute, byte for byte as its source says (`sys/net/application_layer/emcute`): it repeats without DUP, 15 s
//! apart, counts ids from 0x1234 on through 0, refuses what has DUP, and knows no REGISTER.

use covey_gateway::mqtt_sn::session::{Answer, Event, Sent};

use super::{World, at};

/// What the firmware says, and what its `syncsend` waits for: type, and the id at its place.
struct Emcute {
    next_id: u16,
}

impl Emcute {
    const fn new() -> Self {
        Self { next_id: 0x1234 }
    }

    fn id(&mut self) -> [u8; 2] {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        id.to_be_bytes()
    }

    /// CONNECT, clean, with the keep-alive that emcute has by default.
    fn connect(id: &str) -> Vec<u8> {
        let mut bytes = vec![(id.len() + 6) as u8, 0x04, 0x04, 0x01, 0x01, 0x68];
        bytes.extend(id.as_bytes());
        bytes
    }

    fn register(&mut self, topic: &str) -> Vec<u8> {
        let mut bytes = vec![(topic.len() + 6) as u8, 0x0A, 0, 0];
        bytes.extend(self.id());
        bytes.extend(topic.as_bytes());
        bytes
    }

    fn publish(&mut self, topic_id: u16, body: &str) -> Vec<u8> {
        let length = body.len() + 6;
        let mut bytes = if length < 0xFF {
            vec![(length + 1) as u8]
        } else {
            let [high, low] = ((length + 3) as u16).to_be_bytes();
            vec![1, high, low]
        };
        bytes.extend([0x0C, 0x20]);
        bytes.extend(topic_id.to_be_bytes());
        bytes.extend(self.id());
        bytes.extend(body.as_bytes());
        bytes
    }

    fn subscribe(&mut self, topic: &str) -> Vec<u8> {
        let mut bytes = vec![(topic.len() + 5) as u8, 0x12, 0x20];
        bytes.extend(self.id());
        bytes.extend(topic.as_bytes());
        bytes
    }
}

fn say(world: &mut World, datagram: &[u8]) -> Vec<Vec<u8>> {
    world.hear(at(1), datagram).unwrap();
    world.sent()
}

/// Says a message, answers it, and gives what is told and what the client hears.
fn publish(world: &mut World, datagram: &[u8]) -> (Vec<(String, String)>, Vec<Vec<u8>>) {
    world.hear(at(1), datagram).unwrap();
    let mut told = Vec::new();
    for event in world.events() {
        let Event::Published { topic, payload, receipt, .. } = event else { panic!("{event:?}") };
        told.push((topic.into(), String::from_utf8(payload.into()).unwrap()));
        world.answer(receipt.unwrap(), Answer::Taken);
    }
    (told, world.sent())
}

/// What the firmware of the field does: check, resources, all values, then values and checks for ever.
#[test]
fn the_sequence_of_the_firmware() {
    let mut world = World::new();
    let mut node = Emcute::new();
    assert_eq!(say(&mut world, &Emcute::connect("node-1")), [[3, 0x05, 0]]);
    world.events();
    let topics = ["node/check", "node/node-1/resources", "node/node-1/led", "node/node-1/temperature"];
    let values =
        [r#"{"id": "node-1"}"#, r#"["led", "temperature"]"#, r#"{"value": "0"}"#, r#"{"value": "23°C"}"#];
    for (topic, value) in topics.iter().zip(values) {
        let register = node.register(topic);
        let answer = say(&mut world, &register);
        assert_eq!((answer.len(), answer[0][1], answer[0][6]), (1, 0x0B, 0));
        assert_eq!(answer[0][4..6], register[4..6]);
        let topic_id = u16::from_be_bytes([answer[0][2], answer[0][3]]);
        assert_ne!(topic_id, 0);
        let message = node.publish(topic_id, value);
        let (told, answer) = publish(&mut world, &message);
        assert_eq!(told, [((*topic).to_owned(), value.to_owned())]);
        assert_eq!(answer, [vec![7, 0x0D, message[3], message[4], message[5], message[6], 0]]);
        world.pass(5_000);
    }
    // A body of 300 bytes has a length of three.
    let (told, answer) = publish(&mut world, &node.publish(2, &"r".repeat(300)));
    assert_eq!((told.len(), answer.len()), (1, 1));
}

/// PUBACK is lost: the message comes again, 15 s later and as it was.
#[test]
fn what_is_repeated_without_dup_is_told_once() {
    let mut world = World::new();
    let mut node = Emcute { next_id: 0xFFFD };
    say(&mut world, &Emcute::connect("node-1"));
    world.events();
    say(&mut world, &node.register("node/check"));
    for _ in 0..5 {
        let message = node.publish(1, "{}");
        let first = publish(&mut world, &message);
        assert_eq!(first.0.len(), 1);
        if node.next_id != 0xFFFF {
            world.pass(15_000);
            let second = publish(&mut world, &message);
            assert_eq!((second.0.len(), second.1), (0, first.1));
        }
    }
}

/// It boots anew and counts from the beginning: nothing of before is mixed up with it.
#[test]
fn a_reboot_is_a_new_connection() {
    let mut world = World::new();
    for _ in 0..3 {
        let mut node = Emcute::new();
        assert_eq!(say(&mut world, &Emcute::connect("node-1")), [[3, 0x05, 0]]);
        assert!(matches!(world.events().last(), Some(Event::Connected { .. })));
        let register = node.register("node/check");
        for _ in 0..2 {
            // REGACK is lost.
            assert_eq!(say(&mut world, &register), [[7, 0x0B, 0, 1, 0x12, 0x34, 0]]);
        }
        for _ in 0..2 {
            let (told, answer) = publish(&mut world, &node.publish(1, "{}"));
            assert_eq!((told.len(), answer.len()), (1, 1));
        }
    }
}

/// `on_publish`: what has DUP is refused with 0x03, what has no subscription with 0x02.
#[test]
fn a_message_reaches_it_although_it_knows_no_dup() {
    let mut world = World::new();
    let mut node = Emcute::new();
    say(&mut world, &Emcute::connect("node-1"));
    let Some(Event::Connected { client, .. }) = world.events().pop() else { panic!() };
    let subscribed = say(&mut world, &node.subscribe("gateway/node-1/led/set"));
    assert_eq!(subscribed, [[8, 0x13, 0x20, 0, 1, 0x12, 0x34, 0]]);
    world.events();
    assert_eq!(world.publish(client, 1, "gateway/node-1/led/set", "1"), Sent::Taken);
    assert_eq!(world.sent(), [b"\x08\x0C\x20\x00\x01\x00\x011"]);
    // That was lost. Now comes the repetition, and its refusal.
    world.pass(15_000);
    assert_eq!(world.sent(), [b"\x08\x0C\xA0\x00\x01\x00\x011"]);
    let again = say(&mut world, &[7, 0x0D, 0, 1, 0, 1, 3]);
    assert_eq!(again, [b"\x08\x0C\x20\x00\x01\x00\x011"]);
    say(&mut world, &[7, 0x0D, 0, 1, 0, 1, 0]);
    assert!(matches!(world.events()[..], [Event::Delivered { token: 1, .. }]));
}

/// `emcute_run` sends PINGREQ, and waits for no answer; `emcute_discon` waits for one.
#[test]
fn it_pings_and_leaves() {
    let mut world = World::new();
    say(&mut world, &Emcute::connect("node-1"));
    assert_eq!(say(&mut world, &[2, 0x16]), [[2, 0x17]]);
    assert_eq!(say(&mut world, &[2, 0x18]), [[2, 0x18]]);
}
