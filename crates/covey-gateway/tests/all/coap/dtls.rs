//! Sessions over DTLS, without a network: what is kept of whom, and what becomes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_gateway::coap::dtls::sessions::{
    DATAGRAM_BYTES_MAX, HANDSHAKE_MS_MAX, HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX, IDLE_MS_MAX,
    SESSIONS_PER_ADDRESS_MAX,
};
use covey_gateway::coap::dtls::{Dropped, Event, Keys, Output, Sessions};
use proptest::prelude::*;

const KEY: &str = "000102030405060708090a0b0c0d0e0f";

fn end(host: u16, port: u16) -> SocketAddr {
    let [high, low] = host.to_be_bytes();
    // An IPv4 address as a socket for both families has it.
    SocketAddr::from((std::net::Ipv4Addr::new(10, 0, high, low).to_ipv6_mapped(), port))
}

fn sessions() -> Sessions {
    let keys = Keys::parse(&format!("roof:{KEY}\nfleet:{KEY}:*\n")).unwrap();
    Sessions::new(Arc::new(keys), [7; 32]).unwrap()
}

/// A ClientHello as libraries for small devices send it: one cipher suite, the extended master secret, no cookie.
fn hello(random: u8, cookie: &[u8], number: u8) -> Vec<u8> {
    let mut body = vec![254, 253];
    body.extend([random; 32]);
    body.push(0);
    body.push(u8::try_from(cookie.len()).unwrap());
    body.extend(cookie);
    body.extend([0, 2, 0xc0, 0xa8, 1, 0, 0, 4, 0, 23, 0, 0]);
    let length = u8::try_from(body.len()).unwrap();
    let mut datagram = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, number, 0, length + 12];
    datagram.extend([1, 0, 0, length, 0, number, 0, 0, 0, 0, 0, length]);
    datagram.extend(body);
    datagram
}

/// Begins a handshake: brings the cookie back. Answers the last datagram that was sent.
fn begin(sessions: &mut Sessions, from: SocketAddr, random: u8, now: Instant) -> Vec<u8> {
    let mut out = Output::default();
    sessions.datagram(from, None, &hello(random, &[], 0), now, &mut out).unwrap();
    let (_, _, request) = out.datagrams.pop().unwrap();
    let cookie = request[28..].to_vec();
    sessions.datagram(from, None, &hello(random, &cookie, 1), now, &mut out).unwrap();
    out.datagrams.pop().map(|(_, _, bytes)| bytes).unwrap_or_default()
}

fn failures(out: &Output) -> Vec<(SocketAddr, Dropped)> {
    let failed = |event: &Event| match event {
        Event::Failed { end, why, .. } => Some((*end, *why)),
        _ => None,
    };
    out.events.iter().filter_map(failed).collect()
}

#[test]
fn nothing_is_kept_of_who_has_not_brought_a_cookie_back_and_he_gets_less_than_he_sends() {
    let mut sessions = sessions();
    let (now, mut out) = (Instant::now(), Output::default());
    for host in 0..5_000 {
        let said = hello(1, &[], 0);
        let from = SocketAddr::new(end(host, 5000).ip().to_canonical(), 5000);
        sessions.datagram(from, None, &said, now, &mut out).unwrap();
        let (to, _, answer) = out.datagrams.pop().unwrap();
        assert_eq!(to, end(host, 5000));
        assert!(answer.len() <= said.len(), "{} for {}", answer.len(), said.len());
    }
    assert!(out.datagrams.is_empty() && out.events.is_empty());
    assert_eq!((sessions.counts(), sessions.deadline()), ((0, 0), None));
}

#[test]
fn the_answer_to_a_cookie_goes_on_where_the_hello_was() {
    let mut sessions = sessions();
    let answer = begin(&mut sessions, end(1, 5000), 1, Instant::now());
    // A ServerHello, the second message of its side, in a record of the number of the ClientHello.
    assert_eq!(
        (answer[0], &answer[3..11], answer[13], &answer[17..19]),
        (22, &[0, 0, 0, 0, 0, 0, 0, 1][..], 2, &[0, 1][..])
    );
    assert_eq!(sessions.counts(), (0, 1));
}

#[test]
fn a_cookie_of_another_address_or_message_begins_nothing() {
    let mut sessions = sessions();
    let (now, mut out) = (Instant::now(), Output::default());
    sessions.datagram(end(1, 5000), None, &hello(1, &[], 0), now, &mut out).unwrap();
    let (_, _, request) = out.datagrams.pop().unwrap();
    let cookie = request[28..].to_vec();
    for (from, random) in [(end(2, 5000), 1), (end(1, 5001), 1), (end(1, 5000), 2)] {
        sessions.datagram(from, None, &hello(random, &cookie, 1), now, &mut out).unwrap();
        let (_, _, answer) = out.datagrams.pop().unwrap();
        assert_eq!(answer[13], 3, "another request for a cookie");
    }
    assert_eq!(sessions.counts(), (0, 0));
}

#[test]
fn handshakes_are_bounded_in_number_in_number_for_each_address_and_in_time() {
    let mut sessions = sessions();
    let (now, mut out) = (Instant::now(), Output::default());
    for port in 0..u16::try_from(HANDSHAKES_PER_ADDRESS_MAX).unwrap() + 3 {
        begin(&mut sessions, end(1, 5000 + port), 1, now + Duration::from_millis(port.into()));
    }
    assert_eq!(sessions.counts(), (0, HANDSHAKES_PER_ADDRESS_MAX));
    for host in 2..u16::try_from(HANDSHAKES_MAX).unwrap() + 50 {
        begin(&mut sessions, end(host, 5000), 1, now + Duration::from_millis(100));
    }
    assert_eq!(sessions.counts(), (0, HANDSHAKES_MAX));
    let late = now + Duration::from_millis(HANDSHAKE_MS_MAX + 1_000);
    sessions.timer(late, &mut out);
    assert_eq!((sessions.counts(), sessions.deadline()), ((0, 0), None));
    assert_eq!(failures(&out).len(), HANDSHAKES_MAX);
    assert!(failures(&out).iter().all(|(_, why)| *why == Dropped::TimedOut), "{:?}", failures(&out));
}

#[test]
fn a_flight_is_sent_again_a_few_times_only() {
    let mut sessions = sessions();
    let (began, mut out) = (Instant::now(), Output::default());
    begin(&mut sessions, end(1, 5000), 1, began);
    let mut now = began;
    while let Some(deadline) = sessions.deadline() {
        assert!(deadline >= now, "time goes on");
        now = deadline;
        sessions.timer(now, &mut out);
    }
    // Four times, and the alert.
    assert!((2..=5).contains(&out.datagrams.len()), "{}", out.datagrams.len());
    assert!(now - began <= Duration::from_millis(HANDSHAKE_MS_MAX + 1_000));
}

#[test]
fn what_is_no_dtls_is_dropped_with_its_reason() {
    let mut sessions = sessions();
    let (now, mut out) = (Instant::now(), Output::default());
    let mut drop = |bytes: &[u8]| sessions.datagram(end(1, 5000), None, bytes, now, &mut out).unwrap_err();
    assert_eq!(drop(&[]), Dropped::Malformed);
    assert_eq!(drop(b"\x40\x01\x00\x01"), Dropped::Malformed);
    assert_eq!(drop(&[22; DATAGRAM_BYTES_MAX + 1]), Dropped::TooLarge);
    let sealed = [23, 254, 253, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0];
    assert_eq!(drop(&sealed), Dropped::NoSession);
    let mut piece = hello(1, &[], 0);
    piece[21] = 1;
    assert_eq!(drop(&piece), Dropped::BadHello);
    let many =
        sessions.datagram(end(1, 5000), Some([224, 0, 1, 187].into()), &hello(1, &[], 0), now, &mut out);
    assert_eq!(many, Err(Dropped::Multicast));
    assert!(out.datagrams.is_empty());
}

#[test]
fn a_client_that_cannot_what_is_needed_is_told() {
    let mut sessions = sessions();
    let (now, from) = (Instant::now(), end(1, 5000));
    let mut out = Output::default();
    let plain = |cookie: &[u8], number| {
        let mut hello = hello(1, cookie, number);
        // Another cipher suite.
        let at = hello.len() - 9;
        hello[at] = 0x2b;
        hello
    };
    sessions.datagram(from, None, &plain(&[], 0), now, &mut out).unwrap();
    let (_, _, request) = out.datagrams.pop().unwrap();
    sessions.datagram(from, None, &plain(&request[28..], 1), now, &mut out).unwrap();
    assert_eq!(failures(&out), [(from, Dropped::Handshake)]);
    let (_, _, alert) = out.datagrams.pop().unwrap();
    assert_eq!((alert[0], alert[13], alert[14]), (21, 2, 40));
    assert_eq!(sessions.counts(), (0, 0));
}

#[test]
fn the_bounds_are_what_the_documents_say() {
    assert_eq!((SESSIONS_PER_ADDRESS_MAX, IDLE_MS_MAX), (256, 3_600_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_break_it_and_time_always_ends_what_they_began(
        datagrams in prop::collection::vec((0_u16..3, prop::collection::vec(any::<u8>(), 0..120), any::<bool>()), 1..40),
    ) {
        let mut sessions = sessions();
        let (mut now, mut out) = (Instant::now(), Output::default());
        for (host, bytes, is_begun) in datagrams {
            let from = end(host, 5000);
            if is_begun {
                begin(&mut sessions, from, bytes.first().copied().unwrap_or_default(), now);
            }
            // As it is, and behind the header of a record of each kind.
            for kind in [20_u8, 21, 22, 23] {
                let mut record = vec![kind, 254, 253, 0, u8::from(bytes.len() > 60), 0, 0, 0, 0, 0, 9];
                record.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
                record.extend(&bytes);
                _ = sessions.datagram(from, None, &record, now, &mut out);
            }
            _ = sessions.datagram(from, None, &bytes, now, &mut out);
            now += Duration::from_millis(300);
            sessions.timer(now, &mut out);
        }
        sessions.timer(now + Duration::from_millis(HANDSHAKE_MS_MAX), &mut out);
        prop_assert_eq!(sessions.counts(), (0, 0));
        prop_assert_eq!(sessions.deadline(), None);
    }
}
