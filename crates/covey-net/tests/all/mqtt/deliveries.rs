//! Messages to clients: who hears them, what waits, and who does not read.

use std::time::Duration;

use covey_net::mqtt::{End, MqttLimits};
use covey_wire::mqtt::session::{Outcome, Sent};
use covey_wire::mqtt::{Qos, ReasonCode};

use super::owner::{Server, Told};
use super::raw::{Connect, Raw, packet, text};

#[tokio::test]
async fn only_who_has_subscribed_hears_it() {
    let server = Server::start();
    assert_eq!(server.send("dev-1", 1, "tsk", Qos::AtLeastOnce, b"x"), None);
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    assert_eq!(server.send("dev-1", 1, "tsk", Qos::AtLeastOnce, b"x"), Some(Sent::NotSubscribed));
    assert_eq!(raw.subscribe("srv/other/tsk").await, 0x87);
    assert_eq!(raw.subscribe("srv/dev-1/tsk").await, 2);
    assert_eq!(raw.subscribe("srv/dev-1/tsk").await, 2);
    let told: Vec<Told> = server.owner.told().split_off(1);
    let filter = || "srv/dev-1/tsk".to_owned();
    let subscribed = |is_new| Told::Subscribed { filter: filter(), is_new };
    assert_eq!(told, [subscribed(true), subscribed(false)]);
    assert_eq!(server.send("dev-1", 1, "tsk", Qos::AtLeastOnce, b"x"), Some(Sent::Written));
    assert_eq!(raw.next().await.publish(5).2, b"x");
    let mut unsubscribe = vec![0, 9, 0];
    unsubscribe.extend(text("srv/dev-1/tsk"));
    raw.send(&packet(0xA2, &unsubscribe)).await;
    assert_eq!(raw.next().await.kind(), 11);
    server.owner.until("of it", |told| *told == Told::Unsubscribed { filter: filter() }).await;
    raw.send(&packet(0xA2, &unsubscribe)).await;
    // 0x11 No subscription existed, and nobody is told.
    assert_eq!(raw.next().await.body[3], 0x11);
    let told = server.owner.told().into_iter().filter(|told| matches!(told, Told::Unsubscribed { .. }));
    assert_eq!(told.count(), 1);
    assert_eq!(server.send("dev-1", 1, "tsk", Qos::AtLeastOnce, b"x"), Some(Sent::NotSubscribed));
    server.stop().await;
}

#[tokio::test]
async fn of_more_filters_than_a_session_may_have_the_rest_is_refused_without_asking() {
    let server = Server::start();
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    let mut subscribe = vec![0, 9, 0];
    for number in 0..500 {
        subscribe.extend(text(&format!("srv/dev-1/{number}")));
        subscribe.push(1);
    }
    raw.send(&packet(0x82, &subscribe)).await;
    let suback = raw.next().await;
    let reasons = &suback.body[3..];
    let granted = reasons.iter().filter(|reason| **reason == 1).count();
    let refused = reasons.iter().filter(|reason| **reason == 0x97).count();
    let most = MqttLimits::default().session.subscriptions_max;
    assert_eq!((granted, refused), (most, 500 - most));
    let told = server.owner.told().into_iter().filter(|told| matches!(told, Told::Subscribed { .. }));
    assert_eq!(told.count(), most);
    server.stop().await;
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_in_order_before_what_is_new() {
    let server = Server::start();
    for version in [5, 4] {
        let sn = format!("dev-{version}");
        let connect = || Connect { version, ..Connect::v5(&sn).kept() };
        let (mut raw, _) = Raw::connect(&server, &connect()).await;
        raw.subscribe(&format!("srv/{sn}/+")).await;
        for token in 0..4 {
            server.send(&sn, token, "tsk", Qos::AtLeastOnce, &[b'0' + token as u8]).unwrap();
        }
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(raw.next().await.publish(version).1);
        }
        // The second is acknowledged, the others are not.
        raw.acknowledge(ids[1]).await;
        let settled = Told::Settled(Outcome::Delivered { token: 1, reason: ReasonCode::Success });
        server.owner.until_times("of it", if version == 5 { 1 } else { 2 }, |told| *told == settled).await;
        drop(raw);
        server
            .owner
            .until("of its end", |told| matches!(told, Told::Disconnected { sn: ended, .. } if *ended == sn))
            .await;
        server.send(&sn, 4, "tsk", Qos::AtLeastOnce, b"4").unwrap();
        let (mut raw, is_resumed) = Raw::connect(&server, &connect()).await;
        assert!(is_resumed);
        let mut again = Vec::new();
        for _ in 0..4 {
            let packet = raw.next().await;
            let (_, id, body) = packet.publish(version);
            again.push((packet.is_repeated(), id, body[0]));
        }
        let first: Vec<_> = again[..3].iter().map(|(is_repeated, id, _)| (*is_repeated, *id)).collect();
        assert_eq!(first, [(true, ids[0]), (true, ids[2]), (true, ids[3])]);
        assert_eq!(again.iter().map(|message| message.2).collect::<Vec<_>>(), *b"0234");
        assert!(!again[3].0, "it is new");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_message_too_large_for_a_client_is_told_of_and_the_connection_stays() {
    let server = Server::start();
    let mut connect = Connect::v5("dev-1");
    connect.properties = vec![0x27, 0, 0, 0, 100];
    let (mut raw, _) = Raw::connect(&server, &connect).await;
    raw.subscribe("srv/dev-1/+").await;
    assert_eq!(server.send("dev-1", 8, "tsk", Qos::AtLeastOnce, &[b'x'; 200]), Some(Sent::TooLarge));
    assert_eq!(server.send("dev-1", 9, "tsk", Qos::AtLeastOnce, b"small"), Some(Sent::Written));
    assert_eq!(raw.next().await.publish(5).2, b"small");
    server.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_client_that_does_not_read_is_bounded_in_bytes_and_time() {
    let mqtt = MqttLimits { unread_bytes_max: 100_000, unread_ms_max: 1_500, ..MqttLimits::default() };
    let server = Server::start_plain(mqtt);
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    raw.subscribe("srv/dev-1/+").await;
    let body = vec![b'x'; 20_000];
    // More than the buffers of the sockets hold.
    let mut written = 0;
    let filling = async {
        loop {
            match server.send("dev-1", 1, "tsk", Qos::AtMostOnce, &body).unwrap() {
                Sent::Written => written += body.len(),
                Sent::Full => break,
                other => panic!("{other:?}"),
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::echo::PATIENCE, filling).await.expect("it takes all of it");
    assert!(written < 50_000_000, "{written}");
    assert_eq!(server.owner.until_ended().await, End::NotReading);
    assert_eq!(server.hub.connected(), 0);
    // The session is not to blame.
    drop(raw);
    let (_raw, is_resumed) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    assert!(is_resumed);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_all_of_it() {
    let server = Server::start();
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    raw.subscribe("srv/dev-1/+").await;
    let (mut sent, mut bodies) = (0_u64, 0);
    let body = vec![b'x'; 20_000];
    while sent < 800 {
        match server.send("dev-1", sent, "tsk", Qos::AtMostOnce, &body).unwrap() {
            Sent::Written => sent += 1,
            // It reads one, and is slow.
            Sent::Full => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_eq!(raw.next().await.publish(5).2, body);
                bodies += 1;
            }
            other => panic!("{other:?}"),
        }
        tokio::task::yield_now().await;
    }
    assert!(bodies > 0, "it was never full");
    while bodies < sent {
        assert_eq!(raw.next().await.publish(5).2, body);
        bodies += 1;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_without_resources_gets_what_its_window_allows() {
    let server = Server::start();
    let mut connect = Connect::v5("dev-1");
    // Receive Maximum 2.
    connect.properties = vec![0x21, 0, 2];
    let (mut raw, _) = Raw::connect(&server, &connect).await;
    raw.subscribe("srv/dev-1/+").await;
    for token in 0..5 {
        server.send("dev-1", token, "tsk", Qos::AtLeastOnce, &[b'0' + token as u8]).unwrap();
    }
    for token in 0..5 {
        let (_, id, body) = raw.next().await.publish(5);
        assert_eq!(body, [b'0' + token]);
        if token == 1 {
            raw.hears_nothing().await;
            raw.acknowledge(id - 1).await;
        }
        if token >= 1 {
            raw.acknowledge(id).await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_kept_for_all_is_bounded_and_those_for_whom_most_is_kept_go_first() {
    let mqtt = MqttLimits { held_bytes_max: 400_000, ..MqttLimits::default() };
    let server = Server::start_plain(mqtt);
    let body = vec![b'x'; 50_000];
    for sn in ["small", "large", "middle"] {
        let (mut raw, _) = Raw::connect(&server, &Connect::v5(sn).kept()).await;
        raw.subscribe(&format!("srv/{sn}/+")).await;
    }
    server.owner.until_times("of their ends", 3, |told| matches!(told, Told::Disconnected { .. })).await;
    let send = |sn: &str, count: u64| {
        (0..count).map(|token| server.send(sn, token, "tsk", Qos::AtLeastOnce, &body)).collect::<Vec<_>>()
    };
    send("small", 1);
    send("middle", 2);
    let before = server.hub.held_bytes();
    assert!((150_000..151_000).contains(&before), "{before}");
    assert_eq!(send("large", 5)[4], Some(Sent::Waiting));
    // There was no room for the last one.
    assert_eq!(send("large", 1), [None]);
    assert_eq!((server.hub.sessions(), server.hub.held_bytes()), (2, before));
    // One that is connected and acknowledges nothing is told.
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("greedy").kept()).await;
    raw.subscribe("srv/greedy/+").await;
    send("greedy", 6);
    assert_eq!(raw.until_disconnected().await, ReasonCode::QuotaExceeded.code());
    let (mut raw, is_resumed) = Raw::connect(&server, &Connect::v5("greedy").kept()).await;
    assert!(is_resumed, "its subscriptions are with the owner, and no message is kept for it");
    assert_eq!(server.hub.held_bytes(), before);
    // What is acknowledged counts no more.
    raw.subscribe("srv/greedy/+").await;
    send("greedy", 2);
    for _ in 0..2 {
        let id = raw.next().await.publish(5).1;
        raw.acknowledge(id).await;
    }
    let none_is_left = async {
        while server.hub.held_bytes() != before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::echo::PATIENCE, none_is_left).await.expect("what it has is not kept");
    server.hub.forget("middle", ReasonCode::NotAuthorized, "");
    server.hub.forget("small", ReasonCode::NotAuthorized, "");
    assert_eq!(server.hub.held_bytes(), 0);
    server.stop().await;
}

#[tokio::test]
async fn less_is_kept_for_a_client_that_is_away() {
    let server = Server::start_plain(MqttLimits::default());
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1").kept()).await;
    raw.subscribe("srv/dev-1/+").await;
    drop(raw);
    server.owner.until_ended().await;
    let body = vec![b'x'; 100_000];
    let sent: Vec<_> =
        (0..12).map(|token| server.send("dev-1", token, "tsk", Qos::AtLeastOnce, &body).unwrap()).collect();
    assert_eq!(sent.iter().position(|sent| *sent == Sent::Full), Some(10), "{sent:?}");
    server.stop().await;
}
