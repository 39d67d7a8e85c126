//! The end of a connection: how it is told to the client and the owner, and what becomes of a will.

use std::time::{Duration, Instant};

use covey_net::mqtt::{End, MqttLimits};
use covey_wire::mqtt::ReasonCode;

use super::owner::{Server, Told};
use super::raw::{Connect, Raw};

fn will(body: &str) -> Told {
    Told::Will { topic: "dev/dev-1/evt".to_owned(), body: body.to_owned() }
}

fn has_will(server: &Server) -> bool {
    server.owner.told().iter().any(|told| matches!(told, Told::Will { .. }))
}

#[tokio::test]
async fn a_disconnect_ends_the_connection_whether_the_client_closes_it_or_not() {
    for connect in [Connect::v5("dev-1"), Connect::v311("dev-1")] {
        let server = Server::start();
        let connect = Connect { will: Some(("dev/dev-1/evt", "gone", 0)), ..connect };
        let (mut raw, _) = Raw::connect(&server, &connect).await;
        // With an event behind it, which nobody may hear [MQTT-3.14.4-1].
        let mut bytes = vec![0xE0, 0];
        bytes.extend(raw.publish_bytes("dev/dev-1/evt", 0, 0, b"after"));
        raw.send(&bytes).await;
        raw.until_closed().await;
        assert_eq!(server.owner.until_ended().await, End::ByClient(ReasonCode::Success));
        assert!(server.owner.messages().is_empty());
        assert!(!has_will(&server), "[MQTT-3.14.4-3], [3.1.1 MQTT-3.14.4-3]");
        assert_eq!((server.hub.connected(), server.hub.sessions()), (0, 0));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_will_is_told_when_the_connection_is_lost_or_the_client_asks_for_it() {
    let server = Server::start();
    let connect = || Connect { will: Some(("dev/dev-1/evt", "gone", 0)), ..Connect::v5("dev-1") };
    let (raw, _) = Raw::connect(&server, &connect()).await;
    drop(raw);
    server.owner.until("the will", |told| *told == will("gone")).await;
    assert!(matches!(server.owner.until_ended().await, End::Lost(_)));
    let (mut raw, _) = Raw::connect(&server, &connect()).await;
    // DISCONNECT with Will Message.
    raw.send(&[0xE0, 1, 4]).await;
    server.owner.until_times("the will", 2, |told| *told == will("gone")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_will_waits_for_its_delay_and_is_forgotten_if_the_client_is_back_before() {
    let server = Server::start();
    let connect = || Connect { will: Some(("dev/dev-1/evt", "gone", 2)), ..Connect::v5("dev-1").kept() };
    let (raw, _) = Raw::connect(&server, &connect()).await;
    drop(raw);
    server.owner.until_ended().await;
    let (raw, _) = Raw::connect(&server, &connect()).await;
    tokio::time::sleep(Duration::from_millis(3_200)).await;
    assert!(!has_will(&server), "[MQTT-3.1.3-9]");
    let start = Instant::now();
    drop(raw);
    server.owner.until("the will", |told| *told == will("gone")).await;
    assert!(start.elapsed() >= Duration::from_millis(1_900), "{:?}", start.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_is_silent_for_one_and_a_half_times_its_keep_alive_is_closed() {
    let server = Server::start();
    let (mut raw, _) = Raw::connect(&server, &Connect { keep_alive_s: 2, ..Connect::v5("dev-1") }).await;
    let (mut old, _) = Raw::connect(&server, &Connect { keep_alive_s: 2, ..Connect::v311("dev-2") }).await;
    // A sign of life puts it off.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        for client in [&mut raw, &mut old] {
            client.send(&[0xC0, 0]).await;
            assert_eq!(client.next().await.kind(), 13);
        }
    }
    let start = Instant::now();
    assert_eq!(raw.until_disconnected().await, 0x8D);
    old.until_closed().await;
    assert!(start.elapsed() >= Duration::from_millis(2_900), "{:?}", start.elapsed());
    let is_it = |told: &Told| matches!(told, Told::Disconnected { end: End::KeepAlive, .. });
    server.owner.until_times("of both", 2, is_it).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_whose_messages_are_not_read_is_not_taken_for_dead() {
    let mqtt = MqttLimits { under_way_max: 1, ..MqttLimits::default() };
    let server = Server::start_plain(mqtt);
    let (mut raw, _) = Raw::connect(&server, &Connect { keep_alive_s: 1, ..Connect::v5("dev-1") }).await;
    raw.publish("dev/dev-1/slow", 1, 1, "x").await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        raw.send(&[0xC0, 0]).await;
    }
    server.owner.let_go(1);
    assert_eq!(raw.next().await.kind(), 4);
    for _ in 0..8 {
        assert_eq!(raw.next().await.kind(), 13);
    }
    server.stop().await;
}

#[tokio::test]
async fn who_breaks_the_rules_is_told_which_and_loses_the_connection() {
    let server = Server::start();
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    // A second CONNECT [MQTT-3.1.0-2].
    raw.send(&Connect::v5("dev-1").bytes()).await;
    assert_eq!(raw.until_disconnected().await, 0x82);
    match server.owner.until_ended().await {
        End::Violation(violation) => assert_eq!(violation.reason, ReasonCode::ProtocolError),
        other => panic!("{other:?}"),
    }
    let (mut raw, _) = Raw::connect(&server, &Connect::v311("dev-2")).await;
    // A topic with a wildcard; 3.1.1 has no DISCONNECT from the server.
    raw.publish("dev/+/evt", 1, 1, "x").await;
    raw.until_closed().await;
    server.stop().await;
}

#[tokio::test]
async fn the_owner_closes_a_connection_and_forgets_a_session() {
    let server = Server::start();
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    server.hub.close("dev-1", ReasonCode::AdministrativeAction, "for a test");
    assert_eq!(raw.until_disconnected().await, ReasonCode::AdministrativeAction.code());
    assert_eq!(server.hub.sessions(), 1);
    let (mut raw, is_resumed) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    assert!(is_resumed);
    server.hub.forget("dev-1", ReasonCode::NotAuthorized, "retired");
    assert_eq!(raw.until_disconnected().await, 0x87);
    assert_eq!(server.hub.sessions(), 0);
    let (_raw, is_resumed) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    assert!(!is_resumed);
    server.stop().await;
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over() {
    let server = Server::start();
    let connect = || Connect { expiry_s: 1, ..Connect::v5("dev-1").kept() };
    let (raw, _) = Raw::connect(&server, &connect()).await;
    drop(raw);
    server.owner.until_ended().await;
    assert_eq!(server.hub.sessions(), 1);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(server.hub.sessions(), 0, "the sweep ends it");
    let (_raw, is_resumed) = Raw::connect(&server, &connect()).await;
    assert!(!is_resumed);
    server.stop().await;
}

#[tokio::test]
async fn all_are_told_when_the_server_shuts_down() {
    let server = Server::start();
    let mut all = Vec::new();
    for number in 0..10 {
        all.push(Raw::connect(&server, &Connect::v5(&format!("dev-{number}"))).await.0);
    }
    let connect = Connect { will: Some(("dev/dev-1/evt", "gone", 0)), ..Connect::v311("dev-old") };
    let (mut old, _) = Raw::connect(&server, &connect).await;
    assert_eq!(server.hub.connected(), 11);
    let owner = server.owner.clone();
    let stopping = tokio::spawn(server.stop());
    for raw in &mut all {
        assert_eq!(raw.until_disconnected().await, 0x8B);
    }
    old.until_closed().await;
    drop((all, old));
    stopping.await.unwrap();
    let ended = owner
        .told()
        .into_iter()
        .filter(|told| matches!(told, Told::Disconnected { end: End::ShuttingDown, .. }));
    assert_eq!(ended.count(), 11);
    // Not one of them has said that it is well [MQTT-3.1.2-8].
    assert!(owner.told().contains(&will("gone")));
}
