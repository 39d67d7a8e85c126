//! Nodes: listing, approving, blocking, renaming, removing them; and what they look like as devices.

use std::sync::Arc;

use covey_core::node::{Admission, Admitted, GatewayName, NodeAdmit, NodeName};
use covey_core::task::{NewResult, ResultBody};
use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{KEY, Stage, answer};

const NODES: &str = "/api/v1/nodes";

async fn seen(stage: &Stage, uid: &str, admission: Admission) -> Admitted {
    let key = stage.engine.server().api_key_check(KEY).await.unwrap().unwrap();
    let asked = NodeAdmit {
        org: key.org,
        name: NodeName::parse(GatewayName::parse("coap").unwrap(), uid).unwrap(),
        address: "::ffff:192.0.2.7".to_owned(),
        is_passing: false,
        admission,
        server: "server-1".to_owned(),
    };
    stage.engine.server().node_admit(asked).await.unwrap()
}

#[tokio::test]
async fn a_node_waits_is_approved_renamed_blocked_and_removed() {
    let stage = Stage::new().await;
    assert_eq!(seen(&stage, "a/1", Admission::Approve).await, Admitted::Waiting);
    let listed = answer(stage.get(&format!("{NODES}?state=waiting"))).await;
    assert_eq!((listed.status.as_u16(), &listed.body["total"]), (200, &json!(1)), "{}", listed.text);
    let waiting = &listed.body["items"][0];
    let expected = json!({
        "id": 1, "gateway": "coap", "uid": "a/1", "state": "waiting", "address": "::ffff:192.0.2.7", "passing": false,
        "device_id": null, "sn": null, "first_seen": waiting["first_seen"], "last_asked": waiting["last_asked"],
    });
    assert_eq!(*waiting, expected);
    let early = answer(stage.post(&format!("{NODES}/1/rename"), r#"{"name":"window"}"#)).await;
    early.assert_problem(409, "it has no device yet");
    let approved = answer(stage.post(&format!("{NODES}/1/approve"), "")).await;
    assert_eq!(approved.status, 200, "{}", approved.text);
    assert_eq!((&approved.body["state"], &approved.body["sn"]), (&json!("admitted"), &json!("coap-a_2f1")));
    let renamed = answer(stage.post(&format!("{NODES}/1/rename"), r#"{"name":"window"}"#)).await;
    assert_eq!(renamed.body, json!({"id": 1, "name": "window"}));
    for bad in [json!({"name": "x".repeat(1025)}), json!({"name": "a\0"}), json!({})] {
        let refused = answer(stage.post(&format!("{NODES}/1/rename"), &bad.to_string())).await;
        refused.assert_problem(422, "not a name");
        assert_eq!(refused.body["field"], "name");
    }
    let devices = answer(stage.get("/api/v1/devices")).await.body;
    assert_eq!(devices[0]["node"], json!({"gateway": "coap", "uid": "a/1"}));
    assert_eq!(devices[0]["device_tags"], json!([{"tag": "name", "value": "window"}]));
    let one = answer(stage.get(&format!("/api/v1/devices/{}", devices[0]["device_id"]))).await.body;
    assert_eq!(one["node"], devices[0]["node"]);
    let own = answer(stage.post("/api/v1/devices", r#"{"sn":"d-1"}"#)).await;
    assert_eq!(own.status, 201, "{}", own.text);
    let devices = answer(stage.get("/api/v1/devices")).await.body;
    assert!(devices[1].get("node").is_none(), "{}", devices[1]);
    let blocked = answer(stage.post(&format!("{NODES}/1/block/"), "")).await;
    assert_eq!((blocked.status.as_u16(), &blocked.body["state"]), (200, &json!("blocked")));
    assert_eq!(seen(&stage, "a/1", Admission::Open).await, Admitted::Blocked);
    let metrics = answer(stage.bare(Method::GET, "/metrics")).await.text;
    assert!(metrics.lines().any(|line| line == "covey_nodes{state=\"blocked\"} 1"), "{metrics}");
    let remove = || stage.bare(Method::DELETE, &format!("{NODES}/1")).header("x-api-key", KEY);
    let removed = answer(remove()).await;
    assert_eq!((removed.status.as_u16(), &removed.body["sn"]), (200, &json!("coap-a_2f1")));
    answer(remove()).await.assert_problem(404, "it is gone");
    assert_eq!(answer(stage.get("/api/v1/devices")).await.body.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_listed_node_joins_whoever_else_may_and_lists_are_filtered() {
    let stage = Stage::new().await;
    let add =
        |gateway: &str, uid: &str| stage.post(NODES, &json!({"gateway": gateway, "uid": uid}).to_string());
    let listed = answer(add("coap", "1234")).await;
    assert_eq!((listed.status.as_u16(), &listed.body["state"]), (201, &json!("admitted")), "{}", listed.text);
    answer(add("coap", "1234")).await.assert_problem(409, "it is listed");
    let address = answer(add("ws", "@::FFFF:192.0.2.7")).await;
    assert_eq!(address.body["uid"], "@192.0.2.7");
    assert!(matches!(seen(&stage, "1234", Admission::Known).await, Admitted::Yes(_)));
    assert_eq!(seen(&stage, "1235", Admission::Known).await, Admitted::Unknown);
    for (gateway, uid, field) in
        [("Coap", "1", "gateway"), ("", "1", "gateway"), ("coap", "", "uid"), ("coap", "a\n", "uid")]
    {
        let refused = answer(add(gateway, uid)).await;
        refused.assert_problem(422, field);
        assert_eq!(refused.body["field"], field);
    }
    for (query, uids) in [
        ("", json!(["1234", "@192.0.2.7"])),
        ("gateway=ws", json!(["@192.0.2.7"])),
        ("uid=1234", json!(["1234"])),
        ("id=2", json!(["@192.0.2.7"])),
        ("state=waiting", json!([])),
        ("page=2&size=1", json!(["@192.0.2.7"])),
    ] {
        let found = answer(stage.get(&format!("{NODES}?{query}"))).await;
        let found: Vec<_> = found.body["items"].as_array().unwrap().iter().map(|node| &node["uid"]).collect();
        assert_eq!(json!(found), uids, "{query}");
    }
    for (query, field) in [
        ("state=new", "state"),
        ("gateway=A", "gateway"),
        ("gateway=", "gateway"),
        ("id=x", "id"),
        ("size=0", "size"),
    ] {
        let refused = answer(stage.get(&format!("{NODES}?{query}"))).await;
        refused.assert_problem(422, query);
        assert_eq!(refused.body["field"], field);
    }
    for path in ["approve", "block", "rename"] {
        answer(stage.post(&format!("{NODES}/99/{path}"), r#"{"name":"x"}"#)).await.assert_problem(404, path);
    }
}

#[tokio::test]
async fn a_value_is_set_by_a_call_and_what_no_node_can_do_is_answered_at_once() {
    let stage = Stage::new().await;
    let Admitted::Yes(device) = seen(&stage, "1", Admission::Open).await else { panic!("not admitted") };
    let call = |method: &str, payload: Value| {
        let body = json!({"ext_task_id": "", "device_sn": "coap-1", "method": method, "payload": payload});
        stage.post("/api/v1/device-tasks?wait=20", &body.to_string())
    };
    // A gateway's part: what is to be written is asked for until nothing is.
    let gateway = async |writes: usize| {
        let mut written = Vec::new();
        while written.len() < writes {
            let Some(next) = stage.engine.for_device(&device).write_next(&[]).await.unwrap() else {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                continue;
            };
            let result = NewResult { ext_id: 0, status_code: 204, body: ResultBody::Empty };
            stage.engine.for_device(&device).task_finish(next.task, result).await.unwrap();
            written.extend(next.values);
        }
        written
    };
    let (done, written) = tokio::join!(answer(call("set", json!({"led": "1"}))), gateway(1));
    assert_eq!((done.status.as_u16(), &done.body["status_name"]), (200, &json!("DONE")), "{}", done.text);
    assert_eq!(done.body["results"][0]["status_code"], 204);
    assert_eq!(written, [("led".to_owned(), Arc::from("\"1\""))]);
    for (method, payload, status_code) in
        [("blink", json!({}), 501), ("set", json!({}), 400), ("set", json!({"a b": "1"}), 400)]
    {
        let looking = async {
            loop {
                assert_eq!(stage.engine.for_device(&device).write_next(&[]).await.unwrap(), None);
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let done = tokio::select! {
            done = answer(call(method, payload)) => done,
            () = looking => unreachable!("it looks for ever"),
        };
        let result = &done.body["results"][0];
        assert_eq!(
            (&done.body["status_name"], &result["status_code"]),
            (&json!("FAILED"), &json!(status_code))
        );
        assert!(!result["result"]["value"].as_str().unwrap().is_empty(), "{}", done.text);
    }
}
