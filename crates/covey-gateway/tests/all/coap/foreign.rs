//! Programs that others wrote: `coap-client-notls` and `coap-server-notls` of libcoap (Debian: `libcoap3-bin`), and
//! aiocoap, if the interpreter that `COVEY_PYTHON` names (or `python3`) has it (`pip install aiocoap==0.4.17`). What is
//! not installed is not spoken with, and the test says so.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use covey_gateway::coap::exchange::Request;
use covey_gateway::coap::link_format::resources;
use covey_gateway::coap::message::{BlockSize, Code};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::bed::Bed;
use super::network::body;

const AIOCOAP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/coap/foreign.py");
const PATIENCE: Duration = Duration::from_secs(60);

fn python() -> String {
    std::env::var("COVEY_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

async fn is_there(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let is_there = command.status().await.is_ok();
    if !is_there {
        println!("{program} is not installed");
    }
    is_there
}

async fn has_aiocoap() -> bool {
    let mut command = Command::new(python());
    command.args(["-c", "import aiocoap"]).stdout(Stdio::null()).stderr(Stdio::null());
    let has = command.status().await.is_ok_and(|status| status.success());
    if !has {
        println!("aiocoap is not installed");
    }
    has
}

async fn output(command: &mut Command) -> String {
    let child = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PATIENCE, child).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn free_port() -> u16 {
    std::net::UdpSocket::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn the_client_of_libcoap() {
    let program = "coap-client-notls";
    if !is_there(program, &["-h"]).await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large");
    for ip in ["127.0.0.1", "[::1]"] {
        let bed = Bed::start("[::]:0");
        let url = |path: &str| format!("coap://{ip}:{}/{path}", bed.port());
        let core = output(Command::new(program).args(["-m", "get", &url(".well-known/core")])).await;
        assert!(core.contains("</large>;sz=20480"), "{core}");
        let post = ["-m", "post", "-e", "led:a:b", &url("server")];
        assert_eq!(output(Command::new(program).args(post)).await.trim(), "Received 'led:a:b'");
        // Non-confirmable.
        let post = ["-N", "-m", "post", "-e", "led:1", &url("server")];
        assert_eq!(output(Command::new(program).args(post)).await.trim(), "Received 'led:1'");
        assert_eq!(
            bed.asked.lock().unwrap().iter().filter(|(.., is_confirmable)| !is_confirmable).count(),
            1
        );
        assert_eq!(output(Command::new(program).args(["-m", "get", &url("slow")])).await.trim(), "slow");
        // In blocks, both ways.
        for block in ["1024", "64"] {
            let get = ["-b", block, "-o", file.to_str().unwrap(), "-m", "get", &url("large")];
            output(Command::new(program).args(get)).await;
            assert!(std::fs::read(&file).unwrap() == body(20_480), "{block}");
            let put = ["-b", block, "-f", file.to_str().unwrap(), "-m", "put", &url("store")];
            output(Command::new(program).args(put)).await;
            let get = ["-o", file.to_str().unwrap(), "-m", "get", &url("store")];
            output(Command::new(program).args(get)).await;
            assert!(std::fs::read(&file).unwrap() == body(20_480), "{block}");
        }
        let missing = output(Command::new(program).args(["-m", "get", &url("missing")])).await;
        assert!(!missing.contains("slow"), "{missing}");
    }
}

/// A server that is ended with the test, once it answers.
async fn started(bed: &Bed, mut command: Command, port: u16) -> Child {
    let child = command.stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let to = SocketAddr::new("::1".parse().unwrap(), port);
    for _ in 0..100 {
        let request = Request { patience_ms: 300, ..Request::get(".well-known/core") };
        if bed.ask(to, request).await.is_ok() {
            return child;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("the server does not answer");
}

#[tokio::test]
async fn the_server_of_libcoap() {
    let program = "coap-server-notls";
    if !is_there(program, &["-h"]).await {
        return;
    }
    let bed = Bed::start("[::]:0");
    let port = free_port();
    let mut command = Command::new(program);
    command
        .args(["-d", "10", "-p", &port.to_string(), "-A", "::1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _server = started(&bed, command, port).await;
    let to = SocketAddr::new("::1".parse().unwrap(), port);
    let core = bed.ask(to, Request::get(".well-known/core")).await.unwrap();
    let found = resources(&core.payload);
    assert!(found.iter().any(|resource| resource.path == "time" && resource.is_observable), "{found:?}");
    // Acknowledged first, answered after a while.
    let request = Request { queries: vec!["1".to_owned()], ..Request::get("async") };
    assert_eq!(bed.ask(to, request).await.unwrap().code, Code::CONTENT);
    // 20 KiB to a new resource, in blocks of two sizes, and back.
    for (path, bytes) in [("new/a", 1_024), ("new/b", 256)] {
        let request = Request { block_size: BlockSize::at_most(bytes), ..Request::put(path, body(20_480)) };
        let put = bed.ask(to, request).await.unwrap();
        assert!(put.code.is_success(), "{put:?}");
        assert_eq!(bed.ask(to, Request::get(path)).await.unwrap().payload, body(20_480));
    }
    let request = Request { is_confirmable: false, ..Request::get("time") };
    assert_eq!(bed.ask(to, request).await.unwrap().code, Code::CONTENT);
    assert_eq!(bed.ask(to, Request::get("missing")).await.unwrap().code, Code::NOT_FOUND);
    assert!(bed.ping(to).await);
    // It says the time each second.
    let mut values = bed.observe(to, "time").await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(timeout(Duration::from_secs(10), values.recv()).await.unwrap().unwrap().payload);
    }
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn the_client_of_aiocoap() {
    if !has_aiocoap().await {
        return;
    }
    let bed = Bed::start("[::]:0");
    let mut command = Command::new(python());
    command.args([AIOCOAP, "client", &bed.port().to_string()]);
    let told = output(&mut command).await;
    assert_eq!(told.lines().last(), Some("all is well"), "{told}");
}

#[tokio::test]
async fn the_server_of_aiocoap() {
    if !has_aiocoap().await {
        return;
    }
    let bed = Bed::start("[::]:0");
    let port = free_port();
    let mut command = Command::new(python());
    command.args([AIOCOAP, "server", &port.to_string()]).stdout(Stdio::piped());
    let mut server = started(&bed, command, port).await;
    let to = SocketAddr::new("::1".parse().unwrap(), port);
    let found = resources(&bed.ask(to, Request::get(".well-known/core")).await.unwrap().payload);
    let paths: Vec<_> = found.iter().map(|resource| resource.path.as_str()).collect();
    assert_eq!(paths, ["clock", "large", "led", "slow"]);
    assert!(found[0].is_observable && !found[1].is_observable);
    assert_eq!(bed.ask(to, Request::get("large")).await.unwrap().payload, body(20_480));
    let put = bed.ask(to, Request::put("large", body(20_480))).await.unwrap();
    assert_eq!((put.code, &put.payload[..]), (Code::CHANGED, &b"20480 bytes"[..]));
    let put = bed.ask(to, Request::put("led", "1")).await.unwrap();
    assert_eq!(put.code, Code::CHANGED);
    assert_eq!(bed.ask(to, Request::get("led")).await.unwrap().payload, b"1");
    assert_eq!(bed.ask(to, Request::get("slow")).await.unwrap().payload, b"slow");
    let request = Request { is_confirmable: false, ..Request::get("led") };
    assert_eq!(bed.ask(to, request).await.unwrap().payload, b"1");
    let mut values = bed.observe(to, "clock").await;
    for number in 0..4 {
        let value = timeout(Duration::from_secs(10), values.recv()).await.unwrap().unwrap();
        // The first may be any; the others follow it.
        assert!(number == 0 || !value.payload.is_empty());
    }
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
    assert_eq!(line.as_deref(), Some("serving"));
}

/// Passes datagrams on between the client and the gateway, and loses each third.
async fn lossy(gateway: SocketAddr) -> SocketAddr {
    let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    back.connect(gateway).await.unwrap();
    tokio::spawn(async move {
        let (mut one, mut other) = ([0; 2_000], [0; 2_000]);
        let (mut client, mut count) = (None, 0);
        loop {
            count += 1;
            let is_lost = count % 3 == 0;
            tokio::select! {
                Ok((read, from)) = front.recv_from(&mut one) => {
                    client = Some(from);
                    if !is_lost {
                        _ = back.send(&one[..read]).await;
                    }
                }
                Ok(read) = back.recv(&mut other) => {
                    if let Some(client) = client && !is_lost {
                        _ = front.send_to(&other[..read], client).await;
                    }
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn a_network_that_loses_each_third_datagram_and_the_client_of_libcoap() {
    let program = "coap-client-notls";
    if !is_there(program, &["-h"]).await {
        return;
    }
    let bed = Bed::start("127.0.0.1:0");
    let address = lossy(bed.address).await;
    for number in 0..4 {
        let url = format!("coap://{address}/server");
        let payload = format!("led:{number}");
        let told = output(Command::new(program).args(["-m", "post", "-e", &payload, &url])).await;
        assert_eq!(told.trim(), format!("Received '{payload}'"));
    }
    assert_eq!(bed.asked_paths(), ["server"; 4], "each is served once");
}
