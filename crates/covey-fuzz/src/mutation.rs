//! Inputs with faults, drawn from a seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How long an input grows, in bytes: what is longer is cut.
const LONGEST: usize = 8_192;
/// How many faults an input has at most.
const FAULTS: usize = 6;
/// Numbers at which lengths and counts turn over.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'"', b'\n'];

/// Calls `read` with the corpus, and with `count` inputs that are made of it with faults: bytes that are changed, left out,
/// repeated, or come from another of the corpus.
pub fn mutated(corpus: &[Vec<u8>], count: u64, seed: u64, mut read: impl FnMut(&[u8])) {
    corpus.iter().for_each(|input| read(input));
    let mut random = StdRng::seed_from_u64(seed);
    let mut input = Vec::new();
    for _ in 0..count {
        input.clear();
        if let Some(chosen) = any(corpus, &mut random) {
            input.extend_from_slice(chosen);
        }
        for _ in 0..random.random_range(1..=FAULTS) {
            fault(&mut input, corpus, &mut random);
        }
        input.truncate(LONGEST);
        read(&input);
    }
}

fn any<'a>(corpus: &'a [Vec<u8>], random: &mut StdRng) -> Option<&'a [u8]> {
    let index = random.random_range(0..corpus.len().max(1));
    corpus.get(index).map(Vec::as_slice)
}

fn fault(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    let end = (at + random.random_range(1..=8_usize)).min(input.len());
    match random.random_range(0..8) {
        0 => input.truncate(at),
        1 => input.insert(at, random.random()),
        2 => input.insert(at, EDGES[random.random_range(0..EDGES.len())]),
        3 => drop(input.drain(at..end)),
        4 => input[at..end].iter_mut().for_each(|byte| *byte = random.random()),
        5 if at < end => input[at] ^= 1 << random.random_range(0..8_u32),
        6 => {
            let again = input[at / 2..end].to_vec();
            input.splice(at..at, again);
        }
        _ => {
            let other = any(corpus, random).unwrap_or_default();
            let from = random.random_range(0..=other.len());
            let to = (from + random.random_range(1..=32_usize)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
    }
}
