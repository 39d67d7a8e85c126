//! How many lines there may be: a bucket for each place in the code, for each peer at each place, and one
//! for all peers together.

use std::collections::HashMap;
use std::hash::Hash;

/// How many lines of one place in the code about one peer may come at once.
/// Limit for each peer: left out and counted; another one each 10 s.
pub const PEER_LINES_MAX: u64 = 3;
/// After so long there may be another one, in milliseconds.
pub const PEER_LINE_MS: u64 = 10_000;
/// How many lines of one place in the code may come at once.
/// Limit for each place: left out and counted; another ten each second.
pub const PLACE_LINES_MAX: u64 = 100;
/// After so long there may be another one, in milliseconds.
pub const PLACE_LINE_MS: u64 = 100;
/// How many lines about peers may come at once.
/// Limit for the server: left out and counted; another 20 each second.
pub const ALL_PEERS_LINES_MAX: u64 = 200;
/// After so long there may be another one, in milliseconds.
pub const ALL_PEERS_LINE_MS: u64 = 50;
/// How many lines at the levels debug and trace may come at once of one place in the code.
/// Limit for each place: left out and counted; another thousand each second.
pub const DETAIL_LINES_MAX: u64 = 5_000;
/// After so long there may be another one, in milliseconds.
pub const DETAIL_LINE_MS: u64 = 1;
/// How many peers are remembered, each at each place. While there are as many, lines about others are
/// bounded as those of all peers are.
pub const PEERS_MAX: usize = 16_384;

/// How many lines there may be: so many at once, and another one after each span.
#[derive(Clone, Copy)]
struct Rate {
    at_once: u64,
    each_ms: u64,
}

const OF_PEER: Rate = Rate { at_once: PEER_LINES_MAX, each_ms: PEER_LINE_MS };
const OF_PLACE: Rate = Rate { at_once: PLACE_LINES_MAX, each_ms: PLACE_LINE_MS };
const OF_ALL_PEERS: Rate = Rate { at_once: ALL_PEERS_LINES_MAX, each_ms: ALL_PEERS_LINE_MS };
const OF_DETAIL: Rate = Rate { at_once: DETAIL_LINES_MAX, each_ms: DETAIL_LINE_MS };

/// What is left of a rate, and how many lines it has cost.
#[derive(Clone, Copy, Default)]
struct Bucket {
    /// When all of it is there again.
    full_at_ms: u64,
    left_out: u64,
}

impl Bucket {
    fn has_room(&self, rate: Rate, now_ms: u64) -> bool {
        self.full_at_ms.saturating_sub(now_ms) + rate.each_ms <= rate.at_once * rate.each_ms
    }

    /// Takes one line; answers how many were left out before it.
    fn take(&mut self, rate: Rate, now_ms: u64) -> u64 {
        self.full_at_ms = self.full_at_ms.max(now_ms) + rate.each_ms;
        std::mem::take(&mut self.left_out)
    }

    /// Whether it says nothing.
    fn is_idle(&self, now_ms: u64) -> bool {
        self.full_at_ms <= now_ms && self.left_out == 0
    }
}

/// A place in the code, `P`, with the lines that it may write.
pub(crate) struct Bounds<P> {
    places: HashMap<P, Bucket>,
    peers: HashMap<(P, Box<str>), Bucket>,
    all_peers: Bucket,
    /// When peers that have been silent were last forgotten.
    swept_at_ms: u64,
}

impl<P> Default for Bounds<P> {
    fn default() -> Self {
        Self { places: HashMap::new(), peers: HashMap::new(), all_peers: Bucket::default(), swept_at_ms: 0 }
    }
}

impl<P: Clone + Eq + Hash> Bounds<P> {
    /// Whether a line may be written; answers how many were left out before it.
    pub(crate) fn admit(
        &mut self,
        place: P,
        peer: Option<&str>,
        is_detail: bool,
        now_ms: u64,
    ) -> Option<u64> {
        let peer = peer.filter(|_| !is_detail).map(|peer| (place.clone(), Box::from(peer)));
        let of_place = if is_detail { OF_DETAIL } else { OF_PLACE };
        if peer.is_some() {
            self.make_room(now_ms);
        }
        let is_full = self.peers.len() >= PEERS_MAX;
        // A place is in the code, so that there are no more of them than that has.
        let place = self.places.entry(place).or_default();
        let Some(peer) = peer else {
            if place.has_room(of_place, now_ms) {
                return Some(place.take(of_place, now_ms));
            }
            place.left_out += 1;
            return None;
        };
        let mut unknown = Bucket::default();
        let known = match is_full && !self.peers.contains_key(&peer) {
            true => &mut unknown,
            false => self.peers.entry(peer).or_default(),
        };
        if !known.has_room(OF_PEER, now_ms) {
            known.left_out += 1;
            return None;
        }
        if !place.has_room(of_place, now_ms) || !self.all_peers.has_room(OF_ALL_PEERS, now_ms) {
            place.left_out += 1;
            return None;
        }
        self.all_peers.take(OF_ALL_PEERS, now_ms);
        Some(known.take(OF_PEER, now_ms) + place.take(of_place, now_ms))
    }

    /// Forgets peers that may write as many lines as ever, at most once a second; what they have left out
    /// is told with their place.
    fn make_room(&mut self, now_ms: u64) {
        if self.peers.len() < PEERS_MAX || now_ms < self.swept_at_ms + 1_000 {
            return;
        }
        self.swept_at_ms = now_ms;
        let places = &mut self.places;
        self.peers.retain(|(place, _), bucket| {
            if bucket.full_at_ms > now_ms {
                return true;
            }
            if !bucket.is_idle(now_ms) {
                places.entry(place.clone()).or_default().left_out += bucket.left_out;
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_peer_has_few_lines_and_the_next_one_says_how_many_were_left_out() {
        let mut bounds = Bounds::default();
        for _ in 0..3 {
            assert_eq!(bounds.admit(1, Some("a"), false, 5), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(bounds.admit(1, Some("a"), false, 9_999), None);
        }
        assert_eq!(bounds.admit(1, Some("b"), false, 9_999), Some(0), "another peer");
        assert_eq!(bounds.admit(2, Some("a"), false, 9_999), Some(0), "another place");
        assert_eq!(bounds.admit(1, Some("a"), false, 10_005), Some(1_000));
        assert_eq!(bounds.admit(1, Some("a"), false, 10_005), None);
    }

    #[test]
    fn peers_that_are_silent_are_forgotten() {
        let mut bounds = Bounds::default();
        for peer in 0..PEERS_MAX as u64 + 10 {
            bounds.admit(1, Some(&peer.to_string()), false, 7);
        }
        assert_eq!(bounds.peers.len(), PEERS_MAX);
        bounds.admit(1, Some("new"), false, 40_000);
        assert_eq!(bounds.peers.len(), 1);
    }

    proptest! {
        /// However many peers there are, and whatever they do: all lines of a place together, and all that
        /// are about peers, are as few as their rates say; each one left out is told of by a later one, or
        /// is still to be told.
        #[test]
        fn all_lines_together_are_bounded_and_counted(
            calls in proptest::collection::vec((0..3_u8, 0..40_u8, 0..30_u64), 1..2_000),
        ) {
            let mut bounds = Bounds::default();
            let (mut now_ms, mut all, mut told) = (0, 0, 0);
            let mut of_place = [0_u64; 3];
            for (place, peer, pause_ms) in &calls {
                now_ms += pause_ms;
                if let Some(left_out) = bounds.admit(*place, Some(&peer.to_string()), false, now_ms) {
                    (all, told) = (all + 1, told + left_out);
                    of_place[usize::from(*place)] += 1;
                }
            }
            prop_assert!(all <= ALL_PEERS_LINES_MAX + now_ms / ALL_PEERS_LINE_MS);
            for lines in of_place {
                prop_assert!(lines <= PLACE_LINES_MAX + now_ms / PLACE_LINE_MS);
            }
            let untold: u64 = bounds.peers.values().chain(bounds.places.values()).map(|one| one.left_out).sum();
            prop_assert_eq!(all + told + untold, calls.len() as u64);
        }
    }
}
