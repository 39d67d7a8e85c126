//! Sessions that their owner keeps: what a client is told when, and what goes on where the hub knows nothing, or less.

use covey_net::mqtt::{End, MqttLimits};
use covey_wire::mqtt::session::Sent;
use covey_wire::mqtt::{Qos, ReasonCode};

use super::owner::{Kept, Server, Start, Told};
use super::raw::{Connect, Raw, packet, text};

const SN: &str = "dev-1";
const ALL: &str = "srv/dev-1/+";
const PING: &[u8] = &[0xC0, 0];

fn slow() -> Server {
    Server::start_with(Start { keeps_slowly: true, is_plain: true, ..Start::default() })
}

fn subscribe_bytes(filter: &str) -> Vec<u8> {
    packet(0x82, &[&[0, 9, 0][..], &text(filter), &[1]].concat())
}

fn unsubscribe_bytes(filter: &str) -> Vec<u8> {
    packet(0xA2, &[&[0, 8, 0][..], &text(filter)].concat())
}

async fn connect(server: &Server) -> (Raw, bool) {
    Raw::connect(server, &Connect::v5(SN).kept()).await
}

fn sent(server: &Server, token: u64) -> Option<Sent> {
    server.send(SN, token, "tsk", Qos::AtLeastOnce, b"x")
}

#[tokio::test]
async fn a_change_is_answered_when_it_is_kept_and_nothing_is_read_before() {
    let server = slow();
    let (mut raw, _) = connect(&server).await;
    for (change, kind, filters) in
        [(subscribe_bytes(ALL), 9, vec![ALL.to_owned()]), (unsubscribe_bytes(ALL), 11, Vec::new())]
    {
        let before = server.owner.kept(SN);
        raw.send(&[&*change, PING].concat()).await;
        raw.hears_nothing().await;
        assert_eq!(server.owner.kept(SN), before);
        server.owner.let_keep(1);
        assert_eq!((raw.next().await.kind(), raw.next().await.kind()), (kind, 13));
        let kept = server.owner.kept(SN);
        assert_eq!((kept.revision, kept.filters), (before.revision + 1, filters));
        assert!(kept.expiry_s > 0);
        // Once more changes nothing, and nothing is kept of it.
        raw.send(&change).await;
        assert_eq!(raw.next().await.kind(), kind);
        assert_eq!(server.owner.kept(SN).revision, kept.revision);
    }
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_kept_of_a_session_that_ends_with_its_connection() {
    let server = slow();
    for connect in [Connect::v5(SN), Connect::v311(SN)] {
        let (mut raw, _) = Raw::connect(&server, &connect).await;
        assert_eq!(raw.subscribe(ALL).await, 2);
    }
    assert_eq!(server.owner.kept(SN), Kept::default());
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_the_hub_does_not_know_goes_on_as_it_was_kept() {
    let server = Server::start();
    server.owner.keep_elsewhere(SN, 3, &[ALL], 60);
    for connect in [Connect::v5(SN).kept(), Connect::v311(SN).kept()] {
        let (mut raw, is_resumed) = Raw::connect(&server, &connect).await;
        assert!(is_resumed);
        assert_eq!(sent(&server, 1), Some(Sent::Written));
        assert_eq!(raw.next().await.kind(), 3);
        server.hub.forget(SN, ReasonCode::NotAuthorized, "");
    }
    // With a clean start it does not.
    let (_raw, is_resumed) = Raw::connect(&server, &Connect::v5(SN)).await;
    assert!(!is_resumed);
    server.stop().await;
}

#[tokio::test]
async fn what_was_kept_elsewhere_since_holds() {
    let server = Server::start();
    let (mut raw, _) = connect(&server).await;
    raw.subscribe(ALL).await;
    assert_eq!(server.owner.kept(SN).revision, 1);
    server.owner.keep_elsewhere(SN, 2, &["srv/dev-1/rsp"], 60);
    let (_second, is_resumed) = connect(&server).await;
    assert!(is_resumed);
    assert_eq!(sent(&server, 1), Some(Sent::NotSubscribed));
    server.owner.keep_elsewhere(SN, 3, &[], 0);
    let (mut third, is_resumed) = connect(&server).await;
    assert!(!is_resumed);
    third.subscribe(ALL).await;
    assert_eq!(server.owner.kept(SN).revision, 4);
    // What is older than what the hub has is not looked at.
    server.owner.keep_elsewhere(SN, 3, &[], 0);
    assert!(connect(&server).await.1);
    assert_eq!(sent(&server, 1), Some(Sent::Written));
    server.stop().await;
}

#[tokio::test]
async fn a_change_that_cannot_be_kept_ends_the_connection_and_is_kept_the_next_time() {
    let server = slow();
    let (mut raw, _) = connect(&server).await;
    raw.send(&subscribe_bytes(ALL)).await;
    server.owner.fail_to_keep();
    assert_eq!(raw.until_disconnected().await, 0x80);
    assert!(matches!(server.owner.until_ended().await, End::Closed { .. }));
    assert!(!server.owner.told().iter().any(|told| matches!(told, Told::Subscribed { .. })));
    // The same again is not taken for known.
    let (mut raw, _) = connect(&server).await;
    raw.send(&subscribe_bytes(ALL)).await;
    assert_eq!(raw.until_disconnected().await, 0x80);
    server.stop().await;
}

#[tokio::test]
async fn a_change_whose_connection_is_over_goes_on() {
    let server = slow();
    let (mut raw, _) = connect(&server).await;
    raw.send(&subscribe_bytes(ALL)).await;
    raw.hears_nothing().await;
    let (mut second, is_resumed) = connect(&server).await;
    assert!(is_resumed);
    assert_eq!(raw.until_disconnected().await, 0x8E);
    server.owner.let_keep(1);
    while server.owner.kept(SN).revision == 0 {
        tokio::task::yield_now().await;
    }
    // The hub knows the revision: what comes next follows it.
    server.owner.let_keep(1);
    assert_eq!(second.subscribe("srv/dev-1/rsp").await, 2);
    assert_eq!(server.owner.kept(SN).revision, 2);
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_a_disconnect_ends_is_kept_as_ended() {
    let server = Server::start_plain(MqttLimits::default());
    let (mut raw, _) = connect(&server).await;
    raw.subscribe(ALL).await;
    let end_session = [0, 5, 0x11, 0, 0, 0, 0];
    raw.send(&packet(0xE0, &end_session)).await;
    raw.until_closed().await;
    while server.owner.kept(SN).revision < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.owner.kept(SN), Kept { revision: 2, filters: Vec::new(), expiry_s: 0 });
    assert!(!connect(&server).await.1);
    server.stop().await;
}
