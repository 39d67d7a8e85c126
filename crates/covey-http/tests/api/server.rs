//! The listeners: HTTPS, stopping, and what people and machines look at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_core::port::LinkStatus;
use covey_http::Api;
use reqwest::Method;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::stage::{KEY, Stage, answer, engine};

#[tokio::test]
async fn callers_that_wait_are_answered_when_the_server_stops() {
    let stage = Stage::new().await;
    stage.device("d-1").await;
    let began = Instant::now();
    let waiting = stage.post("/api/v1/device-tasks?wait=60", r#"{"ext_task_id":"","device_id":1}"#);
    let (found, ()) = tokio::join!(answer(waiting), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stage.shutdown.cancel();
    });
    assert_eq!(found.status, 202);
    stage.server.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(50), "they waited for all of their time");
    assert!(stage.client.get(format!("http://{}/healthz", stage.address)).send().await.is_err());
}

#[tokio::test]
async fn the_api_is_served_over_tls() {
    let (engine, metrics, _folder) = engine().await;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let _ = provider.clone().install_default();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let shutdown = CancellationToken::new();
    let router = covey_http::router(Api::new(engine, metrics, shutdown.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server =
        tokio::spawn(covey_http::serve_https(listener, Arc::new(tls), router, None, shutdown.clone()));

    let root = reqwest::Certificate::from_der(made.cert.der()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([root])
        .resolve("localhost", address)
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/api/v1/devices", address.port());
    assert_eq!(answer(client.get(&url).header("x-api-key", KEY)).await.status, 200);
    // Who speaks plain HTTP here, or says nothing, does not stop the server, and does not keep it from
    // stopping.
    assert!(client.get(url.replace("https", "http")).send().await.is_err());
    let _silent = tokio::net::TcpStream::connect(address).await.unwrap();
    // So that it has been accepted.
    assert_eq!(answer(client.get(&url).header("x-api-key", KEY)).await.status, 200);
    shutdown.cancel();
    drop(client);
    tokio::time::timeout(Duration::from_secs(8), server).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn health_metrics_and_documents_need_no_key_and_no_internet() {
    let stage = Stage::new().await;
    stage.device("d-1").await;
    let task = r#"{"device_id":1,"ext_task_id":"secret-id"}"#;
    assert_eq!(answer(stage.post("/api/v1/device-tasks/", task)).await.status, 200);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(answer(stage.bare(Method::GET, path)).await.body["status"], "ok", "{path}");
    }
    let page = answer(stage.bare(Method::GET, "/metrics")).await;
    assert!(page.header("content-type").starts_with("text/plain; version=0.0.4"));
    for line in [
        "covey_tasks{status=\"READY\"} 1",
        "covey_step_seconds_count{step=\"create\"} 1",
        "covey_http_requests_total{method=\"POST\",route=\"/api/v1/device-tasks\",status=\"200\"} 1",
    ] {
        assert!(page.text.lines().any(|found| found == line), "{line} is missing in:\n{}", page.text);
    }
    assert!(!page.text.contains("secret-id"));

    let docs = answer(stage.bare(Method::GET, "/docs/")).await;
    assert!(docs.status.is_success() && docs.text.contains("swagger-ui"), "{}", docs.text);
    assert!(!docs.text.contains("https://"), "{}", docs.text);
    let settings = answer(stage.bare(Method::GET, "/docs/swagger-initializer.js")).await;
    assert!(settings.text.contains("/openapi.json"), "{}", settings.text);
    stage.shutdown.cancel();
}

#[tokio::test]
async fn readiness_names_the_parts_and_is_an_unavailable_problem_when_no_link_is_ready() {
    let stage = Stage::new().await;
    let readyz = || answer(stage.bare(Method::GET, "/readyz"));
    let gauge = async |line: &str| {
        let page = answer(stage.bare(Method::GET, "/metrics")).await;
        assert!(page.text.lines().any(|found| found == line), "{line} is missing in:\n{}", page.text);
    };
    let store = json!({"part": "store", "state": "up"});
    let disk = json!({"part": "disk", "state": "up"});
    let link = json!({"part": "link", "name": "none", "state": "up"});
    assert_eq!(readyz().await.body, json!({"status": "ok", "parts": [store, disk, link]}));
    gauge("covey_link_up{link=\"none\"} 1").await;
    gauge("covey_store_writable 1").await;
    gauge("covey_disk_room 1").await;

    // Away for a moment: it is shown, and the server stays where it is.
    let why = "no connection to the broker";
    let down = json!({"part": "link", "name": "none", "state": "down", "why": why});
    stage.link.set(LinkStatus::Down, true);
    let found = readyz().await;
    assert_eq!((found.status.as_u16(), &found.body["parts"]), (200, &json!([store, disk, down])));
    gauge("covey_link_up{link=\"none\"} 0").await;

    stage.link.set(LinkStatus::Down, false);
    let found = readyz().await;
    found.assert_problem(503, "no link is ready");
    assert_eq!(found.body["detail"], format!("link none: {why}"));
    assert_eq!(found.body["parts"], json!([store, disk, down]));
    assert_eq!(found.header("retry-after"), "1");
    assert_eq!(answer(stage.bare(Method::GET, "/healthz")).await.status, 200);

    stage.link.set(LinkStatus::Blocked, false);
    readyz().await.assert_problem(503, "the broker refuses this server");
    stage.link.set(LinkStatus::Up, true);
    assert_eq!(readyz().await.status, 200);
    stage.shutdown.cancel();
}
