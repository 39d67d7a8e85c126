//! Bytes that nobody would send, and what they cost.

use covey_net::mqtt::MqttLimits;
use covey_wire::mqtt::ReasonCode;

use super::owner::Server;
use super::raw::{Connect, Raw, packet};
use crate::panics::{self, mutate, numbers};

#[tokio::test]
async fn no_bytes_end_more_than_their_own_connection() {
    let panics = panics::count();
    let server = Server::start_plain(MqttLimits::default());
    let (mut good, _) = Raw::connect(&server, &Connect::v5("good")).await;
    let mut random = numbers(88_172_645_463_325_252);
    for round in 0..400 {
        let client_id = format!("dev-{round}");
        let connect = if round % 3 == 0 { Connect::v311(&client_id) } else { Connect::v5(&client_id) };
        let mut raw = Raw::open(&server, &client_id).await;
        let mut bytes = connect.bytes();
        bytes.extend(raw.publish_bytes("dev/x/evt", (random() % 3) as u8, 7, b"{}"));
        bytes.extend(packet(0x82, &[0, 1, 0, 0, 1, b'#', 0]));
        bytes.extend([0xC0, 0]);
        mutate(&mut bytes, &mut random);
        let _ = raw.try_send(&bytes).await;
        // Some are read from, some just left.
        if round % 4 == 0 {
            let _ = raw.try_send(&[0xE0, 0]).await;
            drop(tokio::time::timeout(std::time::Duration::from_millis(20), raw.next_or_end()).await);
        }
    }
    good.send(&[0xC0, 0]).await;
    assert_eq!(good.next().await.kind(), 13);
    server.stop().await;
    assert_eq!(panics::count(), panics);
}

#[tokio::test]
async fn small_packets_in_great_number_are_answered_in_few_writes() {
    let server = Server::start();
    let (mut raw, _) = Raw::connect(&server, &Connect::v5("dev-1")).await;
    let mut bytes = Vec::new();
    for _ in 0..20_000 {
        bytes.extend([0xC0, 0]);
    }
    raw.send(&bytes).await;
    for _ in 0..20_000 {
        assert_eq!(raw.next().await.kind(), 13);
    }
    server.stop().await;
}

/// Waits until so much is kept for all clients.
async fn until_held(server: &Server, is_enough: impl Fn(usize) -> bool) {
    let waiting = async {
        while !is_enough(server.hub.held_bytes()) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::echo::PATIENCE, waiting).await.expect("so much is kept");
}

#[tokio::test]
async fn packets_that_are_not_ended_are_bounded_and_those_with_most_of_them_go_first() {
    let mut limits = MqttLimits { held_bytes_max: 300_000, ..MqttLimits::default() };
    limits.session.packet_bytes_max = 256 * 1024;
    let server = Server::start_plain(limits);
    let mut open = Vec::new();
    for number in 1..=2 {
        let (mut raw, _) = Raw::connect(&server, &Connect::v5(&format!("dev-{number}"))).await;
        let packet = raw.publish_bytes("dev/x/evt", 0, 0, &vec![b'x'; 40_000]);
        raw.send(&packet[..30_000]).await;
        until_held(&server, |held| held >= 30_000 * number).await;
        open.push((raw, packet));
    }
    let (mut largest, _) = Raw::connect(&server, &Connect::v5("dev-3")).await;
    let packet = largest.publish_bytes("dev/x/evt", 0, 0, &vec![b'x'; 250_000]);
    // It may be too much before all of it has come.
    let _ = largest.try_send(&packet[..249_000]).await;
    assert_eq!(largest.until_disconnected().await, ReasonCode::QuotaExceeded.code());
    // The others go on, and what is whole is kept no more.
    for (raw, packet) in &mut open {
        raw.send(&packet[30_000..]).await;
        raw.send(&[0xC0, 0]).await;
        assert_eq!(raw.next().await.kind(), 13);
    }
    until_held(&server, |held| held == 0).await;
    server.stop().await;
}
