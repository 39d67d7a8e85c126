//! How many messages the node broker delivers to web clients, with the clients on the same cores:
//!
//! ```text
//! cargo bench -p covey-gateway --bench fan_out -- [CLIENTS] [SECONDS] [CHANGES A SECOND, 0 for as many as there can be]
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use covey_core::error::Error;
use covey_core::id::{DeviceId, DeviceKey};
use covey_gateway::broker::board::Said;
use covey_gateway::broker::{Audience, Key, Wishes, serve_clients};
use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

/// How many changes are told together, as those of one commit.
const TOGETHER: u64 = 16;
/// How far a client may be behind, in messages: well within what may wait for it.
const BEHIND_MAX: u64 = 4_000;
const NODES: i64 = 100;

struct NoWishes;

impl Wishes for NoWishes {
    fn set(&self, _: Key, _: &str, _: &str) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn key(number: i64) -> Key {
    Key { device: DeviceKey(number), id: DeviceId(number) }
}

/// A client counts the messages that it gets; where one begins and how late it is it reads in every hundredth.
async fn client(address: SocketAddr, began: Instant, heard: Arc<AtomicU64>) -> Vec<u64> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    socket.write_all(b"\x81\x8e\0\0\0\0{\"type\":\"new\"}").unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut socket = tokio::net::TcpStream::from_std(socket).unwrap();
    let (mut buffer, mut late_us, mut count) = (Vec::with_capacity(64 * 1024), Vec::new(), 0_u64);
    while socket.read_buf(&mut buffer).await.unwrap_or(0) > 0 {
        let mut at = 0;
        while let Some((begin, end)) = frame(&buffer[at..]) {
            count += 1;
            if count.is_multiple_of(100) {
                late_us.extend(
                    sent_us(&buffer[at + begin..at + end])
                        .map(|sent| began.elapsed().as_micros() as u64 - sent),
                );
            }
            at += end;
        }
        buffer.drain(..at);
        heard.store(count, Ordering::Relaxed);
    }
    late_us
}

/// Where the text of the first frame begins and ends.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (begin, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => panic!("no message is so long"),
        length => (2, usize::from(length)),
    };
    (bytes.len() >= begin + length).then_some((begin, begin + length))
}

fn sent_us(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.split("\"at ").nth(1)?.split('"').next()?.parse().ok()
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let of = |place: usize, default| numbers.get(place).copied().unwrap_or(default);
    let (clients, seconds, rate) = (of(0, 100), of(1, 10), of(2, 0));
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let page = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (audience, stop) = (Audience::new(), CancellationToken::new());
    let listener = server.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    server.spawn(serve_clients(Arc::clone(&audience), Box::new(NoWishes), listener, stop.clone()));
    let board = audience.board();
    for number in 0..NODES {
        board.change().appear(&key(number), &Arc::from(uuid::Uuid::new_v4().to_string()), &[]);
    }
    let began = Instant::now();
    let heard: Vec<Arc<AtomicU64>> = (0..clients).map(|_| Arc::default()).collect();
    let all: Vec<_> =
        heard.iter().map(|heard| page.spawn(client(address, began, Arc::clone(heard)))).collect();
    let least = || heard.iter().map(|heard| heard.load(Ordering::Relaxed)).min().unwrap_or(0);
    while least() < NODES as u64 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (mut told, start) = (0_u64, Instant::now());
    while start.elapsed() < Duration::from_secs(seconds) {
        {
            let mut change = board.change();
            for _ in 0..TOGETHER {
                told += 1;
                let json = format!("\"at {}\"", began.elapsed().as_micros());
                let said =
                    Said { resource: Arc::from("temperature"), json: json.into(), version: told as i64 };
                change.said(&key((told % NODES as u64) as i64), &said);
            }
        }
        while told > least() - NODES as u64 + BEHIND_MAX {
            std::thread::sleep(Duration::from_micros(200));
        }
        if let Some(due_us) = (told * 1_000_000).checked_div(rate) {
            std::thread::sleep(Duration::from_micros(due_us).saturating_sub(start.elapsed()));
        }
    }
    while least() - (NODES as u64) < told {
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = start.elapsed().as_secs_f64();
    let followers = board.followers() as u64;
    stop.cancel();
    let mut late_us: Vec<u64> = all.into_iter().flat_map(|client| page.block_on(client).unwrap()).collect();
    late_us.sort_unstable();
    let part =
        |of: usize| late_us.get((late_us.len() * of / 100).min(late_us.len().saturating_sub(1))).copied();
    println!(
        "{clients} clients ({followers} at the end), {told} changes in {took:.2} s: {:.0} deliveries/s; late by p50 {:.1} ms, p99 {:.1} ms",
        (told * clients) as f64 / took,
        part(50).unwrap_or(0) as f64 / 1_000.0,
        part(99).unwrap_or(0) as f64 / 1_000.0,
    );
    assert_eq!(followers, clients, "nobody was cut off");
}
