//! The first message of a node, and the cookie that proves its address (RFC 6347 §4.2.1). Nothing is kept of who has
//! not brought one back: it says by itself to whom it was given and for which message.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Bytes in front of a record (§4.1), and of a handshake message (§4.2.2).
const RECORD_HEADER_BYTES: usize = 13;
const HANDSHAKE_HEADER_BYTES: usize = 12;
/// The content types of handshakes and alerts.
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
/// The types of handshake messages.
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
/// DTLS 1.0, which a HelloVerifyRequest says (§4.2.1), and 1.2.
const DTLS_1_0: [u8; 2] = [254, 255];
const DTLS_1_2: [u8; 2] = [254, 253];
/// How many bytes a cookie has.
pub(super) const COOKIE_BYTES: usize = 32;
/// The record number of an alert before there are keys: beyond those of a handshake.
const ALERT_NUMBER: u64 = 1 << 20;

/// A cookie.
pub(super) type Cookie = [u8; COOKIE_BYTES];

/// The first record of a datagram, by its header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub content_type: u8,
    pub epoch: u16,
    /// Its number, of 48 bits.
    pub number: u64,
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// None of what is no record.
    pub fn first(datagram: &'a [u8]) -> Option<Self> {
        let (header, rest) = datagram.split_at_checked(RECORD_HEADER_BYTES)?;
        let (content_type, version) = (*header.first()?, header.get(1..3)?);
        let is_known = (20..=26).contains(&content_type) && *version.first()? == 254;
        let length = usize::try_from(number_of(header.get(11..13)?)).ok()?;
        let (epoch, number) =
            (u16::try_from(number_of(header.get(3..5)?)).ok()?, number_of(header.get(5..11)?));
        is_known.then_some(Self { content_type, epoch, number, body: rest.get(..length)? })
    }

    /// Whether it is of the first message of a handshake.
    pub fn is_client_hello(&self) -> bool {
        self.epoch == 0 && self.content_type == HANDSHAKE && self.body.first() == Some(&CLIENT_HELLO)
    }
}

/// A number of a few bytes, the highest first.
fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A ClientHello in one piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientHello<'a> {
    record: Record<'a>,
    /// Version, random and session id.
    before: &'a [u8],
    pub cookie: &'a [u8],
    /// Cipher suites and what follows.
    after: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// None of what is none, or comes in several pieces, or goes on behind its end.
    pub fn of(record: Record<'a>) -> Option<Self> {
        let (header, body) = record.body.split_at_checked(HANDSHAKE_HEADER_BYTES)?;
        let [whole, at, piece] =
            [1..4, 6..9, 9..12].map(|range| header.get(range).map_or(u64::MAX, number_of));
        let is_whole = whole == body.len() as u64 && at == 0 && piece == whole;
        if !record.is_client_hello() || !is_whole {
            return None;
        }
        let session_at = 2 + 32;
        let before_bytes = session_at + 1 + usize::from(*body.get(session_at)?);
        let (before, rest) = body.split_at_checked(before_bytes)?;
        let (cookie_bytes, rest) = rest.split_first()?;
        let (cookie, after) = rest.split_at_checked(usize::from(*cookie_bytes))?;
        Some(Self { record, before, cookie, after })
    }

    /// What the client has drawn: a repetition has the same.
    pub fn random(&self) -> &'a [u8] {
        self.before.get(2..34).unwrap_or_default()
    }

    /// The number of its record.
    pub fn number(&self) -> u64 {
        self.record.number
    }

    /// What the client must have sent before it had a cookie.
    pub fn without_cookie(&self) -> Vec<u8> {
        let body_bytes = self.before.len() + 1 + self.after.len();
        let mut datagram = Vec::with_capacity(RECORD_HEADER_BYTES + HANDSHAKE_HEADER_BYTES + body_bytes);
        put_handshake(&mut datagram, DTLS_1_2, 0, CLIENT_HELLO, body_bytes);
        datagram.extend_from_slice(self.before);
        datagram.push(0);
        datagram.extend_from_slice(self.after);
        datagram
    }

    /// The request to say it again with a cookie, under the number of its record (§4.2.1).
    pub fn verify_request(&self, cookie: &Cookie) -> Vec<u8> {
        let mut datagram = Vec::new();
        let body_bytes = 2 + 1 + COOKIE_BYTES;
        put_handshake(&mut datagram, DTLS_1_0, self.record.number, HELLO_VERIFY_REQUEST, body_bytes);
        datagram.extend_from_slice(&DTLS_1_0);
        // A cookie has 32 bytes.
        datagram.push(COOKIE_BYTES as u8);
        datagram.extend_from_slice(cookie);
        datagram
    }
}

/// A record with a handshake message in one piece, up to its body. All messages here are the first of their side.
fn put_handshake(out: &mut Vec<u8>, version: [u8; 2], number: u64, kind: u8, body_bytes: usize) {
    let of_24_bits = |length: usize| u32::try_from(length).unwrap_or_default().to_be_bytes();
    let record_bytes = u16::try_from(HANDSHAKE_HEADER_BYTES + body_bytes).unwrap_or_default();
    out.push(HANDSHAKE);
    out.extend_from_slice(&version);
    out.extend_from_slice(&[0, 0]);
    out.extend(number.to_be_bytes().iter().skip(2));
    out.extend_from_slice(&record_bytes.to_be_bytes());
    out.push(kind);
    out.extend(of_24_bits(body_bytes).iter().skip(1));
    out.extend_from_slice(&[0, 0, 0, 0, 0]);
    out.extend(of_24_bits(body_bytes).iter().skip(1));
}

/// A fatal alert before there are keys (RFC 5246 §7.2).
pub(super) fn alert(description: u8) -> Vec<u8> {
    let mut datagram = vec![ALERT];
    datagram.extend_from_slice(&DTLS_1_2);
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend(ALERT_NUMBER.to_be_bytes().iter().skip(2));
    datagram.extend_from_slice(&[0, 2, 2, description]);
    datagram
}

/// Counts the records of a datagram on by `more`, as far as they are sent before there are keys: the first answer goes on
/// where the ClientHello was (§4.2.1), so that no client takes it for one that it has had.
pub(super) fn count_on(datagram: &mut [u8], more: u64) {
    let mut rest = datagram;
    while let Some(Record { epoch: 0, number, body, .. }) = Record::first(rest) {
        let end = RECORD_HEADER_BYTES + body.len();
        let counted = number.wrapping_add(more).to_be_bytes();
        if let (Some(to), Some(from)) = (rest.get_mut(5..11), counted.get(2..)) {
            to.copy_from_slice(from);
        }
        match rest.split_at_mut_checked(end) {
            Some((_, after)) => rest = after,
            None => return,
        }
    }
}

/// Makes cookies, and knows them again: those of the secret, and of the one before it.
pub(super) struct Cookies {
    secrets: [[u8; 32]; 2],
}

impl Cookies {
    pub const fn new(secret: [u8; 32], before: [u8; 32]) -> Self {
        Self { secrets: [secret, before] }
    }

    /// Goes on with another secret; that of now is still known.
    pub fn change(&mut self, secret: [u8; 32]) {
        let [now, _] = self.secrets;
        self.secrets = [secret, now];
    }

    /// The cookie for a message of an address.
    pub fn cookie(&self, from: SocketAddr, hello: &ClientHello<'_>) -> Cookie {
        let [secret, _] = &self.secrets;
        made(secret, from, hello)
    }

    /// Whether a message has the cookie that its address was given for it, and which it is.
    pub fn known(&self, from: SocketAddr, hello: &ClientHello<'_>) -> Option<Cookie> {
        let is_it = |cookie: &Cookie| bool::from(cookie.as_slice().ct_eq(hello.cookie));
        self.secrets.iter().map(|secret| made(secret, from, hello)).find(is_it)
    }
}

fn made(secret: &[u8; 32], from: SocketAddr, hello: &ClientHello<'_>) -> Cookie {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return [0; COOKIE_BYTES] };
    let ip = match from.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    mac.update(&ip.octets());
    mac.update(&from.port().to_be_bytes());
    mac.update(&(hello.before.len() as u64).to_be_bytes());
    mac.update(hello.before);
    mac.update(hello.after);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn hello(number: u64, cookie: &[u8]) -> Vec<u8> {
        let mut body = vec![254, 253];
        body.extend([7; 32]);
        body.push(0);
        body.push(cookie.len() as u8);
        body.extend_from_slice(cookie);
        body.extend([0, 2, 0xc0, 0xa8, 1, 0]);
        let mut datagram = Vec::new();
        put_handshake(&mut datagram, DTLS_1_0, number, CLIENT_HELLO, body.len());
        datagram.extend(body);
        datagram
    }

    fn parsed(datagram: &[u8]) -> ClientHello<'_> {
        ClientHello::of(Record::first(datagram).unwrap()).unwrap()
    }

    #[test]
    fn a_cookie_is_good_for_its_address_and_message_and_under_the_secret_before() {
        let from: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let mut cookies = Cookies::new([1; 32], [2; 32]);
        let cookie = cookies.cookie(from, &parsed(&hello(0, &[])));
        let again = hello(1, &cookie);
        assert_eq!(cookies.known(from, &parsed(&again)), Some(cookie));
        assert_eq!(cookies.known("192.0.2.1:5001".parse().unwrap(), &parsed(&again)), None);
        assert_eq!(cookies.known("192.0.2.2:5000".parse().unwrap(), &parsed(&again)), None);
        // One socket for both families tells of IPv4 as of IPv6.
        assert_eq!(cookies.known("[::ffff:192.0.2.1]:5000".parse().unwrap(), &parsed(&again)), Some(cookie));
        let mut other = again.clone();
        *other.last_mut().unwrap() ^= 1;
        assert_eq!(cookies.known(from, &parsed(&other)), None);
        assert_eq!(cookies.known(from, &parsed(&hello(1, &[]))), None);
        cookies.change([3; 32]);
        assert_eq!(cookies.known(from, &parsed(&again)), Some(cookie));
        cookies.change([4; 32]);
        assert_eq!(cookies.known(from, &parsed(&again)), None);
    }

    #[test]
    fn the_answer_to_a_stranger_is_smaller_than_what_it_sent() {
        let first = hello(9, &[]);
        let answer = parsed(&first).verify_request(&[5; COOKIE_BYTES]);
        assert!(answer.len() <= first.len(), "{} for {}", answer.len(), first.len());
        let record = Record::first(&answer).unwrap();
        assert_eq!((record.content_type, record.epoch, record.number), (HANDSHAKE, 0, 9));
        assert_eq!(record.body.len() + RECORD_HEADER_BYTES, answer.len());
    }

    #[test]
    fn without_its_cookie_a_message_is_the_one_before() {
        let datagram = parsed(&hello(3, &[5; COOKIE_BYTES])).without_cookie();
        let before = hello(0, &[]);
        // But for the version of the record.
        assert_eq!(datagram.get(3..), before.get(3..));
    }

    #[test]
    fn only_records_before_the_keys_are_counted_on() {
        let mut datagram = hello(1, &[]);
        let first = datagram.len();
        datagram.extend(hello(2, &[]));
        let mut sealed = hello(5, &[]);
        sealed[4] = 1;
        datagram.extend(&sealed);
        count_on(&mut datagram, 0xffff);
        assert_eq!(Record::first(&datagram).unwrap().number, 0x1_0000);
        assert_eq!(Record::first(&datagram[first..]).unwrap().number, 0x1_0001);
        assert_eq!(Record::first(&datagram[2 * first..]).unwrap().number, 5);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..80, byte: u8) {
            let mut mutated = hello(1, &[5; COOKIE_BYTES]);
            mutated[at] = byte;
            for datagram in [bytes, mutated] {
                if let Some(hello) = Record::first(&datagram).and_then(ClientHello::of) {
                    prop_assert_eq!(hello.random().len(), 32);
                    prop_assert!(hello.without_cookie().len() <= datagram.len());
                }
                count_on(&mut datagram.clone(), 1);
            }
        }
    }
}
