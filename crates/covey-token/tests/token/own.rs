//! The tokens that servers issue themselves.

use covey_core::access::Rights;
use covey_core::id::{CallerId, OrgId, UnixMs};
use covey_core::token::{MadeFrom, TOKEN_KEYS_MAX};
use covey_token::{Compact, OwnKeys, OwnToken, SigningKey, TokenFault, caller_id};

pub const DEPLOYMENT: &str = "urn:covey:abc";
pub const NOW: UnixMs = UnixMs(1_700_000_000_000);

pub fn signing_key() -> SigningKey {
    SigningKey::read_pem(&SigningKey::generate_pem().unwrap()).unwrap()
}

pub fn keys(of: &[&SigningKey]) -> OwnKeys {
    let keys = OwnKeys::new(DEPLOYMENT.to_owned());
    let jwks: Vec<String> = of.iter().map(|key| key.jwk()).collect();
    keys.set(jwks.iter().map(String::as_str));
    keys
}

pub fn token(key: &SigningKey) -> String {
    sign(key, DEPLOYMENT, NOW.plus_ms(60_000))
}

fn sign(key: &SigningKey, deployment: &str, expires_at: UnixMs) -> String {
    let token = OwnToken {
        deployment,
        made_from: MadeFrom::Key(7),
        name: "dashboard",
        org: OrgId(3),
        rights: Rights::TASKS_READ,
        now: NOW,
        expires_at,
        id: "1".to_owned(),
    };
    key.sign(&token).unwrap()
}

#[test]
fn a_token_is_taken_until_its_end_by_who_knows_its_key() {
    let (key, other) = (signing_key(), signing_key());
    let check = |keys: &OwnKeys, text: &str, now| keys.check(&Compact::read(text).unwrap(), now);
    let (text, all) = (token(&key), keys(&[&other, &key]));
    let verified = check(&all, &text, NOW).unwrap();
    assert_eq!((verified.made_from, verified.rights), (MadeFrom::Key(7), Rights::TASKS_READ));
    assert_eq!(verified.expires_at, NOW.plus_ms(60_000));
    assert!(check(&all, &text, NOW.plus_ms(59_999)).is_ok());
    assert_eq!(check(&all, &text, NOW.plus_ms(60_000)), Err(TokenFault::Expired));
    // The clock of another server is a little behind.
    assert!(check(&all, &text, NOW.plus_ms(-900)).is_ok());
    assert_eq!(check(&keys(&[&other]), &text, NOW), Err(TokenFault::Key));
    assert_eq!(check(&keys(&[]), &text, NOW), Err(TokenFault::Key));
    let foreign = sign(&key, "urn:covey:def", NOW.plus_ms(60_000));
    assert_eq!(check(&all, &foreign, NOW), Err(TokenFault::Issuer));
    // Signed by another key that says it is this one.
    let (head, signature) = text.rsplit_once('.').unwrap();
    let (_, of_other) = token(&other).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_ne!(signature, of_other);
    assert_eq!(check(&all, &format!("{head}.{of_other}"), NOW), Err(TokenFault::Signature));
}

#[test]
fn the_newest_key_of_a_deployment_is_known_however_many_it_has() {
    let all: Vec<_> = (0..TOKEN_KEYS_MAX).map(|_| signing_key()).collect();
    let known = keys(&all.iter().collect::<Vec<_>>());
    for key in [all.first(), all.get(100), all.last()] {
        let text = token(key.unwrap());
        assert!(known.check(&Compact::read(&text).unwrap(), NOW).is_ok());
    }
}

#[test]
fn a_key_is_known_by_its_thumbprint_and_shows_nothing_private() {
    let pem = SigningKey::generate_pem().unwrap();
    let (once, again) = (SigningKey::read_pem(&pem).unwrap(), SigningKey::read_pem(&pem).unwrap());
    assert_eq!((once.id(), once.jwk()), (again.id(), again.jwk()));
    assert!(!once.jwk().contains("\"d\"") && once.id().len() == 43);
    assert!(SigningKey::read_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_none());
}

#[test]
fn callers_are_told_apart_by_issuer_subject_and_organisation_and_are_no_keys() {
    let id = caller_id("a", "b", OrgId(1));
    assert_eq!(id, caller_id("a", "b", OrgId(1)));
    for other in [("ab", "", 1), ("", "ab", 1), ("b", "a", 1), ("a", "b", 2), ("a", "b ", 1)] {
        assert_ne!(id, caller_id(other.0, other.1, OrgId(other.2)), "{other:?}");
    }
    assert!(id.0 >= 1 << 62 && !id.is_of_key());
    assert!(CallerId(1).is_of_key() && !CallerId(0).is_of_key() && !CallerId(-1).is_of_key());
    assert!(!CallerId::of_digest(0).is_of_key() && CallerId::of_digest(u64::MAX).0 == i64::MAX);
}
