#!/bin/sh
# rustls, unbuffered interface: two calls of `process_tls_records` that a peer's bytes turn into a panic.
#
# 1. While a part of a handshake message waits for its rest, a call with an empty buffer panics, in
#    release builds too. Such a call is how one gets at `WriteTraffic` or at an alert when nothing has
#    been read. Any peer can bring it about: ten bytes of a ClientHello are enough.
# 2. After bytes that are no TLS the alert comes out of the next call. The call after that fails over
#    the same bytes again, and a debug assertion forbids the second alert.
#
# Why: what was not discarded is remembered as processed, by its length alone, so a shorter buffer is
# sliced beyond its end. And the unbuffered interface does not keep the error of the record layer as the
# state of the connection, as the buffered one does.
#
# Expected: BlockedHandshake, or an error. Seen: a panic each.
# Way out: every call is given what was not discarded, also one that is only to write; after an error
# one call fetches the alert, and no other follows.
#
# Needs cargo. Builds in a temporary folder.
set -eu
RUSTLS=0.23.46
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<TOML
[package]
name = "look"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
rustls = { version = "=$RUSTLS", default-features = false, features = ["ring", "std", "tls12"] }
TOML
cat > src/main.rs <<'RUST'
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::ConnectionState;

#[derive(Debug)]
struct NoCertificate;
impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

fn server() -> UnbufferedServerConnection {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    UnbufferedServerConnection::new(Arc::new(config)).unwrap()
}

/// A record with ten bytes of a ClientHello of 500.
fn part_of_a_message() -> bool {
    let mut server = server();
    let mut part = [22, 3, 1, 0, 10, 1, 0, 1, 0xF4, 3, 3, 1, 2, 3, 4];
    let status = server.process_tls_records(&mut part);
    println!("a part of a message: discard {}, {:?}", status.discard, status.state);
    catch_unwind(AssertUnwindSafe(|| {
        let status = server.process_tls_records(&mut []);
        println!("and nothing more: {:?}", status.state);
    }))
    .is_err()
}

fn no_tls() -> bool {
    let mut server = server();
    let mut bytes = [0xFF; 10];
    println!("no TLS: {:?}", server.process_tls_records(&mut bytes).state);
    if let Ok(ConnectionState::EncodeTlsData(mut alert)) = server.process_tls_records(&mut bytes).state {
        println!("an alert of {} bytes", alert.encode(&mut [0; 64]).unwrap());
    }
    catch_unwind(AssertUnwindSafe(|| println!("then: {:?}", server.process_tls_records(&mut bytes).state))).is_err()
}

fn main() {
    let panicked = (part_of_a_message(), no_tls());
    println!("panicked: {panicked:?}");
    // The second is a debug assertion.
    std::process::exit(if panicked == (true, cfg!(debug_assertions)) { 0 } else { 1 });
}
RUST
for profile in dev release; do
    echo "$profile:"
    RUST_BACKTRACE=0 cargo run --quiet --profile "$profile" || { echo "NOT as described"; exit 1; }
done
echo "as described"
