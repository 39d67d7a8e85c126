//! Messages of clients: acknowledged in their order, after the owner has spoken, also when the
//! connection is over before that.

use covey_net::mqtt::{End, MqttLimits};
use covey_wire::mqtt::ReasonCode;

use super::owner::{Server, Start, Told};
use super::raw::{Connect, Raw};

fn is_message(told: &Told) -> bool {
    matches!(told, Told::Message { .. })
}

#[tokio::test]
async fn acknowledgements_come_in_the_order_of_the_messages() {
    let server = Server::start();
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    raw.publish("dev/dev-1/slow", 1, 1, "a").await;
    raw.publish("dev/dev-1/soon", 1, 2, "b").await;
    raw.publish("dev/dev-1/evt", 1, 3, "c").await;
    // Stored, and not acknowledged, because the first is not [MQTT-4.6.0-2].
    server.owner.until_times("of both", 2, is_message).await;
    raw.hears_nothing().await;
    server.owner.let_go(1);
    for id in 1..=3 {
        let puback = raw.next().await;
        assert_eq!((puback.kind(), &puback.body[..]), (4, &[0, id][..]));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_message_is_stored_also_when_its_connection_has_ended_before() {
    let server = Server::start();
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    raw.publish("dev/dev-1/slow", 2, 7, "once").await;
    raw.publish("dev/dev-1/slow", 0, 0, "whether or not").await;
    raw.hears_nothing().await;
    drop(raw);
    server.owner.until_ended().await;
    // Back before it is stored: the repetition is the same message [MQTT-4.3.3-10].
    let (mut raw, is_resumed) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    assert!(is_resumed);
    let mut again = raw.publish_bytes("dev/dev-1/slow", 2, 7, b"once");
    again[0] |= 8;
    raw.send(&again).await;
    raw.hears_nothing().await;
    server.owner.let_go(2);
    let pubrec = raw.next().await;
    assert_eq!((pubrec.kind(), &pubrec.body[..2]), (5, &[0, 7][..]));
    raw.send(&[0x62, 2, 0, 7]).await;
    assert_eq!(raw.next().await.kind(), 7);
    server.owner.until_times("of both", 2, is_message).await;
    let mut messages = server.owner.messages();
    messages.sort();
    assert_eq!(messages, ["once", "whether or not"]);
    server.stop().await;
}

#[tokio::test]
async fn what_the_owner_works_on_is_finished_before_the_server_is_gone() {
    let server = Server::start();
    let owner = server.owner.clone();
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    raw.publish("dev/dev-1/slow", 1, 1, "late").await;
    raw.hears_nothing().await;
    server.shut_down();
    assert_eq!(raw.until_disconnected().await, ReasonCode::ServerShuttingDown.code());
    owner.until_ended().await;
    owner.let_go(1);
    server.stop().await;
    assert_eq!(owner.messages(), ["late"]);
}

#[tokio::test]
async fn more_messages_than_the_owner_may_work_on_are_not_read_and_none_is_lost() {
    let server = Server::start_plain(MqttLimits { under_way_max: 3, ..MqttLimits::default() });
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    let mut bytes = Vec::new();
    for number in 0..50 {
        bytes.extend(raw.publish_bytes("dev/dev-1/slow", 0, 0, format!("{number}").as_bytes()));
    }
    bytes.extend([0xC0, 0]);
    raw.send(&bytes).await;
    raw.hears_nothing().await;
    server.owner.let_go(50);
    // The answer to what came last: all before it has been handled.
    assert_eq!(raw.next().await.kind(), 13);
    server.owner.until_times("of all", 50, is_message).await;
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(server.owner.messages(), expected);
    server.stop().await;
}

#[tokio::test]
async fn who_comes_back_again_and_again_leaves_no_more_to_work_on_than_who_stays() {
    let server = Server::start_plain(MqttLimits { under_way_max: 5, ..MqttLimits::default() });
    for round in 0..3 {
        let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
        for number in 0..2 {
            raw.publish("dev/dev-1/slow", 0, 0, &format!("{round} {number}")).await;
        }
        raw.send(&[0xC0, 0]).await;
        if round < 2 {
            assert_eq!(raw.next().await.kind(), 13);
            drop(raw);
            let is_end = |told: &Told| matches!(told, Told::Disconnected { .. });
            server.owner.until_times("of its end", round + 1, is_end).await;
        } else {
            // Four are left by those before, and one more is begun.
            raw.hears_nothing().await;
            server.owner.let_go(6);
            assert_eq!(raw.next().await.kind(), 13);
        }
    }
    server.owner.until_times("of all", 6, is_message).await;
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_must_come_again_ends_the_connection_and_3_1_1_hears_no_puback() {
    let server = Server::start();
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    raw.publish("dev/dev-1/close", 1, 5, "x").await;
    let puback = raw.next().await;
    assert_eq!((puback.kind(), puback.body[2]), (4, 0x80));
    assert_eq!(raw.until_disconnected().await, 0x80);
    let ended = End::Closed { reason: ReasonCode::UnspecifiedError, text: "because".into() };
    assert_eq!(server.owner.until_ended().await, ended);
    let (mut raw, _) = Raw::connect(&server, &Connect::v311("dev-2")).await;
    raw.publish("dev/dev-2/close", 1, 5, "x").await;
    raw.until_closed().await;
    server.stop().await;
}

#[tokio::test]
async fn large_messages_come_whole_and_too_large_ones_end_the_connection() {
    let server = Server::start();
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    let body = "x".repeat(900_000);
    raw.publish("dev/dev-1/evt", 1, 1, &body).await;
    assert_eq!(raw.next().await.kind(), 4);
    assert!(server.owner.messages() == std::slice::from_ref(&body));
    let bytes = raw.publish_bytes("dev/dev-1/evt", 1, 2, body.repeat(2).as_bytes());
    let _ = raw.try_send(&bytes[..100]).await;
    assert_eq!(raw.until_disconnected().await, ReasonCode::PacketTooLarge.code());
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_is_held_is_not_read_and_loses_nothing() {
    for is_plain in [true, false] {
        let start = Start { is_plain, ..Start::default() };
        let server = Server::start_with(start);
        let mut connect = Connect::v5("dev-1");
        connect.keep_alive_s = 1;
        let (mut raw, _) = Raw::connect(&server, &connect).await;
        server.owner.hold_for(2_400);
        let mut bytes = Vec::new();
        for number in 0..200_u16 {
            bytes.extend(raw.publish_bytes("dev/dev-1/evt", 0, 0, number.to_string().as_bytes()));
        }
        bytes.extend([0xC0, 0]);
        let began = tokio::time::Instant::now();
        raw.send(&bytes).await;
        raw.hears_nothing().await;
        assert_eq!(server.owner.messages(), ["0"]);
        // Longer than its Keep Alive: what it has sent was not looked at.
        assert_eq!(raw.next().await.kind(), 13);
        assert!(began.elapsed() >= std::time::Duration::from_millis(2_400));
        let expected: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        assert_eq!(server.owner.messages(), expected);
        server.stop().await;
    }
}
