//! What the client says to a server, and how it takes the answers. The server
//! is a listener on loopback that plays a script.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use covey_client::{Client, Error, TaskRequest, TaskStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const ID: &str = "01976f4e-0000-7000-8000-000000000001";

fn task(status: u8, results: &str) -> String {
    format!(
        r#"{{"id":"{ID}","created_at":1700000000,"header":{{"ext_task_id":"","device_id":1,"method_code":20,
        "priority":0,"ttl":1}},"status":{status},"status_name":"A NEW ONE","pending_at":null,"locked_at":null,
        "expires_at":1700000060,"device_sn":"lamp-1","deliveries":1,"timeline":[],"results":{results},"new":[1]}}"#
    )
}

/// Reads one request: head and body.
async fn read_request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.unwrap();
        assert!(count > 0, "the client has closed the connection");
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.map_or(0, |length| length.parse::<usize>().unwrap()) {
            return (head, body.to_owned());
        }
    }
}

/// Plays a script of answers (status line with headers, body) on one
/// connection, and gives back the requests.
async fn play(script: Vec<(&'static str, String)>) -> (Client, JoinHandle<Vec<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}/api/v1/", listener.local_addr().unwrap()), "k-1", None);
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut requests = Vec::new();
        for (head, body) in script {
            requests.push(read_request(&mut stream).await);
            let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (client.unwrap(), server)
}

#[tokio::test]
async fn a_call_is_one_post_that_waits_and_its_result_comes_as_it_was_sent() {
    let results = r#"[{"id":7,"ext_id":0,"status_code":200,"result":{"z":1.10,"a":[1e2]}}]"#;
    let (client, server) = play(vec![("200 OK\r\nIdempotent-Replayed: true", task(3, results))]).await;
    let request = TaskRequest::for_sn("lamp-1").with_method("blink").with_idempotency_key("i-1");
    let outcome = client.call(&request, Duration::from_secs(30)).await.unwrap();
    assert!(outcome.is_final() && outcome.is_replayed);
    let result = outcome.task.results[0].result.as_ref().unwrap();
    assert_eq!(result.get(), r#"{"z":1.10,"a":[1e2]}"#);
    let requests = server.await.unwrap();
    let (head, body) = &requests[0];
    assert!(head.starts_with("post /api/v1/device-tasks?wait=30 http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nprefer: handling=strict\r\n"), "{head}");
    assert!(head.contains("\r\nx-api-key: k-1") && head.contains("\r\nidempotency-key: i-1"), "{head}");
    assert_eq!(body, r#"{"ext_task_id":"","device_sn":"lamp-1","method":"blink"}"#);
}

#[tokio::test]
async fn a_call_that_is_still_open_is_followed_on_the_same_connection() {
    let script = vec![("202 Accepted", task(0, "[]")), ("200 OK", task(6, "[]"))];
    let (client, server) = play(script).await;
    let request = TaskRequest::for_device_id(1).with_method_code(5);
    let outcome = client.call(&request, Duration::from_secs(90)).await.unwrap();
    assert_eq!(outcome.task.status, TaskStatus::Failed);
    let requests = server.await.unwrap();
    assert!(requests[0].0.starts_with("post /api/v1/device-tasks?wait=60 "), "{}", requests[0].0);
    let expected = format!("get /api/v1/device-tasks/{ID}?wait=60 ");
    assert!(requests[1].0.starts_with(&expected), "{}", requests[1].0);
}

#[tokio::test]
async fn refusals_and_foreign_answers_are_told_apart() {
    let problem = r#"{"type":"urn:covey:problem:forbidden","title":"A right is missing","status":403,
        "detail":"the right tasks:read is missing","request_id":"r-1"}"#;
    let script = vec![("403 Forbidden", problem.to_owned()), ("200 OK", "<html>".to_owned())];
    let (client, server) = play(script).await;
    let refused = client.task_get(ID.parse().unwrap()).await.unwrap_err();
    assert_eq!(refused.to_string(), "the right tasks:read is missing (HTTP 403)");
    let foreign = client.task_get(ID.parse().unwrap()).await.unwrap_err();
    assert!(matches!(foreign, Error::Answer { .. }), "{foreign:?}");
    server.await.unwrap();
    let gone = client.task_get(ID.parse().unwrap()).await.unwrap_err();
    assert!(matches!(gone, Error::Unreachable { .. } | Error::Interrupted { .. }), "{gone:?}");
    assert!(!format!("{client:?} {gone:?}").contains("k-1"));
}

#[tokio::test]
async fn refused_connections_are_tried_again_only_when_asked_for() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let client = Client::new(&format!("http://{address}"), "", None).unwrap();
    let error = client.ready().await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.root_cause().unwrap().contains("refused"), "{error:?}");

    let server = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let (mut stream, _) = TcpListener::bind(address).await.unwrap().accept().await.unwrap();
        read_request(&mut stream).await;
        let ready = r#"{"status":"ok","parts":[]}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ready}", ready.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let began = Instant::now();
    client.with_refused_retry(Duration::from_secs(10)).ready().await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(150));
    server.await.unwrap();
}
