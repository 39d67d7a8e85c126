//! A server's key over the days, with a clock that is moved; tokens are made and shown over HTTP.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use covey_client::{Client, Error, MadeToken, TokenNew, Whole};
use covey_core::Parts;
use covey_core::limits::Limits;
use covey_core::links::Links;
use covey_core::port::{Clock, NoPeers};
use covey_core::webhook::NoWebhooks;
use covey_http::{Api, Metrics};
use covey_pki::{Authority, CertificateLifetimes};
use covey_store::sqlite::{Options, Sqlite};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::serve::parts::{Issuer, RandomIds};

const API_KEY: &str = "key-of-acme";
const BEGIN: i64 = 1_800_000_000_000;
const HOUR_MS: i64 = 3_600_000;

struct MovedClock(AtomicI64);

impl Clock for MovedClock {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.load(Ordering::Relaxed))
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from((self.now().0 - BEGIN) * 1_000).unwrap()
    }
}

struct Site {
    clock: Arc<MovedClock>,
    engine: Arc<Engine>,
    tokens: Arc<Tokens>,
    key: OwnKey,
    url: String,
    shutdown: CancellationToken,
    _folder: TempDir,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(MovedClock(AtomicI64::new(BEGIN)));
        let metrics = Arc::new(Metrics::new());
        let port: Arc<dyn Clock> = clock.clone();
        let options = Options::new(folder.path().join("covey.db"));
        let store = Sqlite::open(&options, Arc::clone(&port), metrics.clone()).unwrap();
        let now = OffsetDateTime::now_utc();
        let pki = folder.path().join("pki");
        let authority = Authority::open_or_create(&pki, CertificateLifetimes::default(), now).unwrap();
        let engine = Arc::new(Engine::new(Parts {
            store: Arc::new(store),
            links: Links::new([]),
            peers: Arc::new(NoPeers),
            issuer: Arc::new(Issuer(Arc::new(authority))),
            clock: port,
            ids: Arc::new(RandomIds),
            observer: metrics.clone(),
            key_hasher: covey_http::key_digest,
            limits: Limits::default(),
            retention: covey_core::retention::RetentionDays::default(),
            budgets: covey_core::budget::Budgets::default(),
            gauge_types: Vec::new(),
            unit_rule: Arc::new(|_| Ok(())),
            webhooks: Arc::new(NoWebhooks),
            webhook_retry_ms: DAY_MS,
        }));
        assert!(engine.server().api_key_first("acme", "first", API_KEY).await.unwrap());
        let tokens = Arc::new(Tokens::new(Vec::new(), Some("urn:covey:site".to_owned()), None).unwrap());
        let shutdown = CancellationToken::new();
        let api = Api::new(Arc::clone(&engine), metrics, shutdown.clone()).taking_tokens(Arc::clone(&tokens));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(covey_http::serve_http(listener, covey_http::router(api), None, shutdown.clone()));
        let key = OwnKey::new("one".to_owned(), pki);
        Self { clock, engine, tokens, key, url, shutdown, _folder: folder }
    }

    fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// What the server does each minute, and that once after a while.
    async fn pass_ms(&self, ms: i64) -> Result<()> {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
        let looked = self.key.look(&self.tokens, &self.engine).await;
        self.tokens.read_own_keys(&self.engine).await.unwrap();
        looked
    }

    async fn made(&self) -> Result<MadeToken, Error> {
        let client = Client::new(&self.url, API_KEY, None).unwrap();
        client.token_make(&TokenNew { rights: None, expires_in: Some(Whole(DAY_MS / 1_000)) }).await
    }

    async fn takes(&self, token: &str) -> bool {
        Client::new(&self.url, token, None).unwrap().whoami().await.is_ok()
    }

    async fn known(&self) -> Vec<String> {
        let known = self.engine.server().token_keys().await.unwrap();
        known.into_iter().map(|key| key.id).collect()
    }

    fn pki(&self) -> &Path {
        &self.key.folder
    }

    fn signer(&self) -> String {
        SigningKey::read_pem(&fs::read_to_string(self.pki().join(KEY)).unwrap()).unwrap().id().to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn has_no_key(made: &Result<MadeToken, Error>) -> bool {
    made.as_ref().is_err_and(|error| error.to_string().contains("has no key to sign"))
}

#[tokio::test]
async fn keys_follow_one_another_and_each_token_is_taken_until_its_end() {
    const STEP_MS: i64 = 5 * HOUR_MS;
    let site = Site::new().await;
    assert!(has_no_key(&site.made().await), "before the first look");
    let (mut signers, mut tokens, mut known_before) = (Vec::<String>::new(), Vec::new(), Vec::new());
    for step in 0..300 {
        site.pass_ms(STEP_MS).await.unwrap();
        let signer = site.signer();
        if signers.last() != Some(&signer) {
            assert!(!signers.contains(&signer), "an old key signs again at step {step}");
            let was_known = |known: &Vec<String>| known.contains(&signer);
            let published_early = known_before.iter().rev().take(4).all(was_known);
            assert!(signers.is_empty() || published_early, "a key signs that few know at step {step}");
            signers.push(signer);
        }
        let known = site.known().await;
        assert!(known.len() <= 3, "{} keys at step {step}", known.len());
        known_before.push(known);
        let made = site.made().await.unwrap();
        tokens.push((made.access_token, site.now().plus_ms(DAY_MS)));
        tokens.retain(|(_, ends_at)| *ends_at > site.now());
        for (token, _) in &tokens {
            assert!(site.takes(token).await, "a token is refused before its end at step {step}");
        }
    }
    let days = 300 * STEP_MS / DAY_MS;
    assert_eq!(i64::try_from(signers.len()).unwrap(), days / 30 + 1);
}

#[tokio::test]
async fn the_key_signs_until_its_time_is_over_whatever_is_wrong_with_the_next() {
    let site = Site::new().await;
    site.pass_ms(0).await.unwrap();
    let first = site.signer();
    let next = site.pki().join(NEXT_KEY);
    fs::create_dir(&next).unwrap();
    assert!(site.pass_ms(29 * DAY_MS + HOUR_MS).await.is_err());
    // As after a restart.
    site.tokens.sign_with(SigningKey::read_pem(&SigningKey::generate_pem().unwrap()).unwrap(), UnixMs(0));
    assert!(has_no_key(&site.made().await));
    assert!(site.pass_ms(0).await.is_err());
    let token = site.made().await.unwrap().access_token;
    assert!(site.takes(&token).await);
    assert!(site.pass_ms(DAY_MS - HOUR_MS).await.is_err());
    assert!(has_no_key(&site.made().await), "its time is over");
    assert!(site.takes(&token).await, "the token's is not");
    fs::remove_dir(&next).unwrap();
    fs::write(&next, "no key").unwrap();
    site.pass_ms(60_000).await.unwrap();
    assert_ne!(site.signer(), first);
    assert!(site.takes(&site.made().await.unwrap().access_token).await);
}

#[tokio::test]
async fn a_key_that_nobody_knows_any_more_does_not_begin_anew() {
    let site = Site::new().await;
    site.pass_ms(0).await.unwrap();
    let first = site.signer();
    let copy = fs::read(site.pki().join(KEY)).unwrap();
    site.pass_ms(40 * DAY_MS).await.unwrap();
    let second = site.signer();
    assert!(second != first && !site.known().await.contains(&first));
    fs::write(site.pki().join(KEY), &copy).unwrap();
    site.pass_ms(60_000).await.unwrap();
    assert!(site.signer() != first && !site.known().await.contains(&first));
}
