//! A running API: the engine on SQLite in a temporary folder, and a listener
//! on a free port of the loopback address.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use covey_core::access::Rights;
use covey_core::device::{CertificateRecord, DeviceIdentity, IssuedCertificate};
use covey_core::id::{Sn, TaskId, UnixMs};
use covey_core::limits::Limits;
use covey_core::links::Links;
use covey_core::port::{
    Announcement, BoxFuture, CertificateIssuer, CertificateKey, Clock, Ids, Link, LinkState, LinkStatus,
    NoPeers,
};
use covey_core::record::Record;
use covey_core::task::{NewResult, ResultBody};
use covey_core::token::TokenKey;
use covey_core::webhook::{
    Attempt, Endpoint, EndpointSpec, NoWebhooks, ProbeFault, WebhookSecret, WebhookSender,
};
use covey_core::{Engine, Parts, Result};
use covey_http::{Api, Metrics, Tokens};
use covey_store::sqlite::{Options, Sqlite};
use covey_token::SigningKey;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The key that may do everything, of the organisation `acme`.
pub const KEY: &str = "key-of-acme";

struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> UnixMs {
        UnixMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap())
    }

    fn monotonic_us(&self) -> u64 {
        self.0.elapsed().as_micros().try_into().unwrap()
    }
}

#[derive(Default)]
struct CountedIds(AtomicU64);

impl CountedIds {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Ids for CountedIds {
    fn task_id(&self) -> TaskId {
        TaskId(Uuid::now_v7())
    }

    fn sn(&self) -> Sn {
        Sn::parse(&format!("made-{}", self.next())).unwrap()
    }

    fn api_key(&self) -> String {
        format!("made-key-{}", self.next())
    }
}

/// A link at which nobody is connected; a test says how it is.
pub struct SilentLink(Mutex<LinkState>);

impl SilentLink {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(LinkState::UP)))
    }

    pub fn set(&self, status: LinkStatus, is_ready: bool) {
        *self.0.lock().unwrap() = LinkState { status, is_ready };
    }
}

impl Link for SilentLink {
    fn announce(&self, _: Announcement) {}
    fn revoke(&self, _: &Sn) {}

    fn name(&self) -> &'static str {
        "none"
    }

    fn admit(&self, _: &Sn) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn state(&self) -> LinkState {
        *self.0.lock().unwrap()
    }
}

/// Signs nothing; the API only hands through what an issuer makes.
#[derive(Default)]
struct PaperIssuer(AtomicU64);

impl CertificateIssuer for PaperIssuer {
    fn issue(&self, _: &Sn, key: CertificateKey<'_>, now: UnixMs) -> Result<IssuedCertificate> {
        let serial_hex = format!("d{:015x}", self.0.fetch_add(1, Ordering::Relaxed));
        Ok(IssuedCertificate {
            record: CertificateRecord { serial_hex, not_after: now.plus_ms(86_400_000) },
            certificate_pem: "leaf and issuing CA".to_owned(),
            ca_pem: "root".to_owned(),
            private_key_pem: (!matches!(key, CertificateKey::OfRequest(_))).then(|| "private key".to_owned()),
        })
    }

    fn issue_claim(&self, not_after: UnixMs, _: UnixMs) -> Result<IssuedCertificate> {
        let serial_hex = format!("c{:015x}", self.0.fetch_add(1, Ordering::Relaxed));
        Ok(IssuedCertificate {
            record: CertificateRecord { serial_hex, not_after },
            certificate_pem: "claim and issuing CA".to_owned(),
            ca_pem: "root".to_owned(),
            private_key_pem: Some("private key".to_owned()),
        })
    }
}

/// Keeps every webhook that it is asked to, and sends nothing.
struct SilentSender;

impl WebhookSender for SilentSender {
    fn secret(&self) -> WebhookSecret {
        WebhookSecret::new("whsec_c2VjcmV0")
    }

    fn check(&self, _: &str, _: Option<&WebhookSecret>) -> Result<()> {
        Ok(())
    }

    fn probe(&self, _: EndpointSpec) -> BoxFuture<'_, std::result::Result<(), ProbeFault>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn send(&self, endpoint: Arc<Endpoint>, record: Arc<Record>, id: String) -> BoxFuture<'_, Attempt> {
        NoWebhooks.send(endpoint, record, id)
    }

    fn changed(&self) {}
}

/// A running API.
pub struct Stage {
    pub engine: Arc<Engine>,
    pub address: SocketAddr,
    pub link: Arc<SilentLink>,
    pub client: reqwest::Client,
    pub shutdown: CancellationToken,
    pub server: JoinHandle<std::io::Result<()>>,
    _folder: TempDir,
}

/// An engine with the key [`KEY`], and its metrics.
pub async fn engine() -> (Arc<Engine>, Arc<Metrics>, TempDir) {
    engine_with(SilentLink::new()).await
}

async fn engine_with(link: Arc<SilentLink>) -> (Arc<Engine>, Arc<Metrics>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock(Instant::now()));
    let metrics = Arc::new(Metrics::new());
    let options = Options::new(folder.path().join("covey.db"));
    let store = Sqlite::open(&options, Arc::clone(&clock), metrics.clone()).unwrap();
    let engine = Engine::new(Parts {
        store: Arc::new(store),
        links: Links::new([link as _]),
        peers: Arc::new(NoPeers),
        issuer: Arc::new(PaperIssuer::default()),
        clock,
        ids: Arc::new(CountedIds::default()),
        observer: metrics.clone(),
        key_hasher: covey_http::key_digest,
        limits: Limits { live_tasks_per_device_max: 50, ..Limits::default() },
        retention: covey_core::retention::RetentionDays::default(),
        budgets: covey_core::budget::Budgets::default(),
        gauge_types: vec![44],
        unit_rule: Arc::new(|_| Ok(())),
        webhooks: Arc::new(SilentSender),
        webhook_retry_ms: 86_400_000,
    });
    assert!(engine.server().api_key_first("acme", "first", KEY).await.unwrap());
    (Arc::new(engine), metrics, folder)
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(|api| api).await
    }

    /// One whose API is set up further.
    pub async fn with(more: impl FnOnce(Api) -> Api) -> Self {
        let link = SilentLink::new();
        let (engine, metrics, folder) = engine_with(Arc::clone(&link)).await;
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let shutdown = CancellationToken::new();
        let tokens = Tokens::new(Vec::new(), Some("urn:covey:stage".to_owned()), None).unwrap();
        let key = SigningKey::read_pem(&SigningKey::generate_pem().unwrap()).unwrap();
        let (made_at, until) = (engine.now(), engine.now().plus_ms(86_400_000));
        let (id, server, jwk) = (key.id().to_owned(), "stage".to_owned(), key.jwk());
        let known = TokenKey { id, server, jwk, made_at, signs_until: until, valid_until: until };
        engine.server().token_key_add(known).await.unwrap();
        tokens.sign_with(key, UnixMs(i64::MAX));
        let api = Api::new(Arc::clone(&engine), metrics, shutdown.clone()).taking_tokens(Arc::new(tokens));
        let router = covey_http::router(more(api));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(covey_http::serve_http(listener, router, None, shutdown.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { engine, address, link, client, shutdown, server, _folder: folder }
    }

    /// A request without a key.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.bare(Method::GET, path).header("x-api-key", KEY)
    }

    pub fn post(&self, path: &str, body: &str) -> RequestBuilder {
        self.bare(Method::POST, path).header("x-api-key", KEY).body(body.to_owned())
    }

    /// Registers a device; its identity.
    pub async fn device(&self, sn: &str) -> DeviceIdentity {
        let body = serde_json::json!({ "sn": sn }).to_string();
        let made = answer(self.post("/api/v1/devices", &body)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        let serial_hex = format!("d{:015x}", made.body["device"]["device_id"].as_u64().unwrap() - 1);
        self.engine.server().device_admit(&Sn::parse(sn).unwrap(), &serial_hex).await.unwrap().unwrap()
    }

    /// Lets a device take its next task and finish it with this body.
    pub async fn run_next(&self, device: &DeviceIdentity, status_code: i64, body: &str) {
        let task = loop {
            if let Some(task) = self.engine.for_device(device).task_next(None).await.unwrap() {
                break task;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        };
        let body = match serde_json::from_str::<Value>(body) {
            Ok(_) => ResultBody::Json(Arc::from(body)),
            Err(_) if body.is_empty() => ResultBody::Empty,
            Err(_) => ResultBody::Text(Arc::from(body)),
        };
        self.engine
            .for_device(device)
            .task_finish(task.id, NewResult { ext_id: 9, status_code, body })
            .await
            .unwrap();
    }

    /// Makes a key of an organisation with some rights.
    pub async fn key(&self, org: &str, rights: &[&str]) -> String {
        let body = serde_json::json!({ "org": org, "name": "a key", "rights": rights }).to_string();
        let made = answer(self.post("/api/v1/api-keys", &body)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        assert_eq!(Rights::parse(rights.iter().copied()).unwrap().names().count(), rights.len());
        made.body["key"].as_str().unwrap().to_owned()
    }
}

/// An answer, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, text, body }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a problem document with that status.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, context: &str) {
        assert_eq!(self.status.as_u16(), status, "{context}: {}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json", "{context}");
        assert_eq!(self.body["status"], status, "{context}");
        assert!(!self.body["detail"].as_str().unwrap().is_empty(), "{context}");
        assert!(!self.body["title"].as_str().unwrap().is_empty(), "{context}");
        assert_eq!(self.body["request_id"], self.header("x-request-id"), "{context}");
    }
}

pub async fn answer(request: RequestBuilder) -> Answer {
    Answer::of(request.send().await.unwrap()).await
}
