//! What browsers are told: pages of which origins may call (CORS), and answers
//! that are compressed.

use covey_http::AllowedOrigins;
use reqwest::{Method, StatusCode};

use crate::stage::{KEY, Stage, answer};

const ALLOWED: &str = "https://dashboard.example";
const DEVICES: &str = "/api/v1/devices";

async fn with_dashboard() -> Stage {
    Stage::with(|api| api.allowing_origins(AllowedOrigins::read([ALLOWED]).unwrap())).await
}

/// The names in a header that lists some.
fn names(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).collect()
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_call_and_see_what_it_needs() {
    let stage = with_dashboard().await;
    let preflight = stage
        .bare(Method::OPTIONS, DEVICES)
        .header("origin", ALLOWED)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-api-key");
    let told = answer(preflight).await;
    assert_eq!(told.status, StatusCode::OK);
    assert_eq!(told.header("access-control-allow-origin"), ALLOWED);
    assert_eq!(told.header("access-control-allow-credentials"), "true");
    assert_ne!(told.header("x-request-id"), "");
    assert!(names(told.header("access-control-allow-methods")).contains(&"PATCH"));
    for name in ["x-api-key", "authorization", "content-type", "idempotency-key", "if-match", "prefer"] {
        assert!(names(told.header("access-control-allow-headers")).contains(&name), "{name}");
    }

    let list = answer(stage.get(DEVICES).header("origin", ALLOWED)).await;
    assert_eq!((list.status, list.header("access-control-allow-origin")), (StatusCode::OK, ALLOWED));
    for name in ["location", "etag", "idempotent-replayed", "covey-warning", "x-request-id", "x-total-count"]
    {
        assert!(names(list.header("access-control-expose-headers")).contains(&name), "{name}");
    }
    assert!(list.headers.get_all("vary").iter().any(|names| names.to_str().unwrap().contains("origin")));
    // A page can read why it was refused.
    let refused = answer(stage.bare(Method::GET, DEVICES).header("origin", ALLOWED)).await;
    refused.assert_problem(401, "no key");
    assert_eq!(refused.header("access-control-allow-origin"), ALLOWED);
}

#[tokio::test]
async fn a_page_of_any_other_origin_is_told_nothing_and_by_default_nobody_is_on_the_list() {
    for (stage, origin) in [
        (with_dashboard().await, "https://evil.example"),
        (with_dashboard().await, "http://dashboard.example"),
        (with_dashboard().await, "null"),
        (Stage::new().await, ALLOWED),
    ] {
        let requests = [
            stage.get(DEVICES).header("origin", origin),
            stage
                .bare(Method::OPTIONS, DEVICES)
                .header("origin", origin)
                .header("access-control-request-method", "POST"),
        ];
        for request in requests {
            let found = answer(request).await;
            assert_eq!(found.header("access-control-allow-origin"), "", "{origin}");
        }
    }
    let plain = answer(Stage::new().await.bare(Method::OPTIONS, DEVICES)).await;
    plain.assert_problem(405, "without a list an OPTIONS is as before");
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_take_it() {
    let stage = Stage::new().await;
    let compressed = async |path: &str| {
        let request =
            stage.bare(Method::GET, path).header("x-api-key", KEY).header("accept-encoding", "gzip");
        let response = request.send().await.unwrap();
        let encoding = response.headers().get("content-encoding").cloned();
        let body = response.bytes().await.unwrap();
        // RFC 1952 §2.3.1.
        assert_eq!(encoding.is_some(), body.starts_with(&[0x1f, 0x8b]), "{path}");
        encoding.is_some_and(|encoding| encoding == "gzip").then_some(body.len())
    };
    let whole = answer(stage.bare(Method::GET, "/openapi.json")).await;
    assert_eq!(whole.header("content-encoding"), "");
    assert!(compressed("/openapi.json").await.unwrap() < whole.text.len() / 4);
    assert!(compressed("/metrics").await.is_some());
    assert_eq!(compressed("/api/v1/whoami").await, None);

    let stream = stage.get("/api/v1/stream?cursor=0").header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(stream.headers().get("content-encoding"), None);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
}
