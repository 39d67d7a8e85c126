//! Two gateways over the loopback of this host.

use std::net::SocketAddr;
use std::time::Duration;

use covey_gateway::coap::exchange::{Failure, Request};
use covey_gateway::coap::link_format::resources;
use covey_gateway::coap::message::Code;
use covey_gateway::coap::socket::{CoapSocket, SocketError};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::bed::Bed;
use super::network::body;

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

#[tokio::test]
async fn a_gateway_asks_another_in_both_versions_of_ip() {
    let (one, other) = (Bed::start("[::]:0"), Bed::start("[::]:0"));
    for ip in ["::1", "127.0.0.1"] {
        let to = at(ip, other.port());
        let core = one.ask(to, Request::get(".well-known/core")).await.unwrap();
        let paths: Vec<_> = resources(&core.payload).into_iter().map(|resource| resource.path).collect();
        assert_eq!(
            (core.content_format, &paths[..]),
            (Some(40), &["alive", "server", "large"].map(str::to_owned)[..])
        );
        assert_eq!(one.ask(to, Request::get("large")).await.unwrap().payload, body(20_480));
        let put = one.ask(to, Request::put("store", body(20_480))).await.unwrap();
        assert_eq!(put.code, Code::CHANGED);
        assert_eq!(one.ask(to, Request::get("store")).await.unwrap().payload, body(20_480));
        assert_eq!(one.ask(to, Request::get("slow")).await.unwrap().payload, b"slow");
        assert_eq!(one.ask(to, Request::get("nothing")).await.unwrap().code, Code::NOT_FOUND);
        assert!(one.ping(to).await);
    }
    let from: Vec<_> = other.asked.lock().unwrap().iter().map(|(from, ..)| from.to_string()).collect();
    assert!(from.contains(&"::1".to_owned()) && from.contains(&"::ffff:127.0.0.1".to_owned()), "{from:?}");
}

#[tokio::test]
async fn a_socket_of_ipv4_alone_reaches_ipv4_alone() {
    let (one, other) = (Bed::start("127.0.0.1:0"), Bed::start("[::]:0"));
    let answer = one.ask(at("127.0.0.1", other.port()), Request::get("slow")).await.unwrap();
    assert_eq!(answer.payload, b"slow");
    let request = Request { patience_ms: 300, ..Request::get("slow") };
    assert_eq!(one.ask(at("::1", other.port()), request).await, Err(Failure::TimedOut));
    assert_eq!(one.count(|counts| &counts.not_sent), 1);
}

#[tokio::test]
async fn an_answer_comes_from_the_address_that_was_asked() {
    let bed = Bed::start("[::]:0");
    // All of 127.0.0.0/8 is this host. Linux would answer from 127.0.0.1.
    if !cfg!(target_os = "linux") {
        return;
    }
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(at("127.0.0.9", bed.port())).await.unwrap();
    client.send(b"\x40\x02\x00\x01\xb5alive").await.unwrap();
    let mut answer = [0; 100];
    let read = timeout(Duration::from_secs(5), client.recv(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer[..read], b"\x60\x44\x00\x01");
    // A ping too.
    client.send(b"\x40\x00\x00\x02").await.unwrap();
    let read = timeout(Duration::from_secs(5), client.recv(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer[..read], b"\x70\x00\x00\x02");
}

#[tokio::test]
async fn a_burst_is_read_and_bad_datagrams_are_counted() {
    let bed = Bed::start("127.0.0.1:0");
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(bed.address).await.unwrap();
    for id in 0..500_u16 {
        let [high, low] = id.to_be_bytes();
        client.send(&[b"\x50\x02", &[high, low][..], b"\xb5alive\xffalive:1"].concat()).await.unwrap();
        // As much at a time as the system keeps.
        if id % 100 == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    for bad in [&b""[..], b"rubbish", b"\x40\x01\x00\x01\xff", &[0x40; 5_000]] {
        client.send(bad).await.unwrap();
    }
    for _ in 0..200 {
        if bed.count(|counts| &counts.received) == 504 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bed.asked_paths().len(), 500);
    assert_eq!(bed.count(|counts| &counts.malformed), 4);
    assert_eq!(bed.count(|counts| &counts.sent), 501);
    assert!(bed.count(|counts| &counts.held_bytes) > 0 && bed.count(|counts| &counts.peers) == 1);
}

#[tokio::test]
async fn nobody_there_is_no_end_of_the_socket() {
    let bed = Bed::start("127.0.0.1:0");
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let request = Request { patience_ms: 200, ..Request::get("a") };
    assert_eq!(bed.ask(nobody, request).await, Err(Failure::TimedOut));
    let other = Bed::start("127.0.0.1:0");
    assert!(bed.ask(other.address, Request::get("store")).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_bound_is_told() {
    let bed = Bed::start("[::]:0");
    let taken = CoapSocket::bind(bed.address, None);
    assert!(matches!(taken, Err(SocketError::Bind { .. })), "{taken:?}");
    let interface = CoapSocket::bind("[::]:0".parse().unwrap(), Some("no-such-0"));
    assert!(matches!(interface, Err(SocketError::NoInterface(_))), "{interface:?}");
    let loopback = if cfg!(target_os = "linux") { "lo" } else { "lo0" };
    CoapSocket::bind("[::]:0".parse().unwrap(), Some(loopback)).unwrap();
}
