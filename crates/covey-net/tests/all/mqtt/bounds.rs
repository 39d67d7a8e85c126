//! Bytes that nobody would send, and what they cost.

use covey_net::mqtt::MqttLimits;

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
