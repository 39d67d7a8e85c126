//! Tasks: making them, waiting for them, repeating requests, lists.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::stage::{KEY, Stage, answer};

const TASKS: &str = "/api/v1/device-tasks";

#[tokio::test]
async fn a_call_is_answered_with_its_result_in_the_same_request() {
    let stage = Stage::new().await;
    let device = stage.device("d-1").await;
    let result = r#"{ "dt" : [ {"cl": 5.0} ] }"#;
    let body =
        r#"{"ext_task_id":"e-1","device_id":1,"ttl":2,"priority":3,"method":"blink","payload":{"a":1}}"#;
    let post = stage.post(&format!("{TASKS}?wait=20"), body);
    let (done, ()) = tokio::join!(answer(post), stage.run_next(&device, 200, result));
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(done.text.contains(result), "not as the device sent it: {}", done.text);
    let task = &done.body;
    let header = json!({"ext_task_id": "e-1", "device_id": 1, "method_code": 20, "priority": 3, "ttl": 2});
    assert_eq!(task["header"], header);
    assert_eq!((&task["status"], &task["status_name"]), (&json!(3), &json!("DONE")));
    assert_eq!((&task["device_sn"], &task["method"]), (&json!("d-1"), &json!("blink")));
    assert_eq!((&task["results"][0]["ext_id"], &task["results"][0]["status_code"]), (&json!(9), &json!(200)));
    let causes: Vec<_> = task["timeline"].as_array().unwrap().iter().map(|change| &change["cause"]).collect();
    assert_eq!(causes, [&json!("created"), &json!("taken"), &json!("result")]);
    assert!(task["created_at"].is_i64() && task["locked_at"].is_i64() && task["pending_at"].is_null());

    let path = format!("{TASKS}/{}", task["id"].as_str().unwrap());
    assert_eq!(answer(stage.get(&path)).await.body, *task);
    let caller = answer(stage.get("/api/v1/whoami")).await.body["name"].clone();
    let listed = answer(stage.get(TASKS)).await.body["items"][0]["created_by"].clone();
    assert_eq!((&task["created_by"], &listed), (&caller, &caller));
    assert_eq!(answer(stage.get(&format!("{path}/?wait=60"))).await.body, *task);
}

#[tokio::test]
async fn results_that_are_no_object_come_in_one() {
    let stage = Stage::new().await;
    let device = stage.device("d-1").await;
    for (sent, shown) in
        [("[1,2]", json!({"value": [1, 2]})), ("plain", json!({"value": "plain"})), ("", Value::Null)]
    {
        let post = stage.post(&format!("{TASKS}?wait=20"), r#"{"ext_task_id":"","device_sn":"d-1"}"#);
        let (done, ()) = tokio::join!(answer(post), stage.run_next(&device, 500, sent));
        assert_eq!((&done.body["results"][0]["result"], &done.body["status"]), (&shown, &json!(6)), "{sent}");
    }
}

#[tokio::test]
async fn a_wait_whose_time_is_up_is_answered_with_the_state() {
    let stage = Stage::new().await;
    stage.device("d-1").await;
    let found = answer(stage.post(&format!("{TASKS}?wait=0.1"), r#"{"ext_task_id":"","device_id":1}"#)).await;
    assert_eq!((found.status.as_u16(), &found.body["status_name"]), (202, &json!("READY")));
    let location = found.header("location").to_owned();
    assert_eq!(location, format!("{TASKS}/{}", found.body["id"].as_str().unwrap()));
    assert_eq!(answer(stage.get(&format!("{location}?wait=0"))).await.status, 202);

    let delete = stage.bare(Method::DELETE, &location).header("x-api-key", KEY);
    let waiting = stage.get(&format!("{location}?wait=20"));
    let (ended, deleted) = tokio::join!(answer(waiting), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer(delete).await
    });
    assert_eq!((ended.status.as_u16(), &ended.body["status_name"]), (200, &json!("DELETED")));
    assert!(deleted.body["deleted_at"].is_i64());
}

#[tokio::test]
async fn a_task_is_told_of_even_if_there_is_no_room_for_its_results() {
    let stage = Stage::with(|api| api.bounding_answers(12_000_000)).await;
    let device = stage.device("d-1").await;
    let tags: Vec<_> =
        (0..60).map(|tag| json!({"tag": tag.to_string(), "value": "x".repeat(1_000)})).collect();
    for number in 0..140 {
        let body = json!({"sn": format!("n-{number}"), "certificate": "none", "tags": tags});
        assert_eq!(answer(stage.post("/api/v1/devices", &body.to_string())).await.status, 201);
    }
    // More than the half of an organisation, and than the buffers between here and there take.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut unread = socket.connect(stage.address).await.unwrap();
    let request = format!("GET /api/v1/devices HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\n\r\n");
    unread.write_all(request.as_bytes()).await.unwrap();
    let mut begin = [0; 15];
    unread.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200 OK");
    let result = json!({"pad": "x".repeat(100_000)});
    let post = stage.post(&format!("{TASKS}?wait=20"), r#"{"ext_task_id":"","device_id":1}"#);
    let result_text = result.to_string();
    let (made, ()) = tokio::join!(answer(post), stage.run_next(&device, 200, &result_text));
    assert_eq!((made.status.as_u16(), &made.body["status_name"]), (202, &json!("DONE")), "{}", made.text);
    assert_eq!(made.body["results"], json!([]));
    let location = made.header("location").to_owned();
    answer(stage.get(&location)).await.assert_problem(503, "the other answer is still there");
    drop(unread);
    let next = made.body["results_next"].as_str().unwrap();
    for path in [location.clone(), format!("{location}?results_cursor={next}")] {
        assert_eq!(answer(stage.get(&path)).await.body["results"][0]["result"], result, "{path}");
    }
}

#[tokio::test]
async fn a_repeated_request_makes_one_task() {
    let stage = Stage::new().await;
    let device = stage.device("d-1").await;
    let post = |query: &str, body: &str| {
        stage.post(&format!("{TASKS}{query}"), body).header("Idempotency-Key", "order-7")
    };
    let first = answer(post("", r#"{"ext_task_id":"","device_id":1}"#)).await;
    assert_eq!(first.header("idempotent-replayed"), "");
    let again = answer(post("", r#"{"ext_task_id":"","device_id":1}"#)).await;
    assert_eq!((&again.body["id"], again.header("idempotent-replayed")), (&first.body["id"], "true"));
    answer(post("", r#"{"ext_task_id":"","device_id":1,"ttl":2}"#)).await.assert_problem(422, "other body");
    answer(stage.post(TASKS, "{}").header("Idempotency-Key", "a b")).await.assert_problem(422, "bad key");

    let waiting = post("?wait=20", r#"{"ext_task_id":"","device_id":1}"#);
    let (waited, ()) = tokio::join!(answer(waiting), stage.run_next(&device, 200, "{}"));
    assert_eq!((waited.status.as_u16(), &waited.body["id"]), (200, &first.body["id"]));
    let late = answer(post("?wait=20", r#"{"ext_task_id":"","device_id":1}"#)).await;
    assert_eq!((&late.body["status"], late.header("idempotent-replayed")), (&json!(3), "true"));
}

#[tokio::test]
async fn a_list_is_filtered_and_paged() {
    let stage = Stage::new().await;
    stage.device("d-1").await;
    for number in 0..3 {
        let body = format!(r#"{{"device_id":1,"ext_task_id":"e-{number}"}}"#);
        assert_eq!(answer(stage.post(TASKS, &body)).await.status, 200);
    }
    let page = answer(stage.get(&format!("{TASKS}/?device_id=1&page=2&size=2"))).await.body;
    let counts = [&page["total"], &page["page"], &page["size"], &page["pages"]];
    assert_eq!(counts, [&json!(3), &json!(2), &json!(2), &json!(2)]);
    assert_eq!(page["items"][0]["ext_task_id"], "e-0");
    assert!(page["items"][0]["created_at"].as_str().unwrap().ends_with('Z'));
    assert!(page["items"][0]["org_id"].is_i64());
    for (query, total) in [
        ("status=0", 3),
        ("status=READY", 3),
        ("status=DONE", 0),
        ("ext_task_id=e-1", 1),
        ("created_after=2020-01-01T00:00:00Z", 3),
        ("created_before=1577836800", 0),
        ("device_id=2", 0),
    ] {
        let found = answer(stage.get(&format!("{TASKS}?{query}"))).await;
        assert_eq!(found.body["total"], total, "{query}: {}", found.text);
    }
}

#[tokio::test]
async fn a_limit_is_answered_429() {
    let stage = Stage::new().await;
    stage.device("d-1").await;
    for _ in 0..50 {
        assert_eq!(answer(stage.post(TASKS, r#"{"ext_task_id":"","device_id":1}"#)).await.status, 200);
    }
    let refused = answer(stage.post(TASKS, r#"{"ext_task_id":"","device_id":1}"#)).await;
    refused.assert_problem(429, "one too many");
    assert_eq!(refused.header("retry-after"), "5");
}

/// Not a benchmark, but it would show a hop or a lock that does not belong there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_costs_little() {
    let stage = Stage::new().await;
    let device = stage.device("d-1").await;
    let mut durations = Vec::new();
    for _ in 0..40 {
        let began = Instant::now();
        let post =
            stage.post(&format!("{TASKS}?wait=20"), r#"{"ext_task_id":"","device_id":1,"payload":{}}"#);
        let (done, ()) = tokio::join!(answer(post), stage.run_next(&device, 200, "{}"));
        assert_eq!(done.status, 200);
        durations.push(began.elapsed());
    }
    durations.sort();
    println!("p50 {:?}, worst {:?}", durations[20], durations[39]);
    assert!(durations[20] < Duration::from_secs(1));
}
