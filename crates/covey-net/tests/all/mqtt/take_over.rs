//! Several connections of one client: the later wins at once, and no state is lost.

use std::time::Duration;

use covey_net::mqtt::{End, MqttLimits};
use covey_wire::mqtt::Qos;

use super::owner::{Server, Start, Told};
use super::raw::{Connect, Raw};

#[tokio::test]
async fn the_later_connection_of_3_wins_at_once_and_the_earlier_is_closed() {
    let server = Server::start();
    let (mut first, _) = Raw::connect(&server, &Connect::v311("dev-1").kept()).await;
    first.subscribe("srv/dev-1/+").await;
    let (mut second, is_resumed) = Raw::connect(&server, &Connect::v311("dev-1").kept()).await;
    assert!(is_resumed);
    // A 3.1.1 server has no word for it [3.1.1 MQTT-3.1.4-2].
    first.until_closed().await;
    assert_eq!(server.owner.until_ended().await, End::TakenOver);
    server.send("dev-1", 2, "tsk", Qos::AtLeastOnce, b"y").unwrap();
    assert_eq!(second.next().await.publish(4).2, b"y");
    server.stop().await;
}

#[tokio::test]
async fn the_later_connection_wins_at_once_and_the_earlier_is_told() {
    let server = Server::start();
    let (mut first, _) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    first.subscribe("srv/dev-1/+").await;
    server.send("dev-1", 1, "tsk", Qos::AtLeastOnce, b"x").unwrap();
    let (_, id, _) = first.next().await.publish(5);
    let (mut second, is_resumed) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    assert!(is_resumed);
    let again = second.next().await;
    assert_eq!((again.is_repeated(), again.publish(5).1), (true, id));
    assert_eq!(first.until_disconnected().await, 0x8E);
    assert_eq!(server.owner.until_ended().await, End::TakenOver);
    assert_eq!(server.hub.connected(), 1);
    // The earlier one takes nothing with it.
    second.acknowledge(id).await;
    server.send("dev-1", 2, "tsk", Qos::AtLeastOnce, b"y").unwrap();
    assert_eq!(second.next().await.publish(5).2, b"y");
    server.stop().await;
}

#[tokio::test]
async fn of_many_connections_at_once_one_lives_and_the_others_are_told() {
    let server = Server::start_plain(MqttLimits::default());
    for _ in 0..10 {
        let mut all = Vec::new();
        for _ in 0..8 {
            let mut raw = Raw::open(&server, "dev-1").await;
            raw.send(&Connect::v5("dev-1").kept().bytes()).await;
            all.push(raw);
        }
        let ends = all.into_iter().map(|mut raw| async move {
            let connack = raw.next().await;
            assert_eq!((connack.kind(), connack.body[1]), (2, 0), "nobody is turned away");
            tokio::time::sleep(Duration::from_millis(100)).await;
            let alive = raw.try_send(&[0xC0, 0]).await.is_ok();
            let said = raw.next_or_end().await.filter(|_| alive);
            (raw, said.map(|packet| packet.kind()))
        });
        let mut living = 0;
        let mut held = Vec::new();
        for end in ends.collect::<Vec<_>>() {
            held.push(tokio::spawn(end));
        }
        let mut open = Vec::new();
        for end in held {
            let (raw, kind) = end.await.unwrap();
            living += usize::from(kind == Some(13));
            open.push(raw);
        }
        assert_eq!((living, server.hub.connected()), (1, 1));
    }
    server.stop().await;
}

#[tokio::test]
async fn endpoints_have_their_clients_in_common_and_end_together() {
    let server = Server::start_with(Start { has_plain_beside: true, ..Start::default() });
    let (mut first, _) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    first.subscribe("srv/dev-1/+").await;
    let mut second = Raw::open_plain(server.plain_beside.unwrap()).await;
    let connack = second.say(&Connect::v5("dev-1").kept()).await;
    assert_eq!(connack.body[..2], [1, 0], "the session goes on");
    assert_eq!(first.until_disconnected().await, 0x8E);
    server.send("dev-1", 1, "tsk", Qos::AtLeastOnce, b"x").unwrap();
    assert_eq!(second.next().await.publish(5).2, b"x");
    let (mut other, _) = Raw::connect(&server, &Connect::v5("dev-2")).await;
    let stopping = tokio::spawn(server.stop());
    assert_eq!((second.until_disconnected().await, other.until_disconnected().await), (0x8B, 0x8B));
    drop((second, other));
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_session_that_ends_with_its_connection_is_not_handed_on() {
    let server = Server::start();
    let (mut first, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    first.subscribe("srv/dev-1/+").await;
    // Session Expiry Interval 0: over with the connection [MQTT-3.1.2-23], also at a take-over.
    let (_second, is_resumed) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    assert!(!is_resumed);
    assert_eq!(first.until_disconnected().await, 0x8E);
    server.stop().await;
}

#[tokio::test]
async fn somebody_else_with_the_same_name_gets_nothing_of_the_earlier_session() {
    let server = Server::start();
    let (mut first, _) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    first.subscribe("srv/dev-1/+").await;
    server.send("dev-1", 1, "tsk", Qos::AtLeastOnce, b"secret").unwrap();
    first.next().await;
    server.owner.register_anew("dev-1");
    let (mut second, is_resumed) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    assert!(!is_resumed);
    assert_eq!(first.until_disconnected().await, 0x8E);
    second.hears_nothing().await;
    assert_eq!((server.hub.connected(), server.hub.sessions()), (1, 1));
    server.stop().await;
}

#[tokio::test]
async fn every_beginning_has_its_end_and_ends_are_told_once() {
    let server = Server::start_plain(MqttLimits::default());
    for _ in 0..5 {
        let (raw, _) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
        let (_again, _) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
        drop(raw);
    }
    let owner = server.owner.clone();
    server.stop().await;
    let (mut begun, mut ended) = (Vec::new(), Vec::new());
    for told in owner.told() {
        match told {
            Told::Connected { connection, .. } => begun.push(connection),
            Told::Disconnected { connection, .. } => ended.push(connection),
            _ => {}
        }
    }
    ended.sort();
    assert_eq!(begun.len(), 10);
    assert_eq!(begun, ended);
}
