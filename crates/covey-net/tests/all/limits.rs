//! What a listener bears, and what it answers when that is reached.

use std::time::{Duration, Instant};

use covey_net::{Limits, Refused, SILENT_MS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::echo::{PATIENCE, Server};
use crate::pki::Pki;

/// Whether the server closes a connection, and does so soon.
async fn is_closed(tcp: &mut TcpStream) -> bool {
    matches!(timeout(PATIENCE, tcp.read(&mut [0; 8])).await.unwrap(), Ok(0) | Err(_))
}

/// Whether the server sends back what is sent to it.
async fn is_served(tcp: &mut TcpStream) -> bool {
    let mut back = [0; 2];
    tcp.write_all(b"hi").await.is_ok() && timeout(PATIENCE, tcp.read_exact(&mut back)).await.unwrap().is_ok()
}

#[tokio::test]
async fn what_is_half_open_too_long_is_closed_and_told() {
    let pki = Pki::new();
    let limits = Limits { half_open_ms_max: 300, ..Limits::default() };
    for tls in [None, Some(pki.tls())] {
        let server = Server::start(tls, limits.clone());
        // With the first byte of a handshake, and without any.
        let (mut begun, mut silent) = (server.tcp().await, server.tcp().await);
        if server.echo.certificates.lock().unwrap().is_empty() {
            begun.write_all(&[22]).await.unwrap();
        }
        let start = Instant::now();
        assert!(is_closed(&mut silent).await);
        assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
        server.until_refused(|why| *why == Refused::Timeout).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn who_says_nothing_keeps_nobody_out() {
    let pki = Pki::new();
    let limits = Limits { half_open_max: 8, half_open_ms_max: 60_000, ..Limits::default() };
    let server = Server::start(Some(pki.tls()), limits);
    let config = pki.client_of(&pki.device("dev-1"));
    let mut held = Vec::new();
    for begin in [[].as_slice(), &[22, 3, 1]] {
        // More than there may be, all from one address; half of them with the beginning of a handshake.
        for _ in 0..20 {
            let mut tcp = server.tcp().await;
            let _ = tcp.write_all(begin).await;
            held.push(tcp);
        }
        tokio::time::sleep(Duration::from_millis(2 * SILENT_MS)).await;
        for _ in 0..20 {
            let mut client = timeout(PATIENCE, server.connect(&config)).await.unwrap().unwrap();
            client.write_all(b"hi").await.unwrap();
            client.read_exact(&mut [0; 2]).await.unwrap();
        }
    }
    server.until_refused(|why| *why == Refused::Displaced).await;
    server.stop().await;
}

#[tokio::test]
async fn those_that_live_take_no_place_of_the_half_open() {
    let limits = Limits { half_open_max: 3, half_open_per_address_max: 3, ..Limits::default() };
    let server = Server::start(None, limits);
    let mut live = Vec::new();
    for _ in 0..10 {
        let mut tcp = server.tcp().await;
        assert!(is_served(&mut tcp).await);
        live.push(tcp);
    }
    server.stop().await;
}

#[tokio::test]
async fn more_half_open_connections_of_one_address_are_closed_at_once() {
    let limits = Limits { half_open_per_address_max: 5, ..Limits::default() };
    let server = Server::start(None, limits);
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(server.tcp().await);
    }
    for _ in 0..20 {
        assert!(is_closed(&mut server.tcp().await).await);
    }
    server.until_refused(|why| *why == Refused::Address).await;
    drop(silent.pop());
    // The place is free as soon as the server has seen that.
    let again = async { while !is_served(&mut server.tcp().await).await {} };
    timeout(PATIENCE, again).await.unwrap();
    let echo = std::sync::Arc::clone(&server.echo);
    server.stop().await;
    let told = echo.refused.lock().unwrap();
    let all: u64 = told.iter().filter(|one| one.why == Refused::Address).map(|one| one.count).sum();
    assert!(all >= 20, "{all}");
    assert!(told.len() < 20, "{}: few are told one by one", told.len());
}

#[tokio::test]
async fn more_connections_than_there_may_be_are_closed_at_once() {
    let limits = Limits { connections_max: 4, ..Limits::default() };
    let server = Server::start(None, limits);
    let mut live = Vec::new();
    for _ in 0..4 {
        let mut tcp = server.tcp().await;
        assert!(is_served(&mut tcp).await);
        live.push(tcp);
    }
    assert!(is_closed(&mut server.tcp().await).await);
    server.until_refused(|why| *why == Refused::Connections).await;
    drop(live.pop());
    let again = async { while !is_served(&mut server.tcp().await).await {} };
    timeout(PATIENCE, again).await.unwrap();
    for tcp in &mut live {
        assert!(is_served(tcp).await, "those that live are not touched");
    }
    server.stop().await;
}

#[tokio::test]
async fn who_leaves_without_a_byte_is_not_told_of() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    for _ in 0..5 {
        drop(server.tcp().await);
    }
    let mut begun = server.tcp().await;
    begun.write_all(&[22, 3, 1]).await.unwrap();
    begun.shutdown().await.unwrap();
    server.until_refused(|why| matches!(why, Refused::Left(_))).await;
    assert_eq!(server.echo.refused.lock().unwrap().len(), 1);
    server.stop().await;
}
