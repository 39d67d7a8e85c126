//! The listeners: HTTPS, stopping, and what people and machines look at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use covey_http::Api;
use reqwest::Method;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
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
    assert!(began.elapsed() < Duration::from_secs(5));
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
    let server = tokio::spawn(covey_http::serve_https(listener, Arc::new(tls), router, shutdown.clone()));

    let root = reqwest::Certificate::from_der(made.cert.der()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([root])
        .resolve("localhost", address)
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/api/v1/devices", address.port());
    assert_eq!(answer(client.get(&url).header("x-api-key", KEY)).await.status, 200);
    // Who speaks plain HTTP here, or says nothing, does not stop the server.
    assert!(client.get(url.replace("https", "http")).send().await.is_err());
    let _silent = tokio::net::TcpStream::connect(address).await.unwrap();
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(15), server).await.unwrap().unwrap().unwrap();
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
