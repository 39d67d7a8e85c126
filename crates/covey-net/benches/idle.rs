//! What an idle device costs: resident memory for each mutual TLS connection with a session and one
//! subscription, processor time for each connect (handshake, CONNECT, SUBSCRIBE), and how long it takes
//! to tell all of them that the server shuts down.
//!
//! `cargo bench -p covey-net --bench idle -- [connections] [1.2|1.3]`. The server is a process of its
//! own, so that the clients' memory and time are not counted; it is this program again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "bed/clients.rs"]
mod clients;
#[path = "bed/measure.rs"]
mod measure;
#[path = "bed/server.rs"]
mod server;

/// How many devices, unless it is said.
const CONNECTIONS: usize = 5_000;
/// How many connect at the same time.
const AT_A_TIME: usize = 32;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if arguments.first().is_some_and(|word| word == "serve") {
        return runtime.block_on(server::serve(&arguments[1]));
    }
    let connections = arguments.first().map_or(CONNECTIONS, |word| word.parse().expect("a number"));
    let is_old = arguments.get(1).is_some_and(|word| word == "1.2");
    // Two sockets for each would be needed in one process; the server has its own limit.
    let wanted = connections as u64 + 200;
    let may = rlimit::increase_nofile_limit(wanted).unwrap();
    assert!(may >= wanted, "only {may} files may be open, {wanted} are needed");
    runtime.block_on(run(connections, is_old));
}

async fn run(connections: usize, is_old: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut server = server::Process::start(folder.path());
    let identities = clients::identities(folder.path(), connections, is_old);
    // The first ones make the server allocate what it has only once.
    let (first, rest) = identities.split_at(connections.min(200) / 2);
    let mut live = clients::connect(server.address, first, AT_A_TIME).await;
    let (memory_before, time_before) = (measure::resident_kib(server.id()), measure::cpu_us(server.id()));
    let start = std::time::Instant::now();
    live.extend(clients::connect(server.address, rest, AT_A_TIME).await);
    let took = start.elapsed();
    let time_after = measure::cpu_us(server.id());
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let memory_after = measure::resident_kib(server.id());
    let idle_before = measure::cpu_us(server.id());
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let idle_us_each_second = (measure::cpu_us(server.id()) - idle_before) / 5.0;
    let count = rest.len() as f64;
    println!(
        "{} devices, TLS {}: {:.2} KiB resident each ({memory_before} -> {memory_after} KiB), {:.0} us of processor time a connect, {:.0} connects/s, {idle_us_each_second:.0} us a second while idle",
        live.len(),
        if is_old { "1.2" } else { "1.3" },
        (memory_after - memory_before) as f64 / count,
        (time_after - time_before) / count,
        count / took.as_secs_f64(),
    );
    let (all, start) = (live.len(), std::time::Instant::now());
    server.interrupt();
    let told = clients::told_of_shutdown(live).await;
    println!(
        "{told} of {all} were told that the server shuts down, within {} ms",
        start.elapsed().as_millis()
    );
    server.wait();
}
