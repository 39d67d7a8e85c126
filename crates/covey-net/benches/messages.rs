//! What a message costs: from PUBLISH with QoS 1 to PUBACK, one at a time and many, over mutual TLS.
//!
//! `cargo bench -p covey-net --bench messages -- [connections] [seconds]`. The server is a process of
//! its own, so that the clients' time is not counted; it is this program again. Its owner answers at
//! once: what is measured is the network side alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "bed/clients.rs"]
mod clients;
#[path = "bed/measure.rs"]
mod measure;
#[path = "bed/server.rs"]
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

type Stream = TlsStream<TcpStream>;

/// How many devices publish at the same time, unless it is said.
const CONNECTIONS: usize = 200;
/// How long each part takes, in seconds, unless it is said.
const SECONDS: u64 = 5;
/// A body as events have it.
const BODY: &[u8] = br#"{"200":12345,"v":21.5,"t":"bench-000001"}"#;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if arguments.first().is_some_and(|word| word == "serve") {
        return runtime.block_on(server::serve(&arguments[1]));
    }
    let number = |place: usize| arguments.get(place).map(|word| word.parse().expect("a number"));
    runtime
        .block_on(run(number(0).map_or(CONNECTIONS, |count| count as usize), number(1).unwrap_or(SECONDS)));
}

async fn run(connections: usize, seconds: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut server = server::Process::start(folder.path());
    let identities = clients::identities(folder.path(), connections + 1, false);
    let mut live = clients::connect(server.address, &identities, 32).await;
    let mut alone = live.pop().unwrap();
    one_at_a_time(&mut alone, server.id(), seconds).await;
    for window in [1, 16] {
        live = many(live, window, server.id(), seconds).await;
    }
    drop((alone, live));
    server.stop();
}

async fn one_at_a_time(stream: &mut Stream, server: u32, seconds: u64) {
    // What is done the first time is not what is measured.
    for _ in 0..1_000 {
        publish(stream, 1).await;
    }
    let (mut times, start, cpu) = (Vec::new(), Instant::now(), measure::cpu_us(server));
    while start.elapsed() < Duration::from_secs(seconds) {
        let one = Instant::now();
        publish(stream, 1).await;
        times.push(one.elapsed());
    }
    let cpu = (measure::cpu_us(server) - cpu) / times.len() as f64;
    times.sort();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_nanos() as f64 / 1e3;
    println!(
        "1 device, 1 in flight: p50 {:.0} us, p99 {:.0} us, {cpu:.1} us of processor time a message",
        at(0.5),
        at(0.99)
    );
}

async fn many(live: Vec<Stream>, window: usize, server: u32, seconds: u64) -> Vec<Stream> {
    let (count, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let devices = live.len();
    let publishing: Vec<_> = live
        .into_iter()
        .map(|mut stream| {
            let (count, is_over) = (Arc::clone(&count), Arc::clone(&is_over));
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    publish(&mut stream, window).await;
                    count.fetch_add(window as u64, Ordering::Relaxed);
                }
                stream
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, cpu, start) = (count.load(Ordering::Relaxed), measure::cpu_us(server), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let messages = (count.load(Ordering::Relaxed) - before) as f64;
    let (cpu, took) = (measure::cpu_us(server) - cpu, start.elapsed());
    is_over.store(true, Ordering::Relaxed);
    println!(
        "{devices} devices, {window} in flight each: {:.0} messages/s, {:.2} us of processor time a message",
        messages / took.as_secs_f64(),
        cpu / messages
    );
    let mut streams = Vec::new();
    for one in publishing {
        streams.push(one.await.unwrap());
    }
    streams
}

/// Publishes so many messages in one write, and waits for the PUBACK of each.
async fn publish(stream: &mut Stream, count: usize) {
    let mut bytes = Vec::new();
    for id in 1..=count as u16 {
        let mut body = clients::text("dev/bench-000001/evt");
        body.extend(id.to_be_bytes());
        // No properties.
        body.push(0);
        body.extend(BODY);
        bytes.extend([0x32, u8::try_from(body.len()).unwrap()]);
        bytes.extend(body);
    }
    stream.write_all(&bytes).await.unwrap();
    let mut acknowledged = vec![0; 4 * count];
    stream.read_exact(&mut acknowledged).await.unwrap();
    let all = acknowledged.chunks(4).zip(1..).all(|(puback, id)| *puback == [0x40, 2, 0, id]);
    assert!(all, "{acknowledged:?}");
}
