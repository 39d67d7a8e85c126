//! The sender against listeners on loopback.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Instant;

use covey_core::id::OrgId;
use covey_core::webhook::{EndpointId, WebhookType, sample};

use super::*;

/// A clock that stands still, but for how long things take.
struct StillClock(Instant);

const NOW: UnixMs = UnixMs(1_700_000_000_000);

impl Clock for StillClock {
    fn now(&self) -> UnixMs {
        NOW
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// Names that have other addresses each time they are asked for.
struct Changing(Mutex<Vec<Vec<IpAddr>>>);

impl Names for Changing {
    fn addresses(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move { Ok(answer) })
    }
}

/// Listens, counts connections, and answers each request with the same bytes.
struct Listener {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: mpsc::Receiver<String>,
}

impl Listener {
    fn at(address: &str, answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<AtomicUsize>::default();
        let (send, requests) = mpsc::channel();
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                // Whoever tests has seen enough.
                if serve(stream.unwrap(), &answer, &send).is_none() {
                    return;
                }
            }
        });
        Self { port, connections, requests }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, answer: &[u8], requests: &mpsc::Sender<String>) -> Option<()> {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return Some(()),
            Ok(count) => request.extend_from_slice(&part[..count]),
        }
    }
    let sent = requests.send(String::from_utf8_lossy(&request).into_owned());
    // The client may not want all of it.
    let _ = stream.write_all(answer);
    sent.ok()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

fn sender(allow: &str, answers: &[&[&str]]) -> Arc<HttpSender> {
    let answers = answers.iter().map(|one| one.iter().map(|text| text.parse().unwrap()).collect()).collect();
    let rule = AddressRule::parse([allow]).unwrap();
    let options = Options { rule, ca_file: None };
    let clock = Arc::new(StillClock(Instant::now()));
    HttpSender::with_names(&options, clock, Arc::new(Changing(Mutex::new(answers)))).unwrap()
}

fn endpoint(url: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        id: EndpointId(1),
        org: OrgId(1),
        version: 1,
        is_default: true,
        spec: EndpointSpec::new(WebhookType::Event, url),
        secret: secret::new(),
        old_secret: None,
        created_at: NOW,
        updated_at: NOW,
    })
}

async fn send(sender: &HttpSender, url: &str) -> Attempt {
    let record = Arc::new(sample(WebhookType::Event, OrgId(1), NOW).unwrap());
    sender.send(endpoint(url), record, "evt_1".to_owned()).await
}

fn error(attempt: &Attempt) -> &str {
    attempt.error.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn a_name_that_changes_its_address_gains_nothing() {
    let good = Listener::at("127.0.0.2:0", OK.to_vec());
    let bad = Listener::at(&format!("127.0.0.1:{}", good.port), OK.to_vec());
    let url = format!("http://receiver.example:{}/hook", good.port);
    let sender = sender("127.0.0.2", &[&["127.0.0.2"], &["127.0.0.1"], &["127.0.0.1", "127.0.0.2", "::1"]]);
    sender.check(&url, None).unwrap();
    assert_eq!(sender.probe(endpoint(&url).spec.clone()).await, Ok(()));
    let attempt = send(&sender, &url).await;
    assert_eq!(error(&attempt), "the host has no address that webhooks may go to");
    assert_eq!(sender.probe(endpoint(&url).spec.clone()).await, Ok(()), "of several the one that is allowed");
    assert_eq!((good.connections(), bad.connections()), (2, 0));
    let literal = format!("http://127.0.0.1:{}/hook", bad.port);
    assert!(error(&send(&sender, &literal).await).contains("leads to an address"));
    assert_eq!(sender.probe(endpoint(&literal).spec.clone()).await, Err(ProbeFault::Forbidden));
    assert_eq!(bad.connections(), 0);
}

#[tokio::test]
async fn no_redirection_is_followed() {
    let other = Listener::at("127.0.0.1:0", OK.to_vec());
    for status in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Elsewhere\r\nlocation: http://127.0.0.1:{}/x\r\nconnection: close\r\n\
             content-length: 0\r\n\r\n",
            other.port
        );
        let first = Listener::at("127.0.0.1:0", answer.into_bytes());
        let sender = sender("loopback", &[&["127.0.0.1"]]);
        let url = format!("http://receiver.example:{}/", first.port);
        let attempt = send(&sender, &url).await;
        assert_eq!(attempt.status, Some(status));
        assert!(error(&attempt).contains("redirections are not followed"));
        assert_eq!(sender.probe(endpoint(&url).spec.clone()).await, Ok(()), "it has answered");
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn an_answer_without_end_is_not_waited_for() {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n".to_vec();
    answer.extend(std::iter::repeat_n(b'x', 1_000_000));
    let listener = Listener::at("127.0.0.1:0", answer);
    let sender = sender("loopback", &[&["127.0.0.1"]]);
    let began = Instant::now();
    let attempt = send(&sender, &format!("http://receiver.example:{}/", listener.port)).await;
    assert!(attempt.is_delivered() && began.elapsed() < DRAIN_TIMEOUT + Duration::from_secs(2));
}

#[tokio::test]
async fn what_a_receiver_asks_for_is_read() {
    let until = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(1_700_000_030_000));
    for (line, expected) in [
        ("retry-after: 7", Some(7_000)),
        (&*format!("retry-after: {until}"), Some(30_000)),
        ("retry-after: soon", None),
        ("x-other: 7", None),
    ] {
        let answer = format!("HTTP/1.1 503 Busy\r\n{line}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        let listener = Listener::at("127.0.0.1:0", answer.into_bytes());
        let sender = sender("loopback", &[&["127.0.0.1"]]);
        let attempt = send(&sender, &format!("http://receiver.example:{}/", listener.port)).await;
        assert_eq!((attempt.status, attempt.asked_ms), (Some(503), expected), "{line}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_as_such() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sender = sender("loopback", &[&["127.0.0.1"], &[]]);
    let url = format!("http://receiver.example:{closed}/");
    assert_eq!(error(&send(&sender, &url).await), "no connection");
    assert_eq!(error(&send(&sender, &url).await), "the host has no address");
    assert_eq!(sender.probe(endpoint(&url).spec.clone()).await, Err(ProbeFault::Name));
    // Plain HTTP where TLS is expected.
    let listener = Listener::at("127.0.0.1:0", OK.to_vec());
    let attempt = send(&sender, &format!("https://127.0.0.1:{}/", listener.port)).await;
    assert!(attempt.status.is_none() && !attempt.is_delivered(), "{attempt:?}");
    assert!(listener.requests.try_recv().is_err(), "nothing was sent in the clear");
}

#[tokio::test]
async fn a_change_is_waited_for_until_whoever_tells_has_looked_after_it() {
    use futures_util::FutureExt as _;
    let sender = sender("loopback", &[&["127.0.0.1"]]);
    sender.changed();
    assert_eq!(sender.taken_up().now_or_never(), Some(()), "nobody tells");
    sender.take_up(Some(sender.changes()));
    assert_eq!(sender.taken_up().now_or_never(), Some(()));
    let before = sender.changes();
    sender.changed();
    let waiting = sender.taken_up();
    sender.changed();
    // A look that began before the change may not have seen it.
    sender.take_up(Some(before));
    let mut waiting = std::pin::pin!(waiting);
    assert_eq!(waiting.as_mut().now_or_never(), None);
    sender.take_up(Some(before + 1));
    assert_eq!(waiting.as_mut().now_or_never(), Some(()), "later changes are not waited for");
    let began = Instant::now();
    sender.taken_up().await;
    assert!(began.elapsed() >= TAKEN_UP_MAX, "it is bounded");
    let waiting = sender.taken_up();
    sender.take_up(None);
    assert_eq!(waiting.now_or_never(), Some(()), "nobody tells any more");
}
