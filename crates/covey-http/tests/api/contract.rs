//! What holds for every operation: rights, problems, paths.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use covey_core::event::NewEvent;
use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{Answer, KEY, Stage, answer};

#[tokio::test]
async fn what_is_refused_is_a_problem_document() {
    let stage = Stage::new().await;
    stage.device("d-1").await;
    let tasks = "/api/v1/device-tasks";
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 422),
        ("{}", 422),
        (r#"{"ext_task_id":"","device_id":1,"ttl":44640}"#, 422),
        (r#"{"ext_task_id":"","device_id":1,"method_code":65535}"#, 422),
        (r#"{"ext_task_id":"","device_id":1,"priority":10}"#, 422),
        (r#"{"ext_task_id":"","device_id":77}"#, 404),
        (r#"{"ext_task_id":"","device_sn":"nobody"}"#, 404),
    ] {
        answer(stage.post(tasks, body)).await.assert_problem(status, body);
    }
    let large =
        format!(r#"{{"ext_task_id":"","device_id":1,"payload":{{"a":"{}"}}}}"#, "x".repeat(256 * 1024));
    answer(stage.post(tasks, &large)).await.assert_problem(413, "a large body");
    for path in [
        "/api/v1/device-tasks?page=abc",
        "/api/v1/device-tasks?page=0",
        "/api/v1/device-tasks?size=1001",
        "/api/v1/device-tasks?status=LOCKED",
        "/api/v1/device-tasks?created_after=yesterday",
        "/api/v1/device-tasks?device_id=1&device_id=2",
        "/api/v1/device-tasks/7",
        "/api/v1/device-tasks/0198c0de-0000-7000-8000-000000000001?wait=61",
        "/api/v1/devices?online=maybe",
        "/api/v1/devices/abc",
        "/api/v1/devices/%ff",
    ] {
        answer(stage.get(path)).await.assert_problem(422, path);
    }
    for path in ["/", "/api/v1/nothing", "/api/v1/devices/77"] {
        answer(stage.get(path)).await.assert_problem(404, path);
    }
    let wrong_method = answer(stage.bare(Method::PATCH, tasks)).await;
    wrong_method.assert_problem(405, "PATCH");
    let mut allowed: Vec<_> = wrong_method.header("allow").split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
}

#[tokio::test]
async fn the_title_of_a_refusal_says_what_is_wrong() {
    let stage = Stage::new().await;
    let retention = |body: &'static str| {
        let put = stage.bare(Method::PUT, "/api/v1/retention").header("x-api-key", KEY);
        put.body(body)
    };
    let task = |body: &str| stage.post("/api/v1/device-tasks", body);
    for (request, field, name, title) in [
        (task(r#"{"device_id":1}"#), "ext_task_id", "missing", "A value is missing"),
        (task(r#"{"ext_task_id":""}"#), "device_id", "missing", "A value is missing"),
        (stage.get("/api/v1/device-events/fields?tag=310"), "device_id", "missing", "A value is missing"),
        (
            task(r#"{"ext_task_id":7,"device_id":1}"#),
            "ext_task_id",
            "wrong-type",
            "A value is of the wrong type",
        ),
        (
            task(r#"{"ext_task_id":"","device_id":1,"device_sn":"d-1"}"#),
            "device_id",
            "contradictory",
            "A value contradicts another",
        ),
        (
            task(r#"{"ext_task_id":"","device_id":1,"priority":10}"#),
            "priority",
            "invalid",
            "A value is out of its range or form",
        ),
        (retention(r#"{"evnts":1}"#), "evnts", "unknown", "A name is not known"),
    ] {
        let found = answer(request).await;
        found.assert_problem(422, field);
        let about = [&found.body["field"], &found.body["type"], &found.body["title"]];
        assert_eq!(about, [field, &format!("urn:covey:problem:{name}"), title], "{}", found.text);
        let detail = found.body["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("{field}: ")), "{detail}");
    }
}

#[tokio::test]
async fn a_request_keeps_its_own_id() {
    let stage = Stage::new().await;
    let found = answer(stage.get("/api/v1/nothing").header("x-request-id", "mine-1")).await;
    assert_eq!(found.body["request_id"], "mine-1");
    assert_eq!(found.header("x-request-id"), "mine-1");
}

#[tokio::test]
async fn rights_are_demanded_and_a_revoked_key_is_dead() {
    let stage = Stage::new().await;
    stage.device("d-1").await;
    let key = stage.key("acme", &["tasks:write"]).await;
    let with = |method, path: &str| stage.bare(method, path).header("x-api-key", format!("ApiKey {key}"));
    answer(with(Method::GET, "/api/v1/device-tasks")).await.assert_problem(403, "list");
    answer(with(Method::GET, "/api/v1/devices")).await.assert_problem(403, "devices");
    answer(with(Method::POST, "/api/v1/api-keys").body(r#"{"name":"n","rights":[]}"#))
        .await
        .assert_problem(403, "key");
    let body = r#"{"ext_task_id":"","device_id":1}"#;
    assert_eq!(answer(with(Method::POST, "/api/v1/device-tasks").body(body)).await.status, 200);
    // Its answer would show results, which this key may not see; and nothing must have been made.
    let waiting = with(Method::POST, "/api/v1/device-tasks?wait=1").body(body);
    answer(waiting).await.assert_problem(403, "wait");
    assert_eq!(answer(stage.get("/api/v1/device-tasks")).await.body["total"], 1);

    let keys = answer(stage.get("/api/v1/api-keys")).await.body;
    assert!(!keys.to_string().contains(&key));
    let id = keys.as_array().unwrap().iter().find(|found| found["rights"] == json!(["tasks:write"])).unwrap();
    let revoke = stage.bare(Method::DELETE, &format!("/api/v1/api-keys/{}", id["id"]));
    assert_eq!(answer(revoke.header("x-api-key", KEY)).await.status, 200);
    answer(with(Method::POST, "/api/v1/device-tasks").body(body)).await.assert_problem(401, "revoked");
}

#[tokio::test]
async fn a_key_is_valid_until_it_expires_and_from_its_addresses_alone() {
    let stage = Stage::new().await;
    let make = async |bounds: serde_json::Value| {
        let mut body = json!({"name": "bound", "rights": ["tasks:read"]});
        body.as_object_mut().unwrap().extend(bounds.as_object().unwrap().clone());
        answer(stage.post("/api/v1/api-keys", &body.to_string())).await
    };
    let ask = async |made: &Answer, path: &str| {
        let key = made.body["key"].as_str().unwrap();
        answer(stage.bare(Method::GET, path).header("x-api-key", key).header("x-forwarded-for", "10.0.0.1"))
            .await
    };
    let here = make(json!({"addresses": ["127.9.9.9/8", "::1"]})).await;
    assert_eq!((here.status.as_u16(), &here.body["addresses"]), (201, &json!(["127.0.0.0/8", "::1/128"])));
    let whoami = ask(&here, "/api/v1/whoami").await;
    assert_eq!(
        (&whoami.body["addresses"], &whoami.body["expires_at"]),
        (&here.body["addresses"], &json!(null))
    );
    let elsewhere = make(json!({"addresses": ["10.0.0.0/8"]})).await;
    ask(&elsewhere, "/api/v1/whoami").await.assert_problem(401, "whatever somebody says that is no proxy");
    for (wrong, field) in [
        (json!({"addresses": ["10.0.0.0/33"]}), "addresses"),
        (json!({"addresses": vec!["10.0.0.1"; 17]}), "addresses"),
        (json!({"expires_at": "2001-02-03T04:05:06Z"}), "expires_at"),
    ] {
        let refused = make(wrong).await;
        refused.assert_problem(422, field);
        assert_eq!(refused.body["field"], field);
    }

    let at = time::OffsetDateTime::now_utc() + Duration::from_secs(2);
    let soon = make(json!({"expires_at": covey_api::Time(at.unix_timestamp() * 1_000)})).await;
    assert_eq!(soon.status, 201, "{}", soon.text);
    let mut last = ask(&soon, "/api/v1/whoami").await;
    while last.status == 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        last = ask(&soon, "/api/v1/whoami").await;
    }
    last.assert_problem(401, "expired");
    assert!(time::OffsetDateTime::now_utc().unix_timestamp() >= at.unix_timestamp());
    assert!(last.body["detail"].as_str().unwrap().contains("expired"), "{}", last.text);
}

#[tokio::test]
async fn a_stream_tells_nothing_that_happens_after_its_key_has_expired() {
    let stage = Stage::new().await;
    let device = stage.device("d-1").await;
    let engine = Arc::clone(&stage.engine);
    let _feed = tokio::spawn(async move { while engine.server().feed_next().await.is_ok() {} });
    let happens = async |number: u32| {
        let (payload, reported) = (Arc::from(format!(r#"{{"n":{number}}}"#)), Vec::new());
        let event = NewEvent {
            type_code: 13,
            dev_event_id: number,
            dev_timestamp: None,
            correlation: None,
            payload,
            reported,
        };
        stage.engine.for_device(&device).event_add(event, true).await.unwrap();
    };
    let at = time::OffsetDateTime::now_utc() + Duration::from_secs(3);
    let expires_at = covey_api::Time(at.unix_timestamp() * 1_000);
    let body = json!({"name": "soon", "rights": ["events:read"], "expires_at": expires_at});
    let made = answer(stage.post("/api/v1/api-keys", &body.to_string())).await;
    let with_key = |path: &str| {
        stage.bare(Method::GET, path).header("x-api-key", made.body["key"].as_str().unwrap().to_owned())
    };
    let mut stream = with_key("/api/v1/stream?kind=event").send().await.unwrap();
    assert_eq!(stream.status(), 200);
    happens(1).await;
    let mut told = String::new();
    while !told.contains(r#""n":1"#) {
        told.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    while answer(with_key("/api/v1/whoami")).await.status == 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    happens(2).await;
    told.push_str(&stream.text().await.unwrap());
    assert!(!told.contains(r#""n":2"#), "{told}");
    let end = told.split_once("event: end\n").unwrap().1;
    assert!(end.contains("unauthorized") && end.contains("expired"), "{end}");
}

#[tokio::test]
async fn a_key_counts_as_used_when_it_lets_somebody_in_and_not_before() {
    let stage = Stage::new().await;
    let body = json!({"name": "elsewhere", "rights": ["tasks:read"], "addresses": ["127.0.0.2"]});
    let made = answer(stage.post("/api/v1/api-keys", &body.to_string())).await;
    let last_used_at = async || {
        let keys = answer(stage.get("/api/v1/api-keys")).await.body;
        let found = keys.as_array().unwrap().iter().find(|found| found["id"] == made.body["id"]);
        found.unwrap()["last_used_at"].clone()
    };
    let ask = async |from: u8| {
        let client = reqwest::Client::builder().no_proxy().local_address(IpAddr::from([127, 0, 0, from]));
        let url = format!("http://{}/api/v1/whoami", stage.address);
        let key = made.body["key"].as_str().unwrap();
        answer(client.build().unwrap().get(url).header("x-api-key", key)).await.status.as_u16()
    };
    assert_eq!(ask(1).await, 401);
    // What was submitted before it is committed when this is answered.
    assert!(stage.engine.server().api_key_exists().await.unwrap());
    assert_eq!(last_used_at().await, json!(null));
    // It may have been looked up for the one who was refused.
    assert_eq!((ask(1).await, ask(2).await), (401, 200));
    assert!(stage.engine.server().api_key_exists().await.unwrap());
    assert!(last_used_at().await.is_string());
}

#[tokio::test]
async fn the_list_of_keys_shows_when_each_was_last_used() {
    let stage = Stage::new().await;
    let key = stage.key("acme", &["tasks:read"]).await;
    let last_used_at = async || {
        let keys = answer(stage.get("/api/v1/api-keys")).await.body;
        let found = keys.as_array().unwrap().iter().find(|found| found["rights"] == json!(["tasks:read"]));
        found.unwrap()["last_used_at"].clone()
    };
    assert_eq!(last_used_at().await, json!(null));
    answer(stage.bare(Method::GET, "/api/v1/device-tasks").header("x-api-key", &key)).await;
    // A request does not wait for this to be stored.
    for _ in 0..500 {
        if last_used_at().await.is_string() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the use of a key was not stored");
}

#[tokio::test]
async fn a_device_without_a_certificate_is_registered_and_cannot_connect() {
    let stage = Stage::new().await;
    let made = answer(stage.post("/api/v1/devices", r#"{"sn":"sensor","certificate":"none"}"#)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let members: Vec<_> = made.body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["device"], "there is no certificate to show");
    let sn = covey_core::id::Sn::parse("sensor").unwrap();
    assert_eq!(stage.engine.server().device_of_sn(&sn).await.unwrap(), None);
    let task = answer(stage.post("/api/v1/device-tasks", r#"{"ext_task_id":"","device_sn":"sensor"}"#)).await;
    assert_eq!(task.status, 200, "{}", task.text);
    for bad in [r#"{"certificate":"none","csr":"a request"}"#, r#"{"certificate":"some"}"#] {
        answer(stage.post("/api/v1/devices", bad)).await.assert_problem(422, bad);
    }
}

#[tokio::test]
async fn a_device_is_registered_tagged_and_retired() {
    let stage = Stage::new().await;
    let body = r#"{"sn":"lamp","device_id":42,"tags":{"room":"hall"}}"#;
    let made = answer(stage.post("/api/v1/devices/", body)).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("location"), "/api/v1/devices/42");
    assert_eq!(made.header("cache-control"), "no-store");
    assert_eq!(made.body["private_key_pem"], "private key");
    assert_eq!(made.body["device"]["connection"], Value::Null);
    answer(stage.post("/api/v1/devices", r#"{"sn":"lamp"}"#)).await.assert_problem(409, "taken");
    let with_csr = answer(stage.post("/api/v1/devices", r#"{"csr":"a request"}"#)).await;
    assert_eq!((with_csr.status.as_u16(), with_csr.body.get("private_key_pem")), (201, None));

    let put = stage.bare(Method::PUT, "/api/v1/devices/42").header("x-api-key", KEY);
    let put = answer(put.body(r#"{"tag":"floor","value":"2"}"#)).await;
    assert!(put.body["tag_id"].is_i64(), "{}", put.text);
    for (query, count) in [
        ("", "2"),
        ("?device_id=42", "1"),
        ("?sn=lamp", "1"),
        ("?tag=room", "1"),
        ("?tag=floor:2", "1"),
        ("?tag=floor:3", "0"),
        ("?online=true", "0"),
        ("?size=1", "2"),
    ] {
        let list = answer(stage.get(&format!("/api/v1/devices{query}"))).await;
        assert_eq!(list.header("x-total-count"), count, "{query}: {}", list.text);
    }
    let tags = answer(stage.get("/api/v1/devices/42")).await.body["device_tags"].clone();
    assert_eq!(tags, json!([{"tag": "floor", "value": "2"}, {"tag": "room", "value": "hall"}]));

    let retire = || stage.bare(Method::DELETE, "/api/v1/devices/42").header("x-api-key", KEY);
    let retired = answer(retire()).await;
    assert_eq!((&retired.body["device_id"], &retired.body["sn"]), (&json!(42), &json!("lamp")));
    answer(retire()).await.assert_problem(404, "retired");
}

#[tokio::test]
async fn a_key_is_also_a_bearer_token_and_the_one_in_x_api_key_counts() {
    let stage = Stage::new().await;
    let whoami = |path: &str| stage.bare(Method::GET, path).bearer_auth(KEY);
    assert_eq!(answer(whoami("/api/v1/whoami")).await.body["name"], "first");
    // As on every other path: before the key of a stream's address.
    answer(whoami("/api/v1/stream?api_key=wrong&cursor=x"))
        .await
        .assert_problem(422, "the bearer's key is good");
    let both = whoami("/api/v1/whoami").header("x-api-key", "wrong");
    answer(both).await.assert_problem(401, "both");
}

#[tokio::test]
async fn the_document_names_its_server_and_its_page_keeps_the_key_over_a_reload() {
    let stage = Stage::new().await;
    let document = answer(stage.bare(Method::GET, "/openapi.json")).await.body;
    assert_eq!(document["servers"][0]["url"], "/");
    let schemes: Vec<_> = document["security"].as_array().unwrap().iter().collect();
    assert_eq!(
        schemes,
        [
            &json!({"api_key": []}),
            &json!({"bearer": []}),
            &json!({"cookie": []}),
            &json!({"client_certificate": []}),
            &json!({"session": []}),
        ]
    );
    let initializer = answer(stage.bare(Method::GET, "/docs/swagger-initializer.js")).await.text;
    assert!(initializer.contains("\"persistAuthorization\": true"), "{initializer}");
}

#[tokio::test]
async fn measurements_are_text_of_prometheus_and_openmetrics_for_those_who_ask() {
    let stage = Stage::new().await;
    for (accept, content_type, counter, is_openmetrics) in [
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8", "covey_refusals_total", false),
        (
            "application/openmetrics-text",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "covey_refusals",
            true,
        ),
    ] {
        let found = answer(stage.bare(Method::GET, "/metrics").header("accept", accept)).await;
        assert_eq!((found.status.as_u16(), found.header("content-type")), (200, content_type));
        assert_eq!(found.header("vary"), "accept");
        assert!(found.text.contains(&format!("# TYPE {counter} counter\n")), "{}", found.text);
        assert_eq!(found.text.ends_with("# EOF\n"), is_openmetrics, "{}", found.text);
    }
}
