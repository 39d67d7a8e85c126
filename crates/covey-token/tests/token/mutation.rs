//! Rubbish, and tokens and documents with faults: nothing panics, and no token is taken that differs from one that was signed.
//! `COVEY_TOKEN_MUTATIONS=20000000 cargo test --release -p covey-token mutation` tries more.

use covey_core::id::UnixMs;
use covey_token::{Compact, Instants, KeySet, Mapping, TOKEN_BYTES_MAX};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::own::{NOW, keys, signing_key, token};

/// How many texts with faults are tried unless the environment says otherwise.
const MUTATIONS: u64 = 50_000;

fn mutations() -> u64 {
    std::env::var("COVEY_TOKEN_MUTATIONS").map_or(MUTATIONS, |count| count.parse().unwrap())
}

/// What stands in tokens and documents, so that a fault may be one that is read.
const PIECES: [&str; 16] = [
    ".",
    "..",
    "e30",
    "\"alg\"",
    "none",
    "\"exp\":1e400,",
    "{",
    "}",
    "[[[[",
    "null",
    "-",
    "=",
    "\u{fc}",
    "eyJhbGciOiJub25lIn0",
    "-----BEGIN PUBLIC KEY-----\n",
    "AAAA",
];

fn mutate(text: &mut String, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        let place = text.floor_char_boundary(random.random_range(0..=text.len()));
        let end = text.ceil_char_boundary((place + random.random_range(0..12)).min(text.len()));
        let piece = match random.random_range(0..4) {
            0 => String::new(),
            1 => char::from(random.random_range(32..127_u8)).to_string(),
            2 => PIECES[random.random_range(0..PIECES.len())].to_owned(),
            _ => text[text.floor_char_boundary(place / 2)..place].to_owned(),
        };
        text.replace_range(place..end, &piece);
    }
}

#[test]
fn no_token_is_taken_that_differs_from_one_that_was_signed() {
    let key = signing_key();
    let (keys, signed) = (keys(&[&key]), token(&key));
    let mut random = StdRng::seed_from_u64(7);
    let (mut read, mut taken) = (0, 0);
    for number in 0..mutations() {
        let mut text = signed.clone();
        if number % 8 > 0 {
            mutate(&mut text, &mut random);
        }
        let Ok(compact) = Compact::read(&text) else { continue };
        read += 1;
        assert!(text.len() <= TOKEN_BYTES_MAX && Compact::is_meant(&text));
        let _ = (compact.algorithm(), compact.key_id(), compact.issuer(), Mapping::name(&compact.claims));
        let _ = Instants::of(&compact.claims).map(|instants| instants.check(UnixMs(i64::MAX), i64::MAX));
        if keys.check(&compact, NOW).is_ok() {
            assert_eq!(text, signed);
            taken += 1;
        }
    }
    assert!(taken > mutations() / 10 && read > taken, "{read} {taken}");
}

#[test]
fn documents_with_faults_are_read_as_no_keys_or_as_some() {
    let jwk = signing_key().jwk();
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let documents = [jwk.clone(), format!("{{\"keys\":[{jwk},{jwk}]}}"), pem.to_owned()];
    assert!(documents.iter().all(|document| KeySet::read(document.as_bytes()).is_ok()));
    let mut random = StdRng::seed_from_u64(8);
    let mut good = 0;
    for number in 0..mutations() {
        let mut text = documents[number as usize % documents.len()].clone();
        mutate(&mut text, &mut random);
        good += u64::from(KeySet::read(text.as_bytes()).is_ok_and(|keys| keys.count() > 0));
    }
    assert!(good > mutations() / 100, "{good}");
}
