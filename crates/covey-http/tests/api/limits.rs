//! Limits of organisations' and keys' own, and what answers say of a rate.

use reqwest::Method;
use serde_json::json;

use crate::stage::{KEY, Stage, answer};

fn put(stage: &Stage, path: &str, body: &str) -> reqwest::RequestBuilder {
    let request = stage.bare(Method::PUT, &format!("/api/v1/{path}/limits")).header("x-api-key", KEY);
    request.header("content-type", "application/json").body(body.to_owned())
}

#[tokio::test]
async fn a_key_that_asks_more_than_it_may_is_told_when_to_come_again_and_others_are_not_held_up() {
    let stage = Stage::new().await;
    let (key, other) =
        (stage.key("acme", &["devices:read"]).await, stage.key("acme", &["devices:read"]).await);
    let keys = answer(stage.get("/api/v1/api-keys")).await;
    let id = keys.body.as_array().unwrap().iter().map(|key| key["id"].as_i64().unwrap()).max().unwrap() - 1;
    let ask = |key: &str| answer(stage.bare(Method::GET, "/api/v1/devices").header("x-api-key", key));
    let before = ask(&key).await;
    assert_eq!((before.header("ratelimit"), before.header("ratelimit-policy")), ("", ""), "there is no rate");
    let set = answer(put(&stage, &format!("api-keys/{id}"), r#"{"requests_per_s":3,"streams":7}"#)).await;
    assert_eq!(set.status, 200, "{}", set.text);
    assert_eq!((&set.body["own"]["requests_per_s"], &set.body["own"]["requests"]), (&json!(3), &json!(null)));
    assert_eq!(
        (&set.body["in_force"]["streams"], &set.body["in_force"]["requests"]),
        (&json!(7), &json!(2_500))
    );
    assert_eq!(answer(stage.get(&format!("/api/v1/api-keys/{id}/limits"))).await.body, set.body);
    let mut statuses = Vec::new();
    for _ in 0..12 {
        let found = ask(&key).await;
        assert_eq!(found.header("ratelimit-policy"), "\"key\";q=3;w=1");
        assert!(found.header("ratelimit").starts_with("\"key\";r="), "{}", found.header("ratelimit"));
        if found.status == 429 {
            found.assert_problem(429, "too many");
            assert_eq!(found.header("retry-after"), "1");
            assert!(found.text.contains("more than 3 requests a second"), "{}", found.text);
        }
        statuses.push(found.status.as_u16());
    }
    assert_eq!(statuses[..3], [200; 3]);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(ask(&other).await.status, 200);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(ask(&key).await.status, 200, "as it was told");
    // That of the organisation is of all its keys.
    let set = answer(put(&stage, "orgs/1", r#"{"requests_per_s":2}"#)).await;
    assert_eq!(set.status, 200, "{}", set.text);
    let mut refused = 0;
    for _ in 0..6 {
        let found = ask(&other).await;
        assert_eq!(found.header("ratelimit-policy"), "\"organisation\";q=2;w=1");
        refused += usize::from(found.status == 429);
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn limits_are_checked_and_those_of_a_key_are_within_its_organisations() {
    let stage = Stage::new().await;
    for (path, body, field) in [
        ("orgs/1", r#"{"streams":0}"#, "streams"),
        ("orgs/1", r#"{"streams":6001}"#, "streams"),
        ("orgs/1", r#"{"requests":-1}"#, "requests"),
        ("orgs/1", r#"{"requests_per_s":1000001}"#, "requests_per_s"),
        ("orgs/1", r#"{"kept_bytes":1125899906842625}"#, "kept_bytes"),
        ("orgs/1", r#"{"open_tasks":4294967296}"#, "open_tasks"),
        ("orgs/1", r#"{"waiting":"many"}"#, "waiting"),
        ("api-keys/1", r#"{"waiting":7501}"#, "waiting"),
    ] {
        let found = answer(put(&stage, path, body)).await;
        found.assert_problem(422, body);
        assert_eq!(found.body["field"], field, "{}", found.text);
    }
    assert_eq!(answer(put(&stage, "orgs/1", r#"{"streams":5,"work_per_s":100}"#)).await.status, 200);
    let above = answer(put(&stage, "api-keys/1", r#"{"streams":6}"#)).await;
    above.assert_problem(422, "more than the organisation has");
    assert_eq!(answer(put(&stage, "api-keys/1", r#"{"streams":5}"#)).await.status, 200);
    answer(put(&stage, "orgs/4711", "{}")).await.assert_problem(404, "no such organisation");
    answer(put(&stage, "api-keys/4711", "{}")).await.assert_problem(404, "no such key");
    let reset = answer(put(&stage, "orgs/1", "{}")).await;
    assert_eq!(
        (&reset.body["own"]["streams"], &reset.body["in_force"]["streams"]),
        (&json!(null), &json!(6_000))
    );
}
