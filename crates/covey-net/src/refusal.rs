//! Connections that end before their protocol has begun, told to the owner once each and never
//! faster than a log can bear.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// How many connections of a kind are told one by one in a second; the rest of that second is told
/// together.
/// Limit for the log: the rest of the second in one line with their number.
pub const REFUSALS_TOLD_MAX: u32 = 10;

/// Why a connection was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many connections as the listener may have.
    Connections,
    /// There are as many from this address as may be.
    Address,
    /// It was half-open when others needed its place.
    Displaced,
    /// The TLS handshake failed: bytes that are no TLS, no certificate, one of another CA.
    Handshake(String),
    /// The certificate cannot be read.
    Certificate(&'static str),
    /// The handshake, or what the protocol begins with, did not come in time.
    Timeout,
    /// The client left in the middle of it. One that sent nothing at all is not told.
    Left(String),
    /// What the client said is not what the protocol begins with.
    Protocol(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connections => formatter.write_str("too many connections"),
            Self::Address => formatter.write_str("too many connections from this address"),
            Self::Displaced => formatter.write_str("it had not begun when others needed its place"),
            Self::Handshake(why) => write!(formatter, "TLS handshake failed: {why}"),
            Self::Certificate(why) => formatter.write_str(why),
            Self::Timeout => formatter.write_str("it took too long to begin"),
            Self::Left(why) => write!(formatter, "it left before it had begun: {why}"),
            Self::Protocol(why) => formatter.write_str(why),
        }
    }
}

impl Refused {
    const KINDS: usize = 8;

    fn kind(&self) -> usize {
        match self {
            Self::Connections => 0,
            Self::Address => 1,
            Self::Handshake(_) => 2,
            Self::Certificate(_) => 3,
            Self::Timeout => 4,
            Self::Left(_) => 5,
            Self::Protocol(_) => 6,
            Self::Displaced => 7,
        }
    }
}

/// One or more connections that were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whence; of several, the last one's.
    pub address: SocketAddr,
    /// Why; of several of one kind, the last one's.
    pub why: Refused,
    /// How many connections this tells of.
    pub count: u64,
}

/// Decides what is told now and what is told together with others.
pub(crate) struct Told {
    start: Instant,
    kinds: Mutex<[Kind; Refused::KINDS]>,
}

#[derive(Default)]
struct Kind {
    second: u64,
    told: u32,
    untold: Option<Refusal>,
}

impl Told {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), kinds: Mutex::default() }
    }

    /// Answers the refusal if it is to be told now.
    pub(crate) fn add(&self, address: SocketAddr, why: Refused) -> Option<Refusal> {
        let second = self.start.elapsed().as_secs();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = &mut kinds[why.kind()];
        if kind.second != second {
            kind.second = second;
            kind.told = 0;
        }
        let waiting = kind.untold.take().map_or(0, |untold| untold.count);
        let refusal = Refusal { address, why, count: waiting + 1 };
        if kind.told < REFUSALS_TOLD_MAX {
            kind.told += 1;
            return Some(refusal);
        }
        kind.untold = Some(refusal);
        None
    }

    /// What waits to be told together. To be asked once a second, and at the end.
    pub(crate) fn rest(&self) -> Vec<Refusal> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.iter_mut().filter_map(|kind| kind.untold.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_refusal_is_counted_and_few_are_told_one_by_one() {
        let (told, address) = (Told::new(), "192.0.2.1:5".parse().unwrap());
        let mut now: Vec<Refusal> = Vec::new();
        for _ in 0..1_000 {
            now.extend(told.add(address, Refused::Timeout));
        }
        let one = told.add(address, Refused::Connections).unwrap();
        assert_eq!((one.why, one.count), (Refused::Connections, 1), "another kind is told by itself");
        // The thousand may lie on both sides of a second's end.
        assert!((10..=21).contains(&now.len()), "{}", now.len());
        let rest = told.rest();
        let all: u64 = now.iter().chain(&rest).map(|refusal| refusal.count).sum();
        assert_eq!((rest.len(), all), (1, 1_000));
        assert!(told.rest().is_empty());
    }
}
