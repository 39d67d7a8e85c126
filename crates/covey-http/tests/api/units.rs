//! `/units`: TCP units that the server speaks with.

use reqwest::Method;
use serde_json::json;

use crate::stage::{KEY, Stage, answer};

const UNITS: &str = "/api/v1/units";

#[tokio::test]
async fn a_unit_is_listed_changed_and_forgotten() {
    let stage = Stage::new().await;
    let listed = answer(stage.post(UNITS, r#"{"address":"::ffff:192.168.1.20","kind":"read"}"#)).await;
    assert_eq!(listed.status, 201, "{}", listed.text);
    let expected = json!({
        "id": 1, "name": "192.168.1.20", "address": "192.168.1.20", "port": 8888, "kind": "read",
        "resource": "value", "sn": "unit-192_2e168_2e1_2e20", "server": null,
        "created_at": listed.body["created_at"],
    });
    assert_eq!(listed.body, expected);
    let other = r#"{"address":"fd00::20","port":9000,"kind":"update","name":"lamp","resource":"color"}"#;
    assert_eq!(answer(stage.post(UNITS, other)).await.status, 201);
    for (query, names) in [
        ("", json!(["192.168.1.20", "lamp"])),
        ("name=lamp", json!(["lamp"])),
        ("id=1", json!(["192.168.1.20"])),
        ("page=2&size=1", json!(["lamp"])),
    ] {
        let found = answer(stage.get(&format!("{UNITS}?{query}"))).await;
        let found: Vec<_> =
            found.body["items"].as_array().unwrap().iter().map(|unit| &unit["name"]).collect();
        assert_eq!(json!(found), names, "{query}");
    }
    let put = |id: u32, body: &str| {
        let request = stage.bare(Method::PUT, &format!("{UNITS}/{id}")).header("x-api-key", KEY);
        request.header("content-type", "application/json").body(body.to_owned())
    };
    let moved = answer(put(1, r#"{"address":"192.168.1.21","port":9001,"kind":"update"}"#)).await;
    assert_eq!((moved.status.as_u16(), &moved.body["name"]), (200, &json!("192.168.1.20")), "{}", moved.text);
    assert_eq!((&moved.body["address"], &moved.body["port"]), (&json!("192.168.1.21"), &json!(9001)));
    answer(put(1, r#"{"address":"fd00::20","port":9000,"kind":"read"}"#)).await.assert_problem(409, "taken");
    answer(put(99, r#"{"address":"192.168.1.22","kind":"read"}"#)).await.assert_problem(404, "no unit");
    let remove = || stage.bare(Method::DELETE, &format!("{UNITS}/1")).header("x-api-key", KEY);
    assert_eq!(answer(remove()).await.body["port"], 9001);
    answer(remove()).await.assert_problem(404, "it is gone");
}

#[tokio::test]
async fn what_is_wrong_with_a_unit_is_said_by_its_field() {
    let stage = Stage::new().await;
    for (body, field) in [
        (json!({"kind": "read"}), "address"),
        (json!({"address": "lamp", "kind": "read"}), "address"),
        (json!({"address": "0.0.0.0", "kind": "read"}), "address"),
        (json!({"address": "192.168.1.20"}), "kind"),
        (json!({"address": "192.168.1.20", "kind": "write"}), "kind"),
        (json!({"address": "192.168.1.20", "kind": "read", "port": 0}), "port"),
        (json!({"address": "192.168.1.20", "kind": "read", "port": 65_536}), "port"),
        (json!({"address": "192.168.1.20", "kind": "read", "port": "8888"}), "port"),
        (json!({"address": "192.168.1.20", "kind": "read", "name": "x".repeat(65)}), "name"),
        (json!({"address": "192.168.1.20", "kind": "read", "resource": "a b"}), "resource"),
    ] {
        let refused = answer(stage.post(UNITS, &body.to_string())).await;
        refused.assert_problem(422, field);
        assert_eq!(refused.body["field"], field, "{body}");
    }
    assert_eq!(answer(stage.get(UNITS)).await.body["total"], 0);
}
