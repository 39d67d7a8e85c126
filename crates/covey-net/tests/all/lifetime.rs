//! A listener's beginning and end: which port it gets, and what becomes of connections when it stops.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use covey_net::{Limits, NetError, listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::echo::{Echo, PATIENCE, Server};
use crate::pki::Pki;

#[tokio::test]
async fn a_port_has_one_listener_and_is_free_again_at_once() {
    let server = Server::start(None, Limits::default());
    let address = server.address;
    assert!(matches!(listener::bind(address), Err(NetError::Bind { .. })));
    // A connection that the server ends leaves its port in TIME-WAIT (RFC 9293 §3.6).
    let mut client = server.tcp().await;
    client.write_all(b"hi").await.unwrap();
    client.read_exact(&mut [0; 2]).await.unwrap();
    server.stop().await;
    assert_eq!(client.read(&mut [0; 2]).await.unwrap(), 0);
    let again = listener::bind(address).unwrap();
    assert_eq!(again.local_addr().unwrap(), address);
    // The client's end is still there, as after a server that was killed.
    drop(client);
}

#[tokio::test]
async fn an_address_that_is_not_ours_is_refused_by_name() {
    let error = listener::bind(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 1883))).unwrap_err();
    assert!(error.to_string().contains("192.0.2.1:1883"), "{error}");
}

#[tokio::test]
async fn a_listener_that_stops_ends_what_is_half_open_and_what_lives() {
    let pki = Pki::new();
    let server = Server::start(Some(pki.tls()), Limits::default());
    let address = server.address;
    let mut silent = server.tcp().await;
    let mut begun = server.tcp().await;
    begun.write_all(&[22, 3, 1]).await.unwrap();
    let mut live = server.connect(&pki.client_of(&pki.device("dev-1"))).await.unwrap();
    live.write_all(b"hi").await.unwrap();
    live.read_exact(&mut [0; 2]).await.unwrap();
    let end = async { (live.read(&mut [0; 2]).await, silent.read(&mut [0; 2]).await) };
    let (end, ()) = tokio::join!(end, server.stop());
    assert_eq!(end.0.unwrap(), 0, "with close_notify");
    assert!(matches!(end.1, Ok(0) | Err(_)));
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn lives_that_do_not_end_are_cut_after_the_time_for_it() {
    let limits = Limits { shutdown_ms_max: 300, ..Limits::default() };
    let server = Server::start_with(None, limits, Echo { is_stubborn: true, ..Echo::default() });
    let mut live = server.tcp().await;
    live.write_all(b"hi").await.unwrap();
    live.read_exact(&mut [0; 2]).await.unwrap();
    let start = Instant::now();
    timeout(PATIENCE, server.stop()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    assert!(matches!(live.read(&mut [0; 2]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_listener_may_have_an_address_of_ipv6() {
    let listener = listener::bind("[::1]:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    assert!(connected.is_ok() && accepted.unwrap().1.is_ipv6());
}
