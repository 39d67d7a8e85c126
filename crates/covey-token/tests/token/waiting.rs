//! Tokens that name a key of their issuer which is not known.

use std::sync::Arc;
use std::time::Duration;

use covey_core::access::Rights;
use covey_core::id::OrgId;
use covey_core::token::OrgWanted;
use covey_token::{
    Compact, Fetch, Fetched, Issuer, IssuerConfig, KeyFault, KeySet, KeySource, Mapping, OrgFrom, SigningKey,
    TokenFault,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};
use url::Url;

use crate::own::{DEPLOYMENT, NOW, signing_key, token};

/// A document that comes after a while.
struct Slow(String, Duration);

impl Fetch for Slow {
    fn get(&self, _: Url) -> Fetched {
        let (document, pause) = (self.0.clone(), self.1);
        Box::pin(async move {
            sleep(pause).await;
            Ok(document.into_bytes())
        })
    }
}

fn issuer() -> Arc<Issuer> {
    Issuer::new(IssuerConfig {
        issuer: DEPLOYMENT.to_owned(),
        audience: DEPLOYMENT.to_owned(),
        keys: KeySource::parse("https://login.example/keys").unwrap(),
        leeway_seconds: 0,
        refresh_seconds: 300,
        mapping: Mapping {
            org: OrgFrom::Fixed(OrgWanted::Number(OrgId(1))),
            rights_claim: None,
            roles_claim: "roles".to_owned(),
            roles: Default::default(),
            rights_max: Rights::ALL,
        },
    })
}

fn set(keys: &[&SigningKey]) -> String {
    let jwks: Vec<String> = keys.iter().map(|key| key.jwk()).collect();
    format!(r#"{{"keys": [{}]}}"#, jwks.join(","))
}

/// Why a token is not taken, and how long that took.
async fn refused(issuer: Arc<Issuer>, text: String) -> (Option<TokenFault>, Duration) {
    let begun = Instant::now();
    let checked = issuer.check(&Compact::read(&text).unwrap(), NOW).await;
    (checked.err(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_keys_that_were_just_read_however_long_that_took() {
    let (issuer, known, unknown) = (issuer(), signing_key(), signing_key());
    issuer.refresh(&Slow(set(&[&known]), Duration::from_secs(20))).await.unwrap();
    assert_eq!(refused(Arc::clone(&issuer), token(&known)).await, (None, Duration::ZERO));
    assert_eq!(refused(issuer, token(&unknown)).await, (Some(TokenFault::Key), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn few_wait_for_the_keys_of_an_issuer_and_those_who_do_are_let_in_by_them() {
    let (issuer, known, new) = (issuer(), signing_key(), signing_key());
    issuer.refresh(&Slow(set(&[&known]), Duration::ZERO)).await.unwrap();
    advance(Duration::from_secs(5)).await;
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        asking.spawn(refused(Arc::clone(&issuer), token(&new)));
    }
    let reading = Arc::clone(&issuer);
    let document = Slow(set(&[&known, &new]), Duration::from_secs(2));
    let read = tokio::spawn(async move { reading.refresh(&document).await });
    let refused = asking.join_all().await;
    read.await.unwrap().unwrap();
    let (let_in, others): (Vec<_>, Vec<_>) = refused.into_iter().partition(|(fault, _)| fault.is_none());
    assert_eq!((let_in.len(), others.len()), (32, 68));
    assert!(let_in.iter().all(|(_, waited)| *waited == Duration::from_secs(2)), "{let_in:?}");
    assert!(others.iter().all(|other| *other == (Some(TokenFault::Key), Duration::ZERO)), "{others:?}");
}

#[test]
fn a_set_with_a_private_key_is_not_taken_for_the_others_in_it() {
    let (one, other) = (signing_key(), signing_key());
    let good = set(&[&one, &other]);
    assert_eq!(KeySet::read(good.as_bytes()).unwrap().count(), 2);
    let private = good.replacen("\"kty\"", "\"d\":\"AAAA\",\"kty\"", 1);
    assert_ne!(private, good);
    assert_eq!(KeySet::read(private.as_bytes()).unwrap_err(), KeyFault::Private);
}
