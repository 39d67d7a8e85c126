//! The beginning of a connection: what is no CONNECT, what is too large, what comes too late.

use std::time::Duration;

use covey_net::mqtt::MqttLimits;
use covey_net::{Limits, Refused};

use super::owner::{Server, Start, Told};
use super::raw::{Connect, Raw, packet, text};

async fn is_refused_for(server: &Server, part: &str) {
    let is_it = |told: &Told| matches!(told, Told::Refused(Refused::Protocol(why)) if why.contains(part));
    server.owner.until(part, is_it).await;
}

/// [MQTT-3.1.0-1], [3.1.1 MQTT-3.1.0-1]: before a CONNECT there is no version.
#[tokio::test]
async fn what_is_no_connect_is_closed_without_a_word() {
    let server = Server::start_plain(MqttLimits::default());
    let ping: &[u8] = &[0xC0, 0];
    for bytes in [ping, b"GET / HTTP/1.1\r\n\r\n", &[0xFF], &[0x30]] {
        let mut raw = Raw::open(&server, "dev-1").await;
        raw.send(bytes).await;
        raw.until_closed().await;
    }
    is_refused_for(&server, "MQTT-3.1.0-1").await;
    server.stop().await;
}

#[tokio::test]
async fn a_connect_that_breaks_the_rules_is_answered_in_its_version() {
    let server = Server::start();
    // The reserved flag [MQTT-3.1.2-3].
    let mut body = text("MQTT");
    body.extend([5, 3, 0, 60, 0]);
    body.extend(text("dev-1"));
    let mut raw = Raw::open(&server, "dev-1").await;
    raw.send(&packet(0x10, &body)).await;
    let connack = raw.next().await;
    assert_eq!((connack.kind(), connack.body[1]), (2, 0x81));
    raw.until_closed().await;
    is_refused_for(&server, "MQTT-3.1.2-3").await;
    // A version that there is not [MQTT-3.1.2-2].
    let mut body = text("MQTT");
    body.extend([6, 2, 0, 60, 0]);
    body.extend(text("dev-1"));
    let mut raw = Raw::open(&server, "dev-1").await;
    raw.send(&packet(0x10, &body)).await;
    assert_eq!(raw.next().await.body[1], 0x84);
    raw.until_closed().await;
    server.stop().await;
}

/// 3.1.1: a CONNECT that breaks a rule is not answered [3.1.1 MQTT-3.1.4-1], nor one that no return code fits
/// [3.1.1 MQTT-3.2.2-6]; any other is told why, without Session Present, and closed ([3.1.1 MQTT-3.1.2-2],
/// [3.1.1 MQTT-3.1.3-8], [3.1.1 MQTT-3.1.3-9], [3.1.1 MQTT-3.2.2-4], [3.1.1 MQTT-3.2.2-5]).
#[tokio::test]
async fn a_connect_of_3_that_breaks_a_rule_is_closed_and_others_are_told_why() {
    let server = Server::start();
    let in_3 = |level: u8, flags: u8, payload: &[&str]| {
        let mut body = text("MQTT");
        body.extend([level, flags, 0, 60]);
        body.extend(payload.iter().flat_map(|field| text(field)));
        packet(0x10, &body)
    };
    for (bytes, return_code) in [
        // The reserved flag, a will without its fields, a password alone, a will's topic with a wildcard.
        (in_3(4, 0x03, &["dev-1"]), None),
        (in_3(4, 0x06, &["dev-1"]), None),
        (in_3(4, 0x42, &["dev-1", "p"]), None),
        (in_3(4, 0x06, &["dev-1", "dev/+/evt", "gone"]), None),
        (in_3(3, 0x02, &["dev-1"]), Some(1)),
        (in_3(4, 0x00, &[""]), Some(2)),
        (in_3(4, 0x02, &["dev-2"]), Some(2)),
        (in_3(4, 0x00, &["dev-2"]), Some(2)),
    ] {
        let mut raw = Raw::open(&server, "dev-1").await;
        raw.send(&bytes).await;
        if let Some(return_code) = return_code {
            let connack = raw.next().await;
            assert_eq!((connack.kind(), &connack.body[..]), (2, &[0, return_code][..]), "{bytes:02X?}");
        }
        raw.until_closed().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn what_follows_a_refused_connect_is_not_handled() {
    let server = Server::start();
    // 0x87 Not authorized; the return code 5 in 3.1.1.
    for (connect, reason) in [(Connect::v5("retired-1"), 0x87), (Connect::v311("retired-1"), 5)] {
        let mut raw = Raw::open(&server, "retired-1").await;
        let mut bytes = connect.bytes();
        let event = if connect.version == 5 { &b"\0late"[..] } else { b"late" };
        bytes.extend(packet(0x32, &[&text("dev/retired-1/evt")[..], &[0, 9], event].concat()));
        raw.send(&bytes).await;
        assert_eq!(raw.next().await.body[1], reason);
        raw.until_closed().await;
    }
    let told = server.owner.told();
    let has_begun = |told: &Told| matches!(told, Told::Connected { .. } | Told::Message { .. });
    assert!(!told.iter().any(has_begun), "[MQTT-3.1.4-6], [3.1.1 MQTT-3.1.4-5] {told:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_connect_that_is_too_large_is_refused_before_it_has_come() {
    let server = Server::start();
    // 3.1.1 has no such return code: 3 is Server unavailable.
    for (version, expected) in [(5, 0x95), (4, 3)] {
        let mut body = text("MQTT");
        body.extend([version, 2, 0, 60]);
        body.resize(20_000, 0);
        let bytes = packet(0x10, &body);
        let mut raw = Raw::open(&server, "dev-1").await;
        raw.send(&bytes[..100]).await;
        assert_eq!(raw.next().await.body[1], expected);
        // Whoever goes on sending is let finish, so that it reads why.
        let _ = raw.try_send(&bytes[100..]).await;
    }
    is_refused_for(&server, "larger").await;
    server.stop().await;
}

#[tokio::test]
async fn a_connect_may_come_in_pieces_and_with_what_follows_it() {
    let server = Server::start();
    let mut raw = Raw::open(&server, "dev-1").await;
    for byte in Connect::v5("dev-1").bytes() {
        raw.send(&[byte]).await;
    }
    assert_eq!(raw.next().await.kind(), 2);
    // A client need not wait for the CONNACK (MQTT 5 §3.1.4).
    let mut raw = Raw::open(&server, "dev-2").await;
    let mut bytes = Connect::v5("dev-2").bytes();
    bytes.extend(raw.publish_bytes("dev/dev-2/evt", 1, 9, b"early"));
    bytes.extend([0xC0, 0]);
    raw.send(&bytes).await;
    assert_eq!([raw.next().await.kind(), raw.next().await.kind(), raw.next().await.kind()], [2, 4, 13]);
    assert_eq!(server.owner.messages(), ["early"]);
    server.stop().await;
}

#[tokio::test]
async fn a_connect_that_does_not_come_and_an_owner_that_does_not_answer_end_it() {
    let listener = Limits { half_open_ms_max: 400, ..Limits::default() };
    let server = Server::start_with(Start { listener, ..Start::default() });
    let mut raw = Raw::open(&server, "dev-1").await;
    raw.until_closed().await;
    server.owner.until("of it", |told| *told == Told::Refused(Refused::Timeout)).await;
    server.stop().await;

    let mqtt = MqttLimits { admit_ms_max: 100, ..MqttLimits::default() };
    let server = Server::start_with(Start { mqtt, admit_ms: 60_000, ..Start::default() });
    let mut raw = Raw::open(&server, "dev-1").await;
    // 0x88 Server unavailable; in 3.1.1 the return code 3.
    assert_eq!(raw.say(&Connect::v5("dev-1")).await.body[1], 0x88);
    let mut raw = Raw::open(&server, "dev-1").await;
    assert_eq!(raw.say(&Connect::v311("dev-1")).await.body[1], 3);
    is_refused_for(&server, "too long").await;
    server.stop().await;
}

#[tokio::test]
async fn who_has_no_name_is_given_one() {
    // [MQTT-3.1.3-6], [3.1.1 MQTT-3.1.3-6].
    for connect in [Connect::v5(""), Connect::v311("")] {
        let server = Server::start_plain(MqttLimits::default());
        let (_raw, _) = Raw::connect(&server, &connect).await;
        server.owner.until("of it", |told| matches!(told, Told::Connected { sn, .. } if sn.is_empty())).await;
        assert!(server.hub.with("assigned-1", |client| client.is_connected()).unwrap());
        server.stop().await;
    }
}

#[tokio::test]
async fn sessions_are_bounded_and_a_known_client_is_let_in_all_the_same() {
    let server = Server::start_plain(MqttLimits { sessions_max: 2, ..MqttLimits::default() });
    let (_one, _) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    let (two, _) = Raw::connect(&server, &Connect::v5("dev-2").kept()).await;
    let mut three = Raw::open(&server, "dev-3").await;
    assert_eq!(three.say(&Connect::v5("dev-3")).await.body[1], 0x97);
    is_refused_for(&server, "too many sessions").await;
    drop(two);
    server.owner.until_ended().await;
    let (_two, is_resumed) = Raw::connect(&server, &Connect::v5("dev-2").kept()).await;
    assert!(is_resumed);
    // Where a session ends, there is room.
    let (mut one, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    one.send(&[0xE0, 0]).await;
    one.until_closed().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (_three, _) = Raw::connect(&server, &Connect::v5("dev-3")).await;
    server.stop().await;
}
