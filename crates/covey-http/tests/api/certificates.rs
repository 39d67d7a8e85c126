//! Client certificates as credentials: registered ones open, forged ones do not.

use std::net::SocketAddr;
use std::sync::Arc;

use covey_core::Engine;
use covey_core::id::UnixMs;
use covey_http::{AllowedOrigins, Api, HANDED_ON_HEADER, Tokens};
use covey_pki::{Authority, CertificateLifetimes, ServerCertResolver, ServerNames, https_server_config};
use covey_token::SigningKey;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use reqwest::{Client, Identity, RequestBuilder};
use serde_json::json;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::stage::{Answer, KEY, answer, engine};

const KEYS: &str = "/api/v1/api-keys";
const WHOAMI: &str = "/api/v1/whoami";

/// The API over TLS as `covey up` serves it, with a CA of its own.
struct TlsStage {
    address: SocketAddr,
    authority: Authority,
    shutdown: CancellationToken,
    _engine: Arc<Engine>,
    _folders: [TempDir; 2],
}

/// A certificate with its key, both in PEM.
#[derive(Clone)]
struct Shown {
    certificate: String,
    key: String,
}

impl Shown {
    /// Signed by nobody but its owner.
    fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(["app.example".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    fn of_service(authority: &Authority, name: &str) -> Self {
        let made = authority.issue_service_client(name, OffsetDateTime::now_utc()).unwrap();
        Self { certificate: made.certificate_pem, key: made.private_key_pem.into_exposed() }
    }

    /// As nginx writes `$ssl_client_escaped_cert`.
    fn escaped(&self) -> String {
        let escape = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        };
        self.certificate.bytes().map(escape).collect()
    }
}

impl TlsStage {
    async fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (engine, metrics, folder) = engine().await;
        let pki = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let authority = Authority::open_or_create(pki.path(), CertificateLifetimes::default(), now).unwrap();
        let certificate = authority.server_certificate(&ServerNames::from_hosts(["localhost"]), now).unwrap();
        let resolver = Arc::new(ServerCertResolver::new(&certificate).unwrap());
        let tls = https_server_config(resolver).unwrap();
        let shutdown = CancellationToken::new();
        let tokens = Tokens::new(Vec::new(), Some("urn:covey:stage".to_owned()), None).unwrap();
        let key = SigningKey::read_pem(&SigningKey::generate_pem().unwrap()).unwrap();
        tokens.sign_with(key, UnixMs(i64::MAX));
        let api = Api::new(Arc::clone(&engine), metrics, shutdown.clone()).taking_tokens(Arc::new(tokens));
        let api = api.trusting_proxies_of(authority.root_der()).unwrap();
        let api = api.allowing_origins(AllowedOrigins::read(["https://dashboard.example"]).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(covey_http::serve_https(listener, tls, covey_http::router(api), None, shutdown.clone()));
        Self { address, authority, shutdown, _engine: engine, _folders: [folder, pki] }
    }

    /// A client that shows this certificate.
    fn client(&self, shown: Option<&Shown>) -> Client {
        let root = reqwest::Certificate::from_pem(self.authority.root_pem().as_bytes()).unwrap();
        let builder = Client::builder().no_proxy().tls_certs_only([root]).resolve("localhost", self.address);
        let builder = match shown {
            Some(Shown { certificate, key }) => {
                builder.identity(Identity::from_pem(format!("{key}{certificate}").as_bytes()).unwrap())
            }
            None => builder,
        };
        builder.build().unwrap()
    }

    fn get(&self, client: &Client, path: &str) -> RequestBuilder {
        client.get(format!("https://localhost:{}{path}", self.address.port()))
    }

    async fn register(&self, shown: &str, name: &str, rights: &[&str]) -> Answer {
        let body = json!({"name": name, "rights": rights, "certificate_pem": shown}).to_string();
        let url = format!("https://localhost:{}{KEYS}", self.address.port());
        answer(self.client(None).post(url).header("x-api-key", KEY).body(body)).await
    }

    async fn whoami(&self, client: &Client) -> Answer {
        answer(self.get(client, WHOAMI)).await
    }
}

impl Drop for TlsStage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn a_registered_certificate_is_as_good_as_a_key_until_it_is_revoked() {
    let stage = TlsStage::new().await;
    let shown = Shown::self_signed(|_| ());
    let client = stage.client(Some(&shown));
    stage.whoami(&client).await.assert_problem(401, "before it is registered");

    let made = stage.register(&shown.certificate, "app", &["tasks:read", "keys:write"]).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.body.get("key"), None);
    let fingerprint = made.body["certificate_sha256"].as_str().unwrap().to_owned();
    assert_eq!(fingerprint.len(), 64);
    let known = stage.whoami(&client).await;
    let org_id = known.body["org_id"].clone();
    assert!(org_id.is_i64());
    let expected = json!({
        "org_id": org_id, "org": "acme", "name": "app", "kind": "key", "rights": ["tasks:read", "keys:write"],
        "expires_at": null, "addresses": [], "grants": [],
    });
    assert_eq!(known.body, expected);
    assert_eq!(known.header("x-covey-rights"), "tasks:read keys:write");
    assert_eq!(known.header("x-covey-org-id"), org_id.to_string());
    answer(stage.get(&client, "/api/v1/devices")).await.assert_problem(403, "a right that it lacks");
    // Nobody passes for it by saying its fingerprint, which is no secret.
    for said in
        [format!("certificate:{fingerprint}"), format!("ApiKey certificate:{fingerprint}"), fingerprint]
    {
        let request = stage.get(&stage.client(None), WHOAMI).header("x-api-key", &said);
        answer(request).await.assert_problem(401, &said);
    }
    // Who names a key means the key.
    answer(stage.get(&client, WHOAMI).header("x-api-key", "wrong")).await.assert_problem(401, "wrong key");
    let with_key = answer(stage.get(&client, WHOAMI).header("x-api-key", KEY)).await;
    assert_eq!(with_key.body["name"], "first");

    stage.register(&shown.certificate, "again", &[]).await.assert_problem(409, "twice");
    let url = format!("https://localhost:{}{KEYS}/{}", stage.address.port(), made.body["id"]);
    let revoked = answer(stage.client(None).delete(url).header("x-api-key", KEY)).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    stage.whoami(&client).await.assert_problem(401, "revoked");
    // With other rights, under the same certificate.
    assert_eq!(stage.register(&shown.certificate, "anew", &["devices:read"]).await.status, 201);
    assert_eq!(stage.whoami(&client).await.body["name"], "anew");
    assert_eq!(answer(stage.get(&client, "/api/v1/devices")).await.status, 200);
}

#[tokio::test]
async fn a_token_does_not_outlive_the_certificate_that_it_is_made_from() {
    let stage = TlsStage::new().await;
    let ends_at = OffsetDateTime::now_utc() + Duration::minutes(5);
    let shown = Shown::self_signed(|params| params.not_after = ends_at);
    let client = stage.client(Some(&shown));
    assert_eq!(stage.register(&shown.certificate, "app", &["tasks:read"]).await.status, 201);
    let url = format!("https://localhost:{}/api/v1/auth/token", stage.address.port());
    for (body, longest) in [("", 300), (r#"{"expires_in": 86400}"#, 300), (r#"{"expires_in": 60}"#, 60)] {
        let made = answer(client.post(&url).body(body)).await;
        assert_eq!(made.status, 200, "{}", made.text);
        let seconds = made.body["expires_in"].as_i64().unwrap();
        assert!((longest - 60..=longest).contains(&seconds), "{body} {seconds}");
    }
    let with_key = answer(client.post(&url).header("x-api-key", KEY)).await;
    assert_eq!(with_key.body["expires_in"], 900, "the certificate is not what counts");
}

#[tokio::test]
async fn a_page_of_another_site_does_not_call_with_the_browsers_certificate() {
    let stage = TlsStage::new().await;
    let shown = Shown::self_signed(|_| ());
    assert_eq!(stage.register(&shown.certificate, "browser", &[]).await.status, 201);
    let client = stage.client(Some(&shown));
    for (header, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        let request = stage.get(&client, WHOAMI).header(header, value);
        answer(request).await.assert_problem(403, value);
        // A page that knows a key was given it.
        let with_key = stage.get(&client, WHOAMI).header(header, value).header("x-api-key", KEY);
        assert_eq!(answer(with_key).await.status, 200, "{value}");
    }
    let own = format!("https://localhost:{}", stage.address.port());
    assert_eq!(answer(stage.get(&client, WHOAMI).header("origin", own)).await.status, 200);

    let allowed = stage.get(&client, WHOAMI).header("origin", "https://dashboard.example");
    let allowed = answer(allowed.header("sec-fetch-site", "cross-site")).await;
    assert_eq!((allowed.status.as_u16(), &allowed.body["name"]), (200, &json!("browser")));
    assert_eq!(allowed.header("access-control-allow-origin"), "https://dashboard.example");
    assert_eq!(allowed.header("access-control-allow-credentials"), "true");
}

#[tokio::test]
async fn only_a_trusted_proxy_hands_certificates_on() {
    let stage = TlsStage::new().await;
    let shown = Shown::self_signed(|_| ());
    assert_eq!(stage.register(&shown.certificate, "app", &[]).await.status, 201);
    let handing = |client: &Client, value: &str| stage.get(client, WHOAMI).header(HANDED_ON_HEADER, value);

    let proxy = stage.client(Some(&Shown::of_service(&stage.authority, "covey.proxy")));
    assert_eq!(answer(handing(&proxy, &shown.escaped())).await.body["name"], "app");
    answer(stage.get(&proxy, WHOAMI)).await.assert_problem(401, "nothing handed on");
    let unknown = Shown::self_signed(|_| ()).escaped();
    for bad in ["", "x", "%", "-----BEGIN%20CERTIFICATE-----", &unknown] {
        answer(handing(&proxy, bad)).await.assert_problem(401, bad);
    }
    let twice = handing(&proxy, &shown.escaped()).header(HANDED_ON_HEADER, shown.escaped());
    answer(twice).await.assert_problem(401, "two certificates");
    let with_key = handing(&proxy, &shown.escaped()).header("x-api-key", KEY);
    assert_eq!(answer(with_key).await.body["name"], "first");

    // Neither another name of the same CA, nor the name from another CA, nor no certificate at all.
    let folder = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let other = Authority::open_or_create(folder.path(), CertificateLifetimes::default(), now).unwrap();
    let device = stage.authority.issue_device("covey-proxy", now).unwrap();
    let device =
        Shown { certificate: device.certificate_pem, key: device.private_key_pem.unwrap().into_exposed() };
    let self_named = Shown::self_signed(|params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "covey.proxy");
    });
    let strangers = [
        None,
        Some(Shown::of_service(&stage.authority, "covey.server")),
        Some(Shown::of_service(&stage.authority, "x.covey.proxy")),
        Some(Shown::of_service(&other, "covey.proxy")),
        Some(device),
        Some(self_named),
    ];
    for (number, stranger) in strangers.iter().enumerate() {
        let client = stage.client(stranger.as_ref());
        answer(handing(&client, &shown.escaped())).await.assert_problem(401, &number.to_string());
    }
    // The header changes nothing for a caller with a certificate of its own.
    let own = Shown::self_signed(|_| ());
    assert_eq!(stage.register(&own.certificate, "own", &[]).await.status, 201);
    let client = stage.client(Some(&own));
    assert_eq!(answer(handing(&client, &shown.escaped())).await.body["name"], "own");
}

#[tokio::test]
async fn a_proxy_never_calls_in_its_own_name_and_hands_on_nothing_that_is_over() {
    let stage = TlsStage::new().await;
    let identity = Shown::of_service(&stage.authority, "covey.proxy");
    assert_eq!(stage.register(&identity.certificate, "proxy", &["tasks:read"]).await.status, 201);
    let proxy = stage.client(Some(&identity));
    stage.whoami(&proxy).await.assert_problem(401, "for a client that showed nothing");

    let brief =
        Shown::self_signed(|params| params.not_after = OffsetDateTime::now_utc() + Duration::seconds(2));
    assert_eq!(stage.register(&brief.certificate, "brief", &[]).await.status, 201);
    let direct = stage.client(Some(&brief));
    let handed_on = || stage.get(&proxy, WHOAMI).header(HANDED_ON_HEADER, brief.escaped());
    assert_eq!(answer(handed_on()).await.status, 200);
    assert_eq!(stage.whoami(&direct).await.status, 200);
    tokio::time::sleep(std::time::Duration::from_millis(3_100)).await;
    answer(handed_on()).await.assert_problem(401, "handed on after its end");
    // Its connection stands, or its session is resumed: neither helps.
    match stage.get(&direct, WHOAMI).send().await {
        Ok(response) => assert_eq!(response.status(), 401),
        Err(error) => assert!(error.is_connect(), "{error}"),
    }
}

#[tokio::test]
async fn what_can_be_no_credential_is_not_registered() {
    let stage = TlsStage::new().await;
    let shown = Shown::self_signed(|_| ());
    let over = Shown::self_signed(|params| params.not_after = OffsetDateTime::now_utc() - Duration::hours(1));
    let for_servers = Shown::self_signed(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let long = format!("{}{}", shown.certificate, " ".repeat(16 * 1024));
    for bad in [
        "",
        "not PEM",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &over.certificate,
        &for_servers.certificate,
        &format!("{}{}", shown.key, shown.certificate),
        &long,
    ] {
        let refused = stage.register(bad, "app", &[]).await;
        refused.assert_problem(422, bad);
        assert_eq!(refused.body["field"], "certificate_pem", "{bad}");
    }
    let chain = format!("{}{}", shown.certificate, over.certificate);
    assert_eq!(stage.register(&chain, "a leaf and what follows it", &[]).await.status, 201);
    let keys = answer(stage.get(&stage.client(None), KEYS).header("x-api-key", KEY)).await.body;
    assert_eq!(keys.as_array().map(Vec::len), Some(2), "{keys}");
    assert!(keys.as_array().unwrap().iter().all(|key| key.get("key").is_none()));
}
